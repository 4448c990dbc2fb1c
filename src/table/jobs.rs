//! The jobs of every tenant: found, listed and stopped here. What they do is said elsewhere.
//!
//! A record holds no name, no type and no address of a file's content. It lives until its job's
//! deadline and [`KEPT_AFTER`] more, so that an end by deadline can still be asked for; where a
//! tenant has as many of them as it may, the oldest that has ended makes room.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::Closed;
use crate::budget::Permit;
use crate::clock::{Boot, Now, Wall};
use crate::file::{Deadline, FileId, TenantId};
use crate::job::{Board, JobId, State};
use crate::region::Region;

/// How long a job can be asked for after its deadline.
pub const KEPT_AFTER: Duration = Duration::from_mins(10);

/// One job. `F` says why it failed, in the words of whoever runs jobs.
pub struct Job<F> {
    pub id: JobId,
    pub tenant: TenantId,
    pub region: Region,
    pub created: Now,
    /// The earliest of its sources' deadlines and the life it asked for.
    pub deadline: Deadline,
    pub sources: Vec<FileId>,
    /// The steps' names.
    pub steps: Vec<String>,
    pub consume: bool,
    pub board: Board,
    /// Set before it succeeds.
    pub outputs: OnceLock<Vec<FileId>>,
    /// Set before it fails; a job whose task was lost has none.
    pub failure: OnceLock<F>,
    pub stop: Stop,
    /// Pays for this record.
    pub rent: Permit,
}

/// Why a job is to end before it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Cancel,
    Expire,
}

/// The wish that a job should end. The first one counts.
#[derive(Clone)]
pub struct Stop(watch::Sender<Option<Wish>>);

impl Default for Stop {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Stop {
    pub fn ask(&self, wish: Wish) {
        self.0.send_if_modified(|asked| {
            let first = asked.is_none();
            asked.get_or_insert(wish);
            first
        });
    }

    #[must_use]
    pub fn asked(&self) -> Option<Wish> {
        *self.0.borrow()
    }

    /// Completes once somebody has asked.
    pub async fn requested(&self) -> Wish {
        let mut asked = self.0.subscribe();
        loop {
            if let Some(wish) = *asked.borrow_and_update() {
                return wish;
            }
            // The sender lives in self: there is always another change to wait for.
            let _ = asked.changed().await;
        }
    }
}

/// Why a job is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoJob {
    /// As many of the tenant's jobs as there may be have not ended yet.
    #[error("the tenant has too many jobs")]
    Full,
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// Every job of this process.
pub struct Jobs<F> {
    rows: Mutex<Rows<F>>,
    /// Jobs one tenant may have, those that have ended included.
    most: usize,
}

struct Rows<F> {
    jobs: HashMap<JobId, Row<F>>,
    by_tenant: HashMap<TenantId, Theirs<F>>,
    // As with files: a job is due on the first of two clocks.
    by_boot: BTreeSet<(Boot, JobId)>,
    by_wall: BTreeSet<(Wall, JobId)>,
    /// Past their deadline, the oldest first.
    over: VecDeque<(Boot, JobId)>,
    closed: bool,
}

struct Row<F> {
    number: u64,
    job: Arc<Job<F>>,
}

struct Theirs<F> {
    next: u64,
    jobs: BTreeMap<u64, Arc<Job<F>>>,
}

impl<F> Default for Theirs<F> {
    fn default() -> Self {
        Self { next: 0, jobs: BTreeMap::new() }
    }
}

impl<F> Jobs<F> {
    /// `most` jobs for each tenant, those that have ended included.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { rows: Mutex::default(), most }
    }

    fn rows(&self) -> MutexGuard<'_, Rows<F>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a tenant may have another job, as things stand.
    #[must_use]
    pub fn has_room(&self, tenant: TenantId) -> bool {
        let rows = self.rows();
        let theirs = rows.by_tenant.get(&tenant);
        !rows.closed
            && theirs.is_none_or(|theirs| theirs.jobs.len() < self.most || theirs.ended().is_some())
    }

    /// Makes a job known.
    ///
    /// # Errors
    /// When the tenant has too many that have not ended, or the gateway has stopped.
    pub fn insert(&self, job: Arc<Job<F>>) -> Result<(), NoJob> {
        let mut rows = self.rows();
        if rows.closed {
            return Err(Closed.into());
        }
        let theirs = rows.by_tenant.entry(job.tenant).or_default();
        if theirs.jobs.len() >= self.most {
            let ended = theirs.ended().ok_or(NoJob::Full)?;
            rows.forget(ended);
        }
        let theirs = rows.by_tenant.entry(job.tenant).or_default();
        let number = theirs.next;
        theirs.next += 1;
        theirs.jobs.insert(number, job.clone());
        rows.by_boot.insert((job.deadline.boot(), job.id));
        rows.by_wall.insert((job.deadline.expires_at(), job.id));
        rows.jobs.insert(job.id, Row { number, job });
        Ok(())
    }

