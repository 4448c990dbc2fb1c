//! Zip archives (APPNOTE 6.3.10), read by their directory and within bounds.
//!
//! Readers of zip disagree about what a crooked archive holds, so one that says two things is
//! refused: sizes and names that differ between directory and member, members that overlap, a
//! directory with more or fewer entries than were announced.

use std::io::{self, Read};

use flate2::read::DeflateDecoder;

use super::frame::Fault;
use super::text::decode;

/// A member larger than this may not unpack to more than `MAX_RATIO` times its packed size.
pub(super) const RATIO_FROM: u64 = 8 << 20;
pub(super) const MAX_RATIO: u64 = 200;

const END: &[u8] = b"PK\x05\x06";
const END_64: &[u8] = b"PK\x06\x06";
const PLACE_OF_END_64: &[u8] = b"PK\x06\x07";
const ENTRY: &[u8] = b"PK\x01\x02";
const MEMBER: &[u8] = b"PK\x03\x04";

/// What stands for a number that stands elsewhere.
const ELSEWHERE: u64 = 0xffff_ffff;

pub(super) struct Directory<'d> {
    pub members: Vec<Member<'d>>,
    /// What the archive says of itself as a whole.
    pub comment: &'d [u8],
    /// Bytes that belong to no member and to no directory.
    pub stray: bool,
}

pub(super) struct Member<'d> {
    pub name: String,
    pub encrypted: bool,
    /// Date and time as MS-DOS wrote them.
    pub modified: (u16, u16),
    /// File type and permissions, where it was made on such a system.
    pub mode: Option<u32>,
    /// Whether anything else is said of it: times, owners, comments.
    pub says_more: bool,
    /// Bytes it unpacks to, as declared.
    pub size: u64,
    pub packed: &'d [u8],
    method: u16,
    sum: u32,
}

impl<'d> Directory<'d> {
    /// Reads the directory of an archive of at most `most` members.
    pub(super) fn read(bytes: &'d [u8], most: u64) -> Result<Self, Fault> {
        let end = end_of(bytes).ok_or(Fault::Damaged)?;
        if end.disks {
            return Err(Fault::Unsupported);
        }
        if end.count > most {
            return Err(Fault::Bomb);
        }
        let (from, to) = (size(end.offset), size(end.offset.saturating_add(end.bytes)));
        let mut table = bytes.get(from..to).filter(|_| to <= end.at).ok_or(Fault::Damaged)?;
        let mut members = Vec::new();
        let mut places: Vec<(usize, usize)> = Vec::new();
        for _ in 0..end.count {
            let (member, place, rest) = entry(bytes, table, from)?;
            members.push(member);
            places.push(place);
            table = rest;
        }
        if !table.is_empty() {
            return Err(Fault::Damaged);
        }
        places.sort_unstable();
        if places.windows(2).any(|two| two[0].1 > two[1].0) {
            return Err(Fault::Bomb);
        }
        // A descriptor of up to 24 bytes may follow a member.
        let mut last = 0;
        let mut stray = end.tail || to != end.at;
        for (begin, end) in places.into_iter().chain([(from, from)]) {
            stray |= begin - last > if last == 0 { 0 } else { 24 };
            last = end;
        }
        Ok(Self { members, comment: end.comment, stray })
    }
}

/// What the end of an archive says of its directory.
struct End<'d> {
    count: u64,
    bytes: u64,
    offset: u64,
    /// Where the directory must have ended.
    at: usize,
    disks: bool,
    /// Whether anything follows.
    tail: bool,
    comment: &'d [u8],
}

fn end_of(bytes: &[u8]) -> Option<End<'_>> {
    let window = bytes.len().saturating_sub(22 + 0xffff);
    let found = bytes[window..].windows(4).enumerate().rev().filter(|(_, four)| *four == END);
    for (at, _) in found {
        let at = window + at;
        let Some(length) = short(bytes, at + 20) else { continue };
        let Some(comment) = bytes.get(at + 22..at + 22 + usize::from(length)) else { continue };
        let disks = short(bytes, at + 4)? != 0 || short(bytes, at + 6)? != 0;
        let (count, size_, offset) =
            (short(bytes, at + 10)?, long(bytes, at + 12)?, long(bytes, at + 16)?);
        let tail = at + 22 + comment.len() < bytes.len();
        let end = End { count: count.into(), bytes: size_, offset, at, disks, tail, comment };
        return end_64(bytes, end);
    }
    None
}

/// The same in 64 bits, where the archive has it. Both must agree on what both can say.
fn end_64<'d>(bytes: &'d [u8], end: End<'d>) -> Option<End<'d>> {
    let place = end.at.checked_sub(20).filter(|at| bytes[*at..].starts_with(PLACE_OF_END_64));
    let Some(place) = place else { return Some(end) };
    let at = size(wide(bytes, place + 8)?);
    if at >= place || !bytes[at..].starts_with(END_64) {
        return None;
    }
    let agree = |small: u64, limit: u64, large: u64| small == limit || small == large;
    let (count, length, offset) =
        (wide(bytes, at + 32)?, wide(bytes, at + 40)?, wide(bytes, at + 48)?);
    let agreed = agree(end.count, 0xffff, count)
        && agree(end.bytes, ELSEWHERE, length)
        && agree(end.offset, ELSEWHERE, offset);
    agreed.then_some(End { count, bytes: length, offset, at, ..end })
}

