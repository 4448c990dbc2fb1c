//! Taking files in: what is sent comes back, and what is wrong is refused and leaves nothing.

use std::process::Command;

use data_encoding::BASE64;
use serde_json::Value;
use sha2::{Digest, Sha256, Sha512};

use crate::harness::{
    Client, HERE, Multipart, Setup, TestGateway, is_long_tier, noise, pdf, run, skip,
};

fn time(json: &Value, member: &str) -> jiff::Timestamp {
    let text = json[member].as_str().unwrap_or_else(|| panic!("no {member} in {json}"));
    assert!(text.ends_with('Z'), "{text}");
    text.parse().unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    BASE64.encode(&Sha256::digest(bytes))
}

#[test]
fn every_size_comes_back_byte_for_byte() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let mut sizes = vec![0, 1, 16383, 16384, 16385, 32768, (4 << 20) + 1, 64 << 20];
    sizes.extend([262_143, 262_144, 262_145, (1 << 20) - 1]);
    let all = noise(64 << 20);
    for size in sizes {
        let bytes = &all[..size];
        let made = client.put("/v1/files/noise.bin", bytes).expect(201).json();
        assert_eq!(made["size"], size, "{made}");
        let id = made["id"].as_str().unwrap();
        let back = client.download(id).expect(200);
        assert_eq!(back.header("content-length"), Some(size.to_string().as_str()));
        back.is_body(bytes);
        let chunked = client.ask("POST", "/v1/files").body(bytes).chunked().send().expect(201);
        client.download(&chunked.text("id")).expect(200).is_body(bytes);
        client.delete(format!("/v1/files/{id}")).expect(200);
        client.delete(format!("/v1/files/{}", chunked.text("id"))).expect(200);
    }
    gateway.is_empty_again();
}

#[test]
fn gigabytes_come_back_byte_for_byte() {
    if !is_long_tier() {
        skip("1 GiB and 5 GiB round trips: they run with DAYFLY_TIER=long");
        return;
    }
    let gateway = Setup::new().set("vault.local", "max", "\"12GiB\"").start();
    let client = gateway.client();
    let piece = noise(16 << 20);
    for gib in [1u64, 5] {
        let mut wire = client.ask("POST", "/v1/files").begin(Some(gib << 30));
        for _ in 0..gib * 64 {
            wire.send(&piece).unwrap();
        }
        let head = wire.head();
        let made: Value = serde_json::from_slice(&wire.body(&head).bytes).unwrap();
        assert_eq!((head.status, &made["size"]), (201, &Value::from(gib << 30)));
        let id = made["id"].as_str().unwrap();
        let mut reader = client.ask("GET", Client::content(id)).begin(None);
        assert_eq!(reader.head().status, 200);
        for at in 0..gib * 64 {
            assert!(reader.up_to(piece.len()) == piece, "piece {at} of {gib} GiB differs");
        }
        client.delete(format!("/v1/files/{id}")).expect(200);
    }
    gateway.is_empty_again();
}

#[test]
fn a_store_in_memory_keeps_the_same_promise() {
    let gateway = Setup::new().set("vault", "store", "\"memory\"").without("vault.local").start();
    let client = gateway.client();
    for size in [0, 1, 16384, (4 << 20) + 1] {
        let bytes = noise(size);
        let id = client.upload("", &bytes);
        client.download(&id).expect(200).is_body(&bytes);
        client.delete(format!("/v1/files/{id}")).expect(200);
    }
    gateway.is_empty_again();
}

#[test]
fn an_upload_is_answered_as_the_contract_shows_it() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let document = pdf(&["Hello"]);
    let path = "/v1/files/report.pdf?ttl=30m";
    let made = client.ask("PUT", path).header("Content-Type", "text/html").body(&document).send();
    let made = made.expect(201);
    let json = made.json();
    let id = json["id"].as_str().unwrap();
    let rest = id.strip_prefix("file_").unwrap();
    assert_eq!(rest.len(), 26, "{id}");
    assert!(rest.bytes().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b)), "{id}");
    assert_eq!(json["name"], "report.pdf");
    assert_eq!(json["media_type"], "application/pdf");
    assert_eq!(json["declared_media_type"], "text/html");
    assert_eq!(json["size"], document.len());
    assert_eq!(json["digest"], Value::Null);
    assert_eq!(json["region"], HERE);
    assert_eq!(json["downloads_left"], Value::Null);
    assert_eq!(json["state"], "ready");
    assert_eq!(json["links"]["self"], format!("/v1/files/{id}"));
    assert_eq!(json["links"]["content"], format!("/v1/files/{id}/content"));
    assert_eq!(json["links"]["receipt"], format!("/v1/receipts/{id}"));
    assert_eq!(made.header("location"), json["links"]["self"].as_str());
    assert_eq!(made.header("dayfly-region"), Some(HERE));
    assert_eq!(made.header("dayfly-expires-at"), json["expires_at"].as_str());
    assert_eq!(made.header("repr-digest"), None, "nobody asked for a digest");
    let life = time(&json, "expires_at").as_second() - time(&json, "created_at").as_second();
    assert!((30 * 60 - 60..=30 * 60).contains(&life), "rounded down by up to a minute: {life}");
    assert_eq!(client.get(format!("/v1/files/{id}")).expect(200).json(), json);
}

