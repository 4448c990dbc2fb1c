//! Sizes and rates as people write them.

use super::raw::Size;

const UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Bytes of "5GiB", "64KiB" or "100".
pub(super) fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let unit = UNITS.iter().find_map(|(unit, size)| Some((text.strip_suffix(unit)?, *size)));
    let (number, size) = unit.unwrap_or((text, 1));
    let number = number.trim();
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    number.parse::<u64>().ok().filter(|_| digits)?.checked_mul(size)
}

pub(super) fn size(size: &Size) -> Option<u64> {
    match size {
        Size::Bytes(bytes) => Some(*bytes),
        Size::Text(text) => bytes(text),
    }
}

/// Bytes per second of "1KiB/s"; "0" for no least rate.
pub(super) fn rate(text: &str) -> Option<u64> {
    bytes(text.strip_suffix("/s").unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_binary_units_alone() {
        for (text, expected) in [
            ("5GiB", Some(5 << 30)),
            ("64 KiB", Some(64 << 10)),
            ("100", Some(100)),
            ("0", Some(0)),
            ("5GB", None),
            ("-1", None),
            ("", None),
            ("GiB", None),
            ("1.5MiB", None),
            ("99999999TiB", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
        assert_eq!(rate("1KiB/s"), Some(1024));
    }
}
