//! JPEG, PNG, WebP and GIF: everything in them that is no pixel.

use std::io::Read;

use flate2::read::ZlibDecoder;

use super::super::frame::Fault;
use super::super::picture::{gif, icc, jpeg, png, webp};
use super::super::text::decode;
use super::{About, Report, exif, iptc, xmp};

/// Bytes a text or profile of a PNG may unpack to.
const MAX_UNPACKED: u64 = 16 << 20;

fn bytes(count: usize) -> String {
    format!("{count} bytes")
}

pub(super) fn jpeg(report: &mut Report, document: &[u8]) -> Result<(), Fault> {
    let parts = jpeg::parts(document)?;
    for part in &parts {
        match part {
            jpeg::Part::Scan(_) => {}
            jpeg::Part::Segment { marker, payload } => segment(report, *marker, payload),
            jpeg::Part::Stray(stray) => {
                report.say(About::Hidden, "jpeg:stray bytes", bytes(stray.len()));
            }
            jpeg::Part::Trailer(trailer) => {
                report.say(About::Hidden, "jpeg:trailer", bytes(trailer.len()));
            }
        }
    }
    if let Some(whole) = jpeg::profile(&parts) {
        profile(report, &whole);
    }
    Ok(())
}

fn segment(report: &mut Report, marker: u8, payload: &[u8]) {
    if jpeg::shapes_pixels(marker) {
        return;
    }
    match marker {
        jpeg::APP0 if payload.starts_with(b"JFIF\0") => {
            // Version, density, and a preview of no size.
            if payload.len() != 14 || payload[12..] != [0, 0] {
                report.say(About::Hidden, "jfif:thumbnail", bytes(payload.len() - 5));
            }
        }
        jpeg::APP1 if payload.starts_with(jpeg::EXIF) => {
            exif::embedded(report, &payload[jpeg::EXIF.len()..]);
        }
        jpeg::APP1 if payload.starts_with(jpeg::XMP) => {
            xmp::read(report, &payload[jpeg::XMP.len()..]);
        }
        // Read as a whole.
        jpeg::APP2 if payload.starts_with(jpeg::PROFILE) => {}
        jpeg::APP2 if payload.starts_with(b"MPF\0") => {
            report.say(About::Hidden, "jpeg:further images (MPF)", bytes(payload.len()));
        }
        jpeg::APP13 if payload.starts_with(b"Photoshop 3.0\0") => {
            iptc::resources(report, &payload[14..]);
        }
        // How colours are transformed.
        jpeg::APP14 if payload.starts_with(b"Adobe") && payload.len() == 12 => {}
        jpeg::COMMENT => report.say(About::Text, "jpeg:comment", decode(payload)),
        other => {
            report.say(About::Hidden, format!("jpeg:0x{other:02x}"), bytes(payload.len()));
        }
    }
}

/// A colour profile: who made it, when and on what.
pub(super) fn profile(report: &mut Report, profile: &[u8]) {
    if icc::is_scrubbed(profile) {
        return;
    }
    let Some(tags) = icc::tags(profile) else {
        report.say(About::Hidden, "icc", bytes(profile.len()));
        return;
    };
    let field = |at: usize| String::from_utf8_lossy(&profile[at..at + 4]).replace('\0', "");
    let date: Vec<String> = profile[24..36]
        .chunks(2)
        .map(|two| format!("{:02}", u16::from_be_bytes([two[0], two[1]])))
        .collect();
    let date = format!("{}T{}", date[..3].join("-"), date[3..].join(":"));
    report.say(About::Time, "icc:date", date);
    report.say(About::Device, "icc:manufacturer", field(48));
    report.say(About::Device, "icc:model", field(52));
    report.say(About::Software, "icc:creator", field(80));
    for (name, data) in tags {
        if icc::shapes_colours(name) {
            continue;
        }
        let about = match &name {
            b"cprt" => About::Author,
            b"dmnd" | b"dmdd" | b"mmod" => About::Device,
            _ => About::Other,
        };
        let name = format!("icc:{}", String::from_utf8_lossy(&name));
        report.say(about, name, icc::words(data).unwrap_or_else(|| bytes(data.len())));
    }
}

