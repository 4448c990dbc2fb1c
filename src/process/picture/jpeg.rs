//! JPEG (ITU-T T.81): markers, segments, entropy-coded scans, and what hangs on behind.

use super::super::frame::Fault;
use super::{add, short, within_reason};

pub(in crate::process) const APP0: u8 = 0xe0;
pub(in crate::process) const APP1: u8 = 0xe1;
pub(in crate::process) const APP2: u8 = 0xe2;
pub(in crate::process) const APP13: u8 = 0xed;
pub(in crate::process) const APP14: u8 = 0xee;
pub(in crate::process) const COMMENT: u8 = 0xfe;

const START: u8 = 0xd8;
const END: u8 = 0xd9;
const SCAN: u8 = 0xda;

/// What an APP1 segment with EXIF in it begins with.
pub(in crate::process) const EXIF: &[u8] = b"Exif\0\0";
/// What an APP1 segment with XMP in it begins with.
pub(in crate::process) const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
/// What an APP2 segment with a piece of a colour profile in it begins with.
pub(in crate::process) const PROFILE: &[u8] = b"ICC_PROFILE\0";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::process) enum Part<'d> {
    /// A marker with its payload, without the length.
    Segment { marker: u8, payload: &'d [u8] },
    /// The coded pixels behind a scan's header.
    Scan(&'d [u8]),
    /// Bytes between two segments that belong to neither.
    Stray(&'d [u8]),
    /// Bytes behind the end of the image.
    Trailer(&'d [u8]),
}

/// Markers that the decoder needs, with the payloads that hold nothing else.
pub(in crate::process) const fn shapes_pixels(marker: u8) -> bool {
    // SOF and DHT, DAC; SOS, DQT, DNL, DRI, DHP, EXP.
    matches!(marker, 0xc0..=0xcf | 0xda..=0xdf) && marker != 0xc8
}

/// The image in its order. One that breaks off behind its first scan is taken as far as it goes.
pub(in crate::process) fn parts(bytes: &[u8]) -> Result<Vec<Part<'_>>, Fault> {
    let (mut parts, mut framed, mut scanned) = (Vec::new(), false, false);
    if !bytes.starts_with(&[0xff, START]) {
        return Err(Fault::Damaged);
    }
    let mut at = 2;
    loop {
        let begin = at;
        // A marker is 0xff, any number of times, and a byte that is neither 0 nor 0xff.
        while at + 1 < bytes.len() && (bytes[at] != 0xff || matches!(bytes[at + 1], 0 | 0xff)) {
            at += 1;
        }
        let stray = &bytes[begin..at];
        if stray.iter().any(|byte| *byte != 0xff) {
            add(&mut parts, Part::Stray(stray))?;
        }
        let Some(marker) = bytes.get(at + 1).copied() else { break };
        at += 2;
        if marker == END {
            if at < bytes.len() {
                add(&mut parts, Part::Trailer(&bytes[at..]))?;
            }
            break;
        }
        if matches!(marker, 0x01 | 0xd0..=0xd7) {
            continue;
        }
        let length = short(bytes, at).map_or(0, usize::from);
        let payload = bytes.get(at + 2..at + length).filter(|_| length >= 2);
        let Some(payload) = payload.filter(|_| marker != START) else {
            if scanned {
                break;
            }
            return Err(Fault::Damaged);
        };
        at += length;
        add(&mut parts, Part::Segment { marker, payload })?;
        if matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc) {
            let (height, width) = (short(payload, 1), short(payload, 3));
            let (height, width) = height.zip(width).ok_or(Fault::Damaged)?;
            within_reason(width.into(), height.into())?;
            framed = true;
        }
        if marker == SCAN {
            let end = scan_end(bytes, at);
            add(&mut parts, Part::Scan(&bytes[at..end]))?;
            at = end;
            scanned = true;
        }
    }
    if framed && scanned { Ok(parts) } else { Err(Fault::Damaged) }
}

/// Where the coded pixels end: at a marker that is no restart. A stuffed zero is data.
fn scan_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(found) = bytes[at..].iter().position(|byte| *byte == 0xff) {
        at += found;
        match bytes.get(at + 1) {
            Some(0 | 0xd0..=0xd7) => at += 2,
            Some(0xff) => at += 1,
            Some(_) => return at,
            None => return bytes.len(),
        }
    }
    bytes.len()
}

/// The pieces of the colour profile in their order, put together.
pub(in crate::process) fn profile(parts: &[Part<'_>]) -> Option<Vec<u8>> {
    let piece = |part: &Part<'_>| match part {
        Part::Segment { marker: APP2, payload } => {
            let rest = payload.strip_prefix(PROFILE)?;
            Some((*rest.first()?, rest.get(2..)?.to_vec()))
        }
        _ => None,
    };
    let mut pieces: Vec<(u8, Vec<u8>)> = parts.iter().filter_map(piece).collect();
    pieces.sort_by_key(|(number, _)| *number);
    let whole: Vec<u8> = pieces.into_iter().flat_map(|(_, bytes)| bytes).collect();
    (!whole.is_empty()).then_some(whole)
}

/// Writes an image: its beginning, segments and scans as they come, its end.
pub(in crate::process) struct Writer(Vec<u8>);

impl Writer {
    pub(in crate::process) fn new(room: usize) -> Self {
        let mut bytes = Vec::with_capacity(room + 1024);
        bytes.extend_from_slice(&[0xff, START]);
        Self(bytes)
    }

    /// A segment; its pieces together are at most 65 533 bytes.
    pub(in crate::process) fn segment(&mut self, marker: u8, pieces: &[&[u8]]) {
        let length: usize = 2 + pieces.iter().map(|piece| piece.len()).sum::<usize>();
        self.0.extend_from_slice(&[0xff, marker]);
        self.0.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
        pieces.iter().for_each(|piece| self.0.extend_from_slice(piece));
    }

    pub(in crate::process) fn scan(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(in crate::process) fn finish(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0xff, END]);
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: &[u8] = b"\xff\xc0\0\x0b\x08\0\x01\0\x01\x01\x01\x11\0";

    #[test]
    fn scans_hold_stuffed_bytes_and_restarts_and_end_at_a_marker() {
        let image = [b"\xff\xd8", FRAME, b"\xff\xda\0\x02a\xff\0b\xff\xd3c\xff\xd9tail"].concat();
        let parts = parts(&image).unwrap();
        assert_eq!(parts[2..], [Part::Scan(b"a\xff\0b\xff\xd3c"), Part::Trailer(b"tail")]);
    }

    #[test]
    fn a_cut_scan_is_taken_and_a_cut_header_is_damage() {
        let image = [b"\xff\xd8", FRAME, b"\xff\xda\0\x02abc"].concat();
        assert_eq!(parts(&image).unwrap()[2], Part::Scan(b"abc"));
        assert_eq!(parts(b"\xff\xd8\xff\xe0\0\x10JFIF"), Err(Fault::Damaged));
        assert_eq!(parts(b"\xff\xd8\xff\xd9"), Err(Fault::Damaged));
        let flood = b"\xff\xd8\xff\xc0\0\x0b\x08\xff\xff\xff\xff\x01\x01\x11\0\xff\xda\0\x02";
        assert_eq!(parts(flood), Err(Fault::Pixels));
    }
}
