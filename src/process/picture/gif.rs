//! GIF (87a, 89a): a screen, and blocks made of sub-blocks.

use super::super::frame::Fault;
use super::{add, within_reason};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::process) enum Part<'d> {
    /// Signature, screen and its palette.
    Screen(&'d [u8]),
    /// How the next picture is shown.
    Control(&'d [u8]),
    /// A picture with its palette.
    Picture(&'d [u8]),
    /// An extension with its label; an application's begins with 11 bytes of name.
    Extension { label: u8, name: &'d [u8], whole: &'d [u8] },
    /// Bytes behind the end.
    Trailer(&'d [u8]),
}

pub(in crate::process) const COMMENT: u8 = 0xfe;
pub(in crate::process) const TEXT: u8 = 0x01;
pub(in crate::process) const APPLICATION: u8 = 0xff;
const CONTROL: u8 = 0xf9;

/// Names of the application extensions that say how often an animation is repeated.
pub(in crate::process) const LOOPS: [&[u8]; 2] = [b"NETSCAPE2.0", b"ANIMEXTS1.0"];

/// The image in its order. One that breaks off behind a picture is taken as far as it goes.
pub(in crate::process) fn parts(bytes: &[u8]) -> Result<Vec<Part<'_>>, Fault> {
    if !bytes.starts_with(b"GIF87a") && !bytes.starts_with(b"GIF89a") {
        return Err(Fault::Damaged);
    }
    let two = |at: usize| Some(u32::from(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?)));
    let (width, height) = two(6).zip(two(8)).ok_or(Fault::Damaged)?;
    within_reason(width, height)?;
    let flags = *bytes.get(10).ok_or(Fault::Damaged)?;
    let mut at = 13 + palette(flags);
    let mut parts = vec![Part::Screen(bytes.get(..at).ok_or(Fault::Damaged)?)];
    let mut pictures = 0;
    loop {
        let begin = at;
        let end = match bytes.get(at) {
            Some(0x3b) => {
                if at + 1 < bytes.len() {
                    add(&mut parts, Part::Trailer(&bytes[at + 1..]))?;
                }
                break;
            }
            Some(0x21) => bytes.get(at + 1).and_then(|_| sub_blocks(bytes, at + 2)),
            Some(0x2c) => {
                bytes.get(at + 9).and_then(|flags| sub_blocks(bytes, at + 10 + palette(*flags) + 1))
            }
            // Decoders stop here too.
            _ => None,
        };
        let Some(end) = end else { break };
        at = end;
        let whole = &bytes[begin..end];
        let part = match whole[..2] {
            [0x2c, _] => {
                pictures += 1;
                Part::Picture(whole)
            }
            [_, CONTROL] => Part::Control(whole),
            [_, label] => {
                let name = usize::from(whole[2]);
                Part::Extension { label, name: whole.get(3..3 + name).unwrap_or_default(), whole }
            }
            _ => break,
        };
        add(&mut parts, part)?;
    }
    if pictures == 0 { Err(Fault::Damaged) } else { Ok(parts) }
}

/// Bytes of the palette that these flags tell of.
const fn palette(flags: u8) -> usize {
    if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) }
}

/// Where the sub-blocks that begin here end, their closing zero included.
fn sub_blocks(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match bytes.get(at)? {
            0 => return Some(at + 1),
            length => at += 1 + usize::from(*length),
        }
    }
}

/// The bytes in an extension's sub-blocks, the first one (a name) left out.
pub(in crate::process) fn content(whole: &[u8], skip_first: bool) -> Vec<u8> {
    let (mut content, mut at, mut first) = (Vec::new(), 2, skip_first);
    while let Some(length) = whole.get(at).copied().filter(|length| *length > 0) {
        let end = (at + 1 + usize::from(length)).min(whole.len());
        if !first {
            content.extend_from_slice(&whole[at + 1..end]);
        }
        first = false;
        at = end;
    }
    content
}
