//! The thief: starts a victim, copies its spool while files live and its memory when they are over.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use data_encoding::HEXLOWER;

use crate::derive::{self, Told};
use crate::victim::{NAME, word};

/// What is read of a process's memory at a time.
const READ: usize = 4 << 20;

/// A process's memory, as far as the kernel shows it and anything can have been written to it.
pub struct Dump {
    pub regions: Vec<Region>,
}

/// One piece of it.
pub struct Region {
    pub place: String,
    pub start: u64,
    pub bytes: Vec<u8>,
}

impl Dump {
    pub fn of(bytes: Vec<u8>) -> Self {
        let place = "a test".to_owned();
        Self { regions: vec![Region { place, start: 0, bytes }] }
    }

    pub fn bytes(&self) -> usize {
        self.regions.iter().map(|region| region.bytes.len()).sum()
    }

    /// Every 32 bytes at a multiple of eight that might be random: what holds
    /// many zeros or many equal bytes is no key (of random ones fewer than one in a million
    /// million million has under 16 different bytes).
    pub fn windows(&self) -> Vec<[u8; 32]> {
        let mut windows = Vec::new();
        for region in &self.regions {
            for at in (0..region.bytes.len().saturating_sub(31)).step_by(8) {
                let window: &[u8; 32] = region.bytes[at..at + 32].try_into().unwrap();
                if window[..8] == [0; 8] {
                    continue;
                }
                let mut seen = [0_u64; 4];
                for byte in window {
                    seen[usize::from(byte >> 6)] |= 1 << (byte & 63);
                }
                if seen.iter().map(|bits| bits.count_ones()).sum::<u32>() >= 16 {
                    windows.push(*window);
                }
            }
        }
        windows
    }
}

/// A victim, as the thief sees it. Killed on drop.
pub struct Thief {
    process: Child,
    stdin: ChildStdin,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    told: usize,
}

impl Thief {
    #[expect(clippy::disallowed_methods, reason = "the test's other process is this program")]
    pub fn start(pages: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg0(format!("{NAME}{pages}")).args(["victim", "--exact", "--nocapture"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let stdin = process.stdin.take().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut thief = Self { process, stdin, lines, told: 0 };
        thief.answer();
        thief
    }

    /// The lines it says until it is done.
    fn answer(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        loop {
            let line = self.lines.next().expect("it speaks before it ends").unwrap();
            match line.strip_prefix("> ") {
                Some("done") => return said,
                Some(line) => said.push(line.to_owned()),
                None => {}
            }
        }
    }

    /// Has it do something, and waits until it has.
    pub fn tell(&mut self, what: &str) -> Vec<String> {
        writeln!(self.stdin, "{what}").unwrap();
        self.answer()
    }

    /// Has it take files in.
    pub fn put(&mut self, count: usize, ttl: u64, bytes: usize) -> Vec<Told> {
        let said = self.tell(&format!("put {count} {ttl} {bytes}"));
        let told = said.iter().map(|line| {
            let parts: Vec<Vec<u8>> =
                line.split(' ').map(|hex| HEXLOWER.decode(hex.as_bytes()).unwrap()).collect();
            let [id, commitment, record] = parts.try_into().unwrap();
            self.told += 1;
            Told {
                id: id.try_into().unwrap(),
                commitment: commitment.try_into().unwrap(),
                record: record.try_into().unwrap(),
                word: word(self.told - 1),
            }
        });
        told.collect()
    }

    /// Everything it has drawn so far.
    pub fn drawn(&mut self) -> Vec<Vec<u8>> {
        let said = self.tell("drawn");
        let lengths: Vec<usize> = said[0].split(' ').map(|word| word.parse().unwrap()).collect();
        derive::replay(&lengths)
    }

    /// A copy of every segment in the nameless files it holds open. They begin at blocks, and here
    /// all hold `plain` bytes.
    #[expect(clippy::disallowed_methods, reason = "a thief knows no seams")]
    pub fn spool(&self, plain: usize) -> Vec<Vec<u8>> {
        let open = format!("/proc/{}/fd", self.process.id());
        let files = std::fs::read_dir(open).unwrap().map(|entry| entry.unwrap().path());
        let nameless = files.filter(|path| {
            let target = std::fs::read_link(path).unwrap_or_default();
            target.to_string_lossy().contains("/spool/")
        });
        let sealed = 136 + plain + plain / 16_384 * 16;
        let mut segments = Vec::new();
        for path in nameless {
            let bytes = std::fs::read(path).unwrap();
            let starts = (0..bytes.len()).step_by(4096);
            let starts = starts.filter(|at| bytes[*at..].starts_with(b"DAY1"));
            segments.extend(starts.filter_map(|at| bytes.get(at..at + sealed)).map(<[u8]>::to_vec));
        }
        segments
    }

    /// Its memory; `None` where it may not be read. Pages the kernel shows to nobody are left out.
    #[expect(clippy::disallowed_methods, reason = "a thief knows no seams")]
    pub fn dump(&self) -> Option<Dump> {
        let process = self.process.id();
        let memory = File::open(format!("/proc/{process}/mem")).ok()?;
        let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).ok()?;
        let mut regions = Vec::new();
        for line in maps.lines() {
            let mut words = line.split_whitespace();
            let (range, flags) = (words.next()?, words.next()?);
            let place = words.nth(3).unwrap_or("anonymous pages").to_owned();
            let (start, end) = range.split_once('-')?;
            let start = u64::from_str_radix(start, 16).ok()?;
            let length = usize::try_from(u64::from_str_radix(end, 16).ok()? - start).ok()?;
            if !flags.starts_with("rw") {
                continue;
            }
            let mut bytes = vec![0; length];
            let mut at = 0;
            while at < length {
                let until = length.min(at + READ);
                match memory.read_at(&mut bytes[at..until], start + at as u64) {
                    Ok(read @ 1..) => at += read,
                    Ok(0) | Err(_) => break,
                }
            }
            bytes.truncate(at);
            regions.push(Region { place, start, bytes });
        }
        Some(Dump { regions })
    }
}

impl Drop for Thief {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
