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
use crate::pipeline::pull::{Fetcher, MOST_FILES, Told};
use crate::pipeline::run::heard;
use crate::pipeline::upload::Unborn;
use crate::pipeline::{AnyJob, Pipeline, PipelineError, PutBack, Sealed};
use crate::policy::Terms;
use crate::problem::Slug;
use crate::process::{ProcessError, StepStream};
use crate::shred::Shredder;
use crate::table::{Era, Kind, LiveFile, Reservation, Segment, Stop, Wish};
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

/// A file that was fetched to be worked on: an intermediate like any other.
pub(super) struct Original(Intermediate);

impl Original {
    /// Everything was made of it that was ordered.
    pub fn was_read(&self) {
        self.0.read.store(true, Ordering::Relaxed);
    }
}

/// What a job does, one after the other, for its percent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Fetch,
    Steps,
    PutBack,
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

    pub const fn order(&self) -> &'a Order {
        self.order
    }

    pub const fn job(&self) -> &'a AnyJob {
        self.job
    }

    pub const fn era(&self) -> &'a Era {
        self.era
    }

    /// Fetches everything that is to be fetched: all of it, or nothing.
    pub async fn fetch(&self) -> Result<Vec<Sealed>, PipelineError> {
        let mut sealed = Vec::new();
        let pulls = &self.order.pulls;
        for (nth, pull) in pulls.iter().enumerate() {
            let fetcher = Fetcher {
                pipeline: self.pipeline,
                tenant: self.job.tenant,
                terms: self.terms,
                deadline: self.job.deadline,
                kind: if self.order.recipe.is_nothing() { Kind::File } else { Kind::Run },
                always_digest: self.order.always_digest && self.order.recipe.is_nothing(),
                told: self.told(Phase::Fetch, nth, pulls.len()),
            };
            sealed.extend(fetcher.fetch(pull, MOST_FILES - sealed.len()).await?);
        }
        Ok(sealed)
    }

    /// What was fetched, to be worked on.
    pub fn originals(&self, fetched: Vec<Sealed>) -> Result<Vec<Original>, PipelineError> {
        let mut originals = Vec::with_capacity(fetched.len());
        for mut sealed in fetched {
            sealed.handed_to.clone_from(&self.job.steps);
            let file = self.pipeline.publish(sealed)?;
            let (shredder, stop) = (self.pipeline.shredder.clone(), self.job.stop.clone());
            originals.push(Original(Intermediate { file, shredder, stop, read: Arc::default() }));
        }
        Ok(originals)
    }

    /// Puts files into a person's storage, one after the other.
    pub async fn put_back(
        &self,
        place: &PutBack,
        files: &[&Arc<LiveFile>],
    ) -> Result<(), PipelineError> {
        for (nth, file) in files.iter().enumerate() {
            let told = self.told(Phase::PutBack, nth, files.len());
            self.pipeline.put_back(place, file, told).await?;
        }
        Ok(())
    }

    /// Tells of the `nth` transfer of `of`.
    fn told(&self, phase: Phase, nth: usize, of: usize) -> Told {
        let (reporter, scale) = (self.reporter.clone(), self.scale(phase));
        Arc::new(move |bytes: u64, total: Option<u64>| {
            let part = total.and_then(|total| bytes.saturating_mul(100).checked_div(total));
            let part = (nth as u64 * 100 + part.unwrap_or(0).min(100)) / of.max(1) as u64;
            reporter.advance(Progress {
                step: None,
                bytes_in: bytes,
                bytes_total: total,
                percent: scale(part),
            });
        })
    }

    /// From the percent of one phase to that of the whole job: each phase there is counts alike.
    fn scale(&self, phase: Phase) -> impl Fn(u64) -> u8 + Send + Sync + use<> {
        let has = |phase: Phase| match phase {
            Phase::Fetch => !self.order.pulls.is_empty(),
            Phase::Steps => !self.order.recipe.is_nothing(),
            Phase::PutBack => self.order.deliver.is_some(),
        };
        let all: Vec<Phase> = [Phase::Fetch, Phase::Steps, Phase::PutBack]
            .into_iter()
            .filter(|phase| has(*phase))
            .collect();
        let before = all.iter().position(|one| *one == phase).unwrap_or(0) as u64;
        let of = all.len().max(1) as u64;
        move |part| u8::try_from((before * 100 + part.min(100)) / of).unwrap_or(100)
    }

    /// Runs every source through all steps: an output for each, or none at all.
    pub async fn carry_out(&self, originals: &[Original]) -> Result<Vec<Sealed>, PipelineError> {
        let fetched = originals.iter().map(|original| &original.0.file);
        let sources: Vec<_> = self.order.sources.iter().chain(fetched).collect();
        let mut outputs = Vec::with_capacity(sources.len());
        for (nth, source) in sources.iter().enumerate() {
            outputs.push(self.process((nth, sources.len()), source).await?);
        }
        Ok(outputs)
    }

    async fn process(
        &self,
        nth: (usize, usize),
        source: &Arc<LiveFile>,
    ) -> Result<Sealed, PipelineError> {
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
    fn flow(&self, between: Between, (nth, of): (usize, usize), at: usize) -> StepStream {
        let (file, intermediate) = match between {
            Between::Flowing(stream) => return stream,
            Between::Source(file) => (file, None),
            Between::Intermediate(own) => (own.file.clone(), Some(own)),
        };
        let (total, mut seen) = (file.size(), 0);
        let steps = self.job.steps.len().max(1);
        let (parts, done) = (steps * of, nth * steps + at);
        let (reporter, scale) = (self.reporter.clone(), self.scale(Phase::Steps));
        let report = move |seen: u64| {
            let part = seen.saturating_mul(100).checked_div(total).unwrap_or(0).min(100);
            reporter.advance(Progress {
                step: Some(at),
                bytes_in: seen,
                bytes_total: Some(total),
                percent: scale((done as u64 * 100 + part) / parts as u64),
            });
        };
        report(0);
        let opened = self.pipeline.vault.open_file(&file, 0..total);
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
        let (parts, order, segments) = (Vec::new(), Vec::new(), vec![segment]);
        let kind = Kind::File;
        Ok(Sealed {
            kind,
            unborn,
            era,
            created,
            parts,
            order,
            segments,
            record,
            downloads,
            taken,
            handed_to,
            accepted: false,
        })
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
