//! A sheet of cells: rows as lines, without the rows and columns that hold nothing.

use std::collections::BTreeSet;

use super::super::frame::Fault;
use super::writer::{Gap, MAX_TEXT, Writer, is_special};

/// The cells of one sheet as they come: twelve bytes and its text for each, however far out it is.
#[derive(Default)]
pub(super) struct Grid {
    text: String,
    /// Row, column, and where its text ends.
    cells: Vec<(u32, u32, usize)>,
    last: (u32, u32),
    in_order: bool,
}

impl Grid {
    pub(super) fn new() -> Self {
        Self { in_order: true, ..Self::default() }
    }

    /// Adds a cell's text; white space in it becomes a space, since lines and tabs part cells.
    pub(super) fn put(&mut self, row: u32, column: u32, text: &str) {
        let mut words = text.split_whitespace().peekable();
        if words.peek().is_none() {
            return;
        }
        let begin = self.text.len();
        for word in words {
            if self.text.len() > begin {
                self.text.push(' ');
            }
            self.text.extend(word.chars().filter(|c| !c.is_control()));
        }
        self.in_order &= self.cells.is_empty() || self.last <= (row, column);
        self.last = (row, column);
        self.cells.push((row, column, self.text.len()));
    }

    pub(super) fn is_full(&self) -> bool {
        self.text.len() > MAX_TEXT
    }

    /// Writes the rows: tabs between cells, or a Markdown table.
    pub(super) fn write(self, writer: &mut Writer) -> Result<(), Fault> {
        let Self { text, cells, in_order, .. } = self;
        let columns: BTreeSet<u32> = cells.iter().map(|(_, column, _)| *column).collect();
        let columns: Vec<u32> = columns.into_iter().collect();
        let mut begin = 0;
        let mut spans: Vec<(u32, u32, usize, usize)> = Vec::with_capacity(cells.len());
        for (row, column, end) in cells {
            spans.push((row, column, begin, end));
            begin = end;
        }
        if !in_order {
            spans.sort_by_key(|(row, column, ..)| (*row, *column));
        }
        writer.gap(Gap::Blank);
        for (at, row) in spans.chunk_by(|one, other| one.0 == other.0).enumerate() {
            let cells = row.iter().map(|(_, column, begin, end)| (*column, &text[*begin..*end]));
            let line = if writer.is_markdown() {
                markdown_row(&columns, cells)
            } else {
                plain_row(&columns, cells)
            };
            writer.raw(&line);
            writer.gap(Gap::Line);
            if at == 0 && writer.is_markdown() {
                writer.raw(&format!("|{}", " --- |".repeat(columns.len())));
                writer.gap(Gap::Line);
            }
            if writer.is_full() {
                return Err(Fault::Limit);
            }
        }
        writer.gap(Gap::Blank);
        Ok(())
    }
}

fn plain_row<'t>(columns: &[u32], cells: impl Iterator<Item = (u32, &'t str)>) -> String {
    let (mut line, mut at) = (String::new(), 0);
    for (column, text) in cells {
        let place = columns.binary_search(&column).unwrap_or(at);
        line.extend(std::iter::repeat_n('\t', place.saturating_sub(at)));
        line.push_str(text);
        at = place;
    }
    line
}

fn markdown_row<'t>(columns: &[u32], cells: impl Iterator<Item = (u32, &'t str)>) -> String {
    let (mut line, mut at) = (String::from("|"), 0);
    for (column, text) in cells {
        let place = columns.binary_search(&column).unwrap_or(at);
        line.push_str(&"  |".repeat(place.saturating_sub(at)));
        line.push(' ');
        for c in text.chars() {
            if is_special(c) || c == '|' {
                line.push('\\');
            }
            line.push(c);
        }
        line.push_str(" |");
        at = place + 1;
    }
    line.push_str(&"  |".repeat(columns.len().saturating_sub(at)));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(cells: &[(u32, u32, &str)], markdown: bool) -> String {
        let mut grid = Grid::new();
        cells.iter().for_each(|(row, column, text)| grid.put(*row, *column, text));
        let mut writer = Writer::new(markdown);
        grid.write(&mut writer).unwrap();
        writer.finish()
    }

    #[test]
    fn rows_and_columns_of_nothing_are_left_out() {
        let cells =
            [(7, 3, "a"), (7, 16_000, "b\n c|*"), (1_000_000, 90, "d"), (9, 3, " "), (7, 1, "0")];
        assert_eq!(written(&cells, false), "0\ta\t\tb c|*\n\t\td\n");
        let markdown = "| 0 | a |  | b c\\|\\* |\n| --- | --- | --- | --- |\n|  |  | d |  |\n";
        assert_eq!(written(&cells, true), markdown);
        assert_eq!(written(&[], true), "");
    }

    #[test]
    fn a_grid_of_tabs_is_refused() {
        let mut grid = Grid::new();
        (0..16_000).for_each(|column| grid.put(0, column, "x"));
        (1..20_000).for_each(|row| grid.put(row, 16_000, "x"));
        assert_eq!(grid.write(&mut Writer::new(false)), Err(Fault::Limit));
    }
}
