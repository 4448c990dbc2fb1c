//! Query strings, strictly: what is not known is refused, not ignored.

use std::time::Duration;

use http::Uri;
use percent_encoding::percent_decode_str;

use super::Problem;
use crate::clock::parse_span;
use crate::file::MAX_TTL;
use crate::problem::Slug;

/// Parameters that other services take credentials in.
const CREDENTIALS: [&str; 4] = ["key", "token", "api_key", "access_token"];

/// Entries on a page of a list, at most and if nothing is said.
const MOST_LISTED: u64 = 1000;
const LISTED: u64 = 100;

/// Decoded parameters of one request.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes the query; a name outside `known`, or one given twice, is refused.
    pub fn parse(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        let query = Self::any(uri);
        for (index, (name, _)) in query.0.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                return Err(Slug::UnknownParameter.into());
            }
            if query.0[..index].iter().any(|(earlier, _)| earlier == name) {
                let detail = "A query parameter is given twice.";
                return Err(Problem::because(Slug::BadRequest, detail));
            }
        }
        Ok(query)
    }

    /// Decodes the query, whatever its names are.
    pub fn any(uri: &Uri) -> Self {
        let query = uri.query().unwrap_or_default();
        Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// Where a list begins, and how much of it is asked for.
    pub fn page(&self) -> Result<(Option<u64>, usize), Problem> {
        let limit = match self.get("limit").map(number) {
            None => LISTED,
            Some(Some(limit)) if (1..=MOST_LISTED).contains(&limit) => limit,
            Some(_) => {
                return Err(Problem::because(
                    Slug::BadRequest,
                    "limit is a number from 1 to 1000.",
                ));
            }
        };
        let cursor = match self.get("cursor").map(number) {
            None => None,
            Some(Some(cursor)) => Some(cursor),
            Some(None) => {
                return Err(Problem::because(Slug::BadRequest, "cursor is not one of a list's."));
            }
        };
        Ok((cursor, usize::try_from(limit).unwrap_or_default()))
    }

    /// Takes a parameter out; the rest belong to somebody else.
    pub fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(found, _)| found == name)?;
        Some(self.0.remove(at).1)
    }

    pub fn into_pairs(self) -> Vec<(String, String)> {
        self.0
    }
}

/// A life asked for: 1 s to 23 h 30 min.
pub(super) fn ttl(text: &str) -> Result<Duration, Problem> {
    let span = parse_span(text).ok_or(Slug::BadTtl)?;
    let fits = span >= Duration::from_secs(1) && span <= MAX_TTL;
    if fits { Ok(span) } else { Err(Slug::BadTtl.into()) }
}

/// A number of downloads: at least 1.
pub(super) fn downloads(text: &str) -> Result<u64, Problem> {
    number(text).filter(|count| *count >= 1).ok_or(Slug::BadDownloads.into())
}

/// Decimal digits, and nothing else.
pub(super) fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Whether a URL holds what looks like a credential: it would end up in logs along the way.
pub(super) fn holds_credential(uri: &Uri) -> bool {
    let looks_like_one = |text: &str| text.starts_with("dfk_") || text.starts_with("dfg_");
    let mut pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let in_query = pairs.any(|(name, value)| {
        CREDENTIALS.iter().any(|credential| name.eq_ignore_ascii_case(credential))
            || looks_like_one(&value)
    });
    let mut segments = uri.path().split('/').map(percent_decode_str);
    in_query || segments.any(|segment| looks_like_one(&segment.decode_utf8_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_urls_are_seen_however_they_are_written() {
        for (uri, expected) in [
            ("/v1/files?key=x", true),
            ("/v1/files?API_KEY=x", true),
            ("/v1/files?name=dfk_demo_abc", true),
            ("/v1/files?name=%64fg_abc", true),
            ("/v1/files?%6bey=1", true),
            ("/v1/files/dfk_demo_abc", true),
            ("/v1/files/%64fk_demo_abc", true),
            ("/v1/files?name=report.pdf", false),
            ("/v1/files", false),
        ] {
            assert_eq!(holds_credential(&uri.parse().unwrap()), expected, "{uri}");
        }
    }

    #[test]
    fn lives_and_downloads_have_bounds() {
        for (text, good) in [("1s", true), ("23h30m", true), ("23h31m", false), ("0s", false)] {
            assert_eq!(ttl(text).is_ok(), good, "{text}");
        }
        for (text, good) in [("1", true), ("0", false), ("-1", false), ("+1", false), ("", false)] {
            assert_eq!(downloads(text).is_ok(), good, "{text}");
        }
    }
}
