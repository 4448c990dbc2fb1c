//! Work that is asked for now and fetched later: accepted, given its turn, done, and ended for
//! exactly one reason.
//!
//! One task looks after one job from its acceptance to its last message. It alone holds the job's
//! [`Queued`] and its running half; whoever wants the job to end asks, and it ends when its work
//! has been dropped, and with it everything that was sealed on the way.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select, select_all};
use tokio::sync::watch;

use super::turns::{Lane, Place, Turn, Turns};
use super::{Pipeline, PipelineError, Pull, PutBack};
use crate::body::BodyError;
use crate::clock::within;
use crate::deliver::Webhook;
use crate::file::{Deadline, FileId, Reason, TenantId};
use crate::job::{JobId, Queued};
use crate::keyring::KeyringError;
use crate::policy::Terms;
use crate::process::{ProcessError, Recipe};
use crate::table::{Cut, Era, Job, LiveFile, NoJob, Stop, Wish};

mod notice;
mod work;

use notice::Messengers;
use work::{Original, Workbench};

/// What a record takes in memory, its story included, about.
pub const RECORD_BYTES: usize = 2 << 10;

/// Tries of a job that found no memory or no key slot, and the pauses between them.
const TRIES: u32 = 20;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long a DELETE waits for the work to be dropped: some microseconds, unless a store hangs.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// How long messages about jobs may take when the gateway stops.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A job as it is asked for, found good by policy.
pub struct Order {
    /// Live files of the tenant.
    pub sources: Vec<Arc<LiveFile>>,
    /// What is fetched first, and then worked on after them.
    pub pulls: Vec<Pull>,
    /// Where the results are put, too.
    pub deliver: Option<PutBack>,
    pub recipe: Recipe,
    /// The life asked for; the sources' own if absent.
    pub ttl: Option<Duration>,
    /// Shreds the sources when the job has succeeded.
    pub consume: bool,
    pub webhook: Option<Webhook>,
    /// Whether outputs get a digest.
    pub always_digest: bool,
}

/// Why work stopped before it was done.
#[derive(Clone, Copy)]
enum Halt {
    Asked(Wish),
    Lost(FileId),
    Refused(PipelineError),
}

/// Everybody at work on jobs, so that the end can wait for them.
#[derive(Clone, Default)]
pub(super) struct Crew {
    unfinished: Tally,
    attending: Tally,
    messengers: Messengers,
    /// Fires when not even messages are waited for any more.
    over: Cut,
}

/// A number that can be waited for.
#[derive(Clone, Default)]
struct Tally(watch::Sender<usize>);

struct Counted(Tally);

impl Tally {
    fn count(&self) -> Counted {
        self.0.send_modify(|count| *count += 1);
        Counted(self.clone())
    }

