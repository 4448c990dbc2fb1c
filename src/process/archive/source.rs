//! Where an archive's bytes come from: looked at before they are taken, and counted.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use super::super::frame::Fault;
use super::super::zipped::MAX_RATIO;

/// A reader whose first bytes can be looked at.
pub(super) struct Peeked<'r> {
    from: &'r mut dyn Read,
    seen: Vec<u8>,
    at: usize,
}

impl<'r> Peeked<'r> {
    /// Reads `count` bytes ahead, or as many as there are.
    pub(super) fn new(from: &'r mut dyn Read, count: u64) -> Result<Self, Fault> {
        let mut seen = Vec::new();
        Read::take(&mut *from, count).read_to_end(&mut seen).map_err(|error| fault(&error))?;
        Ok(Self { from, seen, at: 0 })
    }

    pub(super) fn head(&self) -> &[u8] {
        &self.seen
    }
}

impl Read for Peeked<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at < self.seen.len() {
            let count = (&self.seen[self.at..]).read(into)?;
            self.at += count;
            return Ok(count);
        }
        self.from.read(into)
    }
}

/// Counts what is taken out of a reader.
pub(super) struct Counted<R> {
    pub from: R,
    pub count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(into)?;
        self.count.set(self.count.get() + count as u64);
        Ok(count)
    }
}

/// Bytes a stream may unpack to whatever its ratio.
const SMALL: u64 = 32 << 20;

/// A stream that unpacks, held against what it takes in and what may still be unpacked.
pub(super) struct Bounded<'l, R> {
    pub from: R,
    /// Bytes taken in so far.
    pub packed: Rc<Cell<u64>>,
    pub unpacked: u64,
    pub left: &'l mut u64,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(into)?;
        self.unpacked += count as u64;
        let left = self.left.checked_sub(count as u64);
        let packed = self.packed.get().saturating_mul(MAX_RATIO);
        if left.is_none() || self.unpacked > packed.max(SMALL) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        *self.left = left.unwrap_or(0);
        Ok(count)
    }
}

/// What a failed read means.
pub(super) fn fault(error: &io::Error) -> Fault {
    if error.kind() == io::ErrorKind::FileTooLarge { Fault::Bomb } else { Fault::Damaged }
}