#[test]
fn a_name_is_made_harmless_and_every_put_makes_a_new_file() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let long = "x".repeat(300);
    let named = |path: &str| client.put(path, b"x").expect(201).json()["name"].clone();
    for (path, name) in [
        ("/v1/files/report.pdf", Some("report.pdf")),
        ("/v1/files/", None),
        ("/v1/files/..%2F..%2Fetc%2Fpasswd", Some("passwd")),
        ("/v1/files/C%3A%5Ctemp%5Cx.doc", Some("x.doc")),
        ("/v1/files/e%CC%81.txt", Some("\u{e9}.txt")),
        ("/v1/files/cod%E2%80%AEfdp.exe", Some("codfdp.exe")),
        ("/v1/files/a%00b%0D%0Ac.txt", Some("abc.txt")),
        ("/v1/files/..", None),
        (&format!("/v1/files/{long}"), Some(&long[..255])),
    ] {
        assert_eq!(named(path), name.map_or(Value::Null, Value::from), "{path}");
    }
    let ask = |query: &str| client.post(format!("/v1/files?name={query}"), b"x");
    assert_eq!(ask("a%2Fb%2Fc.txt").expect(201).json()["name"], "c.txt");
    assert_eq!(ask("").expect(201).json()["name"], Value::Null);
    ask(&"y".repeat(4096)).expect(201);
    ask(&"y".repeat(4097)).problem(400, "bad-filename");
    for (value, name) in [
        ("attachment; filename=\"plain.txt\"", "plain.txt"),
        ("attachment; filename=\"no.txt\"; filename*=UTF-8''gr%C3%BCn.txt", "gr\u{fc}n.txt"),
        ("attachment; filename=token.txt", "token.txt"),
        ("attachment; filename=\"..\\\\evil.exe\"", "evil.exe"),
    ] {
        let ask = client.ask("POST", "/v1/files").header("Content-Disposition", value);
        assert_eq!(ask.body(b"x").send().expect(201).json()["name"], name, "{value}");
    }
    let first = client.put("/v1/files/same.txt", b"1").expect(201).text("id");
    let second = client.put("/v1/files/same.txt", b"2").expect(201).text("id");
    assert_ne!(first, second);
    client.download(&first).expect(200).is_body(b"1");
}

#[test]
fn a_life_is_as_asked_within_bounds_and_policy() {
    let setup = Setup::new().set("tenants.other", "max_ttl", "\"10m\"");
    let gateway = setup.set("retention", "default_ttl", "\"30m\"").start();
    let (client, short) = (gateway.client(), gateway.client_of("other"));
    for (ttl, seconds, slack) in [
        ("1s", 1, 1),
        ("90s", 90, 1),
        ("299s", 299, 1),
        ("15m", 900, 60),
        ("4h", 14400, 900),
        ("23h30m", 84600, 900),
    ] {
        let made = client.post(format!("/v1/files?ttl={ttl}"), b"x").expect(201).json();
        let life = time(&made, "expires_at").duration_since(time(&made, "created_at"));
        let life = life.as_secs();
        assert!((seconds - slack..=seconds).contains(&life), "{ttl}: {life} s");
    }
    for bad in ["", "0s", "0", "-1s", "90", "23h31m", "24h", "1d", "1.5h", "x", "999ms", "1h%201m"]
    {
        client.post(format!("/v1/files?ttl={bad}"), b"x").problem(422, "bad-ttl");
    }
    short.post("/v1/files?ttl=11m", b"x").problem(403, "not-permitted-by-policy");
    short.post("/v1/files?ttl=10m", b"x").expect(201);
    for (client, most) in [(&client, 1800), (&short, 600)] {
        let made = client.post("/v1/files", b"x").expect(201).json();
        let life = time(&made, "expires_at").duration_since(time(&made, "created_at")).as_secs();
        assert!((most - 60..=most).contains(&life), "without a ttl: {life} s");
    }
}

