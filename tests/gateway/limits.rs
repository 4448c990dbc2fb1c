//! Limits: what is too much, too little or broken is refused, costs little, and leaves nothing.

use crate::harness::{Answer, Client, Setup, TestGateway, Wire, eventually, noise};

/// Sends a head that declares `length` bytes and reads the answer without sending one.
#[track_caller]
fn declared(client: &Client, path: &str, length: u64) -> Answer {
    let ask = client.ask("POST", path).header("Expect", "100-continue");
    let mut wire = ask.begin(Some(length));
    Answer::read(&mut wire, &format!("POST {path}"))
}

#[track_caller]
fn still_works(gateway: &TestGateway) {
    let client = gateway.client();
    let id = client.upload("", b"next");
    client.download(&id).expect(200).is_body(b"next");
    client.delete(format!("/v1/files/{id}")).expect(200);
    gateway.is_empty_again();
}

#[test]
fn a_file_that_says_it_is_too_large_is_refused_before_its_body() {
    let gateway = Setup::new().set("limits", "max_file", "\"64KiB\"").start();
    let client = gateway.client();
    for path in ["/v1/files", "/v1/process/checksum"] {
        for length in [65_537, 1 << 40, 1 << 60] {
            let answer = declared(&client, path, length);
            assert!(!answer.continued, "the body was asked for");
            answer.problem(413, "too-large");
        }
    }
    // A client that sends anyway still reads the answer.
    client.post("/v1/files", &noise(900_000)).problem(413, "too-large");
    still_works(&gateway);
}

#[test]
fn a_file_that_does_not_say_so_is_refused_at_the_byte_that_is_too_many() {
    let gateway = Setup::new().set("tenants.acme", "max_file", "\"64KiB\"").start();
    let client = gateway.client();
    let bytes = noise(65_537);
    let send = |bytes: &[u8]| client.ask("POST", "/v1/files").chunked().body(bytes).send();
    client
        .delete(format!("/v1/files/{}", send(&bytes[..65_536]).expect(201).text("id")))
        .expect(200);
    send(&bytes).problem(413, "too-large");
    // The answer comes at that byte: the rest was never sent.
    let mut wire = client.ask("POST", "/v1/files").chunked().begin(None);
    let mut chunk = b"10001\r\n".to_vec();
    chunk.extend_from_slice(&bytes);
    wire.send(&chunk).unwrap();
    Answer::read(&mut wire, "POST /v1/files").problem(413, "too-large");
    still_works(&gateway);
}

#[test]
fn a_tenants_live_bytes_are_bounded() {
    let gateway = Setup::new().set("tenants.acme", "max_live_bytes", "\"1MiB\"").start();
    let client = gateway.client();
    let first = client.upload("", &noise(700_000));
    let answer = declared(&client, "/v1/files", 400_000);
    assert!(!answer.continued, "the body was asked for");
    let answer = answer.problem(429, "quota-exceeded");
    assert!(answer.header("retry-after").is_some_and(|after| after.parse::<u32>().is_ok()));
    let bytes = noise(400_000);
    let undeclared = client.ask("POST", "/v1/files").chunked().body(&bytes).send();
    undeclared.problem(429, "quota-exceeded");
    gateway.client_of("other").upload("", &bytes);
    client.delete(format!("/v1/files/{first}")).expect(200);
    client.upload("", &bytes);
    assert_eq!(gateway.metric("dayfly_live_files"), 2.0);
}

#[test]
fn uploads_together_cannot_pass_the_quota_that_each_would_keep() {
    let gateway = Setup::new().set("tenants.acme", "max_live_bytes", "\"1MiB\"").start();
    let client = gateway.client();
    let bytes = noise(300_000);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let send = || client.ask("POST", "/v1/files").chunked().body(&bytes).send().status;
        let running: Vec<_> = (0..8).map(|_| scope.spawn(send)).collect();
        running.into_iter().map(|sender| sender.join().unwrap()).collect()
    });
    assert!(statuses.iter().all(|status| [201, 429].contains(status)), "{statuses:?}");
    let kept = statuses.iter().filter(|status| **status == 201).count();
    assert!(kept <= 3, "{kept} of 300 000 bytes each in 1 MiB");
    assert_eq!(gateway.metric("dayfly_live_bytes") as usize, kept * 300_000);
}

