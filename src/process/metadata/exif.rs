//! EXIF 3.0 and TIFF tags: what they are called and about.

use super::super::frame::Fault;
use super::super::picture::tiff::{
    EXIF, Entry, GPS, INTEROPERABILITY, IPTC, ORIENTATION, PHOTOSHOP, PROFILE, Tiff, XMP,
    orientation, shapes_pixels,
};
use super::{About, Report, images, iptc, xmp};

/// Directories a file may have.
const MAX_DIRECTORIES: usize = 1024;

const SUB_DIRECTORIES: u16 = 0x014a;
const THUMBNAIL: u16 = 0x0201;

/// Where a tag was found: numbers mean different things.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    /// A TIFF file's own directories: what shapes its pixels is no finding.
    File,
    Main,
    Exif,
    Gps,
    Interoperability,
    /// The preview's.
    Second,
}

/// The EXIF of an image of another format.
pub(super) fn embedded(report: &mut Report, exif: &[u8]) {
    let Some((file, first)) = Tiff::open(exif) else {
        report.say(About::Hidden, "exif", "cannot be read");
        return;
    };
    report.orientation = report.orientation.or(orientation(exif));
    let mut reader = Reader { report, file, left: MAX_DIRECTORIES, positions: Vec::new() };
    if let Some(next) = reader.directory(first, Where::Main).filter(|next| *next != 0) {
        reader.directory(next, Where::Second);
    }
    reader.finish();
}

/// A TIFF file.
pub(super) fn tiff(report: &mut Report, document: &[u8]) -> Result<(), Fault> {
    let (file, first) = Tiff::open(document).ok_or(Fault::Unsupported)?;
    report.orientation = orientation(document);
    let mut reader = Reader { report, file, left: MAX_DIRECTORIES, positions: Vec::new() };
    let (mut at, mut seen) = (first, Vec::new());
    while at != 0 {
        if seen.contains(&at) || seen.len() == MAX_DIRECTORIES {
            return Err(Fault::Complex);
        }
        seen.push(at);
        at = reader.directory(at, Where::File).ok_or(Fault::Damaged)?;
    }
    reader.finish();
    Ok(())
}

struct Reader<'r, 'd> {
    report: &'r mut Report,
    file: Tiff<'d>,
    left: usize,
    /// Latitude and longitude with their directions, as they come.
    positions: Vec<(u16, String)>,
}

