//! A tenant's rights over all it has here: erased, suspended, exported.
//!
//! The one place that knows everything of a tenant. What lives in other rooms (grants, jobs,
//! connections) hears of it through [`Pipeline::on_tenant`].

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream;

use super::{Pipeline, PipelineError};
use crate::body::ByteStream;
use crate::deliver::{Export, Lifeline};
use crate::file::{FileId, Reason, TenantId};
use crate::metrics;
use crate::receipt::EvidenceError;
use crate::table::{Cut, Era, LiveFile};

mod export;

/// Files shredded before other tasks get a turn.
const BATCH: usize = 16;

/// What has happened to a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantEvent {
    /// Everything is to stop: deliveries elsewhere, the use of tokens. Deadlines run on.
    Suspended,
    Lifted,
    /// Everything is to be destroyed.
    Erased,
    /// What was kept as evidence is to be destroyed, too.
    EvidenceErased,
}

/// Somebody who keeps something of tenants. Called in the middle of a request: long work is
/// spawned.
pub type TenantHook = Arc<dyn Fn(TenantId, TenantEvent) + Send + Sync>;

/// Everybody who keeps something of tenants.
#[derive(Clone, Default)]
pub(super) struct Hooks(Arc<Mutex<Vec<TenantHook>>>);

impl Hooks {
    fn tell(&self, tenant: TenantId, event: TenantEvent) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for hook in all {
            hook(tenant, event);
        }
    }
}

/// What an export calls a file's record: the shape is the faces' business. `None` for a file that
/// has died meanwhile.
pub type Describe = Box<dyn Fn(&Arc<LiveFile>) -> Option<Vec<u8>> + Send + Sync>;

impl Pipeline {
    /// Has somebody told of what happens to tenants, after the pipeline has done its own part.
    pub fn on_tenant(&self, hook: TenantHook) {
        self.hooks.0.lock().unwrap_or_else(PoisonError::into_inner).push(hook);
    }

    /// The tenant's present era, for something that begins now.
    ///
    /// # Errors
    /// While the tenant is suspended.
    pub fn enter(&self, tenant: TenantId) -> Result<Era, PipelineError> {
        Ok(self.standings.enter(tenant)?)
    }

    /// Makes everything of a tenant unreadable and ends what it has under way, until it is lifted.
    /// Nothing is destroyed by it but what was only half there; false if it was so already. With a
    /// state folder it outlives this process.
    ///
    /// # Errors
    /// When it cannot be written down; the tenant is suspended all the same.
    pub fn suspend(&self, tenant: TenantId) -> Result<bool, EvidenceError> {
        let first = self.standings.suspend(tenant);
        self.end_uploads(tenant, Reason::Cancelled);
        self.hooks.tell(tenant, TenantEvent::Suspended);
        self.evidence.note_suspension(tenant, true).map(|()| first)
    }

    /// Ends a suspension; false if there was none.
    ///
    /// # Errors
    /// When that cannot be written down; the tenant then stays suspended.
    pub fn lift(&self, tenant: TenantId) -> Result<bool, EvidenceError> {
        self.evidence.note_suspension(tenant, false)?;
        let lifted = self.standings.lift(tenant);
        self.hooks.tell(tenant, TenantEvent::Lifted);
        Ok(lifted)
    }

    /// Suspends a tenant that an earlier run had suspended.
    ///
    /// # Errors
    /// When what was written down cannot be read.
    pub fn stay_suspended(&self, tenant: TenantId) -> Result<(), EvidenceError> {
        if self.evidence.is_suspended(tenant)? {
            self.standings.suspend(tenant);
        }
        Ok(())
    }

    /// Shreds everything a tenant has: files, uploads and runs in flight, and what the other rooms
    /// keep. Returns the files and runs that had been accepted: each has a final receipt. What
    /// begins after the call does not belong to it.
    pub async fn erase(&self, tenant: TenantId) -> Vec<FileId> {
        // First nobody in flight may get any further; then what is there can be counted.
        self.standings.erase(tenant);
        self.jobs.forget_all_of(tenant);
        // An upload has a receipt from its beginning on.
        let mut erased = self.end_uploads(tenant, Reason::Erased);
        for keys in self.nursery.of(tenant) {
            self.keys.destroy(&keys, Reason::Erased);
        }
        for batch in self.table.of(tenant).chunks(BATCH) {
            for file in batch {
                let receipt = self.shredder.shred(file, Reason::Erased);
                let by_us = receipt.and_then(|receipt| receipt.destroyed);
                if by_us.is_some_and(|proof| proof.reason() == Reason::Erased) {
                    erased.push(file.id);
                }
            }
            tokio::task::yield_now().await;
        }
        self.hooks.tell(tenant, TenantEvent::Erased);
        erased
    }

    /// Destroys what is kept as evidence about a tenant: soon after the call, when what was
    /// promised to be logged is signed. Then does what comes `after`.
    pub fn erase_evidence(&self, tenant: TenantId, after: impl FnOnce() + Send + 'static) {
        let evidence = self.evidence.clone();
        self.tasks.spawn(async move {
            if let Err(error) = evidence.forget_tenant(tenant).await {
                metrics::count(metrics::EVIDENCE_FAILURES, 1);
                tracing::error!("a tenant's evidence could not be destroyed: {error}");
            }
            after();
        });
        self.hooks.tell(tenant, TenantEvent::EvidenceErased);
    }

    /// Everything a tenant has alive, as a zip. A file that dies before its turn is not in it; if
    /// one dies in its middle, the zip breaks off there.
    ///
    /// # Errors
    /// While the tenant is suspended.
    pub fn export(&self, tenant: TenantId, describe: Describe) -> Result<Export, PipelineError> {
        let era = self.enter(tenant)?;
        let writing = export::Writing::new(self.clone(), tenant, describe);
        let bytes: ByteStream = Box::pin(stream::try_unfold(writing, export::Writing::next));
        Ok(Export::new(bytes, Lifeline::new(Cut::default(), era)))
    }
}
