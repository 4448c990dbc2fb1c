//! A file's name, made safe: it is shown and handed back, never used as a path.

use unicode_normalization::UnicodeNormalization;

/// A name longer than this is refused, bytes.
const LONGEST_ASKED: usize = 4096;
/// A name is cut to this, bytes.
const LONGEST_KEPT: usize = 255;

/// The name is longer than 4 096 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the file name is longer than 4096 bytes")]
pub struct NameError;

/// The last segment after `/` and `\`, in NFC, without control, bidi and NUL characters, cut at 255
/// bytes; `None` if nothing is left, or only `.` or `..`.
///
/// # Errors
/// When the name is longer than 4 096 bytes.
pub fn clean(asked: &str) -> Result<Option<String>, NameError> {
    if asked.len() > LONGEST_ASKED {
        return Err(NameError);
    }
    let last = asked.rsplit(['/', '\\']).next().unwrap_or_default();
    let mut name = String::new();
    for character in last.chars().filter(|c| !is_hidden(*c)).nfc() {
        if name.len() + character.len_utf8() > LONGEST_KEPT {
            break;
        }
        name.push(character);
    }
    // A name that is only dots would be a place, not a file, wherever it is saved.
    let real = !matches!(name.as_str(), "" | "." | "..");
    Ok(real.then_some(name))
}

/// Control characters, line separators, and those that reorder the text around them (Unicode
/// UAX #9). Joiners stay: Persian and emoji are spelled with them.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_become_harmless_ones() {
        for (asked, kept) in [
            ("report.pdf", Some("report.pdf")),
            ("../../etc/passwd", Some("passwd")),
            ("C:\\temp\\x.doc", Some("x.doc")),
            ("a/b/", None),
            ("..", None),
            (".", None),
            ("", None),
            ("\0\u{7}\r\n", None),
            ("in\r\nvoice.pdf", Some("invoice.pdf")),
            ("cod\u{202e}fdp.exe", Some("codfdp.exe")),
            ("e\u{301}.txt", Some("é.txt")),
            (".bashrc", Some(".bashrc")),
            ("می\u{200c}خواهم.txt", Some("می\u{200c}خواهم.txt")),
            (" spaced ", Some(" spaced ")),
        ] {
            assert_eq!(clean(asked).unwrap().as_deref(), kept, "{asked:?}");
        }
    }

    #[test]
    fn long_names_are_cut_at_a_character_and_very_long_ones_refused() {
        let cut = clean(&"é".repeat(200)).unwrap().unwrap();
        assert_eq!(cut, "é".repeat(127));
        assert_eq!(clean(&"x".repeat(4097)), Err(NameError));
        assert!(clean(&"x".repeat(4096)).is_ok());
    }
}
