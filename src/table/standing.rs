//! How each tenant stands: open, or suspended; and the end of whatever it has under way.
//!
//! Every stream of a tenant (an upload, a run, a delivery) holds the tenant's present [`Era`]. A
//! suspension ends the era and opens none until it is lifted; an erasure ends it and opens the next
//! at once. Who entered before sees the end, who comes after meets what holds then.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use crate::file::TenantId;

/// What ended a tenant's era.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    #[error("the tenant is suspended")]
    Suspended,
    #[error("the tenant's data was erased")]
    Erased,
}

/// The tenant is suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tenant is suspended")]
pub struct Suspended;

/// A stretch of time in which nothing was suspended or erased; held by what is under way.
#[derive(Clone)]
pub struct Era(watch::Sender<Option<Ended>>);

impl Default for Era {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Era {
    /// What ended it, if it has ended.
    #[must_use]
    pub fn end(&self) -> Option<Ended> {
        *self.0.borrow()
    }

    /// Why something under way has failed: because the era is over, or for its own reason.
    pub fn blame<E: From<Ended>>(&self, error: E) -> E {
        self.end().map_or(error, E::from)
    }

    /// Completes with what ended it.
    pub fn ended(&self) -> impl Future<Output = Ended> + Send + use<> {
        let mut seen = self.0.subscribe();
        let keep = self.clone();
        async move {
            // The sender lives in `keep`: this only returns when the era has ended.
            let ended = seen.wait_for(Option::is_some).await.ok().and_then(|end| *end);
            drop(keep);
            ended.unwrap_or(Ended::Suspended)
        }
    }

    /// Does `work` while the era lasts; dropped in the middle when it ends. Work that was done just
    /// then is handed over all the same: it may have left something that somebody must own.
    ///
    /// # Errors
    /// What ended the era.
    pub async fn during<F: Future>(&self, work: F) -> Result<F::Output, Ended> {
        use futures_util::future::{Either, select};
        let (ended, work) = (std::pin::pin!(self.ended()), std::pin::pin!(work));
        match select(ended, work).await {
            Either::Left((end, _)) => Err(end),
            Either::Right((done, _)) => Ok(done),
        }
    }
}

/// All tenants that have done anything. They come from the policy, so they are few.
#[derive(Default)]
pub struct Standings(Mutex<HashMap<TenantId, Standing>>);

#[derive(Default)]
struct Standing {
    suspended: bool,
    era: Era,
}

impl Standings {
    fn with<T>(&self, tenant: TenantId, change: impl FnOnce(&mut Standing) -> T) -> T {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(all.entry(tenant).or_default())
    }

    /// The tenant's present era, for something that begins now.
    ///
    /// # Errors
    /// While the tenant is suspended.
    pub fn enter(&self, tenant: TenantId) -> Result<Era, Suspended> {
        self.with(tenant, |standing| {
            if standing.suspended { Err(Suspended) } else { Ok(standing.era.clone()) }
        })
    }

    /// Closes the tenant and ends what it has under way; false if it was closed already.
    pub fn suspend(&self, tenant: TenantId) -> bool {
        self.with(tenant, |standing| {
            standing.end(Ended::Suspended);
            !std::mem::replace(&mut standing.suspended, true)
        })
    }

    /// Opens the tenant again; false if it was not closed.
    pub fn lift(&self, tenant: TenantId) -> bool {
        self.with(tenant, |standing| std::mem::replace(&mut standing.suspended, false))
    }

    /// Ends what the tenant has under way, and lets what comes after begin.
    pub fn erase(&self, tenant: TenantId) {
        self.with(tenant, |standing| standing.end(Ended::Erased));
    }
}

impl Standing {
    fn end(&mut self, why: Ended) {
        std::mem::take(&mut self.era).0.send_replace(Some(why));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_suspension_ends_what_runs_and_lets_nothing_begin_until_it_is_lifted() {
        let (all, acme) = (Standings::default(), TenantId::of("acme"));
        let before = all.enter(acme).unwrap();
        let mut running = Box::pin(before.during(std::future::pending::<()>()));
        assert!((&mut running).now_or_never().is_none());
        assert!(all.suspend(acme) && !all.suspend(acme));
        assert_eq!(running.now_or_never(), Some(Err(Ended::Suspended)));
        assert_eq!(all.enter(acme).err(), Some(Suspended));
        assert!(all.enter(TenantId::of("other")).is_ok());
        assert!(all.lift(acme) && !all.lift(acme));
        assert_eq!(all.enter(acme).unwrap().end(), None);
        assert_eq!(before.end(), Some(Ended::Suspended), "what was cut stays cut");
    }

    #[test]
    fn an_erasure_ends_what_runs_and_what_comes_after_lives() {
        let (all, acme) = (Standings::default(), TenantId::of("acme"));
        let before = all.enter(acme).unwrap();
        all.erase(acme);
        assert_eq!(before.ended().now_or_never(), Some(Ended::Erased));
        let after = all.enter(acme).unwrap();
        assert_eq!(after.during(async { 7 }).now_or_never(), Some(Ok(7)));
    }
}
