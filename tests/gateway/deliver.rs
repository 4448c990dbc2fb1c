//! Handing files out: the bytes that were asked for, harmless to whoever opens them, and counted.

use crate::harness::{Answer, Client, TestGateway, Wire, eventually, noise, skip};

/// More than the buffers of a connection hold: whoever stops reading is in mid-download.
const LONG: usize = 24 << 20;

#[test]
fn a_range_is_a_part_and_several_are_the_whole() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let bytes = noise(100_000);
    let id = client.upload("", &bytes);
    let part = |range: &str| client.ask("GET", Client::content(&id)).header("Range", range).send();
    for (range, from, to) in [
        ("bytes=0-0", 0, 1),
        ("bytes=16383-16384", 16383, 16385),
        ("bytes=16384-32767", 16384, 32768),
        ("bytes=99999-", 99999, 100_000),
        ("bytes=-1", 99999, 100_000),
        ("bytes=-200000", 0, 100_000),
        ("bytes=50000-18446744073709551615", 50000, 100_000),
    ] {
        let got = part(range).expect(206);
        got.is_body(&bytes[from..to]);
        let told = format!("bytes {from}-{}/100000", to - 1);
        assert_eq!(got.header("content-range"), Some(told.as_str()), "{range}");
    }
    for range in ["bytes=0-1,5-6", "bytes=5-2", "lines=1-2", "bytes=x"] {
        let whole = part(range).expect(200);
        whole.is_body(&bytes);
        assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    }
    for range in ["bytes=100000-", "bytes=-0", "bytes=99999999999999999999999-"] {
        let none = part(range).problem(416, "range-not-satisfiable");
        assert_eq!(none.header("content-range"), Some("bytes */100000"), "{range}");
    }
    let empty = client.upload("", b"");
    let none = client.ask("GET", Client::content(&empty)).header("Range", "bytes=0-").send();
    assert_eq!(
        none.problem(416, "range-not-satisfiable").header("content-range"),
        Some("bytes */0")
    );
}

#[test]
fn conditions_hold_for_a_strong_tag() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let id = client.upload("", b"the same bytes");
    let twin = client.upload("", b"the same bytes");
    let etag = client.download(&id).header("etag").unwrap().to_owned();
    assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() > 20, "strong: {etag}");
    assert_ne!(client.download(&twin).header("etag"), Some(etag.as_str()), "random, no digest");
    let ask = |method: &'static str, name: &str, value: &str| {
        client.ask(method, Client::content(&id)).header(name, value).send()
    };
    for method in ["GET", "HEAD"] {
        let same = ask(method, "If-None-Match", &etag).expect(304);
        assert_eq!(same.header("etag"), Some(etag.as_str()));
        assert!(same.body.is_empty());
        ask(method, "If-None-Match", &format!("\"x\", W/{etag}")).expect(304);
        ask(method, "If-None-Match", "*").expect(304);
        ask(method, "If-None-Match", "\"x\"").expect(200);
        ask(method, "If-Match", &etag).expect(200);
        ask(method, "If-Match", "*").expect(200);
        ask(method, "If-Match", "\"x\"").expect(412);
        ask(method, "If-Match", &format!("W/{etag}")).expect(412);
    }
    ask("GET", "If-Match", "\"x\"").problem(412, "precondition-failed");
    let ranged = |tag: &str| {
        let ask = client.ask("GET", Client::content(&id)).header("Range", "bytes=4-7");
        ask.header("If-Range", tag).send()
    };
    ranged(&etag).expect(206).is_body(b"same");
    ranged("\"x\"").expect(200).is_body(b"the same bytes");
    ranged(&format!("W/{etag}")).expect(200);
    ranged("Sat, 01 Jan 2000 00:00:00 GMT").expect(200);
}

#[test]
fn a_head_is_the_get_without_its_body() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let id = client.put("/v1/files/a.txt", &noise(50_000)).expect(201).text("id");
    let head = client.ask("HEAD", Client::content(&id)).send().expect(200);
    let get = client.download(&id).expect(200);
    for name in ["content-length", "content-type", "etag", "content-disposition", "accept-ranges"] {
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
    let one = client.ask("HEAD", format!("/v1/files/{id}")).send().expect(200);
    assert!(one.body.is_empty());
}

