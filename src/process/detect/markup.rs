//! Formats that are texts: markup by its first element, the rest by the shape of its lines.

use serde::de::IgnoredAny;

use super::{Format, format};

/// Elements an HTML document without a doctype begins with (WHATWG MIME Sniffing, 7.1).
const HTML_STARTS: [&str; 17] = [
    "!doctype html",
    "html",
    "head",
    "script",
    "iframe",
    "h1",
    "div",
    "font",
    "table",
    "a",
    "style",
    "title",
    "b",
    "body",
    "br",
    "p",
    "meta",
];

/// Header fields that mails begin with.
const MAIL_FIELDS: [&str; 14] = [
    "received",
    "return-path",
    "from",
    "to",
    "date",
    "subject",
    "message-id",
    "mime-version",
    "delivered-to",
    "content-type",
    "reply-to",
    "cc",
    "x-mailer",
    "dkim-signature",
];

/// What a text is; `document` is the whole of it, or empty if only the beginning is known.
pub(super) fn text(beginning: &str, document: &[u8]) -> Format {
    let text = beginning.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    if text.starts_with('<')
        && let Some(markup) = markup(text)
    {
        return markup;
    }
    if text.starts_with(['{', '[']) && serde_json::from_slice::<IgnoredAny>(document).is_ok() {
        return format("application/json", "json");
    }
    if text.starts_with("BEGIN:VCALENDAR") {
        return format("text/calendar", "ics");
    }
    if text.starts_with("BEGIN:VCARD") {
        return format("text/vcard", "vcf");
    }
    if is_mail(text) {
        let is_news = text.lines().take_while(|line| !line.is_empty()).take(200);
        let is_news = is_news.into_iter().any(|line| line.starts_with("Newsgroups:"));
        return if is_news {
            format("message/news", "txt")
        } else {
            format("message/rfc822", "eml")
        };
    }
    if is_table(text, b',') || is_table(text, b';') {
        return format("text/csv", "csv");
    }
    if is_table(text, b'\t') {
        return format("text/tab-separated-values", "tsv");
    }
    format("text/plain", "txt")
}

fn markup(text: &str) -> Option<Format> {
    let (mut rest, mut is_xml) = (text, false);
    loop {
        rest = rest.trim_start();
        if let Some(comment) = rest.strip_prefix("<!--") {
            rest = comment.split_once("-->")?.1;
        } else if let Some(instruction) = rest.strip_prefix("<?") {
            is_xml |= instruction.starts_with("xml");
            rest = instruction.split_once("?>")?.1;
        } else if is_xml && rest.starts_with("<!") {
            // A doctype: its internal subset, if any, ends with `]>`.
            let end = rest.find(['[', '>'])?;
            let subset = rest[end..].starts_with('[');
            let end = if subset { rest.find("]>")? + 1 } else { end };
            if !subset && rest[..end].to_ascii_lowercase().starts_with("<!doctype html") {
                return Some(format("application/xhtml+xml", "xhtml"));
            }
            rest = &rest[end + 1..];
        } else {
            break;
        }
    }
    let rest = rest.strip_prefix('<')?;
    let starts = |name: &str| {
        let head = rest.get(..name.len()).unwrap_or_default();
        let next = rest.as_bytes().get(name.len());
        head.eq_ignore_ascii_case(name) && next.is_none_or(|b| b" \t\r\n/>".contains(b))
    };
    let name = rest.split(|c: char| c.is_whitespace() || "/>".contains(c)).next()?;
    match name.rsplit(':').next()? {
        "svg" => Some(format("image/svg+xml", "svg")),
        "html" if is_xml => Some(format("application/xhtml+xml", "xhtml")),
        _ if HTML_STARTS.into_iter().any(starts) => Some(format("text/html", "html")),
        _ if is_xml => Some(format("application/xml", "xml")),
        _ => None,
    }
}

/// Two or more of a mail's usual fields, and nothing but fields before the first empty line.
fn is_mail(text: &str) -> bool {
    let mut known = 0;
    for line in text.lines().take(200) {
        if line.is_empty() {
            break;
        }
        if line.starts_with([' ', '\t']) {
            continue;
        }
        let Some((name, _)) = line.split_once(':') else { return false };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic()) {
            return false;
        }
        let name = name.to_ascii_lowercase();
        known += usize::from(MAIL_FIELDS.contains(&name.as_str()));
    }
    known >= 2
}

/// The same number of fields in each of the first records: at least three records, or two with
/// three fields, so that a sentence with a comma is not a table.
fn is_table(text: &str, separator: u8) -> bool {
    let (mut counts, mut count, mut quoted) = (Vec::new(), 0, false);
    for byte in text.bytes() {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' if !quoted => {
                counts.push(std::mem::take(&mut count));
                if counts.len() == 20 {
                    break;
                }
            }
            byte if byte == separator && !quoted => count += 1,
            _ => {}
        }
    }
    if count > 0 && counts.len() < 20 && !text.ends_with('\n') {
        counts.push(count);
    }
    let Some(first) = counts.first() else { return false };
    let enough = if *first >= 2 { 2 } else { 3 };
    *first > 0 && counts.len() >= enough && counts.iter().all(|count| count == first)
}
