//! Colour profiles (ICC.1): how colours are meant, and in the same file who made them on what.

use super::{long, size};

/// The name a scrubbed profile has.
pub(in crate::process) const NAME: &str = "Colour profile";
/// The rights a scrubbed profile claims.
pub(in crate::process) const RIGHTS: &str = "none";

const HEAD: usize = 128;

/// Tags a profile may have.
const MAX_TAGS: usize = 256;

/// Bytes a profile may have; those of printers reach 4 MiB.
pub(in crate::process) const MAX_BYTES: usize = 8 << 20;

/// Tags that say what colours are, in numbers alone.
pub(in crate::process) fn shapes_colours(tag: [u8; 4]) -> bool {
    const KEPT: [&[u8; 4]; 29] = [
        b"wtpt", b"bkpt", b"chad", b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC", b"kTRC",
        b"A2B0", b"A2B1", b"A2B2", b"A2B3", b"B2A0", b"B2A1", b"B2A2", b"B2A3", b"D2B0", b"D2B1",
        b"D2B2", b"D2B3", b"B2D0", b"B2D1", b"B2D2", b"B2D3", b"gamt", b"cicp", b"lumi",
    ];
    KEPT.contains(&&tag)
}

/// The tags of a profile with their data; `None` if it is none.
pub(in crate::process) fn tags(profile: &[u8]) -> Option<Vec<([u8; 4], &[u8])>> {
    if profile.get(36..40)? != b"acsp" || profile.len() > MAX_BYTES {
        return None;
    }
    let count = size(long(profile, HEAD)?);
    if count > MAX_TAGS {
        return None;
    }
    let tag = |nth: usize| {
        let at = HEAD + 4 + nth * 12;
        let name = *profile.get(at..)?.first_chunk()?;
        let (from, length) = (size(long(profile, at + 4)?), size(long(profile, at + 8)?));
        Some((name, profile.get(from..from.checked_add(length)?)?))
    };
    (0..count).map(tag).collect()
}

/// The words in a tag of text, whatever the way they are written in.
pub(in crate::process) fn words(data: &[u8]) -> Option<String> {
    let rest = data.get(8..)?;
    let bytes = match data.get(..4)? {
        b"text" => rest,
        b"desc" => rest.get(4..)?.get(..size(long(rest, 0)?))?,
        b"mluc" => {
            let (length, from) = (size(long(data, 20)?), size(long(data, 24)?));
            let units = data.get(from..from.checked_add(length)?)?;
            let units = units.chunks_exact(2).map(|two| u16::from_be_bytes([two[0], two[1]]));
            let words = char::decode_utf16(units).map(|c| c.unwrap_or('\u{fffd}'));
            return Some(words.collect());
        }
        _ => return None,
    };
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
}

/// Fields of the header that say who made a profile, when and on what: the program, the date, the
/// platform, the device's maker and model, the creator, the identifier.
pub(in crate::process) const TELLING: [std::ops::Range<usize>; 6] =
    [4..8, 24..36, 40..44, 48..56, 80..84, 84..128];

/// The same colours from a profile that says nothing else. `None` if it cannot be read: then no
/// decoder heeds it either.
pub(in crate::process) fn scrubbed(profile: &[u8]) -> Option<Vec<u8>> {
    let mut kept: Vec<([u8; 4], Vec<u8>)> = Vec::new();
    for (name, data) in tags(profile)? {
        if shapes_colours(name) && kept.iter().all(|(known, _)| *known != name) {
            kept.push((name, data.to_vec()));
        }
    }
    let modern = profile[8] >= 4;
    kept.push((*b"desc", text(NAME, modern, true)));
    kept.push((*b"cprt", text(RIGHTS, modern, false)));
    let mut made = profile[..HEAD].to_vec();
    for telling in TELLING {
        made[telling].fill(0);
    }
    made.extend_from_slice(&number(kept.len()));
    let mut at = HEAD + 4 + kept.len() * 12;
    // Curves that are the same are often one: they stay one.
    let mut places: Vec<(usize, usize)> = Vec::new();
    let mut body: Vec<u8> = Vec::new();
    for (nth, (name, data)) in kept.iter().enumerate() {
        let twin = kept[..nth].iter().position(|(_, other)| other == data);
        let place = match twin {
            Some(twin) => places[twin],
            None => {
                let place = (at, data.len());
                body.extend_from_slice(data);
                body.resize(body.len().next_multiple_of(4), 0);
                at += data.len().next_multiple_of(4);
                place
            }
        };
        places.push(place);
        made.extend_from_slice(name);
        made.extend_from_slice(&number(place.0));
        made.extend_from_slice(&number(place.1));
    }
    made.append(&mut body);
    let length = number(made.len());
    made[..4].copy_from_slice(&length);
    Some(made)
}

/// Whether a profile is one that [`scrubbed`] could have made.
pub(in crate::process) fn is_scrubbed(profile: &[u8]) -> bool {
    scrubbed(profile).is_some_and(|made| made == profile)
}

fn number(number: usize) -> [u8; 4] {
    u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes()
}

fn text(words: &str, modern: bool, is_name: bool) -> Vec<u8> {
    let mut data = Vec::new();
    if modern {
        data.extend_from_slice(b"mluc\0\0\0\0\0\0\0\x01\0\0\0\x0cenUS");
        data.extend_from_slice(&number(words.len() * 2));
        data.extend_from_slice(&number(28));
        data.extend(words.encode_utf16().flat_map(u16::to_be_bytes));
    } else if is_name {
        data.extend_from_slice(b"desc\0\0\0\0");
        data.extend_from_slice(&number(words.len() + 1));
        data.extend_from_slice(words.as_bytes());
        // The zero, no Unicode (8 bytes), no Macintosh name (2 + 1 + 67 bytes).
        data.resize(data.len() + 1 + 8 + 70, 0);
    } else {
        data.extend_from_slice(b"text\0\0\0\0");
        data.extend_from_slice(words.as_bytes());
        data.push(0);
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_stay_and_names_and_dates_go() {
        let mut profile = vec![7; 128];
        profile[8] = 2;
        profile[36..40].copy_from_slice(b"acsp");
        profile.extend_from_slice(&2u32.to_be_bytes());
        for (name, from, length) in [(b"rTRC", 156u32, 4u32), (b"mmod", 160, 4)] {
            profile.extend_from_slice(name);
            profile.extend_from_slice(&from.to_be_bytes());
            profile.extend_from_slice(&length.to_be_bytes());
        }
        profile.extend_from_slice(b"RRRRSNSN");
        assert!(!is_scrubbed(&profile));
        let made = scrubbed(&profile).unwrap();
        let tags = tags(&made).unwrap();
        let names: Vec<&[u8]> = tags.iter().map(|(name, _)| &name[..]).collect();
        assert_eq!(names, [&b"rTRC"[..], b"desc", b"cprt"]);
        assert_eq!((tags[0].1, words(tags[1].1).as_deref()), (&b"RRRR"[..], Some(NAME)));
        assert!(is_scrubbed(&made) && made[24..36] == [0; 12]);
    }
}
