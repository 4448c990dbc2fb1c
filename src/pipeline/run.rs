//! Bytes in, result out, nothing left behind: a processing request without a file.
//!
//! A run has keys and a receipt like a file. Streaming steps hand their output straight on;
//! document steps' output is sealed until it is complete, so that a failure still has a status.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;

use super::upload::Unborn;
use super::{Pipeline, PipelineError};
use crate::body::{BodyError, ByteStream};
use crate::clock::within;
use crate::deliver::Delivery;
use crate::file::{FileId, Reason, Role, TenantId};
use crate::intake::{Digester, Intake};
use crate::policy::Terms;
use crate::process::{Plan, ProcessError, StepStream};
use crate::receipt::Acceptance;
use crate::table::{Cut, Kind, LiveFile, Segment};
use crate::vault::Sealing;

/// A processing request.
pub struct Job {
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

impl Pipeline {
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
        let (now, deadline) = (self.clock.now(), self.deadline(terms)?);
        let id = FileId::draw(&*self.entropy)?;
        let mut unborn = Unborn::new(self.shredder.clone(), self.keys.create(id, deadline)?);
        let reservation = self.quotas.open(tenant);
        let (limits, clock) = (self.limits(terms), self.clock.clone());
        let intake = Intake::new(job.input, &limits, reservation, job.digester, clock);
        let streams = job.plan.streams();
        let work = async {
            let output = job.plan.run(verified(intake)).await?;
            if streams {
                return Ok((output.media_type, None, Some(plain(output.body))));
            }
            let keys = unborn.keys()?;
            let (region, role) = (terms.region, Role::Output);
            let sealing = Sealing { keys, tenant, region, deadline, role, index: 0 };
            let segment = self.collect(sealing, output.body).await?;
            Ok::<_, PipelineError>((output.media_type, Some(segment), None))
        };
        let Some(done) = within(&*self.clock, deadline.left(now), work).await else {
            unborn.reason = Reason::Expired;
            return Err(PipelineError::Expired);
        };
        let (media_type, segment, live) = done?;
        if let Some(segment) = &segment {
            unborn.owns(segment);
        }
        let segments: Vec<Segment> = segment.into_iter().collect();
        self.evidence.accept(Acceptance {
            file: id,
            tenant,
            region: terms.region,
            accepted_at: now.wall,
            expires_at: deadline.expires_at(),
            commitments: segments.iter().map(|segment| segment.commitment).collect(),
            blobs: segments.iter().map(|segment| self.vault.store_name(segment.place)).collect(),
            handed_to: job.steps,
        })?;
        let file = Arc::new(LiveFile {
            id,
            kind: Kind::Run,
            tenant,
            region: terms.region,
            created: now,
            sealed_deadline: deadline,
            keys: unborn.hand_over()?,
            record: None,
            segments,
            etag: String::new(),
            claims: None,
            cut: Cut::default(),
            reservation: self.quotas.open(tenant),
        });
        if self.table.insert(file.clone()).is_err() {
            self.shredder.shred(&file, Reason::Expired);
            return Err(PipelineError::Expired);
        }
        let bytes = live.is_none().then(|| file.size());
        let body = live.unwrap_or_else(|| self.vault.open(&file, 0..file.size()));
        let shredder = self.shredder.clone();
        let when_ended = Box::new(move |file: &Arc<LiveFile>, whole: bool| {
            shredder.shred(file, if whole { Reason::Consumed } else { Reason::Cancelled });
        });
        Ok(Ran { id, media_type, bytes, body: Delivery::new(file, body, bytes, None, when_ended) })
    }

    /// Seals a document step's output to its end, and keeps the step's own error apart from the
    /// vault's.
    async fn collect(
        &self,
        sealing: Sealing<'_>,
        output: StepStream,
    ) -> Result<Segment, PipelineError> {
        let refused: Arc<Mutex<Option<ProcessError>>> = Arc::default();
        let note = refused.clone();
        let input = output.map(move |item| {
            item.map_err(|error| {
                *note.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                BodyError::Cut
            })
        });
        let sealed = self.vault.seal(sealing, input, None).await;
        let refused = *refused.lock().unwrap_or_else(PoisonError::into_inner);
        match (sealed, refused) {
            (_, Some(error)) => Err(error.into()),
            (sealed, None) => Ok(sealed?),
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
