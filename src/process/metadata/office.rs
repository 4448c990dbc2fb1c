//! Office packages, OpenDocument and EPUB: their properties, and what tells of people elsewhere.

use quick_xml::Reader;
use quick_xml::events::Event;

use super::super::detect::sniff;
use super::super::frame::Fault;
use super::super::text::decode;
use super::super::zipped::{Directory, Member};
use super::{About, Report};

pub(in crate::process) mod telling;

/// Members a package may have.
pub(in crate::process) const MAX_MEMBERS: u64 = 20_000;

/// Bytes all members together may unpack to.
pub(in crate::process) const MAX_UNPACKED: u64 = 160 << 20;

/// Elements nested deeper than this are refused.
pub(in crate::process) const MAX_NESTING: usize = 512;

/// The first day MS-DOS knows, which writers without a clock put.
const NO_DATE: (u16, u16) = (0x21, 0);

/// What an OLE file begins with.
pub(in crate::process) const OLE: &[u8] = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1";

pub(super) fn reads(media_type: &str) -> bool {
    const OOXML: &str = "application/vnd.openxmlformats-officedocument.";
    const ODF: &str = "application/vnd.oasis.opendocument.";
    media_type.starts_with(OOXML)
        || media_type.starts_with(ODF)
        || media_type.ends_with(".macroEnabled.12")
        || media_type == "application/epub+zip"
}

pub(super) fn read(report: &mut Report, document: &[u8]) -> Result<(), Fault> {
    let directory = Directory::read(document, MAX_MEMBERS)?;
    if !directory.comment.is_empty() {
        report.say(About::Text, "zip:comment", decode(directory.comment));
    }
    if directory.stray {
        report.say(About::Hidden, "zip", "bytes outside of its members");
    }
    let latest = directory.members.iter().map(|member| member.modified).max();
    if let Some((date, time)) = latest.filter(|latest| *latest > NO_DATE) {
        report.say(About::Time, "zip:modified", shown(date, time));
    }
    let mut left = MAX_UNPACKED;
    let mut more = false;
    for member in directory.members.iter().filter(|member| !member.is_directory()) {
        let bytes = member.bytes(left)?;
        left -= bytes.len() as u64;
        more |= member.says_more;
        self::member(report, member, &bytes)?;
    }
    if more {
        report.say(About::Other, "zip:extra fields", "of members");
    }
    Ok(())
}