pub(super) fn png(report: &mut Report, document: &[u8]) -> Result<(), Fault> {
    let (chunks, trailer) = png::chunks(document)?;
    for chunk in chunks {
        match &chunk.kind {
            kind if png::shapes_pixels(*kind) => {}
            b"iCCP" => {
                let (name, rest) = split(chunk.data);
                match rest.get(1..).and_then(unpacked) {
                    Some(whole) => profile(report, &whole),
                    None => report.say(About::Hidden, "icc", bytes(rest.len())),
                }
                if name != b"icc" {
                    report.say(About::Other, "png:profile name", decode(name));
                }
            }
            b"eXIf" => exif::embedded(report, chunk.data),
            b"tEXt" => {
                let (key, value) = split(chunk.data);
                text(report, key, value);
            }
            b"zTXt" => {
                let (key, rest) = split(chunk.data);
                let value = rest.get(1..).and_then(unpacked);
                text(report, key, value.as_deref().unwrap_or(b"cannot be read"));
            }
            b"iTXt" => international(report, chunk.data),
            b"tIME" => {
                let numbers: Vec<String> =
                    chunk.data.iter().skip(2).map(|number| format!("{number:02}")).collect();
                let year = chunk.data.first_chunk().map_or(0, |two| u16::from_be_bytes(*two));
                report.say(About::Time, "png:tIME", format!("{year}-{}", numbers.join("-")));
            }
            other => {
                let name = format!("png:{}", String::from_utf8_lossy(other));
                report.say(About::Hidden, name, bytes(chunk.data.len()));
            }
        }
    }
    if !trailer.is_empty() {
        report.say(About::Hidden, "png:trailer", bytes(trailer.len()));
    }
    Ok(())
}

/// What stands in front of the first zero, and behind it.
fn split(data: &[u8]) -> (&[u8], &[u8]) {
    let at = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    (&data[..at], data.get(at + 1..).unwrap_or_default())
}

pub(in crate::process) fn unpacked(data: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    ZlibDecoder::new(data).take(MAX_UNPACKED + 1).read_to_end(&mut plain).ok()?;
    (plain.len() as u64 <= MAX_UNPACKED).then_some(plain)
}

fn text(report: &mut Report, key: &[u8], value: &[u8]) {
    let key = decode(key);
    if key == "XML:com.adobe.xmp" {
        return xmp::read(report, value);
    }
    report.say_named(format!("png:{key}"), decode(value));
}

/// Key, whether it is packed and how, language, translated key, text.
fn international(report: &mut Report, data: &[u8]) {
    let (key, rest) = split(data);
    let packed = rest.first() == Some(&1);
    let (_language, rest) = split(rest.get(2..).unwrap_or_default());
    let (_translated, value) = split(rest);
    let plain = if packed { unpacked(value) } else { Some(value.to_vec()) };
    text(report, key, plain.as_deref().unwrap_or(b"cannot be read"));
}

pub(super) fn webp(report: &mut Report, document: &[u8]) -> Result<(), Fault> {
    let (chunks, trailer) = webp::chunks(document)?;
    for chunk in chunks {
        match &chunk.kind {
            b"ANMF" => {
                let inner = chunk.data.get(webp::FRAME_HEAD..).unwrap_or_default();
                for inner in webp::within(inner)? {
                    if !webp::shapes_pixels(inner.kind) {
                        report.say(About::Hidden, "webp:frame", bytes(inner.data.len()));
                    }
                }
            }
            kind if webp::shapes_pixels(*kind) => {}
            b"ICCP" => profile(report, chunk.data),
            b"EXIF" => {
                let exif = chunk.data.strip_prefix(jpeg::EXIF).unwrap_or(chunk.data);
                exif::embedded(report, exif);
            }
            b"XMP " => xmp::read(report, chunk.data),
            other => {
                let name = format!("webp:{}", String::from_utf8_lossy(other));
                report.say(About::Hidden, name, bytes(chunk.data.len()));
            }
        }
    }
    if !trailer.is_empty() {
        report.say(About::Hidden, "webp:trailer", bytes(trailer.len()));
    }
    Ok(())
}

pub(super) fn gif(report: &mut Report, document: &[u8]) -> Result<(), Fault> {
    for part in gif::parts(document)? {
        match part {
            gif::Part::Screen(_) | gif::Part::Control(_) | gif::Part::Picture(_) => {}
            gif::Part::Extension { label: gif::COMMENT, whole, .. } => {
                report.say(About::Text, "gif:comment", decode(&gif::content(whole, false)));
            }
            gif::Part::Extension { label: gif::TEXT, whole, .. } => {
                report.say(About::Text, "gif:text", decode(&gif::content(whole, true)));
            }
            gif::Part::Extension { label: gif::APPLICATION, name, whole } => {
                if gif::LOOPS.contains(&name) && whole.len() == 19 {
                    continue;
                }
                match name {
                    b"ICCRGBG1012" => profile(report, &gif::content(whole, true)),
                    b"XMP DataXMP" => {
                        // The packet lies bare, up to a ramp of bytes that ends all sub-blocks.
                        let end = whole.len().saturating_sub(258).max(14);
                        xmp::read(report, whole.get(14..end).unwrap_or_default());
                    }
                    _ => {
                        let name = format!("gif:{}", String::from_utf8_lossy(name));
                        report.say(About::Hidden, name, bytes(whole.len()));
                    }
                }
            }
            gif::Part::Extension { label, whole, .. } => {
                report.say(About::Hidden, format!("gif:0x{label:02x}"), bytes(whole.len()));
            }
            gif::Part::Trailer(trailer) => {
                report.say(About::Hidden, "gif:trailer", bytes(trailer.len()));
            }
        }
    }
    Ok(())
}
