//! One archive from its beginning to its end, and those inside of it.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::Read;
use std::rc::Rc;

use flate2::read::MultiGzDecoder;

use super::super::frame::Fault;
use super::super::zipped::{Directory, Member};
use super::path::Paths;
use super::source::{Bounded, Counted, Peeked, fault};
use super::tar;
use super::{MAX_DEPTH, MAX_INNER, MAX_MEMBERS, MAX_UNPACKED};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Zip,
    Tar,
    TarGzip,
    Gzip,
}

impl Format {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Zip => "zip",
            Self::Tar => "tar",
            Self::TarGzip => "tar+gzip",
            Self::Gzip => "gzip",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    Symlink(String),
    Hardlink(String),
}

/// A member as it is met.
pub(super) struct Entry {
    /// With those around it: `inner.zip!/a.txt`.
    pub path: String,
    pub kind: Kind,
    /// Bytes, where that is known beforehand.
    pub size: Option<u64>,
    pub packed: Option<u64>,
    /// Unix seconds.
    pub modified: Option<i64>,
    pub encrypted: bool,
}

/// What is done with members.
pub(super) trait Visitor {
    /// A member in its order; whether its content is wanted.
    fn entry(&mut self, entry: Entry) -> Result<bool, Fault>;

    /// A piece of the wanted content.
    fn content(&mut self, bytes: &[u8]) -> Result<(), Fault>;

    /// How long the member was, if it was read to its end.
    fn ended(&mut self, bytes: u64);

    /// Whether the members of an archive that is a member are wanted.
    fn descends(&self, path: &str) -> bool;
}

/// Bytes of a beginning that tell what it is.
const HEAD: u64 = 512;

/// Bytes that are handed on in one go.
const PIECE: usize = 64 << 10;

/// Walks through an archive; one that must be read whole has at most `most` bytes.
pub(super) fn walk(
    input: &mut dyn Read,
    most: u64,
    visitor: &mut dyn Visitor,
) -> Result<Format, Fault> {
    let mut walk = Walk { visitor, members: MAX_MEMBERS, unpacked: MAX_UNPACKED };
    walk.archive(input, most, "", 1)?.ok_or(Fault::Unsupported)
}

pub(super) struct Walk<'v> {
    visitor: &'v mut dyn Visitor,
    /// Members there may still be.
    members: u64,
    /// Bytes that may still be unpacked.
    unpacked: u64,
}

impl Walk<'_> {
    /// An archive, if it is one. Everything is read to its end.
    fn archive(
        &mut self,
        input: &mut dyn Read,
        most: u64,
        inside: &str,
        depth: usize,
    ) -> Result<Option<Format>, Fault> {
        let mut input = Peeked::new(input, HEAD)?;
        let format = match input.head() {
            [0x1f, 0x8b, 8, ..] => return self.gzip(input, inside, depth).map(Some),
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Format::Zip,
            head if tar::is_tar(head) => Format::Tar,
            _ => return Ok(None),
        };
        if format == Format::Tar {
            tar::read(self, &mut input, inside, depth)?;
            return Ok(Some(format));
        }
        let mut bytes = Vec::new();
        input.take(most + 1).read_to_end(&mut bytes).map_err(|error| fault(&error))?;
        if bytes.len() as u64 > most {
            return Err(if depth == 1 { Fault::Limit } else { Fault::Bomb });
        }
        self.zip(&bytes, inside, depth)?;
        Ok(Some(format))
    }

    /// A gzip stream: a tar, or one member.
    fn gzip(&mut self, input: Peeked<'_>, inside: &str, depth: usize) -> Result<Format, Fault> {
        let packed = Rc::new(Cell::new(0));
        let counted = Counted { from: input, count: packed.clone() };
        let from = MultiGzDecoder::new(counted);
        let name = from.header().and_then(|header| header.filename()).map(file_name);
        let modified = from.header().map(|header| i64::from(header.mtime())).filter(|t| *t > 0);
        let mut left = self.unpacked;
        let mut stream = Bounded { from, packed, unpacked: 0, left: &mut left };
        let mut plain = Peeked::new(&mut stream, HEAD)?;
        let format = if tar::is_tar(plain.head()) {
            tar::read(self, &mut plain, inside, depth)?;
            Format::TarGzip
        } else {
            let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| "content".to_owned());
            Paths::default().judge(&name)?;
            let entry = Entry {
                path: format!("{inside}{name}"),
                kind: Kind::File,
                size: None,
                packed: None,
                modified,
                encrypted: false,
            };
            self.file(entry, &mut plain, depth)?;
            Format::Gzip
        };
        drain(&mut plain)?;
        self.unpacked = self.unpacked.min(left);
        Ok(format)
    }

    fn zip(&mut self, bytes: &[u8], inside: &str, depth: usize) -> Result<(), Fault> {
        let directory = Directory::read(bytes, self.members)?;
        let (mut paths, mut names) = (Paths::default(), BTreeSet::new());
        // All that is declared is judged before anything of it is given.
        let total = directory.members.iter().try_fold(0u64, |sum, m| sum.checked_add(m.size));
        let left = total.and_then(|total| self.unpacked.checked_sub(total));
        self.unpacked = left.ok_or(Fault::Bomb)?;
        let mut entries = Vec::with_capacity(directory.members.len());
        for member in &directory.members {
            member.judge()?;
            paths.judge(&member.name)?;
            if !names.insert(member.name.as_str()) {
                // Programs disagree about which one counts.
                return Err(Fault::Damaged);
            }
            let kind = kind(member)?;
            if let Kind::Symlink(target) = &kind {
                paths.link(&member.name, target)?;
            }
            entries.push(Entry {
                path: format!("{inside}{}", member.name),
                kind,
                size: Some(member.size),
                packed: Some(member.packed.len() as u64),
                modified: dos_time(member.modified),
                encrypted: member.encrypted,
            });
        }
        for member in &directory.members {
            // A link further down may lead away what stands above it.
            paths.judge_unless_link(&member.name)?;
        }
        for (member, entry) in directory.members.iter().zip(entries) {
            self.count()?;
            match (&entry.kind, member.open()) {
                (Kind::File, Ok(mut plain)) => self.file(entry, &mut plain, depth)?,
                (Kind::File, Err(fault @ (Fault::Encrypted | Fault::Unsupported))) => {
                    if self.visitor.entry(entry)? {
                        return Err(fault);
                    }
                }
                (Kind::File, Err(fault)) => return Err(fault),
                _ => self.bare(entry)?,
            }
        }
        Ok(())
    }

    /// Counts a member.
    pub(super) fn count(&mut self) -> Result<(), Fault> {
        self.members = self.members.checked_sub(1).ok_or(Fault::Bomb)?;
        Ok(())
    }

    /// A member without content.
    pub(super) fn bare(&mut self, entry: Entry) -> Result<(), Fault> {
        if self.visitor.entry(entry)? { Err(Fault::NoMember) } else { Ok(()) }
    }

    /// A file: given, looked into, or passed over.
    pub(super) fn file(
        &mut self,
        entry: Entry,
        plain: &mut dyn Read,
        depth: usize,
    ) -> Result<(), Fault> {
        let (path, counts) = (entry.path.clone(), entry.size.is_none());
        if self.visitor.entry(entry)? {
            return self.give(plain);
        }
        let mut plain = Peeked::new(plain, HEAD)?;
        if self.visitor.descends(&path) && is_archive(plain.head()) {
            if depth == MAX_DEPTH {
                return Err(Fault::Bomb);
            }
            let inside = format!("{path}!/");
            self.archive(&mut plain, MAX_INNER, &inside, depth + 1)?;
        } else if counts {
            let bytes = drain(&mut plain)?;
            self.visitor.ended(bytes);
        }
        Ok(())
    }

    fn give(&mut self, plain: &mut dyn Read) -> Result<(), Fault> {
        let mut piece = vec![0; PIECE];
        loop {
            let count = plain.read(&mut piece).map_err(|error| fault(&error))?;
            if count == 0 {
                return Ok(());
            }
            self.visitor.content(&piece[..count])?;
        }
    }
}

