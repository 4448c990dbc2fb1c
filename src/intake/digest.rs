//! Digests of a body, computed while it streams and only if somebody asked (RFC 9530).
//!
//! SHA-256 costs several times what sealing costs, so nothing is hashed for nothing.

use aws_lc_rs::digest::{Context, SHA256, SHA512};
use aws_lc_rs::hmac;
use data_encoding::BASE64;
use subtle::ConstantTimeEq;

use crate::body::BodyError;
use crate::table::Fingerprint;
use crate::vault::Digests;

/// An algorithm of RFC 9530 that we compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Sha256,
    Sha512,
}

/// A digest a client sent along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    algorithm: Algorithm,
    value: Vec<u8>,
}

/// A digest header that cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a digest header of RFC 9530")]
pub struct HeaderError;

impl Expected {
    /// Reads a `Content-Digest` or `Repr-Digest` value: a dictionary (RFC 8941) of byte strings.
    /// Unknown algorithms are passed over, and so are parameters.
    ///
    /// # Errors
    /// When a known algorithm's value is no byte string of its length.
    pub fn parse(header: &str) -> Result<Vec<Self>, HeaderError> {
        let mut expected = Vec::new();
        for entry in header.split(',').map(str::trim) {
            let (name, value) = entry.split_once('=').ok_or(HeaderError)?;
            let Some(algorithm) = Algorithm::named(name.trim()) else { continue };
            let value = value.split(';').next().unwrap_or_default().trim();
            let value = value.strip_prefix(':').and_then(|rest| rest.strip_suffix(':'));
            let value = BASE64.decode(value.ok_or(HeaderError)?.as_bytes());
            let value = value.map_err(|_| HeaderError)?;
            if value.len() != algorithm.bytes() {
                return Err(HeaderError);
            }
            expected.push(Self { algorithm, value });
        }
        Ok(expected)
    }
}

impl Algorithm {
    fn named(name: &str) -> Option<Self> {
        match name {
            "sha-256" => Some(Self::Sha256),
            "sha-512" => Some(Self::Sha512),
            _ => None,
        }
    }

    const fn bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// The algorithm a `Want-Repr-Digest` prefers; `None` if it wants none of ours. An entry that
    /// cannot be read is passed over, as RFC 9530 asks.
    #[must_use]
    pub fn wanted(header: &str) -> Option<Self> {
        let mut best: Option<(u8, Self)> = None;
        for entry in header.split(',') {
            let Some((name, weight)) = entry.trim().split_once('=') else { continue };
            let weight = weight.trim().parse().ok().filter(|weight| *weight <= 10);
            if let (Some(algorithm), Some(weight)) = (Self::named(name.trim()), weight)
                && weight > best.map_or(0, |(most, _)| most)
            {
                best = Some((weight, algorithm));
            }
        }
        best.map(|(_, algorithm)| algorithm)
    }
}

/// Hashes a body in as many ways as were asked for, often none.
#[derive(Clone, Default)]
pub struct Digester {
    sha256: Option<Context>,
    sha512: Option<Context>,
    fingerprint: Option<hmac::Context>,
    expected: Vec<Expected>,
    found: Digests,
}

impl Digester {
    /// Also computes `algorithm`.
    pub fn compute(&mut self, algorithm: Algorithm) {
        match algorithm {
            Algorithm::Sha256 => drop(self.sha256.get_or_insert_with(|| Context::new(&SHA256))),
            Algorithm::Sha512 => drop(self.sha512.get_or_insert_with(|| Context::new(&SHA512))),
        }
    }

    /// Also computes and holds the body against what the client sent.
    pub fn expect(&mut self, expected: Vec<Expected>) {
        for one in &expected {
            self.compute(one.algorithm);
        }
        self.expected.extend(expected);
    }

    /// Also continues a keyed hash that already covers the request's head.
    pub fn fingerprint(&mut self, head: hmac::Context) {
        self.fingerprint = Some(head);
    }

    /// Whether nothing was asked for.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.sha256.is_none() && self.sha512.is_none() && self.fingerprint.is_none()
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        for context in [&mut self.sha256, &mut self.sha512].into_iter().flatten() {
            context.update(bytes);
        }
        if let Some(fingerprint) = &mut self.fingerprint {
            fingerprint.update(bytes);
        }
    }

    /// Ends the hashing and holds it against what was expected.
    ///
    /// # Errors
    /// When it is not what the client sent along.
    pub fn check(&mut self) -> Result<(), BodyError> {
        let sha256 = self.sha256.take().map(Context::finish);
        let sha512 = self.sha512.take().map(Context::finish);
        for expected in &self.expected {
            let found = match expected.algorithm {
                Algorithm::Sha256 => sha256.as_ref(),
                Algorithm::Sha512 => sha512.as_ref(),
            };
            let same = found.is_some_and(|found| found.as_ref().ct_eq(&expected.value).into());
            if !same {
                return Err(BodyError::DigestMismatch);
            }
        }
        self.found = Digests {
            sha256: sha256.map(|found| BASE64.encode(found.as_ref())),
            sha512: sha512.map(|found| BASE64.encode(found.as_ref())),
        };
        Ok(())
    }

    /// The digests found, after the body has ended.
    #[must_use]
    pub fn found(&self) -> Digests {
        self.found.clone()
    }

    /// The keyed hash over head and body, if one was asked for.
    #[must_use]
    pub fn into_fingerprint(self) -> Option<Fingerprint> {
        let tag = self.fingerprint?.sign();
        tag.as_ref().try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // SHA-256 of "hello" (FIPS 180-4), base64.
    const HELLO: &str = "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:";

    fn check(header: &str, body: &[u8]) -> Result<Digests, BodyError> {
        let mut digester = Digester::default();
        digester.expect(Expected::parse(header).unwrap());
        digester.update(body);
        digester.check()?;
        Ok(digester.found())
    }

    #[test]
    fn a_matching_body_passes_and_another_does_not() {
        assert!(check(HELLO, b"hello").unwrap().sha256.is_some());
        assert_eq!(check(HELLO, b"hellO"), Err(BodyError::DigestMismatch));
        assert!(check("md5=:AAAA:", b"anything").unwrap().is_empty(), "unknown: passed over");
    }

    #[test]
    fn damaged_headers_are_refused_and_parameters_passed_over() {
        for header in ["", "sha-256", "sha-256=abc", "sha-256=:!!:", "sha-256=:AAAA:"] {
            assert_eq!(Expected::parse(header), Err(HeaderError), "{header}");
        }
        assert!(check(&format!("{HELLO};p=1, other=5"), b"hello").is_ok());
    }

    #[test]
    fn the_preferred_algorithm_is_chosen_and_zero_means_no() {
        let wanted = Algorithm::wanted;
        assert_eq!(wanted("sha-512=3, sha-256=10, md5=10"), Some(Algorithm::Sha256));
        assert_eq!(wanted("sha-512=1, nonsense"), Some(Algorithm::Sha512));
        assert_eq!(wanted("sha-256=0"), None);
        assert_eq!(wanted("sha-256=11"), None);
    }
}
