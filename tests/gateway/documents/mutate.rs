//! Documents with damage: the same ones for the same seed.

use std::io::{Cursor, Read, Write};

use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

/// A generator of numbers that look random (xorshift, G. Marsaglia).
pub struct Dice(u64);

impl Dice {
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `end`, or 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.roll() >> 11).unwrap_or(0) % end.max(1)
    }
}

/// Words that parsers of one of the formats may stumble over.
const WORDS: &[&[u8]] = &[
    b"0",
    b"-1",
    b"99999999999999999999",
    b"4294967295",
    b"2147483648",
    b"65536",
    b"1e309",
    b"NaN",
    b"\0",
    b"\xff\xfe",
    b"<",
    b"</",
    b"<![CDATA[",
    b"&#x110000;",
    b"&a;",
    b"]]>",
    b"<!DOCTYPE x [",
    b"xmlns:a='b'",
    b"<w:p>",
    b"<c r='XFD1048576'>",
    b"<table:table-cell number-columns-repeated='9'/>",
    b"{",
    b"}",
    b"\\",
    b"\\u-1 ",
    b"\\bin9 ",
    b"\\'",
    b"\\*",
    b"<<",
    b">>",
    b"[",
    b"(",
    b"/Kids",
    b"/Length",
    b" 0 R",
    b"endobj",
    b"stream\n",
    b"endstream",
    b"/Filter/FlateDecode",
    b"BT",
    b"ET",
    b"q ",
    b"Tj",
    b"\r\n\r\n",
    b"--",
    b"=?utf-8?B?",
    b"Content-Type: multipart/mixed; boundary=x\n\n",
    b"\"",
    b",",
    b"PK\x01\x02",
    b"PK\x05\x06",
];

/// A damaged copy; in a zip every second time one of its members is.
pub fn mutant(seed: &[u8], dice: &mut Dice) -> Vec<u8> {
    if seed.starts_with(b"PK")
        && dice.below(2) == 0
        && let Some(mutant) = repacked(seed, dice)
    {
        return mutant;
    }
    damaged(seed, dice)
}

fn damaged(seed: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=dice.below(8) {
        let at = dice.below(bytes.len());
        let length = dice.below(64).min(bytes.len() - at);
        match dice.below(8) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << dice.below(8),
            1 => bytes.truncate(at),
            2 => drop(bytes.drain(at..at + length)),
            3 => {
                let run = bytes[at..at + length].to_vec();
                let times = 1 + dice.below(20);
                bytes.splice(at..at, run.repeat(times));
            }
            4 => {
                let from = dice.below(bytes.len());
                let run = bytes[from..bytes.len().min(from + length)].to_vec();
                bytes.splice(at..at + length, run);
            }
            5 => bytes[at..at + length].fill(dice.below(256) as u8),
            _ => {
                let word = WORDS[dice.below(WORDS.len())];
                let end =
                    at + if dice.below(2) == 0 { 0 } else { word.len().min(bytes.len() - at) };
                bytes.splice(at..end, word.iter().copied());
            }
        }
    }
    bytes
}

/// The zip again, with one member damaged.
fn repacked(seed: &[u8], dice: &mut Dice) -> Option<Vec<u8>> {
    let mut archive = ZipArchive::new(Cursor::new(seed)).ok()?;
    let chosen = dice.below(archive.len());
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for at in 0..archive.len() {
        let mut member = archive.by_index(at).ok()?;
        let name = member.name().ok()?.into_owned();
        let mut content = Vec::new();
        member.read_to_end(&mut content).ok()?;
        if at == chosen {
            content = damaged(&content, dice);
        }
        writer.start_file(name, SimpleFileOptions::default()).ok()?;
        writer.write_all(&content).ok()?;
    }
    Some(writer.finish().ok()?.into_inner())
}
