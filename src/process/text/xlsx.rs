//! The text of an Excel workbook (ECMA-376, 18): each sheet's name, rows, text boxes and comments.
//!
//! Numbers are written as they are stored and dates by ISO 8601: how a cell shows them depends on
//! the reader's language. A formula is its last result.

use quick_xml::events::BytesStart;

use super::super::frame::Fault;
use super::super::package::Package;
use super::grid::Grid;
use super::ooxml::{Relations, main_part};
use super::writer::{Gap, Writer};
use super::xml::{Lines, Visitor, attribute, count, walk};

mod dates;
use dates::{Dates, Formats};

/// The last row and column there can be (18.3.1.4).
const LAST_ROW: u32 = 1_048_576;
const LAST_COLUMN: u32 = 16_384;

pub(super) fn text(document: &[u8], markdown: bool) -> Result<String, Fault> {
    let mut package = Package::open(document)?;
    let main = main_part(&mut package, "xl/workbook.xml")?;
    let mut book = Book::default();
    walk(&package.read(&main)?.ok_or(Fault::Damaged)?, &mut book)?;
    let relations = Relations::of(&mut package, &main)?;
    let mut part = |kind: &str| match relations.of_kind(kind).next() {
        Some(name) => package.read(name),
        None => Ok(None),
    };
    let mut shared = Strings::default();
    if let Some(xml) = part("sharedStrings")? {
        walk(&xml, &mut shared)?;
    }
    let mut formats = Formats::default();
    if let Some(xml) = part("styles")? {
        walk(&xml, &mut formats)?;
    }
    let dates = Dates { formats, from_1904: book.from_1904 };
    let mut writer = Writer::new(markdown);
    for (at, (name, id)) in book.sheets.iter().enumerate() {
        if at > 0 {
            writer.page();
        }
        writer.heading(2);
        writer.exact(name);
        writer.end_block(Gap::Blank);
        let Some(relation) = relations.get(id) else { continue };
        let Some(xml) = package.read(&relation.part)? else { continue };
        let mut sheet = Sheet::new(&shared, &dates);
        walk(&xml, &mut sheet)?;
        drop(xml);
        sheet.grid.write(&mut writer)?;
        block(&mut writer, &sheet.margins);
        let around = Relations::of(&mut package, &relation.part)?;
        notes(&mut package, &around, &mut writer)?;
    }
    Ok(writer.finish())
}

/// What lies on a sheet without being in its cells.
fn notes(package: &mut Package, around: &Relations, writer: &mut Writer) -> Result<(), Fault> {
    for drawing in around.of_kind("drawing") {
        if let Some(xml) = package.read(drawing)? {
            block(writer, &Lines::of(&xml, &["t"], "p")?);
        }
        for chart in Relations::of(package, drawing)?.of_kind("chart") {
            if let Some(xml) = package.read(chart)? {
                block(writer, &Lines::of(&xml, &["t"], "p")?);
            }
        }
    }
    for (kind, line) in [("comments", "comment"), ("threadedComment", "threadedComment")] {
        for comments in around.of_kind(kind) {
            if let Some(xml) = package.read(comments)? {
                block(writer, &Lines::of(&xml, &["t", "text"], line)?);
            }
        }
    }
    Ok(())
}

fn block(writer: &mut Writer, text: &str) {
    writer.gap(Gap::Blank);
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        writer.exact(line.trim());
        writer.gap(Gap::Line);
    }
    writer.gap(Gap::Blank);
}

/// The workbook's sheets in their order: name, and the relation that leads there.
#[derive(Default)]
struct Book {
    sheets: Vec<(String, String)>,
    from_1904: bool,
}

impl Visitor for Book {
    fn enter(&mut self, name: &str, element: &BytesStart) {
        let value = |name| attribute(element, name).unwrap_or_default();
        match name {
            // `r:id` is the relation; `sheetId` has another local name.
            "sheet" => self.sheets.push((value("name"), value("id"))),
            "workbookPr" => {
                self.from_1904 = matches!(value("date1904").as_str(), "1" | "true");
            }
            _ => {}
        }
    }
}

/// The strings that cells share, one behind the other.
#[derive(Default)]
struct Strings {
    text: String,
    ends: Vec<u32>,
    in_text: bool,
    phonetic: bool,
}

