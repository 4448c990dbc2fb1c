//! Requests that two parsers could read in two ways, and heads that are too much.

use super::{impatient, is_unharmed};
use crate::harness::{TestGateway, Wire, key_of};

/// A path that answers 200 to anybody: if a smuggled request is served, its 200 shows.
const SMUGGLED: &str = "GET /problems HTTP/1.1\r\nHost: x\r\n\r\n";

/// The statuses of all answers until the connection ends, which it does by itself.
fn statuses(gateway: &TestGateway, message: &[u8]) -> Vec<u16> {
    let mut wire = Wire::open(gateway.public);
    // Whoever has heard enough may close before all is sent.
    let _ = wire.send(message);
    let mut all = Vec::new();
    while let Some(head) = wire.try_head() {
        let _ = wire.body(&head);
        all.push(head.status);
    }
    all
}

fn upload(lines: &str, body: &str) -> Vec<u8> {
    let key = key_of("acme");
    format!(
        "POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n{lines}\r\n{body}"
    )
    .into_bytes()
}

/// Asserts that the message is refused (or its connection closed), and that nothing of it is
/// served as a request of its own.
#[track_caller]
fn is_refused(gateway: &TestGateway, message: &[u8]) {
    let got = statuses(gateway, message);
    let told = String::from_utf8_lossy(&message[..message.len().min(300)]).into_owned();
    assert!(got.iter().all(|status| (400..=501).contains(status)), "{got:?} for {told:?}");
    assert!(got.len() <= 1, "{got:?} for {told:?}");
}

#[test]
fn lengths_that_can_be_read_in_two_ways_are_refused() {
    let gateway = impatient();
    for lines in [
        "Content-Length: 4\r\nContent-Length: 5\r\n",
        "Content-Length: 4, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 1e1\r\n",
        "Content-Length: 5.0\r\n",
        "Content-Length: \r\n",
        "Content-Length: five\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: \r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding: chu\r\n nked\r\n",
    ] {
        is_refused(&gateway, &upload(lines, &format!("0\r\n\r\n{SMUGGLED}")));
    }
    assert_eq!(gateway.metric("dayfly_files_accepted_total").to_bits(), 0);
    // With a length besides, chunks win, and nothing after them is heard (RFC 9112, section 6.3).
    for lines in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\nContent-Length: 40\r\n",
    ] {
        let got = statuses(&gateway, &upload(lines, &format!("0\r\n\r\n{SMUGGLED}")));
        assert!(got == [201] || got == [400] || got.is_empty(), "{got:?} for {lines:?}");
    }
    let client = gateway.client();
    for file in client.get("/v1/files").expect(200).json()["files"].as_array().unwrap() {
        assert_eq!(file["size"], 0, "the length was believed");
        client.delete(file["links"]["self"].as_str().unwrap()).expect(200);
    }
    is_unharmed(&gateway);
}

#[test]
fn chunks_that_can_be_read_in_two_ways_are_refused() {
    let gateway = impatient();
    for body in [
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\nhello\n0\n\n",
        "5\rhello\r\n0\r\n\r\n",
        "ffffffffffffffff1\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "5;ext\nhello\r\n0\r\n\r\n",
    ] {
        let message = upload("Transfer-Encoding: chunked\r\n", &format!("{body}{SMUGGLED}"));
        is_refused(&gateway, &message);
    }
    // Extensions and trailers without end.
    let long = "x".repeat(1 << 20);
    for body in [
        format!("5;{long}\r\nhello\r\n0\r\n\r\n"),
        format!("5\r\nhello\r\n0\r\nA: {long}\r\n\r\n"),
        format!("5\r\nhello\r\n0\r\n{}\r\n", "A: b\r\n".repeat(2000)),
    ] {
        is_refused(&gateway, &upload("Transfer-Encoding: chunked\r\n", &body));
    }
    assert_eq!(gateway.metric("dayfly_files_accepted_total").to_bits(), 0);
    is_unharmed(&gateway);
}

#[test]
fn heads_that_can_be_read_in_two_ways_are_refused() {
    let gateway = impatient();
    for head in [
        "GET /problems HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n",
        "GET /problems HTTP/1.1\r\nHost : x\r\n\r\n",
        "GET /problems HTTP/1.1\r\nHost: x\r\nA: b\r\n folded\r\n\r\n",
        "GET /problems HTTP/1.1\r\n Host: x\r\n\r\n",
        "GET /problems HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n",
        "GET /problems HTTP/1.1\r\nHost: x\r\nA\0: b\r\n\r\n",
        "GET /problems HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n",
        "GET /problems HTTP/1.1\r\nHost: x\r\nNo colon\r\n\r\n",
        "GET /problems HTTP/1.1\r\nHost: x\r\n: nameless\r\n\r\n",
        "GET /problems HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        "GET /problems HTTP/1.1\r\n\r\n",
        "GET /problems\0 HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /problems HTTP/1.1 x\r\nHost: x\r\n\r\n",
        "GET  /problems HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET\t/problems\tHTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /problems HTTP/1.10\r\nHost: x\r\n\r\n",
        "GET /problems HTTP/9.9\r\nHost: x\r\n\r\n",
        "GET /problems HTTP/0.9\r\n\r\n",
        "GET /problems\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
    ] {
        is_refused(&gateway, head.as_bytes());
    }
    is_unharmed(&gateway);
}

#[test]
fn heads_that_are_too_much_are_refused() {
    let gateway = impatient();
    let head = |line: &str, fields: &str| format!("{line}\r\nHost: x\r\n{fields}\r\n").into_bytes();
    let (long, plain) = ("x".repeat(100 << 10), "GET /problems HTTP/1.1");
    for (message, allowed) in [
        (head(plain, &"A: b\r\n".repeat(1000)), &[431][..]),
        (head(plain, &format!("A: {}\r\n", "x".repeat(1 << 20))), &[431]),
        (head(plain, &format!("{}: b\r\n", "x".repeat(1 << 20))), &[431]),
        (head(&format!("GET /{long} HTTP/1.1"), ""), &[414, 431]),
        (head(&format!("{} / HTTP/1.1", "X".repeat(1 << 20)), ""), &[400, 414, 431]),
    ] {
        let got = statuses(&gateway, &message);
        let fine = got.is_empty() || (got.len() == 1 && allowed.contains(&got[0]));
        assert!(fine, "{got:?}, not one of {allowed:?}");
    }
    is_unharmed(&gateway);
}

#[test]
fn honest_requests_in_one_go_are_answered_in_turn() {
    let gateway = impatient();
    let one = upload("Content-Length: 5\r\n", "hello");
    let two = upload("Transfer-Encoding: chunked\r\n", "6\r\nworld!\r\n0\r\n\r\n");
    let message = [one.as_slice(), &two, &one, SMUGGLED.as_bytes()].concat();
    assert_eq!(statuses(&gateway, &message), [201, 201, 201, 200]);
    assert_eq!(gateway.metric("dayfly_live_bytes") as u64, 16);
    // The body of a refused request is no request either.
    let refused = "POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\n";
    let message = [refused.as_bytes(), SMUGGLED.as_bytes(), SMUGGLED.as_bytes()].concat();
    assert_eq!(statuses(&gateway, &message), [401]);
}
