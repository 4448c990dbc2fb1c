//! Character maps embedded in a PDF (9.7.5, 9.10.3): how long a code is, and what it means.

use std::collections::{BTreeMap, HashMap};

/// Entries a map may have; the largest fonts have 65 536 glyphs.
const MAX_ENTRIES: usize = 200_000;

/// Characters one code may stand for.
const MAX_TARGET: usize = 64;

/// A character map.
#[derive(Default)]
pub(super) struct CMap {
    /// Lengths of codes in bytes, with the range of their first byte.
    spaces: Vec<(usize, u8, u8)>,
    chars: HashMap<u32, String>,
    /// Upper end and meaning of the first code, by lower end.
    ranges: BTreeMap<u32, (u32, Vec<u16>)>,
}

#[derive(Debug, PartialEq)]
enum Token<'a> {
    Hex(Vec<u8>),
    Open,
    Close,
    Word(&'a [u8]),
}

impl CMap {
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let (mut map, mut rest) = (Self::default(), bytes);
        let mut section: Vec<Token> = Vec::new();
        while let Some((token, after)) = token(rest) {
            rest = after;
            match token {
                Token::Word(b"endbfchar") => map.bf_chars(&section),
                Token::Word(b"endbfrange") => map.bf_ranges(&section),
                Token::Word(b"endcodespacerange") => map.code_spaces(&section),
                Token::Word(_) => section.clear(),
                token if section.len() < MAX_ENTRIES => section.push(token),
                _ => {}
            }
        }
        map
    }

    /// The text a code stands for.
    pub(super) fn get(&self, code: u32) -> Option<String> {
        if let Some(text) = self.chars.get(&code) {
            return Some(text.clone());
        }
        let (low, (high, first)) = self.ranges.range(..=code).next_back()?;
        let step = u16::try_from(code - low).ok().filter(|_| code <= *high)?;
        let mut units = first.clone();
        let last = units.last_mut()?;
        *last = last.wrapping_add(step);
        Some(String::from_utf16_lossy(&units))
    }

    /// How many bytes a code has that begins with `first`.
    pub(super) fn code_length(&self, first: u8) -> Option<usize> {
        let mut spaces = self.spaces.iter();
        spaces.find(|(_, low, high)| (*low..=*high).contains(&first)).map(|(length, ..)| *length)
    }

    fn bf_chars(&mut self, section: &[Token]) {
        for pair in section.chunks_exact(2) {
            if let [Token::Hex(code), Token::Hex(target)] = pair {
                self.put(number(code), &units(target));
            }
        }
    }

    fn bf_ranges(&mut self, section: &[Token]) {
        let mut tokens = section.iter();
        while let (Some(Token::Hex(low)), Some(Token::Hex(high)), Some(target)) =
            (tokens.next(), tokens.next(), tokens.next())
        {
            let (low, high) = (number(low), number(high));
            match target {
                Token::Hex(target) if self.ranges.len() < MAX_ENTRIES => {
                    self.ranges.insert(low, (high, units(target)));
                }
                Token::Open => {
                    for code in low.. {
                        match tokens.next() {
                            Some(Token::Hex(target)) => self.put(code, &units(target)),
                            _ => break,
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn code_spaces(&mut self, section: &[Token]) {
        for pair in section.chunks_exact(2).take(256) {
            if let [Token::Hex(low), Token::Hex(high)] = pair
                && let (Some(first), Some(last)) = (low.first(), high.first())
            {
                self.spaces.push((low.len().min(4), *first, *last));
            }
        }
    }

    fn put(&mut self, code: u32, target: &[u16]) {
        if self.chars.len() < MAX_ENTRIES {
            self.chars.insert(code, String::from_utf16_lossy(target));
        }
    }
}

/// The first token, and what follows it.
fn token(bytes: &[u8]) -> Option<(Token<'_>, &[u8])> {
    let mut bytes = bytes.trim_ascii_start();
    while let Some(comment) = bytes.strip_prefix(b"%") {
        let end = comment.iter().position(|b| matches!(b, b'\n' | b'\r'))?;
        bytes = comment[end..].trim_ascii_start();
    }
    let (first, rest) = bytes.split_first()?;
    match first {
        b'<' if rest.first() != Some(&b'<') => {
            let end = rest.iter().position(|b| *b == b'>')?;
            Some((Token::Hex(hex(&rest[..end])), &rest[end + 1..]))
        }
        b'[' => Some((Token::Open, rest)),
        b']' => Some((Token::Close, rest)),
        _ => {
            let is_end = |b: &u8| b.is_ascii_whitespace() || b"<>[]%/(".contains(b);
            let end = rest.iter().position(is_end).map_or(bytes.len(), |end| end + 1);
            Some((Token::Word(&bytes[..end]), &bytes[end..]))
        }
    }
}

fn hex(digits: &[u8]) -> Vec<u8> {
    let digit = |b: &u8| char::from(*b).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let nibbles: Vec<u8> = digits.iter().filter_map(digit).collect();
    nibbles.chunks(2).map(|pair| (pair[0] << 4) | pair.get(1).copied().unwrap_or(0)).collect()
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).fold(0, |number, byte| (number << 8) | u32::from(*byte))
}

fn units(bytes: &[u8]) -> Vec<u16> {
    if let [byte] = bytes {
        return vec![u16::from(*byte)];
    }
    bytes.as_chunks().0.iter().take(MAX_TARGET).map(|pair| u16::from_be_bytes(*pair)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_ranges_and_code_lengths_are_read() {
        let map = CMap::parse(
            b"/CMapName /x def 2 begincodespacerange <00> <80> <8140> <9FFC> endcodespacerange\n\
            1 beginbfchar <0003> <0020> <05> <D83DDE00> endbfchar % c\n\
            2 beginbfrange <0010><0012><0041> <0020> <0021> [<0066 0066> <0078>] endbfrange",
        );
        assert_eq!(map.get(3).unwrap(), " ");
        assert_eq!(map.get(5).unwrap(), "😀");
        assert_eq!(map.get(0x12).unwrap(), "C");
        assert_eq!(map.get(0x13), None);
        assert_eq!(map.get(0x20).unwrap(), "ff");
        assert_eq!((map.code_length(0x41), map.code_length(0x85)), (Some(1), Some(2)));
    }

    #[test]
    fn a_range_of_everything_takes_no_room_and_nonsense_is_empty() {
        let map = CMap::parse(b"1 beginbfrange <00000000> <ffffffff> <0041> endbfrange");
        assert_eq!(map.get(1).unwrap(), "B");
        assert_eq!(map.get(u32::MAX), None);
        assert_eq!(CMap::parse(b"1 beginbfchar <00 <[ endbfchar").get(0), None);
    }
}
