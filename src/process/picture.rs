//! Image containers taken apart without decoding a pixel: what `metadata` reads and `scrub` writes.

use super::frame::Fault;

pub(super) mod gif;
pub(super) mod icc;
pub(super) mod jpeg;
pub(super) mod png;
pub(super) mod tiff;
pub(super) mod webp;

/// Pixels an image may claim: whoever decodes it needs four bytes for each. 2^28 are 16384 squared.
const MAX_PIXELS: u64 = 1 << 28;

/// Parts a container may have.
const MAX_PARTS: usize = 200_000;

/// Refuses an image that claims more pixels than anybody should decode.
fn within_reason(width: u32, height: u32) -> Result<(), Fault> {
    if u64::from(width) * u64::from(height) > MAX_PIXELS { Err(Fault::Pixels) } else { Ok(()) }
}

/// Adds a part, of which there may be many but not any number.
fn add<T>(parts: &mut Vec<T>, part: T) -> Result<(), Fault> {
    if parts.len() == MAX_PARTS {
        return Err(Fault::Complex);
    }
    parts.push(part);
    Ok(())
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
