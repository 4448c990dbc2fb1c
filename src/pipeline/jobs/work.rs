//! One job at work: from sealed sources by way of sealed intermediates to sealed outputs.
//!
//! A document step reads what rests, and leaves what rests. Steps that stream hand their bytes
//! straight on. An intermediate has keys and a receipt of its own, and dies as soon as the step
//! after it has read it, or the job is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt;

use super::Order;
use crate::body::BodyError;
use crate::file::{Reason, Role, TenantId};
use crate::intake::{Algorithm, Digester, Taken, output_name};
use crate::job::{Progress, Reporter};
use crate::pipeline::run::heard;
use crate::pipeline::upload::Unborn;
use crate::pipeline::{AnyJob, Pipeline, PipelineError, Sealed};
use crate::policy::Terms;
use crate::problem::Slug;
use crate::process::{ProcessError, StepStream};
use crate::shred::Shredder;
use crate::table::{Era, LiveFile, Reservation, Segment, Stop, Wish};
use crate::vault::Record;

/// Everything one job's work needs.
pub(super) struct Workbench<'a> {
    pipeline: &'a Pipeline,
    job: &'a AnyJob,
    terms: &'a Terms,
    era: &'a Era,
    order: &'a Order,
    reporter: Reporter,
}

/// What flows between two steps.
enum Between {
    Flowing(StepStream),
    Source(Arc<LiveFile>),
    Intermediate(Intermediate),
}

impl Between {
    /// The file it rests in, unless it still flows.
    fn at_rest(&self) -> Option<Arc<LiveFile>> {
        match self {
            Self::Flowing(_) => None,
            Self::Source(file) => Some(file.clone()),
            Self::Intermediate(own) => Some(own.file.clone()),
        }
    }
}

/// A sealed intermediate. Dropped, it is shredded.
struct Intermediate {
    file: Arc<LiveFile>,
    shredder: Shredder,
    stop: Stop,
    read: Arc<AtomicBool>,
}

impl Drop for Intermediate {
    fn drop(&mut self) {
        let reason = match self.stop.asked() {
            _ if self.read.load(Ordering::Relaxed) => Reason::Consumed,
            Some(Wish::Cancel) => Reason::Cancelled,
            Some(Wish::Expire) => Reason::Expired,
            None => Reason::Failed,
        };
        self.shredder.shred(&self.file, reason);
    }
}

/// Sealed, and not yet known to anybody.
struct Draft {
    unborn: Unborn,
    segment: Segment,
    reservation: Reservation,
    digester: Digester,
}

impl<'a> Workbench<'a> {
    pub fn new(
        pipeline: &'a Pipeline,
        job: &'a AnyJob,
        (terms, era): (&'a Terms, &'a Era),
        order: &'a Order,
        reporter: Reporter,
    ) -> Self {
        Self { pipeline, job, terms, era, order, reporter }
    }

    pub const fn tenant(&self) -> TenantId {
        self.job.tenant
    }

    /// Runs every source through all steps: an output for each, or none at all.
    pub async fn carry_out(&self) -> Result<Vec<Sealed>, PipelineError> {
        let mut outputs = Vec::with_capacity(self.order.sources.len());
        for (nth, source) in self.order.sources.iter().enumerate() {
            outputs.push(self.process(nth, source).await?);
        }
        Ok(outputs)
    }

    async fn process(&self, nth: usize, source: &Arc<LiveFile>) -> Result<Sealed, PipelineError> {
        let mut steps = self.order.recipe.plan()?.into_steps().into_iter().enumerate().peekable();
        let mut between = Between::Source(source.clone());
        while let Some((at, step)) = steps.next() {
            let (needs_worker, judges) = (!step.streams(), step.judges());
            if let (true, Between::Flowing(stream)) = (needs_worker, &mut between) {
                between = Between::Intermediate(self.intermediate(source, stream).await?);
            }
            if judges
                && steps.peek().is_some()
                && let Some(file) = between.at_rest()
            {
                // What it says is heard, and the step behind it gets what it got.
                heard(step.run(self.flow(Between::Source(file), nth, at)).await?).await?;
                continue;
            }
            let approval = step.approval();
            let mut output = step.run(self.flow(between, nth, at)).await?;
            if let Some(approval) = approval {
                let media_type = String::from(output.media_type);
                let rests = self.intermediate(source, &mut output.body).await?;
                // Its worker ends here: the next one may need the place.
                drop(output);
                let input = self.flow(Between::Source(rests.file.clone()), nth, at);
                heard(approval.run(input).await?).await?;
                if steps.peek().is_none() {
                    let stream = self.flow(Between::Intermediate(rests), nth, at);
                    return self.output(source, media_type, stream).await;
                }
                between = Between::Intermediate(rests);
                continue;
            }
            if steps.peek().is_none() {
                return self.output(source, String::from(output.media_type), output.body).await;
            }
            between = if needs_worker {
                Between::Intermediate(self.intermediate(source, &mut output.body).await?)
            } else {
                Between::Flowing(output.body)
            };
        }
        Err(ProcessError::refused(Slug::UnknownStep).into())
    }

