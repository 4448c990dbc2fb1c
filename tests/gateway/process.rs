//! Processing: bytes in, the result out, and nothing left behind.

use std::io::Read;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256, Sha512};

use crate::harness::{
    Answer, Client, Multipart, Setup, TestGateway, descendants, docx, eventually, noise, pdf, zip,
};

#[track_caller]
fn text(client: &Client, document: &[u8]) -> String {
    client.post("/v1/process/text", document).expect(200).body_text()
}

/// Follows `Dayfly-Receipt` until the receipt is final.
#[track_caller]
fn receipt(client: &Client, answer: &Answer) -> serde_json::Value {
    let place = answer.header("dayfly-receipt").expect("a receipt is named").to_owned();
    assert!(place.starts_with("/v1/receipts/file_"), "{place}");
    eventually("the receipt is final", || {
        let receipt = client.get(&place).expect(200).json();
        (receipt["state"] == "final").then_some(receipt)
    })
}

#[test]
fn the_text_of_a_document_comes_back() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let paged = text(&client, &pdf(&["First page here", "Second page there"]));
    let pages: Vec<&str> = paged.split('\u{c}').map(str::trim).collect();
    assert!(
        pages[0].contains("First page here") && pages[1].contains("Second page there"),
        "{paged:?}"
    );
    let word = text(&client, &docx(&["One paragraph", "and another &amp; more"]));
    assert!(word.contains("One paragraph") && word.contains("and another & more"), "{word:?}");
    let page = b"<!doctype html><title>T</title><style>hide{}</style><p>Seen &eacute;</p>\
        <script>var hidden</script>";
    let page = text(&client, page);
    assert!(page.contains("Seen \u{e9}"), "{page:?}");
    assert!(!page.contains("hidden") && !page.contains("hide{"), "{page:?}");
    let plain = text(&client, "Gr\u{fc}\u{df}e, plain.\n".as_bytes());
    assert!(plain.contains("Gr\u{fc}\u{df}e, plain."), "{plain:?}");
    let latin = text(&client, b"caf\xe9 au lait, d\xe9j\xe0 vu\n");
    assert!(latin.contains("caf\u{e9}"), "{latin:?}");
    let markdown = client.post("/v1/process/text?format=markdown", b"<h1>Title</h1><p>x</p>");
    assert!(markdown.expect(200).body_text().contains("# Title"));
    gateway.is_empty_again();
}

#[test]
fn a_documents_type_is_told_by_its_content() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    for (document, kind, extension) in [
        (pdf(&["x"]), "application/pdf", "pdf"),
        (
            docx(&["x"]),
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            "docx",
        ),
        (b"<!doctype html><p>x".to_vec(), "text/html", "html"),
        (b"just a text, nothing else\n".to_vec(), "text/plain", "txt"),
        (zip(&[("a.bin", b"x")]), "application/zip", "zip"),
    ] {
        let ask = client.ask("POST", "/v1/process/detect").header("Content-Type", "image/png");
        let answer = ask.body(&document).send().expect(200);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let found = answer.json();
        assert_eq!((&found["media_type"], &found["extension"]), (&kind.into(), &extension.into()));
    }
}

#[test]
fn checksums_are_those_of_the_bytes() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    for size in [0, 1, 300_000, 5 << 20] {
        let bytes = noise(size);
        let found = client.post("/v1/process/checksum", &bytes).expect(200).json();
        assert_eq!(found["checksums"]["sha-256"], HEXLOWER.encode(&Sha256::digest(&bytes)));
        let path = "/v1/process/checksum?alg=blake3,sha-512";
        let found = client.ask("POST", path).chunked().body(&bytes).send().expect(200).json();
        assert_eq!(found["checksums"]["blake3"], blake3::hash(&bytes).to_hex().as_str());
        assert_eq!(found["checksums"]["sha-512"], HEXLOWER.encode(&Sha512::digest(&bytes)));
        assert_eq!(found["checksums"].as_object().unwrap().len(), 2);
    }
    gateway.is_empty_again();
}