/// Whether these first bytes are those of an archive that is no document of its own kind.
fn is_archive(head: &[u8]) -> bool {
    const DOCUMENTS: [&[u8]; 5] =
        [b"[Content_Types].xml", b"_rels/", b"mimetype", b"META-INF/", b"docProps/"];
    match head {
        [0x1f, 0x8b, 8, ..] => true,
        [b'P', b'K', 3, 4, ..] => {
            let name = head.get(30..).unwrap_or_default();
            !DOCUMENTS.iter().any(|document| name.starts_with(document))
        }
        head => tar::is_tar(head),
    }
}

fn kind(member: &Member<'_>) -> Result<Kind, Fault> {
    /// The longest target of a link, bytes.
    const MAX_TARGET: u64 = 4096;
    match member.mode.map_or(0, |mode| mode & 0o170_000) {
        0o120_000 => {
            let target = member.bytes(MAX_TARGET).map_err(|_| Fault::UnsafePath)?;
            Ok(Kind::Symlink(String::from_utf8_lossy(&target).into_owned()))
        }
        0 | 0o100_000 | 0o040_000 => {
            Ok(if member.is_directory() { Kind::Directory } else { Kind::File })
        }
        // Devices, pipes and sockets.
        _ => Err(Fault::UnsafePath),
    }
}

/// The last part of a name; a gzip may name the file it was made of with its folders.
fn file_name(name: &[u8]) -> String {
    let name = super::super::text::decode(name);
    name.rsplit(['/', '\\']).next().unwrap_or_default().to_owned()
}

/// MS-DOS wrote no zone: the time is taken as UTC.
fn dos_time((date, time): (u16, u16)) -> Option<i64> {
    let part = |number: u16| i8::try_from(number).ok();
    let year = i16::try_from(1980 + (date >> 9)).ok()?;
    let date = jiff::civil::Date::new(year, part(date >> 5 & 15)?, part(date & 31)?).ok()?;
    let (hour, minute, second) = (part(time >> 11)?, part(time >> 5 & 63)?, part((time & 31) * 2)?);
    let time = jiff::civil::Time::new(hour, minute, second, 0).ok()?;
    let zone = jiff::tz::TimeZone::UTC;
    Some(date.to_datetime(time).to_zoned(zone).ok()?.timestamp().as_second())
}

/// Reads to the end; tells how much there was.
fn drain(from: &mut dyn Read) -> Result<u64, Fault> {
    std::io::copy(from, &mut std::io::sink()).map_err(|error| fault(&error))
}