#[test]
fn a_spent_memory_budget_refuses_and_recovers() {
    let gateway = Setup::new().set("limits", "memory", "\"4MiB\"").start();
    let client = gateway.client();
    let part = noise(300_000);
    let mut held: Vec<Wire> = Vec::new();
    let mut refused = None;
    for _ in 0..64 {
        let ask = client.ask("POST", "/v1/files").header("Expect", "100-continue");
        let mut wire = ask.begin(Some(10 << 20));
        let head = wire.head();
        if head.status != 100 {
            assert_eq!(head.status, 503);
            refused = Some(head);
            break;
        }
        // Enough to begin with, so that a buffer is taken; the rest never comes.
        if wire.send(&part).is_ok() {
            held.push(wire);
        }
    }
    let refused = refused.expect("64 uploads at once fit in 4 MiB");
    assert!(refused.header("retry-after").is_some());
    let again = declared(&client, "/v1/files", 10 << 20);
    assert!(!again.continued, "the body was asked for");
    again.problem(503, "overloaded");
    let used = gateway.metric("dayfly_budget_used_bytes");
    assert!(used <= 4.0 * 1048576.0, "{used} of 4 MiB");
    for wire in held {
        wire.reset();
    }
    gateway.is_empty_again();
    still_works(&gateway);
}

#[test]
fn a_body_that_ends_too_early_leaves_nothing() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    for sent in [0, 1, 20_000, 2 << 20] {
        let bytes = noise(sent);
        // An honest end of file: the answer can still be read.
        let mut wire = client.ask("POST", "/v1/files").begin(Some(sent as u64 + 1));
        wire.send(&bytes).unwrap();
        wire.end_sending();
        if let Some(head) = wire.try_head() {
            assert_eq!(head.status, 400);
            let body = wire.body(&head);
            assert!(String::from_utf8_lossy(&body.bytes).contains("truncated-body"));
        }
        // A reset: nobody is there to read one.
        let mut wire = client.ask("POST", "/v1/files").begin(Some(sent as u64 + 1));
        wire.send(&bytes).unwrap();
        wire.reset();
        let mut wire = client.ask("POST", "/v1/files").chunked().begin(None);
        wire.send(format!("{:x}\r\n", sent + 1).as_bytes()).unwrap();
        wire.send(&bytes).unwrap();
        wire.end_sending();
        if let Some(head) = wire.try_head() {
            assert_eq!(head.status, 400);
        }
    }
    gateway.is_empty_again();
    assert_eq!(gateway.metric("dayfly_files_accepted_total"), 0.0);
    still_works(&gateway);
}

#[test]
fn damaged_chunks_leave_nothing() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    for garbage in [
        "zz\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "5\nhello\n0\n\n",
    ] {
        let mut wire = client.ask("POST", "/v1/files").chunked().begin(None);
        let _ = wire.send(garbage.as_bytes());
        if let Some(head) = wire.try_head() {
            assert!(head.status >= 400, "{garbage:?} was taken: {}", head.status);
        }
    }
    gateway.is_empty_again();
    assert_eq!(gateway.metric("dayfly_files_accepted_total"), 0.0);
    still_works(&gateway);
}

#[test]
fn a_length_and_chunks_together_do_not_smuggle_a_request() {
    let gateway = TestGateway::start();
    let mut wire = Wire::open(gateway.public);
    let key = crate::harness::key_of("acme");
    let head = format!(
        "POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\
         Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
         GET /v1/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    );
    wire.send(head.as_bytes()).unwrap();
    let mut statuses = Vec::new();
    while let Some(head) = wire.try_head() {
        let _ = wire.body(&head);
        statuses.push(head.status);
        if statuses.len() == 2 {
            break;
        }
    }
    assert!(statuses[0] == 400 || statuses.len() == 1, "{statuses:?}");
}

#[test]
fn a_sender_who_goes_away_leaves_nothing() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let bytes = noise(3 << 20);
    for path in ["/v1/files", "/v1/files?downloads=1", "/v1/process/text", "/v1/process/compress"] {
        for part in [1, 100_000, 3 << 20] {
            let mut wire = client.ask("POST", path).begin(Some(100 << 20));
            let _ = wire.send(&bytes[..part]);
            wire.reset();
        }
    }
    gateway.is_empty_again();
    gateway.comes_to("dayfly_store_deletes_pending", 0.0);
    still_works(&gateway);
}

