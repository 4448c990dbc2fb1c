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

/// A name that another service knows a file by: a slash is a part of it there, and a place here.
#[must_use]
pub fn foreign_name(name: &str) -> Option<String> {
    let flat: String = name.chars().take(1000).collect();
    clean(&flat.replace(['/', '\\'], "_")).ok().flatten()
}

/// The name of what a step has made of a file: its stem, with the new type's usual ending. What was
/// only packed keeps its own ending too.
#[must_use]
pub fn output_name(source: &str, media_type: &str) -> String {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    let packed = match essence {
        "application/gzip" => Some("gz"),
        "application/zstd" => Some("zst"),
        _ => None,
    };
    let made = match essence {
        "text/plain" => Some("txt"),
        "text/markdown" => Some("md"),
        "text/html" => Some("html"),
        "application/json" => Some("json"),
        "application/pdf" => Some("pdf"),
        "application/zip" => Some("zip"),
        "image/jpeg" => Some("jpg"),
        "image/png" => Some("png"),
        "image/webp" => Some("webp"),
        _ => None,
    };
    let stem = match source.rsplit_once('.') {
        Some((stem, _)) if packed.is_none() && made.is_some() && !stem.is_empty() => stem,
        _ => source,
    };
    let Some(ending) = packed.or(made) else { return source.to_owned() };
    let mut cut = stem.len().min(LONGEST_KEPT - ending.len() - 1);
    while !stem.is_char_boundary(cut) {
        cut -= 1;
    }
    format!("{}.{ending}", &stem[..cut])
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
    fn an_output_is_named_after_its_source() {
        let long = "\u{e9}".repeat(127);
        let cut = format!("{}.txt", "\u{e9}".repeat(125));
        for (source, media_type, name) in [
            ("report.pdf", "text/plain; charset=utf-8", "report.txt"),
            ("a.tar", "application/gzip", "a.tar.gz"),
            ("README", "application/json", "README.json"),
            (".profile", "text/markdown", ".profile.md"),
            ("photo.jpg", "application/x-unknown", "photo.jpg"),
            (&long, "text/plain", &cut),
        ] {
            assert_eq!(output_name(source, media_type), name);
        }
    }

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