fn shown(date: u16, time: u16) -> String {
    let (year, month, day) = (1980 + (date >> 9), date >> 5 & 15, date & 31);
    let (hour, minute, second) = (time >> 11, time >> 5 & 63, (time & 31) * 2);
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

fn member(report: &mut Report, member: &Member<'_>, bytes: &[u8]) -> Result<(), Fault> {
    let name = member.name.as_str();
    let is_properties = name.starts_with("docProps/") || name.ends_with("meta.xml");
    if is_properties && name.ends_with(".xml") || name.ends_with(".opf") {
        return properties(report, &decode(bytes));
    }
    if let Some(about) = telling::part(name) {
        report.say(about, name, format!("{} bytes", bytes.len()));
        return authors(report, name, bytes);
    }
    if bytes.starts_with(OLE) {
        report.say(About::Hidden, name, "an embedded object or macros");
        return Ok(());
    }
    match sniff(bytes, true).media_type {
        "image/jpeg" | "image/png" | "image/webp" | "image/gif" | "image/tiff"
        | "application/pdf" => report.enter(name, bytes),
        media_type if reads(media_type) => report.enter(name, bytes),
        _ if is_markup(name, bytes) => marks(report, name, &decode(bytes))?,
        _ => {}
    }
    Ok(())
}

pub(in crate::process) fn is_markup(name: &str, bytes: &[u8]) -> bool {
    let named = [".xml", ".rels", ".vml", ".svg"].iter().any(|end| name.ends_with(end));
    let start = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    named || start.starts_with(b"<?xml")
}

/// Every property by its element's name.
fn properties(report: &mut Report, xml: &str) -> Result<(), Fault> {
    let mut reader = Reader::from_str(xml);
    let mut path: Vec<String> = Vec::new();
    let mut named: Option<String> = None;
    loop {
        match reader.read_event().map_err(|_| Fault::Damaged)? {
            Event::Start(element) => {
                if path.len() == MAX_NESTING {
                    return Err(Fault::Complex);
                }
                let name = element
                    .attributes()
                    .flatten()
                    .find(|attribute| attribute.key.local_name().into_inner() == "name");
                if let Some(name) = name {
                    named = Some(name.value.into_owned());
                }
                path.push(element.name().into_inner().to_owned());
            }
            Event::Empty(element) => statistics(report, &element),
            Event::End(_) => drop(path.pop()),
            Event::Text(text) if !text.xml10_content().trim().is_empty() => {
                let own = path.last().map(String::as_str).unwrap_or_default();
                let field = match (&named, own) {
                    (Some(named), own) if own.starts_with("vt:") || own == "meta:user-defined" => {
                        format!("custom:{named}")
                    }
                    _ => own.to_owned(),
                };
                report.say_named(field, text.xml10_content());
            }
            Event::Eof => return Ok(()),
            _ => {}
        }
    }
}

/// Properties that OpenDocument writes as attributes.
fn statistics(report: &mut Report, element: &quick_xml::events::BytesStart) {
    if !element.name().into_inner().starts_with("meta:") {
        return;
    }
    for attribute in element.attributes().flatten() {
        let name = attribute.key.into_inner();
        if name.starts_with("meta:") || name == "xlink:href" {
            report.say(About::Other, name, &*attribute.value);
        }
    }
}

/// The people a part of comments names.
fn authors(report: &mut Report, name: &str, bytes: &[u8]) -> Result<(), Fault> {
    if !is_markup(name, bytes) {
        return Ok(());
    }
    let text = decode(bytes);
    let mut reader = Reader::from_str(&text);
    loop {
        match reader.read_event() {
            Ok(Event::Start(element) | Event::Empty(element)) => {
                for attribute in element.attributes().flatten() {
                    let local = attribute.key.local_name().into_inner();
                    if matches!(local, "author" | "displayName" | "userId" | "initials") {
                        report.say(About::Author, format!("{name}:{local}"), &*attribute.value);
                    }
                }
            }
            Ok(Event::Eof) | Err(_) => return Ok(()),
            Ok(_) => {}
        }
    }
}

/// Elements and attributes that tell, in a part that does not only tell.
fn marks(report: &mut Report, name: &str, xml: &str) -> Result<(), Fault> {
    let mut reader = Reader::from_str(xml);
    let mut found: Vec<(About, String, String)> = Vec::new();
    let mut note = |about: About, what: &str, value: &str| {
        let field = format!("{name}:{what}");
        // Nobody can read a revision's number: one of them stands for all.
        let value = if about == About::Hidden { "" } else { value };
        // Once for each value: a document has thousands of the same.
        if found.len() < 200 && found.iter().all(|(_, f, v)| *f != field || v != value) {
            found.push((about, field, value.to_owned()));
        }
    };
    let mut depth = 0;
    loop {
        match reader.read_event().map_err(|_| Fault::Damaged)? {
            event @ (Event::Start(_) | Event::Empty(_)) => {
                depth += usize::from(matches!(event, Event::Start(_)));
                if depth > MAX_NESTING {
                    return Err(Fault::Complex);
                }
                let (Event::Start(element) | Event::Empty(element)) = event else { continue };
                if let Some(about) = telling::element(name, &element) {
                    note(about, element.name().into_inner(), "");
                }
                for attribute in element.attributes().flatten() {
                    let key = attribute.key.into_inner();
                    let value = &*attribute.value;
                    let nobody = telling::is_demanded(key) && value == telling::NOBODY;
                    if let Some(about) = telling::attribute(key).filter(|_| !nobody) {
                        note(about, key, value);
                    }
                    if key == "Type" && telling::relation(value) {
                        note(About::Hidden, "relation", value);
                    }
                }
            }
            Event::End(_) => depth = depth.saturating_sub(1),
            Event::Comment(_) | Event::DocType(_) => note(About::Hidden, "comment", ""),
            Event::Eof => break,
            _ => {}
        }
    }
    for (about, field, value) in found {
        report.say(about, field, value);
    }
    Ok(())
}
