//! Conditional and range requests (RFC 9110, sections 13 and 14): one range or the whole.

use std::ops::Range;

/// The headers of a request that decide what is sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conditions<'a> {
    pub if_match: Option<&'a str>,
    pub if_none_match: Option<&'a str>,
    pub if_range: Option<&'a str>,
    pub range: Option<&'a str>,
}

/// What is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    Whole,
    Part(Range<u64>),
    NotModified,
    PreconditionFailed,
    Unsatisfiable,
}

impl Conditions<'_> {
    /// Decides for a file of `size` bytes with the strong entity tag `etag`, quotes included.
    #[must_use]
    pub fn select(&self, size: u64, etag: &str) -> Selection {
        if self.if_match.is_some_and(|tags| !lists(tags, etag, false)) {
            return Selection::PreconditionFailed;
        }
        if self.if_none_match.is_some_and(|tags| lists(tags, etag, true)) {
            return Selection::NotModified;
        }
        // A weak tag or a date in If-Range never matches: dates have no meaning for these files.
        let fresh = self.if_range.is_none_or(|tag| tag.trim() == etag);
        match self.range.filter(|_| fresh).map(|range| parse(range, size)) {
            None | Some(Asked::Whole) => Selection::Whole,
            Some(Asked::Part(range)) => Selection::Part(range),
            Some(Asked::Nothing) => Selection::Unsatisfiable,
        }
    }
}

enum Asked {
    Whole,
    Part(Range<u64>),
    Nothing,
}

/// A range header we cannot read, or one of several ranges, asks for the whole.
fn parse(header: &str, size: u64) -> Asked {
    let Some(spec) = header.trim().strip_prefix("bytes=") else { return Asked::Whole };
    let Some((first, last)) = spec.trim().split_once('-') else { return Asked::Whole };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // More digits than fit lie beyond every file.
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let (first, last) = (first.trim(), last.trim());
    let range = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Some(first), None) if last.is_empty() => first..size,
        (None, Some(suffix)) if first.is_empty() => size.saturating_sub(suffix)..size,
        _ => return Asked::Whole,
    };
    if range.is_empty() { Asked::Nothing } else { Asked::Part(range) }
}

fn lists(header: &str, etag: &str, weakly: bool) -> bool {
    header.trim() == "*"
        || header.split(',').map(str::trim).any(|tag| {
            let tag = if weakly { tag.strip_prefix("W/").unwrap_or(tag) } else { tag };
            tag == etag
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: &str = "\"abc\"";

    fn range(range: &str, size: u64) -> Selection {
        Conditions { range: Some(range), ..Conditions::default() }.select(size, TAG)
    }

    #[test]
    fn one_range_is_a_part_and_everything_else_the_whole() {
        for (asked, expected) in [
            ("bytes=0-0", Selection::Part(0..1)),
            ("bytes=5-", Selection::Part(5..10)),
            ("bytes=-3", Selection::Part(7..10)),
            ("bytes=-30", Selection::Part(0..10)),
            ("bytes=2-300", Selection::Part(2..10)),
            ("bytes=9-18446744073709551615", Selection::Part(9..10)),
            ("bytes=10-", Selection::Unsatisfiable),
            ("bytes=99999999999999999999-", Selection::Unsatisfiable),
            ("bytes=-0", Selection::Unsatisfiable),
            ("bytes=0-1,3-4", Selection::Whole),
            ("bytes=5-2", Selection::Whole),
            ("bytes=", Selection::Whole),
            ("bytes=-", Selection::Whole),
            ("bytes=+1-2", Selection::Whole),
            ("items=0-1", Selection::Whole),
        ] {
            assert_eq!(range(asked, 10), expected, "{asked}");
        }
        assert_eq!(range("bytes=0-", 0), Selection::Unsatisfiable);
    }

    #[test]
    fn preconditions_come_before_ranges() {
        let select = |conditions: Conditions<'_>| conditions.select(10, TAG);
        let ranged = Conditions { range: Some("bytes=0-1"), ..Conditions::default() };
        let part = Selection::Part(0..2);
        assert_eq!(select(Conditions { if_range: Some(TAG), ..ranged }), part);
        assert_eq!(select(Conditions { if_range: Some("W/\"abc\""), ..ranged }), Selection::Whole);
        assert_eq!(select(Conditions { if_match: Some("\"x\", \"abc\""), ..ranged }), part);
        let failed = Conditions { if_match: Some("W/\"abc\""), ..ranged };
        assert_eq!(select(failed), Selection::PreconditionFailed);
        let unmodified = Conditions { if_none_match: Some("W/\"abc\""), ..ranged };
        assert_eq!(select(unmodified), Selection::NotModified);
        assert_eq!(
            select(Conditions { if_none_match: Some("*"), ..ranged }),
            Selection::NotModified
        );
    }
}
