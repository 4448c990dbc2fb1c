//! IPTC-IIM datasets, and the image resources of Photoshop they travel in.

use super::{About, Report, images, xmp};

const PROFILE: u16 = 0x040f;
const EXIF: u16 = 0x0422;
const XMP: u16 = 0x0424;
const IPTC: u16 = 0x0404;

/// Blocks of `8BIM`, a number, a name and data.
pub(super) fn resources(report: &mut Report, mut bytes: &[u8]) {
    while let Some(rest) = bytes.strip_prefix(b"8BIM") {
        let Some((number, data, after)) = resource(rest) else { break };
        match number {
            IPTC => datasets(report, data),
            XMP => xmp::read(report, data),
            EXIF => super::exif::embedded(report, data),
            PROFILE => images::profile(report, data),
            other => {
                let size = format!("{} bytes", data.len());
                report.say(About::Hidden, format!("photoshop:0x{other:04x}"), size);
            }
        }
        bytes = after;
    }
    if !bytes.is_empty() {
        report.say(About::Hidden, "photoshop", format!("{} bytes", bytes.len()));
    }
}

fn resource(rest: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let number = u16::from_be_bytes(*rest.first_chunk()?);
    // The name's length byte and the name, to an even number.
    let name = (1 + usize::from(*rest.get(2)?)).next_multiple_of(2);
    let rest = rest.get(2 + name..)?;
    let length = usize::try_from(u32::from_be_bytes(*rest.first_chunk()?)).ok()?;
    let data = rest.get(4..)?.get(..length)?;
    let after = rest.get(4 + length.next_multiple_of(2)..).unwrap_or_default();
    Some((number, data, after))
}

/// Datasets of the application record, by name; all others by number.
pub(super) fn datasets(report: &mut Report, mut bytes: &[u8]) {
    while let [0x1c, record, number, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some(data) = rest.get(..length) else { break };
        let (about, name) = known(*record, *number);
        let field = if name.is_empty() {
            format!("iptc:{record}:{number}")
        } else {
            format!("iptc:{name}")
        };
        report.say(about, field, String::from_utf8_lossy(data));
        bytes = &rest[length..];
    }
    if bytes.iter().any(|byte| *byte != 0) {
        report.say(About::Hidden, "iptc", format!("{} bytes", bytes.len()));
    }
}

const fn known(record: u8, number: u8) -> (About, &'static str) {
    use About::{Author, Other, Place, Software, Text, Time};
    if record != 2 {
        return (Other, "");
    }
    match number {
        5 => (Text, "ObjectName"),
        25 => (Text, "Keywords"),
        40 => (Text, "SpecialInstructions"),
        55 => (Time, "DateCreated"),
        60 => (Time, "TimeCreated"),
        62 => (Time, "DigitalCreationDate"),
        63 => (Time, "DigitalCreationTime"),
        65 => (Software, "OriginatingProgram"),
        80 => (Author, "By-line"),
        85 => (Author, "By-lineTitle"),
        90 => (Place, "City"),
        92 => (Place, "Sub-location"),
        95 => (Place, "Province-State"),
        100 => (Place, "Country-PrimaryLocationCode"),
        101 => (Place, "Country-PrimaryLocationName"),
        105 => (Text, "Headline"),
        110 => (Author, "Credit"),
        115 => (Author, "Source"),
        116 => (Author, "CopyrightNotice"),
        118 => (Author, "Contact"),
        120 => (Text, "Caption-Abstract"),
        122 => (Author, "Writer-Editor"),
        _ => (Other, ""),
    }
}
