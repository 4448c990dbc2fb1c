//! Metadata and scrub: what a file tells is told, then taken out, as other people's tools see it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::{Client, TestGateway, pdf, skip, zip};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The judge's own Python with Pillow, if everything it asks is installed.
fn judge() -> Option<PathBuf> {
    let python = std::env::var("DAYFLY_PYTHON").unwrap_or_else(|_| format!("{ROOT}/target/python"));
    let python = Path::new(&python).join("bin/python");
    let there = |command: &mut Command| command.output().is_ok_and(|ran| ran.status.success());
    let whole = there(Command::new(&python).args(["-c", "import PIL"]))
        && there(Command::new("exiftool").arg("-ver"))
        && Command::new("pdftotext").arg("-v").output().is_ok();
    if !whole {
        skip("the judges of scrub: tests/run installs exiftool, poppler and Pillow");
    }
    whole.then_some(python)
}

/// Runs the judge; its output.
fn judged(python: &Path, arguments: &[&Path], command: &str) -> String {
    let mut judge = Command::new(python);
    let ran = judge.arg(format!("{ROOT}/tests/scrub.py")).arg(command).args(arguments);
    let ran = ran.output().unwrap();
    let out = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success(), "{out}\n{}", String::from_utf8_lossy(&ran.stderr));
    out
}

/// A Word document with everything in it that names people; `Jane` is in nothing else.
fn telling_docx() -> Vec<u8> {
    let types = "<?xml version=\"1.0\"?><Types xmlns=\"http://schemas.openxmlformats.org/package/\
        2006/content-types\"><Default Extension=\"rels\" ContentType=\"application/vnd.openxmlform\
        ats-package.relationships+xml\"/><Default Extension=\"jpeg\" ContentType=\"image/jpeg\"/>\
        <Default Extension=\"xml\" ContentType=\"application/xml\"/>\
        <Override PartName=\"/word/document.xml\" ContentType=\"application/vnd.openxmlformats-\
        officedocument.wordprocessingml.document.main+xml\"/><Override PartName=\"/docProps/core.\
        xml\" ContentType=\"application/vnd.openxmlformats-package.core-properties+xml\"/></Types>";
    let relation = |id: &str, kind: &str, target: &str| {
        format!(
            "<Relationship Id=\"{id}\" Type=\"http://schemas.openxmlformats.org/officeDocument/\
             2006/relationships/{kind}\" Target=\"{target}\"/>"
        )
    };
    let relations = |inner: &str| {
        format!(
            "<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\">\
             {inner}</Relationships>"
        )
    };
    let package = relations(
        &[
            relation("r1", "officeDocument", "word/document.xml"),
            relation("r2", "metadata/core-properties", "docProps/core.xml"),
        ]
        .concat(),
    );
    let document = relations(
        &[
            relation("r1", "comments", "comments.xml"),
            relation("r2", "settings", "settings.xml"),
            relation("r3", "image", "media/image1.jpeg"),
        ]
        .concat(),
    );
    let core = "<cp:coreProperties xmlns:cp=\"http://schemas.openxmlformats.org/package/2006/metad\
        ata/core-properties\" xmlns:dc=\"http://purl.org/dc/elements/1.1/\"><dc:creator>Jane</dc:cr\
        eator></cp:coreProperties>";
    let main = "xmlns:w=\"http://schemas.openxmlformats.org/wordprocessingml/2006/main\"";
    let body = format!(
        "<?xml version=\"1.0\"?><w:document {main}><w:body><w:p w:rsidR=\"00A1\"><w:commentRangeSt\
         art w:id=\"0\"/><w:r><w:t>Kept text</w:t></w:r><w:commentRangeEnd w:id=\"0\"/><w:ins w:id=\
         \"1\" w:author=\"Jane\" w:date=\"2020-01-01T00:00:00Z\"><w:r><w:t> inserted</w:t></w:r>\
         </w:ins></w:p></w:body></w:document>"
    );
    let comments = format!("<w:comments {main}><w:comment w:author=\"Jane\"/></w:comments>");
    let settings = format!(
        "<w:settings {main}><w:rsids><w:rsid w:val=\"00A1\"/></w:rsids><!-- Jane --></w:settings>"
    );
    let image = jpeg(b"Jane was here");
    zip(&[
        ("[Content_Types].xml", types.as_bytes()),
        ("_rels/.rels", package.as_bytes()),
        ("docProps/core.xml", core.as_bytes()),
        ("word/document.xml", body.as_bytes()),
        ("word/_rels/document.xml.rels", document.as_bytes()),
        ("word/comments.xml", comments.as_bytes()),
        ("word/settings.xml", settings.as_bytes()),
        ("word/media/image1.jpeg", &image),
        ("[trash]/0000.dat", b"Jane"),
    ])
}

