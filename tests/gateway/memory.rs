//! Memory: one stream costs the same, however long it is.

use std::path::PathBuf;

use crate::harness::{Client, Setup, TestGateway, noise, skip};

/// The most resident memory a gateway may ever have had with one stream, bytes.
const MOST: u64 = 96 << 20;

/// The peak of a process's resident memory so far.
fn peak(gateway: &TestGateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.process())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib << 10
}

#[test]
fn a_stream_of_any_length_needs_little_memory() {
    // The debug build is large and slow: the figure that counts is the release build's.
    let release = std::env::var_os("DAYFLY_RELEASE_BIN").map(PathBuf::from);
    let length: usize = if release.is_some() { 256 << 20 } else { 64 << 20 };
    if release.is_none() {
        skip("256 MiB through the release build: set DAYFLY_RELEASE_BIN; now 64 MiB, debug build");
    }
    let gateway = Setup::new().program(release).start();
    let client = gateway.client();
    let piece = noise(4 << 20);
    let mut wire = client.ask("POST", "/v1/files").begin(Some(length as u64));
    for _ in 0..length / piece.len() {
        wire.send(&piece).unwrap();
    }
    let head = wire.head();
    let made: serde_json::Value = serde_json::from_slice(&wire.body(&head).bytes).unwrap();
    assert_eq!(head.status, 201);
    let up = peak(&gateway);
    let id = made["id"].as_str().unwrap();
    let mut reader = client.ask("GET", Client::content(id)).begin(None);
    assert_eq!(reader.head().status, 200);
    for _ in 0..length / piece.len() {
        assert!(reader.up_to(piece.len()) == piece, "the bytes differ");
    }
    let down = peak(&gateway);
    assert!(up <= MOST && down <= MOST, "peak {} MiB up, {} MiB down", up >> 20, down >> 20);
    client.delete(format!("/v1/files/{id}")).expect(200);
    gateway.is_empty_again();
}

#[test]
fn a_stream_through_the_compressor_needs_little_memory_too() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let piece = noise(4 << 20);
    let ask = client.ask("POST", "/v1/process/compress?format=zstd&level=1");
    let mut wire = ask.begin(Some(48 << 20));
    let mut sender = wire.sender();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..12 {
                std::io::Write::write_all(&mut sender, &piece).unwrap();
            }
        });
        let head = wire.head();
        assert_eq!(head.status, 200);
        let body = wire.body(&head);
        assert!(body.whole);
        let back = zstd::stream::decode_all(&body.bytes[..]).unwrap();
        assert_eq!(back.len(), 48 << 20);
    });
    let peak = peak(&gateway);
    assert!(peak <= MOST, "peak {} MiB", peak >> 20);
    gateway.is_empty_again();
}
