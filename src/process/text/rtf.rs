//! The text of a Rich Text Format file (specification 1.9.1): what it shows, with its headers,
//! notes and tables. Groups are kept on a stack of our own, so that they may nest as they like.

use std::collections::HashMap;

use encoding_rs::{Encoding, WINDOWS_1252};

use super::super::frame::Fault;
use super::writer::{Gap, Writer};

mod code_page;
mod tokens;
use tokens::{Token, Tokens};

/// Groups nested deeper than this are refused.
const MAX_DEPTH: usize = 10_000;

/// Destinations that are no text of the document, beside those marked as optional.
const HIDDEN: [&str; 31] = [
    "fonttbl",
    "colortbl",
    "stylesheet",
    "info",
    "pict",
    "object",
    "objdata",
    "datafield",
    "listtable",
    "listoverridetable",
    "rsidtbl",
    "generator",
    "xmlnstbl",
    "themedata",
    "colorschememapping",
    "latentstyles",
    "datastore",
    "fldinst",
    "bkmkstart",
    "bkmkend",
    "nonshppict",
    "filetbl",
    "revtbl",
    "template",
    "ftnsep",
    "ftnsepc",
    "aftnsep",
    "aftnsepc",
    "pntext",
    "xe",
    "tc",
];

/// Optional destinations that are text all the same.
const SHOWN: [&str; 4] = ["shptxt", "annotation", "footnote", "shpinst"];

/// What a group inherits from the one around it.
#[derive(Clone)]
struct State {
    hidden: bool,
    font_table: bool,
    /// Text that is not shown or was deleted.
    invisible: bool,
    /// Bytes that stand for a character after its number.
    fallback: usize,
    font: i64,
    symbol: bool,
}

struct Reading {
    writer: Writer,
    state: State,
    saved: Vec<State>,
    /// Bytes in the current font's encoding, not yet decoded.
    pending: Vec<u8>,
    /// Bytes still to be passed over after a numbered character.
    pass: usize,
    high: Option<u16>,
    encoding: &'static Encoding,
    fonts: HashMap<i64, &'static Encoding>,
    current_font: i64,
    in_row: bool,
    in_table: bool,
    /// `\*` was seen: the group's destination may be passed over.
    optional: bool,
}

pub(super) fn text(document: &[u8], markdown: bool) -> Result<String, Fault> {
    let mut reading = Reading {
        writer: Writer::new(markdown),
        state: State {
            hidden: false,
            font_table: false,
            invisible: false,
            fallback: 1,
            font: -1,
            symbol: false,
        },
        saved: Vec::new(),
        pending: Vec::new(),
        pass: 0,
        high: None,
        encoding: WINDOWS_1252,
        fonts: HashMap::new(),
        current_font: -1,
        in_row: false,
        in_table: false,
        optional: false,
    };
    for token in Tokens::of(document) {
        reading.obey(token)?;
    }
    reading.flush();
    reading.end_table();
    Ok(reading.writer.finish())
}

impl Reading {
    fn obey(&mut self, token: Token) -> Result<(), Fault> {
        match token {
            Token::Open => {
                self.flush();
                if self.saved.len() >= MAX_DEPTH {
                    return Err(Fault::Complex);
                }
                self.saved.push(self.state.clone());
                self.pass = 0;
            }
            Token::Close => {
                self.flush();
                self.pass = 0;
                if let Some(state) = self.saved.pop() {
                    self.state = state;
                }
                if self.writer.is_full() {
                    return Err(Fault::Limit);
                }
            }
            Token::Byte(byte) => self.byte(byte),
            Token::Bytes(bytes) => bytes.iter().for_each(|byte| self.byte(*byte)),
            Token::Symbol(b'*') => self.optional = true,
            Token::Symbol(symbol) => self.symbol(symbol),
            Token::Word(word, number) => {
                let optional = std::mem::take(&mut self.optional);
                if optional && !SHOWN.contains(&word) {
                    self.hide();
                } else {
                    self.word(word, number);
                }
            }
        }
        Ok(())
    }