/// A JPEG of one grey block with a comment. Small, and as whole as decoders want it.
fn jpeg(comment: &[u8]) -> Vec<u8> {
    let mut bytes = b"\xff\xd8\xff\xfe".to_vec();
    let length = u16::try_from(comment.len() + 2).unwrap();
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(comment);
    bytes.extend_from_slice(b"\xff\xdb\0\x43\0");
    bytes.extend_from_slice(&[1; 64]);
    bytes.extend_from_slice(b"\xff\xc0\0\x0b\x08\0\x08\0\x08\x01\x01\x11\0");
    for class in [0x00, 0x10] {
        bytes.extend_from_slice(b"\xff\xc4\0\x14");
        bytes.extend_from_slice(&[class, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
    bytes.extend_from_slice(b"\xff\xda\0\x08\x01\x01\0\0\x3f\0\x3f\xff\xd9");
    bytes
}

fn metadata(client: &Client, document: &[u8]) -> Value {
    client.post("/v1/process/metadata", document).expect(200).json()
}

#[track_caller]
fn is_silent(said: &Value) {
    for key in ["author", "device", "place", "time", "software", "text", "hidden", "other"] {
        assert_eq!(said[key], serde_json::json!([]), "{key}");
    }
}

#[test]
fn planted_authors_places_and_devices_are_gone_for_exiftool_and_the_pixels_the_same() {
    let Some(python) = judge() else { return };
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (before, after) = (folder.path().join("before"), folder.path().join("after"));
    judged(&python, &[&before], "make");
    std::fs::create_dir(&after).unwrap();
    std::fs::write(before.join("telling.docx"), telling_docx()).unwrap();
    let gateway = TestGateway::start();
    let client = gateway.client();
    let mut count = 0;
    for entry in std::fs::read_dir(&before).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let document = std::fs::read(&path).unwrap();
        let told = metadata(&client, &document).to_string();
        let author = if name.ends_with("docx") { "Jane" } else { "Jane Q. Planted" };
        assert!(told.contains(author), "{name}: {told}");
        if name == "planted.jpg" {
            for planted in ["SN-4711-PLANTED", "47.376", "2020-02-03T04:05:06", "Planter 1.0"] {
                assert!(told.contains(planted), "{planted}: {told}");
            }
        }
        let answer = client.post("/v1/process/scrub", &document).expect(200);
        is_silent(&metadata(&client, &answer.body));
        let again = client.post("/v1/process/scrub", &answer.body).expect(200);
        assert!(name.ends_with("pdf") || again.body == answer.body, "{name}: scrubbed twice");
        std::fs::write(after.join(&name), &answer.body).unwrap();
        count += 1;
    }
    let said = judged(&python, &[&before, &after], "judge");
    assert!(said.ends_with(&format!("planted {}\njudged {count}\n", count - 1)), "{said}");
    gateway.is_empty_again();
}

#[test]
fn the_corpus_is_scrubbed_to_nothing_or_refused() {
    let corpus = Path::new(ROOT).join("../shared/corpus/documents");
    let Ok(documents) = std::fs::read_dir(&corpus) else {
        return skip("the corpus of documents is not here");
    };
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let gateway = TestGateway::start();
    let client = gateway.client();
    let mut scrubbed = 0;
    for entry in documents {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let document = std::fs::read(&path).unwrap();
        for step in ["metadata", "archive", "scrub"] {
            let answer = client.post(format!("/v1/process/{step}"), &document);
            assert!([200, 415, 422].contains(&answer.status), "{name} {step}: {}", answer.status);
            if answer.status == 422 {
                assert_ne!(answer.json()["type"], "/problems/processor-limit", "{name} {step}");
            }
            if step == "scrub" && answer.status == 200 {
                std::fs::write(folder.path().join(&name), &answer.body).unwrap();
                scrubbed += 1;
            }
        }
    }
    gateway.is_empty_again();
    assert!(scrubbed >= 70, "{scrubbed}");
    let Some(python) = judge() else { return };
    let said = judged(&python, &[&corpus, folder.path()], "judge");
    assert!(said.ends_with(&format!("judged {scrubbed}\n")), "{said}");
}

#[test]
fn an_office_document_keeps_its_words_and_loses_its_people() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let document = telling_docx();
    assert!(metadata(&client, &document)["author"].to_string().contains("Jane"));
    let clean = client.post("/v1/process/scrub", &document).expect(200);
    let kind = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
    assert_eq!(clean.header("content-type"), Some(kind));
    let mut archive = ::zip::ZipArchive::new(std::io::Cursor::new(&clean.body)).unwrap();
    for at in 0..archive.len() {
        let mut content = Vec::new();
        std::io::copy(&mut archive.by_index(at).unwrap(), &mut content).unwrap();
        assert!(!content.windows(4).any(|bytes| bytes == b"Jane"), "member {at}");
    }
    let words = client.post("/v1/process/text", &clean.body).expect(200).body_text();
    assert!(words.contains("Kept text inserted"), "{words:?}");
    is_silent(&metadata(&client, &clean.body));
    gateway.is_empty_again();
}

#[test]
fn a_pdf_is_written_anew() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let plain = pdf(&["Words that stay"]);
    // An earlier state, an author, a script and a file, appended as editors do.
    let base = plain.len();
    let mut document = plain.clone();
    document.extend_from_slice(
        b"1 0 obj\n<< /Type /Catalog /Pages 2 0 R /OpenAction << /S /JavaScript /JS (app.alert\\(1\
          \\)) >> /Names << /EmbeddedFiles << /Names [(secret.txt) 9 0 R] >> >> >>\nendobj\n",
    );
    let information = document.len();
    document.extend_from_slice(b"8 0 obj\n<< /Author (Jane Planted) /Producer (Pen) >>\nendobj\n");
    let table = document.len();
    let old = String::from_utf8_lossy(&plain).into_owned();
    let start = old.rsplit("startxref\n").next().unwrap().lines().next().unwrap().to_owned();
    document.extend_from_slice(
        format!(
            "xref\n1 1\n{base:010} 00000 n \n8 1\n{information:010} 00000 n \ntrailer\n<< /Size 10 \
             /Root 1 0 R /Info 8 0 R /Prev {start} >>\nstartxref\n{table}\n%%EOF\n"
        )
        .as_bytes(),
    );
    let told = metadata(&client, &document);
    assert_eq!(told["author"][0]["value"], "Jane Planted", "{told}");
    assert!(told["hidden"].to_string().contains("earlier versions"), "{told}");
    assert!(told["hidden"].to_string().contains("a script"), "{told}");
    let clean = client.post("/v1/process/scrub", &document).expect(200);
    is_silent(&metadata(&client, &clean.body));
    let raw = String::from_utf8_lossy(&clean.body);
    for gone in ["Jane", "JavaScript", "EmbeddedFiles", "/Prev"] {
        assert!(!raw.contains(gone), "{gone}");
    }
    let words = client.post("/v1/process/text", &clean.body).expect(200).body_text();
    assert!(words.contains("Words that stay"), "{words:?}");
    gateway.is_empty_again();
}

