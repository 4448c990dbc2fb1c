//! Archives that are what they say, and archives that are not.

use std::io::{Cursor, Write};

use super::*;

fn served(member: Option<&str>, archive: &[u8]) -> (Result<(), Fault>, Vec<u8>) {
    let member = member.map(|member| ("member".to_owned(), member.to_owned()));
    let request = Request {
        options: member.into_iter().collect(),
        max_document: 64 << 20,
        max_output: 64 << 20,
        ..Request::default()
    };
    let mut output = Vec::new();
    (serve(&request, archive, &mut output), output)
}

/// The data of all frames, or the fault.
fn answer(member: Option<&str>, archive: &[u8]) -> Result<Vec<u8>, Fault> {
    let (done, output) = served(member, archive);
    done?;
    let (mut data, mut rest) = (Vec::new(), &output[..]);
    while let [kind, a, b, c, d, after @ ..] = rest {
        let length = usize::try_from(u32::from_le_bytes([*a, *b, *c, *d])).unwrap();
        if *kind == 2 {
            data.extend_from_slice(&after[..length]);
        }
        rest = &after[length..];
    }
    Ok(data)
}

fn names(archive: &[u8]) -> Result<Vec<String>, Fault> {
    let json: serde_json::Value = serde_json::from_slice(&answer(None, archive)?).unwrap();
    let members = json["members"].as_array().unwrap().iter();
    Ok(members.map(|member| member["name"].as_str().unwrap().to_owned()).collect())
}

fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ::zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in members {
        writer.start_file(*name, ::zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn header(name: &str, kind: u8, size: u64, link: &str) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[156] = kind;
    block[157..157 + link.len()].copy_from_slice(link.as_bytes());
    block[257..263].copy_from_slice(b"ustar\0");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn member(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = header(name, kind, content.len() as u64, "");
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn tar(members: &[Vec<u8>]) -> Vec<u8> {
    [members.concat(), vec![0; 1024]].concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

#[test]
fn members_are_listed_and_given_from_every_format() {
    let plain = tar(&[member("a/b.txt", b'0', b"hello"), member("c", b'0', &[7; 1000])]);
    let packed = zip(&[("a/b.txt", b"hello"), ("c", &[7; 1000])]);
    for archive in [&plain, &packed, &gzip(&plain)] {
        assert_eq!(names(archive).unwrap(), ["a/b.txt", "c"]);
        assert_eq!(answer(Some("a/b.txt"), archive).unwrap(), b"hello");
        assert_eq!(answer(Some("c"), archive).unwrap(), [7; 1000]);
        assert_eq!(answer(Some("b.txt"), archive), Err(Fault::NoMember));
    }
    assert_eq!(names(&gzip(b"just a text")).unwrap(), ["content"]);
    assert_eq!(answer(Some("content"), &gzip(b"just a text")).unwrap(), b"just a text");
    assert_eq!(names(b"no archive"), Err(Fault::Unsupported));
    assert_eq!(names(b""), Err(Fault::Unsupported));
    assert_eq!(names(&[0xff; 1024]), Err(Fault::Unsupported));
}

#[test]
fn archives_inside_are_looked_into_to_a_depth() {
    let one = zip(&[("deep.txt", b"deep")]);
    let two = gzip(&tar(&[member("one.zip", b'0', &one), member("x", b'0', b"x")]));
    let three = zip(&[("two.tgz", &two), ("y", b"y")]);
    let expected = ["two.tgz", "two.tgz!/one.zip", "two.tgz!/one.zip!/deep.txt", "two.tgz!/x", "y"];
    assert_eq!(names(&three).unwrap(), expected);
    assert_eq!(answer(Some("two.tgz!/one.zip!/deep.txt"), &three).unwrap(), b"deep");
    assert_eq!(answer(Some("two.tgz!/one.zip"), &three).unwrap(), one);
    assert_eq!(names(&zip(&[("three.zip", &three)])), Err(Fault::Bomb));
    let document = zip(&[("[Content_Types].xml", b"x"), ("word/document.xml", b"x")]);
    assert_eq!(names(&zip(&[("a.docx", &document)])).unwrap(), ["a.docx"]);
}

#[test]
fn unsafe_paths_and_links_refuse_either_way() {
    let good = member("good", b'0', b"x");
    let link = |kind, target: &str| header("link", kind, 0, target);
    for bad in [
        member("../evil", b'0', b"x"),
        member("/evil", b'0', b"x"),
        member("a/../../evil", b'0', b"x"),
        link(b'2', "/etc/passwd"),
        link(b'2', "../up"),
        link(b'1', "/etc/passwd"),
        header("device", b'3', 0, ""),
        header("pipe", b'6', 0, ""),
        [link(b'2', "folder"), member("link/x", b'0', b"x")].concat(),
    ] {
        let archive = tar(&[good.clone(), bad]);
        assert_eq!(names(&archive), Err(Fault::UnsafePath));
        assert_eq!(answer(Some("good"), &archive), Err(Fault::UnsafePath));
    }
    let archive = zip(&[("good", b"x"), ("../evil", b"x")]);
    let (done, output) = served(Some("good"), &archive);
    assert_eq!((done, output.len()), (Err(Fault::UnsafePath), 0), "before the head");
    assert_eq!(names(&archive), Err(Fault::UnsafePath));
    let safe = tar(&[good, link(b'2', "good")]);
    assert_eq!(names(&safe).unwrap(), ["good", "link"]);
    assert_eq!(answer(Some("link"), &safe), Err(Fault::NoMember));
}

#[test]
fn a_tar_that_says_two_things_is_refused() {
    let pax = |records: &str| member("pax", b'x', records.as_bytes());
    let file = member("name", b'0', b"content");
    let cases = [
        [pax("12 size=999\n"), file.clone()].concat(),
        [pax("14 path=other\n"), member("l", b'L', b"longer\0"), file.clone()].concat(),
        [member("g", b'g', b"12 size=999\n"), file.clone()].concat(),
        [pax("99 path=other\n"), file.clone()].concat(),
        header("folder/", b'5', 512, ""),
        header("link", b'1', 512, "name"),
    ];
    for case in cases {
        assert_eq!(names(&tar(&[case])), Err(Fault::Damaged));
    }
    assert_eq!(names(&tar(&[pax("14 path=other\n"), file.clone()])).unwrap(), ["other"]);
    let hidden = [tar(std::slice::from_ref(&file)), tar(&[member("hidden", b'0', b"x")])].concat();
    assert_eq!(names(&hidden), Err(Fault::Damaged));
    let twice = tar(&[file.clone(), file.clone()]);
    assert_eq!(names(&twice).unwrap(), ["name", "name"]);
    assert_eq!(answer(Some("name"), &twice), Err(Fault::NoMember));
    let cut = &file[..file.len() - 300];
    assert_eq!(names(cut), Err(Fault::Damaged));
    assert_eq!(names(&tar(&[member("s", b'S', b"")])), Err(Fault::Unsupported));
}

#[test]
fn bombs_are_refused() {
    let zeros = vec![0; 64 << 20];
    assert_eq!(names(&gzip(&zeros)), Err(Fault::Bomb));
    assert_eq!(answer(Some("content"), &gzip(&zeros)), Err(Fault::Bomb));
    assert_eq!(names(&zip(&[("zeros", &zeros)])), Err(Fault::Bomb));
    let (done, output) = served(Some("zeros"), &zip(&[("zeros", &zeros)]));
    assert_eq!((done, output.len()), (Err(Fault::Bomb), 0), "before the head");
    let many: Vec<Vec<u8>> =
        (0..=MAX_MEMBERS).map(|n| header(&format!("n{n}"), b'0', 0, "")).collect();
    assert_eq!(names(&tar(&many)), Err(Fault::Bomb));
    // A directory that claims a million entries.
    let mut many = zip(&[("a", b"x")]);
    let end = many.len() - 22;
    many[end + 8..end + 12].copy_from_slice(&[0xff; 4]);
    assert_eq!(names(&many), Err(Fault::Damaged));
}

#[test]
fn a_stream_that_breaks_never_looks_whole() {
    let mut packed = gzip(&tar(&[member("a", b'0', b"hello")]));
    let last = packed.len() - 6;
    packed[last] ^= 1;
    assert_eq!(answer(Some("a"), &packed), Err(Fault::Damaged));
    let (_, output) = served(Some("a"), &packed);
    assert!(!output.ends_with(&[3, 0, 0, 0, 0]), "no end was told");
}