#[test]
fn html_and_svg_are_delivered_inert() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    for (name, kind, bytes) in [
        ("page.html", "text/html", &b"<!doctype html><script>alert(1)</script>"[..]),
        ("a.svg", "image/svg+xml", b"<svg xmlns='http://www.w3.org/2000/svg' onload='x()'/>"),
    ] {
        let ask = client.ask("PUT", format!("/v1/files/{name}")).header("Content-Type", kind);
        let id = ask.body(bytes).send().expect(201).text("id");
        let got = client.download(&id).expect(200);
        got.is_body(bytes);
        let kept = got.header("content-disposition").unwrap();
        assert!(kept.starts_with("attachment;"), "{kept}");
        assert_eq!(got.header("content-security-policy"), Some("sandbox"));
        assert_eq!(got.header("x-content-type-options"), Some("nosniff"));
    }
}

#[test]
fn a_name_goes_out_encoded_so_that_no_header_breaks() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    for (path, header) in [
        ("gr%C3%BCn%20%26.txt", "gr%C3%BCn%20&.txt"),
        ("quote%22%27.txt", "quote%22%27.txt"),
        ("semi%3Bcolon%25.txt", "semi%3Bcolon%25.txt"),
        ("line%0D%0Abreak.txt", "linebreak.txt"),
    ] {
        let id = client.put(format!("/v1/files/{path}"), b"x").expect(201).text("id");
        let got = client.download(&id).expect(200);
        let disposition = got.header("content-disposition").unwrap();
        assert!(disposition.contains(&format!("filename*=UTF-8''{header}")), "{disposition}");
    }
    let nameless = client.upload("", b"x");
    let got = client.download(&nameless).expect(200);
    assert!(got.header("content-disposition").unwrap().starts_with("attachment"));
}

/// Waits until the last delivery has ended and the file was shredded for it.
fn is_shredded(client: &Client, id: &str) {
    eventually("the file is shredded once it was delivered", || {
        let receipt = client.get(format!("/v1/receipts/{id}")).expect(200).json();
        (receipt["state"] == "final").then(|| assert_eq!(receipt["reason"], "downloaded"))
    });
}

#[test]
fn a_one_shot_file_dies_while_its_reader_keeps_the_connection() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    for bytes in [b"once".to_vec(), noise(1 << 20)] {
        let id = client.upload("?downloads=1", &bytes);
        let mut wire = client.ask("GET", Client::content(&id)).begin(None);
        let head = wire.head();
        assert!(wire.body(&head).bytes == bytes);
        is_shredded(&client, &id);
        drop(wire);
    }
}

#[test]
fn n_and_k_parallel_readers_of_n_downloads_are_exactly_n() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let bytes = noise(300_000);
    for (n, readers) in [(1, 8), (3, 8), (5, 12)] {
        let made = client.post(format!("/v1/files?downloads={n}"), &bytes).expect(201).json();
        assert_eq!(made["downloads_left"], n);
        let id = made["id"].as_str().unwrap();
        let answers: Vec<Answer> = std::thread::scope(|scope| {
            let ask = || client.download(id);
            let running: Vec<_> = (0..readers).map(|_| scope.spawn(ask)).collect();
            running.into_iter().map(|reader| reader.join().unwrap()).collect()
        });
        let (good, bad): (Vec<_>, Vec<_>) = answers.into_iter().partition(|got| got.status == 200);
        assert_eq!(good.len(), n, "of {readers} readers");
        for got in good {
            got.is_body(&bytes);
            assert!(got.header("dayfly-claim").is_some_and(|claim| claim.len() >= 16));
        }
        for got in bad {
            let problem = got.problem(410, "downloaded").json();
            assert!(problem["receipt"].as_str().unwrap().contains(id), "{problem}");
        }
        is_shredded(&client, id);
    }
    gateway.is_empty_again();
}

