//! Where a plaintext byte lies in a stored segment (VAULT.md, the offset table).

use std::ops::Range;

use super::header::HEADER_BYTES;

/// Plaintext bytes of every chunk but the last, which is always shorter.
pub const CHUNK_BYTES: usize = 16_384;
/// Length of a chunk's tag, bytes.
pub const TAG_BYTES: usize = 16;
/// A full chunk with its tag, bytes.
pub const SEALED_CHUNK_BYTES: usize = CHUNK_BYTES + TAG_BYTES;
/// Length of a segment's salt, bytes.
pub(super) const SALT_BYTES: usize = 24;
/// Length of a segment's commitment, bytes.
pub const COMMITMENT_BYTES: usize = 32;
/// Header, salt and commitment: the bytes before the first chunk.
pub const PREFIX_BYTES: usize = HEADER_BYTES + SALT_BYTES + COMMITMENT_BYTES;
/// Chunks that are sealed, stored and opened together at most.
pub const RUN_CHUNKS: usize = 16;
/// The longest run: the first one, which carries the prefix, bytes. The size a pool is made for.
pub const RUN_BYTES: usize = PREFIX_BYTES + RUN_CHUNKS * SEALED_CHUNK_BYTES;

const CHUNK: u64 = CHUNK_BYTES as u64;
const SEALED: u64 = SEALED_CHUNK_BYTES as u64;
const TAG: u64 = TAG_BYTES as u64;
const PREFIX: u64 = PREFIX_BYTES as u64;

/// Stored length of a segment of `plain_len` bytes, in bytes. Saturates.
#[must_use]
pub const fn sealed_len(plain_len: u64) -> u64 {
    PREFIX.saturating_add(body_len(plain_len))
}

/// Stored length of the chunks that hold `plain_len` bytes, the last one included. Saturates.
pub(super) const fn body_len(plain_len: u64) -> u64 {
    (plain_len / CHUNK).saturating_mul(SEALED).saturating_add(plain_len % CHUNK + TAG)
}

/// The chunks of a segment whose plaintext length is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    plain_len: u64,
}

/// Chunks that are read and opened in one go, for a part of the plaintext.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Which chunks, counted from 0.
    pub chunks: Range<u64>,
    /// Where they lie in the stored segment, bytes.
    pub stored: Range<u64>,
    /// Which bytes of the opened run were asked for.
    pub wanted: Range<usize>,
}

impl Layout {
    /// The layout of `plain_len` bytes of plaintext.
    #[must_use]
    pub const fn of(plain_len: u64) -> Self {
        Self { plain_len }
    }

    /// The layout of a whole stored segment of `len` bytes, if any plaintext seals to that.
    #[must_use]
    pub const fn of_sealed(len: u64) -> Option<Self> {
        let Some(body) = len.checked_sub(PREFIX) else { return None };
        match (body % SEALED).checked_sub(TAG) {
            Some(last) => Some(Self { plain_len: body / SEALED * CHUNK + last }),
            None => None,
        }
    }

    /// Bytes of plaintext.
    #[must_use]
    pub const fn plain_len(self) -> u64 {
        self.plain_len
    }

    /// How many chunks there are: at least one, and an empty one after an exact multiple.
    #[must_use]
    pub const fn chunks(self) -> u64 {
        self.plain_len / CHUNK + 1
    }

    /// Plaintext bytes in chunk `index`; 16 384 for all but the last.
    pub(super) const fn plain_of(self, index: u64) -> usize {
        if index + 1 < self.chunks() { CHUNK_BYTES } else { (self.plain_len % CHUNK) as usize }
    }

    /// Where `chunks` lie in the stored segment, bytes; `None` if it has no such chunks.
    #[must_use]
    pub fn stored(self, chunks: &Range<u64>) -> Option<Range<u64>> {
        if chunks.is_empty() || chunks.end > self.chunks() {
            return None;
        }
        let end = match chunks.end == self.chunks() {
            true => sealed_len(self.plain_len),
            false => PREFIX + chunks.end * SEALED,
        };
        Some(PREFIX + chunks.start * SEALED..end)
    }

