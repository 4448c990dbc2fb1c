//! Tokens at rest and in use: sealed like a file's name, opened for one call, refreshed once.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{Connect, ConnectError};
use crate::body::BodyError;
use crate::clock::Now;
use crate::file::{Deadline, Role};
use crate::keyring::KeyringError;
use crate::provider::{Account, Bearer, Granted, Provider, ProviderError, TokenSource};
use crate::table::{ConnectionTerms, Mark, Origin, Permission, PermissionParts, Until};

/// An access token is replaced this long before its end.
const EARLY: Duration = Duration::from_secs(60);
/// Between a connection's end and that of its keys: time to revoke. Never more than a tenth of it.
const FOR_REVOKING: Duration = Duration::from_secs(30);

/// A token, as it is sealed.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub(super) struct TokenRecord {
    access: String,
    refresh: Option<String>,
    /// The access token's end, milliseconds since 1970.
    ends: u64,
}

impl TokenRecord {
    fn of(granted: &Granted, refresh: Option<&Bearer>, now: Now) -> Self {
        let ends = now.wall.plus(granted.lives).since_epoch().as_millis();
        Self {
            access: granted.access.expose().to_owned(),
            refresh: refresh.map(|token| token.expose().to_owned()),
            ends: u64::try_from(ends).unwrap_or(u64::MAX),
        }
    }

    pub(super) fn access(&self) -> Option<Bearer> {
        Bearer::new(&self.access)
    }

    pub(super) fn refresh(&self) -> Option<Bearer> {
        self.refresh.as_deref().and_then(Bearer::new)
    }

    fn is_stale(&self, now: Now) -> bool {
        let soon = now.wall.plus(EARLY).since_epoch().as_millis();
        u128::from(self.ends) <= soon
    }
}

/// Whose account it is and what was picked, as it is sealed.
#[derive(Default, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub(super) struct AccountRecord {
    pub label: String,
    pub root: Option<String>,
    pub picked: Vec<String>,
}

impl Connect {
    /// Seals what a token request gave, under keys of its own that end with the connection.
    pub(super) fn seal(
        &self,
        terms: &ConnectionTerms,
        granted: &Granted,
        account: Option<&Account>,
        picked: Vec<String>,
    ) -> Result<Permission, ConnectError> {
        let now = self.now();
        // Without the wish nothing that outlives the access token is kept.
        let refresh = granted.refresh.as_ref().filter(|_| terms.offline);
        let lives = if refresh.is_some() { terms.ttl } else { terms.ttl.min(granted.lives) };
        let deadline = Deadline::fix(now, lives).map_err(|_| ProviderError::Nonsense)?;
        let keys = Arc::new(self.0.keys.create(terms.id.keys(), deadline)?);
        self.0.nursery.enter(&keys, terms.tenant).map_err(|_| ConnectError::Stopped)?;
        let origin = Origin { keys, tenant: terms.tenant, region: terms.region, deadline };
        // From here on dropping the parts must not leave the keys behind.
        let guard = Unsealed { connect: self, origin: &origin, armed: true };
        let record = AccountRecord {
            label: account.map(|account| account.label.to_string()).unwrap_or_default(),
            root: account.and_then(|account| account.root.clone()),
            picked,
        };
        let vault = &self.0.vault;
        let account_record = vault.seal_small(&origin, (Role::Record, 0), &packed(&record)?)?;
        let record = TokenRecord::of(granted, refresh, now);
        let token = vault.seal_small(&origin, (Role::Token, 0), &packed(&record)?)?;
        let rent = vault.rent(account_record.as_slice().len() + token.as_slice().len())?;
        guard.disarm();
        let left = deadline.left(now);
        Ok(Permission::new(PermissionParts {
            until: Until::after(now, left - FOR_REVOKING.min(left / 10)),
            person: match account {
                Some(account) => self.person(&*terms.provider, account),
                // Nobody is known to share it.
                None => self.marks("nobody", &[terms.id.keys().as_bytes()]),
            },
            origin,
            scopes: granted.scopes.clone(),
            account: account_record,
            token,
            keys: self.0.keys.clone(),
            nursery: self.0.nursery.clone(),
            rent,
        }))
    }

    /// The keyed hash of an account as one client sees it.
    pub(super) fn person(&self, provider: &dyn Provider, account: &Account) -> Mark {
        let service = provider.service().as_str().as_bytes();
        self.marks("person", &[service, provider.client_id().as_bytes(), account.id.as_bytes()])
    }

    pub(super) fn open_token(&self, grant: &Permission) -> Result<(u32, TokenRecord), BodyError> {
        let token = grant.token();
        let place = (Role::Token, token.index);
        let plain = self.0.vault.open_small(&grant.origin, place, &token.sealed)?;
        let record = serde_json::from_slice(&plain).map_err(|_| BodyError::Damaged)?;
        Ok((token.index, record))
    }

