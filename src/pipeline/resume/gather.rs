//! Many small pieces become few: sealed together anew, a level at a time, so that each byte is
//! sealed a bounded number of times and an upload never lists many segments.

use super::super::growing::Growing;
use super::super::{Pipeline, PipelineError};

/// Segments of one level that are gathered together.
const TOGETHER: usize = 64;
/// A segment from here on is not gathered with smaller ones any more, bytes, level by level. One
/// beyond the last is left as it is.
const LEVELS: [u64; 2] = [64 << 10, 1 << 20];

/// From which segment on a list is to be gathered, if it is.
fn gathered_from(
    lengths: impl Iterator<Item = u64> + Clone + DoubleEndedIterator,
) -> Option<usize> {
    let count = lengths.clone().count();
    // The larger level first: what it takes along need not be gathered before.
    LEVELS.iter().rev().find_map(|level| {
        let small = lengths.clone().rev().take_while(|length| length < level).count();
        let full = match level {
            level if *level == LEVELS[0] => small >= TOGETHER,
            // Pieces of the level below count once they are gathered.
            _ => {
                let tail = lengths.clone().rev().take(small);
                tail.filter(|length| *length >= LEVELS[0]).count() >= TOGETHER
            }
        };
        full.then(|| count - small)
    })
}

impl Pipeline {
    /// Gathers the end of an upload's list, if it has become long.
    pub(super) async fn gather_tail(&self, growing: &mut Growing) -> Result<(), PipelineError> {
        match gathered_from(growing.lengths()) {
            Some(from) => self.gather(growing, from).await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Appends pieces one after another; the list at its longest, and how often a byte was sealed.
    fn append(pieces: usize, length: u64) -> (usize, f64) {
        let (mut list, mut longest, mut sealed) = (Vec::new(), 0, 0);
        for _ in 0..pieces {
            list.push(length);
            sealed += length;
            if let Some(from) = gathered_from(list.iter().copied()) {
                let together: u64 = list.drain(from..).sum();
                list.push(together);
                sealed += together;
            }
            longest = longest.max(list.len());
        }
        assert_eq!(list.iter().sum::<u64>(), pieces as u64 * length);
        (longest, sealed as f64 / (pieces as u64 * length) as f64)
    }

    #[test]
    fn many_small_pieces_stay_few_and_each_byte_is_sealed_a_few_times() {
        for (pieces, length, most) in
            [(20_000, 1024, 140), (20_000, 1, 140), (5_000, 16 << 10, 200), (2_000, 100 << 10, 150)]
        {
            let (longest, times) = append(pieces, length);
            assert!(longest <= most, "{pieces} of {length}: {longest} segments");
            assert!(times <= 3.01, "{pieces} of {length}: each sealed {times} times");
        }
        let (longest, times) = append(100, 8 << 20);
        assert_eq!((longest, times.to_bits()), (100, 1.0_f64.to_bits()), "large ones stay");
    }
}
