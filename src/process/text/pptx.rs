//! The text of a PowerPoint presentation (ECMA-376, 19): slides in their order, each with its
//! notes, comments, diagrams and charts.

use quick_xml::events::BytesStart;

use super::super::frame::Fault;
use super::super::package::Package;
use super::ooxml::{Relations, main_part};
use super::writer::{Gap, Writer};
use super::xml::{Visitor, attribute, count, walk};

pub(super) fn text(document: &[u8], markdown: bool) -> Result<String, Fault> {
    let mut package = Package::open(document)?;
    let main = main_part(&mut package, "ppt/presentation.xml")?;
    let mut order = Order::default();
    walk(&package.read(&main)?.ok_or(Fault::Damaged)?, &mut order)?;
    let relations = Relations::of(&mut package, &main)?;
    let mut writer = Writer::new(markdown);
    for (at, id) in order.slides.iter().enumerate() {
        if at > 0 {
            writer.page();
        }
        let Some(relation) = relations.get(id) else { continue };
        let Some(xml) = package.read(&relation.part)? else { continue };
        writer = shapes(&xml, writer, false)?;
        let around = Relations::of(&mut package, &relation.part)?;
        for kind in ["diagramData", "chart", "notesSlide", "comments"] {
            for part in around.of_kind(kind) {
                if let Some(xml) = package.read(part)? {
                    writer.gap(Gap::Blank);
                    writer = shapes(&xml, writer, kind == "notesSlide")?;
                }
            }
        }
    }
    Ok(writer.finish())
}

/// The slides' relations, in the order they are shown.
#[derive(Default)]
struct Order {
    slides: Vec<String>,
}

impl Visitor for Order {
    fn enter(&mut self, name: &str, element: &BytesStart) {
        if name == "sldId" {
            // Two attributes are called `id`; the relation's has a prefix.
            let mut attributes = element.attributes();
            let mut attributes = attributes.with_checks(false).filter_map(Result::ok);
            let id = attributes.find(|a| a.key.into_inner().ends_with(":id"));
            self.slides.extend(id.map(|id| id.value.into_owned()));
        }
    }
}

fn shapes(xml: &str, writer: Writer, notes: bool) -> Result<Writer, Fault> {
    let mut shapes = Shapes { writer, notes, ..Shapes::new() };
    walk(xml, &mut shapes)?;
    shapes.writer.end_block(Gap::Blank);
    Ok(shapes.writer)
}

/// What a shape is a place for.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Free,
    Title,
    Body,
}

struct Shapes {
    writer: Writer,
    notes: bool,
    place: Place,
    /// The level of the paragraph, and whether it says of itself that it is a list item or none.
    level: usize,
    bullet: Option<bool>,
    begun: bool,
    in_text: bool,
    /// Depth at which a subtree began that is not read; 0 outside of one.
    skipped: usize,
    depth: usize,
}

impl Shapes {
    fn new() -> Self {
        Self {
            writer: Writer::new(false),
            notes: false,
            place: Place::Free,
            level: 0,
            bullet: None,
            begun: false,
            in_text: false,
            skipped: 0,
            depth: 0,
        }
    }

    fn placeholder(&mut self, kind: Option<&str>) {
        self.place = match kind {
            Some("title" | "ctrTitle") => Place::Title,
            Some("body" | "obj") | None if !self.notes => Place::Body,
            _ => Place::Free,
        };
    }

    /// Before a paragraph's first text: by now its properties are known.
    fn begin(&mut self) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let is_item = self.bullet.unwrap_or(self.place == Place::Body);
        if self.place == Place::Title {
            self.writer.heading(2);
        } else if is_item {
            self.writer.item(self.level + 1, None);
        }
    }
}

impl Visitor for Shapes {
    fn enter(&mut self, name: &str, element: &BytesStart) {
        self.depth += 1;
        if self.skipped > 0 {
            return;
        }
        match name {
            // The older rendering of what `Choice` holds already.
            "Fallback" => self.skipped = self.depth,
            "sp" => self.place = Place::Free,
            "ph" => self.placeholder(attribute(element, "type").as_deref()),
            "p" => {
                (self.level, self.bullet, self.begun) = (0, None, false);
                self.writer.gap(Gap::Line);
            }
            "pPr" => self.level = count(element, "lvl").unwrap_or(0).min(8),
            "buNone" => self.bullet = Some(false),
            "buChar" | "buAutoNum" | "buBlip" => self.bullet = Some(true),
            // `a:t` of a run; `p:text` of a comment; `c:v` of a chart's data.
            "t" | "text" | "v" => self.in_text = true,
            "cm" | "pt" => self.writer.gap(Gap::Line),
            "br" => self.writer.line_break(),
            "tab" => {
                self.begin();
                self.writer.exact("\t");
            }
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
            "t" | "text" | "v" => self.in_text = false,
            "p" => {
                let is_title = self.place == Place::Title;
                self.writer.end_block(if is_title { Gap::Blank } else { Gap::Line });
            }
            "sp" | "graphicFrame" => {
                self.place = Place::Free;
                self.writer.end_block(Gap::Blank);
            }
            "tc" => self.writer.end_cell(),
            "tbl" => self.writer.end_table(),
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        if self.in_text && self.skipped == 0 {
            self.begin();
            self.writer.exact(text);
        }
    }

    fn is_full(&self) -> bool {
        self.writer.is_full()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::package;
    use super::*;

    #[test]
    fn slides_come_in_their_order_with_titles_lists_tables_and_notes() {
        let slides = "<presentation><sldIdLst><sldId id='256' r:id='r2'/><sldId id='257' r:id='r1'/>\
            </sldIdLst></presentation>";
        let relations = "<Relationships><Relationship Id='r1' Type='x/slide' Target='slides/a.xml'/>\
            <Relationship Id='r2' Type='x/slide' Target='slides/b.xml'/></Relationships>";
        let run = |text: &str| format!("<a:p><a:r><a:t>{text}</a:t></a:r></a:p>");
        let shape = |kind: &str, text: &str| {
            format!("<p:sp><p:ph {kind}/><p:txBody>{}</p:txBody></p:sp>", run(text))
        };
        let cell = |text: &str| format!("<a:tc><a:txBody>{}</a:txBody></a:tc>", run(text));
        let first = format!(
            "<p:sld>{}{}<p:graphicFrame><a:tbl><a:tr>{}{}</a:tr></a:tbl></p:graphicFrame></p:sld>",
            shape("type='title'", "Title"),
            shape("idx='1'", "point"),
            cell("x"),
            cell("y")
        );
        let second = format!("<p:sld>{}</p:sld>", shape("type='ftr'", "foot"));
        let notes = format!("<p:notes>{}</p:notes>", shape("type='body'", "noted"));
        let document = package(&[
            ("ppt/presentation.xml", slides),
            ("ppt/_rels/presentation.xml.rels", relations),
            ("ppt/slides/b.xml", &first),
            ("ppt/slides/a.xml", &second),
            (
                "ppt/slides/_rels/a.xml.rels",
                "<Relationships><Relationship Id='n' Type='x/notesSlide' Target='../n.xml'/>\
                </Relationships>",
            ),
            ("ppt/n.xml", &notes),
        ]);
        let plain = "Title\n\n- point\n\nx\ty\n\u{c}foot\n\nnoted\n";
        assert_eq!(text(&document, false).unwrap(), plain);
        assert!(text(&document, true).unwrap().starts_with("## Title\n\n- point\n\n| x | y |"));
    }
}
