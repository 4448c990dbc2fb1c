//! A connection lent to a transfer: whoever carries bytes learns where to get a token, and when to
//! stop, and nothing else of connections.

use std::sync::Arc;

use async_trait::async_trait;

use super::token::Held;
use super::{Connect, ConnectError};
use crate::file::TenantId;
use crate::provider::{Access, Bearer, Provider, ProviderError, TokenSource};
use crate::table::{ConnectionId, Cut, Standing};

/// What a transfer gets of a connection.
pub struct Lent {
    pub provider: Arc<dyn Provider>,
    pub tokens: Arc<dyn TokenSource>,
    pub access: Access,
    /// As [`Account::root`](crate::provider::Account::root).
    pub root: Option<String>,
    /// What was picked, where nothing else may be seen.
    pub picked: Option<Vec<String>>,
    /// Fires when the connection is over.
    pub cut: Cut,
}

impl Connect {
    /// Lends an active connection.
    ///
    /// # Errors
    /// When there is none for this tenant and subject, or it is not active.
    pub fn lend(
        &self,
        id: ConnectionId,
        tenant: TenantId,
        subject: Option<&str>,
    ) -> Result<Lent, ConnectError> {
        let view = self.find_for(id, tenant, subject)?;
        self.suspended(tenant)?;
        let grant = match (&view.standing, &view.grant) {
            (Standing::Active, Some(grant)) => grant.clone(),
            (Standing::Over(..), _) => return Err(ConnectError::Over),
            _ => return Err(ConnectError::NotActive),
        };
        let (provider, access) = (view.terms.provider.clone(), view.terms.access);
        let mut account = self.open_account(&grant)?;
        let picked = std::mem::take(&mut account.picked);
        let held = self.tokens(&grant, &provider);
        Ok(Lent {
            tokens: Arc::new(Lending { connect: self.clone(), id, tenant, held }),
            access,
            root: account.root.take(),
            picked: (access == Access::Picked).then_some(picked),
            cut: grant.cut.clone(),
            provider,
        })
    }
}

/// A token source that can tell its connection that it is lost.
struct Lending {
    connect: Connect,
    id: ConnectionId,
    tenant: TenantId,
    held: Held,
}

#[async_trait]
impl TokenSource for Lending {
    async fn token(&self) -> Result<Bearer, ProviderError> {
        self.held.token().await
    }

    async fn renewed(&self, refused: &Bearer) -> Result<Bearer, ProviderError> {
        self.held.renewed(refused).await
    }

    fn lost(&self) {
        // A suspended tenant's token is not used: that says nothing of the token.
        if self.connect.suspended(self.tenant).is_ok() {
            self.connect.lost(self.id);
        }
    }
}
