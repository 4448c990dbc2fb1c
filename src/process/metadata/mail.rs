//! E-mail: the headers that tell of people, times, programs and the way a message took.

use super::super::text::decode;
use super::{About, Report};

/// Bytes of a message its headers are looked for in.
const WINDOW: usize = 256 << 10;

pub(super) fn read(report: &mut Report, document: &[u8]) {
    let head = decode(&document[..document.len().min(WINDOW)]);
    let mut field: Option<(String, String)> = None;
    for line in head.lines() {
        if line.starts_with([' ', '\t']) && !line.trim().is_empty() {
            if let Some((_, value)) = &mut field {
                value.push(' ');
                value.push_str(line.trim());
            }
            continue;
        }
        if let Some((name, value)) = field.take() {
            say(report, &name, &value);
        }
        let Some((name, value)) = line.split_once(':') else { break };
        field = Some((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    if let Some((name, value)) = field {
        say(report, &name, &value);
    }
}

fn say(report: &mut Report, name: &str, value: &str) {
    let about = match name {
        "from" | "to" | "cc" | "bcc" | "sender" | "reply-to" | "return-path" | "delivered-to"
        | "organization" => About::Author,
        "date" | "resent-date" | "delivery-date" => About::Time,
        "x-mailer" | "user-agent" | "mime-version" | "x-mimeole" => About::Software,
        "received" | "x-originating-ip" | "x-received" => About::Place,
        "subject" | "comments" | "keywords" => About::Text,
        _ => About::Other,
    };
    report.say(about, format!("mail:{name}"), value);
}
