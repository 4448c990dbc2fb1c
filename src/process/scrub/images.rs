//! JPEG, PNG, WebP and GIF without what is no pixel. What shapes pixels is copied byte for byte.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::super::frame::Fault;
use super::super::metadata::images::unpacked;
use super::super::picture::{gif, icc, jpeg, png, tiff, webp};

/// Bytes of a colour profile in one segment: the length, `ICC_PROFILE`, number and count beside it.
const PROFILE_PIECE: usize = 65_533 - 14;

/// An orientation that is worth a word.
fn turned(exif: &[u8]) -> Option<Vec<u8>> {
    tiff::orientation(exif).filter(|turn| *turn != 1).map(tiff::only_orientation)
}

pub(super) fn jpeg(document: &[u8]) -> Result<Vec<u8>, Fault> {
    let parts = jpeg::parts(document)?;
    let mut made = jpeg::Writer::new(document.len());
    let segments = || {
        parts.iter().filter_map(|part| match part {
            jpeg::Part::Segment { marker, payload } => Some((*marker, *payload)),
            _ => None,
        })
    };
    let jfif = segments().find(|(marker, payload)| {
        *marker == jpeg::APP0 && payload.starts_with(b"JFIF\0") && payload.len() >= 14
    });
    if let Some((_, payload)) = jfif {
        made.segment(jpeg::APP0, &[&payload[..12], &[0, 0]]);
    }
    let exif = segments().find_map(|(marker, payload)| {
        payload.strip_prefix(jpeg::EXIF).filter(|_| marker == jpeg::APP1)
    });
    if let Some(exif) = exif.and_then(turned) {
        made.segment(jpeg::APP1, &[jpeg::EXIF, &exif]);
    }
    if let Some(profile) = jpeg::profile(&parts).and_then(|whole| icc::scrubbed(&whole)) {
        let pieces = profile.chunks(PROFILE_PIECE);
        let count = u8::try_from(pieces.len()).map_err(|_| Fault::Complex)?;
        for (number, piece) in (1..=count).zip(pieces) {
            made.segment(jpeg::APP2, &[jpeg::PROFILE, &[number, count], piece]);
        }
    }
    for part in &parts {
        match part {
            jpeg::Part::Scan(bytes) => made.scan(bytes),
            jpeg::Part::Segment { marker, payload } if jpeg::shapes_pixels(*marker) => {
                made.segment(*marker, &[payload]);
            }
            jpeg::Part::Segment { marker: jpeg::APP14, payload }
                if payload.starts_with(b"Adobe") && payload.len() >= 12 =>
            {
                made.segment(jpeg::APP14, &[&payload[..12]]);
            }
            jpeg::Part::Segment { .. } | jpeg::Part::Stray(_) | jpeg::Part::Trailer(_) => {}
        }
    }
    Ok(made.finish())
}

pub(super) fn png(document: &[u8]) -> Result<Vec<u8>, Fault> {
    let (chunks, _trailer) = png::chunks(document)?;
    let mut made = Vec::with_capacity(document.len());
    made.extend_from_slice(png::SIGNATURE);
    // It may stand behind the pixels; written in front of them it is found by everybody.
    let exif = chunks.iter().find(|chunk| &chunk.kind == b"eXIf").and_then(|c| turned(c.data));
    for chunk in &chunks {
        match &chunk.kind {
            b"iCCP" => {
                let packed = chunk.data.iter().position(|byte| *byte == 0);
                let packed = packed.and_then(|zero| chunk.data.get(zero + 2..));
                let profile = packed.and_then(unpacked).and_then(|whole| icc::scrubbed(&whole));
                if let Some(profile) = profile {
                    let mut packed = ZlibEncoder::new(b"icc\0\0".to_vec(), Compression::default());
                    let done = packed.write_all(&profile).and_then(|()| packed.finish());
                    png::write(&mut made, chunk.kind, &done.map_err(|_| Fault::Limit)?);
                }
            }
            kind if png::shapes_pixels(*kind) => made.extend_from_slice(chunk.whole),
            _ => {}
        }
        if let (b"IHDR", Some(exif)) = (&chunk.kind, &exif) {
            png::write(&mut made, *b"eXIf", exif);
        }
    }
    Ok(made)
}

