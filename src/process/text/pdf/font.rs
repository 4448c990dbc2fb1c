//! Fonts, as far as text goes: what a code means, and how far it moves the pen.

use std::collections::HashMap;

use encoding_rs::Encoding;
use lopdf::{Dictionary, Document, Object, Stream};

use super::cmap::CMap;
use super::{MAX_STREAM, dictionary, entry, number, numbers};

/// The pen's way where a font does not tell, in thousandths of an em.
const USUAL_WIDTH: f64 = 500.0;

/// Widths a composite font may list one by one.
const MAX_WIDTHS: usize = 100_000;

/// A font.
pub(super) struct Font {
    to_unicode: CMap,
    coding: Coding,
    widths: HashMap<u32, f64>,
    default_width: f64,
    /// Thousandths of an em per unit of width: 1, but for Type 3 fonts.
    unit: f64,
}

/// How codes are cut out of a string, and what they mean where no map tells.
enum Coding {
    /// One byte each.
    Simple(Box<[String; 256]>),
    /// As an embedded map says, two bytes each where it does not.
    Composite(CMap),
    /// Two bytes each, being UTF-16.
    Utf16,
    /// One or two bytes each, in a legacy encoding.
    Legacy(&'static Encoding),
}

/// One code of a string.
pub(super) struct Code {
    pub text: String,
    /// Thousandths of an em.
    pub width: f64,
    /// A single byte 32, which word spacing applies to.
    pub is_space: bool,
}

impl Font {
    pub(super) fn read(document: &Document, font: &Dictionary) -> Self {
        let to_unicode = stream(document, font, b"ToUnicode").map(|bytes| CMap::parse(&bytes));
        let to_unicode = to_unicode.unwrap_or_default();
        let subtype = entry(document, font, b"Subtype").and_then(|name| name.as_name().ok());
        if subtype == Some(b"Type0") {
            return Self::composite(document, font, to_unicode);
        }
        let mut widths = HashMap::new();
        let first = entry(document, font, b"FirstChar").and_then(|first| first.as_i64().ok());
        let first = first.and_then(|first| u32::try_from(first).ok()).unwrap_or(0);
        for (code, width) in
            (first..256).zip(numbers(document, font, b"Widths").unwrap_or_default())
        {
            widths.insert(code, width);
        }
        let descriptor = dictionary(document, font, b"FontDescriptor");
        let missing = descriptor.and_then(|d| number(document, d.get(b"MissingWidth").ok()?));
        let default_width = match missing {
            Some(width) if width > 0.0 => width,
            _ if widths.is_empty() => usual_width(document, font),
            _ => 0.0,
        };
        let matrix = numbers(document, font, b"FontMatrix").filter(|_| subtype == Some(b"Type3"));
        let unit = matrix.and_then(|matrix| matrix.first().copied()).map_or(1.0, |a| a * 1000.0);
        let coding = Coding::Simple(Box::new(simple_table(document, font, subtype)));
        Self { to_unicode, coding, widths, default_width, unit }
    }

    fn composite(document: &Document, font: &Dictionary, to_unicode: CMap) -> Self {
        let coding = match entry(document, font, b"Encoding") {
            Some(Object::Stream(map)) => Coding::Composite(CMap::parse(&unpack(map))),
            Some(Object::Name(name)) => predefined(name),
            _ => Coding::Composite(CMap::default()),
        };
        let descendants = entry(document, font, b"DescendantFonts");
        let first = descendants.and_then(|array| array.as_array().ok()?.first());
        let descendant = first.and_then(|font| document.dereference(font).ok()?.1.as_dict().ok());
        let mut widths = HashMap::new();
        let mut default_width = 1000.0;
        if let Some(descendant) = descendant {
            if let Some(width) = descendant.get(b"DW").ok().and_then(|w| number(document, w)) {
                default_width = width;
            }
            // The widths are listed by glyph; only under an identity map is that the code too.
            if matches!(coding, Coding::Composite(_)) {
                read_widths(document, descendant, &mut widths);
            }
        }
        Self { to_unicode, coding, widths, default_width, unit: 1.0 }
    }

