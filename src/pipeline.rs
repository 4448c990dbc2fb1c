//! One file's day, in order: taken in, sealed, processed, delivered, forgotten.
//!
//! The one place where the order of the stages is written. Everything that can end a file passes
//! through here, and every way out ends in [`crate::shred`].

use std::sync::Arc;
use std::time::Duration;

use crate::body::BodyError;
use crate::budget::Permit;
use crate::clock::Clock;
use crate::deliver::Delivery;
use crate::egress::Egress;
use crate::entropy::{Entropy, EntropyError, Machine};
use crate::file::{Deadline, FileId, Reason, TenantId, TtlError};
use crate::intake::{Limits, Pace};
use crate::keyring::{KeyringError, Keys};
use crate::policy::Terms;
use crate::process::ProcessError;
use crate::provider::ProviderError;
use crate::receipt::{Evidence, EvidenceError, NoProof, Proof, Receipt};
use crate::shred::Shredder;
use crate::table::{
    Census, Claim, ClaimError, Claims, Ended, Jobs, LiveFile, Nursery, Quotas, Standings,
    Suspended, Table, Uploads,
};
use crate::tasks::{Shutdown, Tasks};
use crate::vault::{Record, Vault};

mod growing;
mod jobs;
mod pull;
mod push;
mod resume;
mod rights;
mod run;
mod sweep;
mod turns;
mod upload;

pub use growing::{Claimed, Growing};
pub use jobs::{Order, RECORD_BYTES};
pub use pull::{MOST_FILES, Pull, Storage};
pub use push::Delivery as PutBack;
pub use resume::{Added, AnyUpload, Asked, Check, Chunk, Finished, UploadError};
pub use rights::{Describe, TenantEvent, TenantHook};
pub use run::{Ran, Run};
pub use upload::{Sealed, Upload};

/// Transfers from and to people's storage at a time: they wait for others more than they work.
const TRANSFERS: usize = 32;

/// A job, and why it failed.
pub type AnyJob = crate::table::Job<PipelineError>;

/// Why a stage refused or failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PipelineError {
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(transparent)]
    Keys(#[from] KeyringError),
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    #[error(transparent)]
    Ttl(#[from] TtlError),
    /// The receipt cannot be written.
    #[error("the acceptance cannot be written down")]
    Evidence,
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The deadline came before the last byte.
    #[error("the file expired while it was taken in")]
    Expired,
    /// The gateway has destroyed its keys.
    #[error("the gateway has stopped")]
    Stopped,
    /// No download is left.
    #[error("the file's downloads are used up")]
    Downloaded,
    /// No use of the grant is left.
    #[error("the grant is used up")]
    GrantSpent,
    #[error("the tenant is suspended")]
    Suspended,
    /// The tenant's data was erased while this was under way.
    #[error("the tenant's data was erased")]
    Erased,
    /// The file that a job works on has ended.
    #[error("the job's source is gone")]
    Lost(FileId, Reason),
    /// As many of the tenant's jobs as there may be have not ended yet.
    #[error("the tenant has too many jobs")]
    TooManyJobs,
    /// A person's storage failed.
    #[error(transparent)]
    Provider(#[from] ProviderError),
}

impl From<Ended> for PipelineError {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Suspended => Self::Suspended,
            Ended::Erased => Self::Erased,
        }
    }
}

impl From<Suspended> for PipelineError {
    fn from(_: Suspended) -> Self {
        Self::Suspended
    }
}

impl From<EvidenceError> for PipelineError {
    fn from(error: EvidenceError) -> Self {
        match error {
            EvidenceError::Entropy(error) => Self::Entropy(error),
            EvidenceError::Stopped => Self::Stopped,
            other => {
                tracing::error!("an acceptance cannot be written down: {other}");
                Self::Evidence
            }
        }
    }
}

impl From<ClaimError> for PipelineError {
    fn from(error: ClaimError) -> Self {
        match error {
            ClaimError::NoneLeft => Self::Downloaded,
            ClaimError::Entropy(error) => Self::Entropy(error),
        }
    }
}

