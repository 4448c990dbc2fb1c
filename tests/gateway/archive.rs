//! Archives: listed, one member given, and refused when they are not what they say.

use std::io::Write;

use crate::harness::{TestGateway, noise, pdf, zip};

fn header(name: &str, kind: u8, size: usize) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[156] = kind;
    block[257..263].copy_from_slice(b"ustar\0");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn member(name: &str, content: &[u8]) -> Vec<u8> {
    let mut bytes = header(name, b'0', content.len());
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

#[test]
fn what_is_in_an_archive_is_told_and_given() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let content = noise(3 << 20);
    let tar = [member("a/big.bin", &content), member("b.txt", b"small"), vec![0; 1024]].concat();
    let zipped = zip(&[("a/big.bin", &content), ("b.txt", b"small")]);
    for (archive, format) in [(tar.clone(), "tar"), (gzip(&tar), "tar+gzip"), (zipped, "zip")] {
        let list = client.post("/v1/process/archive", &archive).expect(200).json();
        assert_eq!(list["format"], format);
        assert_eq!(list["members"][0]["name"], "a/big.bin");
        assert_eq!(list["members"][0]["size"], content.len());
        let path = "/v1/process/archive?op=extract&member=a%2Fbig.bin";
        client.post(path, &archive).expect(200).is_body(&content);
        let path = "/v1/process/archive?op=extract&member=nothing";
        client.post(path, &archive).problem(422, "bad-option");
    }
    client.post("/v1/process/archive?op=extract", &tar).problem(422, "bad-option");
    client.post("/v1/process/archive?member=b.txt", &tar).problem(422, "bad-option");
    client.post("/v1/process/archive", &pdf(&["x"])).problem(415, "unsupported-media-type");
    let path = "/v1/process/archive+text?archive.op=extract&archive.member=page.pdf";
    let words = client.post(path, &zip(&[("page.pdf", &pdf(&["In a zip"]))])).expect(200);
    assert!(words.body_text().contains("In a zip"));
    gateway.is_empty_again();
}

#[test]
fn traps_are_refused_with_their_reason() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let bomb = gzip(&vec![0; 200 << 20]);
    let inner = zip(&[("x.zip", &zip(&[("y.zip", &zip(&[("z", b"z")]))]))]);
    let million: Vec<u8> = (0..1000).flat_map(|n| header(&format!("{n}"), b'0', 0)).collect();
    let million = gzip(&million.repeat(110));
    for (archive, slug) in [
        (bomb, "archive-bomb"),
        (zip(&[("bomb", &vec![0; 200 << 20])]), "archive-bomb"),
        (zip(&[("deep.zip", &inner)]), "archive-bomb"),
        (million, "archive-bomb"),
        (zip(&[("ok", b"x"), ("../evil", b"x")]), "archive-unsafe-path"),
        ([member("ok", b"x"), member("/evil", b"x")].concat(), "archive-unsafe-path"),
        (zip(&[("a", b"x")])[..60].to_vec(), "document-damaged"),
    ] {
        client.post("/v1/process/archive", &archive).problem(422, slug);
        if !archive.windows(8).any(|bytes| bytes == b"deep.zip") {
            let answer = client.post("/v1/process/archive?op=extract&member=absent", &archive);
            answer.problem(422, slug);
        }
    }
    gateway.is_empty_again();
}

#[test]
fn a_member_flows_while_the_archive_is_still_being_sent_and_is_cut_when_it_turns_bad() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let content = noise(8 << 20);
    let path = "/v1/process/archive?op=extract&member=big";
    let mut wire = client.ask("POST", path).chunked().begin(None);
    let mut sender = wire.sender();
    let send = |sender: &mut std::net::TcpStream, part: &[u8]| {
        let chunk = [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
        sender.write_all(&chunk).unwrap();
    };
    std::thread::scope(|scope| {
        let content = &content;
        scope.spawn(move || {
            send(&mut sender, &member("big", content));
            // A second member that would leave the folder, when the first has long been given.
            send(&mut sender, &member("../evil", b"x"));
            // Nobody may be there any more to hear it.
            let _ = sender.write_all(b"0\r\n\r\n");
        });
        let head = wire.head();
        assert_eq!(head.status, 200);
        assert!(!wire.body(&head).whole, "a bad archive never looks whole");
    });
    // Documents are read while an archive keeps its worker waiting.
    let mut slow = client.ask("POST", path).chunked().begin(None);
    let mut slow_sender = slow.sender();
    send(&mut slow_sender, &member("big", &content)[..1 << 20]);
    assert_eq!(slow.head().status, 200);
    let words = client.post("/v1/process/text", &pdf(&["still read"])).expect(200);
    assert!(words.body_text().contains("still read"));
    slow.reset();
    drop(slow_sender);
    gateway.is_empty_again();
}
