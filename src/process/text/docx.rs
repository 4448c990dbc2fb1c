//! The text of a Word document (ECMA-376): its body's paragraphs, lists and tables.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::super::frame::Fault;
use super::super::package::Package;
use super::writer::{Gap, Writer};

mod styles;
use styles::{Numbering, Styles};

/// Elements nested deeper than this are refused; Word itself stays below 100.
const MAX_DEPTH: usize = 512;

pub(super) fn text(document: &[u8], markdown: bool) -> Result<String, Fault> {
    let mut package = Package::open(document)?;
    let styles = package.read("word/styles.xml")?;
    let numbering = package.read("word/numbering.xml")?;
    let body = match package.read("word/document.xml")? {
        Some(body) => body,
        // Some writers number the part.
        None => package.read("word/document2.xml")?.ok_or(Fault::Damaged)?,
    };
    let mut reading = Reading {
        writer: Writer::new(markdown),
        styles: styles.as_deref().map(Styles::read).transpose()?.unwrap_or_default(),
        numbering: numbering.as_deref().map(Numbering::read).transpose()?.unwrap_or_default(),
        paragraph: Paragraph::default(),
        in_text: false,
        skipped: 0,
        depth: 0,
    };
    walk(&body, &mut reading)?;
    Ok(reading.writer.finish())
}

/// What is done with the elements of a part.
pub(super) trait Visitor {
    fn enter(&mut self, name: &str, element: &BytesStart);
    fn leave(&mut self, name: &str);
    fn text(&mut self, text: &str);
}

/// Reads a part from its first to its last element, which need not nest shallowly but must nest.
pub(super) fn walk(xml: &str, visitor: &mut impl Visitor) -> Result<(), Fault> {
    let mut reader = Reader::from_str(xml);
    let mut depth = 0;
    loop {
        match reader.read_event().map_err(|_| Fault::Damaged)? {
            Event::Start(element) => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(Fault::Complex);
                }
                visitor.enter(element.local_name().into_inner(), &element);
            }
            Event::Empty(element) => {
                visitor.enter(element.local_name().into_inner(), &element);
                visitor.leave(element.local_name().into_inner());
            }
            Event::End(element) => {
                depth -= 1;
                visitor.leave(element.local_name().into_inner());
            }
            Event::Text(text) => visitor.text(&text.xml10_content()),
            Event::CData(text) => visitor.text(&text.xml10_content()),
            Event::GeneralRef(entity) => {
                let character = entity.resolve_char_ref().map_err(|_| Fault::Damaged)?;
                match (character, &*entity.xml10_content()) {
                    (Some(character), _) => visitor.text(character.encode_utf8(&mut [0; 4])),
                    (None, "amp") => visitor.text("&"),
                    (None, "lt") => visitor.text("<"),
                    (None, "gt") => visitor.text(">"),
                    (None, "quot") => visitor.text("\""),
                    (None, "apos") => visitor.text("'"),
                    // Entities of a document's own are never expanded: that is how bombs are made.
                    (None, _) => {}
                }
            }
            Event::Eof if depth > 0 => return Err(Fault::Damaged),
            Event::Eof => return Ok(()),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
}

/// The value of an attribute, by its local name.
pub(super) fn attribute(element: &BytesStart, name: &str) -> Option<String> {
    let mut attributes = element.attributes().filter_map(Result::ok);
    let found = attributes.find(|attribute| attribute.key.local_name().into_inner() == name)?;
    Some(found.value.into_owned())
}

/// What a paragraph's properties say of it.
#[derive(Default)]
struct Paragraph {
    style: Option<String>,
    outline: Option<usize>,
    list: Option<u64>,
    level: usize,
    /// Its first text has been written, after the mark that the properties ask for.
    begun: bool,
}

struct Reading {
    writer: Writer,
    styles: Styles,
    numbering: Numbering,
    paragraph: Paragraph,
    in_text: bool,
    /// Depth at which a subtree began that is not read; 0 outside of one.
    skipped: usize,
    depth: usize,
}

impl Reading {
    /// Before a paragraph's first text: by now its properties are known.
    fn begin(&mut self) {
        if std::mem::replace(&mut self.paragraph.begun, true) {
            return;
        }
        let style = self.paragraph.style.as_deref().and_then(|id| self.styles.get(id));
        let heading = self.paragraph.outline.or(style.as_ref().and_then(|style| style.outline));
        let list = self.paragraph.list.or(style.and_then(|style| style.list));
        if let Some(level) = heading {
            self.writer.heading(level + 1);
        } else if let Some(list) = list.filter(|list| *list != 0) {
            let level = self.paragraph.level;
            let number = self.numbering.next(list, level);
            self.writer.item(level + 1, number);
        }
    }

    fn exact(&mut self, text: &str) {
        self.begin();
        self.writer.exact(text);
    }
}

