//! Bytes in, result out, nothing left behind: a processing request without a file.
//!
//! A run has keys and a receipt like a file. Streaming steps hand their output straight on.
//! Document steps read their input from the vault and leave their output there, so that a failure
//! still has a status, and no client's pace decides how long a worker lives.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures_util::StreamExt;

use super::turns::{Lane, Turn};
use super::upload::{Unborn, expires_at};
use super::{Pipeline, PipelineError};
use crate::body::{BodyError, ByteStream};
use crate::budget::PATIENCE;
use crate::clock::{Now, within};
use crate::deliver::Delivery;
use crate::file::{FileId, Reason, Role, TenantId};
use crate::intake::{Digester, Intake};
use crate::policy::Terms;
use crate::process::{Output, Plan, ProcessError, StepStream};
use crate::receipt::Acceptance;
use crate::table::{Cut, Era, Kind, LiveFile, Origin, Reservation, Segment};

/// How long a run whose body has arrived waits for its turn: it holds nothing but sealed bytes.
const QUEUE_PATIENCE: Duration = Duration::from_mins(1);

/// A processing request.
pub struct Run {
    pub input: ByteStream,
    pub digester: Digester,
    pub plan: Plan,
    /// The steps' names, for the receipt.
    pub steps: Vec<String>,
}

/// What a run gives: a body that shreds everything when it has ended.
pub struct Ran {
    pub id: FileId,
    pub media_type: &'static str,
    /// Bytes of the body, where that is known before it is sent.
    pub bytes: Option<u64>,
    pub body: Delivery,
}

/// What flows between two steps.
enum Between {
    Flowing(StepStream),
    /// Complete, and sealed.
    Resting(Segment),
}

/// A run while its steps are at work.
struct Bench<'a> {
    pipeline: &'a Pipeline,
    origin: &'a Origin,
    /// Owns what is sealed on the way from the moment it is: a run that is dropped leaves nothing.
    unborn: &'a mut Unborn,
    sealed: Vec<Segment>,
    /// What rests of the run counts as the tenant's live bytes, like a file.
    quota: Reservation,
    live_limit: u64,
}

impl Pipeline {
    /// Whether there is a place in the tenant's queue for workers. Asked before the body is read,
    /// so that a busy gateway refuses then; the place itself is taken when the body has arrived,
    /// so that a slow sender holds none.
    ///
    /// # Errors
    /// When the queue stays full.
    pub async fn has_place(
        &self,
        tenant: TenantId,
        needs_worker: bool,
    ) -> Result<(), PipelineError> {
        let patience = (&*self.clock, PATIENCE);
        if !needs_worker || self.turns.has_place(tenant, Lane::Run, self.runs, patience).await {
            return Ok(());
        }
        Err(ProcessError::Overloaded.into())
    }

    /// Runs the steps on a body.
    ///
    /// # Errors
    /// The body's error, a step's refusal, or that of keys, memory or store.
    pub async fn run(
        &self,
        tenant: TenantId,
        terms: &Terms,
        run: Run,
    ) -> Result<Ran, PipelineError> {
        let now = self.clock.now();
        let era = self.enter(tenant)?;
        let mut unborn = self.conceive(tenant, terms, now)?;
        let (limits, quota) = (self.limits(terms), self.quotas.open(tenant));
        let intake = Intake::new(run.input, &limits, quota, run.digester, self.clock.clone());
        let origin = unborn.origin()?.clone();
        let mut bench = Bench {
            pipeline: self,
            origin: &origin,
            unborn: &mut unborn,
            sealed: Vec::new(),
            quota: self.quotas.open(tenant),
            live_limit: terms.max_live_bytes,
        };
        let work = bench.work(run.plan, verified(intake));
        let done = era.during(within(&*self.clock, origin.deadline.left(now), work)).await;
        let (sealed, quota) = (bench.sealed, bench.quota);
        let done = match done {
            Err(ended) => return Err(unborn.ended(ended)),
            Ok(None) => {
                unborn.reason = Reason::Expired;
                return Err(PipelineError::Expired);
            }
            Ok(Some(done)) => done,
        };
        let (media_type, result) = done.map_err(|error| era.blame::<PipelineError>(error))?;
        let file = self.announce((unborn, &era), now, sealed, quota, run.steps)?;
        let (bytes, body) = match result {
            Between::Flowing(body) => (None, plain(body)),
            Between::Resting(segment) => {
                let bytes = segment.plain_bytes;
                (Some(bytes), self.vault.open(&file.origin, &[segment], 0..bytes))
            }
        };
        let shredder = self.shredder.clone();
        let when_ended = Box::new(move |file: &Arc<LiveFile>, whole: bool| {
            shredder.shred(file, if whole { Reason::Consumed } else { Reason::Cancelled });
        });
        let id = file.id;
        let body = Delivery::new((file, era), body, bytes, None, when_ended);
        // Its id is about to be told. From here on whatever drops the body shreds the run.
        self.evidence.acknowledge(&[id], false).await?;
        Ok(Ran { id, media_type, bytes, body })
    }