#[test]
fn digests_are_computed_when_asked_and_hold_the_upload_to_its_word() {
    let gateway = Setup::new().set("tenants.other", "digest", "\"always\"").start();
    let client = gateway.client();
    let bytes = noise(100_000);
    let right = format!("sha-256=:{}:", sha256(&bytes));
    let strong = format!("sha-512=:{}:", BASE64.encode(&Sha512::digest(&bytes)));
    let wrong = format!("sha-256=:{}:", sha256(b"something else"));
    let ask = |name: &str, value: &str| {
        client.ask("POST", "/v1/files").header(name, value).body(&bytes).send()
    };
    for name in ["Content-Digest", "Repr-Digest"] {
        let made = ask(name, &right).expect(201);
        assert_eq!(made.json()["digest"]["sha-256"], sha256(&bytes));
        assert_eq!(made.header("repr-digest"), Some(right.as_str()));
        ask(name, &wrong).problem(400, "digest-mismatch");
        ask(name, "sha-256=:AAAA:").problem(400, "bad-digest");
        ask(name, "nonsense").problem(400, "bad-digest");
        ask(name, "unknown-9=:AAAA:").expect(201);
        ask(name, &strong).expect(201);
    }
    let wanted = ask("Want-Repr-Digest", "sha-256=9, sha-512=1").expect(201);
    assert_eq!(wanted.header("repr-digest"), Some(right.as_str()));
    let content = client.download(&wanted.text("id")).expect(200);
    assert_eq!(content.header("repr-digest"), Some(right.as_str()), "on the content too");
    let wanted = ask("Want-Repr-Digest", "sha-512=1").expect(201);
    assert_eq!(wanted.header("repr-digest"), Some(strong.as_str()));
    let always = gateway.client_of("other").post("/v1/files", &bytes).expect(201);
    assert_eq!(always.json()["digest"]["sha-256"], sha256(&bytes));
    assert_eq!(gateway.metric("dayfly_live_files"), 9.0, "no refused upload was kept");
}

#[test]
fn several_parts_become_several_files_or_none() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let send = |kind: &str, body: &[u8]| {
        client.ask("POST", "/v1/files?ttl=20m").header("Content-Type", kind).body(body).send()
    };
    let large = noise(300_000);
    let good = Multipart::new().file("a.txt", b"one").field("note", b"no file").file("b", &large);
    let made = send(Multipart::CONTENT_TYPE, &good.finish()).expect(201).json();
    let files = made["files"].as_array().unwrap();
    assert_eq!(files.len(), 2, "{made}");
    assert_eq!((&files[0]["name"], &files[1]["name"]), (&"a.txt".into(), &"b".into()));
    client.download(files[1]["id"].as_str().unwrap()).expect(200).is_body(&large);
    gateway.comes_to("dayfly_live_files", 2.0);
    let unfinished = Multipart::new().file("a.txt", b"one").file("b.txt", b"two").unfinished();
    let mut many = Multipart::new();
    for _ in 0..10_000 {
        many = many.file("x", b"x");
    }
    let one = Multipart::new().file("a.txt", b"one").finish();
    let kind = Multipart::CONTENT_TYPE;
    for (kind, body) in [
        (kind, unfinished),
        (kind, many.finish()),
        (kind, b"no part at all".to_vec()),
        ("multipart/form-data", one.clone()),
        ("multipart/form-data; boundary=frontier; boundary=other", one.clone()),
        ("multipart/form-data; boundary=other", one),
    ] {
        send(kind, &body).problem(400, "bad-multipart");
        gateway.comes_to("dayfly_live_files", 2.0);
    }
    let tiny = Setup::new().set("tenants.acme", "max_file", "\"1KiB\"").start();
    let parts = Multipart::new().file("fits", &[b'x'; 1000]).file("does not", &[b'x'; 1025]);
    let body = parts.finish();
    let ask = tiny.client();
    let ask = ask.ask("POST", "/v1/files").header("Content-Type", kind).body(&body);
    ask.send().problem(413, "too-large");
    tiny.is_empty_again();
}

#[test]
fn a_repeated_request_makes_one_file() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let send = |key: &str, path: &str, body: &[u8]| {
        client.ask("POST", path).header("Idempotency-Key", key).body(body).send()
    };
    let first = send("one", "/v1/files?name=a", b"same").expect(201);
    let again = send("one", "/v1/files?name=a", b"same").expect(201);
    assert_eq!(first.json(), again.json());
    assert_eq!(again.header("location"), first.header("location"));
    gateway.comes_to("dayfly_live_files", 1.0);
    send("one", "/v1/files?name=a", b"other").problem(422, "idempotency-mismatch");
    send("one", "/v1/files?name=b", b"same").problem(422, "idempotency-mismatch");
    gateway.comes_to("dayfly_live_files", 1.0);
    let foreign = gateway.client_of("other");
    let foreign = foreign.ask("POST", "/v1/files?name=a").header("Idempotency-Key", "one");
    assert_ne!(foreign.body(b"same").send().expect(201).text("id"), first.text("id"));
    client.delete(format!("/v1/files/{}", first.text("id"))).expect(200);
    send("one", "/v1/files?name=a", b"same").expect(410);
    let put = client.ask("PUT", "/v1/files/a").header("Idempotency-Key", "two");
    put.body(b"x").send().problem(400, "idempotency-unsupported");
    let get = client.ask("GET", "/v1/files").header("Idempotency-Key", "two");
    get.send().problem(400, "idempotency-unsupported");
    let refused = client.ask("POST", "/v1/files?ttl=x").header("Idempotency-Key", "three");
    refused.body(b"x").send().problem(422, "bad-ttl");
    send("three", "/v1/files", b"x").expect(201);
}

