//! What a person granted: a token, sealed; opened for one use at a time.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::{Mark, Until};
use crate::budget::Permit;
use crate::crypto::SealedRecord;
use crate::file::Reason;
use crate::keyring::Keys;
use crate::table::{Cut, Nursery, Origin};

/// A token at rest. Dropped, its keys are destroyed.
pub struct Permission {
    pub origin: Origin,
    /// The end of the connection: a little before the end of its keys, so that a token can still be
    /// revoked when its time is over.
    pub until: Until,
    /// Keyed hash of provider, client and account.
    pub person: Mark,
    pub scopes: Vec<String>,
    /// Whose account it is, sealed as a record.
    pub account: SealedRecord,
    /// Fires when the connection is over: whatever uses the token stops.
    pub cut: Cut,
    /// One refresh at a time.
    pub refreshing: Semaphore,
    token: Mutex<Arc<Token>>,
    home: (Arc<Keys>, Nursery),
    _rent: Permit,
}

/// One sealed token, and which segment of its origin it is.
pub struct Token {
    pub index: u32,
    pub sealed: SealedRecord,
}

/// What a [`Permission`] is made of.
pub struct PermissionParts {
    pub origin: Origin,
    pub until: Until,
    pub person: Mark,
    pub scopes: Vec<String>,
    pub account: SealedRecord,
    pub token: SealedRecord,
    pub keys: Arc<Keys>,
    pub nursery: Nursery,
    pub rent: Permit,
}

impl Permission {
    #[must_use]
    pub fn new(parts: PermissionParts) -> Self {
        Self {
            origin: parts.origin,
            until: parts.until,
            person: parts.person,
            scopes: parts.scopes,
            account: parts.account,
            cut: Cut::default(),
            refreshing: Semaphore::new(1),
            token: Mutex::new(Arc::new(Token { index: 0, sealed: parts.token })),
            home: (parts.keys, parts.nursery),
            _rent: parts.rent,
        }
    }

    /// The token as it is sealed now.
    #[must_use]
    pub fn token(&self) -> Arc<Token> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts another token in the place of one; the old one's bytes are forgotten.
    pub fn replace(&self, index: u32, sealed: SealedRecord) {
        let token = Arc::new(Token { index, sealed });
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }

    /// Destroys its keys: nothing opens the token any more, whoever still holds its bytes.
    pub fn shred(&self, reason: Reason) {
        let (keys, nursery) = &self.home;
        nursery.leave(self.origin.keys.file());
        keys.destroy(&self.origin.keys, reason);
    }
}

impl Drop for Permission {
    fn drop(&mut self) {
        self.shred(Reason::Deleted);
    }
}