impl<'d> Reader<'_, 'd> {
    /// Reads a directory and those below it; tells where the next one is.
    fn directory(&mut self, at: usize, place: Where) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let directory = self.file.directory(at);
        let Some(directory) = directory else {
            self.report.say(About::Hidden, "exif", "cannot be read");
            return None;
        };
        if directory.broken > 0 {
            let broken = directory.broken.to_string();
            self.report.say(About::Hidden, "exif:unreadable entries", broken);
        }
        for entry in &directory.entries {
            self.entry(entry, place);
        }
        Some(directory.next)
    }

    fn entry(&mut self, entry: &Entry<'d>, place: Where) {
        let below = match (entry.tag, place) {
            (EXIF, Where::Main | Where::File) => Some(Where::Exif),
            (GPS, Where::Main | Where::File) => Some(Where::Gps),
            (INTEROPERABILITY, Where::Exif) => Some(Where::Interoperability),
            _ => None,
        };
        if let Some(below) = below {
            let at = self.file.numbers(entry).and_then(|at| at.first().copied());
            let at = at.and_then(|at| usize::try_from(at).ok());
            if at.and_then(|at| self.directory(at, below)).is_none() {
                self.report.say(About::Hidden, "exif", "cannot be read");
            }
            return;
        }
        match entry.tag {
            ORIENTATION if place != Where::Second => return,
            PROFILE => return images::profile(self.report, entry.data),
            XMP => return xmp::read(self.report, entry.data),
            IPTC => return iptc::datasets(self.report, entry.data),
            PHOTOSHOP => return iptc::resources(self.report, entry.data),
            tag if place == Where::File && shapes_pixels(tag) => return,
            _ => {}
        }
        let (about, name) = known(entry.tag, place).map_or_else(
            || (About::Hidden, format!("0x{:04x}", entry.tag)),
            |(a, n)| (a, n.to_owned()),
        );
        let value = self.value(entry);
        if place == Where::Gps && (1..=4).contains(&entry.tag) {
            self.positions.push((entry.tag, value.clone()));
        }
        let field = if place == Where::Second { "exif:preview:" } else { "exif:" };
        let value = if about == About::Time { as_time(&value) } else { value };
        self.report.say(about, format!("{field}{name}"), value);
    }

    fn value(&self, entry: &Entry<'d>) -> String {
        if entry.kind == 2 {
            return String::from_utf8_lossy(entry.data).replace('\0', " ");
        }
        if let Some(fractions) = self.file.fractions(entry) {
            let shown = |(over, under): &(i64, i64)| match (over, under) {
                (over, 1) => over.to_string(),
                (over, under) => format!("{over}/{under}"),
            };
            return fractions.iter().take(16).map(shown).collect::<Vec<_>>().join(" ");
        }
        if entry.kind == 7 {
            // A comment begins with the name of its character set.
            let text = entry.data.strip_prefix(b"ASCII\0\0\0").unwrap_or(entry.data);
            let clean = |byte: &u8| (b' '..=b'~').contains(byte) || *byte == 0;
            if !text.is_empty() && text.iter().all(clean) {
                return String::from_utf8_lossy(text).replace('\0', " ");
            }
            return format!("{} bytes", entry.data.len());
        }
        let numbers = self.file.numbers(entry).unwrap_or_default();
        if numbers.is_empty() || numbers.len() > 16 {
            return format!("{} bytes", entry.data.len());
        }
        numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
    }

    /// The position as maps take it, if there is one.
    fn finish(self) {
        let value = |tag: u16| {
            self.positions.iter().find(|(known, _)| *known == tag).map(|(_, value)| value.as_str())
        };
        let degrees = |direction: u16, number: u16| {
            let parts: Option<Vec<f64>> = value(number)?.split(' ').map(fraction).collect();
            let parts = parts.filter(|parts| parts.len() == 3)?;
            let degrees = parts[0] + parts[1] / 60.0 + parts[2] / 3600.0;
            let negative = matches!(value(direction)?.trim(), "S" | "W");
            Some(if negative { -degrees } else { degrees }).filter(|degrees| degrees.is_finite())
        };
        if let Some((latitude, longitude)) = degrees(1, 2).zip(degrees(3, 4)) {
            let position = format!("{latitude:.6},{longitude:.6}");
            self.report.say(About::Place, "exif:GPSPosition", position);
        }
    }
}

fn fraction(text: &str) -> Option<f64> {
    let (over, under) = text.split_once('/').unwrap_or((text, "1"));
    Some(over.parse::<f64>().ok()? / under.parse::<f64>().ok()?)
}

/// `2008:10:22 16:28:39` as `2008-10-22T16:28:39`; anything else as it is.
fn as_time(text: &str) -> String {
    let text = text.trim();
    let digits = |byte: u8| byte.is_ascii_digit();
    let shape = b"0000:00:00 00:00:00";
    let fits = text.len() == shape.len()
        && text.bytes().zip(shape).all(
            |(byte, like)| {
                if *like == b'0' { digits(byte) } else { byte == *like }
            },
        );
    if !fits {
        return text.to_owned();
    }
    format!("{}T{}", text[..10].replace(':', "-"), &text[11..])
}

fn known(tag: u16, place: Where) -> Option<(About, &'static str)> {
    match place {
        Where::Gps => gps(tag),
        Where::Interoperability => Some((About::Other, "Interoperability")),
        Where::File | Where::Main | Where::Exif | Where::Second => general(tag),
    }
}

fn gps(tag: u16) -> Option<(About, &'static str)> {
    const NAMES: [&str; 32] = [
        "GPSVersionID",
        "GPSLatitudeRef",
        "GPSLatitude",
        "GPSLongitudeRef",
        "GPSLongitude",
        "GPSAltitudeRef",
        "GPSAltitude",
        "GPSTimeStamp",
        "GPSSatellites",
        "GPSStatus",
        "GPSMeasureMode",
        "GPSDOP",
        "GPSSpeedRef",
        "GPSSpeed",
        "GPSTrackRef",
        "GPSTrack",
        "GPSImgDirectionRef",
        "GPSImgDirection",
        "GPSMapDatum",
        "GPSDestLatitudeRef",
        "GPSDestLatitude",
        "GPSDestLongitudeRef",
        "GPSDestLongitude",
        "GPSDestBearingRef",
        "GPSDestBearing",
        "GPSDestDistanceRef",
        "GPSDestDistance",
        "GPSProcessingMethod",
        "GPSAreaInformation",
        "GPSDateStamp",
        "GPSDifferential",
        "GPSHPositioningError",
    ];
    let name = NAMES.get(usize::from(tag))?;
    Some((if matches!(tag, 7 | 29) { About::Time } else { About::Place }, name))
}