/// The stages, and the order they run in.
#[derive(Clone)]
pub struct Pipeline {
    // Dependencies.
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) table: Arc<Table>,
    pub(crate) nursery: Nursery,
    pub(crate) standings: Arc<Standings>,
    hooks: rights::Hooks,
    pub(crate) quotas: Arc<Quotas>,
    pub(crate) vault: Arc<Vault>,
    pub(crate) evidence: Arc<Evidence>,
    pub(crate) shredder: Shredder,
    pub(crate) tasks: Tasks,
    pub(crate) shutdown: Shutdown,
    pub(crate) egress: Egress,
    jobs: Arc<Jobs<PipelineError>>,
    crew: jobs::Crew,
    uploads: Arc<Uploads<resume::Arriving>>,
    turns: turns::Turns,
    /// As many transfers from and to people's storage run at a time.
    transfers: turns::Turns,
    pub(crate) machine: Arc<dyn Machine>,
    beat: sweep::Beat,
    // Configuration.
    pub(crate) min_rate: u64,
    /// Processing requests of one tenant that may wait for a worker.
    runs: usize,
}

/// Everything a [`Pipeline`] is made of.
pub struct Parts {
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub keys: Arc<Keys>,
    pub table: Arc<Table>,
    pub vault: Arc<Vault>,
    pub evidence: Arc<Evidence>,
    pub shredder: Shredder,
    pub tasks: Tasks,
    pub shutdown: Shutdown,
    pub machine: Arc<dyn Machine>,
    pub egress: Egress,
    /// Jobs of one tenant that are remembered, those that have ended included.
    pub jobs: usize,
    /// Workers there are: as many documents are worked on at a time.
    pub workers: usize,
    /// Processing requests of one tenant that may wait for a worker.
    pub runs: usize,
    /// The least rate of a body, bytes per second; 0 for none.
    pub min_rate: u64,
}

