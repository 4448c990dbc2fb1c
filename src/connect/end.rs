//! Ending a connection: nobody can use the token any more, and the provider is told.
//!
//! The token is shredded whatever the provider answers, and also if it does not answer at all.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, select};
use tokio::sync::oneshot;

use super::{Connect, ConnectError, NAP};
use crate::clock::within;
use crate::file::{Reason, TenantId};
use crate::metrics;
use crate::provider::{Provider, ProviderError};
use crate::table::{Connection, ConnectionId, Ending, Permission, Revocation, Standing};

/// What the gateway's end waits for providers.
const LAST_WORDS: Duration = Duration::from_secs(2);
const NAPS_PER_LOOK: u32 = 60;

/// What is to be told to a provider.
#[derive(Clone)]
struct Leaving {
    id: ConnectionId,
    provider: Arc<dyn Provider>,
    grant: Arc<Permission>,
}

impl Connect {
    /// Ends a tenant's connection and waits for the provider's first answer. Ending it again gives
    /// the same.
    ///
    /// # Errors
    /// When there is none.
    pub async fn revoke(
        &self,
        id: ConnectionId,
        tenant: TenantId,
    ) -> Result<(Connection, Revocation), ConnectError> {
        self.find(id, tenant)?;
        self.end(id, Ending::Revoked).await;
        let view = self.find(id, tenant)?;
        let revocation = match view.standing {
            Standing::Over(_, revocation) => revocation,
            Standing::Pending | Standing::Consented | Standing::Active => Revocation::Failed,
        };
        Ok((view, revocation))
    }

    /// Ends every connection of a tenant: for its erasure, which destroys their keys next. Each
    /// provider is told once; one that keeps silent holds nobody up for long.
    pub async fn revoke_all(&self, tenant: TenantId) -> usize {
        let live = self.0.connections.live(Some(tenant));
        join_all(live.iter().map(|id| self.end(*id, Ending::Revoked))).await;
        live.len()
    }

    /// Ends a connection; the provider's first answer.
    pub(super) async fn end(&self, id: ConnectionId, ending: Ending) -> Option<Revocation> {
        let leaving = self.stop(id, ending)?;
        let (first, heard) = oneshot::channel();
        self.0.tasks.spawn(self.clone().take_back(leaving, Some(first)));
        heard.await.ok()
    }

    /// Ends a connection; the provider is told while nobody waits.
    pub(super) fn end_in_background(&self, id: ConnectionId, ending: Ending) {
        if let Some(leaving) = self.stop(id, ending) {
            self.0.tasks.spawn(self.clone().take_back(leaving, None));
        }
    }

    /// The provider has said that the token is no longer good.
    pub(super) fn lost(&self, id: ConnectionId) {
        if let Some(leaving) = self.stop(id, Ending::Revoked) {
            leaving.grant.shred(Reason::Deleted);
            self.0.connections.revoked(id, Revocation::Done);
        }
    }

    fn stop(&self, id: ConnectionId, ending: Ending) -> Option<Leaving> {
        let (view, ended) = self.0.connections.end(id, ending, self.now())?;
        self.count();
        Some(Leaving { id, provider: view.terms.provider.clone(), grant: ended.grant? })
    }

    /// Takes a grant back that no connection has any more.
    pub(super) async fn give_up(
        &self,
        id: ConnectionId,
        provider: &Arc<dyn Provider>,
        grant: Arc<Permission>,
    ) {
        let leaving = Leaving { id, provider: provider.clone(), grant };
        let (first, heard) = oneshot::channel();
        self.0.tasks.spawn(self.clone().take_back(leaving, Some(first)));
        let _ = heard.await;
    }

    /// Tells the provider, once, and destroys the token whatever comes back: it serves nobody after
    /// that, not even a further try. Where the provider could not be reached it runs out by itself.
    async fn take_back(self, leaving: Leaving, heard: Option<oneshot::Sender<Revocation>>) {
        let told = Box::pin(self.tell(&leaving));
        let answer = match select(told, Box::pin(self.0.closing.fired())).await {
            futures_util::future::Either::Left((answer, _)) => answer,
            futures_util::future::Either::Right(_) => return,
        };
        // The token first: whoever is told how it ended may rely on it.
        leaving.grant.shred(Reason::Deleted);
        self.0.connections.revoked(leaving.id, answer);
        metrics::count_by(metrics::CLOUD_REVOCATIONS, "answer", answer.as_str());
        if let Some(heard) = heard {
            let _ = heard.send(answer);
        }
    }

    /// Asks the provider once.
    async fn tell(&self, leaving: &Leaving) -> Revocation {
        let Leaving { id, provider, grant } = leaving;
        if provider.service().revokes_whole_grant()
            && self.0.connections.shares_grant(*id, &grant.person)
        {
            return Revocation::Deferred;
        }
        let Ok((_, record)) = self.open_token(grant) else { return Revocation::Failed };
        let Some(access) = record.access() else { return Revocation::Failed };
        match provider.revoke(&access, record.refresh().as_ref()).await {
            Ok(()) | Err(ProviderError::Revoked) => Revocation::Done,
            Err(_) => Revocation::Failed,
        }
    }

    /// Ends what falls due, for as long as the process runs.
    pub(super) async fn keep(self) {
        let mut naps: u32 = 0;
        while !self.0.closing.has_fired() {
            let now = self.now();
            for id in self.0.connections.due(now) {
                self.end_in_background(id, Ending::Expired);
            }
            naps = naps.wrapping_add(1);
            if naps.is_multiple_of(NAPS_PER_LOOK) {
                self.0.connections.forget_old(now);
            }
            self.count();
            let nap = self.0.connections.next_due(self.now()).map_or(NAP, |due| due.min(NAP));
            let nap = self.0.clock.sleep(nap.max(Duration::from_millis(1)));
            select(nap, Box::pin(self.0.closing.fired())).await;
        }
    }

    /// While the gateway drains it takes nothing new in: no connection has a use any more.
    pub(super) async fn drain(self) {
        self.0.shutdown.draining().await;
        for id in self.0.connections.live(None) {
            self.end_in_background(id, Ending::Revoked);
        }
    }

    /// The gateway ends: every connection does, and providers have a moment to hear of it.
    pub async fn close(&self) {
        let live = self.0.connections.live(None);
        let leaving: Vec<Leaving> =
            live.into_iter().filter_map(|id| self.stop(id, Ending::Revoked)).collect();
        let told = join_all(leaving.iter().map(|leaving| self.tell(leaving)));
        within(&*self.0.clock, LAST_WORDS, told).await;
        drop(leaving);
        // Others may be on their way out already.
        within(&*self.0.clock, LAST_WORDS, self.0.tasks.idle()).await;
        self.0.closing.fire();
        self.0.connections.close();
        // Whoever is still at work holds an entry, and with it memory that is counted.
        within(&*self.0.clock, LAST_WORDS, self.0.tasks.idle()).await;
        within(&*self.0.clock, LAST_WORDS, self.0.keeper.idle()).await;
    }

    pub(super) fn count(&self) {
        metrics::set(metrics::CLOUD_CONNECTIONS, self.0.connections.granted() as f64);
    }
}