/// Flags of the extended header: what chunks there are.
const WEBP_PROFILE: u8 = 0x20;
const WEBP_EXIF: u8 = 0x08;
const WEBP_XMP: u8 = 0x04;

pub(super) fn webp(document: &[u8]) -> Result<Vec<u8>, Fault> {
    let (chunks, _trailer) = webp::chunks(document)?;
    let find = |kind: &[u8; 4]| chunks.iter().find(|chunk| &chunk.kind == kind);
    let extended = find(b"VP8X").is_some();
    let exif = find(b"EXIF")
        .filter(|_| extended)
        .and_then(|chunk| turned(chunk.data.strip_prefix(jpeg::EXIF).unwrap_or(chunk.data)));
    let profile = find(b"ICCP").filter(|_| extended).and_then(|c| icc::scrubbed(c.data));
    let mut made = b"RIFF\0\0\0\0WEBP".to_vec();
    for chunk in &chunks {
        match &chunk.kind {
            b"VP8X" => {
                let mut head = chunk.data.to_vec();
                let flags = head.first_mut().ok_or(Fault::Damaged)?;
                *flags &= !(WEBP_PROFILE | WEBP_EXIF | WEBP_XMP);
                *flags |= if profile.is_some() { WEBP_PROFILE } else { 0 };
                *flags |= if exif.is_some() { WEBP_EXIF } else { 0 };
                webp::write(&mut made, chunk.kind, &head);
                if let Some(profile) = &profile {
                    webp::write(&mut made, *b"ICCP", profile);
                }
            }
            b"ANMF" => {
                let head = chunk.data.get(..webp::FRAME_HEAD).ok_or(Fault::Damaged)?;
                let mut frame = head.to_vec();
                for inner in webp::within(&chunk.data[head.len()..])? {
                    if webp::shapes_pixels(inner.kind) {
                        webp::write(&mut frame, inner.kind, inner.data);
                    }
                }
                webp::write(&mut made, chunk.kind, &frame);
            }
            kind if webp::shapes_pixels(*kind) => webp::write(&mut made, chunk.kind, chunk.data),
            _ => {}
        }
    }
    if let Some(exif) = exif {
        webp::write(&mut made, *b"EXIF", &exif);
    }
    let length = u32::try_from(made.len() - 8).map_err(|_| Fault::Limit)?;
    made[4..8].copy_from_slice(&length.to_le_bytes());
    Ok(made)
}

pub(super) fn gif(document: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut made = Vec::with_capacity(document.len());
    let mut control: Option<&[u8]> = None;
    for part in gif::parts(document)? {
        match part {
            gif::Part::Screen(bytes) => made.extend_from_slice(bytes),
            // It belongs to what follows, which may go.
            gif::Part::Control(bytes) => control = Some(bytes),
            gif::Part::Picture(bytes) => {
                made.extend_from_slice(control.take().unwrap_or_default());
                made.extend_from_slice(bytes);
            }
            gif::Part::Extension { label: gif::TEXT, .. } => control = None,
            gif::Part::Extension { label: gif::APPLICATION, name, whole } => {
                if gif::LOOPS.contains(&name) && whole.len() == 19 {
                    made.extend_from_slice(whole);
                } else if name == b"ICCRGBG1012" {
                    let profile = icc::scrubbed(&gif::content(whole, true));
                    made.extend(profile.into_iter().flat_map(|bytes| extension(name, &bytes)));
                }
            }
            gif::Part::Extension { .. } | gif::Part::Trailer(_) => {}
        }
    }
    made.push(0x3b);
    Ok(made)
}

fn extension(name: &[u8], content: &[u8]) -> Vec<u8> {
    let mut made = vec![0x21, gif::APPLICATION, 11];
    made.extend_from_slice(name);
    for piece in content.chunks(255) {
        made.push(u8::try_from(piece.len()).unwrap_or(u8::MAX));
        made.extend_from_slice(piece);
    }
    made.push(0);
    made
}
