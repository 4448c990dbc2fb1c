//! The text of a Word document (ECMA-376): headers, the body's paragraphs, lists, tables and text
//! boxes, footers, then the notes and comments that the body refers to.

use quick_xml::events::BytesStart;

use super::super::frame::Fault;
use super::super::package::Package;
use super::ooxml::{Relations, main_part};
use super::writer::{Gap, Writer};
use super::xml::{Visitor, attribute, walk};

mod styles;
use styles::{Numbering, Styles};

pub(super) fn text(document: &[u8], markdown: bool) -> Result<String, Fault> {
    let mut package = Package::open(document)?;
    let main = main_part(&mut package, "word/document.xml")?;
    let body = match package.read(&main)? {
        Some(body) => body,
        None => package.read("word/document.xml")?.ok_or(Fault::Damaged)?,
    };
    let relations = Relations::of(&mut package, &main)?;
    let mut part = |kind: &str| match relations.of_kind(kind).next() {
        Some(name) => package.read(name),
        None => Ok(None),
    };
    let (styles, numbering) = (part("styles")?, part("numbering")?);
    let mut reading = Reading {
        writer: Writer::new(markdown),
        styles: styles.as_deref().map(Styles::read).transpose()?.unwrap_or_default(),
        numbering: numbering.as_deref().map(Numbering::read).transpose()?.unwrap_or_default(),
        paragraph: Paragraph::default(),
        in_text: false,
        skipped: 0,
        depth: 0,
    };
    for kind in ["header", "", "footer", "footnotes", "endnotes", "comments"] {
        if kind.is_empty() {
            walk(&body, &mut reading)?;
            continue;
        }
        for name in relations.of_kind(kind) {
            if let Some(xml) = package.read(name)? {
                walk(&xml, &mut reading)?;
                reading.writer.end_block(Gap::Blank);
            }
        }
    }
    Ok(reading.writer.finish())
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
    /// The next one goes on in the line that was begun.
    follows: bool,
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

    /// The mark of a note, where it is referred to and before its text.
    fn note(&mut self, kind: &str, element: &BytesStart) {
        if let Some(id) = attribute(element, "id") {
            let id: String = id.chars().filter(char::is_ascii_digit).collect();
            self.begin();
            self.writer.raw(&format!("[{kind}{id}]"));
        }
    }

    /// The beginning of a note, or of a comment.
    fn begin_note(&mut self, name: &str, element: &BytesStart) {
        // The lines above the notes are notes themselves, of a type.
        if attribute(element, "type").is_some_and(|kind| kind != "normal") {
            self.skipped = self.depth;
            return;
        }
        self.writer.gap(Gap::Blank);
        if name == "comment" {
            if let Some(author) = attribute(element, "author") {
                self.writer.exact(&author);
                self.writer.exact(": ");
            }
        } else {
            self.note(if name == "endnote" { "e" } else { "" }, element);
            self.writer.exact(" ");
        }
        self.paragraph = Paragraph { follows: true, ..Paragraph::default() };
    }

    /// The beginning of a paragraph; the first one of a note stands beside its mark.
    fn begin_paragraph(&mut self) {
        let follows = self.paragraph.follows;
        self.paragraph = Paragraph::default();
        if !follows {
            self.writer.gap(Gap::Line);
        }
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
            "p" => self.begin_paragraph(),
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
            "footnote" | "endnote" | "comment" => self.begin_note(name, element),
            "footnoteReference" => self.note("", element),
            "endnoteReference" => self.note("e", element),
            "lastRenderedPageBreak" => self.writer.page_break(),
            "br" if attribute(element, "type").as_deref() == Some("page") => {
                self.writer.page_break();
            }
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

    fn is_full(&self) -> bool {
        self.writer.is_full()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::package as document;
    use super::*;

    const W: &str = "xmlns:w='http://schemas.openxmlformats.org/wordprocessingml/2006/main'";

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
        let relations = "<Relationships><Relationship Id='a' Type='http://x/styles' \
            Target='styles.xml'/><Relationship Id='b' Type='http://x/numbering' \
            Target='numbering.xml'/></Relationships>";
        let parts = [
            ("word/document.xml", main.as_str()),
            ("word/_rels/document.xml.rels", relations),
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
    fn headers_notes_comments_boxes_and_pages_are_read() {
        let relation = |kind: &str| {
            format!("<Relationship Id='{kind}' Type='http://x/{kind}' Target='{kind}.xml'/>")
        };
        let relations = ["header", "footnotes", "comments"].map(relation).concat();
        let relations = format!("<Relationships>{relations}</Relationships>");
        let run = |text: &str| format!("<w:r><w:t>{text}</w:t></w:r>");
        let main = format!(
            "<w:document {W}><w:body><w:p>{}<w:r><w:footnoteReference w:id='2'/></w:r>\
            <w:r><w:br w:type='page'/></w:r></w:p><w:p><w:r><w:lastRenderedPageBreak/>\
            <w:t>second</w:t><mc:AlternateContent><mc:Choice><w:txbxContent><w:p>{}</w:p>\
            </w:txbxContent></mc:Choice><mc:Fallback><w:p>{}</w:p></mc:Fallback>\
            </mc:AlternateContent></w:r></w:p></w:body></w:document>",
            run("first"),
            run("boxed"),
            run("again")
        );
        let header = format!("<w:hdr {W}><w:p>{}</w:p></w:hdr>", run("top"));
        let notes = format!(
            "<w:footnotes {W}><w:footnote w:type='separator' w:id='0'><w:p>{}</w:p></w:footnote>\
            <w:footnote w:id='2'><w:p>{}</w:p></w:footnote></w:footnotes>",
            run("line"),
            run("noted")
        );
        let comments = format!(
            "<w:comments {W}><w:comment w:author='Ann'><w:p>{}</w:p></w:comment></w:comments>",
            run("why?")
        );
        let document = document(&[
            ("word/document.xml", &main),
            ("word/_rels/document.xml.rels", &relations),
            ("word/header.xml", &header),
            ("word/footnotes.xml", &notes),
            ("word/comments.xml", &comments),
        ]);
        let expected = "top\n\nfirst[2]\n\u{c}second\nboxed\n\n[2] noted\n\nAnn: why?\n";
        assert_eq!(text(&document, false).unwrap(), expected);
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