/// A member, its place, and the rest of the directory.
type Found<'d> = (Member<'d>, (usize, usize), &'d [u8]);

/// One entry of the directory with its member's place, and the rest of the directory.
fn entry<'d>(bytes: &'d [u8], table: &'d [u8], directory: usize) -> Result<Found<'d>, Fault> {
    let head = table.get(..46).filter(|head| head.starts_with(ENTRY)).ok_or(Fault::Damaged)?;
    let two = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
    let four = |at: usize| {
        u64::from(u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]))
    };
    let (named, extra, comment) = (two(28), usize::from(two(30)), usize::from(two(32)));
    let length = 46usize + usize::from(two(28)) + extra + comment;
    let whole = table.get(..length).ok_or(Fault::Damaged)?;
    let name_end = 46 + usize::from(two(28));
    let raw = &whole[46..name_end];
    let fields = &whole[name_end..name_end + extra];
    let (mut plain, mut packed, mut offset) = (four(24), four(20), four(42));
    wider(fields, &mut plain, &mut packed, &mut offset)?;
    let flags = two(8);
    let at = size(offset);
    let local = bytes.get(at..).and_then(|rest| rest.get(..30)).ok_or(Fault::Damaged)?;
    let own = |at: usize| usize::from(u16::from_le_bytes([local[at], local[at + 1]]));
    let data = at + 30 + usize::from(named) + own(28);
    let own_name = bytes.get(at + 30..at + 30 + usize::from(named));
    let same = local.starts_with(MEMBER) && own(26) == usize::from(named) && own_name == Some(raw);
    let end = data.checked_add(size(packed)).filter(|end| *end <= directory && same);
    let end = end.ok_or(Fault::Damaged)?;
    if flags & 8 == 0 {
        // No descriptor follows: the member's own head says what the directory says.
        let says = |at: usize| long(local, at).unwrap_or(0);
        let agree = |says: u64, known: u64| says == known || says == ELSEWHERE;
        if !agree(says(18), packed) || !agree(says(22), plain) {
            return Err(Fault::Damaged);
        }
    }
    let utf8 = flags & 0x800 != 0 || raw.is_ascii();
    let member = Member {
        name: if utf8 { String::from_utf8_lossy(raw).into_owned() } else { decode(raw) },
        encrypted: flags & 1 != 0,
        modified: (two(14), two(12)),
        mode: (two(4) >> 8 == 3).then(|| u32::try_from(four(38) >> 16).unwrap_or(0)),
        says_more: comment > 0
            || has_more(fields)
            || own(28) > 0 && {
                let extra = &bytes[at + 30 + usize::from(named)..data];
                has_more(extra)
            },
        size: plain,
        packed: &bytes[data..end],
        method: two(10),
        sum: u32::try_from(four(16)).unwrap_or(0),
    };
    Ok((member, (at, end), &table[length..]))
}

/// Replaces what stands elsewhere by what stands in the field of 64-bit numbers.
fn wider(
    mut fields: &[u8],
    plain: &mut u64,
    packed: &mut u64,
    offset: &mut u64,
) -> Result<(), Fault> {
    while let [a, b, c, d, rest @ ..] = fields {
        let (id, length) = (u16::from_le_bytes([*a, *b]), u16::from_le_bytes([*c, *d]));
        let Some(field) = rest.get(..usize::from(length)) else { break };
        fields = &rest[field.len()..];
        if id != 1 {
            continue;
        }
        let mut at = 0;
        for number in [&mut *plain, &mut *packed, &mut *offset] {
            if *number == ELSEWHERE {
                *number = wide(field, at).ok_or(Fault::Damaged)?;
                at += 8;
            }
        }
    }
    if [*plain, *packed, *offset].contains(&ELSEWHERE) { Err(Fault::Damaged) } else { Ok(()) }
}

/// Whether there is a field that does more than widen numbers.
fn has_more(mut fields: &[u8]) -> bool {
    while let [a, b, c, d, rest @ ..] = fields {
        if u16::from_le_bytes([*a, *b]) != 1 {
            return true;
        }
        fields = rest.get(usize::from(u16::from_le_bytes([*c, *d]))..).unwrap_or_default();
    }
    !fields.is_empty()
}

impl<'d> Member<'d> {
    pub(super) fn is_directory(&self) -> bool {
        self.name.ends_with('/')
    }

    /// Refuses a member that claims to unpack to too much for what it is.
    pub(super) fn judge(&self) -> Result<(), Fault> {
        let packed = self.packed.len() as u64;
        if self.size > RATIO_FROM && self.size > packed.saturating_mul(MAX_RATIO) {
            return Err(Fault::Bomb);
        }
        Ok(())
    }

