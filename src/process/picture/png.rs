//! PNG (W3C, third edition, with APNG): a signature and chunks.

use super::super::frame::Fault;
use super::{add, long, size, within_reason};

pub(in crate::process) const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::process) struct Chunk<'d> {
    pub kind: [u8; 4],
    pub data: &'d [u8],
    /// With its length and checksum.
    pub whole: &'d [u8],
}

/// The chunks up to the last one, and what hangs on behind it.
pub(in crate::process) fn chunks(bytes: &[u8]) -> Result<(Vec<Chunk<'_>>, &[u8]), Fault> {
    let (mut chunks, mut at) = (Vec::new(), SIGNATURE.len());
    if !bytes.starts_with(SIGNATURE) {
        return Err(Fault::Damaged);
    }
    loop {
        let length = size(long(bytes, at).ok_or(Fault::Damaged)?);
        let end = at.checked_add(length).and_then(|end| end.checked_add(12));
        let whole = end.and_then(|end| bytes.get(at..end)).ok_or(Fault::Damaged)?;
        let kind = [whole[4], whole[5], whole[6], whole[7]];
        let data = &whole[8..8 + length];
        if chunks.is_empty() {
            let (width, height) = (long(data, 0), long(data, 4));
            let (width, height) =
                width.zip(height).filter(|_| &kind == b"IHDR").ok_or(Fault::Damaged)?;
            within_reason(width, height)?;
        }
        add(&mut chunks, Chunk { kind, data, whole })?;
        at += whole.len();
        if &kind == b"IEND" {
            return Ok((chunks, &bytes[at..]));
        }
    }
}

/// Chunks that the decoder needs, that say how colours are meant, or how large a pixel is; none of
/// them holds words.
pub(in crate::process) fn shapes_pixels(kind: [u8; 4]) -> bool {
    const KEPT: [&[u8; 4]; 20] = [
        b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"cHRM", b"gAMA", b"sBIT", b"sRGB", b"bKGD",
        b"hIST", b"pHYs", b"cICP", b"mDCV", b"mDCv", b"cLLI", b"cLLi", b"acTL", b"fcTL", b"fdAT",
    ];
    KEPT.contains(&&kind)
}

/// Appends a chunk.
pub(in crate::process) fn write(into: &mut Vec<u8>, kind: [u8; 4], data: &[u8]) {
    into.extend_from_slice(&u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
    let mut sum = flate2::Crc::new();
    sum.update(&kind);
    sum.update(data);
    into.extend_from_slice(&kind);
    into.extend_from_slice(data);
    into.extend_from_slice(&sum.sum().to_be_bytes());
}
