//! A worker that searches itself: everything it could read of the gateway, were there anything.
//!
//! It is told what to look for in disguise, each byte under a mask, and never writes the plain form
//! anywhere: what it finds was there before.

use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use data_encoding::HEXLOWER;
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::{Errno, read};
use serde_json::{Value, json};

use super::super::frame::Fault;

const MASK: u8 = 0xa5;
const PIECE_BYTES: usize = 64 << 10;
const PROCESS_KEYRING: i32 = -2;

/// `plain` as a worker may be told of it: one line.
#[must_use]
pub fn masked(plain: &[u8]) -> String {
    HEXLOWER.encode(&plain.iter().map(|byte| byte ^ MASK).collect::<Vec<u8>>())
}

/// The document: a key's serial number, then one masked needle a line; what follows an empty line
/// is not looked at.
pub(super) fn search(document: &[u8]) -> Result<Value, Fault> {
    let end = document.windows(2).position(|two| two == b"\n\n").unwrap_or(document.len());
    let text = str::from_utf8(&document[..end]).map_err(|_| Fault::Damaged)?;
    let mut lines = text.lines();
    let serial: i32 = lines.next().and_then(|n| n.parse().ok()).ok_or(Fault::Damaged)?;
    let needles: Result<Vec<_>, _> = lines.map(|line| HEXLOWER.decode(line.as_bytes())).collect();
    let needles = needles.map_err(|_| Fault::Damaged)?;
    let kinds: Vec<&str> = (0..3).map(kind).collect();
    let (maps, mut bytes) = (maps().map_err(|_| Fault::Limit)?, 0);
    let mut found = vec![0u64; needles.len()];
    let mut piece = vec![0; PIECE_BYTES];
    for (from, to) in regions(&maps) {
        let mut at = from;
        while at < to {
            let got = peek(at, &mut piece[..PIECE_BYTES.min(to - at)]);
            // A guard page or the like: nothing is there.
            let Some(got) = got else { break };
            for (needle, count) in needles.iter().zip(&mut found) {
                *count += occurrences(&piece[..got], needle);
            }
            bytes += got;
            // Pieces overlap by the longest needle, so that none hides across a border.
            let most = needles.iter().map(Vec::len).max().unwrap_or(0);
            at += if at + got >= to { got } else { got.saturating_sub(most).max(1) };
        }
    }
    Ok(json!({
        "found": found,
        "bytes": bytes,
        "descriptors": kinds,
        "key": errno(keyctl(11, serial)),
        "keyring": errno(keyctl(0, PROCESS_KEYRING)),
    }))
}

fn occurrences(piece: &[u8], needle: &[u8]) -> u64 {
    let Some(first) = needle.first().map(|byte| byte ^ MASK) else { return 0 };
    let starts = piece.windows(needle.len()).filter(|window| window[0] == first);
    let same = |window: &&[u8]| window.iter().zip(needle).all(|(here, byte)| *here == byte ^ MASK);
    starts.filter(same).count() as u64
}

/// What a descriptor is. It may open nothing, so these three are all there can be.
fn kind(fd: i32) -> &'static str {
    // SAFETY: borrowed for one call, which says EBADF where nothing is open.
    let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    match fstat(fd).map(|about| FileType::from_raw_mode(about.st_mode)) {
        Ok(FileType::Fifo) => "pipe",
        Ok(FileType::CharacterDevice) => "device",
        Ok(_) => "other",
        Err(_) => "closed",
    }
}

/// /proc/self/maps. A worker has room for three descriptors: it gives its stderr up for this one.
fn maps() -> Result<String, Errno> {
    // SAFETY: nothing in a worker keeps descriptor 2 but the standard library, which only ever
    // writes to it, and copes with its being gone.
    unsafe { rustix::io::close(2) };
    let file = open("/proc/self/maps", OFlags::RDONLY, Mode::empty())?;
    let (mut text, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        match read(file.as_fd(), &mut piece)? {
            0 => return String::from_utf8(text).map_err(|_| Errno::INVAL),
            got => text.extend_from_slice(&piece[..got]),
        }
    }
}

/// Readable memory, but for what is a file's and unchanged: that is the program itself.
fn regions(maps: &str) -> impl Iterator<Item = (usize, usize)> {
    maps.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (from, to) = words.next()?.split_once('-')?;
        let (rights, inode) = (words.next()?, words.nth(2)?);
        let ours = rights.starts_with('r') && (rights.contains('w') || inode == "0");
        let number = |hex| usize::from_str_radix(hex, 16).ok();
        ours.then_some((number(from)?, number(to)?))
    })
}

/// Reads this process's memory by way of the kernel, which refuses where a plain read would fault.
fn peek(at: usize, into: &mut [u8]) -> Option<usize> {
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let remote =
        libc::iovec { iov_base: std::ptr::with_exposed_provenance_mut(at), iov_len: into.len() };
    // SAFETY: the kernel writes at most `into.len()` bytes to `into`, and checks the other side.
    let got = unsafe {
        let us = libc::getpid();
        libc::process_vm_readv(us, &raw const local, 1, &raw const remote, 1, 0)
    };
    usize::try_from(got).ok().filter(|got| *got > 0)
}

/// KEYCTL_READ of a key, or KEYCTL_GET_KEYRING_ID without making one.
fn keyctl(call: i32, key: i32) -> Result<(), Errno> {
    let mut out = [MaybeUninit::<u8>::uninit(); 64];
    let (place, room) =
        if call == 11 { (out.as_mut_ptr(), out.len()) } else { (std::ptr::null_mut(), 0) };
    // SAFETY: the kernel writes at most `room` bytes at `place`, or nothing.
    let done = unsafe { libc::syscall(libc::SYS_keyctl, call, key, place, room, 0) };
    if done >= 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
}

fn errno(outcome: Result<(), Errno>) -> i32 {
    outcome.map_or_else(Errno::raw_os_error, |()| 0)
}