    /// Gives the run a receipt, and its keys a place where the sweeper finds them.
    pub(super) fn announce(
        &self,
        (unborn, era): (Unborn, &Era),
        now: Now,
        segments: Vec<Segment>,
        reservation: Reservation,
        handed_to: Vec<String>,
    ) -> Result<Arc<LiveFile>, PipelineError> {
        let origin = unborn.origin()?;
        let rent = self.vault.rent(0)?;
        self.evidence.accept(Acceptance {
            file: origin.keys.file(),
            tenant: origin.tenant,
            region: origin.region,
            accepted_at: now.wall,
            expires_at: expires_at(origin),
            epoch: origin.deadline.epoch(),
            keyring: origin.keys.keeper(),
            commitments: segments.iter().map(|segment| segment.commitment).collect(),
            blobs: segments.iter().map(|segment| self.vault.store_name(segment.place)).collect(),
            handed_to,
        })?;
        let origin = unborn.hand_over()?;
        let file = Arc::new(LiveFile {
            id: origin.keys.file(),
            kind: Kind::Run,
            origin,
            created: now,
            record: None,
            parts: Vec::new(),
            order: Vec::new(),
            segments,
            etag: String::new(),
            rent,
            claims: None,
            cut: Cut::default(),
            reservation,
            released: AtomicBool::new(false),
        });
        self.enroll(&file, era)?;
        Ok(file)
    }
}

impl Bench<'_> {
    /// The steps in order. A document step gets its input sealed and whole, and its output is
    /// sealed whole before anything reads it: neither a slow sender, nor a slow reader, nor another
    /// step keeps a worker from its end.
    async fn work(
        &mut self,
        plan: Plan,
        input: StepStream,
    ) -> Result<(&'static str, Between), PipelineError> {
        let mut media_type = "application/octet-stream";
        let mut between = Between::Flowing(input);
        let mut role = Role::Input;
        let mut turn = None;
        let mut steps = plan.into_steps().into_iter().peekable();
        while let Some(step) = steps.next() {
            let (needs_worker, judges) = (!step.streams(), step.judges());
            if let (true, Between::Flowing(stream)) = (needs_worker, &mut between) {
                between = Between::Resting(self.seal(role, stream).await?);
            }
            if needs_worker && turn.is_none() {
                turn = Some(self.turn().await?);
            }
            if judges
                && steps.peek().is_some()
                && let Between::Resting(segment) = between
            {
                // What it says is heard, and the step behind it gets what it got.
                heard(step.run(self.flow(Between::Resting(segment))).await?).await?;
                continue;
            }
            let approval = step.approval();
            let mut output = step.run(self.flow(between)).await?;
            media_type = output.media_type;
            role = Role::Intermediate;
            between = if needs_worker {
                let sealed = self.seal(Role::Output, &mut output.body).await?;
                // Its worker ends here: the next one may need the place.
                drop(output);
                Between::Resting(sealed)
            } else {
                Between::Flowing(output.body)
            };
            if let Some(approval) = approval
                && let Between::Resting(segment) = between
            {
                heard(approval.run(self.flow(Between::Resting(segment))).await?).await?;
                between = Between::Resting(segment);
            }
        }
        if let Between::Flowing(stream) = between {
            between = Between::Flowing(begun(stream).await?);
        }
        Ok((media_type, between))
    }

    async fn turn(&self) -> Result<Turn, PipelineError> {
        let turn = self.pipeline.turns.take(self.origin.tenant, Lane::Run);
        let turn = within(&*self.pipeline.clock, QUEUE_PATIENCE, turn).await;
        turn.ok_or_else(|| ProcessError::Overloaded.into())
    }

    fn flow(&self, between: Between) -> StepStream {
        match between {
            Between::Flowing(stream) => stream,
            Between::Resting(segment) => {
                let opened =
                    self.pipeline.vault.open(self.origin, &[segment], 0..segment.plain_bytes);
                Box::pin(opened.map(|item| item.map_err(ProcessError::from)))
            }
        }
    }

    /// Seals a stream to its end, and keeps a step's own error apart from the vault's.
    async fn seal(
        &mut self,
        role: Role,
        stream: &mut StepStream,
    ) -> Result<Segment, PipelineError> {
        let mut refused: Option<ProcessError> = None;
        let input = stream.by_ref().map(|item| {
            item.map_err(|error| {
                refused = Some(error);
                BodyError::Cut
            })
        });
        let index = u32::try_from(self.sealed.len()).unwrap_or(u32::MAX);
        let sealed = self.pipeline.vault.seal(self.origin, (role, index), input, None).await;
        match (sealed, refused) {
            (_, Some(error)) => Err(error.into()),
            (Err(error), None) => Err(error.into()),
            (Ok(segment), None) => {
                self.unborn.owns(&segment);
                self.quota
                    .grow(segment.plain_bytes, self.live_limit)
                    .map_err(|_| BodyError::Quota)?;
                self.sealed.push(segment);
                Ok(segment)
            }
        }
    }
}

/// Reads a verdict to its end: what it says otherwise is an error.
pub(super) async fn heard(mut verdict: Output) -> Result<(), ProcessError> {
    while verdict.body.next().await.transpose()?.is_some() {}
    Ok(())
}

/// A stream whose first bytes are there: what fails before them still gets a status.
async fn begun(mut stream: StepStream) -> Result<StepStream, ProcessError> {
    let first = stream.next().await.transpose()?;
    Ok(Box::pin(futures_util::stream::iter(first.map(Ok)).chain(stream)))
}

/// The measured body as a step's input. Its digest is checked when it has ended, before the step
/// learns that it has.
fn verified(intake: Intake) -> StepStream {
    Box::pin(futures_util::stream::try_unfold(Some(intake), |intake| async {
        let Some(mut intake) = intake else { return Ok(None) };
        match intake.next().await.transpose()? {
            Some(frame) => Ok(Some((frame, Some(intake)))),
            None => {
                intake.finish()?;
                Ok::<_, ProcessError>(None)
            }
        }
    }))
}

fn plain(output: StepStream) -> ByteStream {
    Box::pin(output.map(|item| item.map_err(|_| BodyError::Cut)))
}
