//! The text of a mail (RFC 5322, MIME): who wrote to whom, what, and what is attached. Of a text
//! in several forms the plain one is read; mails within the mail are read like it.

use encoding_rs::Encoding;

use super::super::frame::Fault;
use super::writer::{Gap, Writer};
use super::{html, plain};

mod header;
mod transfer;
use header::{Header, Headers, decoded};

/// Parts within parts; deeper ones are refused.
const MAX_DEPTH: usize = 32;

/// Parts a mail may have.
const MAX_PARTS: usize = 10_000;

/// Fields that programs write for programs, beside all that begin with `X-`; no reader sees them.
const HIDDEN: [&str; 17] = [
    "received",
    "return-path",
    "delivered-to",
    "dkim-signature",
    "domainkey-signature",
    "authentication-results",
    "arc-seal",
    "arc-message-signature",
    "arc-authentication-results",
    "received-spf",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
    "content-disposition",
    "content-language",
    "in-reply-to",
    "references",
];

pub(super) fn text(document: &[u8], markdown: bool) -> Result<String, Fault> {
    let mut reading = Reading { writer: Some(Writer::new(markdown)), parts: 0 };
    reading.message(document, 0)?;
    Ok(reading.writer.unwrap_or_else(|| Writer::new(markdown)).finish())
}

struct Reading {
    /// Lent to the HTML reader for a while.
    writer: Option<Writer>,
    parts: usize,
}

impl Reading {
    fn with(&mut self, write: impl FnOnce(&mut Writer)) {
        if let Some(writer) = &mut self.writer {
            write(writer);
        }
    }

    fn message(&mut self, bytes: &[u8], depth: usize) -> Result<(), Fault> {
        let (headers, body) = Headers::read(bytes);
        for (name, value) in headers.all() {
            let lower = name.to_ascii_lowercase();
            if !HIDDEN.contains(&lower.as_str()) && !lower.starts_with("x-") {
                let value = decoded(value);
                self.with(|writer| {
                    writer.gap(Gap::Line);
                    writer.exact(&format!("{name}: "));
                    writer.flowing(&value);
                });
            }
        }
        self.with(|writer| writer.end_block(Gap::Blank));
        self.part(&headers, body, depth)
    }

    fn part(&mut self, headers: &Headers, body: &[u8], depth: usize) -> Result<(), Fault> {
        self.parts += 1;
        if depth > MAX_DEPTH || self.parts > MAX_PARTS {
            return Err(Fault::Complex);
        }
        let kind = Header::of(headers.get("Content-Type").unwrap_or("text/plain"));
        let disposition = headers.get("Content-Disposition").map(Header::of);
        let encoding = headers.get("Content-Transfer-Encoding").unwrap_or_default();
        let name = disposition.as_ref().and_then(|d| d.get("filename")).or(kind.get("name"));
        match (kind.value.as_str(), kind.get("boundary")) {
            (multipart, Some(boundary)) if multipart.starts_with("multipart/") => {
                return self.parts_of(multipart, &boundary, body, depth);
            }
            ("message/rfc822" | "message/global", _) => {
                let inner = transfer::decode(encoding, body);
                self.name(name.as_deref());
                self.with(|writer| writer.gap(Gap::Blank));
                return self.message(&inner, depth + 1);
            }
            (text, _) if text.starts_with("text/") => {
                self.name(name.as_deref());
                self.text(text == "text/html", &kind, &transfer::decode(encoding, body))?;
            }
            _ => self.name(name.as_deref()),
        }
        self.with(|writer| writer.end_block(Gap::Blank));
        match self.writer.as_ref().is_some_and(Writer::is_full) {
            true => Err(Fault::Limit),
            false => Ok(()),
        }
    }

    /// An attachment's name, on a line of its own.
    fn name(&mut self, name: Option<&str>) {
        if let Some(name) = name {
            self.with(|writer| {
                writer.gap(Gap::Blank);
                writer.exact(&format!("[{}]", decoded(name)));
                writer.gap(Gap::Line);
            });
        }
    }

    fn text(&mut self, is_html: bool, kind: &Header, bytes: &[u8]) -> Result<(), Fault> {
        let label = kind.get("charset").and_then(|label| Encoding::for_label(label.as_bytes()));
        let text = match label {
            Some(encoding) if encoding != encoding_rs::UTF_8 => {
                encoding.decode(bytes).0.into_owned()
            }
            _ if is_html => return self.html(bytes),
            _ => plain::text(bytes),
        };
        if is_html {
            return self.html(text.as_bytes());
        }
        self.with(|writer| {
            writer.gap(Gap::Blank);
            writer.exact(text.replace('\r', "").trim_end());
        });
        Ok(())
    }