#[test]
fn what_sends_no_byte_spends_no_download() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let id = client.upload("?downloads=1", b"only once");
    let etag = client.ask("HEAD", Client::content(&id)).send().expect(200);
    let etag = etag.header("etag").unwrap().to_owned();
    let ask = |name: &str, value: &str| {
        client.ask("GET", Client::content(&id)).header(name, value).send().status
    };
    for _ in 0..5 {
        assert_eq!(client.ask("HEAD", Client::content(&id)).send().status, 200);
        assert_eq!(ask("If-None-Match", &etag), 304);
        assert_eq!(ask("If-Match", "\"x\""), 412);
        assert_eq!(ask("Range", "bytes=9-"), 416);
    }
    assert_eq!(client.get(format!("/v1/files/{id}")).expect(200).json()["downloads_left"], 1);
    client.download(&id).expect(200).is_body(b"only once");
    client.download(&id).problem(410, "downloaded");
}

#[test]
fn a_number_of_downloads_is_at_least_one() {
    let gateway = TestGateway::start();
    for bad in ["0", "-1", "x", "", "1.5", "99999999999999999999999"] {
        let path = format!("/v1/files?downloads={bad}");
        gateway.client().post(path, b"x").problem(422, "bad-downloads");
    }
}

#[test]
fn a_broken_delivery_goes_on_under_its_claim_and_a_range_without_it_finds_none_left() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let bytes = noise(LONG);
    let id = client.upload("?downloads=1", &bytes);
    let mut broken = client.ask("GET", Client::content(&id)).begin_narrow();
    let head = broken.head();
    let claim = head.header("dayfly-claim").expect("a claim").to_owned();
    let start = broken.up_to(1000);
    assert!(start == bytes[..1000]);
    broken.reset();
    let from = |claim: Option<&str>| {
        let ask = client.ask("GET", Client::content(&id)).header("Range", "bytes=1000-");
        match claim {
            Some(claim) => ask.header("Dayfly-Claim", claim).send(),
            None => ask.send(),
        }
    };
    from(None).problem(410, "downloaded");
    from(Some("aaaaaaaaaaaaaaaaaaaaaaaaaa")).problem(410, "downloaded");
    from(Some(&claim)).expect(206).is_body(&bytes[1000..]);
    is_shredded(&client, &id);
    from(Some(&claim)).problem(410, "downloaded");
    gateway.is_empty_again();
}

#[test]
fn endless_ranges_on_a_one_shot_file_get_one_range() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let id = client.upload("?downloads=2", &noise(1000));
    let first = |at: u64| {
        let range = format!("bytes={at}-{at}");
        client.ask("GET", Client::content(&id)).header("Range", range).send()
    };
    let statuses: Vec<u16> = (0..20).map(|at| first(at).status).collect();
    assert_eq!(statuses[..2], [206, 206]);
    assert!(statuses[2..].iter().all(|status| *status == 410), "{statuses:?}");
}

#[test]
fn http_2_works_on_the_same_port() {
    use http_body_util::{BodyExt, Full};
    use hyper_util::rt::{TokioExecutor, TokioIo};

    let gateway = TestGateway::start();
    let bytes = noise(3 << 20);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(gateway.public).await.unwrap();
        let stream = TokioIo::new(stream);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let uri = |path: &str| format!("http://{}{path}", gateway.public);
        let key = format!("Bearer {}", crate::harness::key_of("acme"));
        let ask = |method: &str, path: &str, body: Vec<u8>| {
            let ask = hyper::Request::builder().method(method).uri(uri(path));
            let ask = ask.header("authorization", &key);
            ask.body(Full::new(bytes::Bytes::from(body))).unwrap()
        };
        let made = sender.send_request(ask("PUT", "/v1/files/a", bytes.clone())).await.unwrap();
        assert_eq!(
            (made.status(), made.version()),
            (201.try_into().unwrap(), hyper::Version::HTTP_2)
        );
        let made = made.into_body().collect().await.unwrap().to_bytes();
        let made: serde_json::Value = serde_json::from_slice(&made).unwrap();
        let path = Client::content(made["id"].as_str().unwrap());
        let several: Vec<_> =
            (0..4).map(|_| sender.send_request(ask("GET", &path, Vec::new()))).collect();
        // Read side by side: an unread stream would hold the connection's window.
        let whole = several.into_iter().map(|got| async {
            got.await.unwrap().into_body().collect().await.unwrap().to_bytes()
        });
        for got in futures_util::future::join_all(whole).await {
            assert!(got == bytes, "the bytes differ");
        }
        let none = sender.send_request(ask("GET", "/v1/nothing", Vec::new())).await.unwrap();
        assert_eq!(none.status(), 404);
        drop((none, sender));
        connection.abort();
    });
}

