//! Text with a structure, written plain or as Markdown: paragraphs, headings, lists, tables.

/// What separates the next text from the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Gap {
    None,
    Line,
    Blank,
}

/// Collects the text of a document.
pub(super) struct Writer {
    markdown: bool,
    out: String,
    gap: Gap,
    /// White space was seen and not yet written.
    space: bool,
    /// Written before the next text: a list item's or heading's mark.
    mark: Option<String>,
    tables: Vec<Table>,
}

/// A table being collected; what came before it waits in `before`.
struct Table {
    rows: Vec<Vec<String>>,
    before: String,
    gap: Gap,
}

/// List items are indented no deeper than this, whatever the document nests.
const MAX_INDENT: usize = 16;

/// Bytes of text after which a document is not read on: what a worker may answer with.
pub(super) const MAX_TEXT: usize = 64 << 20;

/// Stands between pages, slides and sheets.
const PAGE: char = '\u{c}';

impl Writer {
    pub(super) fn new(markdown: bool) -> Self {
        let (out, tables) = (String::new(), Vec::new());
        Self { markdown, out, gap: Gap::None, space: false, mark: None, tables }
    }

    pub(super) const fn is_markdown(&self) -> bool {
        self.markdown
    }

    /// The next text begins after `gap`, or a wider one that was asked for before.
    pub(super) fn gap(&mut self, gap: Gap) {
        if gap != Gap::None {
            self.gap = self.gap.max(gap);
            self.space = false;
        }
    }

    /// The next text begins a slide, sheet or chapter, whether or not the last one had any.
    pub(super) fn page(&mut self) {
        if self.tables.is_empty() {
            self.out.truncate(self.out.trim_end_matches([' ', '\n', '\t']).len());
            if !self.out.is_empty() && !self.out.ends_with(PAGE) {
                self.out.push('\n');
            }
            self.out.push(PAGE);
            (self.gap, self.mark, self.space) = (Gap::None, None, false);
        }
    }

    /// The next text begins a page, unless there was none on this one. In a table, which may be as
    /// long as a page, nothing happens.
    pub(super) fn page_break(&mut self) {
        if self.tables.is_empty() && !self.out.is_empty() && !self.out.ends_with(PAGE) {
            let mark = self.mark.take();
            self.page();
            self.mark = mark;
        }
    }

    /// Whether there is more text than anybody may be answered with.
    pub(super) fn is_full(&self) -> bool {
        self.out.len() > MAX_TEXT
    }

    /// The next text is a heading.
    pub(super) fn heading(&mut self, level: usize) {
        self.gap(Gap::Blank);
        self.mark = self.markdown.then(|| format!("{} ", "#".repeat(level.clamp(1, 6))));
    }

    /// The next text is a list item, `depth` lists deep; `number` in an ordered list.
    pub(super) fn item(&mut self, depth: usize, number: Option<u64>) {
        self.gap(Gap::Line);
        let indent = "  ".repeat(depth.saturating_sub(1).min(MAX_INDENT));
        self.mark = Some(match number {
            Some(number) => format!("{indent}{number}. "),
            None => format!("{indent}- "),
        });
    }

    /// Forgets a mark no text followed, and ends the block.
    pub(super) fn end_block(&mut self, gap: Gap) {
        self.mark = None;
        self.gap(gap);
    }

    /// Text in which white space only separates words.
    pub(super) fn flowing(&mut self, text: &str) {
        for c in text.chars() {
            if c.is_whitespace() && c != '\u{a0}' {
                self.space = true;
            } else {
                self.open();
                let at_start = self.out.is_empty() || self.out.ends_with(['\n', ' ', '\t', PAGE]);
                if std::mem::take(&mut self.space) && !at_start {
                    self.out.push(' ');
                }
                self.push(c);
            }
        }
    }

    /// Text whose white space counts; Markdown's own characters are escaped.
    pub(super) fn exact(&mut self, text: &str) {
        if !text.is_empty() {
            self.open();
            text.chars().for_each(|c| self.push(c));
        }
    }

    /// Text as it is: code, or Markdown.
    pub(super) fn raw(&mut self, text: &str) {
        if !text.is_empty() {
            self.open();
            if std::mem::take(&mut self.space) && !self.out.ends_with(['\n', ' ', '\t', '[', PAGE])
            {
                self.out.push(' ');
            }
            self.out.push_str(text);
        }
    }

    pub(super) fn line_break(&mut self) {
        self.space = false;
        if !self.out.is_empty() && self.gap == Gap::None {
            let in_table = !self.tables.is_empty();
            self.out.push_str(if self.markdown && !in_table { "  \n" } else { "\n" });
        }
    }

    pub(super) fn begin_table(&mut self) {
        let before = std::mem::take(&mut self.out);
        self.tables.push(Table { rows: Vec::new(), before, gap: self.gap });
        (self.gap, self.mark, self.space) = (Gap::None, None, false);
    }

    pub(super) fn begin_row(&mut self) {
        if let Some(table) = self.tables.last_mut() {
            table.rows.push(Vec::new());
        }
    }

    /// Ends a cell: the text since the last one was its own.
    pub(super) fn end_cell(&mut self) {
        let Some(table) = self.tables.last_mut() else { return };
        let cell = self.out.trim().to_owned();
        self.out.clear();
        (self.gap, self.mark, self.space) = (Gap::None, None, false);
        match table.rows.last_mut() {
            Some(row) => row.push(cell),
            None => table.rows.push(vec![cell]),
        }
    }

