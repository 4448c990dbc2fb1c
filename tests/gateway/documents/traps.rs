//! Documents made to harm their reader: each gets its refusal, or a text without anything of the
//! machine, in bounded time and memory, and nobody is called.

use std::fmt::Write as _;
use std::io::{Cursor, Write};
use std::net::TcpListener;

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::sample::{open_document, workbook, zip};
use super::{LONGEST, outcome};
use crate::harness::{TestGateway, is_long_tier, tell};

/// A trap, and every way it may end.
struct Trap {
    name: &'static str,
    bytes: Vec<u8>,
    ends: &'static [&'static str],
}

fn trap(name: &'static str, bytes: impl Into<Vec<u8>>, ends: &'static [&'static str]) -> Trap {
    Trap { name, bytes: bytes.into(), ends }
}

const COMPLEX: &str = "document-too-complex";
const BOMB: &str = "archive-bomb";
const DAMAGED: &str = "document-damaged";
const LIMIT: &str = "processor-limit";

/// Where the reader may go round the trap, and need not.
const ANY: &[&str] = &["ok", COMPLEX, DAMAGED, LIMIT, BOMB];

fn springs(traps: Vec<Trap>) {
    let gateway = TestGateway::start();
    let client = gateway.client();
    for Trap { name, bytes, ends } in traps {
        let began = std::time::Instant::now();
        let said = outcome(&client, "/v1/process/text", &bytes, name);
        tell(&format!("trap {name}: {said} after {:.1?}", began.elapsed()));
        assert!(ends.contains(&said.as_str()), "{name}: {said}");
        let kind = outcome(&client, "/v1/process/detect", &bytes, name);
        assert!(["ok", LIMIT].contains(&kind.as_str()), "{name}: detect says {kind}");
        assert!(began.elapsed() < LONGEST, "{name}");
    }
    assert_eq!(outcome(&client, "/v1/process/text", b"still here\n", "afterwards"), "ok");
    gateway.is_empty_again();
}

/// A Word document around one part of `length` equal bytes.
fn bomb(length: usize) -> Vec<u8> {
    zip(&[("[Content_Types].xml", ""), ("word/document.xml", &" ".repeat(length))])
}

/// A zip of many empty members.
fn crowd(members: usize) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    writer.start_file("[Content_Types].xml", stored).unwrap();
    for member in 0..members {
        writer.start_file(format!("word/{member}"), stored).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A million directory entries that all point at one member, written by hand.
fn overlapping(entries: u32) -> Vec<u8> {
    let member = b"word/document.xml";
    let length = u16::try_from(member.len()).unwrap().to_le_bytes();
    let mut file = b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([length[0], length[1], 0, 0]);
    file.extend(member);
    let begin = u32::try_from(file.len()).unwrap();
    for entry in 0..entries {
        file.extend(b"PK\x01\x02\x14\0\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        file.extend([8, 0]);
        file.extend([0; 16]);
        file.extend(format!("{entry:08}").as_bytes());
    }
    let size = u32::try_from(file.len()).unwrap() - begin;
    // A zip64 record, and the one that leads to it.
    let record = u64::try_from(file.len()).unwrap();
    file.extend(b"PK\x06\x06\x2c\0\0\0\0\0\0\0\x2d\0\x2d\0\0\0\0\0\0\0\0\0");
    for number in [u64::from(entries), u64::from(entries), size.into(), begin.into()] {
        file.extend(number.to_le_bytes());
    }
    file.extend(b"PK\x06\x07\0\0\0\0");
    file.extend(record.to_le_bytes());
    file.extend(
        b"\x01\0\0\0PK\x05\x06\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0",
    );
    file
}

/// A zip whose zip64 record claims what cannot be.
fn zip64_lie() -> Vec<u8> {
    let mut file = bomb(10);
    let end = file.len() - 22;
    let mut lie = b"PK\x06\x06\x2c\0\0\0\0\0\0\0\x2d\0\x2d\0\0\0\0\0\0\0\0\0".to_vec();
    lie.extend([0xff; 32]);
    lie.extend(b"PK\x06\x07\0\0\0\0");
    lie.extend(u64::try_from(end).unwrap().to_le_bytes());
    lie.extend(b"\x01\0\0\0PK\x05\x06\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0");
    file.truncate(end);
    file.extend(lie);
    file
}

#[test]
fn zips_that_unpack_to_too_much_or_lie_of_their_size_are_refused() {
    let inner = bomb(8 << 20);
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut nested = ZipWriter::new(Cursor::new(Vec::new()));
    for number in 0..200 {
        nested.start_file(format!("{number}.zip"), stored).unwrap();
        nested.write_all(&inner).unwrap();
    }
    let nested = nested.finish().unwrap().into_inner();
    let far = "<worksheet><dimension ref=\"A1:XFD1048576\"/><sheetData><row r=\"1048576\">\
        <c r=\"XFD1048576\"><v>1</v></c></row></sheetData></worksheet>";
    let wide: String = (0..16_384).map(|_| "<c><v>1</v></c>").collect();
    let row = |row: usize| format!("<row><c r=\"XFD{row}\"><v>1</v></c></row>");
    let tall: String = (2..50_000).map(row).collect();
    let tabs = format!("<worksheet><sheetData><row>{wide}</row>{tall}</sheetData></worksheet>");
    springs(vec![
        trap("a bomb", bomb(200 << 20), &[BOMB]),
        trap("zips in a zip", nested, &["unsupported-media-type"]),
        trap("50 000 members", crowd(50_000), &[COMPLEX]),
        trap(
            "a million overlapping entries",
            overlapping(1_000_000),
            &[COMPLEX, "unsupported-media-type"],
        ),
        trap("zip64 lies", zip64_lie(), &[DAMAGED]),
        trap("a cell far out", workbook(far), &["ok"]),
        trap("a sheet of tabs", workbook(&tabs), &[LIMIT, BOMB]),
    ]);
}

#[test]
fn markup_that_grows_nests_or_floods_is_refused_or_harmless() {
    let mut laughs = "<!DOCTYPE l [<!ENTITY l0 \"lol\">".to_owned();
    for level in 1..20 {
        write!(laughs, "<!ENTITY l{level} \"{}\">", format!("&l{};", level - 1).repeat(10))
            .unwrap();
    }
    let laughs = format!("{laughs}]><o:x><text:p>a&l19;b</text:p></o:x>");
    let attributes: String = (0..300_000).map(|n| format!(" a{n}=\"\"")).collect();
    let repeats = "<t><table:table><table:table-row table:number-rows-repeated=\"1000000\">\
        <table:table-cell table:number-columns-repeated=\"1000000\"><text:p>x</text:p>\
        </table:table-cell></table:table-row></table:table></t>";
    let spaces =
        format!("<t><text:p>{}</text:p></t>", "<text:s text:c=\"999999999\"/>".repeat(1000));
    springs(vec![
        trap("billion laughs", open_document("text", &laughs), &["ok", DAMAGED]),
        trap(
            "a flood of attributes",
            open_document(
                "text",
                &format!("<o:x{attributes}><text:p{attributes}>a</text:p></o:x>"),
            ),
            &["ok"],
        ),
        trap("deep XML", open_document("text", &"<a>".repeat(1_000_000)), &[COMPLEX]),
        trap("deep HTML", "<div>".repeat(1_000_000).into_bytes(), &[COMPLEX]),
        trap("repeated cells", open_document("spreadsheet", repeats), &["ok"]),
        trap("repeated spaces", open_document("text", &spaces), &["ok"]),
        trap("open groups", format!("{{\\rtf1{}", "{".repeat(5_000_000)), &[COMPLEX]),
        trap("binary beyond the end", b"{\\rtf1 a\\bin9999999999999 x}".to_vec(), &["ok"]),
        trap(
            "a flood of fonts",
            format!("{{\\rtf1{{\\fonttbl{}}}a}}", "{\\f1\\fcharset238 x;}".repeat(500_000)),
            &["ok"],
        ),
    ]);
}

#[test]
fn mails_that_nest_or_flood_are_refused_or_read_in_time() {
    let head = "From: a@example.org\nSubject: b\n";
    let mut nested = head.to_owned();
    for level in 0..1000 {
        write!(nested, "Content-Type: multipart/mixed; boundary=b{level}\n\n--b{level}\n").unwrap();
    }
    let base64 = format!(
        "{head}Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\n{}",
        "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB\n".repeat(600_000)
    );
    let parts = format!(
        "{head}Content-Type: multipart/mixed; boundary=x\n\n{}",
        "--x\nContent-Type: text/plain\n\na\n".repeat(500_000)
    );
    let fields = format!("{head}{}\nbody\n", "X-Field: =?utf-8?Q?a?=\n".repeat(500_000));
    springs(vec![
        trap("nested parts", nested, &[COMPLEX]),
        trap(
            "nested mails",
            format!("{head}{}", "Content-Type: message/rfc822\n\n".repeat(100_000)),
            &[COMPLEX],
        ),
        trap("a flood of base64", base64, &["ok", LIMIT]),
        trap("a flood of parts", parts, &[COMPLEX]),
        trap("a flood of fields", fields, &["ok"]),
    ]);
}

/// A PDF of these objects, the first of which is its catalogue.
fn pdf(objects: &[String], trailer: &str) -> Vec<u8> {
    let mut file = b"%PDF-1.7\n".to_vec();
    let mut places = Vec::new();
    for (at, object) in objects.iter().enumerate() {
        places.push(file.len());
        write!(file, "{} 0 obj\n{object}\nendobj\n", at + 1).unwrap();
    }
    let table = file.len();
    write!(file, "xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).unwrap();
    places.iter().for_each(|place| writeln!(file, "{place:010} 00000 n ").unwrap());
    let size = objects.len() + 1;
    let trailer = trailer.replace("TABLE", &table.to_string());
    let trailer =
        format!("trailer\n<< /Size {size} /Root 1 0 R {trailer} >>\nstartxref\n{table}\n%%EOF\n");
    file.extend_from_slice(trailer.as_bytes());
    file
}

/// More pages than a document may have: a million in the long tier.
fn crowded() -> Vec<u8> {
    let pages = if is_long_tier() { 1_000_000 } else { 60_000 };
    let kids = (3..pages + 3).fold(String::new(), |mut kids, page| {
        write!(kids, "{page} 0 R ").unwrap();
        kids
    });
    let tree = format!("<< /Type /Pages /Count {pages} /Kids [{kids}] >>");
    let page = "<< /Type /Page /Parent 2 0 R >>".to_owned();
    let objects = [CATALOG.to_owned(), tree].into_iter().chain(std::iter::repeat_n(page, pages));
    pdf(&objects.collect::<Vec<_>>(), "")
}

const CATALOG: &str = "<< /Type /Catalog /Pages 2 0 R >>";
const TREE: &str = "<< /Type /Pages /Kids [3 0 R] /Count 1 >>";

#[test]
fn pdfs_that_turn_in_circles_or_nest_are_refused_or_read_in_time() {
    let page = |contents: &str| format!("<< /Type /Page /Parent 2 0 R {contents} >>");
    let one_page = |contents: &str, more: &[String]| {
        let mut objects = vec![CATALOG.to_owned(), TREE.to_owned(), page(contents)];
        objects.extend_from_slice(more);
        pdf(&objects, "")
    };
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let filters = format!(
        "<< /Length 0 /Filter [{}] >>\nstream\n\nendstream",
        "/FlateDecode ".repeat(100_000)
    );
    let kids = (0..1_000_000).map(|_| "3 0 R").collect::<Vec<_>>().join(" ");
    let many =
        [CATALOG.to_owned(), format!("<< /Type /Pages /Count 1000000 /Kids [{kids}] >>"), page("")];
    let circle = [CATALOG.to_owned(), "<< /Type /Pages /Kids [2 0 R 2 0 R] /Count 2 >>".to_owned()];
    springs(vec![
        trap("deep arrays", one_page(&format!("/X {deep}"), &[]), ANY),
        trap(
            "a table that leads to itself",
            pdf(&[CATALOG.into(), TREE.into(), page("")], "/Prev TABLE"),
            ANY,
        ),
        trap("a tree that holds itself", pdf(&circle, ""), &[DAMAGED, COMPLEX]),
        trap("a chain of filters", one_page("/Contents 4 0 R", &[filters]), ANY),
        trap("a page a million times", pdf(&many, ""), &["ok", COMPLEX]),
        trap("too many pages", crowded(), &[COMPLEX, LIMIT]),
        trap(
            "a length that leads to itself",
            one_page("/Contents 4 0 R", &["<< /Length 4 0 R >>\nstream\nBT\nendstream".into()]),
            ANY,
        ),
        trap(
            "a reference to itself",
            one_page("/Contents 4 0 R /Resources 4 0 R", &["4 0 R".into()]),
            ANY,
        ),
    ]);
}

#[test]
fn nothing_is_fetched_and_no_file_of_the_machine_is_read() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    let entity = format!(
        "<!DOCTYPE x [<!ENTITY f SYSTEM \"file:///etc/passwd\"><!ENTITY u SYSTEM \"{url}\">\
         <!ENTITY % p SYSTEM \"{url}\"> %p;]>"
    );
    let relation = format!(
        "<Relationships><Relationship Id=\"a\" Type=\"x/header\" TargetMode=\"External\" \
         Target=\"{url}\"/><Relationship Id=\"b\" Type=\"x/footer\" Target=\"../../../../etc/passwd\"/>\
         <Relationship Id=\"c\" Type=\"x/comments\" Target=\"file:///etc/passwd\"/></Relationships>"
    );
    let body = "<w:document><w:p><w:r><w:t>a&f;&u;</w:t></w:r></w:p></w:document>";
    let documents = [
        zip(&[
            ("[Content_Types].xml", ""),
            ("word/document.xml", &format!("{entity}{body}")),
            ("word/_rels/document.xml.rels", &relation),
        ]),
        open_document("text", &format!("{entity}<o:x><text:p>a&f;&u;</text:p></o:x>")),
        format!(
            "<!doctype html><p>a<img src=\"{url}\"><iframe src=\"file:///etc/passwd\"></iframe>\
             <link rel=stylesheet href=\"{url}\"><script src=\"{url}\"></script>"
        )
        .into(),
        format!(
            "{{\\rtf1 a{{\\field{{\\*\\fldinst INCLUDETEXT \"/etc/passwd\"}}{{\\fldrslt }}}}\
             {{\\field{{\\*\\fldinst INCLUDEPICTURE \"{url}\"}}{{\\fldrslt }}}}}}"
        )
        .into(),
        format!(
            "From: a@example.org\nSubject: a\nContent-Type: message/external-body; \
             access-type=local-file; name=\"/etc/passwd\"\n\n{url}\n"
        )
        .into(),
    ];
    let gateway = TestGateway::start();
    let client = gateway.client();
    for document in documents {
        let text = client.post("/v1/process/text", &document).expect(200).body_text();
        assert!(text.contains('a') && !text.contains("root:"), "{text:?}");
    }
    assert!(listener.accept().is_err(), "somebody was called");
    gateway.is_empty_again();
}