impl Visitor for Reading {
    fn enter(&mut self, name: &str, element: &BytesStart) {
        self.depth += 1;
        if self.skipped > 0 {
            return;
        }
        let value = || attribute(element, "val");
        match name {
            // The older rendering of what `Choice` holds already; and text moved elsewhere.
            "Fallback" | "moveFrom" => self.skipped = self.depth,
            "p" => {
                self.paragraph = Paragraph::default();
                self.writer.gap(Gap::Line);
            }
            "pStyle" => self.paragraph.style = value(),
            "outlineLvl" => {
                let level = value().and_then(|level| level.parse().ok());
                self.paragraph.outline = level.filter(|level| *level < 9);
            }
            "numId" => self.paragraph.list = value().and_then(|id| id.parse().ok()),
            "ilvl" => {
                self.paragraph.level = value().and_then(|level| level.parse().ok()).unwrap_or(0);
            }
            "t" => self.in_text = true,
            // `w:tab` is also the definition of a tab stop, inside of `w:tabs`, which is skipped.
            "tabs" => self.skipped = self.depth,
            "tab" => self.exact("\t"),
            "br" | "cr" => self.writer.line_break(),
            "noBreakHyphen" => self.exact("\u{2011}"),
            "tbl" => self.writer.begin_table(),
            "tr" => self.writer.begin_row(),
            _ => {}
        }
    }

    fn leave(&mut self, name: &str) {
        if self.skipped > 0 {
            if self.skipped == self.depth {
                self.skipped = 0;
            }
            self.depth -= 1;
            return;
        }
        self.depth -= 1;
        match name {
            "t" => self.in_text = false,
            "p" => {
                let in_list = self.paragraph.list.is_some();
                self.paragraph = Paragraph { begun: true, ..Paragraph::default() };
                self.writer.end_block(if in_list { Gap::Line } else { Gap::Blank });
            }
            "tc" => self.writer.end_cell(),
            "tbl" => self.writer.end_table(),
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        if self.in_text && self.skipped == 0 {
            self.exact(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use super::*;

    const W: &str = "xmlns:w='http://schemas.openxmlformats.org/wordprocessingml/2006/main'";

    fn document(parts: &[(&str, &str)]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in parts {
            let options = zip::write::SimpleFileOptions::default();
            writer.start_file(*name, options).unwrap();
            writer.write_all(content.as_bytes()).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn body(content: &str) -> Vec<u8> {
        let xml = format!("<w:document {W}><w:body>{content}</w:body></w:document>");
        document(&[("word/document.xml", &xml)])
    }

    #[test]
    fn paragraphs_headings_lists_and_tables_are_read() {
        let styles = format!(
            "<w:styles {W}><w:style w:styleId='H'><w:name w:val='heading 2'/></w:style></w:styles>"
        );
        let numbering = format!(
            "<w:numbering {W}><w:abstractNum w:abstractNumId='4'><w:lvl w:ilvl='0'>\
            <w:numFmt w:val='decimal'/></w:lvl></w:abstractNum>\
            <w:num w:numId='1'><w:abstractNumId w:val='4'/></w:num></w:numbering>"
        );
        let item = |text: &str| {
            format!(
                "<w:p><w:pPr><w:numPr><w:ilvl w:val='0'/><w:numId w:val='1'/></w:numPr></w:pPr>\
                <w:r><w:t>{text}</w:t></w:r></w:p>"
            )
        };
        let cell = |text: &str| format!("<w:tc><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:tc>");
        let main = format!(
            "<w:document {W}><w:body><w:p><w:pPr><w:pStyle w:val='H'/></w:pPr><w:r><w:t>Ti</w:t>\
            </w:r><w:r><w:t>tle</w:t></w:r></w:p><w:p><w:r><w:t xml:space='preserve'>a &amp; </w:t>\
            <w:tab/><w:t>b&#x20AC;</w:t><w:br/><w:t>c</w:t></w:r><w:del><w:r><w:delText>gone\
            </w:delText></w:r></w:del></w:p>{}{}<w:tbl><w:tr>{}{}</w:tr></w:tbl></w:body>\
            </w:document>",
            item("one"),
            item("two"),
            cell("x"),
            cell("y")
        );
        let parts = [
            ("word/document.xml", main.as_str()),
            ("word/styles.xml", &styles),
            ("word/numbering.xml", &numbering),
        ];
        let plain = text(&document(&parts), false).unwrap();
        assert_eq!(plain, "Title\n\na & \tb€\nc\n\n1. one\n2. two\n\nx\ty\n");
        let markdown = text(&document(&parts), true).unwrap();
        assert!(markdown.starts_with("## Title\n\n"), "{markdown}");
        assert!(markdown.ends_with("| x | y |\n| --- | --- |\n"), "{markdown}");
    }

    #[test]
    fn bombs_depth_and_damage_are_told_apart() {
        let bomb = body(&"<w:p/>".repeat(3_000_000));
        assert!(bomb.len() < 200_000);
        assert_eq!(text(&bomb, false), Err(Fault::Bomb));
        let deep = body(&"<w:sdt>".repeat(100_000));
        assert_eq!(text(&deep, false), Err(Fault::Complex));
        assert_eq!(text(&body("<w:p></w:r>"), false), Err(Fault::Damaged));
        assert_eq!(text(&document(&[("word/other.xml", "")]), false), Err(Fault::Damaged));
        let whole = body("<w:p><w:r><w:t>x</w:t></w:r></w:p>");
        assert_eq!(text(&whole[..whole.len() - 30], false), Err(Fault::Damaged));
    }

    #[test]
    fn entities_of_the_document_are_not_expanded() {
        let xml = format!(
            "<!DOCTYPE d [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;'>]>\
            <w:document {W}><w:p><w:r><w:t>x&b;y</w:t></w:r></w:p></w:document>"
        );
        assert_eq!(text(&document(&[("word/document.xml", &xml)]), false).unwrap(), "xy\n");
    }
}