impl Strings {
    fn get(&self, at: usize) -> Option<&str> {
        let place = |at: usize| usize::try_from(*self.ends.get(at)?).ok();
        let begin = at.checked_sub(1).map_or(Some(0), place)?;
        self.text.get(begin..place(at)?)
    }
}

impl Visitor for Strings {
    fn enter(&mut self, name: &str, _element: &BytesStart) {
        match name {
            "t" => self.in_text = !self.phonetic,
            // How the characters are read aloud.
            "rPh" => self.phonetic = true,
            _ => {}
        }
    }

    fn leave(&mut self, name: &str) {
        match name {
            "t" => self.in_text = false,
            "rPh" => self.phonetic = false,
            "si" => self.ends.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX)),
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        if self.in_text {
            self.text.push_str(text);
        }
    }
}

/// What a cell's value is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Shared,
    Text,
    Truth,
}

/// One sheet on its way through its cells.
struct Sheet<'b> {
    shared: &'b Strings,
    dates: &'b Dates,
    grid: Grid,
    /// The current cell, from 0.
    row: u32,
    column: u32,
    kind: Kind,
    style: usize,
    value: String,
    in_value: bool,
    phonetic: bool,
    /// Headers and footers of the printed page.
    margins: String,
    in_margin: bool,
}

impl<'b> Sheet<'b> {
    fn new(shared: &'b Strings, dates: &'b Dates) -> Self {
        Self {
            shared,
            dates,
            grid: Grid::new(),
            row: 0,
            column: 0,
            kind: Kind::Number,
            style: 0,
            value: String::new(),
            in_value: false,
            phonetic: false,
            margins: String::new(),
            in_margin: false,
        }
    }

    fn begin_cell(&mut self, element: &BytesStart) {
        let place = attribute(element, "r");
        if let Some((row, column)) = place.as_deref().and_then(place_of) {
            (self.row, self.column) = (row, column);
        }
        self.kind = match attribute(element, "t").as_deref() {
            Some("s") => Kind::Shared,
            Some("b") => Kind::Truth,
            Some("inlineStr" | "str" | "e" | "d") => Kind::Text,
            _ => Kind::Number,
        };
        self.style = count(element, "s").unwrap_or(0);
        self.value.clear();
    }

    fn end_cell(&mut self) {
        let value = self.value.trim();
        let number = || value.parse::<f64>().ok().filter(|number| number.is_finite());
        let shown = match self.kind {
            Kind::Shared => {
                value.parse().ok().and_then(|at| self.shared.get(at)).map(str::to_owned)
            }
            Kind::Truth => Some(if value == "1" { "TRUE" } else { "FALSE" }.to_owned()),
            Kind::Text => None,
            Kind::Number => number().map(|n| self.dates.show(n, self.style)),
        };
        self.grid.put(self.row, self.column, shown.as_deref().unwrap_or(&self.value));
        self.column = self.column.saturating_add(1);
    }
}