    /// The runs to read for the plaintext bytes `wanted`, in order.
    ///
    /// A range that reaches the end takes the last chunk with it even when that one is empty, so
    /// that a whole segment is verified to its last byte. A range outside the plaintext is cut.
    #[must_use]
    pub fn runs(self, wanted: Range<u64>) -> Runs {
        let wanted = wanted.start.min(self.plain_len)..wanted.end.min(self.plain_len);
        let first = wanted.start / CHUNK;
        let end = match wanted.end == self.plain_len {
            true => self.chunks(),
            false if wanted.is_empty() => first,
            false => wanted.end.div_ceil(CHUNK),
        };
        Runs { layout: self, chunks: first..end, wanted }
    }
}

/// Iterator over the runs of a plaintext range: see [`Layout::runs`].
#[derive(Clone, Debug)]
pub struct Runs {
    layout: Layout,
    chunks: Range<u64>,
    wanted: Range<u64>,
}

impl Runs {
    /// Where the runs that are left lie in the stored segment, bytes; `None` after the last.
    #[must_use]
    pub fn stored(&self) -> Option<Range<u64>> {
        self.layout.stored(&self.chunks)
    }
}

impl Iterator for Runs {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        let first = self.chunks.start;
        let chunks = first..self.chunks.end.min(first + RUN_CHUNKS as u64);
        let stored = self.layout.stored(&chunks)?;
        self.chunks.start = chunks.end;
        let plain = first * CHUNK..(chunks.end * CHUNK).min(self.layout.plain_len);
        let within = |at: u64| (at.clamp(plain.start, plain.end) - plain.start) as usize;
        Some(Run { wanted: within(self.wanted.start)..within(self.wanted.end), chunks, stored })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_lengths_are_the_vault_pages_and_invert() {
        for (plain, sealed) in
            [(0, 136), (100, 236), (16_383, 16_519), (16_384, 16_536), (20_000, 20_152)]
        {
            assert_eq!(sealed_len(plain), sealed);
            assert_eq!(Layout::of_sealed(sealed), Some(Layout::of(plain)));
        }
        for nothing in [0, 119, 120, 135, 16_520, 16_535] {
            assert_eq!(Layout::of_sealed(nothing), None, "{nothing}");
        }
        assert_eq!(sealed_len(u64::MAX), u64::MAX);
    }

    #[test]
    fn a_range_that_reaches_the_end_takes_the_empty_last_chunk_with_it() {
        let runs = |len, range| Layout::of(len).runs(range).collect::<Vec<_>>();
        assert_eq!(runs(0, 0..0), [Run { chunks: 0..1, stored: 120..136, wanted: 0..0 }]);
        assert_eq!(
            runs(16_384, 16_383..16_384),
            [Run { chunks: 0..2, stored: 120..16_536, wanted: 16_383..16_384 }]
        );
        assert_eq!(
            runs(40_000, 16_384..16_385),
            [Run { chunks: 1..2, stored: 16_520..32_920, wanted: 0..1 }]
        );
        assert!(runs(40_000, 5..5).is_empty());
    }

    #[test]
    fn a_long_range_is_cut_into_runs_of_sixteen_chunks() {
        let len = 40 * CHUNK + 7;
        let runs: Vec<_> = Layout::of(len).runs(100..len).collect();
        assert_eq!(
            runs.iter().map(|r| r.chunks.clone()).collect::<Vec<_>>(),
            [0..16, 16..32, 32..41]
        );
        assert_eq!(runs[0].wanted, 100..16 * CHUNK_BYTES);
        assert_eq!(runs[2].wanted, 0..8 * CHUNK_BYTES + 7);
        assert_eq!(runs[2].stored.end, sealed_len(len));
        assert!(runs.windows(2).all(|pair| pair[0].stored.end == pair[1].stored.start));
    }
}
