//! API keys: `dfk_<id>_<secret>`, of which only a SHA-256 is known here.

use std::fmt;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::Policy;
use crate::clock::Wall;

/// What a key allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    pub client: bool,
    pub connector: bool,
    pub owner: bool,
    pub auditor: bool,
    pub ops: bool,
}

impl Roles {
    pub const EVERY: Self =
        Self { client: true, connector: true, owner: true, auditor: true, ops: true };

    /// Adds a role by its name; false if there is no such role.
    pub fn add(&mut self, name: &str) -> bool {
        let role = match name {
            "client" => &mut self.client,
            "connector" => &mut self.connector,
            "owner" => &mut self.owner,
            "auditor" => &mut self.auditor,
            "ops" => &mut self.ops,
            _ => return false,
        };
        *role = true;
        true
    }

    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        let all = [
            (self.client, "client"),
            (self.connector, "connector"),
            (self.owner, "owner"),
            (self.auditor, "auditor"),
            (self.ops, "ops"),
        ];
        all.into_iter().filter_map(|(held, name)| held.then_some(name)).collect()
    }
}

/// A configured key: the hash of its secret part, never the secret.
#[derive(Clone)]
pub struct Key {
    id: String,
    tenant: String,
    roles: Roles,
    sha256: [u8; 32],
    not_after: Option<Wall>,
}

/// A key's entry in the configuration is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("a key's id is 1 to 32 of a-z and 0-9")]
    Id,
    #[error("a key's sha256 is 64 lower-case hex digits: dayfly key new prints them")]
    Sha256,
}

impl Key {
    /// A key from its configured parts.
    ///
    /// # Errors
    /// When the id or the hash is malformed.
    pub fn new(
        id: &str,
        tenant: &str,
        roles: Roles,
        sha256: &str,
        not_after: Option<Wall>,
    ) -> Result<Self, KeyError> {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        if !(1..=32).contains(&id.len()) || !id.bytes().all(fits) {
            return Err(KeyError::Id);
        }
        let hash = HEXLOWER.decode(sha256.as_bytes()).map_err(|_| KeyError::Sha256)?;
        let sha256 = hash.try_into().map_err(|_| KeyError::Sha256)?;
        Ok(Self { id: id.to_owned(), tenant: tenant.to_owned(), roles, sha256, not_after })
    }

    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Whoever holds something this key handed on: of its tenant, with no role at all.
    #[must_use]
    pub fn bearer(&self) -> Principal {
        let roles = Roles::default();
        Principal { tenant: self.tenant.clone(), key_id: self.id.clone(), roles }
    }

    fn is_same(&self, other: &Self) -> bool {
        self.id == other.id && self.tenant == other.tenant && self.sha256 == other.sha256
    }
}

#[cfg(test)]
impl Key {
    pub(super) fn end(&mut self, at: Wall) {
        self.not_after = Some(at);
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).field("sha256", &"(set)").finish()
    }
}

/// Whoever presented a valid key.
#[derive(Clone, Debug)]
pub struct Principal {
    tenant: String,
    key_id: String,
    roles: Roles,
}

impl Principal {
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    #[must_use]
    pub const fn roles(&self) -> Roles {
        self.roles
    }
}

/// A key as a client presents it, split but not believed.
pub struct Presented<'a> {
    id: &'a str,
    secret: &'a str,
}

impl<'a> Presented<'a> {
    /// Splits `dfk_<id>_<secret>`.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let (id, secret) = text.strip_prefix("dfk_")?.split_once('_')?;
        (secret.len() == 52).then_some(Self { id, secret })
    }
}

impl Policy {
    /// The configured key somebody was authenticated by.
    #[must_use]
    pub fn key(&self, principal: &Principal) -> Option<&Key> {
        let theirs = |key: &&Key| key.id == principal.key_id && key.tenant == principal.tenant;
        self.keys.iter().find(theirs)
    }

    /// Whether a key still stands behind what it handed on: configured with the same secret, not
    /// ended, and still a client's.
    #[must_use]
    pub fn stands_behind(&self, key: &Key, now: Wall) -> bool {
        let valid = |held: &&Key| held.roles.client && held.not_after.is_none_or(|end| now < end);
        self.keys.iter().filter(valid).any(|held| held.is_same(key))
    }

    /// Finds the key that was presented. Every configured key is compared, in constant time each,
    /// so an unknown id costs what a known one does.
    #[must_use]
    pub fn authenticate(&self, presented: &Presented<'_>, now: Wall) -> Option<Principal> {
        let hash: [u8; 32] = Sha256::digest(presented.secret.as_bytes()).into();
        let mut found = Choice::from(0);
        let mut place = 0u64;
        for (index, key) in self.keys.iter().enumerate() {
            let same_id = Choice::from(u8::from(key.id == presented.id));
            let same = same_id & key.sha256.ct_eq(&hash);
            place.conditional_assign(&(index as u64), same);
            found |= same;
        }
        let key = self.keys.get(usize::try_from(place).ok()?)?;
        let valid = bool::from(found) && key.not_after.is_none_or(|end| now < end);
        valid.then(|| Principal {
            tenant: key.tenant.clone(),
            key_id: key.id.clone(),
            roles: key.roles,
        })
    }
}