#[test]
fn hostile_images_are_refused_before_anybody_decodes_them() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let flood = |mut image: Vec<u8>, at: usize| {
        image[at..at + 4].fill(0xff);
        image
    };
    let small = jpeg(b"x");
    let frame = small.windows(2).position(|two| two == b"\xff\xc0").unwrap();
    let png =
        b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\x7f\xff\xff\xff\x7f\xff\xff\xff\x08\x02\0\0\0\0\0\0\0";
    let tiff = [
        &b"II*\0\x08\0\0\0\x02\0\0\x01\x04\0\x01\0\0\0\xff\xff\0\0"[..],
        b"\x01\x01\x04\0\x01\0\0\0\xff\xff\0\0\0\0\0\0",
    ]
    .concat();
    for image in [flood(small.clone(), frame + 5), png.to_vec(), tiff] {
        client.post("/v1/process/scrub", &image).problem(422, "image-too-large");
    }
    let gif = b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\0;".to_vec();
    client.post("/v1/process/scrub", &gif).problem(422, "image-too-large");
    let looping = b"II*\0\x08\0\0\0\0\0\x08\0\0\0".to_vec();
    for image in [b"\xff\xd8\xff\xe0".to_vec(), small[..30].to_vec(), looping, png[..20].to_vec()] {
        let answer = client.post("/v1/process/scrub", &image);
        assert!([415, 422].contains(&answer.status), "{}", answer.status);
    }
    client.post("/v1/process/scrub", &small).expect(200);
    gateway.is_empty_again();
}

#[test]
fn a_job_scrubs_too_and_keeps_nothing_between() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let file = client.upload("?name=a.jpg", &jpeg(b"Jane was here"));
    let order = serde_json::json!({ "source": { "file": file }, "steps": ["scrub"] }).to_string();
    let ask = client.ask("POST", "/v1/jobs").header("Content-Type", "application/json");
    let job = ask.body(order.as_bytes()).send().expect(202).text("id");
    let ended = crate::harness::eventually("the job ends", || {
        let job = client.get(format!("/v1/jobs/{job}")).expect(200).json();
        (job["state"] != "queued" && job["state"] != "running").then_some(job)
    });
    assert_eq!(ended["state"], "succeeded", "{ended}");
    let output = ended["outputs"][0]["id"].as_str().unwrap();
    is_silent(&metadata(&client, &client.download(output).expect(200).body));
}
