//! `Upload-Metadata`: keys and base64 values, some of which mean something here.

use data_encoding::BASE64;

use super::fields::bad;
use crate::http::Problem;

/// The longest metadata, bytes: it is kept, and repeated in every HEAD.
const LONGEST: usize = 8 << 10;

/// What an upload's sender says of it.
#[derive(Default, Debug, PartialEq, Eq)]
pub(super) struct Metadata {
    pub filename: Option<String>,
    pub filetype: Option<String>,
    pub ttl: Option<String>,
    pub region: Option<String>,
    pub steps: Option<String>,
}

impl Metadata {
    /// Reads `key base64,key base64,key`. Keys are unique; a value may be empty, and values of
    /// other keys may be any bytes.
    pub fn parse(header: &str) -> Result<Self, Problem> {
        if header.len() > LONGEST {
            return Err(bad("Upload-Metadata has at most 8 KiB."));
        }
        let mut found = Self::default();
        let mut seen: Vec<&str> = Vec::new();
        for pair in header.split(',') {
            let pair = pair.trim();
            let (key, value) = pair.split_once(' ').unwrap_or((pair, ""));
            let visible = key.bytes().all(|byte| byte.is_ascii_graphic());
            if key.is_empty() || !visible || seen.contains(&key) {
                return Err(bad("A key of Upload-Metadata is empty, or there twice."));
            }
            seen.push(key);
            let unreadable = "A value of Upload-Metadata is not base64.";
            let value = BASE64.decode(value.trim().as_bytes()).map_err(|_| bad(unreadable))?;
            let place = match key {
                "filename" => &mut found.filename,
                "filetype" => &mut found.filetype,
                "ttl" => &mut found.ttl,
                "region" => &mut found.region,
                "steps" => &mut found.steps,
                _ => continue,
            };
            let unreadable = "A value of Upload-Metadata that means something here is not UTF-8.";
            let value = String::from_utf8(value).map_err(|_| bad(unreadable))?;
            *place = Some(value).filter(|value| !value.is_empty());
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_keys_are_read_and_others_passed_over() {
        let read = Metadata::parse("filename aGVsbG8udHh0, is_private,ttl NW0=,x /w==").unwrap();
        assert_eq!(read.filename.as_deref(), Some("hello.txt"));
        assert_eq!((read.ttl.as_deref(), read.region), (Some("5m"), None));
        assert_eq!(Metadata::parse("filename").unwrap().filename, None, "empty is none");
    }

    #[test]
    fn garbage_is_refused() {
        let long = format!("a {}", "A".repeat(LONGEST));
        for bad in ["", ",", "a b c", "a !!!", "a YQ==,a YQ==", "filename /w==", "a YQ", &long] {
            assert!(Metadata::parse(bad).is_err(), "{bad}");
        }
    }
}