#[test]
fn a_reader_who_stops_holds_nobody_up() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let bytes = noise(LONG);
    let id = client.upload("", &bytes);
    let mut stopped: Vec<Wire> =
        (0..4).map(|_| client.ask("GET", Client::content(&id)).begin_narrow()).collect();
    for wire in &mut stopped {
        assert_eq!(wire.head().status, 200);
    }
    client.download(&id).expect(200).is_body(&bytes);
    for mut wire in stopped {
        assert!(wire.up_to(LONG) == bytes, "and whoever goes on reading gets it all");
    }
}

#[test]
fn any_range_is_what_the_bytes_say() {
    use proptest::prelude::{any, prop_oneof};
    use proptest::test_runner::{Config, TestRunner};

    const SIZE: usize = 50_000;
    let gateway = TestGateway::start();
    let client = gateway.client();
    let bytes = noise(SIZE);
    let id = client.upload("", &bytes);
    let place = || prop_oneof![0..SIZE as u64 + 20, any::<u64>()];
    let ranges = (place(), place(), 0..3u8);
    let config = Config { cases: 100, failure_persistence: None, ..Config::default() };
    let checked = TestRunner::new(config).run(&ranges, |(first, last, form)| {
        let size = SIZE as u64;
        let (range, part) = match form {
            0 => (format!("{first}-{last}"), first..last.saturating_add(1).min(size)),
            1 => (format!("{first}-"), first..size),
            _ => (format!("-{first}"), size.saturating_sub(first)..size),
        };
        let whole = form == 0 && last < first;
        let got = client.ask("GET", Client::content(&id)).header("Range", format!("bytes={range}"));
        let got = got.send();
        if whole {
            got.expect(200).is_body(&bytes);
        } else if part.is_empty() {
            got.problem(416, "range-not-satisfiable");
        } else {
            got.expect(206).is_body(&bytes[part.start as usize..part.end as usize]);
        }
        Ok(())
    });
    checked.unwrap();
}

#[test]
fn a_chunk_that_was_tampered_with_is_never_delivered() {
    use std::os::unix::fs::FileExt;

    let gateway = TestGateway::start();
    let client = gateway.client();
    let bytes = noise(17 << 20);
    let id = client.upload("", &bytes);
    // The first 63 runs of sixteen chunks lie in packs, and the rest has a file of its own.
    let (packed, sealed) = (63 * 16_u64, 136 + (17 << 20) + (17 << 20) / 16_384 * 16);
    let rest = sealed - 120 - packed * 16_400;
    let spool = gateway.dir().join("spool");
    let open = std::fs::read_dir(format!("/proc/{}/fd", gateway.process()));
    let Some(blob) = open.ok().and_then(|open| {
        let links = open.flatten().map(|entry| entry.path());
        let mut links =
            links.filter(|link| std::fs::read_link(link).is_ok_and(|to| to.starts_with(&spool)));
        links.find_map(|link| {
            let file = std::fs::OpenOptions::new().read(true).write(true).open(link).ok()?;
            (file.metadata().ok()?.len() == rest).then_some(file)
        })
    }) else {
        skip("tampering with the spool: only root opens the gateway's files");
        return;
    };
    // One bit in the middle of the eleventh chunk there (VAULT.md: 16 400 bytes a chunk).
    let (place, whole) = (10 * 16_400 + 8000, (packed as usize + 10) * 16_384);
    let mut byte = [0];
    blob.read_exact_at(&mut byte, place).unwrap();
    blob.write_all_at(&[byte[0] ^ 1], place).unwrap();
    let got = client.download(&id);
    assert!(!got.whole, "a message with a tampered chunk came to its end");
    assert!(got.body.len() <= whole, "a byte of the tampered chunk was delivered");
    assert!(bytes.starts_with(&got.body), "and what came before is right");
    let before = client.ask("GET", Client::content(&id)).header("Range", "bytes=0-999").send();
    before.expect(206).is_body(&bytes[..1000]);
    blob.write_all_at(&byte, place).unwrap();
    client.download(&id).expect(200).is_body(&bytes);
}