#[test]
fn a_full_store_says_so_and_keeps_nothing() {
    let gateway = Setup::new().set("vault.local", "max", "\"1MiB\"").start();
    let client = gateway.client();
    let bytes = noise(3 << 20);
    for _ in 0..3 {
        client.post("/v1/files", &bytes).problem(507, "storage-full");
        client.ask("POST", "/v1/files").chunked().body(&bytes).send().problem(507, "storage-full");
        gateway.is_empty_again();
    }
    let fits = client.upload("", &bytes[..700_000]);
    client.download(&fits).expect(200).is_body(&bytes[..700_000]);
    client.delete(format!("/v1/files/{fits}")).expect(200);
    still_works(&gateway);
}

#[test]
fn hostile_heads_are_refused_and_cost_a_connection_at_most() {
    let gateway = TestGateway::start();
    let long = "x".repeat(200_000);
    for head in [
        "nonsense\r\n\r\n".to_owned(),
        "GET / HTTP/9.9\r\n\r\n".to_owned(),
        format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: x\r\nA: {long}\r\n\r\n"),
        "GET / HTTP/1.1\r\nHost: x\r\nBad Header: 1\r\n\r\n".to_owned(),
        "POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n".to_owned(),
        "POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"
            .into(),
        "\0\0\0\0\r\n\r\n".to_owned(),
    ] {
        let mut wire = Wire::open(gateway.public);
        let _ = wire.send(head.as_bytes());
        wire.end_sending();
        if let Some(answer) = wire.try_head() {
            assert!((400..500).contains(&answer.status) || answer.status == 505, "{answer:?}");
        }
    }
    still_works(&gateway);
}

#[test]
fn a_head_that_never_ends_is_given_up() {
    let gateway = Setup::new().set("limits", "header_timeout", "\"1s\"").start();
    let mut wire = Wire::open(gateway.public);
    wire.send(b"GET /v1/whoami HTTP/1.1\r\nHost: x\r\n").unwrap();
    let status = wire.try_head().map(|head| head.status);
    assert!(status.is_none_or(|status| status == 408), "{status:?}");
    still_works(&gateway);
}

#[test]
fn a_tenants_rate_of_requests_is_bounded() {
    let gateway = Setup::new().set("limits", "requests_per_second", "5").start();
    let client = gateway.client();
    let slowed = (0..100).find_map(|_| {
        let answer = client.get("/v1/whoami");
        (answer.status == 429).then_some(answer)
    });
    let slowed = slowed.expect("a hundred requests pass").problem(429, "rate-limited");
    assert!(slowed.header("retry-after").is_some());
    eventually("it is forgiven", || (client.get("/v1/whoami").status == 200).then_some(()));
}

#[test]
fn a_refused_sender_is_not_listened_to_for_long() {
    let gateway = Setup::new().set("limits", "max_file", "\"1KiB\"").start();
    let client = gateway.client();
    let mut wire = client.ask("POST", "/v1/files").begin(Some(1 << 30));
    let piece = noise(1 << 20);
    let mut sent = 0;
    while sent < 64 && wire.send(&piece).is_ok() {
        sent += 1;
    }
    // What fits in the buffers of both sides, and the one MiB that is discarded.
    assert!(sent < 24, "{sent} MiB of a refused body were taken");
    still_works(&gateway);
}

#[test]
fn whoever_holds_the_rest_back_is_ended() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let id = client.upload("", &noise(24 << 20));
    let idle = gateway.metric("dayfly_budget_used_bytes");
    let paths = ["/v1/files", "/v1/process/text", "/v1/process/compress"];
    let mut slow: Vec<Wire> = paths
        .iter()
        .map(|path| {
            let mut wire = client.ask("POST", *path).begin(Some(1 << 20));
            wire.send(b"%PDF-1.4 and no more").unwrap();
            wire
        })
        .collect();
    let mut reader = client.ask("GET", Client::content(&id)).begin_narrow();
    let head = reader.head();
    for (wire, path) in slow.iter_mut().zip(paths) {
        let Some(head) = wire.try_head() else { panic!("{path}: closed without a word") };
        let body = wire.body(&head);
        let ended = head.status == 408 || (path.ends_with("compress") && !body.whole);
        assert!(ended, "{path}: {}", head.status);
    }
    gateway.comes_to("dayfly_live_files", 1.0);
    gateway.comes_to("dayfly_budget_used_bytes", idle);
    assert!(!reader.body(&head).whole);
    client.delete(format!("/v1/files/{id}")).expect(200);
    still_works(&gateway);
}
