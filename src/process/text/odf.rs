//! The text of an OpenDocument file (ISO/IEC 26300): texts, sheets and slides, with their headers,
//! notes and comments. White space is as the standard has it (part 3, 6.1.2).

use std::collections::HashMap;

use quick_xml::events::BytesStart;

use super::super::frame::Fault;
use super::super::package::Package;
use super::grid::Grid;
use super::writer::{Gap, Writer};
use super::xml::{Visitor, attribute, count, walk};

/// What kind of document it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Sheets,
    Slides,
}

/// A cell or row that repeats itself is written this often at most.
const MAX_REPEATS: u32 = 256;

/// Spaces one element may stand for.
const MAX_SPACES: usize = 256;

/// The last row and column there can be in the programs that write these.
const LAST_ROW: u32 = 1_048_576;
const LAST_COLUMN: u32 = 16_384;

pub(super) fn text(document: &[u8], kind: Kind, markdown: bool) -> Result<String, Fault> {
    let mut package = Package::open(document)?;
    let manifest = package.read("META-INF/manifest.xml")?;
    if manifest.is_some_and(|manifest| manifest.contains("encryption-data")) {
        return Err(Fault::Encrypted);
    }
    let content = package.read("content.xml")?.ok_or(Fault::Damaged)?;
    let mut reading = Reading::new(kind, markdown);
    // Only a text's headers are its own; those of sheets and slides are their program's fields.
    if let (Kind::Text, Some(styles)) = (kind, package.read("styles.xml")?) {
        reading.margins_only = true;
        walk(&styles, &mut reading)?;
        reading.margins_only = false;
        reading.writer.end_block(Gap::Blank);
    }
    walk(&content, &mut reading)?;
    reading.writer.end_block(Gap::Blank);
    let notes = std::mem::replace(&mut reading.aside, Writer::new(false)).finish();
    reading.writer.raw(notes.trim_end());
    Ok(reading.writer.finish())
}

struct Reading {
    kind: Kind,
    writer: Writer,
    /// Where notes and comments go until the text has ended; in one, where the text waits.
    aside: Writer,
    notes: usize,
    /// How many notes are around this place, how many paragraphs, and how many headers.
    in_note: usize,
    in_paragraph: usize,
    in_margin: usize,
    margins_only: bool,
    /// The style names of the lists around this place, and how far each has counted.
    lists: Vec<(Option<String>, u64)>,
    /// Levels with numbers, by list style.
    numbered: HashMap<(String, usize), bool>,
    list_style: String,
    item: bool,
    title: bool,
    /// The next paragraph goes on in the line that was begun.
    follows: bool,
    sheet: Option<Sheet>,
    slides: usize,
    /// Depth at which a subtree began that is not read; 0 outside of one.
    skipped: usize,
    depth: usize,
}

/// A sheet on its way through its cells.
struct Sheet {
    grid: Grid,
    row: u32,
    column: u32,
    row_repeats: u32,
    column_repeats: u32,
    /// The cells of the current row.
    cells: Vec<(u32, String)>,
    cell: String,
    /// Tables within a cell, whose text is the cell's.
    nested: usize,
}

impl Reading {
    fn new(kind: Kind, markdown: bool) -> Self {
        Self {
            kind,
            writer: Writer::new(markdown),
            aside: Writer::new(markdown),
            notes: 0,
            in_note: 0,
            in_paragraph: 0,
            in_margin: 0,
            margins_only: false,
            lists: Vec::new(),
            numbered: HashMap::new(),
            list_style: String::new(),
            item: false,
            title: false,
            follows: false,
            sheet: None,
            slides: 0,
            skipped: 0,
            depth: 0,
        }
    }

    fn begin_paragraph(&mut self, heading: Option<usize>) {
        self.in_paragraph += 1;
        if self.sheet.is_some() && self.in_note == 0 {
            return;
        }
        if !std::mem::take(&mut self.follows) {
            self.writer.gap(Gap::Line);
        }
        if let Some(level) = heading.or(self.title.then_some(2)) {
            self.writer.heading(level);
        } else if std::mem::take(&mut self.item) {
            let level = self.lists.len();
            let style = self.lists.iter().rev().find_map(|(style, _)| style.clone());
            let numbered = style.is_some_and(|style| {
                self.numbered.get(&(style, level)).is_some_and(|numbered| *numbered)
            });
            let count = self.lists.last().map(|(_, count)| *count);
            self.writer.item(level, count.filter(|_| numbered));
        }
    }