    /// What it unpacks to. The reader fails where that is not what was declared.
    pub(super) fn open(&self) -> Result<Unpacked<'d>, Fault> {
        if self.encrypted {
            return Err(Fault::Encrypted);
        }
        self.judge()?;
        let from = match self.method {
            0 if self.packed.len() as u64 == self.size => Packing::Stored(self.packed),
            0 => return Err(Fault::Damaged),
            8 => Packing::Deflated(Box::new(DeflateDecoder::new(self.packed))),
            _ => return Err(Fault::Unsupported),
        };
        let sum = (flate2::Crc::new(), self.sum);
        Ok(Unpacked { from, left: self.size, sum })
    }

    /// All it unpacks to, if that is at most `most` bytes.
    pub(super) fn bytes(&self, most: u64) -> Result<Vec<u8>, Fault> {
        if self.size > most {
            return Err(Fault::Bomb);
        }
        let mut bytes = Vec::with_capacity(size(self.size.min(1 << 20)));
        self.open()?.read_to_end(&mut bytes).map_err(|_| Fault::Damaged)?;
        Ok(bytes)
    }
}

enum Packing<'d> {
    Stored(&'d [u8]),
    Deflated(Box<DeflateDecoder<&'d [u8]>>),
}

/// A member on its way, held against its declared size and checksum.
pub(super) struct Unpacked<'d> {
    from: Packing<'d>,
    left: u64,
    sum: (flate2::Crc, u32),
}

impl Read for Unpacked<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = match &mut self.from {
            Packing::Stored(bytes) => bytes.read(into)?,
            Packing::Deflated(stream) => stream.read(into)?,
        };
        self.sum.0.update(&into[..count]);
        let left = self.left.checked_sub(count as u64);
        self.left = left.ok_or(io::ErrorKind::InvalidData)?;
        if count == 0 && !into.is_empty() && (self.left > 0 || self.sum.0.sum() != self.sum.1) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(count)
    }
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?).into())
}

fn wide(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use zip::write::SimpleFileOptions;

    use super::*;

    fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in members {
            writer.start_file(*name, SimpleFileOptions::default()).unwrap();
            writer.write_all(content).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn fault(bytes: &[u8]) -> Option<Fault> {
        Directory::read(bytes, 100).err()
    }

    #[test]
    fn members_are_found_and_unpack_to_what_went_in() {
        let text = b"again and again. ".repeat(1000);
        let bytes = archive(&[("a.txt", &text), ("b/", b""), ("b/c", b"x")]);
        let directory = Directory::read(&bytes, 100).unwrap();
        let names: Vec<&str> = directory.members.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["a.txt", "b/", "b/c"]);
        assert_eq!(directory.members[0].bytes(1 << 20).unwrap(), text);
        assert_eq!(directory.members[0].bytes(100), Err(Fault::Bomb));
        assert!(!directory.stray && !directory.members[0].says_more);
        assert_eq!(Directory::read(&bytes, 2).err(), Some(Fault::Bomb));
    }

    #[test]
    fn an_archive_that_says_two_things_is_refused() {
        let bytes = archive(&[("aaaa", b"one"), ("bbbb", b"two")]);
        let change = |from: usize, to: u8| {
            let mut changed = bytes.clone();
            changed[from] = to;
            changed
        };
        assert_eq!(fault(&bytes), None);
        assert_eq!(fault(&change(30, b'x')), Some(Fault::Damaged), "another name in the member");
        let end = bytes.len() - 22;
        assert_eq!(fault(&change(end + 10, 1)), Some(Fault::Damaged), "one entry too many");
        assert_eq!(fault(&change(end + 10, 3)), Some(Fault::Damaged), "one entry too few");
        assert_eq!(fault(&change(end + 4, 1)), Some(Fault::Unsupported), "several disks");
        // The second entry points at the first member's bytes under its own name.
        let twice = archive(&[("aaaa", b"one")]);
        let (at, end) = (twice.len() - 22 - 50, twice.len() - 22);
        let mut overlapping = twice[..end].to_vec();
        overlapping.extend_from_slice(&twice[at..end]);
        overlapping.extend_from_slice(&twice[end..]);
        let tail = overlapping.len() - 22;
        overlapping[tail + 10] = 2;
        overlapping[tail + 12] = 100;
        assert_eq!(fault(&overlapping), Some(Fault::Bomb), "members overlap");
    }

    #[test]
    fn what_does_not_match_its_declaration_fails_while_it_unpacks() {
        let mut bytes = archive(&[("a", &[b'x'; 1000])]);
        let directory = bytes.len() - 22 - 47;
        bytes[directory + 16] ^= 1;
        let read = Directory::read(&bytes, 1).unwrap();
        assert_eq!(read.members[0].bytes(5000), Err(Fault::Damaged));
    }
}
