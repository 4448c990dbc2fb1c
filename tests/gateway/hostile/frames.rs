//! HTTP/2 within its rules, for nothing: floods, bombs and silence.

use super::{impatient, is_unharmed};
use crate::harness::two::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PRIORITY, RST_STREAM,
    SETTINGS, Two, WINDOW_UPDATE, fields, frame, get, length,
};
use crate::harness::{Setup, TestGateway, is_long_tier, key_of, tell};

/// What a client may not be allowed to send of a flood.
const MOST: usize = 2_000_000;

fn bearer() -> String {
    format!("Bearer {}", key_of("acme"))
}

/// Floods a fresh connection on which `begin` was sent; ended soon, for little work.
#[track_caller]
fn is_ended(gateway: &TestGateway, what: &str, begin: &[u8], piece: &[u8], limit: usize) {
    let mut two = Two::open(gateway.public, &[]);
    two.send(begin).unwrap();
    let before = gateway.cpu_seconds();
    // Many at once: a flood comes as fast as it can.
    let together = 64;
    let sent = two.flood(&piece.repeat(together), MOST / together) * together;
    let spent = gateway.cpu_seconds() - before;
    tell(&format!("{what}: ended after at most {sent} pieces, {spent:.2} s of processor time"));
    assert!(sent < limit, "{what}: {sent} were taken");
    assert!(spent < 2.0, "{what}: {spent} s of processor time");
}

#[test]
fn floods_of_frames_that_carry_nothing_are_ended() {
    let gateway = impatient();
    let upload = fields(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "x"),
        (":path", "/v1/files"),
        ("authorization", &bearer()),
    ]);
    let upload = frame(HEADERS, END_HEADERS, 1, &upload);
    let priority = frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]);
    let window = frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]);
    let setting = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255]);
    // What fits into the buffers of both sides is sent before it is known to be too much.
    for (what, begin, piece) in [
        ("empty DATA", upload.as_slice(), frame(DATA, 0, 1, b"")),
        ("padded empty DATA", &upload, frame(DATA, 8, 1, &[3, 0, 0, 0])),
        ("PING", b"", frame(PING, 0, 0, &[0; 8])),
        ("SETTINGS", b"", setting),
        ("empty SETTINGS", b"", frame(SETTINGS, 0, 0, b"")),
        ("PRIORITY", b"", priority),
        ("WINDOW_UPDATE", b"", window),
        ("unknown frames", b"", frame(77, 0, 0, b"x")),
    ] {
        is_ended(&gateway, what, begin, &piece, MOST / 2);
    }
    is_unharmed(&gateway);
}

#[test]
fn a_head_that_goes_on_and_on_is_ended() {
    let gateway = impatient();
    let begin = frame(HEADERS, 0, 1, &fields(&get("/problems", "")));
    let more = fields(&[("a", &"b".repeat(100))]);
    is_ended(&gateway, "CONTINUATION", &begin, &frame(CONTINUATION, 0, 1, &more), MOST / 2);
    is_ended(&gateway, "empty CONTINUATION", &begin, &frame(CONTINUATION, 0, 1, b""), MOST / 2);
    is_unharmed(&gateway);
}

#[test]
fn requests_that_are_taken_back_at_once_are_ended() {
    let gateway = impatient();
    let before = gateway.cpu_seconds();
    let mut two = Two::open(gateway.public, &[]);
    let block = fields(&get("/problems", ""));
    let mut sent = 0_u32;
    let most = 100_000;
    while sent < most {
        let stream = sent * 2 + 1;
        let mut pair = frame(HEADERS, END_HEADERS | END_STREAM, stream, &block);
        pair.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
        if two.send(&pair).is_err() {
            break;
        }
        sent += 1;
    }
    let spent = gateway.cpu_seconds() - before;
    tell(&format!("rapid reset: ended after at most {sent} pairs, {spent:.2} s of processor time"));
    assert!(sent < most && spent < 4.0, "{sent} pairs, {spent} s");
    is_unharmed(&gateway);
}

#[test]
fn small_blocks_that_unpack_into_large_heads_are_refused() {
    let gateway = impatient();
    let memory = gateway.resident_bytes();
    let connections = if is_long_tier() { 200 } else { 20 };
    for _ in 0..connections {
        let mut two = Two::open(gateway.public, &[]);
        let mut block = fields(&get("/problems", ""));
        // One large field into the table, then a byte each time it is meant.
        block.push(0x40);
        length(&mut block, 1);
        block.push(b'a');
        length(&mut block, 3900);
        block.resize(block.len() + 3900, b'b');
        block.resize(16_000, 0xbe);
        two.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)).unwrap();
        let came = two.until_the_end();
        let served = came.iter().find(|frame| frame.kind == HEADERS && frame.payload[0] == 0x88);
        assert!(served.is_none(), "a head of 47 MB was served");
    }
    let grown = gateway.resident_bytes().saturating_sub(memory);
    tell(&format!("{connections} header bombs of 47 MB: {} KiB more resident", grown >> 10));
    assert!(grown < 32 << 20, "{grown} bytes more");
    is_unharmed(&gateway);
}