    fn end_paragraph(&mut self) {
        self.in_paragraph = self.in_paragraph.saturating_sub(1);
        match &mut self.sheet {
            Some(sheet) if self.in_note == 0 => sheet.cell.push(' '),
            _ => {
                let tight = !self.lists.is_empty() || self.kind == Kind::Slides;
                self.writer.end_block(if tight { Gap::Line } else { Gap::Blank });
            }
        }
    }

    fn exact(&mut self, text: &str) {
        match &mut self.sheet {
            Some(sheet) if self.in_note == 0 => sheet.cell.push_str(text),
            _ => self.writer.exact(text),
        }
    }

    /// A note's or comment's text goes to the end; its mark stays.
    fn begin_note(&mut self, name: &str) {
        self.in_note += 1;
        if self.in_note > 1 {
            return;
        }
        if name == "note" {
            self.notes += 1;
            let mark = format!("[{}]", self.notes);
            self.writer.raw(&mark);
            std::mem::swap(&mut self.writer, &mut self.aside);
            self.writer.gap(Gap::Blank);
            self.writer.raw(&format!("{mark} "));
            self.follows = true;
        } else {
            std::mem::swap(&mut self.writer, &mut self.aside);
            self.writer.gap(Gap::Blank);
        }
    }

    fn end_note(&mut self) {
        self.in_note = self.in_note.saturating_sub(1);
        if self.in_note == 0 {
            self.writer.end_block(Gap::Blank);
            std::mem::swap(&mut self.writer, &mut self.aside);
        }
    }

    fn begin_table(&mut self, element: &BytesStart) {
        if let Some(sheet) = &mut self.sheet {
            sheet.nested += 1;
        } else if self.kind == Kind::Sheets && self.in_note == 0 {
            if self.slides > 0 {
                self.writer.page();
            }
            self.slides += 1;
            self.writer.heading(2);
            self.writer.exact(&attribute(element, "name").unwrap_or_default());
            self.writer.end_block(Gap::Blank);
            self.sheet = Some(Sheet::new());
        } else {
            self.writer.begin_table();
        }
    }

    fn end_table(&mut self) {
        match self.sheet.take() {
            Some(mut sheet) if sheet.nested > 0 => {
                sheet.nested -= 1;
                self.sheet = Some(sheet);
            }
            // A sheet that is too long fills the writer, which the walk finds out.
            Some(sheet) => drop(sheet.grid.write(&mut self.writer)),
            None => self.writer.end_table(),
        }
    }

    fn begin_slide(&mut self) {
        if self.slides > 0 {
            self.writer.page();
        }
        self.slides += 1;
    }

    fn begin_list(&mut self, element: &BytesStart) {
        self.writer.gap(if self.lists.is_empty() { Gap::Blank } else { Gap::Line });
        self.lists.push((attribute(element, "style-name"), 0));
    }

    fn level_style(&mut self, element: &BytesStart, numbered: bool) {
        if let Some(level) = count(element, "level") {
            self.numbered.insert((self.list_style.clone(), level), numbered);
        }
    }
}

impl Sheet {
    fn new() -> Self {
        Self {
            grid: Grid::new(),
            row: 0,
            column: 0,
            row_repeats: 1,
            column_repeats: 1,
            cells: Vec::new(),
            cell: String::new(),
            nested: 0,
        }
    }

    fn begin_row(&mut self, element: &BytesStart) {
        self.row_repeats = repeats(element, "number-rows-repeated");
        self.column = 0;
        self.cells.clear();
    }

    fn end_row(&mut self) {
        for row in 0..self.row_repeats.min(MAX_REPEATS) {
            for (column, text) in &self.cells {
                self.grid.put(self.row + row, *column, text);
            }
            if self.grid.is_full() {
                break;
            }
        }
        self.row = self.row.saturating_add(self.row_repeats).min(LAST_ROW);
    }

