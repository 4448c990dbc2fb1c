//! Marked text, and the search for what is left of it: on a device, or in a process's memory.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bytes are looked at in pieces of this size: one that is all zero is passed over quickly.
const PIECE: usize = 4096;
const ZERO: [u8; PIECE] = [0; PIECE];
/// What is read of a process's memory at a time.
const READ: usize = 4 << 20;

/// Eight letters, repeated without a gap: fit for a name, a header and a document. Any 16 bytes of
/// it hold, at any alignment, eight aligned bytes that are the word turned somehow.
#[derive(Clone)]
pub struct Marker {
    what: String,
    word: [u8; 8],
}

/// Where 16 bytes of a marker may stand.
pub struct Found {
    pub what: String,
    /// What the kernel calls the place, and its address.
    pub place: String,
    /// Where in what was searched.
    pub at: u64,
    /// The readable bytes around it.
    pub around: String,
}

impl std::fmt::Debug for Found {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(to, "{} at {:#x} in {}: {}", self.what, self.at, self.place, self.around)
    }
}

impl Marker {
    /// The marker of that name; it stands nowhere else.
    pub fn new(what: &str) -> Self {
        let hash = blake3::hash(format!("marker {what}").as_bytes());
        let mut word = [0; 8];
        for (letter, byte) in word.iter_mut().zip(hash.as_bytes()) {
            *letter = b"bcdfghjklmnpqrstvwxz"[usize::from(*byte) % 20];
        }
        Self { what: what.to_owned(), word }
    }

    /// At least `length` bytes of text.
    pub fn text(&self, length: usize) -> Vec<u8> {
        self.word.repeat(length.div_ceil(8))
    }

    /// The same as letters.
    pub fn letters(&self, length: usize) -> String {
        String::from_utf8(self.text(length)).unwrap()
    }
}

/// Every place in `bytes` where one of the markers stands, at most one for each piece and marker.
pub fn search(markers: &[Marker], bytes: &[u8], start: u64, place: &str) -> Vec<Found> {
    let mut turned = Vec::new();
    for (at, marker) in markers.iter().enumerate() {
        for by in 0..8 {
            let mut word = marker.word;
            word.rotate_left(by);
            turned.push((u64::from_ne_bytes(word), at));
        }
    }
    turned.sort_unstable();
    let mut found = Vec::new();
    for (number, piece) in bytes.chunks(PIECE).enumerate() {
        if piece == &ZERO[..piece.len()] {
            continue;
        }
        let mut seen = Vec::new();
        let (words, _) = piece.as_chunks::<8>();
        for (offset, word) in words.iter().enumerate() {
            let word = u64::from_ne_bytes(*word);
            // Small letters alone.
            if word & 0xe0e0_e0e0_e0e0_e0e0 != 0x6060_6060_6060_6060 {
                continue;
            }
            let Ok(hit) = turned.binary_search_by_key(&word, |(word, _)| *word) else { continue };
            let which = turned[hit].1;
            if !seen.contains(&which) {
                seen.push(which);
                let at = number * PIECE + offset * 8;
                let near = &bytes[at.saturating_sub(96)..(at + 64).min(bytes.len())];
                let around = near.escape_ascii().to_string();
                let (what, place) = (markers[which].what.clone(), place.to_owned());
                found.push(Found { what, place, at: start + at as u64, around });
            }
        }
    }
    found
}

/// What a process's memory shows to root of these markers, and how many bytes were looked at. Pages
/// that the kernel shows to nobody (memfd_secret) are passed over; `None` where nothing is shown.
pub fn search_memory(process: u32, markers: &[Marker]) -> Option<(Vec<Found>, u64)> {
    let memory = File::open(format!("/proc/{process}/mem")).ok()?;
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).ok()?;
    let (mut found, mut looked_at, mut piece) = (Vec::new(), 0, vec![0; READ]);
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (range, flags) = (words.next()?, words.next()?);
        let place = words.nth(3).unwrap_or("anonymous pages").to_owned();
        let (start, end) = range.split_once('-')?;
        let mut at = u64::from_str_radix(start, 16).ok()?;
        let end = u64::from_str_radix(end, 16).ok()?;
        while flags.starts_with('r') && at < end {
            let wanted = READ.min(usize::try_from(end - at).unwrap());
            let Ok(read @ 1..) = memory.read_at(&mut piece[..wanted], at) else { break };
            found.extend(search(markers, &piece[..read], at, &place));
            (at, looked_at) = (at + read as u64, looked_at + read as u64);
        }
    }
    Some((found, looked_at))
}

#[test]
fn a_marker_is_found_at_every_alignment() {
    let markers = [Marker::new("one"), Marker::new("other")];
    for shift in 0..8 {
        let mut bytes = super::noise(10_000);
        bytes[300 + shift..316 + shift].copy_from_slice(&markers[1].text(24)[shift / 2..][..16]);
        let found = search(&markers, &bytes, 1000, "here");
        assert_eq!(found.len(), 1, "{shift}: {found:?}");
        assert!((1300..1316).contains(&found[0].at) && found[0].what == "other", "{found:?}");
    }
    assert!(search(&markers, &super::noise(10_000), 0, "here").is_empty());
}