    fn html(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if let Some(mut writer) = self.writer.take() {
            writer.gap(Gap::Blank);
            self.writer = Some(html::write(bytes, writer)?);
        }
        Ok(())
    }

    fn parts_of(
        &mut self,
        kind: &str,
        boundary: &str,
        body: &[u8],
        depth: usize,
    ) -> Result<(), Fault> {
        let parts = split(body, boundary);
        if parts.len() > MAX_PARTS {
            return Err(Fault::Complex);
        }
        let parts: Vec<(Headers, &[u8])> = parts.into_iter().map(Headers::read).collect();
        let is = |headers: &Headers, wanted: &str| {
            Header::of(headers.get("Content-Type").unwrap_or("text/plain")).value == wanted
        };
        if kind == "multipart/alternative" {
            let plain = parts.iter().find(|(headers, _)| is(headers, "text/plain"));
            // Of the rest, the last is the richest.
            if let Some((headers, body)) = plain.or(parts.last()) {
                self.part(headers, body, depth + 1)?;
            }
            return Ok(());
        }
        parts.iter().try_for_each(|(headers, body)| self.part(headers, body, depth + 1))
    }
}

/// A multipart's parts: what stands between lines that begin with its boundary.
fn split<'b>(body: &'b [u8], boundary: &str) -> Vec<&'b [u8]> {
    let mark = format!("--{boundary}").into_bytes();
    let (mut parts, mut begin): (Vec<&[u8]>, Option<usize>) = (Vec::new(), None);
    for at in memchr::memmem::find_iter(body, &mark) {
        let rest = &body[at + mark.len()..];
        let line = memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
        let ending = rest[..line].trim_ascii();
        let is_last = ending == b"--";
        // One boundary may be the beginning of another.
        if (at > 0 && body[at - 1] != b'\n') || !(ending.is_empty() || is_last) {
            continue;
        }
        if let Some(begin) = begin {
            let end = at.saturating_sub(1);
            let end = if body[..end].ends_with(b"\r") { end - 1 } else { end };
            parts.push(body.get(begin..end).unwrap_or_default());
        }
        if is_last || parts.len() > MAX_PARTS {
            return parts;
        }
        begin = Some(at + mark.len() + line);
    }
    // One that is not closed goes on to the end.
    parts.extend(begin.and_then(|begin| body.get(begin..)));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_bodies_and_attachments_are_read() {
        let mail = "From: =?utf-8?Q?J=C3=BCrgen?= <j@example.org>\r\nTo: a@example.org,\r\n\
            \tb@example.org\r\nSubject: =?iso-8859-1?B?R3L832U=?= =?utf-8?q?_x?=\r\n\
            X-Secret: no\r\nContent-Type: multipart/mixed; boundary=\"A B\"\r\n\r\nno\r\n--A B\r\n\
            Content-Type: multipart/alternative; boundary=C\r\n\r\n--C\r\n\
            Content-Type: text/plain; charset=iso-8859-1\r\n\
            Content-Transfer-Encoding: quoted-printable\r\n\r\ncaf=E9 =\r\nau lait\r\n--C\r\n\
            Content-Type: text/html\r\n\r\n<p>other</p>\r\n--C--\r\n--A B\r\n\
            Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n\
            PHA+aMO2PC9wPg==\r\n--A B\r\nContent-Type: image/png; name=x.png\r\n\
            Content-Disposition: attachment; filename*=utf-8''%C3%A4.png\r\n\r\nbinary\r\n\
            --A B\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nwithin\r\n--A B--\r\n";
        let expected = "From: Jürgen <j@example.org>\nTo: a@example.org, b@example.org\n\
            Subject: Grüße x\n\ncafé au lait\n\nhö\n\n[ä.png]\n\nSubject: inner\n\nwithin\n";
        assert_eq!(text(mail.as_bytes(), false).unwrap(), expected);
    }

    #[test]
    fn nesting_and_floods_of_parts_are_refused() {
        let mut deep = String::new();
        for level in 0..40 {
            deep += &format!("Content-Type: multipart/mixed; boundary=b{level}\n\n--b{level}\n");
        }
        assert_eq!(text(deep.as_bytes(), false), Err(Fault::Complex));
        let many =
            "Content-Type: multipart/mixed; boundary=b\n\n".to_owned() + &"--b\n".repeat(20_000);
        assert_eq!(text(many.as_bytes(), false), Err(Fault::Complex));
        let chain = "Content-Type: message/rfc822\n\n".repeat(100_000);
        assert_eq!(text(chain.as_bytes(), false), Err(Fault::Complex));
    }
}
