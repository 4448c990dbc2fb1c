//! Bytes in, result out, nothing left behind: a processing request without a file.
//!
//! A run has keys and a receipt like a file. Streaming steps hand their output straight on.
//! Document steps read their input from the vault and leave their output there, so that a failure
//! still has a status, and no client's pace decides how long a worker lives.

use std::sync::Arc;

use futures_util::StreamExt;
use tokio::sync::OwnedSemaphorePermit;

use super::upload::Unborn;
use super::{Pipeline, PipelineError};
use crate::body::{BodyError, ByteStream};
use crate::budget::PATIENCE;
use crate::clock::{Now, within};
use crate::deliver::Delivery;
use crate::file::{FileId, Reason, Role, TenantId};
use crate::intake::{Digester, Intake};
use crate::policy::Terms;
use crate::process::{Plan, ProcessError, StepStream};
use crate::receipt::Acceptance;
use crate::table::{Cut, Kind, LiveFile, Origin, Segment};
use crate::vault::Vault;

/// A processing request.
pub struct Job {
    pub input: ByteStream,
    pub digester: Digester,
    pub plan: Plan,
    /// The steps' names, for the receipt.
    pub steps: Vec<String>,
    pub place: Place,
}

/// A run's place in the queue for workers, held until its steps are done.
pub struct Place {
    _until_done: Option<OwnedSemaphorePermit>,
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
    vault: &'a Arc<Vault>,
    origin: &'a Origin,
    /// Everything sealed on the way, to be released with the keys.
    sealed: Vec<Segment>,
}

impl Pipeline {
    /// A place in the queue, which only a plan with document steps needs. Asked for before the body
    /// is read.
    ///
    /// # Errors
    /// When the queue stays full.
    pub async fn queue(&self, needs_worker: bool) -> Result<Place, PipelineError> {
        if !needs_worker {
            return Ok(Place { _until_done: None });
        }
        let place = within(&*self.clock, PATIENCE, self.queue.clone().acquire_owned()).await;
        match place {
            Some(Ok(place)) => Ok(Place { _until_done: Some(place) }),
            Some(Err(_)) | None => Err(ProcessError::Overloaded.into()),
        }
    }

    /// Runs the steps on a body.
    ///
    /// # Errors
    /// The body's error, a step's refusal, or that of keys, memory or store.
    pub async fn run(
        &self,
        tenant: TenantId,
        terms: &Terms,
        job: Job,
    ) -> Result<Ran, PipelineError> {
        let now = self.clock.now();
        let mut unborn = self.conceive(tenant, terms, now)?;
        let (limits, quota) = (self.limits(terms), self.quotas.open(tenant));
        let intake = Intake::new(job.input, &limits, quota, job.digester, self.clock.clone());
        let origin = unborn.origin()?.clone();
        let mut bench = Bench { vault: &self.vault, origin: &origin, sealed: Vec::new() };
        let work = bench.work(job.plan, verified(intake));
        let done = within(&*self.clock, origin.deadline.left(now), work).await;
        bench.sealed.iter().for_each(|segment| unborn.owns(segment));
        let sealed = bench.sealed;
        let Some(done) = done else {
            unborn.reason = Reason::Expired;
            return Err(PipelineError::Expired);
        };
        let (media_type, result) = done?;
        drop(job.place);
        let file = self.announce(unborn, now, sealed, job.steps)?;
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
        Ok(Ran { id, media_type, bytes, body: Delivery::new(file, body, bytes, None, when_ended) })
    }

    /// Gives the run a receipt, and its keys a place where the sweeper finds them.
    fn announce(
        &self,
        unborn: Unborn,
        now: Now,
        segments: Vec<Segment>,
        handed_to: Vec<String>,
    ) -> Result<Arc<LiveFile>, PipelineError> {
        let origin = unborn.origin()?;
        self.evidence.accept(Acceptance {
            file: origin.keys.file(),
            tenant: origin.tenant,
            region: origin.region,
            accepted_at: now.wall,
            expires_at: origin.deadline.expires_at(),
            keyring: origin.keys.keeper(),
            commitments: segments.iter().map(|segment| segment.commitment).collect(),
            blobs: segments.iter().map(|segment| self.vault.store_name(segment.place)).collect(),
            handed_to,
        })?;
        let reservation = self.quotas.open(origin.tenant);
        let origin = unborn.hand_over()?;
        let file = Arc::new(LiveFile {
            id: origin.keys.file(),
            kind: Kind::Run,
            origin,
            created: now,
            record: None,
            segments,
            etag: String::new(),
            claims: None,
            cut: Cut::default(),
            reservation,
        });
        if self.table.insert(file.clone()).is_err() {
            self.shredder.shred(&file, Reason::Expired);
            return Err(PipelineError::Expired);
        }
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
        for step in plan.into_steps() {
            let needs_worker = !step.streams();
            if let (true, Between::Flowing(stream)) = (needs_worker, &mut between) {
                between = Between::Resting(self.seal(role, stream).await?);
            }
            let mut output = step.run(self.flow(between)).await?;
            media_type = output.media_type;
            role = Role::Intermediate;
            between = if needs_worker {
                Between::Resting(self.seal(Role::Output, &mut output.body).await?)
            } else {
                Between::Flowing(output.body)
            };
        }
        Ok((media_type, between))
    }

    fn flow(&self, between: Between) -> StepStream {
        match between {
            Between::Flowing(stream) => stream,
            Between::Resting(segment) => {
                let opened = self.vault.open(self.origin, &[segment], 0..segment.plain_bytes);
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
        let sealed = self.vault.seal(self.origin, (role, index), input, None).await;
        match (sealed, refused) {
            (_, Some(error)) => Err(error.into()),
            (Err(error), None) => Err(error.into()),
            (Ok(segment), None) => {
                self.sealed.push(segment);
                Ok(segment)
            }
        }
    }
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
