//! tar (POSIX.1-2017 ustar and pax, GNU's long names), read as it comes.
//!
//! Readers of tar disagree about what counts when a header and its extension say different
//! things; whoever has one archive checked and another one unpacked uses that. Such an archive is
//! refused.

use std::io::Read;

use super::super::frame::Fault;
use super::super::text::decode;
use super::path::Paths;
use super::source::fault;
use super::walk::{Entry, Kind, Walk};

const BLOCK: usize = 512;

/// Bytes of an extended header.
const MAX_EXTENSION: u64 = 1 << 20;

/// Whether these are the first bytes of a tar.
pub(super) fn is_tar(head: &[u8]) -> bool {
    head.len() >= BLOCK && head[0] != 0 && sum_is_right(&head[..BLOCK])
}

/// What extended headers said about the next member.
#[derive(Default)]
struct Said {
    path: Option<String>,
    long_name: Option<String>,
    link: Option<String>,
    long_link: Option<String>,
    size: Option<u64>,
    modified: Option<i64>,
}

/// Reads a tar to its end, and every member to its own.
pub(super) fn read(
    walk: &mut Walk<'_>,
    input: &mut dyn Read,
    inside: &str,
    depth: usize,
) -> Result<(), Fault> {
    let (mut paths, mut said) = (Paths::default(), Said::default());
    let mut block = [0; BLOCK];
    while block_read(input, &mut block)? {
        if block.iter().all(|byte| *byte == 0) {
            return end(input);
        }
        if !sum_is_right(&block) {
            return Err(Fault::Damaged);
        }
        let header = Header::of(&block)?;
        match header.kind {
            b'x' | b'X' => said.extend(&extension(input, header.size)?)?,
            b'g' => global(&extension(input, header.size)?)?,
            b'L' => said.long_name = Some(long(input, header.size)?),
            b'K' => said.long_link = Some(long(input, header.size)?),
            // A volume's label.
            b'V' => drop(extension(input, header.size)?),
            // Pieces of files, and files with holes.
            b'S' | b'M' => return Err(Fault::Unsupported),
            _ => {
                walk.count()?;
                let said = std::mem::take(&mut said);
                member(walk, input, &mut paths, (header, said), inside, depth)?;
            }
        }
    }
    // It ends without its two empty blocks: others take that, too.
    Ok(())
}

fn member(
    walk: &mut Walk<'_>,
    input: &mut dyn Read,
    paths: &mut Paths,
    (header, said): (Header, Said),
    inside: &str,
    depth: usize,
) -> Result<(), Fault> {
    let agreed = |one: Option<String>, other: Option<String>| match (one, other) {
        (Some(_), Some(_)) => Err(Fault::Damaged),
        (one, other) => Ok(one.or(other)),
    };
    let name = agreed(said.path, said.long_name)?.unwrap_or(header.name);
    let target = agreed(said.link, said.long_link)?.unwrap_or(header.link);
    let size = match said.size {
        Some(size) if header.size != 0 && header.size != size => return Err(Fault::Damaged),
        Some(size) => size,
        None => header.size,
    };
    let kind = match header.kind {
        b'0' | 0 | b'7' if !name.ends_with('/') => Kind::File,
        b'0' | 0 | b'5' => Kind::Directory,
        b'1' => Kind::Hardlink(target),
        b'2' => Kind::Symlink(target),
        // Devices and pipes.
        b'3' | b'4' | b'6' => return Err(Fault::UnsafePath),
        _ => return Err(Fault::Damaged),
    };
    if kind == Kind::Directory && name.trim_matches(['.', '/']).is_empty() && !name.is_empty() {
        // The folder itself, as `tar -C folder .` writes it.
        return if size == 0 { Ok(()) } else { Err(Fault::Damaged) };
    }
    paths.judge(&name)?;
    match &kind {
        Kind::Symlink(target) => paths.link(&name, target)?,
        Kind::Hardlink(target) => paths.judge(target)?,
        Kind::File | Kind::Directory => {}
    }
    let is_file = kind == Kind::File;
    if !is_file && size > 0 {
        // Some readers skip so many bytes here, others none.
        return Err(Fault::Damaged);
    }
    let entry = Entry {
        path: format!("{inside}{name}"),
        kind,
        size: Some(size),
        packed: None,
        modified: said.modified.or(header.modified),
        encrypted: false,
    };
    if !is_file {
        return walk.bare(entry);
    }
    let mut content = Read::take(&mut *input, size);
    walk.file(entry, &mut content, depth)?;
    let left = content.limit();
    let padding = size.next_multiple_of(BLOCK as u64) - size;
    skip(input, left.saturating_add(padding))
}

struct Header {
    name: String,
    link: String,
    size: u64,
    kind: u8,
    modified: Option<i64>,
}

impl Header {
    fn of(block: &[u8; BLOCK]) -> Result<Self, Fault> {
        let name = text(&block[..100]);
        let is_posix = &block[257..263] == b"ustar\0";
        let prefix = if is_posix { text(&block[345..500]) } else { String::new() };
        let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        let size = number(&block[124..136]).ok_or(Fault::Damaged)?;
        let modified = number(&block[136..148]).and_then(|time| i64::try_from(time).ok());
        Ok(Self { name, link: text(&block[157..257]), size, kind: block[156], modified })
    }
}

fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    decode(&field[..end])
}

/// Octal digits, or GNU's binary numbers, which begin with a set bit.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let bytes = std::iter::once(field[0] & 0x7f).chain(field[1..].iter().copied());
        let mut number = 0u64;
        for byte in bytes {
            number = number.checked_mul(256)?.checked_add(byte.into())?;
        }
        return Some(number);
    }
    let digits = field.split(|byte| matches!(byte, 0 | b' ')).find(|digits| !digits.is_empty());
    let Some(digits) = digits else { return Some(0) };
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

/// The sum of all bytes with spaces in the sum's own place; some writers add signed ones.
fn sum_is_right(block: &[u8]) -> bool {
    let Some(says) = number(&block[148..156]) else { return false };
    let place = |at: usize| (148..156).contains(&at);
    let bytes = || block.iter().enumerate().map(|(at, b)| if place(at) { b' ' } else { *b });
    let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
    bytes().map(u64::from).sum::<u64>() == says || i64::try_from(says).is_ok_and(|s| s == signed)
}

impl Said {
    /// Records of `<length> <key>=<value>\n`.
    fn extend(&mut self, records: &[u8]) -> Result<(), Fault> {
        for (key, value) in pairs(records)? {
            let text = || String::from_utf8(value.to_vec()).map_err(|_| Fault::Damaged);
            match key {
                b"path" => self.path = Some(text()?),
                b"linkpath" => self.link = Some(text()?),
                b"size" => self.size = Some(text()?.parse().map_err(|_| Fault::Damaged)?),
                b"mtime" => {
                    let text = text()?;
                    self.modified = text.split('.').next().and_then(|whole| whole.parse().ok());
                }
                key if key.starts_with(b"GNU.sparse") => return Err(Fault::Unsupported),
                _ => {}
            }
        }
        Ok(())
    }
}

/// What holds for all members that follow: nothing that says where one begins or ends.
fn global(records: &[u8]) -> Result<(), Fault> {
    let shapes = |key: &[u8]| matches!(key, b"path" | b"linkpath" | b"size");
    if pairs(records)?.iter().any(|(key, _)| shapes(key)) { Err(Fault::Damaged) } else { Ok(()) }
}

/// Key and value.
type Pair<'d> = (&'d [u8], &'d [u8]);

fn pairs(mut records: &[u8]) -> Result<Vec<Pair<'_>>, Fault> {
    let mut pairs = Vec::new();
    while !records.is_empty() {
        let space = records.iter().take(20).position(|byte| *byte == b' ');
        let space = space.ok_or(Fault::Damaged)?;
        let length = std::str::from_utf8(&records[..space]).ok().and_then(|text| text.parse().ok());
        let length: usize = length.ok_or(Fault::Damaged)?;
        let record = records.get(space + 1..length).and_then(|record| record.strip_suffix(b"\n"));
        let record = record.ok_or(Fault::Damaged)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or(Fault::Damaged)?;
        pairs.push((&record[..equals], &record[equals + 1..]));
        records = &records[length..];
    }
    Ok(pairs)
}

/// The content of an extended header.
fn extension(input: &mut dyn Read, size: u64) -> Result<Vec<u8>, Fault> {
    if size > MAX_EXTENSION {
        return Err(Fault::Complex);
    }
    let mut bytes = Vec::new();
    Read::take(&mut *input, size).read_to_end(&mut bytes).map_err(|error| fault(&error))?;
    if bytes.len() as u64 != size {
        return Err(Fault::Damaged);
    }
    skip(input, size.next_multiple_of(BLOCK as u64) - size)?;
    Ok(bytes)
}

fn long(input: &mut dyn Read, size: u64) -> Result<String, Fault> {
    Ok(text(&extension(input, size)?))
}

fn skip(input: &mut dyn Read, count: u64) -> Result<(), Fault> {
    let skipped = std::io::copy(&mut Read::take(input, count), &mut std::io::sink());
    if skipped.map_err(|error| fault(&error))? == count { Ok(()) } else { Err(Fault::Damaged) }
}

/// Reads a block; false at the end of the input.
fn block_read(input: &mut dyn Read, block: &mut [u8; BLOCK]) -> Result<bool, Fault> {
    let mut filled = 0;
    while filled < BLOCK {
        match input.read(&mut block[filled..]).map_err(|error| fault(&error))? {
            0 if filled == 0 => return Ok(false),
            0 => return Err(Fault::Damaged),
            count => filled += count,
        }
    }
    Ok(true)
}

/// Nothing but zeros follows an archive's end: another archive behind it would be seen by some.
fn end(input: &mut dyn Read) -> Result<(), Fault> {
    let mut rest = [0; 8192];
    loop {
        match input.read(&mut rest).map_err(|error| fault(&error))? {
            0 => return Ok(()),
            count if rest[..count].iter().any(|byte| *byte != 0) => return Err(Fault::Damaged),
            _ => {}
        }
    }
}
