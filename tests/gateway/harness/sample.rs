//! Things to send: noise, small documents, and texts that can be recognised wherever they rest.

use std::io::{Cursor, Write};

use ::zip::ZipWriter;
use ::zip::write::SimpleFileOptions;

/// Bytes that look random and are the same every time.
pub fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut bytes);
    bytes
}

/// A PDF with one line of text on each page.
pub fn pdf(pages: &[&str]) -> Vec<u8> {
    let kids: Vec<String> = (0..pages.len()).map(|at| format!("{} 0 R", 4 + 2 * at)).collect();
    let mut objects = vec![
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        format!("<< /Type /Pages /Kids [{}] /Count {} >>", kids.join(" "), pages.len()),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>".into(),
    ];
    for (at, text) in pages.iter().enumerate() {
        objects.push(format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents {} 0 R \
             /Resources << /Font << /F1 3 0 R >> >> >>",
            5 + 2 * at
        ));
        let content = format!("BT /F1 12 Tf 72 720 Td ({text}) Tj ET");
        objects.push(format!("<< /Length {} >>\nstream\n{content}\nendstream", content.len()));
    }
    let mut file = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n".to_vec();
    let mut places = Vec::new();
    for (at, object) in objects.iter().enumerate() {
        places.push(file.len());
        file.extend_from_slice(format!("{} 0 obj\n{object}\nendobj\n", at + 1).as_bytes());
    }
    let table = file.len();
    file.extend_from_slice(format!("xref\n0 {}\n", objects.len() + 1).as_bytes());
    file.extend_from_slice(b"0000000000 65535 f \n");
    for place in places {
        file.extend_from_slice(format!("{place:010} 00000 n \n").as_bytes());
    }
    let size = objects.len() + 1;
    let trailer = format!("trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n");
    file.extend_from_slice(trailer.as_bytes());
    file
}

/// A zip of these members.
pub fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in members {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A word processor's document with these paragraphs.
pub fn docx(paragraphs: &[&str]) -> Vec<u8> {
    const MAIN: &str = "http://schemas.openxmlformats.org/wordprocessingml/2006/main";
    let body: String =
        paragraphs.iter().map(|text| format!("<w:p><w:r><w:t>{text}</w:t></w:r></w:p>")).collect();
    let document = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
         <w:document xmlns:w=\"{MAIN}\"><w:body>{body}</w:body></w:document>"
    );
    let types = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
         <Types xmlns=\"http://schemas.openxmlformats.org/package/2006/content-types\">\
         <Default Extension=\"rels\" \
         ContentType=\"application/vnd.openxmlformats-package.relationships+xml\"/>\
         <Override PartName=\"/word/document.xml\" ContentType=\"application/vnd.openxmlformats-\
         officedocument.wordprocessingml.document.main+xml\"/></Types>";
    let relations = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
         <Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\">\
         <Relationship Id=\"r1\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/\
         relationships/officeDocument\" Target=\"word/document.xml\"/></Relationships>";
    zip(&[
        ("[Content_Types].xml", types.as_bytes()),
        ("_rels/.rels", relations.as_bytes()),
        ("word/document.xml", document.as_bytes()),
    ])
}

/// A `multipart/form-data` body.
pub struct Multipart {
    body: Vec<u8>,
}

impl Multipart {
    pub const CONTENT_TYPE: &'static str = "multipart/form-data; boundary=frontier";

    pub const fn new() -> Self {
        Self { body: Vec::new() }
    }

    pub fn file(self, name: &str, content: &[u8]) -> Self {
        self.part(&format!("form-data; name=\"file\"; filename=\"{name}\""), content)
    }

    pub fn field(self, name: &str, content: &[u8]) -> Self {
        self.part(&format!("form-data; name=\"{name}\""), content)
    }

    fn part(mut self, disposition: &str, content: &[u8]) -> Self {
        let head = format!("--frontier\r\nContent-Disposition: {disposition}\r\n\r\n");
        self.body.extend_from_slice(head.as_bytes());
        self.body.extend_from_slice(content);
        self.body.extend_from_slice(b"\r\n");
        self
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.body.extend_from_slice(b"--frontier--\r\n");
        self.body
    }

    /// Without the closing line.
    pub fn unfinished(self) -> Vec<u8> {
        self.body
    }
}

/// A word of eight letters, repeated. Any 16 bytes of it hold, at any alignment, eight aligned
/// bytes that are the word turned somehow: a scan of every eighth byte finds every such window.
pub struct Plant {
    word: [u8; 8],
}

impl Plant {
    /// A word that stands nowhere else.
    pub fn new(seed: &str) -> Self {
        let hash = blake3::hash(seed.as_bytes());
        let mut word = *b"        ";
        for (letter, byte) in word.iter_mut().zip(hash.as_bytes()).take(7) {
            *letter = b"bcdfghjklmnpqrstvwxz"[usize::from(*byte) % 20];
        }
        Self { word }
    }

    /// At least `length` bytes of text.
    pub fn text(&self, length: usize) -> Vec<u8> {
        self.word.repeat(length.div_ceil(8))
    }

    /// Whether 16 bytes of the text stand anywhere in `bytes`.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        let turned: Vec<[u8; 8]> = (0..8)
            .map(|by| {
                let mut word = self.word;
                word.rotate_left(by);
                word
            })
            .collect();
        let (aligned, _) = bytes.as_chunks::<8>();
        aligned.iter().any(|word| turned.contains(word))
    }
}

#[test]
fn a_plant_is_found_at_every_alignment() {
    let plant = Plant::new("found");
    for shift in 0..8 {
        let mut bytes = noise(1000);
        bytes[300 + shift..316 + shift].copy_from_slice(&plant.text(24)[shift / 2..][..16]);
        assert!(plant.is_in(&bytes), "{shift}");
    }
    assert!(!plant.is_in(&noise(1000)));
}
