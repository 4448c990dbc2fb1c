//! The search for pieces of keys and of text in a dump.

use crate::thief::Dump;

/// What was searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    FileSecret,
    EpochKey,
    InputKey,
    ChunkKey,
    RecordKey,
    Text,
}

/// Something that must not be there: found by any 15 bytes in a row of a key, 23 of a text.
pub struct Needle {
    what: What,
    pieces: Vec<u64>,
}

/// Where a piece stands.
pub struct Found {
    pub what: What,
    /// Which of the needles.
    pub needle: usize,
    /// The kernel's name of the place, and the address.
    pub place: String,
    pub at: u64,
}

impl std::fmt::Debug for Found {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "{:?} of {} at {:#x} in {}", self.what, self.needle, self.at, self.place)
    }
}

impl Needle {
    pub fn key(what: What, key: &[u8; 32]) -> Self {
        let (pieces, _) = key.as_chunks::<8>();
        Self { what, pieces: pieces.iter().map(|piece| u64::from_ne_bytes(*piece)).collect() }
    }

    /// Text of one word over and over, turned as any place in it may begin.
    pub fn text(word: &[u8; 8]) -> Self {
        let turned = |by| {
            let mut word = *word;
            word.rotate_left(by);
            u64::from_ne_bytes(word)
        };
        Self { what: What::Text, pieces: (0..8).map(turned).collect() }
    }
}

const PAGE: usize = 4096;
const EMPTY: [u8; PAGE] = [0; PAGE];

/// A first look that lets nearly all bytes of a dump pass: one bit for each possible hash.
struct Sieve(Vec<u64>);

impl Sieve {
    const BITS: u32 = 20;

    const fn place(word: u64) -> (usize, u64) {
        let hash = word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - Self::BITS);
        ((hash >> 6) as usize, 1 << (hash & 63))
    }

    fn of(words: &[(u64, usize)]) -> Self {
        let mut bits = vec![0; 1 << (Self::BITS - 6)];
        for (word, _) in words {
            let (at, bit) = Self::place(*word);
            bits[at] |= bit;
        }
        Self(bits)
    }

    fn may_hold(&self, word: u64) -> bool {
        let (at, bit) = Self::place(word);
        self.0[at] & bit != 0
    }
}

/// Every place in the dump where eight bytes of a needle stand, at any alignment; of a text where
/// sixteen do.
pub fn find(needles: &[Needle], dump: &Dump) -> Vec<Found> {
    let words = needles.iter().enumerate();
    let mut words: Vec<(u64, usize)> = words
        .flat_map(|(at, needle)| needle.pieces.iter().map(move |piece| (*piece, at)))
        .collect();
    words.sort_unstable();
    let sieve = Sieve::of(&words);
    let mut found = Vec::new();
    for region in &dump.regions {
        let mut offset = 0;
        while let Some(window) = region.bytes.get(offset..offset + 16) {
            // Most of a process's memory was never used.
            if offset % PAGE == 0 && region.bytes[offset..].starts_with(&EMPTY) {
                offset += PAGE - 8;
                continue;
            }
            offset += 1;
            let word = u64::from_ne_bytes([
                window[0], window[1], window[2], window[3], window[4], window[5], window[6],
                window[7],
            ]);
            if word == 0 || !sieve.may_hold(word) {
                continue;
            }
            let Ok(hit) = words.binary_search_by_key(&word, |(word, _)| *word) else { continue };
            let needle = words[hit].1;
            let what = needles[needle].what;
            if what == What::Text && window[..8] != window[8..] {
                continue;
            }
            let (place, at) = (region.place.clone(), region.start + offset as u64 - 1);
            found.push(Found { what, needle, place, at });
        }
    }
    found
}

/// What was found where, in few words.
pub fn told(found: &[&Found]) -> String {
    let mut kinds: Vec<(String, Vec<&Found>)> = Vec::new();
    for &one in found {
        let kind = format!("{:?} in {}", one.what, one.place);
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, all)) => all.push(one),
            None => kinds.push((kind, vec![one])),
        }
    }
    let told = kinds.iter().map(|(kind, all)| {
        let some: Vec<String> = all.iter().take(4).map(|one| format!("{:#x}", one.at)).collect();
        format!("{} x {kind} ({})", all.len(), some.join(" "))
    });
    told.collect::<Vec<_>>().join("; ")
}

#[test]
fn every_15_bytes_of_a_key_are_found_and_noise_is_not() {
    let key: [u8; 32] = std::array::from_fn(|at| (at as u8).wrapping_mul(37) ^ 0x5a);
    let needles = [Needle::key(What::ChunkKey, &key), Needle::text(b"vanished")];
    let noise = || (0..5000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8);
    assert!(find(&needles, &Dump::of(noise().collect())).is_empty());
    for from in 0..=17 {
        let mut bytes: Vec<u8> = noise().collect();
        bytes[1000 + from..1015 + from].copy_from_slice(&key[from..from + 15]);
        let found = find(&needles, &Dump::of(bytes));
        assert!(found.iter().any(|one| one.what == What::ChunkKey), "{from}");
    }
    let mut bytes: Vec<u8> = noise().collect();
    bytes[777..800].copy_from_slice(&b"vanished".repeat(4)[3..26]);
    assert!(find(&needles, &Dump::of(bytes)).iter().any(|one| one.what == What::Text));
}