    async fn is_zero(&self) {
        // The sender lives in self: this only returns when it came true.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

impl Pipeline {
    /// Whether a tenant may have another job, as things stand. Asked before a body is read.
    ///
    /// # Errors
    /// When too many of its jobs have not ended.
    pub fn has_room_for_jobs(&self, tenant: TenantId) -> Result<(), PipelineError> {
        if self.jobs.has_room(tenant) { Ok(()) } else { Err(PipelineError::TooManyJobs) }
    }

    /// Accepts a job. It starts when its turn has come.
    ///
    /// # Errors
    /// When a source is gone, the tenant has too many jobs, or there is no memory for one more.
    pub fn submit(
        &self,
        tenant: TenantId,
        terms: &Terms,
        order: Order,
    ) -> Result<Arc<super::AnyJob>, PipelineError> {
        let era = self.enter(tenant)?;
        let created = self.clock.now();
        let mut deadline = None;
        for source in &order.sources {
            let own = source.origin.keys.deadline().ok_or_else(|| self.lost(source.id, tenant))?;
            let first = deadline.get_or_insert(own);
            if own.left(created) < first.left(created) {
                *first = own;
            }
        }
        if !order.pulls.is_empty() {
            // What is fetched has the life of an upload that begins now.
            let own = Deadline::fix(created, terms.ttl)?;
            let first = deadline.get_or_insert(own);
            if own.left(created) < first.left(created) {
                *first = own;
            }
        }
        let deadline = deadline.ok_or(PipelineError::Expired)?;
        let (queued, board) = Queued::new();
        let job = Arc::new(Job {
            id: JobId::draw(&*self.entropy)?,
            tenant,
            region: terms.region,
            created,
            deadline: order.ttl.map_or(deadline, |ttl| deadline.shortened(created, ttl)),
            sources: order.sources.iter().map(|source| source.id).collect(),
            steps: order.recipe.names().map(str::to_owned).collect(),
            consume: order.consume,
            board,
            outputs: std::sync::OnceLock::new(),
            failure: std::sync::OnceLock::new(),
            stop: Stop::default(),
            rent: self.vault.rent(RECORD_BYTES)?,
        });
        self.jobs.insert(job.clone()).map_err(|error| match error {
            NoJob::Full => PipelineError::TooManyJobs,
            NoJob::Closed(_) => PipelineError::Stopped,
        })?;
        // Looked at after it is there: an erasure ends the era before it looks for jobs, so that
        // one of the two sees the other.
        if let Some(ended) = era.end() {
            self.jobs.forget(job.id);
            return Err(ended.into());
        }
        // In line before this returns: jobs of one tenant begin in the order they came.
        let place = self.first_line(&order).line_up(tenant, Lane::Job);
        let (attending, unfinished) = (self.crew.attending.count(), self.crew.unfinished.count());
        let (this, terms, own) = (self.clone(), *terms, job.clone());
        self.tasks.spawn(async move {
            this.attend(own, (queued, place, era), terms, order, unfinished).await;
            // Last of all: who waits for this finds nothing of the job held any more.
            drop(attending);
        });
        Ok(job)
    }

    /// Everything that is done about one job.
    async fn attend(
        &self,
        job: Arc<super::AnyJob>,
        waiting: (Queued, Place, Era),
        terms: Terms,
        order: Order,
        unfinished: Counted,
    ) {
        Box::pin(self.see_through(&job, waiting, &terms, &order)).await;
        drop(unfinished);
        let webhook = order.webhook;
        drop((order.sources, order.pulls, order.deliver, order.recipe));
        if let Some(webhook) = webhook {
            let telling = Box::pin(self.notify(&job, &webhook));
            select(telling, std::pin::pin!(self.crew.over.fired())).await;
        }
    }

    /// A tenant's own job.
    #[must_use]
    pub fn job(&self, id: JobId, tenant: TenantId) -> Option<Arc<super::AnyJob>> {
        self.jobs.get(id, tenant)
    }

    /// A page of a tenant's jobs, newest first.
    #[must_use]
    pub fn jobs(
        &self,
        tenant: TenantId,
        cursor: Option<u64>,
        limit: usize,
    ) -> (Vec<Arc<super::AnyJob>>, Option<u64>) {
        self.jobs.list(tenant, cursor, limit)
    }

    /// The outputs of a job that are still alive.
    #[must_use]
    pub fn outputs(&self, job: &super::AnyJob) -> Vec<Arc<LiveFile>> {
        let ids = job.outputs.get().map(Vec::as_slice).unwrap_or_default();
        ids.iter().filter_map(|id| self.find(*id, job.tenant)).collect()
    }

    /// Ends a job. When this returns its work is dropped, and its intermediates and outputs are
    /// shredded: also those of a job that had succeeded, whose state stays what it was.
    pub async fn cancel(&self, job: &super::AnyJob) {
        job.stop.ask(Wish::Cancel);
        within(&*self.clock, STOP_WITHIN, job.board.ended()).await;
        for output in self.outputs(job) {
            self.shredder.shred(&output, Reason::Cancelled);
        }
    }

    /// Asks all of a tenant's jobs that have not ended to end.
    pub fn cancel_all(&self, tenant: TenantId) {
        for job in self.jobs.unfinished(tenant) {
            job.stop.ask(Wish::Cancel);
        }
    }

    /// Completes once no job is looked after any more.
    pub(super) async fn jobs_are_over(&self) {
        self.crew.attending.is_zero().await;
    }

    /// Whether jobs wait or run.
    #[must_use]
    pub(super) fn has_unfinished_jobs(&self) -> bool {
        *self.crew.unfinished.0.borrow() > 0
    }

    /// Once the gateway stops: lets jobs go on for `patience`, then cancels those that are left,
    /// and gives messages about them a moment.
    pub async fn wind_down(self: Arc<Self>, patience: Duration) {
        self.shutdown.begun().await;
        // A little early, so that whoever reads a job's events still hears of its end.
        let patience = patience.saturating_sub((patience / 10).min(Duration::from_secs(1)));
        within(&*self.clock, patience, self.crew.unfinished.is_zero()).await;
        self.jobs.close();
        self.crew.unfinished.is_zero().await;
        within(&*self.clock, LAST_WORDS, self.crew.attending.is_zero()).await;
        self.crew.over.fire();
        self.jobs_are_over().await;
    }

    /// From its place in the queue to its end.
    async fn see_through(
        &self,
        job: &super::AnyJob,
        (queued, place, era): (Queued, Place, Era),
        terms: &Terms,
        order: &Order,
    ) {
        let halt = std::pin::pin!(halted(job, &order.sources, &era));
        let turn = std::pin::pin!(self.turn(self.first_line(order), place));
        let (turn, halt) = match select(halt, turn).await {
            Either::Left((halt, _)) => return self.end_early(job, queued, halt),
            Either::Right((turn, halt)) => (turn, halt),
        };
        for source in &order.sources {
            self.evidence.hand(source.id, &job.steps);
        }
        let running = queued.start();
        let bench = Workbench::new(self, job, (terms, &era), order, running.reporter());
        let done = match select(halt, Box::pin(self.work(turn, &bench))).await {
            Either::Left((halt, _)) => Err(halt),
            Either::Right((done, _)) => done.map_err(Halt::Refused),
        };
        // Whatever was asked before this line is done; what is asked later finds a job that ended.
        let done = job.stop.asked().map_or(done, |wish| Err(Halt::Asked(wish)));
        let done = done.and_then(|sealed| self.publish_all(sealed).map_err(Halt::Refused));
        let done = match done {
            Ok(files) => {
                let ids: Vec<FileId> = files.iter().map(|file| file.id).collect();
                let written = self.evidence.acknowledge(&ids, false).await;
                let written = written.inspect_err(|_| self.discard(&files));
                written.map(|_| files).map_err(|error| Halt::Refused(error.into()))
            }
            Err(halt) => Err(halt),
        };
        let done = match done {
            Ok(files) => self.hand_on(&bench, files).await,
            Err(halt) => Err(halt),
        };
        match done {
            Ok(files) => {
                if order.consume {
                    for source in &order.sources {
                        self.shredder.shred(source, Reason::Consumed);
                    }
                }
                let outputs = files.iter().map(|file| file.id).collect();
                // Only this task ever sets them, and it does so once.
                let _ = job.outputs.set(outputs);
                running.succeed();
            }
            Err(halt) => match self.judge(job, halt) {
                Verdict::Cancelled => running.cancel(),
                Verdict::Expired => running.expire(),
                Verdict::Failed => running.fail(),
            },
        }
    }

    fn end_early(&self, job: &super::AnyJob, queued: Queued, halt: Halt) {
        match self.judge(job, halt) {
            Verdict::Cancelled => queued.cancel(),
            Verdict::Expired => queued.expire(),
            Verdict::Failed => queued.fail(),
        }
    }

    /// What a job has come to that was not done, its failure noted.
    fn judge(&self, job: &super::AnyJob, halt: Halt) -> Verdict {
        let error = match halt {
            Halt::Asked(Wish::Cancel) => return Verdict::Cancelled,
            Halt::Asked(Wish::Expire) => return Verdict::Expired,
            Halt::Lost(file) => self.lost(file, job.tenant),
            Halt::Refused(error) => {
                // Whatever the step made of it, a source that is gone is the cause.
                let alive = |id: &&FileId| self.table.get(**id, job.tenant).is_none();
                let gone = job.sources.iter().find(alive);
                gone.map_or(error, |id| self.lost(*id, job.tenant))
            }
        };
        match error {
            PipelineError::Lost(_, Reason::Expired) | PipelineError::Expired => Verdict::Expired,
            PipelineError::Lost(_, Reason::Shutdown) => Verdict::Cancelled,
            _ if job.deadline.is_due(self.clock.now()) => Verdict::Expired,
            error => {
                let _ = job.failure.set(error);
                Verdict::Failed
            }
        }
    }

    /// What became of a file that a job works on.
    fn lost(&self, file: FileId, tenant: TenantId) -> PipelineError {
        let receipt = self.receipt(file, tenant);
        let over = receipt.and_then(|receipt| receipt.destroyed);
        over.map_or(PipelineError::Expired, |proof| PipelineError::Lost(file, proof.reason()))
    }

    /// Where a job waits first: what has to be moved needs no worker for that.
    fn first_line(&self, order: &Order) -> &Turns {
        let moves = !order.pulls.is_empty() || order.recipe.is_nothing();
        if moves { &self.transfers } else { &self.turns }
    }

    /// Fetches, then does the steps.
    async fn work(
        &self,
        turn: Turn,
        bench: &Workbench<'_>,
    ) -> Result<Vec<super::Sealed>, PipelineError> {
        let (order, tenant) = (bench.order(), bench.tenant());
        if order.pulls.is_empty() && !order.recipe.is_nothing() {
            return self.persist(turn, bench, &[]).await;
        }
        let fetched = bench.fetch().await?;
        drop(turn);
        if order.recipe.is_nothing() {
            return Ok(fetched);
        }
        let originals = bench.originals(fetched)?;
        let place = self.turns.line_up(tenant, Lane::Job);
        let turn = self.turn(&self.turns, place).await;
        let done = self.persist(turn, bench, &originals).await;
        if done.is_ok() {
            originals.iter().for_each(Original::was_read);
        }
        done
    }

    /// Puts the results where they were ordered to; if that fails they are not kept here either.
    async fn hand_on(
        &self,
        bench: &Workbench<'_>,
        files: Vec<Arc<LiveFile>>,
    ) -> Result<Vec<Arc<LiveFile>>, Halt> {
        let order = bench.order();
        let Some(place) = &order.deliver else { return Ok(files) };
        // A job without steps moves the files themselves.
        let plain = order.recipe.is_nothing().then_some(&order.sources);
        let parcels: Vec<_> = plain.into_iter().flatten().chain(&files).collect();
        let work = async {
            let place_in_line = self.transfers.line_up(bench.tenant(), Lane::Job);
            let _turn = self.turn(&self.transfers, place_in_line).await;
            bench.put_back(place, &parcels).await
        };
        let halt = std::pin::pin!(halted(bench.job(), &order.sources, bench.era()));
        let done = match select(halt, Box::pin(work)).await {
            Either::Left((halt, _)) => Err(halt),
            Either::Right((done, _)) => done.map_err(Halt::Refused),
        };
        let done = bench.job().stop.asked().map_or(done, |wish| Err(Halt::Asked(wish)));
        drop(parcels);
        if let Err(halt) = done {
            let reason = match halt {
                Halt::Asked(Wish::Cancel) => Reason::Cancelled,
                Halt::Asked(Wish::Expire) => Reason::Expired,
                Halt::Lost(_) | Halt::Refused(_) => Reason::Failed,
            };
            for file in &files {
                self.shredder.shred(file, reason);
            }
            return Err(halt);
        }
        Ok(files)
    }

    /// A slot, and memory to begin with.
    async fn turn(&self, line: &Turns, mut place: Place) -> Turn {
        loop {
            let tenant = place.tenant();
            let turn = place.turn().await;
            if self.vault.admit(None).await.is_ok() {
                return turn;
            }
            // Others may have a use for the slot that needs no memory.
            drop(turn);
            self.clock.sleep(FIRST_PAUSE).await;
            place = line.line_up(tenant, Lane::Job);
        }
    }

    /// Does the work, again from its start if there was no memory for it.
    async fn persist(
        &self,
        mut turn: Turn,
        bench: &Workbench<'_>,
        originals: &[Original],
    ) -> Result<Vec<super::Sealed>, PipelineError> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..TRIES {
            match bench.carry_out(originals).await {
                Err(error) if is_passing(error) => {
                    drop(turn);
                    self.clock.sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    let place = self.turns.line_up(bench.tenant(), Lane::Job);
                    turn = self.turn(&self.turns, place).await;
                }
                done => return done,
            }
        }
        bench.carry_out(originals).await
    }
}

/// How a job that was not done ends.
enum Verdict {
    Cancelled,
    Expired,
    Failed,
}

/// Completes when a job is to end before it is done.
async fn halted(job: &super::AnyJob, sources: &[Arc<LiveFile>], era: &Era) -> Halt {
    let cuts: Vec<_> = sources.iter().map(|source| Box::pin(source.cut.fired())).collect();
    let asked = std::pin::pin!(era.during(job.stop.requested()));
    if cuts.is_empty() {
        return Halt::Asked(asked.await.unwrap_or(Wish::Cancel));
    }
    match select(asked, select_all(cuts)).await {
        Either::Left((Ok(wish), _)) => Halt::Asked(wish),
        // Suspended or erased: the tenant wants nothing of it any more.
        Either::Left((Err(_), _)) => Halt::Asked(Wish::Cancel),
        Either::Right((((), at, _), _)) => Halt::Lost(sources[at].id),
    }
}

/// Whether waiting helps: the gateway was full, the job was good.
const fn is_passing(error: PipelineError) -> bool {
    matches!(
        error,
        PipelineError::Body(BodyError::Overloaded)
            | PipelineError::Process(
                ProcessError::Overloaded | ProcessError::Body(BodyError::Overloaded)
            )
            | PipelineError::Keys(KeyringError::Full)
    )
}