#[test]
fn a_request_repeated_while_the_first_still_runs_is_a_conflict() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let ask = || client.ask("POST", "/v1/files").header("Idempotency-Key", "slow");
    let mut slow = ask().header("Expect", "100-continue").begin(Some(8));
    assert_eq!(slow.head().status, 100, "from here on it runs");
    slow.send(b"half").unwrap();
    ask().body(b"halfhalf").send().problem(409, "conflict");
    slow.send(b"half").unwrap();
    assert_eq!(slow.head().status, 201);
    ask().body(b"halfhalf").send().expect(201);
    gateway.comes_to("dayfly_live_files", 1.0);
    let broken = client.ask("POST", "/v1/files").header("Idempotency-Key", "broken");
    let mut broken = broken.header("Expect", "100-continue").begin(Some(8));
    assert_eq!(broken.head().status, 100);
    broken.send(b"half").unwrap();
    broken.reset();
    crate::harness::eventually("a broken request frees its key", || {
        let again = client.ask("POST", "/v1/files").header("Idempotency-Key", "broken");
        (again.body(b"whole").send().status == 201).then_some(())
    });
}

#[test]
fn curl_uploads_a_file_the_way_people_type_it() {
    if Command::new("curl").arg("--version").output().is_err() {
        skip("curl is not installed");
        return;
    }
    let gateway = TestGateway::start();
    let report = gateway.dir().join("report.pdf");
    let document = pdf(&["Quarterly"]);
    std::fs::write(&report, &document).unwrap();
    let files = format!("http://{}/v1/files", gateway.public);
    let key = format!("Authorization: Bearer {}", crate::harness::key_of("acme"));
    let curl = |arguments: &[&str]| {
        let curl = Command::new("curl").args(["-sS", "-H", &key]).args(arguments).output().unwrap();
        assert!(curl.status.success(), "{}", String::from_utf8_lossy(&curl.stderr));
        curl.stdout
    };
    let report = report.to_str().unwrap();
    let (put, data) = (format!("{files}/"), format!("@{report}"));
    let form = format!("files=@{report};filename=second.pdf");
    let made: Value = serde_json::from_slice(&curl(&["-T", report, &put])).unwrap();
    assert_eq!((&made["name"], &made["size"]), (&"report.pdf".into(), &document.len().into()));
    let back = format!("{files}/{}/content", made["id"].as_str().unwrap());
    assert!(curl(&[&back]) == document);
    let raw: Value = serde_json::from_slice(&curl(&["--data-binary", &data, &files])).unwrap();
    assert_eq!(raw["media_type"], "application/pdf", "curl's form type says nothing");
    let several = curl(&["-F", &format!("files={data}"), "-F", &form, &files]);
    let several: Value = serde_json::from_slice(&several).unwrap();
    assert_eq!(several["files"][1]["name"], "second.pdf");
}

#[test]
fn the_line_that_the_embedded_default_prints_works_when_it_is_pasted() {
    let gateway = TestGateway::embedded();
    let key = crate::harness::eventually("a key is printed", || {
        let all = gateway.stdout() + &gateway.stderr();
        let start = all.find("dfk_")?;
        let end = all[start..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
        Some(all[start..start + end].to_owned())
    });
    let client = gateway.anonymous().with_key(Some(&key));
    let id = client.upload("", b"hello");
    client.download(&id).expect(200).is_body(b"hello");
    let me = client.get("/v1/whoami").expect(200).json();
    assert_eq!(me["tenant"], "demo");
    assert_eq!(client.get("/v1/status").expect(200).json()["region"], "local");
    if Command::new("curl").arg("--version").output().is_err() {
        skip("curl is not installed");
        return;
    }
    let all = gateway.stdout() + &gateway.stderr();
    let line = all.lines().find_map(|line| line.find("curl ").map(|at| line[at..].to_owned()));
    let line = line.expect("a curl line");
    let script = std::fs::write(gateway.dir().join("report.pdf"), pdf(&["Hi"]));
    script.unwrap();
    let ran = Command::new("sh").arg("-c").arg(&line).current_dir(gateway.dir()).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success() && said.contains("file_"), "{line}\n{said}");
    drop(gateway);
    assert_eq!(run(&["--help"]).code, Some(0));
}