#[test]
fn what_was_compressed_unpacks_to_the_same_bytes() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let text = b"the same words again and again. ".repeat(100_000);
    for bytes in [&b""[..], b"x", &text, &noise(2 << 20)] {
        let gzip = client.post("/v1/process/compress?format=gzip", bytes).expect(200);
        assert_eq!(gzip.header("content-type"), Some("application/gzip"));
        assert_eq!(gzip.header("content-encoding"), None, "the result is the archive itself");
        let mut back = Vec::new();
        flate2::read::GzDecoder::new(&gzip.body[..]).read_to_end(&mut back).unwrap();
        assert!(back == bytes);
        let path = "/v1/process/compress?format=zstd&level=5";
        let zstd = client.post(path, bytes).expect(200);
        assert_eq!(zstd.header("content-type"), Some("application/zstd"));
        assert!(zstd::stream::decode_all(&zstd.body[..]).unwrap() == bytes);
    }
    gateway.is_empty_again();
}

#[test]
fn steps_run_one_after_the_other_with_options_of_their_own() {
    let setup = Setup::new().set("pipelines", "small", "[\"text\", \"compress\"]");
    let gateway = setup.start();
    let client = gateway.client();
    let document = pdf(&["Several steps in a row"]);
    for path in
        ["/v1/process/text+compress?compress.format=gzip", "/v1/process/small?compress.format=gzip"]
    {
        let answer = client.post(path, &document).expect(200);
        let mut back = String::new();
        flate2::read::GzDecoder::new(&answer.body[..]).read_to_string(&mut back).unwrap();
        assert!(back.contains("Several steps in a row"), "{path}: {back:?}");
        let receipt = receipt(&client, &answer);
        assert_eq!(receipt["handed_to"], serde_json::json!(["text", "compress"]));
    }
    client.post("/v1/process/text+compress?format=gzip", &document).problem(422, "bad-option");
    gateway.is_empty_again();
}

#[test]
fn nothing_is_left_of_a_processing_but_its_receipt() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    for path in ["/v1/process/text", "/v1/process/compress", "/v1/process/checksum"] {
        let answer = client.post(path, &pdf(&["Nothing left"])).expect(200);
        let receipt = receipt(&client, &answer);
        let step = path.rsplit('/').next().unwrap();
        assert_eq!(receipt["handed_to"], serde_json::json!([step]));
        assert!(receipt["destroyed_at"].is_string(), "{receipt}");
        let id = receipt["file"].as_str().unwrap();
        let list = client.get("/v1/files").expect(200).json();
        assert_eq!(list["files"], serde_json::json!([]));
        assert!(client.get(format!("/v1/files/{id}")).status >= 400);
        assert!(client.download(id).status >= 400);
    }
    gateway.is_empty_again();
}

#[test]
fn a_multipart_body_is_processed_like_its_file() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let body = Multipart::new().field("note", b"x").file("a.pdf", &pdf(&["In a form"])).finish();
    let ask = client.ask("POST", "/v1/process/text");
    let ask = ask.header("Content-Type", Multipart::CONTENT_TYPE).body(&body);
    assert!(ask.send().expect(200).body_text().contains("In a form"));
    let none = Multipart::new().field("note", b"x").finish();
    let ask = client.ask("POST", "/v1/process/text");
    ask.header("Content-Type", Multipart::CONTENT_TYPE)
        .body(&none)
        .send()
        .problem(400, "bad-multipart");
    gateway.is_empty_again();
}