    const fn is_shown(&self) -> bool {
        !self.state.hidden && !self.state.invisible
    }

    fn hide(&mut self) {
        self.flush();
        self.state.hidden = true;
    }

    fn byte(&mut self, byte: u8) {
        if self.pass > 0 {
            self.pass -= 1;
        } else if self.is_shown() && !self.state.symbol {
            self.pending.push(byte);
        }
    }

    /// Decodes what has gathered: a character may be cut between two escapes.
    fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        // What stands outside of a row stands outside of the table.
        if !self.in_row {
            self.end_table();
        }
        let encoding = self.fonts.get(&self.state.font).copied().unwrap_or(self.encoding);
        self.writer.exact(&encoding.decode_without_bom_handling(&self.pending).0);
        self.pending.clear();
    }

    fn character(&mut self, c: char) {
        self.flush();
        if self.is_shown() {
            if !self.in_row {
                self.end_table();
            }
            self.writer.exact(c.encode_utf8(&mut [0; 4]));
        }
    }

    fn symbol(&mut self, symbol: u8) {
        match symbol {
            b'~' => self.character('\u{a0}'),
            b'_' => self.character('\u{2011}'),
            b'\n' | b'\r' => self.word("par", None),
            b'\t' => self.character('\t'),
            // An optional hyphen, and an index entry's mark: nothing is seen of them.
            _ => {}
        }
    }

    /// A character by its number in UTF-16, signed (`\u`).
    fn unicode(&mut self, number: i64) {
        self.flush();
        self.pass = self.state.fallback;
        let Some(unit) = u16::try_from(number).ok().or_else(|| signed(number)) else { return };
        let high = self.high.take();
        match unit {
            0xd800..=0xdbff => self.high = Some(unit),
            0xdc00..=0xdfff => {
                let pair = high.map(|high| [high, unit]);
                let decoded = pair.and_then(|pair| char::decode_utf16(pair).next()?.ok());
                decoded.into_iter().for_each(|c| self.character(c));
            }
            // Symbol fonts show their own signs for these: they are no letters.
            0xf000..=0xf0ff => {}
            _ => char::from_u32(u32::from(unit)).into_iter().for_each(|c| self.character(c)),
        }
    }

    fn word(&mut self, word: &str, number: Option<i64>) {
        let value = number.unwrap_or(1);
        if self.state.font_table {
            self.font_table(word, value);
            return;
        }
        match word {
            "u" => self.unicode(value),
            "uc" => self.state.fallback = usize::try_from(value).unwrap_or(1).min(64),
            "ansicpg" => self.encoding = code_page::of(value).unwrap_or(self.encoding),
            "mac" => self.encoding = encoding_rs::MACINTOSH,
            "pc" => self.encoding = encoding_rs::IBM866,
            "fonttbl" => {
                self.hide();
                self.state.font_table = true;
            }
            "f" => {
                self.flush();
                self.state.font = value;
            }
            "plain" => {
                self.flush();
                self.state.font = -1;
                self.state.invisible = false;
            }
            "v" | "deleted" => {
                self.flush();
                self.state.invisible = number != Some(0);
            }
            _ if HIDDEN.contains(&word) => self.hide(),
            _ if self.is_shown() => self.layout(word),
            _ => {}
        }
    }

    fn font_table(&mut self, word: &str, value: i64) {
        match word {
            "f" => self.current_font = value,
            "fcharset" => {
                if let Some(encoding) = code_page::of_charset(value) {
                    self.fonts.insert(self.current_font, encoding);
                }
            }
            "cpg" => {
                if let Some(encoding) = code_page::of(value) {
                    self.fonts.insert(self.current_font, encoding);
                }
            }
            _ => {}
        }
    }

    /// Words that place text, or are a character themselves.
    fn layout(&mut self, word: &str) {
        let character = match word {
            "tab" => '\t',
            "emdash" => '\u{2014}',
            "endash" => '\u{2013}',
            "lquote" => '\u{2018}',
            "rquote" => '\u{2019}',
            "ldblquote" => '\u{201c}',
            "rdblquote" => '\u{201d}',
            "bullet" => '\u{2022}',
            "emspace" | "enspace" | "qmspace" => ' ',
            _ => {
                self.flush();
                self.place(word);
                return;
            }
        };
        self.character(character);
    }

    fn place(&mut self, word: &str) {
        match word {
            "par" | "sect" => {
                // A paragraph outside of a table's rows ends the table.
                if !self.in_row {
                    self.end_table();
                }
                self.writer.gap(Gap::Line);
            }
            "pard" => self.in_row = false,
            "intbl" => {
                self.in_row = true;
                if !std::mem::replace(&mut self.in_table, true) {
                    self.writer.begin_table();
                    self.writer.begin_row();
                }
            }
            "cell" | "nestcell" if self.in_table => self.writer.end_cell(),
            "row" | "nestrow" if self.in_table => self.writer.begin_row(),
            "cell" | "nestcell" => self.writer.exact("\t"),
            "row" | "nestrow" => self.writer.gap(Gap::Line),
            "line" => self.writer.line_break(),
            "page" | "sbkpage" => {
                if !self.in_row {
                    self.end_table();
                }
                self.writer.page_break();
            }
            "header" | "footer" | "headerl" | "headerr" | "headerf" | "footerl" | "footerr"
            | "footerf" | "footnote" | "annotation" | "shptxt" => self.writer.gap(Gap::Line),
            _ => {}
        }
    }

    fn end_table(&mut self) {
        if std::mem::take(&mut self.in_table) {
            self.writer.end_table();
        }
    }
}

