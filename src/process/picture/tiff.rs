//! TIFF 6.0 directories: a file of their own, and what EXIF is written in.

/// A TIFF file, or the same inside of another.
#[derive(Clone, Copy)]
pub(in crate::process) struct Tiff<'d> {
    pub bytes: &'d [u8],
    pub big: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::process) struct Entry<'d> {
    pub tag: u16,
    pub kind: u16,
    pub count: u32,
    /// Its values, `count` of them.
    pub data: &'d [u8],
}

pub(in crate::process) struct Directory<'d> {
    pub entries: Vec<Entry<'d>>,
    /// Entries that point out of the file, or are of a kind there is not.
    pub broken: usize,
    /// Where the next directory is; 0 if this is the last.
    pub next: usize,
}

pub(in crate::process) const ORIENTATION: u16 = 0x0112;
pub(in crate::process) const EXIF: u16 = 0x8769;
pub(in crate::process) const GPS: u16 = 0x8825;
pub(in crate::process) const INTEROPERABILITY: u16 = 0xa005;
pub(in crate::process) const PROFILE: u16 = 0x8773;
pub(in crate::process) const XMP: u16 = 0x02bc;
pub(in crate::process) const IPTC: u16 = 0x83bb;
pub(in crate::process) const PHOTOSHOP: u16 = 0x8649;

/// Entries a directory may have.
const MAX_ENTRIES: usize = 4096;

/// Tags that a decoder needs, and that hold numbers alone. The colour profile is another matter.
pub(in crate::process) const fn shapes_pixels(tag: u16) -> bool {
    matches!(tag,
        254..=266 | 273 | 274 | 277..=284 | 288..=293 | 296 | 297 | 301 | 317..=325 | 332 | 334
        | 336 | 338..=342 | 347 | 529..=532)
}

impl<'d> Tiff<'d> {
    /// The file, and where its first directory is.
    pub(in crate::process) fn open(bytes: &'d [u8]) -> Option<(Self, usize)> {
        let big = match bytes.get(..4)? {
            b"II*\0" => false,
            b"MM\0*" => true,
            _ => return None,
        };
        let file = Self { bytes, big };
        let first = file.long(4)?;
        Some((file, first))
    }

    fn short(&self, at: usize) -> Option<u16> {
        let bytes = *self.bytes.get(at..)?.first_chunk()?;
        Some(if self.big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn long(&self, at: usize) -> Option<usize> {
        Some(super::size(self.word(*self.bytes.get(at..)?.first_chunk()?)))
    }

    const fn word(&self, bytes: [u8; 4]) -> u32 {
        if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    pub(in crate::process) fn directory(&self, at: usize) -> Option<Directory<'d>> {
        let count = usize::from(self.short(at)?);
        let table = self.bytes.get(at + 2..)?.get(..count.checked_mul(12)?)?;
        if count > MAX_ENTRIES {
            return None;
        }
        let (mut entries, mut broken) = (Vec::with_capacity(count), 0);
        for place in (at + 2..).step_by(12).take(table.len() / 12) {
            match self.entry(place) {
                Some(entry) => entries.push(entry),
                None => broken += 1,
            }
        }
        // A file that ends here has no next one.
        let next = self.long(at + 2 + table.len()).unwrap_or(0);
        Some(Directory { entries, broken, next })
    }

    fn entry(&self, at: usize) -> Option<Entry<'d>> {
        let (tag, kind) = (self.short(at)?, self.short(at + 2)?);
        let count = self.long(at + 4)?;
        let length = count.checked_mul(width(kind)?)?;
        let place = if length <= 4 { at + 8 } else { self.long(at + 8)? };
        let data = self.bytes.get(place..place.checked_add(length)?)?;
        Some(Entry { tag, kind, count: u32::try_from(count).ok()?, data })
    }

    /// The values of an entry of whole numbers.
    pub(in crate::process) fn numbers(&self, entry: &Entry<'d>) -> Option<Vec<u32>> {
        let chunks = |width| entry.data.chunks_exact(width);
        Some(match entry.kind {
            1 | 7 => entry.data.iter().copied().map(u32::from).collect(),
            3 => chunks(2)
                .map(|two| {
                    let two = [two[0], two[1]];
                    let big = self.big;
                    u32::from(if big { u16::from_be_bytes(two) } else { u16::from_le_bytes(two) })
                })
                .collect(),
            4 | 13 => chunks(4).map(|w| self.word([w[0], w[1], w[2], w[3]])).collect(),
            _ => return None,
        })
    }

    /// The values of an entry of fractions.
    pub(in crate::process) fn fractions(&self, entry: &Entry<'d>) -> Option<Vec<(i64, i64)>> {
        let signed = match entry.kind {
            5 => false,
            10 => true,
            _ => return None,
        };
        let number = |w: &[u8]| {
            let word = self.word([w[0], w[1], w[2], w[3]]);
            if signed { i64::from(word.cast_signed()) } else { i64::from(word) }
        };
        Some(entry.data.chunks_exact(8).map(|w| (number(w), number(&w[4..]))).collect())
    }
}

/// Bytes of one value of a kind.
pub(in crate::process) const fn width(kind: u16) -> Option<usize> {
    Some(match kind {
        1 | 2 | 6 | 7 => 1,
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 => 8,
        _ => return None,
    })
}

/// How an image is to be turned, by its EXIF; `None` if it says nothing or nonsense.
pub(in crate::process) fn orientation(exif: &[u8]) -> Option<u16> {
    let (file, first) = Tiff::open(exif)?;
    let directory = file.directory(first)?;
    let entry = directory.entries.iter().find(|entry| entry.tag == ORIENTATION)?;
    let number = *file.numbers(entry)?.first()?;
    u16::try_from(number).ok().filter(|number| (1..=8).contains(number))
}

/// EXIF that says how the image is to be turned, and nothing else.
pub(in crate::process) fn only_orientation(orientation: u16) -> Vec<u8> {
    let mut exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01".to_vec();
    exif.extend_from_slice(&orientation.to_be_bytes());
    exif.extend_from_slice(&[0; 6]);
    exif
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orientation_is_read_from_either_byte_order_and_written_back() {
        for number in 1..=8 {
            assert_eq!(orientation(&only_orientation(number)), Some(number));
        }
        let little = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0";
        assert_eq!(orientation(little), Some(6));
        assert_eq!(orientation(b"II*\0\xff\xff\xff\xff"), None);
        assert_eq!(orientation(&only_orientation(9)), None);
    }

    #[test]
    fn an_entry_that_points_out_of_the_file_is_counted_and_left_out() {
        let file = b"II*\0\x08\0\0\0\x01\0\x0f\x01\x02\0\xff\xff\xff\xff\x08\0\0\0\0\0\0\0";
        let (tiff, first) = Tiff::open(file).unwrap();
        let directory = tiff.directory(first).unwrap();
        assert_eq!((directory.entries.len(), directory.broken), (0, 1));
    }
}
