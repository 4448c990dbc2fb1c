//! A zip that is written while it is sent: stored members whose checksums follow them, and a
//! directory at the end (APPNOTE 6.3.10, sections 4.3.7 to 4.3.16; ZIP64 where numbers need it).

use bytes::{BufMut, Bytes, BytesMut};
use flate2::Crc;

use crate::file::FileId;

const LOCAL: u32 = 0x0403_4b50;
const DESCRIPTOR: u32 = 0x0807_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END_64: u32 = 0x0606_4b50;
const LOCATOR_64: u32 = 0x0706_4b50;
const END: u32 = 0x0605_4b50;

/// "See the descriptor": checksum and sizes stand behind the member (4.4.4, bit 3).
const FLAGS: u16 = 1 << 3;
const STORED: u16 = 0;
/// 1980-01-01 00:00, the least there is: when a file came is in its record.
const TIME: u16 = 0;
const DATE: u16 = (1 << 5) | 1;
/// A regular file for its owner alone.
const ATTRIBUTES: u32 = 0o100_600 << 16;
const FULL_16: u16 = u16::MAX;
const FULL_32: u32 = u32::MAX;
/// Version 4.5 knows ZIP64; stored members alone need 1.0.
const NEEDS: u16 = 10;
const NEEDS_64: u16 = 45;
const MADE_BY: u16 = (3 << 8) | NEEDS_64;

/// Directory entries sent at a time.
const BATCH: usize = 256;

/// A member's name, made from the file's id: nothing of a client's is a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `files/<id>/record.json`
    Record(FileId),
    /// `files/<id>/content`
    Content(FileId),
}

impl Place {
    fn name(self) -> String {
        match self {
            Self::Record(file) => format!("files/{file}/record.json"),
            Self::Content(file) => format!("files/{file}/content"),
        }
    }
}

/// A zip in the making: what was sent so far, as far as the directory must name it.
#[derive(Default)]
pub struct Archive {
    members: Vec<Member>,
    /// Bytes sent.
    at: u64,
    open: Option<Open>,
}

struct Open {
    place: Place,
    start: u64,
    large: bool,
    crc: Crc,
    bytes: u64,
}

struct Member {
    place: Place,
    start: u64,
    crc: u32,
    bytes: u64,
}

/// Bytes a member takes in memory until the directory is sent.
pub const MEMBER_BYTES: usize = size_of::<Member>();

impl Archive {
    /// Members so far.
    #[must_use]
    pub const fn members(&self) -> usize {
        self.members.len()
    }

    /// Opens a member of `bytes` bytes; returns what stands before them.
    pub fn begin(&mut self, place: Place, bytes: u64) -> Bytes {
        let large = bytes >= u64::from(FULL_32);
        let name = place.name();
        let mut out = BytesMut::new();
        out.put_u32_le(LOCAL);
        out.put_u16_le(if large { NEEDS_64 } else { NEEDS });
        put_common(&mut out);
        out.put_u32_le(0);
        let size = if large { FULL_32 } else { 0 };
        out.put_u32_le(size);
        out.put_u32_le(size);
        out.put_u16_le(name.len() as u16);
        out.put_u16_le(if large { 20 } else { 0 });
        out.put_slice(name.as_bytes());
        if large {
            // Tells readers that the descriptor's sizes take eight bytes each (4.3.9.2).
            put_extra(&mut out, &[0, 0]);
        }
        self.open = Some(Open { place, start: self.at, large, crc: Crc::new(), bytes: 0 });
        self.sent(out)
    }

    /// Counts bytes of the open member; they are sent as they are.
    pub fn add(&mut self, bytes: &[u8]) {
        if let Some(open) = &mut self.open {
            open.crc.update(bytes);
            open.bytes += bytes.len() as u64;
            self.at += bytes.len() as u64;
        }
    }

    /// Closes the open member; returns what stands behind it.
    pub fn end(&mut self) -> Bytes {
        let Some(Open { place, start, large, crc, bytes }) = self.open.take() else {
            return Bytes::new();
        };
        let mut out = BytesMut::new();
        out.put_u32_le(DESCRIPTOR);
        out.put_u32_le(crc.sum());
        if large {
            out.put_u64_le(bytes);
            out.put_u64_le(bytes);
        } else {
            out.put_u32_le(bytes as u32);
            out.put_u32_le(bytes as u32);
        }
        self.members.push(Member { place, start, crc: crc.sum(), bytes });
        self.sent(out)
    }