    /// A step's input. What rests is told of while it is read.
    fn flow(&self, between: Between, nth: usize, at: usize) -> StepStream {
        let (file, intermediate) = match between {
            Between::Flowing(stream) => return stream,
            Between::Source(file) => (file, None),
            Between::Intermediate(own) => (own.file.clone(), Some(own)),
        };
        let (total, mut seen) = (file.size(), 0);
        let steps = self.job.steps.len().max(1);
        let (parts, done) = (steps * self.order.sources.len(), nth * steps + at);
        let reporter = self.reporter.clone();
        let report = move |seen: u64| {
            let part = seen.saturating_mul(100).checked_div(total).unwrap_or(0).min(100);
            let percent = (done as u64 * 100 + part) / parts as u64;
            reporter.advance(Progress {
                step: Some(at),
                bytes_in: seen,
                bytes_total: Some(total),
                percent: u8::try_from(percent).unwrap_or(100),
            });
        };
        report(0);
        let opened = self.pipeline.vault.open(&file.origin, &file.segments, 0..total);
        Box::pin(opened.map(move |item| {
            let bytes = item?;
            seen += bytes.len() as u64;
            report(seen);
            if let Some(own) = intermediate.as_ref().filter(|_| seen == total) {
                own.read.store(true, Ordering::Relaxed);
            }
            Ok(bytes)
        }))
    }

    async fn intermediate(
        &self,
        source: &LiveFile,
        stream: &mut StepStream,
    ) -> Result<Intermediate, PipelineError> {
        let created = self.pipeline.clock.now();
        let draft = self.seal(source, Role::Intermediate, stream).await?;
        let Draft { unborn, segment, reservation, .. } = draft;
        let handed_to = self.job.steps.clone();
        let file = self.pipeline.announce(
            (unborn, self.era),
            created,
            vec![segment],
            reservation,
            handed_to,
        )?;
        let (shredder, stop) = (self.pipeline.shredder.clone(), self.job.stop.clone());
        Ok(Intermediate { file, shredder, stop, read: Arc::default() })
    }

    async fn output(
        &self,
        source: &Arc<LiveFile>,
        media_type: String,
        mut stream: StepStream,
    ) -> Result<Sealed, PipelineError> {
        let created = self.pipeline.clock.now();
        let draft = self.seal(source, Role::Output, &mut stream).await?;
        let named = self.pipeline.record(source)?;
        let name = named.name.as_deref().map(|name| output_name(name, &media_type));
        let Draft { unborn, segment, reservation, digester } = draft;
        let digests = digester.found();
        let record = Record { name, media_type, declared_media_type: None, digests };
        let (bytes, digester) = (segment.plain_bytes, Digester::default());
        let taken = Taken { bytes, head: Vec::new(), reservation, digester };
        let handed_to = self.job.steps.clone();
        let (era, downloads) = (self.era.clone(), None);
        Ok(Sealed { unborn, era, created, segment, record, downloads, taken, handed_to })
    }

    /// Seals a stream to its end under keys of its own, which live no longer than the source's.
    async fn seal(
        &self,
        source: &LiveFile,
        role: Role,
        stream: &mut StepStream,
    ) -> Result<Draft, PipelineError> {
        let mut unborn = self.conceive(source)?;
        let mut reservation = self.pipeline.quotas.open(self.job.tenant);
        let mut digester = Digester::default();
        if role == Role::Output && self.order.always_digest {
            digester.compute(Algorithm::Sha256);
        }
        let (mut refused, mut bytes) = (None, 0);
        let (limit, live_limit) = (self.terms.max_bytes, self.terms.max_live_bytes);
        let input = stream.by_ref().map(|item| {
            let frame = item.map_err(|error: ProcessError| {
                refused = Some(error);
                BodyError::Cut
            })?;
            let more = frame.len() as u64;
            bytes += more;
            if bytes > limit {
                return Err(BodyError::TooLarge { limit });
            }
            reservation.grow(more, live_limit).map_err(|_| BodyError::Quota)?;
            digester.update(&frame);
            Ok(frame)
        });
        let sealed = self.pipeline.vault.seal(unborn.origin()?, (role, 0), input, None).await;
        if let Some(error) = refused {
            return Err(error.into());
        }
        let segment = sealed?;
        unborn.owns(&segment);
        digester.check()?;
        Ok(Draft { unborn, segment, reservation, digester })
    }

    /// Keys under the source's epoch and deadline (VAULT.md, "Time"), shortened as far as the
    /// source's life or the job's is by now.
    fn conceive(&self, source: &LiveFile) -> Result<Unborn, PipelineError> {
        let (now, origin) = (self.pipeline.clock.now(), &source.origin);
        let alive = origin.keys.deadline().ok_or(PipelineError::Expired)?;
        let unborn = self.pipeline.cradle(self.job.tenant, origin.region, origin.deadline)?;
        let left = alive.left(now).min(self.job.deadline.left(now));
        if left < origin.deadline.left(now) {
            let shortened = unborn.origin()?.keys.shorten(now, left);
            shortened.map_err(|_| PipelineError::Expired)?;
        }
        Ok(unborn)
    }
}