    /// Cuts a string into codes, in order.
    pub(super) fn codes(&self, mut bytes: &[u8], mut each: impl FnMut(Code)) {
        while let Some((first, _)) = bytes.split_first() {
            let length = match &self.coding {
                Coding::Simple(_) => 1,
                Coding::Composite(map) => map.code_length(*first).unwrap_or(2),
                Coding::Utf16 => 2,
                Coding::Legacy(_) => 1 + usize::from(*first > 0x80),
            };
            let (code_bytes, rest) = bytes.split_at(length.clamp(1, bytes.len()));
            bytes = rest;
            let code = code_bytes.iter().fold(0, |code, byte| (code << 8) | u32::from(*byte));
            let text = self.to_unicode.get(code).filter(|text| is_meaningful(text));
            let text = text.unwrap_or_else(|| self.coding.decode(code_bytes));
            let width = self.widths.get(&code).copied().unwrap_or(self.default_width) * self.unit;
            each(Code { text, width, is_space: code_bytes == b" " });
        }
    }
}

/// Some producers map what they do not know to zero.
fn is_meaningful(text: &str) -> bool {
    text.chars().any(|c| c != '\0' && c != '\u{fffd}')
}

impl Coding {
    fn decode(&self, code: &[u8]) -> String {
        match self {
            Self::Simple(table) => {
                code.first().map(|byte| table[usize::from(*byte)].clone()).unwrap_or_default()
            }
            // A glyph number without a map: its meaning is in the font's outlines.
            Self::Composite(_) => String::new(),
            Self::Utf16 => encoding_rs::UTF_16BE.decode_without_bom_handling(code).0.into_owned(),
            Self::Legacy(encoding) => encoding.decode_without_bom_handling(code).0.into_owned(),
        }
    }
}

/// The character maps that PDF predefines (table 118), by the encoding in their names.
fn predefined(name: &[u8]) -> Coding {
    let name = String::from_utf8_lossy(name);
    let starts = |heads: &[&str]| heads.iter().any(|head| name.starts_with(head));
    if name.contains("UCS2") || name.contains("UTF16") {
        Coding::Utf16
    } else if starts(&["90ms-RKSJ", "90msp-RKSJ", "83pv-RKSJ", "90pv-RKSJ", "Add-RKSJ", "Ext-RKSJ"])
    {
        Coding::Legacy(encoding_rs::SHIFT_JIS)
    } else if starts(&["EUC-"]) {
        Coding::Legacy(encoding_rs::EUC_JP)
    } else if starts(&["GB-EUC", "GBpc-EUC", "GBK-EUC", "GBKp-EUC", "GBK2K"]) {
        Coding::Legacy(encoding_rs::GBK)
    } else if starts(&["B5pc", "ETen-B5", "ETenms-B5", "HKscs-B5"]) {
        Coding::Legacy(encoding_rs::BIG5)
    } else if starts(&["KSC-EUC", "KSCms-UHC", "KSCpc-EUC"]) {
        Coding::Legacy(encoding_rs::EUC_KR)
    } else {
        Coding::Composite(CMap::default())
    }
}

/// A composite font's widths (9.7.4.3): `c [w …]` and `first last w`.
fn read_widths(document: &Document, font: &Dictionary, widths: &mut HashMap<u32, f64>) {
    let Some(array) = entry(document, font, b"W").and_then(|array| array.as_array().ok()) else {
        return;
    };
    let code = |object: &Object| {
        let code = document.dereference(object).ok()?.1.as_i64().ok()?;
        u32::try_from(code).ok().filter(|code| *code <= 0xffff)
    };
    let mut rest = array.as_slice();
    while let [first, second, after @ ..] = rest {
        let Some(first) = code(first) else { return };
        if let Ok((_, Object::Array(list))) = document.dereference(second) {
            for (code, width) in (first..).zip(list).take(MAX_WIDTHS) {
                widths.insert(code, number(document, width).unwrap_or(USUAL_WIDTH));
            }
            rest = after;
        } else if let ([width, after @ ..], Some(last)) = (after, code(second)) {
            let width = number(document, width).unwrap_or(USUAL_WIDTH);
            widths.extend((first..=last).map(|code| (code, width)));
            rest = after;
        } else {
            return;
        }
        if widths.len() > MAX_WIDTHS {
            return;
        }
    }
}

/// Ligatures of TeX's fonts (OT1 and T1), whose encoding is often in the font program alone. No
/// named encoding has these codes.
const TEX_LIGATURES: [(usize, &str); 10] = [
    (0x0b, "ff"),
    (0x0c, "fi"),
    (0x0d, "fl"),
    (0x0e, "ffi"),
    (0x0f, "ffl"),
    (0x1b, "ff"),
    (0x1c, "fi"),
    (0x1d, "fl"),
    (0x1e, "ffi"),
    (0x1f, "ffl"),
];

/// A simple font's codes: its differences, its base encoding, and Windows' where both are silent.
fn simple_table(document: &Document, font: &Dictionary, subtype: Option<&[u8]>) -> [String; 256] {
    let encoding = entry(document, font, b"Encoding");
    let (base, differences) = match encoding {
        Some(Object::Name(name)) => (Some(name.as_slice()), None),
        Some(Object::Dictionary(encoding)) => {
            let base = entry(document, encoding, b"BaseEncoding").and_then(|n| n.as_name().ok());
            (base, entry(document, encoding, b"Differences").and_then(|d| d.as_array().ok()))
        }
        _ => (None, None),
    };
    let usual: &[u8] =
        if subtype == Some(b"Type1") { b"StandardEncoding" } else { b"WinAnsiEncoding" };
    let mut table = encoded(document, base.unwrap_or(usual));
    for (text, fallback) in table.iter_mut().zip(encoded(document, b"WinAnsiEncoding")) {
        if text.is_empty() {
            *text = fallback;
        }
    }
    if subtype == Some(b"Type1") {
        for (code, text) in TEX_LIGATURES {
            if table[code].is_empty() {
                text.clone_into(&mut table[code]);
            }
        }
    }
    let mut code = 0usize;
    for object in differences.into_iter().flatten() {
        match object {
            Object::Integer(next) => code = usize::try_from(*next).unwrap_or(usize::MAX),
            Object::Name(name) => {
                if let (Some(place), Some(text)) = (table.get_mut(code), glyph(document, name)) {
                    *place = text;
                }
                code = code.saturating_add(1);
            }
            _ => {}
        }
    }
    table
}

/// All codes of a named encoding.
fn encoded(document: &Document, encoding: &[u8]) -> [String; 256] {
    let mut font = Dictionary::new();
    font.set("Type", Object::Name(b"Font".to_vec()));
    font.set("Encoding", Object::Name(encoding.to_vec()));
    let encoding = font.get_font_encoding_with_limit(document, MAX_STREAM).ok();
    std::array::from_fn(|code| {
        let byte = u8::try_from(code).unwrap_or(0);
        let text = encoding.as_ref().and_then(|encoding| encoding.bytes_to_string(&[byte]).ok());
        text.filter(|text| !text.contains(char::is_control)).unwrap_or_default()
    })
}

/// The text of a glyph name (Adobe Glyph List Specification, 2); `None` if it tells nothing.
fn glyph(document: &Document, name: &[u8]) -> Option<String> {
    let name = name.split(|byte| *byte == b'.').next().filter(|name| !name.is_empty())?;
    let text = std::str::from_utf8(name).ok()?;
    let hex = |digits: &str| u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
    if let Some(digits) = text.strip_prefix("uni").filter(|digits| digits.len() >= 4) {
        return digits.get(..4).and_then(hex).map(String::from);
    }
    if let Some(digits) = text.strip_prefix('u').filter(|digits| digits.len() >= 4) {
        return hex(digits).map(String::from);
    }
    // A list of one name: the library refuses a list as a whole for one name it does not know.
    let mut differences = Dictionary::new();
    differences.set("Type", Object::Name(b"Encoding".to_vec()));
    differences.set("Differences", vec![Object::Integer(1), Object::Name(name.to_vec())]);
    let mut font = Dictionary::new();
    font.set("Type", Object::Name(b"Font".to_vec()));
    font.set("Encoding", differences);
    let encoding = font.get_font_encoding_with_limit(document, MAX_STREAM).ok()?;
    encoding.bytes_to_string(&[1]).ok().filter(|text| !text.is_empty())
}

/// The width of the standard fonts, which documents need not embed; near enough for gaps.
fn usual_width(document: &Document, font: &Dictionary) -> f64 {
    let name = entry(document, font, b"BaseFont").and_then(|name| name.as_name().ok());
    let is_mono = name.is_some_and(|name| name.windows(7).any(|part| part == b"Courier"));
    if is_mono { 600.0 } else { USUAL_WIDTH }
}

fn stream(document: &Document, holder: &Dictionary, key: &[u8]) -> Option<Vec<u8>> {
    match entry(document, holder, key)? {
        Object::Stream(stream) => Some(unpack(stream)),
        _ => None,
    }
}

/// A map that unpacks to too much is as good as none: the page itself is read without it.
fn unpack(stream: &Stream) -> Vec<u8> {
    stream.get_plain_content_with_limit(4 << 20).unwrap_or_default()
}