fn general(tag: u16) -> Option<(About, &'static str)> {
    use About::{Author, Device, Hidden, Other, Software, Text, Time};
    Some(match tag {
        0x010d => (Text, "DocumentName"),
        0x010e => (Text, "ImageDescription"),
        0x010f => (Device, "Make"),
        0x0110 => (Device, "Model"),
        0x0131 => (Software, "Software"),
        0x0132 => (Time, "DateTime"),
        0x013b => (Author, "Artist"),
        0x013c => (Device, "HostComputer"),
        0x8298 => (Author, "Copyright"),
        0x9003 => (Time, "DateTimeOriginal"),
        0x9004 => (Time, "DateTimeDigitized"),
        0x9010 => (Time, "OffsetTime"),
        0x9011 => (Time, "OffsetTimeOriginal"),
        0x9012 => (Time, "OffsetTimeDigitized"),
        0x9290 => (Time, "SubSecTime"),
        0x9291 => (Time, "SubSecTimeOriginal"),
        0x9292 => (Time, "SubSecTimeDigitized"),
        0x927c => (Hidden, "MakerNote"),
        0x9286 => (Text, "UserComment"),
        0x9c9b => (Text, "XPTitle"),
        0x9c9c => (Text, "XPComment"),
        0x9c9d => (Author, "XPAuthor"),
        0x9c9e => (Text, "XPKeywords"),
        0x9c9f => (Text, "XPSubject"),
        0xa420 => (Other, "ImageUniqueID"),
        0xa430 => (Author, "CameraOwnerName"),
        0xa431 => (Device, "BodySerialNumber"),
        0xa432 => (Device, "LensSpecification"),
        0xa433 => (Device, "LensMake"),
        0xa434 => (Device, "LensModel"),
        0xa435 => (Device, "LensSerialNumber"),
        0xa436 => (Text, "ImageTitle"),
        0xa437 => (Author, "Photographer"),
        0xa438 => (Author, "ImageEditor"),
        0xa439 => (Software, "CameraFirmware"),
        0x829a => (Device, "ExposureTime"),
        0x829d => (Device, "FNumber"),
        0x8822 => (Device, "ExposureProgram"),
        0x8827 => (Device, "PhotographicSensitivity"),
        0x9201 => (Device, "ShutterSpeedValue"),
        0x9202 => (Device, "ApertureValue"),
        0x9203 => (Device, "BrightnessValue"),
        0x9204 => (Device, "ExposureBiasValue"),
        0x9205 => (Device, "MaxApertureValue"),
        0x9206 => (Device, "SubjectDistance"),
        0x9207 => (Device, "MeteringMode"),
        0x9208 => (Device, "LightSource"),
        0x9209 => (Device, "Flash"),
        0x920a => (Device, "FocalLength"),
        0xa405 => (Device, "FocalLengthIn35mmFilm"),
        THUMBNAIL => (Hidden, "Thumbnail"),
        SUB_DIRECTORIES => (Hidden, "SubDirectories"),
        0x011a => (Other, "XResolution"),
        0x011b => (Other, "YResolution"),
        0x0128 => (Other, "ResolutionUnit"),
        0x0213 => (Other, "YCbCrPositioning"),
        0x9000 => (Other, "ExifVersion"),
        0x9101 => (Other, "ComponentsConfiguration"),
        0xa000 => (Other, "FlashpixVersion"),
        0xa001 => (Other, "ColorSpace"),
        0xa002 => (Other, "PixelXDimension"),
        0xa003 => (Other, "PixelYDimension"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_fractions_are_written_for_others() {
        assert_eq!(as_time("2008:10:22 16:28:39\0".trim_end_matches('\0')), "2008-10-22T16:28:39");
        assert_eq!(as_time("0000"), "0000");
        assert_eq!(fraction("3/2"), Some(1.5));
        assert_eq!(fraction("7"), Some(7.0));
    }
}