    /// The directory, piece by piece.
    #[must_use]
    pub fn finish(self) -> Directory {
        Directory { members: self.members, start: self.at, at: self.at, next: 0, over: false }
    }

    fn sent(&mut self, out: BytesMut) -> Bytes {
        self.at += out.len() as u64;
        out.freeze()
    }
}

/// What ends a zip.
pub struct Directory {
    members: Vec<Member>,
    start: u64,
    at: u64,
    next: usize,
    over: bool,
}

impl Iterator for Directory {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        let mut out = BytesMut::new();
        let until = self.members.len().min(self.next + BATCH);
        for member in &self.members[self.next..until] {
            put_member(&mut out, member);
        }
        self.next = until;
        self.at += out.len() as u64;
        if until == self.members.len() {
            self.put_end(&mut out);
            self.over = true;
        }
        Some(out.freeze())
    }
}

impl Directory {
    fn put_end(&self, out: &mut BytesMut) {
        let (count, bytes) = (self.members.len() as u64, self.at - self.start);
        let small = count < u64::from(FULL_16)
            && bytes < u64::from(FULL_32)
            && self.start < u64::from(FULL_32);
        if !small {
            out.put_u32_le(END_64);
            // What follows of this record (4.3.14.1).
            out.put_u64_le(44);
            out.put_u16_le(MADE_BY);
            out.put_u16_le(NEEDS_64);
            out.put_u32_le(0);
            out.put_u32_le(0);
            out.put_u64_le(count);
            out.put_u64_le(count);
            out.put_u64_le(bytes);
            out.put_u64_le(self.start);
            out.put_u32_le(LOCATOR_64);
            out.put_u32_le(0);
            out.put_u64_le(self.at);
            out.put_u32_le(1);
        }
        out.put_u32_le(END);
        out.put_u16_le(0);
        out.put_u16_le(0);
        let count = if small { count as u16 } else { FULL_16 };
        out.put_u16_le(count);
        out.put_u16_le(count);
        out.put_u32_le(if small { bytes as u32 } else { FULL_32 });
        out.put_u32_le(if small { self.start as u32 } else { FULL_32 });
        out.put_u16_le(0);
    }
}

/// Flags, method and time, as both headers have them.
fn put_common(out: &mut BytesMut) {
    out.put_u16_le(FLAGS);
    out.put_u16_le(STORED);
    out.put_u16_le(TIME);
    out.put_u16_le(DATE);
}

/// The ZIP64 extra field (4.5.3).
fn put_extra(out: &mut BytesMut, numbers: &[u64]) {
    out.put_u16_le(1);
    out.put_u16_le(numbers.len() as u16 * 8);
    for number in numbers {
        out.put_u64_le(*number);
    }
}

