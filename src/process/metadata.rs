//! `metadata`: what a file says about its author, device, place, time and software.
//!
//! The answer is JSON with stable keys: `media_type`, `orientation` (of an image, else null), one
//! list of `{"field","value"}` for each of [`About`], and `truncated`. It is also what judges
//! `scrub`: of a scrubbed file every list must be empty, so whatever a file carries that neither
//! shapes what is seen nor is its text has to be named here, known or not.

use serde_json::{Map, Value, json};

use super::detect::{self, sniff};
use super::document::DocumentKind;
use super::frame::{Fault, MediaType, Request};
use super::worker::Answer;

mod exif;
pub(super) mod images;
mod iptc;
mod mail;
pub(super) mod office;
pub(super) mod pdf;
mod xmp;

pub(super) const KIND: DocumentKind = DocumentKind {
    name: "metadata",
    media_types: &[
        "image/jpeg",
        "image/png",
        "image/webp",
        "image/gif",
        "image/tiff",
        "application/pdf",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        "application/vnd.oasis.opendocument.text",
        "application/vnd.oasis.opendocument.spreadsheet",
        "application/vnd.oasis.opendocument.presentation",
        "application/epub+zip",
        "message/rfc822",
    ],
    settings: &[],
    prefix: None,
};

/// Set by the gateway alone: the document must say nothing.
pub(super) const JUDGE: &str = "judge";

/// What a field is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    Author,
    Device,
    Place,
    Time,
    Software,
    /// Titles, comments, keywords.
    Text,
    /// What is carried and not shown: previews, attachments, scripts, earlier versions, what hangs
    /// on behind the end.
    Hidden,
    /// Anything else.
    Other,
}

impl About {
    const ALL: [Self; 8] = [
        Self::Author,
        Self::Device,
        Self::Place,
        Self::Time,
        Self::Software,
        Self::Text,
        Self::Hidden,
        Self::Other,
    ];

    const fn key(self) -> &'static str {
        match self {
            Self::Author => "author",
            Self::Device => "device",
            Self::Place => "place",
            Self::Time => "time",
            Self::Software => "software",
            Self::Text => "text",
            Self::Hidden => "hidden",
            Self::Other => "other",
        }
    }

    /// By a property's own name: formats agree on most of them.
    fn named(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
        if has(&["gps", "location", "city", "country", "state", "region", "latitude", "coverage"]) {
            Self::Place
        } else if has(&["date", "time", "created", "modified", "printed", "when"]) {
            Self::Time
        } else if has(&["tool", "software", "producer", "application", "generator", "xmptk"])
            || has(&["appversion", "template"])
        {
            Self::Software
        } else if has(&["author", "creator", "artist", "byline", "credit", "copyright", "rights"])
            || has(&["owner", "manager", "company", "editor", "contributor", "publisher", "by"])
            || has(&["person", "contact", "user"])
        {
            Self::Author
        } else if has(&["make", "model", "serial", "lens", "camera", "device"]) {
            Self::Device
        } else if has(&["title", "subject", "description", "comment", "keyword", "caption"])
            || has(&["category", "headline", "label", "summary"])
        {
            Self::Text
        } else {
            Self::Other
        }
    }
}

/// Findings that are told one by one; there may be more.
const MAX_FINDINGS: usize = 2000;

/// Characters of a value that are told.
const MAX_VALUE: usize = 500;

/// Images and documents inside of one another that are looked into.
const MAX_DEPTH: usize = 3;

/// What was found in a document.
#[derive(Default)]
pub(super) struct Report {
    lists: [Vec<(String, String)>; 8],
    told: usize,
    truncated: bool,
    orientation: Option<u16>,
    /// In front of the fields of what lies inside.
    inside: Vec<String>,
}

