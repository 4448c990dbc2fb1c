//! How evidence is written as bytes, to be sealed: numbers big-endian, words with their length.

use std::time::Duration;

use crate::clock::Wall;
use crate::region::Region;

pub(super) fn count(of: usize) -> u8 {
    u8::try_from(of).unwrap_or(u8::MAX)
}

/// Appends values in an order that their reader knows.
pub(super) struct Writer<'a>(pub &'a mut Vec<u8>);

impl Writer<'_> {
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub fn number(&mut self, number: u64) {
        self.bytes(&number.to_be_bytes());
    }

    /// Times are kept as they are shown, to the millisecond.
    pub fn time(&mut self, at: Wall) {
        self.number(at.since_epoch().as_millis() as u64);
    }

    pub fn text(&mut self, text: &str) {
        let text = &text.as_bytes()[..text.len().min(255)];
        self.0.push(count(text.len()));
        self.bytes(text);
    }

    pub fn option(&mut self, number: Option<u64>) {
        self.number(number.unwrap_or(u64::MAX));
    }
}

/// Takes values off the front.
pub(super) struct Reader<'a>(pub &'a [u8]);

impl Reader<'_> {
    fn take(&mut self, bytes: usize) -> Option<&[u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub fn flag(&mut self) -> Option<bool> {
        self.byte().filter(|byte| *byte < 2).map(|byte| byte == 1)
    }

    pub fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub fn time(&mut self) -> Option<Wall> {
        self.number().map(|millis| Wall::from_unix(Duration::from_millis(millis)))
    }

    pub fn text(&mut self) -> Option<String> {
        let length = usize::from(self.byte()?);
        String::from_utf8(self.take(length)?.to_vec()).ok()
    }

    pub fn option(&mut self) -> Option<Option<u64>> {
        self.number().map(|number| Some(number).filter(|number| *number != u64::MAX))
    }

    pub fn region(&mut self) -> Option<Region> {
        let padded: [u8; 16] = self.array()?;
        let name = padded.split(|byte| *byte == 0).next()?;
        std::str::from_utf8(name).ok()?.parse().ok()
    }
}