fn put_member(out: &mut BytesMut, member: &Member) {
    let full = u64::from(FULL_32);
    let mut extra = Vec::new();
    if member.bytes >= full {
        extra.extend([member.bytes, member.bytes]);
    }
    if member.start >= full {
        extra.push(member.start);
    }
    let name = member.place.name();
    out.put_u32_le(CENTRAL);
    out.put_u16_le(MADE_BY);
    out.put_u16_le(if extra.is_empty() { NEEDS } else { NEEDS_64 });
    put_common(out);
    out.put_u32_le(member.crc);
    let size = u32::try_from(member.bytes).unwrap_or(FULL_32);
    out.put_u32_le(size);
    out.put_u32_le(size);
    out.put_u16_le(name.len() as u16);
    out.put_u16_le(if extra.is_empty() { 0 } else { 4 + extra.len() as u16 * 8 });
    // No comment, the first disk, no internal attributes.
    out.put_u16_le(0);
    out.put_u16_le(0);
    out.put_u16_le(0);
    out.put_u32_le(ATTRIBUTES);
    out.put_u32_le(u32::try_from(member.start).unwrap_or(FULL_32));
    out.put_slice(name.as_bytes());
    if !extra.is_empty() {
        put_extra(out, &extra);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read, Seek, SeekFrom};

    use super::*;

    fn id(number: u8) -> FileId {
        FileId::from_bytes([number; 16])
    }

    fn member(archive: &mut Archive, place: Place, content: &[u8]) -> Vec<u8> {
        let mut out = archive.begin(place, content.len() as u64).to_vec();
        archive.add(content);
        out.extend_from_slice(content);
        out.extend_from_slice(&archive.end());
        out
    }

    /// An archive with a hole of zeroes in it, between its head and its tail.
    struct Sparse {
        head: Vec<u8>,
        hole: u64,
        tail: Vec<u8>,
        at: u64,
    }

    impl Read for Sparse {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let (head, end) = (self.head.len() as u64, self.head.len() as u64 + self.hole);
            let read = if self.at < head {
                (&self.head[self.at as usize..]).read(into)?
            } else if self.at < end {
                let zeroes = (end - self.at).min(into.len() as u64) as usize;
                into[..zeroes].fill(0);
                zeroes
            } else {
                let from = ((self.at - end) as usize).min(self.tail.len());
                (&self.tail[from..]).read(into)?
            };
            self.at += read as u64;
            Ok(read)
        }
    }

    impl Seek for Sparse {
        fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
            let end = self.head.len() as u64 + self.hole + self.tail.len() as u64;
            self.at = match to {
                SeekFrom::Start(at) => at,
                SeekFrom::End(by) => end.saturating_add_signed(by),
                SeekFrom::Current(by) => self.at.saturating_add_signed(by),
            };
            Ok(self.at)
        }
    }

    #[test]
    fn another_reader_finds_what_was_put_in() {
        let mut archive = Archive::default();
        let mut bytes = member(&mut archive, Place::Record(id(1)), b"{}");
        bytes.extend(member(&mut archive, Place::Content(id(1)), &[7; 70_000]));
        bytes.extend(member(&mut archive, Place::Content(id(2)), b""));
        archive.finish().for_each(|piece| bytes.extend_from_slice(&piece));
        let mut found = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
        assert_eq!(found.len(), 3);
        let mut content = Vec::new();
        let name = Place::Content(id(1)).name();
        found.by_name(&name).unwrap().read_to_end(&mut content).unwrap();
        assert_eq!(content, [7; 70_000]);
    }

    #[test]
    fn nothing_alive_is_an_empty_zip() {
        let bytes: Vec<u8> = Archive::default().finish().flatten().collect();
        assert_eq!(bytes.len(), 22);
        assert!(zip::ZipArchive::new(Cursor::new(bytes)).unwrap().is_empty());
    }

    #[test]
    fn members_beyond_four_gigabytes_are_found() {
        let hole = 5 << 30;
        let mut archive = Archive { at: hole, ..Archive::default() };
        let mut bytes = member(&mut archive, Place::Content(id(1)), b"far out");
        archive.finish().for_each(|piece| bytes.extend_from_slice(&piece));
        let mut found =
            zip::ZipArchive::new(Sparse { head: Vec::new(), hole, tail: bytes, at: 0 }).unwrap();
        let mut content = String::new();
        found.by_index(0).unwrap().read_to_string(&mut content).unwrap();
        assert_eq!(content, "far out");
    }

    #[test]
    fn a_member_of_more_than_four_gigabytes_says_its_size() {
        let large = 5 << 30;
        let mut archive = Archive::default();
        let head = archive.begin(Place::Content(id(1)), large);
        assert_eq!(head[4], 45, "it needs ZIP64");
        // Only its length is of interest here, not its bytes.
        archive.open.as_mut().unwrap().bytes = large;
        archive.at += large;
        let mut bytes = archive.end().to_vec();
        assert_eq!(bytes.len(), 24, "sizes of eight bytes");
        archive.finish().for_each(|piece| bytes.extend_from_slice(&piece));
        let sparse = Sparse { head: head.to_vec(), hole: large, tail: bytes, at: 0 };
        let mut found = zip::ZipArchive::new(sparse).unwrap();
        assert_eq!(found.by_index_raw(0).unwrap().size(), large);
    }

    #[test]
    fn more_members_than_sixteen_bits_can_count() {
        let mut archive = Archive::default();
        let mut bytes = Vec::new();
        for number in 0..70_000_u128 {
            let place = Place::Record(FileId::from_bytes(number.to_be_bytes()));
            bytes.extend(member(&mut archive, place, b"{}"));
        }
        archive.finish().for_each(|piece| bytes.extend_from_slice(&piece));
        assert_eq!(zip::ZipArchive::new(Cursor::new(bytes)).unwrap().len(), 70_000);
    }
}
