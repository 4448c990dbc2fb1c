//! WebP: a RIFF file of chunks.

use super::super::frame::Fault;
use super::{add, size, within_reason};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::process) struct Chunk<'d> {
    pub kind: [u8; 4],
    pub data: &'d [u8],
}

/// The chunks of the file, and what hangs on behind them.
pub(in crate::process) fn chunks(bytes: &[u8]) -> Result<(Vec<Chunk<'_>>, &[u8]), Fault> {
    let named = bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP");
    let length = little(bytes, 4).filter(|_| named).ok_or(Fault::Damaged)?;
    let end = size(length).saturating_add(8).min(bytes.len());
    let chunks = within(bytes.get(12..end).ok_or(Fault::Damaged)?)?;
    if chunks.is_empty() {
        return Err(Fault::Damaged);
    }
    for chunk in &chunks {
        judge(chunk)?;
    }
    let padded = (end + (end & 1)).min(bytes.len());
    Ok((chunks, &bytes[padded..]))
}

/// The chunks in these bytes, one behind the other. A last one that is cut off is left out.
pub(in crate::process) fn within(mut bytes: &[u8]) -> Result<Vec<Chunk<'_>>, Fault> {
    let mut chunks = Vec::new();
    while let Some(head) = bytes.first_chunk::<8>() {
        let length = size(u32::from_le_bytes([head[4], head[5], head[6], head[7]]));
        let end = length.checked_add(8).ok_or(Fault::Damaged)?;
        let Some(data) = bytes.get(8..end) else { break };
        add(&mut chunks, Chunk { kind: [head[0], head[1], head[2], head[3]], data })?;
        bytes = bytes.get(end + (end & 1)..).unwrap_or_default();
    }
    Ok(chunks)
}

/// Chunks that hold pixels or say how they move.
pub(in crate::process) fn shapes_pixels(kind: [u8; 4]) -> bool {
    [b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF"].contains(&&kind)
}

/// The chunk of an animation's frame in front of its own chunks, bytes.
pub(in crate::process) const FRAME_HEAD: usize = 16;

fn judge(chunk: &Chunk<'_>) -> Result<(), Fault> {
    let three = |at: usize| {
        let bytes = chunk.data.get(at..at + 3)?;
        Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]))
    };
    let (width, height) = match &chunk.kind {
        b"VP8X" => (three(4).map(|w| w + 1), three(7).map(|h| h + 1)),
        b"VP8L" => {
            let bits = little(chunk.data, 1);
            (bits.map(|bits| (bits & 0x3fff) + 1), bits.map(|bits| (bits >> 14 & 0x3fff) + 1))
        }
        b"VP8 " => {
            let bits = little(chunk.data, 6);
            (bits.map(|bits| bits & 0x3fff), bits.map(|bits| bits >> 16 & 0x3fff))
        }
        _ => return Ok(()),
    };
    let (width, height) = width.zip(height).ok_or(Fault::Damaged)?;
    within_reason(width, height)
}

fn little(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Appends a chunk.
pub(in crate::process) fn write(into: &mut Vec<u8>, kind: [u8; 4], data: &[u8]) {
    into.extend_from_slice(&kind);
    into.extend_from_slice(&u32::try_from(data.len()).unwrap_or(u32::MAX).to_le_bytes());
    into.extend_from_slice(data);
    if data.len() % 2 == 1 {
        into.push(0);
    }
}
