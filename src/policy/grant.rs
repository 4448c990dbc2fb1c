//! Grants: `dfg_<id>_<secret>`, small credentials that a key hands on, and who a request came from.

use std::fmt;

use data_encoding::BASE32_NOPAD;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::entropy::{Entropy, EntropyError, random};

/// The characters of an id and of a secret: base32 without padding, lower case.
const ID_CHARACTERS: usize = 26;
const SECRET_CHARACTERS: usize = 52;

/// A grant's name: 128 random bits, shown as `grant_` and 26 base32 characters. It opens nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantId([u8; 16]);

impl GrantId {
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "grant_{}", BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl fmt::Debug for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A token on its way to whoever asked for it. Wiped when dropped; only its hash stays.
pub struct GrantToken {
    id: GrantId,
    text: Zeroizing<String>,
}

impl GrantToken {
    /// A new random token.
    ///
    /// # Errors
    /// When the random source fails.
    pub fn draw(entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        let id = GrantId(random(entropy)?);
        let secret = Zeroizing::new(random::<32>(entropy)?);
        let mut text = Zeroizing::new(String::with_capacity(5 + ID_CHARACTERS + SECRET_CHARACTERS));
        text.push_str("dfg_");
        BASE32_NOPAD.encode_append(&id.0, &mut text);
        text.push('_');
        BASE32_NOPAD.encode_append(&*secret, &mut text);
        text.make_ascii_lowercase();
        Ok(Self { id, text })
    }

    #[must_use]
    pub const fn id(&self) -> GrantId {
        self.id
    }

    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }
}

/// A grant as a client presents it, split but not believed; its secret already hashed.
pub struct PresentedGrant {
    pub id: GrantId,
    pub sha256: [u8; 32],
}

impl PresentedGrant {
    /// Splits `dfg_<id>_<secret>`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix("dfg_")?.split_once('_')?;
        let lengths = id.len() == ID_CHARACTERS && secret.len() == SECRET_CHARACTERS;
        if !lengths || text.bytes().any(|b| b.is_ascii_uppercase()) {
            return None;
        }
        let id = BASE32_NOPAD.decode(id.to_ascii_uppercase().as_bytes()).ok()?;
        let id = GrantId(id.try_into().ok()?);
        Some(Self { id, sha256: Self::hash(secret) })
    }

    /// The hash by which a token's secret is remembered.
    #[must_use]
    pub fn hash(secret: &str) -> [u8; 32] {
        Sha256::digest(secret.as_bytes()).into()
    }
}

/// Who made a request: a key, or a grant that a key handed on. What a creator made in parts, only
/// the same creator may go on with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Who {
    /// The key's id; for a grant, that of the key it came from.
    pub key: String,
    pub grant: Option<GrantId>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SeededEntropy;

    #[test]
    fn a_token_parses_back_to_its_id_and_hash() {
        let token = GrantToken::draw(&SeededEntropy::new(7)).unwrap();
        let text = token.expose();
        let found = PresentedGrant::parse(text).unwrap();
        assert_eq!(found.id, token.id());
        assert_eq!(found.sha256, PresentedGrant::hash(&text[31..]));
        assert_eq!((text.len(), token.id().to_string().len()), (83, 32));
        for bad in [&text[1..], &text[..82], &text.to_uppercase(), &format!("{text}a"), "dfg__"] {
            assert!(PresentedGrant::parse(bad).is_none(), "{bad}");
        }
    }
}
