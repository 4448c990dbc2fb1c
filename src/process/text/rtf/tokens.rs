//! RTF cut into words, braces and bytes.

/// One piece of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'d> {
    Open,
    Close,
    /// A control word and its number.
    Word(&'d str, Option<i64>),
    /// A control symbol.
    Symbol(u8),
    /// One byte of text, written as two digits or as itself escaped.
    Byte(u8),
    /// Bytes of text as they stand, or of binary data.
    Bytes(&'d [u8]),
}

/// A control word's letters; longer ones are none of the specification's.
const MAX_WORD: usize = 32;

/// The pieces of a file, in order.
pub(super) struct Tokens<'d> {
    rest: &'d [u8],
}

impl<'d> Tokens<'d> {
    pub(super) const fn of(document: &'d [u8]) -> Self {
        Self { rest: document }
    }

    fn take(&mut self, length: usize) -> &'d [u8] {
        let (taken, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// What follows a backslash.
    fn control(&mut self) -> Option<Token<'d>> {
        let letters = self.rest.iter().take(MAX_WORD).take_while(|b| b.is_ascii_alphabetic());
        let length = letters.count();
        if length == 0 {
            let symbol = *self.take(1).first()?;
            return Some(match symbol {
                b'\\' | b'{' | b'}' => Token::Byte(symbol),
                b'\'' => return self.hex().or_else(|| self.next()),
                symbol => Token::Symbol(symbol),
            });
        }
        let word = std::str::from_utf8(self.take(length)).unwrap_or_default();
        let number = self.number();
        if self.rest.first() == Some(&b' ') {
            self.take(1);
        }
        if word == "bin" {
            let length = number.and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
            return Some(Token::Bytes(self.take(length)));
        }
        Some(Token::Word(word, number))
    }

    fn number(&mut self) -> Option<i64> {
        let sign = usize::from(self.rest.first() == Some(&b'-'));
        let digits = self.rest[sign..].iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        let number = std::str::from_utf8(self.take(sign + digits)).ok()?;
        // One too large for any use is as good as the largest.
        Some(number.parse().unwrap_or(if sign == 1 { i64::MIN } else { i64::MAX }))
    }

    fn hex(&mut self) -> Option<Token<'d>> {
        let digit = |at: usize| char::from(*self.rest.get(at)?).to_digit(16);
        let byte = digit(0)? << 4 | digit(1)?;
        self.take(2);
        u8::try_from(byte).ok().map(Token::Byte)
    }
}

impl<'d> Iterator for Tokens<'d> {
    type Item = Token<'d>;

    fn next(&mut self) -> Option<Token<'d>> {
        loop {
            match self.rest.first()? {
                b'{' => {
                    self.take(1);
                    return Some(Token::Open);
                }
                b'}' => {
                    self.take(1);
                    return Some(Token::Close);
                }
                b'\\' => {
                    self.take(1);
                    return self.control();
                }
                b'\r' | b'\n' | 0 => drop(self.take(1)),
                _ => {
                    let is_end = |b: &u8| matches!(b, b'{' | b'}' | b'\\' | b'\r' | b'\n' | 0);
                    let length = self.rest.iter().position(is_end).unwrap_or(self.rest.len());
                    return Some(Token::Bytes(self.take(length)));
                }
            }
        }
    }
}
