//! Transfer encodings of mails (RFC 2045, 6): what is no part of them is passed over.

use std::borrow::Cow;

/// A body as it was before it was sent.
pub(super) fn decode<'b>(encoding: &str, body: &'b [u8]) -> Cow<'b, [u8]> {
    if encoding.trim().eq_ignore_ascii_case("base64") {
        Cow::Owned(base64(body))
    } else if encoding.trim().eq_ignore_ascii_case("quoted-printable") {
        Cow::Owned(quoted(body))
    } else {
        Cow::Borrowed(body)
    }
}

pub(super) fn base64(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0);
    for byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => {
                // What is padded ends; several may stand in a row.
                (bits, held) = (0, 0);
                continue;
            }
            _ => continue,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            let [.., byte] = (bits >> held).to_be_bytes();
            bytes.push(byte);
        }
    }
    bytes
}

pub(super) fn quoted(text: &[u8]) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'=' {
            bytes.push(*first);
            continue;
        }
        let digit = |at: usize| char::from(*after.get(at)?).to_digit(16);
        if let (Some(high), Some(low)) = (digit(0), digit(1)) {
            bytes.extend(u8::try_from(high << 4 | low));
            rest = &after[2..];
        } else if let Some(next) = after.strip_prefix(b"\r\n").or(after.strip_prefix(b"\n")) {
            // A line that goes on.
            rest = next;
        } else {
            bytes.push(b'=');
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_read_and_noise_passed_over() {
        assert_eq!(base64(b"aGVs\r\nbG8h"), b"hello!");
        assert_eq!(base64(b"aGVsbG8=\r\naQ=="), b"helloi");
        assert_eq!(base64(b"!a G-V s b G 8"), b"hello");
        assert_eq!(quoted(b"a=3Db=\r\nc=zz=\n="), b"a=bc=zz=");
        assert_eq!(decode("7bit", b"x=3D"), &b"x=3D"[..]);
    }
}