    pub(super) fn end_table(&mut self) {
        let Some(mut table) = self.tables.pop() else { return };
        // Text between the rows, such as a caption.
        let stray = std::mem::replace(&mut self.out, table.before);
        (self.gap, self.mark, self.space) = (table.gap, None, false);
        table.rows.retain(|row| row.iter().any(|cell| !cell.is_empty()));
        self.gap(Gap::Blank);
        self.raw(stray.trim());
        self.gap(Gap::Blank);
        let columns = drop_empty_columns(&mut table.rows);
        let is_layout = columns < 2 || table.rows.iter().flatten().any(|cell| cell.contains('\n'));
        if is_layout {
            for cell in table.rows.iter().flatten() {
                self.raw(cell);
                let is_block = self.markdown || cell.contains('\n');
                self.gap(if is_block { Gap::Blank } else { Gap::Line });
            }
        } else if self.markdown {
            self.markdown_table(&table.rows, columns);
        } else {
            for row in &table.rows {
                self.raw(&row.join("\t"));
                self.gap(Gap::Line);
            }
        }
        self.gap(Gap::Blank);
    }

    fn markdown_table(&mut self, rows: &[Vec<String>], columns: usize) {
        for (index, row) in rows.iter().enumerate() {
            let cells = (0..columns).map(|column| {
                row.get(column).map(|cell| cell.replace('|', "\\|")).unwrap_or_default()
            });
            let line = cells.collect::<Vec<_>>().join(" | ");
            self.raw(&format!("| {line} |"));
            self.gap(Gap::Line);
            if index == 0 {
                self.raw(&format!("|{}", " --- |".repeat(columns)));
                self.gap(Gap::Line);
            }
        }
    }

    /// The text, ended by one line feed unless it is empty.
    pub(super) fn finish(mut self) -> String {
        while !self.tables.is_empty() {
            self.end_cell();
            self.end_table();
        }
        self.out.truncate(self.out.trim_end_matches([' ', '\n', '\t']).len());
        if !self.out.is_empty() && !self.out.ends_with(PAGE) {
            self.out.push('\n');
        }
        self.out
    }

    fn open(&mut self) {
        let gap = std::mem::replace(&mut self.gap, Gap::None);
        if gap != Gap::None && !self.out.is_empty() {
            self.out.truncate(self.out.trim_end_matches([' ', '\n', '\t']).len());
            if !self.out.ends_with(PAGE) {
                self.out.push_str(if gap == Gap::Line { "\n" } else { "\n\n" });
            }
        }
        if let Some(mark) = self.mark.take() {
            self.out.push_str(&mark);
            self.space = false;
        }
    }

    fn push(&mut self, c: char) {
        if self.markdown {
            let at_line_start = self.out.is_empty() || self.out.ends_with(['\n', PAGE]);
            if is_special(c) || (at_line_start && matches!(c, '#' | '>' | '+' | '-' | '=')) {
                self.out.push('\\');
            }
        }
        // Controls would say things the document does not: a form feed is a page's end.
        if !c.is_control() || c == '\n' || c == '\t' {
            self.out.push(c);
        }
    }
}

/// Whether Markdown reads something into a character wherever it stands.
pub(super) const fn is_special(c: char) -> bool {
    matches!(c, '\\' | '`' | '*' | '_' | '[' | ']' | '<')
}

/// Drops the columns in which no row has anything; returns how many are left.
fn drop_empty_columns(rows: &mut [Vec<String>]) -> usize {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let is_used = |column: &usize| {
        rows.iter().any(|row| row.get(*column).is_some_and(|cell| !cell.is_empty()))
    };
    let used: Vec<usize> = (0..columns).filter(is_used).collect();
    for row in rows {
        let mut kept = used.iter().map(|column| row.get_mut(*column).map(std::mem::take));
        *row = kept.by_ref().map(Option::unwrap_or_default).collect();
    }
    used.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(markdown: bool) -> String {
        let mut writer = Writer::new(markdown);
        writer.heading(2);
        writer.flowing("  A \n title ");
        writer.end_block(Gap::Blank);
        writer.flowing("one *two*");
        writer.flowing(" three");
        writer.item(1, None);
        writer.flowing("x");
        writer.item(2, Some(7));
        writer.flowing("y");
        writer.gap(Gap::Blank);
        writer.begin_table();
        for cells in [["a", "b|c"], ["1", "2"]] {
            writer.begin_row();
            for cell in cells {
                writer.flowing(cell);
                writer.end_cell();
            }
        }
        writer.end_table();
        writer.flowing("end");
        writer.finish()
    }

    #[test]
    fn structure_is_kept_plain_and_as_markdown() {
        assert_eq!(
            sample(false),
            "A title\n\none *two* three\n- x\n  7. y\n\na\tb|c\n1\t2\n\nend\n"
        );
        let expected = "## A title\n\none \\*two\\* three\n- x\n  7. y\n\n\
            | a | b\\|c |\n| --- | --- |\n| 1 | 2 |\n\nend\n";
        assert_eq!(sample(true), expected);
    }

    #[test]
    fn pages_are_parted_by_form_feeds_and_a_break_on_an_empty_one_is_none() {
        let mut writer = Writer::new(false);
        writer.page_break();
        writer.flowing("one");
        writer.page_break();
        writer.page_break();
        writer.gap(Gap::Blank);
        writer.flowing("two");
        writer.page();
        writer.page();
        assert_eq!(writer.finish(), "one\n\u{c}two\n\u{c}\u{c}");
    }

    #[test]
    fn a_table_of_paragraphs_is_layout_and_an_open_one_is_closed() {
        let mut writer = Writer::new(true);
        writer.begin_table();
        writer.begin_row();
        writer.flowing("one");
        writer.gap(Gap::Blank);
        writer.flowing("two");
        writer.end_cell();
        writer.flowing("three");
        assert_eq!(writer.finish(), "one\n\ntwo\n\nthree\n");
    }
}