impl Pipeline {
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self {
            clock: parts.clock,
            entropy: parts.entropy,
            keys: parts.keys,
            table: parts.table,
            nursery: Nursery::default(),
            standings: Arc::default(),
            hooks: rights::Hooks::default(),
            quotas: Arc::default(),
            vault: parts.vault,
            evidence: parts.evidence,
            shredder: parts.shredder,
            tasks: parts.tasks,
            shutdown: parts.shutdown,
            machine: parts.machine,
            beat: sweep::Beat::default(),
            egress: parts.egress,
            jobs: Arc::new(Jobs::new(parts.jobs)),
            crew: jobs::Crew::default(),
            uploads: Arc::default(),
            turns: turns::Turns::new(parts.workers),
            transfers: turns::Turns::new(TRANSFERS),
            min_rate: parts.min_rate,
            runs: parts.runs,
        }
    }

    /// How many tenants share the locked pages from now on.
    pub fn share_among(&self, tenants: usize) {
        self.quotas.share_among(tenants);
    }

    /// A tenant's own live file.
    #[must_use]
    pub fn find(&self, id: FileId, tenant: TenantId) -> Option<Arc<LiveFile>> {
        let file = self.table.get(id, tenant)?;
        let due =
            file.origin.keys.deadline().is_none_or(|deadline| deadline.is_due(self.clock.now()));
        if due {
            // Seen before the sweeper came by: it ends now, not at its next round.
            self.shredder.shred(&file, Reason::Expired);
            return None;
        }
        let spent = file.claims.as_ref().is_some_and(Claims::are_spent);
        if spent {
            self.shredder.shred(&file, Reason::Downloaded);
            return None;
        }
        Some(file)
    }

    /// A page of a tenant's files, newest first.
    #[must_use]
    pub fn list(
        &self,
        tenant: TenantId,
        cursor: Option<u64>,
        limit: usize,
    ) -> (Vec<Arc<LiveFile>>, Option<u64>) {
        let (mut files, next) = self.table.list(tenant, cursor, limit);
        // What fell due since the sweeper came by is not shown, and ends now.
        files.retain(|file| self.find(file.id, tenant).is_some());
        (files, next)
    }

    /// The part of a file that names it.
    ///
    /// # Errors
    /// When its keys are gone, or its tenant is suspended.
    pub fn record(&self, file: &Arc<LiveFile>) -> Result<Record, PipelineError> {
        self.enter(file.origin.tenant)?;
        Ok(self.vault.record(file)?)
    }

    /// A tenant's own receipt.
    #[must_use]
    pub fn receipt(&self, id: FileId, tenant: TenantId) -> Option<Receipt> {
        self.shredder.settled();
        self.evidence.get(id, tenant)
    }

    /// A tenant's own receipt as a signed note.
    #[must_use]
    pub fn receipt_note(&self, id: FileId, tenant: TenantId) -> Option<String> {
        self.shredder.settled();
        self.evidence.note(id, tenant)
    }

    /// Returns when the acceptance of these files is written down: they may be told of. Gives each
    /// one's signed promise that it will be in the log; none without a log.
    ///
    /// # Errors
    /// When it cannot be written; the files are shredded then.
    pub async fn acknowledge(&self, files: &[Arc<LiveFile>]) -> Result<Vec<String>, PipelineError> {
        let ids: Vec<FileId> = files.iter().map(|file| file.id).collect();
        let written = self.evidence.acknowledge(&ids, true).await;
        Ok(written.inspect_err(|_| self.discard(files))?)
    }

    /// As [`Pipeline::acknowledge`], for an upload that has begun.
    ///
    /// # Errors
    /// When its acceptance cannot be written; the upload ends then.
    pub async fn acknowledge_upload(
        &self,
        upload: &AnyUpload,
    ) -> Result<Vec<String>, PipelineError> {
        let written = self.evidence.acknowledge(&[upload.id.file()], true).await;
        Ok(written.inspect_err(|_| drop(self.end_upload(upload, Reason::Failed)))?)
    }

    /// A receipt's place in the log.
    ///
    /// # Errors
    /// When there is no such receipt or no log, or the next checkpoint has yet to come.
    pub fn proof(&self, id: FileId, tenant: TenantId) -> Result<Proof, NoProof> {
        self.shredder.settled();
        self.evidence.proof(id, tenant)
    }

    /// Brings a file's deadline forward.
    ///
    /// # Errors
    /// When its keys are gone.
    pub fn shorten(&self, file: &LiveFile, ttl: Duration) -> Result<(), PipelineError> {
        let now = self.clock.now();
        let due = file.origin.keys.shorten(now, ttl).map_err(|_| BodyError::Gone)?;
        for part in &file.parts {
            // A part whose keys are gone already ends no later.
            let _ = part.origin.keys.shorten(now, ttl);
        }
        self.table.reschedule(file.id);
        self.evidence.shorten(file.id, due.expires_at());
        Ok(())
    }

    /// Destroys a file's keys; its receipt is final when this returns.
    pub fn delete(&self, file: &LiveFile) -> Option<Receipt> {
        self.shredder.shred(file, Reason::Deleted)
    }

    /// Delivers a part of a file. `continued` is the claim a client names to go on with.
    ///
    /// # Errors
    /// When no download is left.
    pub fn deliver(
        &self,
        file: &Arc<LiveFile>,
        range: std::ops::Range<u64>,
        continued: Option<&str>,
    ) -> Result<(Delivery, Option<String>), PipelineError> {
        self.deliver_under(file, range, continued, None)
    }

    /// As [`Pipeline::deliver`], for the bearer of a grant whose downloads are counted, too. One
    /// claim's name continues both counts.
    ///
    /// # Errors
    /// When no download of the file or of the grant is left, or the tenant is suspended.
    pub fn deliver_under(
        &self,
        file: &Arc<LiveFile>,
        range: std::ops::Range<u64>,
        continued: Option<&str>,
        grant: Option<&Claims>,
    ) -> Result<(Delivery, Option<String>), PipelineError> {
        let era = self.enter(file.origin.tenant)?;
        let take = |claims: &Claims| claims.take(continued, &*self.entropy);
        let claim = file.claims.as_ref().map(take).transpose()?;
        let claim = match (claim, grant) {
            (claim, None) => claim,
            (Some(claim), Some(grant)) => Some(grant.take_beside(claim).map_err(grant_refused)?),
            (None, Some(grant)) => Some(take(grant).map_err(grant_refused)?),
        };
        let token = claim.as_ref().map(Claim::token);
        let bytes = range.end - range.start;
        let plain = self.vault.open_file(file, range);
        let this = self.clone();
        let when_ended = Box::new(move |file: &Arc<LiveFile>, _whole| this.after_delivery(file));
        let whose = (file.clone(), era);
        Ok((Delivery::new(whose, plain, Some(bytes), claim, when_ended), token))
    }

    /// A counted file is shredded as soon as nothing of it can be delivered any more: at once, or
    /// when the last broken delivery can no longer be continued.
    fn after_delivery(&self, file: &Arc<LiveFile>) {
        let Some(claims) = &file.claims else { return };
        if claims.left() > 0 || file.origin.keys.deadline().is_none() {
            return;
        }
        if claims.are_spent() {
            self.end_downloaded(file);
            return;
        }
        // The wait holds no file: one that dies meanwhile takes its share of the quota along.
        let (this, file) = (self.clone(), Arc::downgrade(file));
        self.tasks.spawn(async move {
            let wait = this.clock.sleep(crate::table::CONTINUE_WITHIN);
            futures_util::future::select(wait, std::pin::pin!(this.shutdown.begun())).await;
            let Some(file) = file.upgrade() else { return };
            if file.claims.as_ref().is_some_and(Claims::are_spent) {
                this.end_downloaded(&file);
            }
        });
    }

    /// Of a file that is due as well the receipt says that, whoever comes to it first.
    fn end_downloaded(&self, file: &LiveFile) {
        let now = self.clock.now();
        let due = file.origin.keys.deadline().is_none_or(|deadline| deadline.is_due(now));
        self.shredder.shred(file, if due { Reason::Expired } else { Reason::Downloaded });
    }

    /// Ends a counted file whose last delivery nobody has denied.
    pub fn conclude(&self, file: &LiveFile) {
        if file.claims.as_ref().is_some_and(Claims::are_used_up) {
            self.end_downloaded(file);
        }
    }

    /// Memory for something small that is kept beside files.
    ///
    /// # Errors
    /// When the budget is spent.
    pub fn rent(&self) -> Result<Permit, PipelineError> {
        Ok(self.vault.rent(0)?)
    }

    /// What lives, in numbers.
    #[must_use]
    pub fn census(&self) -> Census {
        self.table.census(self.clock.now())
    }

    /// Completes once no blob waits to be released, no broken write has left anything, and nobody
    /// writes to an upload.
    pub async fn cleaned(&self) {
        while self.shredder.pending() > 0 || self.vault.unsettled() > 0 || !self.uploads.is_quiet()
        {
            self.clock.sleep(Duration::from_millis(5)).await;
        }
    }

    /// The least rate of a body, bytes per second; 0 for none.
    #[must_use]
    pub const fn min_rate(&self) -> u64 {
        self.min_rate
    }

    /// A judge of the least rate a body must keep.
    #[must_use]
    pub fn pace(&self) -> Pace {
        Pace::new(self.clock.clone(), self.min_rate)
    }

    /// How long the life of a file that starts now is under these terms, rounding included.
    ///
    /// # Errors
    /// When there is no such life.
    pub fn shortest_life(&self, terms: &Terms) -> Result<Duration, PipelineError> {
        let now = self.clock.now();
        Ok(Deadline::fix(now, terms.ttl)?.left(now))
    }

    /// What memory and store hold.
    #[must_use]
    pub fn usage(&self) -> crate::store::Usage {
        self.vault.usage()
    }

    /// What is known of the place behind the store.
    #[must_use]
    pub fn standing(&self) -> crate::store::Standing {
        self.vault.standing()
    }

    /// Blobs without keys that still wait to be released.
    #[must_use]
    pub fn pending_deletes(&self) -> u64 {
        self.shredder.pending()
    }

    fn limits(&self, terms: &Terms) -> Limits {
        Limits {
            file_bytes: terms.max_bytes,
            live_bytes: terms.max_live_bytes,
            min_rate: self.min_rate,
        }
    }
}

fn grant_refused(error: ClaimError) -> PipelineError {
    match error {
        ClaimError::NoneLeft => PipelineError::GrantSpent,
        ClaimError::Entropy(error) => PipelineError::Entropy(error),
    }
}

#[cfg(test)]
mod tests;