    fn begin_cell(&mut self, element: &BytesStart) {
        self.column_repeats = repeats(element, "number-columns-repeated");
        self.cell.clear();
    }

    fn end_cell(&mut self) {
        if !self.cell.trim().is_empty() {
            for at in 0..self.column_repeats.min(MAX_REPEATS) {
                self.cells.push((self.column + at, self.cell.clone()));
            }
        }
        self.column = self.column.saturating_add(self.column_repeats).min(LAST_COLUMN);
    }
}

/// Whether an element says something about a picture or note instead of being text: a title, an
/// author, a date. The text's own fields have the same local names.
fn is_about(element: &BytesStart) -> bool {
    let prefix = element.name().into_inner().split_once(':').map(|(prefix, _)| prefix);
    matches!(prefix, Some("svg" | "dc" | "meta"))
}

fn repeats(element: &BytesStart, name: &str) -> u32 {
    attribute(element, name).and_then(|times| times.parse().ok()).unwrap_or(1)
}

impl Visitor for Reading {
    fn enter(&mut self, name: &str, element: &BytesStart) {
        self.depth += 1;
        if self.skipped > 0 {
            return;
        }
        if is_about(element) {
            self.skipped = self.depth;
            return;
        }
        match (name, &mut self.sheet) {
            // Deleted text, how characters are read aloud, programs, a note's number.
            (
                "tracked-changes" | "ruby-text" | "scripts" | "event-listeners" | "note-citation",
                _,
            ) => self.skipped = self.depth,
            (
                "header" | "footer" | "header-left" | "footer-left" | "header-first"
                | "footer-first",
                _,
            ) => self.in_margin += 1,
            ("p", _) => self.begin_paragraph(None),
            ("h", _) => self.begin_paragraph(Some(count(element, "outline-level").unwrap_or(1))),
            ("s", _) => {
                let spaces = count(element, "c").unwrap_or(1).min(MAX_SPACES);
                self.exact(&" ".repeat(spaces));
            }
            ("tab", _) => self.exact("\t"),
            ("line-break", Some(_)) => self.exact(" "),
            ("line-break", None) => self.writer.line_break(),
            ("soft-page-break", None) if !self.margins_only => self.writer.page_break(),
            ("note" | "annotation", _) => self.begin_note(name),
            ("list", _) => self.begin_list(element),
            ("list-item" | "list-header", _) => {
                self.item = name == "list-item";
                self.lists.last_mut().into_iter().for_each(|(_, count)| *count += 1);
            }
            ("list-style", _) => self.list_style = attribute(element, "name").unwrap_or_default(),
            ("list-level-style-number", _) => self.level_style(element, true),
            ("list-level-style-bullet", _) => self.level_style(element, false),
            ("frame", _) => self.title = attribute(element, "class").as_deref() == Some("title"),
            ("page", _) if self.kind == Kind::Slides => self.begin_slide(),
            ("table", _) => self.begin_table(element),
            ("table-row", Some(sheet)) if sheet.nested == 0 => sheet.begin_row(element),
            ("table-row", None) => self.writer.begin_row(),
            ("table-cell" | "covered-table-cell", Some(sheet)) if sheet.nested == 0 => {
                sheet.begin_cell(element);
            }
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
        match (name, &mut self.sheet) {
            (
                "header" | "footer" | "header-left" | "footer-left" | "header-first"
                | "footer-first",
                _,
            ) => self.in_margin = self.in_margin.saturating_sub(1),
            ("p" | "h", _) => self.end_paragraph(),
            ("note" | "annotation", _) => self.end_note(),
            ("list", _) => {
                self.lists.pop();
                self.writer.gap(if self.lists.is_empty() { Gap::Blank } else { Gap::Line });
            }
            ("frame", _) => {
                self.title = false;
                if self.sheet.is_none() && self.in_paragraph == 0 {
                    self.writer.gap(Gap::Blank);
                }
            }
            ("table", _) => self.end_table(),
            ("table-row", Some(sheet)) if sheet.nested == 0 => sheet.end_row(),
            ("table-cell" | "covered-table-cell", Some(sheet)) if sheet.nested == 0 => {
                sheet.end_cell();
            }
            ("table-cell" | "covered-table-cell", None) => self.writer.end_cell(),
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        if self.skipped > 0 || self.in_paragraph == 0 {
            return;
        }
        if self.margins_only && self.in_margin == 0 {
            return;
        }
        match &mut self.sheet {
            Some(sheet) if self.in_note == 0 => sheet.cell.push_str(text),
            _ => self.writer.flowing(text),
        }
    }

    fn is_full(&self) -> bool {
        let sheet = self.sheet.as_ref().is_some_and(|sheet| sheet.grid.is_full());
        sheet || self.writer.is_full() || self.aside.is_full()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::package;
    use super::*;

    fn read(kind: Kind, body: &str, markdown: bool) -> Result<String, Fault> {
        let content = format!("<office:document-content>{body}</office:document-content>");
        text(&package(&[("content.xml", &content)]), kind, markdown)
    }

    #[test]
    fn a_text_has_headings_lists_notes_comments_and_tables() {
        let body = "<text:list-style style:name='L'><text:list-level-style-number text:level='1'/>\
            </text:list-style><text:tracked-changes><text:p>gone</text:p></text:tracked-changes>\
            <text:h text:outline-level='2'>Title</text:h><text:p>one\n  two<text:s text:c='2'/>x\
            <text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>noted\
            </text:p></text:note-body></text:note> on<office:annotation><dc:creator>A\
            </dc:creator><text:p>why</text:p></office:annotation></text:p>\
            <text:list text:style-name='L'><text:list-item><text:p>a</text:p></text:list-item>\
            <text:list-item><text:p>b</text:p></text:list-item></text:list>\
            <table:table><table:table-row><table:table-cell><text:p>c</text:p></table:table-cell>\
            <table:table-cell><text:p>d</text:p></table:table-cell></table:table-row></table:table>";
        let plain = "Title\n\none two  x[1] on\n\n1. a\n2. b\n\nc\td\n\n[1] noted\n\nwhy\n";
        assert_eq!(read(Kind::Text, body, false).unwrap(), plain);
        let markdown = read(Kind::Text, body, true).unwrap();
        assert!(markdown.starts_with("## Title\n\none two"), "{markdown}");
        assert!(markdown.contains("| c | d |\n| --- | --- |"), "{markdown}");
    }

    #[test]
    fn sheets_and_slides_are_parted_and_repeats_are_bounded() {
        let body = "<table:table table:name='S'><table:table-row>\
            <table:table-cell table:number-columns-repeated='3'/>\
            <table:table-cell><text:p>a</text:p><text:p>b</text:p></table:table-cell>\
            <table:table-cell table:number-columns-repeated='4000000000'><text:p>c</text:p>\
            </table:table-cell></table:table-row>\
            <table:table-row table:number-rows-repeated='4000000000'><table:table-cell/>\
            </table:table-row></table:table><table:table table:name='T'/>";
        let plain = read(Kind::Sheets, body, false).unwrap();
        assert!(plain.starts_with("S\n\na b\tc\tc"), "{plain}");
        assert!(plain.ends_with("c\n\u{c}T\n") && plain.len() < 1000, "{plain}");
        let body = "<draw:page><draw:frame presentation:class='title'><text:p>One</text:p>\
            </draw:frame></draw:page><draw:page><draw:frame><text:p>Two</text:p></draw:frame>\
            </draw:page>";
        assert_eq!(read(Kind::Slides, body, true).unwrap(), "## One\n\u{c}Two\n");
    }

    #[test]
    fn an_encrypted_one_says_so() {
        let manifest = "<manifest:file-entry><manifest:encryption-data/></manifest:file-entry>";
        let document = package(&[("META-INF/manifest.xml", manifest), ("content.xml", "x")]);
        assert_eq!(text(&document, Kind::Text, false), Err(Fault::Encrypted));
    }
}