#[test]
fn what_cannot_be_processed_is_refused_with_its_reason() {
    let setup = Setup::new().set("tenants.other", "processors", "[\"detect\"]");
    let gateway = setup.start();
    let client = gateway.client();
    let document = pdf(&["x"]);
    for (steps, status, slug) in [
        ("nothing", 422, "unknown-step"),
        ("text+nothing", 422, "unknown-step"),
        ("", 422, "unknown-step"),
        ("text?wat=1", 422, "bad-option"),
        ("text?format=docx", 422, "bad-option"),
        ("compress?level=1000000", 422, "bad-option"),
        ("compress?level=x", 422, "bad-option"),
        ("checksum?alg=crc7", 422, "bad-option"),
        ("text?password=geheim", 400, "secret-in-url"),
        ("text+compress?text.password=geheim", 400, "secret-in-url"),
    ] {
        let path = format!("/v1/process/{steps}");
        if steps.is_empty() {
            assert!(client.post(path, &document).status >= 400);
            continue;
        }
        let ask = client.ask("POST", &path).header("Expect", "100-continue");
        let mut wire = ask.begin(Some(1 << 20));
        let answer = Answer::read(&mut wire, &format!("POST {path}"));
        assert!(!answer.continued, "{path}: the body was asked for");
        answer.problem(status, slug);
    }
    for document in [noise(5000), b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec(), zip(&[("a", b"x")])] {
        client.post("/v1/process/text", &document).problem(415, "unsupported-media-type");
    }
    let broken = &document[..document.len() / 2];
    let damaged = client.post("/v1/process/text", broken);
    assert!([200, 422].contains(&damaged.status), "{}", damaged.status);
    let denied = gateway.client_of("other");
    denied.post("/v1/process/text", &document).problem(403, "not-permitted-by-policy");
    denied.post("/v1/process/detect", &document).expect(200);
    gateway.is_empty_again();
}

#[test]
fn hostile_documents_cost_one_request() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let bomb = zip(&[("word/document.xml", &vec![b' '; 200 << 20])]);
    let deep = "<div>".repeat(200_000);
    let nested = format!("<w:p>{}", "<a>".repeat(100_000));
    for document in [
        bomb,
        deep.into_bytes(),
        docx(&[&nested]),
        b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog /Pages 1 0 R >>\nendobj\ntrailer << /Root 1 0 R >>"
            .into(),
        [b"%PDF-1.7\n".to_vec(), noise(100_000)].concat(),
        [b"PK\x03\x04".to_vec(), noise(1000)].concat(),
    ] {
        for step in ["text", "detect"] {
            let status = client.post(format!("/v1/process/{step}"), &document).status;
            assert!([200, 415, 422].contains(&status), "{step}: {status}");
        }
        assert!(text(&client, &pdf(&["still here"])).contains("still here"));
    }
    gateway.is_empty_again();
}

#[test]
fn a_stream_flows_while_it_is_still_being_sent() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let ask = client.ask("POST", "/v1/process/compress?format=zstd").chunked();
    let mut wire = ask.begin(None);
    let bytes = noise(8 << 20);
    let mut sender = wire.sender();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for part in bytes.chunks(1 << 20) {
                let chunk = [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
                std::io::Write::write_all(&mut sender, &chunk).unwrap();
            }
        });
        // The last chunk was not sent, and yet the head and most of the bytes are there.
        assert_eq!(wire.head().status, 200);
        assert!(!wire.up_to(4 << 20).is_empty());
    });
    drop(sender);
    wire.reset();
    gateway.is_empty_again();
}

#[test]
fn a_body_that_breaks_off_ends_its_processing() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    for path in ["/v1/process/text", "/v1/process/compress", "/v1/process/checksum"] {
        let mut wire = client.ask("POST", path).begin(Some(1000));
        wire.send(b"half of it").unwrap();
        wire.end_sending();
        if let Some(head) = wire.try_head() {
            let body = wire.body(&head);
            assert!(head.status == 400 || !body.whole, "{path}: {} and whole", head.status);
        }
    }
    gateway.is_empty_again();
    let digest = "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:";
    let ask = client.ask("POST", "/v1/process/text").header("Content-Digest", digest);
    ask.body(b"a text\n").send().problem(400, "digest-mismatch");
    gateway.is_empty_again();
}

#[test]
fn a_worker_knows_nothing_and_ends_with_the_gateway() {
    let gateway = TestGateway::start();
    text(&gateway.client(), &pdf(&["x"]));
    for process in descendants(gateway.process()) {
        if let Ok(environment) = std::fs::read(format!("/proc/{process}/environ")) {
            assert!(environment.is_empty(), "a worker has an environment");
        }
    }
    let workers = descendants(gateway.process());
    drop(gateway);
    for process in workers {
        eventually("no worker outlives its gateway", || {
            let status = std::fs::read_to_string(format!("/proc/{process}/stat"));
            status.is_ok_and(|stat| stat.contains(") Z ")).then_some(()).or_else(|| {
                (!std::path::Path::new(&format!("/proc/{process}")).exists()).then_some(())
            })
        });
    }
}