impl Visitor for Sheet<'_> {
    fn enter(&mut self, name: &str, element: &BytesStart) {
        match name {
            "row" => {
                let row = count(element, "r").and_then(|row| u32::try_from(row).ok());
                self.row = row.map_or(self.row, |row| row.saturating_sub(1));
                self.column = 0;
            }
            "c" => self.begin_cell(element),
            "v" | "t" => self.in_value = !self.phonetic,
            "rPh" => self.phonetic = true,
            "oddHeader" | "oddFooter" | "evenHeader" | "evenFooter" | "firstHeader"
            | "firstFooter" => {
                self.in_margin = true;
                self.value.clear();
            }
            _ => {}
        }
    }

    fn leave(&mut self, name: &str) {
        match name {
            "row" => self.row = self.row.saturating_add(1),
            "c" => self.end_cell(),
            "v" | "t" => self.in_value = false,
            "rPh" => self.phonetic = false,
            "oddHeader" | "oddFooter" | "evenHeader" | "evenFooter" | "firstHeader"
            | "firstFooter" => {
                self.in_margin = false;
                self.margins.push_str(margin(&self.value).trim());
                self.margins.push('\n');
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        if self.in_value || self.in_margin {
            self.value.push_str(text);
        }
    }

    fn is_full(&self) -> bool {
        self.grid.is_full()
    }
}

/// `BC12` as row 11 and column 54; `None` for what is no cell.
fn place_of(place: &str) -> Option<(u32, u32)> {
    let digits = place.find(|c: char| c.is_ascii_digit())?;
    let (letters, row) = place.split_at(digits);
    let column = letters.bytes().try_fold(0_u32, |column, letter| {
        let value = letter.to_ascii_uppercase().checked_sub(b'A').filter(|value| *value < 26)?;
        Some(column * 26 + u32::from(value) + 1).filter(|column| *column <= LAST_COLUMN)
    })?;
    let row: u32 = row.parse().ok().filter(|row| (1..=LAST_ROW).contains(row))?;
    Some((row - 1, column.checked_sub(1)?))
}

/// A header's words without its codes (18.3.1.46): `&C&"Arial,Bold"&12Page &P`.
fn margin(text: &str) -> String {
    let (mut words, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('&') {
        words.push_str(before);
        rest = match after.chars().next() {
            Some('&') => {
                words.push('&');
                &after[1..]
            }
            Some('"') => after[1..].split_once('"').map_or("", |(_, rest)| rest),
            Some('K') => after.get(7..).unwrap_or(""),
            Some(c) if c.is_ascii_digit() => after.trim_start_matches(|c: char| c.is_ascii_digit()),
            Some(c) => {
                words.push(' ');
                &after[c.len_utf8()..]
            }
            None => "",
        };
    }
    words.push_str(rest);
    words
}

#[cfg(test)]
mod tests {
    use super::super::tests::package;
    use super::*;

    const RELATIONS: &str = "<Relationships>\
        <Relationship Id='r1' Type='x/worksheet' Target='worksheets/sheet1.xml'/>\
        <Relationship Id='r2' Type='x/worksheet' Target='worksheets/sheet2.xml'/>\
        <Relationship Id='r3' Type='x/sharedStrings' Target='sharedStrings.xml'/>\
        <Relationship Id='r4' Type='x/styles' Target='styles.xml'/></Relationships>";

    fn book(sheet: &str) -> Vec<u8> {
        let workbook = "<workbook><sheets><sheet name='A &amp; B' sheetId='1' r:id='r1'/>\
            <sheet name='Empty' sheetId='2' r:id='r2'/></sheets></workbook>";
        let shared = "<sst><si><t>zero</t></si><si><r><t>o</t></r><r><t>ne</t></r>\
            <rPh><t>aloud</t></rPh></si></sst>";
        let styles = "<styleSheet><cellXfs><xf numFmtId='0'/><xf numFmtId='14'/></cellXfs>\
            </styleSheet>";
        package(&[
            ("xl/workbook.xml", workbook),
            ("xl/_rels/workbook.xml.rels", RELATIONS),
            ("xl/sharedStrings.xml", shared),
            ("xl/styles.xml", styles),
            ("xl/worksheets/sheet1.xml", sheet),
            ("xl/worksheets/sheet2.xml", "<worksheet><sheetData/></worksheet>"),
        ])
    }

    #[test]
    fn sheets_rows_and_cells_are_read() {
        let sheet = "<worksheet><sheetData><row r='2'><c r='B2' t='s'><v>1</v></c>\
            <c r='D2'><f>1/4</f><v>0.25</v></c><c t='b'><v>1</v></c></row>\
            <row><c s='1'><v>39083</v></c><c t='inlineStr'><is><t>in\nline</t></is></c></row>\
            </sheetData><headerFooter><oddHeader>&amp;C&amp;\"Arial,Bold\"&amp;12Top &amp;P\
            </oddHeader></headerFooter></worksheet>";
        let plain = text(&book(sheet), false).unwrap();
        let rows = "A & B\n\n\tone\t0.25\tTRUE\n2007-01-01\tin line\n\nTop\n\u{c}Empty\n";
        assert_eq!(plain, rows);
        let markdown = text(&book(sheet), true).unwrap();
        assert!(
            markdown.starts_with("## A & B\n\n|  | one | 0.25 | TRUE |\n| --- |"),
            "{markdown}"
        );
    }

    #[test]
    fn a_cell_far_out_costs_no_more_than_a_near_one() {
        let sheet = "<worksheet><dimension ref='A1:XFD1048576'/><sheetData>\
            <row r='1048576'><c r='XFD1048576'><v>7</v></c></row>\
            <row r='4294967295'><c r='ZZZZZZ99999999999'><v>8</v></c><c/><c/></row>\
            <row><c><v>9</v></c></row></sheetData></worksheet>";
        let plain = text(&book(sheet), false).unwrap();
        assert!(plain.contains('7') && plain.contains('8') && plain.len() < 100, "{plain}");
    }
}
