//! A small document of each format, all with the same words.

use std::io::{Cursor, Write};

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::harness::pdf;

/// Stand in every one of them.
pub const WORDS: [&str; 4] = ["Heading", "First words", "cell one", "cell two"];

pub fn zip(parts: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in parts {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(content.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// By the extension that `detect` gives them.
pub fn all() -> Vec<(&'static str, Vec<u8>)> {
    let html = "<!doctype html><h1>Heading</h1><p>First words</p><table><tr><td>cell one<td>cell \
        two</table><ul><li>item</ul>";
    let mail = "From: a@example.org\nSubject: Heading\nContent-Type: multipart/mixed; boundary=x\n\
        \n--x\nContent-Type: text/plain\n\nFirst words\n--x\nContent-Type: text/html\n\
        Content-Transfer-Encoding: base64\n\nPHA+Y2VsbCBvbmU8cD5jZWxsIHR3bw==\n--x--\n";
    let rtf = r"{\rtf1\ansi{\fonttbl{\f0\fcharset204 A;}}\pard Heading\par First words {\f0\'e0}\par
        \trowd\pard\intbl cell one\cell cell two\cell\row\pard end\par}";
    vec![
        ("pdf", pdf(&["Heading", "First words", "cell one cell two"])),
        ("docx", docx()),
        ("xlsx", xlsx()),
        ("pptx", pptx()),
        ("odt", open_document("text", &odf_text())),
        ("ods", open_document("spreadsheet", &odf_sheet())),
        ("odp", open_document("presentation", &odf_slides())),
        ("rtf", rtf.into()),
        ("html", html.into()),
        ("eml", mail.into()),
        ("epub", epub()),
        ("csv", "Heading,First words,x\ncell one,cell two,\"a,b\"\n".into()),
        ("txt", "Heading\n\nFirst words.\ncell one and cell two\n".into()),
    ]
}

fn relation(id: &str, kind: &str, target: &str) -> String {
    format!("<Relationship Id=\"{id}\" Type=\"http://x/{kind}\" Target=\"{target}\"/>")
}

fn relations(all: &[(&str, &str, &str)]) -> String {
    let all: String = all.iter().map(|(id, kind, target)| relation(id, kind, target)).collect();
    format!("<?xml version=\"1.0\"?><Relationships>{all}</Relationships>")
}

const TYPES: (&str, &str) = ("[Content_Types].xml", "<Types/>");

fn docx() -> Vec<u8> {
    let paragraph = |text: &str| format!("<w:p><w:r><w:t>{text}</w:t></w:r></w:p>");
    let cell = |text: &str| format!("<w:tc>{}</w:tc>", paragraph(text));
    let body = format!(
        "<w:document xmlns:w=\"w\"><w:body><w:p><w:pPr><w:outlineLvl w:val=\"0\"/></w:pPr><w:r>\
         <w:t>Heading</w:t></w:r></w:p>{}<w:tbl><w:tr>{}{}</w:tr></w:tbl></w:body></w:document>",
        paragraph("First words"),
        cell("cell one"),
        cell("cell two")
    );
    let note = format!("<w:footnote w:id=\"1\">{}</w:footnote>", paragraph("a note"));
    let notes = format!("<w:footnotes>{note}</w:footnotes>");
    zip(&[
        TYPES,
        ("word/document.xml", &body),
        ("word/_rels/document.xml.rels", &relations(&[("a", "footnotes", "footnotes.xml")])),
        ("word/footnotes.xml", &notes),
    ])
}

/// A workbook whose first sheet is `sheet`.
pub fn workbook(sheet: &str) -> Vec<u8> {
    let book = "<workbook><sheets><sheet name=\"Heading\" r:id=\"r1\"/></sheets></workbook>";
    let strings = "<sst><si><t>First words</t></si><si><t>cell one</t></si></sst>";
    let styles = "<styleSheet><cellXfs><xf/><xf numFmtId=\"14\"/></cellXfs></styleSheet>";
    let relations = relations(&[
        ("r1", "worksheet", "worksheets/sheet1.xml"),
        ("r2", "sharedStrings", "sharedStrings.xml"),
        ("r3", "styles", "styles.xml"),
    ]);
    zip(&[
        TYPES,
        ("xl/workbook.xml", book),
        ("xl/_rels/workbook.xml.rels", &relations),
        ("xl/sharedStrings.xml", strings),
        ("xl/styles.xml", styles),
        ("xl/worksheets/sheet1.xml", sheet),
    ])
}

fn xlsx() -> Vec<u8> {
    workbook(
        "<worksheet><sheetData><row r=\"1\"><c r=\"A1\" t=\"s\"><v>0</v></c><c r=\"B1\" s=\"1\">\
         <v>39000.5</v></c></row><row r=\"2\"><c r=\"A2\" t=\"s\"><v>1</v></c><c r=\"B2\" \
         t=\"inlineStr\"><is><t>cell two</t></is></c></row></sheetData></worksheet>",
    )
}

fn pptx() -> Vec<u8> {
    let run = |text: &str| format!("<a:p><a:r><a:t>{text}</a:t></a:r></a:p>");
    let cell = |text: &str| format!("<a:tc><a:txBody>{}</a:txBody></a:tc>", run(text));
    let slide = format!(
        "<p:sld><p:sp><p:ph type=\"title\"/><p:txBody>{}</p:txBody></p:sp><p:sp><p:txBody>{}\
         </p:txBody></p:sp><p:graphicFrame><a:tbl><a:tr>{}{}</a:tr></a:tbl></p:graphicFrame></p:sld>",
        run("Heading"),
        run("First words"),
        cell("cell one"),
        cell("cell two")
    );
    let order = "<p:presentation><p:sldIdLst><p:sldId id=\"256\" r:id=\"s\"/></p:sldIdLst>\
        </p:presentation>";
    zip(&[
        TYPES,
        ("ppt/presentation.xml", order),
        ("ppt/_rels/presentation.xml.rels", &relations(&[("s", "slide", "slides/slide1.xml")])),
        ("ppt/slides/slide1.xml", &slide),
    ])
}

/// An OpenDocument file of one kind with this content.
pub fn open_document(kind: &str, content: &str) -> Vec<u8> {
    let mimetype = format!("application/vnd.oasis.opendocument.{kind}");
    zip(&[("mimetype", &mimetype), ("content.xml", content)])
}

fn odf_text() -> String {
    format!(
        "<o:document-content><o:body><text:h text:outline-level=\"1\">Heading</text:h>\
         <text:p>First<text:s/>words</text:p>{}</o:body></o:document-content>",
        odf_table("T")
    )
}

fn odf_table(name: &str) -> String {
    let cell = |text: &str| format!("<table:table-cell><text:p>{text}</text:p></table:table-cell>");
    format!(
        "<table:table table:name=\"{name}\"><table:table-row>{}{}</table:table-row></table:table>",
        cell("cell one"),
        cell("cell two")
    )
}

fn odf_sheet() -> String {
    let words = "<table:table-row><table:table-cell><text:p>First words</text:p>\
        </table:table-cell></table:table-row></table:table>";
    let table = odf_table("Heading").replace("</table:table>", words);
    format!("<o:document-content>{table}</o:document-content>")
}

fn odf_slides() -> String {
    let frame = |text: &str| format!("<draw:frame><text:p>{text}</text:p></draw:frame>");
    format!(
        "<o:document-content><draw:page>{}{}</draw:page><draw:page>{}</draw:page>\
         </o:document-content>",
        frame("Heading"),
        frame("First words"),
        frame("cell one, cell two")
    )
}

pub fn locked_odt() -> Vec<u8> {
    zip(&[
        ("mimetype", "application/vnd.oasis.opendocument.text"),
        ("META-INF/manifest.xml", "<m:manifest><m:encryption-data/></m:manifest>"),
        ("content.xml", "\u{1}\u{2}\u{3}"),
    ])
}

fn epub() -> Vec<u8> {
    let container = "<container><rootfiles><rootfile full-path=\"c.opf\"/></rootfiles></container>";
    let book = "<package><manifest><item id=\"a\" href=\"a.xhtml\"/><item id=\"b\" \
        href=\"b.xhtml\"/></manifest><spine><itemref idref=\"a\"/><itemref idref=\"b\"/></spine>\
        </package>";
    zip(&[
        ("mimetype", "application/epub+zip"),
        ("META-INF/container.xml", container),
        ("c.opf", book),
        ("a.xhtml", "<html><body><h1>Heading</h1><p>First words</p></body></html>"),
        ("b.xhtml", "<html><body><p>cell one</p><p>cell two</p></body></html>"),
    ])
}
