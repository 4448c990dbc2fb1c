//! Tables that are texts (RFC 4180): as they are, or as a Markdown table.

use super::super::frame::Fault;
use super::grid::Grid;
use super::plain;
use super::writer::Writer;

/// Columns a table may have: what any program can open.
const MAX_COLUMNS: u32 = 16_384;

pub(super) fn text(document: &[u8], tabs: bool, markdown: bool) -> Result<String, Fault> {
    let text = plain::text(document);
    if !markdown {
        return Ok(text);
    }
    let separator = if tabs { '\t' } else { separator(&text) };
    let mut grid = Grid::new();
    let (mut row, mut column, mut field, mut quoted) = (0, 0, String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.next_if_eq(&'"').is_some() => field.push('"'),
            '"' if quoted => quoted = false,
            '"' if field.is_empty() && !tabs => quoted = true,
            c if quoted => field.push(c),
            c if c == separator => {
                grid.put(row, column, &field);
                field.clear();
                column += 1;
                if column > MAX_COLUMNS {
                    return Err(Fault::Complex);
                }
            }
            '\n' => {
                grid.put(row, column, &field);
                field.clear();
                (row, column) = (row.saturating_add(1), 0);
            }
            c => field.push(c),
        }
    }
    grid.put(row, column, &field);
    let mut writer = Writer::new(true);
    grid.write(&mut writer)?;
    Ok(writer.finish())
}

/// A comma, or the semicolon of languages that write decimals with a comma.
fn separator(text: &str) -> char {
    let first = text.lines().next().unwrap_or_default();
    if first.matches(';').count() > first.matches(',').count() { ';' } else { ',' }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_cut_where_the_format_has_it() {
        let csv = b"a;b\r\n\"1;\"\"x\"\"\ny\";2,5\r\n";
        assert_eq!(text(csv, false, false).unwrap(), "a;b\n\"1;\"\"x\"\"\ny\";2,5\n");
        let table = "| a | b |\n| --- | --- |\n| 1;\"x\" y | 2,5 |\n";
        assert_eq!(text(csv, false, true).unwrap(), table);
        assert_eq!(
            text(b"a\tb\n\"c\td\n", true, true).unwrap(),
            "| a | b |\n| --- | --- |\n| \"c | d |\n"
        );
    }
}