    /// A tenant's own job; another tenant's and an unknown one look the same.
    #[must_use]
    pub fn get(&self, id: JobId, tenant: TenantId) -> Option<Arc<Job<F>>> {
        let rows = self.rows();
        let job = &rows.jobs.get(&id)?.job;
        (job.tenant == tenant).then(|| job.clone())
    }

    /// A tenant's jobs, newest first, from the one after `cursor` on; and the cursor of the next
    /// page, if there is one.
    #[must_use]
    pub fn list(
        &self,
        tenant: TenantId,
        cursor: Option<u64>,
        limit: usize,
    ) -> (Vec<Arc<Job<F>>>, Option<u64>) {
        let rows = self.rows();
        let Some(theirs) = rows.by_tenant.get(&tenant) else { return (Vec::new(), None) };
        let mut page = theirs.jobs.range(..cursor.unwrap_or(u64::MAX)).rev().peekable();
        let (mut jobs, mut last) = (Vec::new(), None);
        while let Some((number, job)) = page.next_if(|_| jobs.len() < limit) {
            jobs.push(job.clone());
            last = Some(*number);
        }
        (jobs, last.filter(|_| page.peek().is_some()))
    }

    /// Asks every job whose deadline has come to end, and forgets those it came to long ago.
    pub fn sweep(&self, now: Now) {
        let mut rows = self.rows();
        let boot = rows.by_boot.iter().take_while(|(at, _)| *at <= now.boot).map(|(_, id)| *id);
        let wall = rows.by_wall.iter().take_while(|(at, _)| *at <= now.wall).map(|(_, id)| *id);
        let due: BTreeSet<JobId> = boot.chain(wall).collect();
        for id in due {
            let Some(job) = rows.jobs.get(&id).map(|row| row.job.clone()) else { continue };
            rows.unqueue(&job);
            rows.over.push_back((now.boot, id));
            job.stop.ask(Wish::Expire);
        }
        while let Some((since, id)) = rows.over.front().copied()
            && now.boot.since(since) >= KEPT_AFTER
        {
            rows.over.pop_front();
            rows.forget(id);
        }
    }

    /// A tenant's jobs that have not ended.
    #[must_use]
    pub fn unfinished(&self, tenant: TenantId) -> Vec<Arc<Job<F>>> {
        let rows = self.rows();
        let theirs = rows.by_tenant.get(&tenant).into_iter();
        let theirs = theirs.flat_map(|theirs| theirs.jobs.values());
        theirs.filter(|job| !job.board.state().is_final()).cloned().collect()
    }

    /// Forgets every job of a tenant. Those that have not ended are asked to: whoever looks after
    /// them holds them to their end.
    pub fn forget_all_of(&self, tenant: TenantId) {
        let mut rows = self.rows();
        let theirs = rows.by_tenant.get(&tenant).into_iter();
        let theirs: Vec<_> = theirs.flat_map(|theirs| theirs.jobs.values().cloned()).collect();
        for job in theirs {
            job.stop.ask(Wish::Cancel);
            rows.forget(job.id);
        }
    }

    /// Forgets one job.
    pub fn forget(&self, id: JobId) {
        self.rows().forget(id);
    }

    /// Takes no job any more, and asks every one to end.
    pub fn close(&self) {
        let mut rows = self.rows();
        rows.closed = true;
        for row in rows.jobs.values() {
            row.job.stop.ask(Wish::Cancel);
        }
    }

    /// Forgets every job.
    pub fn clear(&self) {
        *self.rows() = Rows { closed: true, ..Rows::default() };
    }
}

impl<F> Default for Rows<F> {
    fn default() -> Self {
        Self {
            jobs: HashMap::new(),
            by_tenant: HashMap::new(),
            by_boot: BTreeSet::new(),
            by_wall: BTreeSet::new(),
            over: VecDeque::new(),
            closed: false,
        }
    }
}

impl<F> Rows<F> {
    fn unqueue(&mut self, job: &Job<F>) {
        self.by_boot.remove(&(job.deadline.boot(), job.id));
        self.by_wall.remove(&(job.deadline.expires_at(), job.id));
    }

    fn forget(&mut self, id: JobId) {
        let Some(Row { number, job }) = self.jobs.remove(&id) else { return };
        self.unqueue(&job);
        if let Some(theirs) = self.by_tenant.get_mut(&job.tenant) {
            theirs.jobs.remove(&number);
        }
    }
}

impl<F> Theirs<F> {
    /// The oldest job that has ended.
    fn ended(&self) -> Option<JobId> {
        let ended = |job: &&Arc<Job<F>>| State::is_final(job.board.state());
        self.jobs.values().find(ended).map(|job| job.id)
    }
}