    pub(super) fn open_account(&self, grant: &Permission) -> Result<AccountRecord, BodyError> {
        let place = (Role::Record, 0);
        let plain = self.0.vault.open_small(&grant.origin, place, &grant.account)?;
        serde_json::from_slice(&plain).map_err(|_| BodyError::Damaged)
    }

    /// The account's name, for a person to recognise; unsealed for this.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn label(&self, grant: &Permission) -> Result<Zeroizing<String>, ConnectError> {
        let mut record = self.open_account(grant)?;
        Ok(Zeroizing::new(std::mem::take(&mut record.label)))
    }

    /// Where a provider's calls for this connection get their token from.
    pub(super) fn tokens(&self, grant: &Arc<Permission>, provider: &Arc<dyn Provider>) -> Held {
        Held { connect: self.clone(), grant: grant.clone(), provider: provider.clone() }
    }

    /// Another access token for the refresh token: one caller asks, the others use what it got.
    async fn refreshed(
        &self,
        grant: &Permission,
        provider: &dyn Provider,
        refused: &Bearer,
    ) -> Result<Bearer, ProviderError> {
        let turn = grant.refreshing.acquire().await.map_err(|_| ProviderError::Revoked)?;
        let (index, record) = self.open_token(grant).map_err(|_| ProviderError::Revoked)?;
        let current = record.access().ok_or(ProviderError::Revoked)?;
        if current.expose() != refused.expose() {
            return Ok(current);
        }
        let refresh = record.refresh().ok_or(ProviderError::Revoked)?;
        let granted = provider.refresh(&refresh).await?;
        if granted.scopes.iter().any(|scope| !grant.scopes.contains(scope)) {
            return Err(ProviderError::Nonsense);
        }
        // A provider that gives no other refresh token means the old one to stay.
        let refresh = granted.refresh.as_ref().unwrap_or(&refresh);
        let record = TokenRecord::of(&granted, Some(refresh), self.now());
        let plain = packed(&record).map_err(|_| ProviderError::Nonsense)?;
        let next = index.checked_add(1).ok_or(ProviderError::Revoked)?;
        let sealed = self.0.vault.seal_small(&grant.origin, (Role::Token, next), &plain);
        grant.replace(next, sealed.map_err(|_| ProviderError::Revoked)?);
        drop(turn);
        Ok(granted.access)
    }
}

/// Keys whose first segment is being sealed: destroyed unless all went well.
struct Unsealed<'a> {
    connect: &'a Connect,
    origin: &'a Origin,
    armed: bool,
}

impl Unsealed<'_> {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Unsealed<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.connect.0.nursery.leave(self.origin.keys.file());
            self.connect.0.keys.destroy(&self.origin.keys, crate::file::Reason::Failed);
        }
    }
}

fn packed(record: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, BodyError> {
    serde_json::to_vec(record).map(Zeroizing::new).map_err(|_| BodyError::Cut)
}

impl From<ConnectError> for ProviderError {
    /// For what fails inside a provider's call.
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Provider(error) => error,
            ConnectError::Body(BodyError::Overloaded) | ConnectError::Keys(KeyringError::Full) => {
                Self::Overloaded
            }
            _ => Self::Revoked,
        }
    }
}

/// A live connection's token.
pub(super) struct Held {
    connect: Connect,
    grant: Arc<Permission>,
    provider: Arc<dyn Provider>,
}

#[async_trait]
impl TokenSource for Held {
    async fn token(&self) -> Result<Bearer, ProviderError> {
        self.connect.suspended(self.grant.origin.tenant)?;
        if self.grant.cut.has_fired() {
            return Err(ProviderError::Revoked);
        }
        let (_, record) = self.connect.open_token(&self.grant).map_err(ConnectError::from)?;
        let access = record.access().ok_or(ProviderError::Revoked)?;
        if record.refresh.is_some() && record.is_stale(self.connect.now()) {
            return self.renewed(&access).await;
        }
        Ok(access)
    }

    async fn renewed(&self, refused: &Bearer) -> Result<Bearer, ProviderError> {
        self.connect.refreshed(&self.grant, &*self.provider, refused).await
    }
}

/// A token that has just been given, before anything is sealed.
pub(super) struct Fresh<'a>(pub &'a Bearer);

#[async_trait]
impl TokenSource for Fresh<'_> {
    async fn token(&self) -> Result<Bearer, ProviderError> {
        Ok(self.0.clone())
    }

    async fn renewed(&self, _: &Bearer) -> Result<Bearer, ProviderError> {
        Err(ProviderError::Revoked)
    }
}
