//! Many small pieces become few: sealed together anew, a level at a time, so that each byte is
//! sealed a bounded number of times and an upload never lists many segments.

use super::super::growing::Growing;
use super::super::{Pipeline, PipelineError};

/// Segments of one level that are gathered together.
const TOGETHER: usize = 64;
/// A segment shorter than this is of that level, bytes. What is gathered of one level is of a
/// higher one, so that a byte is sealed anew once a level; what is of none is left as it is.
const LEVELS: [u64; 4] = [64, 4 << 10, 64 << 10, 1 << 20];

/// From which segment on a list is to be gathered, if it is.
fn gathered_from(lengths: impl Clone + DoubleEndedIterator<Item = u64>) -> Option<usize> {
    let count = lengths.clone().count();
    // The highest level first: what it takes along need not be gathered before.
    (0..LEVELS.len()).rev().find_map(|level| {
        let least = level.checked_sub(1).map_or(0, |below| LEVELS[below]);
        let run = lengths.clone().rev().take_while(|length| *length < LEVELS[level]);
        let (all, own) =
            run.fold((0, 0), |(all, own), length| (all + 1, own + usize::from(length >= least)));
        (own >= TOGETHER).then(|| count - all)
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
            [(20_000, 1024, 140), (20_000, 1, 200), (5_000, 16 << 10, 200), (2_000, 100 << 10, 150)]
        {
            let (longest, times) = append(pieces, length);
            assert!(longest <= most, "{pieces} of {length}: {longest} segments");
            assert!(times <= 5.01, "{pieces} of {length}: each sealed {times} times");
        }
        let (longest, times) = append(100, 8 << 20);
        assert_eq!((longest, times.to_bits()), (100, 1.0_f64.to_bits()), "large ones stay");
    }
}