impl Report {
    fn say(&mut self, about: About, field: impl AsRef<str>, value: impl AsRef<str>) {
        self.told += 1;
        if self.told > MAX_FINDINGS {
            self.truncated = true;
            return;
        }
        let shown = |c: char| if c.is_control() { ' ' } else { c };
        let value: String = value.as_ref().trim().chars().take(MAX_VALUE).map(shown).collect();
        let field = [self.inside.concat().as_str(), field.as_ref()].concat();
        self.lists[about as usize].push((field, value));
    }

    /// By the last part of the field's name.
    fn say_named(&mut self, field: impl AsRef<str>, value: impl AsRef<str>) {
        let name = field.as_ref().rsplit(':').next().unwrap_or_default();
        self.say(About::named(name), &field, value);
    }

    /// Looks into a document that lies inside of this one.
    fn enter(&mut self, name: &str, document: &[u8]) {
        if self.inside.len() == MAX_DEPTH {
            self.say(About::Hidden, name, "nested too deep");
            return;
        }
        let orientation = self.orientation;
        self.inside.push(format!("{name}!/"));
        let read = read(self, sniff(document, true).media_type, document, None);
        if read.is_err() {
            self.say(About::Hidden, "", "cannot be read");
        }
        self.inside.pop();
        self.orientation = orientation;
    }

    pub(super) const fn is_silent(&self) -> bool {
        self.told == 0
    }

    fn json(&self, media_type: &str) -> Value {
        let mut json = Map::new();
        json.insert("media_type".to_owned(), json!(media_type));
        json.insert("orientation".to_owned(), json!(self.orientation));
        for about in About::ALL {
            let list = self.lists[about as usize].iter();
            let list = list.map(|(field, value)| json!({ "field": field, "value": value }));
            json.insert(about.key().to_owned(), list.collect());
        }
        json.insert("truncated".to_owned(), json!(self.truncated));
        Value::Object(json)
    }
}

/// The worker's side.
pub(super) fn answer(request: &Request, document: &[u8]) -> Result<Answer, Fault> {
    let media_type = sniff(document, true).media_type;
    let mut report = Report::default();
    read(&mut report, media_type, document, request.password.as_deref())?;
    if request.options.contains_key(JUDGE) && !report.is_silent() {
        return Err(Fault::Complex);
    }
    let json = report.json(media_type).to_string();
    Ok(Answer { media_type: MediaType::Json, bytes: json.into_bytes() })
}

fn read(
    report: &mut Report,
    media_type: &str,
    document: &[u8],
    password: Option<&str>,
) -> Result<(), Fault> {
    match media_type {
        "image/jpeg" => images::jpeg(report, document),
        "image/png" | "image/apng" => images::png(report, document),
        "image/webp" => images::webp(report, document),
        "image/gif" => images::gif(report, document),
        "image/tiff" => exif::tiff(report, document),
        "application/pdf" => pdf::read(report, document, password),
        "message/rfc822" => {
            mail::read(report, document);
            Ok(())
        }
        encrypted if encrypted == detect::ENCRYPTED_OFFICE.media_type => Err(Fault::Encrypted),
        other if office::reads(other) => office::read(report, document),
        _ => Err(Fault::Unsupported),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_what_a_field_is_about() {
        for (name, about) in [
            ("dc:creator", About::Author),
            ("xmp:CreatorTool", About::Software),
            ("GPSLatitude", About::Place),
            ("ModDate", About::Time),
            ("exif:LensModel", About::Device),
            ("dc:title", About::Text),
            ("Trapped", About::Other),
        ] {
            assert_eq!(About::named(name), about, "{name}");
        }
    }

    #[test]
    fn there_are_all_keys_and_no_more_findings_than_are_told() {
        let mut report = Report::default();
        for _ in 0..=MAX_FINDINGS {
            report.say(About::Author, "x", "y\u{7}");
        }
        let json = report.json("image/png");
        assert_eq!(json["author"].as_array().unwrap().len(), MAX_FINDINGS);
        assert_eq!((&json["truncated"], &json["place"]), (&json!(true), &json!([])));
        assert!(!report.is_silent());
    }
}