/// The number of a character above 32 767, which is written as a negative one.
fn signed(number: i64) -> Option<u16> {
    i16::try_from(number).ok().map(i16::cast_unsigned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(rtf: &str) -> String {
        text(rtf.as_bytes(), false).unwrap()
    }

    #[test]
    fn text_is_told_from_what_describes_it() {
        let rtf = r"{\rtf1\ansi\ansicpg1252{\fonttbl{\f0\fcharset0 Arial;}{\f1\fcharset238 A;}}
            {\info{\author Nobody}}{\*\generator Riched20;}{\stylesheet{\s1 heading 1;}}
            \pard Caf\'e9 {\f1\'b9} \u8364?\u-10179\'5f\u-8704\'5f a\~b\tab c\line d\par
            \{e\}{\v hidden}{\*\unknown no}{\field{\*\fldinst HYPERLINK x}{\fldrslt link}}\par}";
        let expected = "Caf\u{e9} \u{105} \u{20ac}\u{1f600} a\u{a0}b\tc\nd\n{e}link\n";
        assert_eq!(read(rtf).replace("            ", ""), expected);
    }

    #[test]
    fn tables_pages_and_headers_are_read() {
        let row = |a: &str, b: &str| format!(r"\trowd\pard\intbl {a}\cell {b}\cell\row ");
        let rtf = format!(
            r"{{\rtf1{{\header top\par}}one\par {}{}\pard two\page three{{\footnote n}}}}",
            row("a", "b"),
            row("c", "d")
        );
        assert_eq!(read(&rtf), "top\none\n\na\tb\nc\td\n\ntwo\n\u{c}three\nn\n");
    }

    #[test]
    fn tricks_with_groups_lengths_and_binary_cost_nothing() {
        assert_eq!(text("{".repeat(1_000_000).as_bytes(), false), Err(Fault::Complex));
        assert_eq!(read("}}}}{\\rtf1 a}}}b"), "ab\n");
        assert_eq!(read(r"{\rtf1 a{\pict\bin99999999999 xx}b}"), "a\n");
        assert_eq!(read("{\\rtf1 a\\bin3 }}}b}"), "a}}}b\n");
        assert_eq!(read(r"{\rtf1\u99999999999999999999 ?\uc-5\uc999999\u65 x\'zz\'4}"), "A\n");
    }
}