#[test]
fn windows_that_break_the_rules_end_the_connection() {
    let gateway = impatient();
    for breach in [
        frame(WINDOW_UPDATE, 0, 0, &[0; 4]),
        [
            frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
            frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
        ]
        .concat(),
        frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff]),
        frame(DATA, 0, 1, b"to nobody"),
        frame(HEADERS, END_HEADERS, 2, &fields(&get("/problems", ""))),
        frame(PING, 0, 0, b"short"),
    ] {
        let mut two = Two::open(gateway.public, &[]);
        two.send(&breach).unwrap();
        let came = two.until_the_end();
        let goodbye = came.iter().find(|frame| frame.kind == GOAWAY);
        let error = goodbye.map(|frame| frame.payload[7]);
        assert!(error.is_none_or(|error| error != 0), "{breach:?} is no error");
    }
    is_unharmed(&gateway);
}

#[test]
fn more_than_its_window_is_not_kept_for_anyone() {
    let gateway = impatient();
    let mut two = Two::open(gateway.public, &[]);
    let block = fields(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "x"),
        (":path", "/v1/files"),
    ]);
    // Without a key: refused, and what is sent all the same is thrown away for a while.
    two.send(&frame(HEADERS, END_HEADERS, 1, &block)).unwrap();
    let sent = two.flood(&frame(DATA, 0, 1, &[7; 16_384]), 10_000);
    assert!(sent < 2000, "{} MiB beyond every window were taken", sent >> 6);
    is_unharmed(&gateway);
}

#[test]
fn silence_is_ended_in_its_time() {
    let gateway = impatient();
    let key = bearer();
    let mut only_settings = Two::open(gateway.public, &[]);
    let mut only_pings = Two::open(gateway.public, &[]);
    let mut half_a_head = Two::open(gateway.public, &[]);
    half_a_head.send(&frame(HEADERS, 0, 1, &fields(&get("/problems", "")))).unwrap();
    // Windows shut: the answers cannot leave.
    let mut takes_nothing = Two::open(gateway.public, &[(4, 0)]);
    for stream in 0..50 {
        takes_nothing.ask(stream * 2 + 1, END_STREAM, &get("/problems", &key)).unwrap();
    }
    let mut served = Two::open(gateway.public, &[]);
    served.ask(1, END_STREAM, &get("/v1/whoami", &key)).unwrap();
    assert_eq!(served.head_of(1).unwrap()[0], 0x88, "200");
    only_settings.until_the_end();
    half_a_head.until_the_end();
    takes_nothing.until_the_end();
    served.until_the_end();
    // A PING for each that comes back: never idle on the wire, and never a request.
    only_pings.send(&frame(PING, 0, 0, &[1; 8])).unwrap();
    let mut pings = 0;
    while let Some(came) = only_pings.next() {
        only_pings.acknowledge(&came);
        if came.kind == PING && pings < 100 {
            pings += 1;
            let _ = only_pings.send(&frame(PING, 0, 0, &[1; 8]));
        }
    }
    is_unharmed(&gateway);
}

#[test]
fn whoever_takes_an_answer_too_slowly_is_ended_over_two() {
    let gateway = Setup::new().start();
    let client = gateway.client();
    let id = client.upload("", &crate::harness::noise(4 << 20));
    let mut reader = Two::open(gateway.public, &[]);
    let content = format!("/v1/files/{id}/content");
    reader.ask(1, END_STREAM, &get(&content, &bearer())).unwrap();
    let mut sender = Two::open(gateway.public, &[]);
    let upload = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "x"),
        (":path", "/v1/files"),
        ("authorization", &bearer()),
    ];
    sender.ask(1, 0, &upload).unwrap();
    sender.send(&frame(DATA, 0, 1, b"and no more")).unwrap();
    // 408, not in the static table: its digits are literal, perhaps by Huffman's code.
    let head = sender.head_of(1).expect("the sender is told");
    assert_ne!(head[0], 0x88);
    let came = reader.until_the_end();
    let bytes: usize =
        came.iter().filter(|frame| frame.kind == DATA).map(|frame| frame.payload.len()).sum();
    assert!(bytes < 4 << 20, "it came whole");
    client.delete(format!("/v1/files/{id}")).expect(200);
    gateway.is_empty_again();
}
