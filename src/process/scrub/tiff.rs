//! TIFF, written anew with the tags that shape pixels and no others.
//!
//! Whoever reads a TIFF follows its tags, so one whose pixels hang on a tag that is not known here
//! (raw photographs, old JPEG, tiles in sub-directories) is refused.

use super::super::frame::Fault;
use super::super::picture::tiff::{PROFILE, Tiff, shapes_pixels, width};
use super::super::picture::{icc, jpeg};
use super::images;

/// Directories a file may have.
const MAX_DIRECTORIES: usize = 1024;

const WIDTH: u16 = 256;
const HEIGHT: u16 = 257;
const COMPRESSION: u16 = 259;
const STRIPS: (u16, u16) = (273, 279);
const TILES: (u16, u16) = (324, 325);
const JPEG_TABLES: u16 = 347;

/// Compressions whose data is pixels alone: none, the fax ones, LZW, deflate, PackBits, JPEG,
/// WebP aside.
const KNOWN: [u32; 9] = [1, 2, 3, 4, 5, 8, 32_773, 32_946, 7];

/// Tags that only cameras' own formats and old JPEG have; without them nobody finds the pixels.
const FOREIGN: [u16; 6] = [330, 512, 513, 33_421, 50_706, 50_740];

pub(super) fn tiff(document: &[u8]) -> Result<Vec<u8>, Fault> {
    let (file, first) = Tiff::open(document).ok_or(Fault::Unsupported)?;
    let most = document.len().saturating_add(1 << 20);
    let mut made = Writer { bytes: document[..4].to_vec(), big: file.big, most, link: 4 };
    made.bytes.extend_from_slice(&[0; 4]);
    let (mut at, mut seen) = (first, Vec::new());
    while at != 0 {
        if seen.contains(&at) || seen.len() == MAX_DIRECTORIES {
            return Err(Fault::Complex);
        }
        seen.push(at);
        at = directory(&file, at, &mut made)?;
    }
    if seen.is_empty() { Err(Fault::Damaged) } else { Ok(made.bytes) }
}

/// One entry to be written: tag, kind and its values as bytes.
type Row = (u16, u16, Vec<u8>);

fn directory(file: &Tiff<'_>, at: usize, made: &mut Writer) -> Result<usize, Fault> {
    let directory = file.directory(at).ok_or(Fault::Damaged)?;
    let find = |tag: u16| directory.entries.iter().find(|entry| entry.tag == tag);
    let numbers = |tag: u16| find(tag).and_then(|entry| file.numbers(entry));
    let number = |tag: u16| numbers(tag).and_then(|numbers| numbers.first().copied());
    let (across, down) = number(WIDTH).zip(number(HEIGHT)).ok_or(Fault::Damaged)?;
    if u64::from(across) * u64::from(down) > 1 << 28 {
        return Err(Fault::Pixels);
    }
    let compression = number(COMPRESSION).unwrap_or(1);
    let foreign = FOREIGN.iter().any(|tag| find(*tag).is_some());
    if foreign || !KNOWN.contains(&compression) || directory.broken > 0 {
        return Err(Fault::Unsupported);
    }
    let mut rows: Vec<Row> = Vec::new();
    for (offsets, lengths) in [STRIPS, TILES] {
        let Some(from) = numbers(offsets) else { continue };
        let lengths_of = numbers(lengths).filter(|lengths| lengths.len() == from.len());
        let (mut places, mut sizes) = (Vec::new(), Vec::new());
        for (from, length) in from.into_iter().zip(lengths_of.ok_or(Fault::Unsupported)?) {
            let from = usize::try_from(from).unwrap_or(usize::MAX);
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let data = file.bytes.get(from..from.saturating_add(length)).ok_or(Fault::Damaged)?;
            let place = if compression == 7 { made.put(&pixels(data)?)? } else { made.put(data)? };
            places.extend_from_slice(&made.long(place.0));
            sizes.extend_from_slice(&made.long(place.1));
        }
        rows.push((offsets, 4, places));
        rows.push((lengths, 4, sizes));
    }
    if rows.is_empty() {
        return Err(Fault::Unsupported);
    }
    for entry in &directory.entries {
        let placed = [STRIPS.0, STRIPS.1, TILES.0, TILES.1].contains(&entry.tag);
        if entry.tag == PROFILE {
            if let Some(profile) = icc::scrubbed(entry.data) {
                rows.push((entry.tag, 7, profile));
            }
        } else if entry.tag == JPEG_TABLES {
            rows.push((entry.tag, entry.kind, tables(entry.data)?));
        } else if shapes_pixels(entry.tag) && !placed && entry.kind != 2 {
            rows.push((entry.tag, entry.kind, entry.data.to_vec()));
        }
    }
    made.directory(rows)?;
    Ok(directory.next)
}

/// A strip that is a JPEG image, which may carry anything a JPEG image can.
fn pixels(data: &[u8]) -> Result<Vec<u8>, Fault> {
    images::jpeg(data)
}

/// Tables for such strips: no image of their own, so nothing but tables may be in there.
fn tables(data: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut at = 2;
    while data.get(at..at + 2).is_some_and(|marker| marker != [0xff, 0xd9]) {
        let length = usize::from(u16::from_be_bytes(
            data.get(at + 2..)
                .and_then(|rest| rest.first_chunk().copied())
                .ok_or(Fault::Damaged)?,
        ));
        if data[at] != 0xff || !jpeg::shapes_pixels(data[at + 1]) {
            return Err(Fault::Unsupported);
        }
        at += 2 + length;
    }
    data.get(..at + 2).map(<[u8]>::to_vec).ok_or(Fault::Damaged)
}

struct Writer {
    bytes: Vec<u8>,
    big: bool,
    /// Bytes the file may have: strips that share their data would make it larger than it was.
    most: usize,
    /// Where the place of the next directory is to be written.
    link: usize,
}

impl Writer {
    /// Data at an even place: where it is, and how long.
    fn put(&mut self, data: &[u8]) -> Result<(usize, usize), Fault> {
        let at = self.bytes.len();
        if at + data.len() > self.most {
            return Err(Fault::Bomb);
        }
        self.bytes.extend_from_slice(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(2), 0);
        Ok((at, data.len()))
    }

    fn long(&self, number: usize) -> [u8; 4] {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        if self.big { number.to_be_bytes() } else { number.to_le_bytes() }
    }

    fn short(&self, number: u16) -> [u8; 2] {
        if self.big { number.to_be_bytes() } else { number.to_le_bytes() }
    }

    fn directory(&mut self, mut rows: Vec<Row>) -> Result<(), Fault> {
        rows.sort_by_key(|(tag, ..)| *tag);
        rows.dedup_by_key(|(tag, ..)| *tag);
        let mut table = Vec::new();
        for (tag, kind, data) in &rows {
            let count = data.len() / width(*kind).ok_or(Fault::Damaged)?;
            table.extend_from_slice(&self.short(*tag));
            table.extend_from_slice(&self.short(*kind));
            table.extend_from_slice(&self.long(count));
            if data.len() <= 4 {
                let mut short = data.clone();
                short.resize(4, 0);
                table.extend_from_slice(&short);
            } else {
                let (at, _) = self.put(data)?;
                table.extend_from_slice(&self.long(at));
            }
        }
        let at = self.bytes.len();
        let link = self.long(at);
        self.bytes[self.link..self.link + 4].copy_from_slice(&link);
        let count = u16::try_from(rows.len()).map_err(|_| Fault::Complex)?;
        let count = self.short(count);
        self.bytes.extend_from_slice(&count);
        self.bytes.extend_from_slice(&table);
        self.link = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        Ok(())
    }
}
