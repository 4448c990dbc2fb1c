//! A person lets an app read their storage: the whole life of that permission.
//!
//! An app asks, a browser opens the page, a person agrees here and at the provider, the provider
//! sends a code, the app shows that its user is the person who agreed; then the token may be used,
//! until somebody ends it or its time is over. Tokens rest sealed and are opened for one use.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use data_encoding::BASE32_NOPAD;
use zeroize::Zeroizing;

use crate::body::BodyError;
use crate::clock::{Clock, Now};
use crate::entropy::{Entropy, EntropyError, random};
use crate::file::TenantId;
use crate::keyring::{KeyringError, Keys};
use crate::policy::Terms;
use crate::provider::{Access, Provider, ProviderError};
use crate::table::{
    Connection, ConnectionId, ConnectionTerms, Connections, Cut, Ending, Full, Mark, Nursery,
    Standing,
};
use crate::tasks::{Shutdown, Tasks};
use crate::vault::Vault;

mod browse;
mod end;
mod flow;
mod lend;
mod token;

pub use browse::{Browse, Listed};
pub use flow::{Person, Returned, Shown};
pub use lend::Lent;

/// Why a step is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// There is none; or it is another tenant's, or another subject's.
    #[error("no such connection")]
    Unknown,
    #[error("the page belongs to another browser")]
    Taken,
    #[error("the form was not sent by the page")]
    Form,
    #[error("the state is not one of this browser's")]
    State,
    #[error("the connection is not active")]
    NotActive,
    #[error("the connection has ended")]
    Over,
    #[error("the code is wrong or late")]
    BadCode,
    #[error("the provider does not offer this access")]
    NotOffered,
    #[error("the cursor is not one of this listing's")]
    Cursor,
    #[error("the tenant is suspended")]
    Suspended,
    #[error("the tenant has too many connections")]
    Quota,
    #[error("the gateway has stopped")]
    Stopped,
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    #[error(transparent)]
    Keys(#[from] KeyringError),
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(transparent)]
    Provider(#[from] ProviderError),
}

impl From<Full> for ConnectError {
    fn from(full: Full) -> Self {
        match full {
            Full::Quota => Self::Quota,
            Full::Closed => Self::Stopped,
        }
    }
}

/// Whether a tenant's tokens may not be used for the moment.
pub type IsSuspended = Box<dyn Fn(TenantId) -> bool + Send + Sync>;

/// Everything a [`Connect`] is made of.
pub struct Parts {
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub keys: Arc<Keys>,
    pub nursery: Nursery,
    pub vault: Arc<Vault>,
    pub shutdown: Shutdown,
    /// Where browsers reach the gateway: scheme, host and port. Never taken from a request.
    pub base_url: String,
    pub is_suspended: IsSuspended,
}

/// All connections, and what can be done with them.
#[derive(Clone)]
pub struct Connect(Arc<Inner>);

struct Inner {
    // Dependencies.
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    keys: Arc<Keys>,
    nursery: Nursery,
    vault: Arc<Vault>,
    shutdown: Shutdown,
    is_suspended: IsSuspended,
    // State.
    connections: Connections,
    /// What goes on when nobody waits for it any more.
    tasks: Tasks,
    /// The one that ends what falls due; it ends last.
    keeper: Tasks,
    /// Fires when the gateway ends: whatever still goes on stops.
    closing: Cut,
    /// Keys every hash of a secret that is kept here; drawn afresh by every process.
    key: hmac::Key,
    // Configuration.
    base_url: String,
}

/// A connection that is asked for.
pub struct Wish {
    pub tenant: TenantId,
    pub terms: Terms,
    pub provider: Arc<dyn Provider>,
    pub access: Access,
    pub offline: bool,
    pub display_name: String,
    pub return_to: Option<String>,
    pub subject: Option<String>,
}

/// What an entry takes in memory beside its texts, about.
const ENTRY_BYTES: usize = 1024;

