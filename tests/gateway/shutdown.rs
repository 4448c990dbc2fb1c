//! The end: what runs is finished, nothing new begins, and every key is destroyed.

use std::time::Instant;

use rustix::process::Signal;

use crate::harness::{Client, Setup, TestGateway, Wire, eventually, noise};

#[test]
fn an_upload_and_a_download_in_progress_are_finished() {
    let mut gateway = TestGateway::start();
    let client = gateway.client();
    let bytes = noise(24 << 20);
    let id = client.upload("", &bytes);
    let mut reader = client.ask("GET", Client::content(&id)).begin_narrow();
    let head = reader.head();
    assert_eq!(head.status, 200);
    let start = reader.up_to(1000);
    let ask = client.ask("POST", "/v1/files").header("Expect", "100-continue");
    let mut sender = ask.begin(Some(1_000_000));
    assert_eq!(sender.head().status, 100);
    sender.send(&bytes[..500_000]).unwrap();
    gateway.signal(Signal::TERM);
    takes_nothing_new(&gateway);
    sender.send(&bytes[500_000..1_000_000]).unwrap();
    assert_eq!(sender.head().status, 201, "the upload is finished");
    let rest = reader.up_to(bytes.len() - 1000);
    assert!([start, rest].concat() == bytes, "the download is finished");
    gateway.ends_well();
}

/// Waits until a new request is refused, by a closed door or in words.
fn takes_nothing_new(gateway: &TestGateway) {
    let client = gateway.client();
    eventually("nothing new is taken", || {
        let Ok(mut wire) = Wire::try_open(gateway.public) else { return Some(()) };
        let key = crate::harness::key_of("acme");
        let head = format!(
            "POST /v1/files HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {key}\r\n\
             Content-Length: 1\r\n\r\nx",
            client.addr
        );
        let _ = wire.send(head.as_bytes());
        wire.try_head().is_none_or(|head| head.status == 503).then_some(())
    });
}

#[test]
fn whoever_does_not_finish_in_time_is_cut() {
    let mut gateway = Setup::new().set("limits", "drain", "\"1s\"").start();
    let client = gateway.client();
    let bytes = noise(24 << 20);
    let id = client.upload("", &bytes);
    let mut reader = client.ask("GET", Client::content(&id)).begin_narrow();
    let head = reader.head();
    let ask = client.ask("POST", "/v1/files").header("Expect", "100-continue");
    let mut sender = ask.begin(Some(1_000_000));
    assert_eq!(sender.head().status, 100);
    sender.send(&bytes[..1000]).unwrap();
    let start = Instant::now();
    gateway.signal(Signal::TERM);
    gateway.ends_well();
    assert!(start.elapsed().as_secs() < 10, "{:?} for a drain of 1 s", start.elapsed());
    assert!(!reader.body(&head).whole, "a download that was cut came to its end");
    if let Some(head) = sender.try_head() {
        assert!(head.status >= 400, "an upload that was cut was accepted");
    }
}

#[test]
fn an_idle_gateway_ends_at_once_whatever_lives() {
    let mut gateway = TestGateway::start();
    let client = gateway.client();
    for size in [1, 100, 1 << 20] {
        client.upload("?ttl=23h", &noise(size));
    }
    // A connection that is kept alive, and one that says nothing.
    let mut kept = client.ask("GET", "/v1/whoami").begin(None);
    assert_eq!(kept.head().status, 200);
    let _silent = Wire::open(gateway.public);
    let start = Instant::now();
    gateway.signal(Signal::TERM);
    gateway.ends_well();
    assert!(start.elapsed().as_secs() < 8, "{:?} with nothing to wait for", start.elapsed());
}

#[test]
fn sigint_ends_it_as_well() {
    let mut gateway = TestGateway::start();
    gateway.client().upload("", b"x");
    gateway.signal(Signal::INT);
    gateway.ends_well();
}