impl Connect {
    /// # Errors
    /// When the random source fails.
    pub fn new(parts: Parts) -> Result<Self, EntropyError> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &random::<32>(&*parts.entropy)?);
        Ok(Self(Arc::new(Inner {
            clock: parts.clock,
            entropy: parts.entropy,
            keys: parts.keys,
            nursery: parts.nursery,
            vault: parts.vault,
            shutdown: parts.shutdown,
            is_suspended: parts.is_suspended,
            connections: Connections::default(),
            tasks: Tasks::default(),
            keeper: Tasks::default(),
            closing: Cut::default(),
            key,
            base_url: parts.base_url,
        })))
    }

    /// Starts what runs beside the requests, until [`Connect::close`].
    pub fn start(&self) {
        self.0.keeper.spawn(self.clone().keep());
        self.0.tasks.spawn(self.clone().drain());
    }

    /// Where browsers reach the gateway.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.0.base_url
    }

    /// Makes a connection that waits for its person.
    ///
    /// # Errors
    /// When the access is not on offer, or there is no room.
    pub fn begin(&self, wish: Wish) -> Result<Connection, ConnectError> {
        wish.provider.scopes(wish.access).ok_or(ConnectError::NotOffered)?;
        self.suspended(wish.tenant)?;
        let page = self.draw::<32>()?;
        let texts = wish.display_name.len() + wish.return_to.as_ref().map_or(0, String::len);
        let terms = ConnectionTerms {
            id: ConnectionId::draw(&*self.0.entropy)?,
            tenant: wish.tenant,
            region: wish.terms.region,
            access: wish.access,
            offline: wish.offline,
            ttl: wish.terms.ttl,
            created: self.now(),
            page: page.clone(),
            display_name: wish.display_name,
            return_to: wish.return_to,
            subject: wish.subject.map(|subject| self.subject(wish.tenant, &subject)),
            provider: wish.provider,
            rent: self.0.vault.rent(ENTRY_BYTES + texts)?,
        };
        Ok(self.0.connections.insert(terms, self.mark("page", &page))?)
    }

    /// A tenant's own connection. One whose time is over ends now, not at the next look.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(&self, id: ConnectionId, tenant: TenantId) -> Result<Connection, ConnectError> {
        let found = self.0.connections.get(id, tenant).ok_or(ConnectError::Unknown)?;
        let over = matches!(found.standing, Standing::Over(..));
        if over || !found.until.is_due(self.now()) {
            return Ok(found);
        }
        self.end_in_background(id, Ending::Expired);
        self.0.connections.get(id, tenant).ok_or(ConnectError::Unknown)
    }

    /// A page of a tenant's connections, newest first.
    #[must_use]
    pub fn list(
        &self,
        tenant: TenantId,
        cursor: Option<u64>,
        limit: usize,
    ) -> (Vec<Connection>, Option<u64>) {
        let (found, next) = self.0.connections.list(tenant, cursor, limit);
        let found = found.into_iter().filter_map(|one| self.find(one.terms.id, tenant).ok());
        (found.collect(), next)
    }

    /// How many have a token.
    #[must_use]
    pub fn granted(&self) -> usize {
        self.0.connections.granted()
    }

    /// Background tasks that ended in a panic.
    #[must_use]
    pub fn panicked(&self) -> u64 {
        self.0.tasks.panicked() + self.0.keeper.panicked()
    }

    /// The keyed hash of an app's id of its user; one tenant's says nothing about another's.
    fn subject(&self, tenant: TenantId, subject: &str) -> Mark {
        self.marks("subject", &[tenant.as_bytes(), subject.as_bytes()])
    }

    fn now(&self) -> Now {
        self.0.clock.now()
    }

    fn suspended(&self, tenant: TenantId) -> Result<(), ConnectError> {
        if (self.0.is_suspended)(tenant) { Err(ConnectError::Suspended) } else { Ok(()) }
    }

    /// A secret of ours: `N` random bytes in lower-case base32.
    fn draw<const N: usize>(&self) -> Result<Zeroizing<String>, EntropyError> {
        let bytes = Zeroizing::new(random::<N>(&*self.0.entropy)?);
        Ok(Zeroizing::new(BASE32_NOPAD.encode(&*bytes).to_ascii_lowercase()))
    }

    /// What is kept of a secret, so that it can be recognised.
    fn mark(&self, what: &str, secret: &str) -> Mark {
        self.marks(what, &[secret.as_bytes()])
    }

    fn marks(&self, what: &str, parts: &[&[u8]]) -> Mark {
        let mut hash = hmac::Context::with_key(&self.0.key);
        for part in [what.as_bytes()].iter().chain(parts) {
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let mut mark = [0; 32];
        mark.copy_from_slice(&hash.sign().as_ref()[..32]);
        mark
    }
}

/// The longest nap between two looks at what is due.
const NAP: Duration = Duration::from_secs(1);
