//! The gateway's side of a document step: feeds a worker, and believes none of its answers.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::{BoxFuture, Either, select};
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroizing;

use super::feed::Feed;
use super::frame::{MAX_REQUEST, Request};
use super::options::{Setting, schema};
use super::{Description, Options, Output, ProcessError, Processor, Step, StepStream};
use crate::body::Pool;
use crate::clock::{Clock, within};
use crate::jail::{Jail, Leash, Limits};
use crate::problem::Slug;

mod answer;
use answer::{Answers, Frame};

/// Where document steps run, and what they may use.
#[derive(Clone)]
pub struct DocumentRoom {
    pub jail: Arc<Jail>,
    /// Buffers for the output.
    pub pool: Arc<Pool>,
    pub clock: Arc<dyn Clock>,
    pub limits: Limits,
    /// The largest document a step reads whole, bytes.
    pub max_document: u64,
}

/// 128 MiB: a scanned book fits, and its worker still has three times as much for its own use.
pub const MAX_DOCUMENT: u64 = 128 << 20;

/// What sets one document step apart from another on this side.
pub(super) struct DocumentKind {
    pub name: &'static str,
    pub media_types: &'static [&'static str],
    pub settings: &'static [Setting],
    /// The beginning of a document suffices, at most this many bytes; `None`: the whole is read.
    pub prefix: Option<u64>,
}

/// A processor whose work is done by a worker.
pub(super) struct DocumentProcessor {
    room: DocumentRoom,
    kind: &'static DocumentKind,
    description: Description,
}

impl DocumentProcessor {
    pub(super) fn new(room: DocumentRoom, kind: &'static DocumentKind) -> Self {
        let media_types = kind.media_types.to_vec();
        let options = schema(kind.settings);
        Self {
            room,
            kind,
            description: Description { name: kind.name.to_owned(), media_types, options },
        }
    }
}

impl Processor for DocumentProcessor {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn prepare(&self, options: &Options) -> Result<Box<dyn Step>, ProcessError> {
        let chosen = options.read(self.kind.settings)?;
        let options_read = chosen.into_iter().map(|(name, value)| (name.to_owned(), value));
        let request = Request {
            step: self.kind.name.to_owned(),
            options: options_read.collect(),
            password: options.password.as_ref().map(|password| password.expose().to_owned()),
            prefix: self.kind.prefix.is_some(),
            ..Request::default()
        };
        Ok(Box::new(DocumentStep::new(self.room.clone(), request, self.kind.prefix)?))
    }
}

/// One document on its way through one worker.
pub(super) struct DocumentStep {
    room: DocumentRoom,
    request: Zeroizing<Vec<u8>>,
    prefix: Option<u64>,
    /// Its output leaves while its input still comes; holds what its place costs.
    streams: Option<Arc<Semaphore>>,
}

impl DocumentStep {
    pub(super) fn new(
        room: DocumentRoom,
        mut request: Request,
        prefix: Option<u64>,
    ) -> Result<Self, ProcessError> {
        if request.max_document == 0 {
            request.max_document = prefix.unwrap_or(room.max_document);
        }
        request.max_output = room.limits.output_bytes;
        let json = serde_json::to_vec(&request).map(Zeroizing::new);
        if let Some(password) = request.password {
            drop(Zeroizing::new(password));
        }
        match json {
            Ok(json) if json.len() <= MAX_REQUEST => {
                let len = u32::try_from(json.len()).unwrap_or(u32::MAX);
                let mut framed = Zeroizing::new(Vec::with_capacity(4 + json.len()));
                framed.extend_from_slice(&len.to_le_bytes());
                framed.extend_from_slice(&json);
                Ok(Self { room, request: framed, prefix, streams: None })
            }
            _ => Err(ProcessError::because(Slug::BadOption, "the options are too long")),
        }
    }

    /// A step whose input may be of any length and whose output leaves meanwhile. It works at the
    /// pace of whoever sends and reads, so only `places` of the workers are for such steps.
    pub(super) fn streaming(
        mut room: DocumentRoom,
        request: Request,
        places: Arc<Semaphore>,
    ) -> Result<Self, ProcessError> {
        let max_document = room.max_document;
        room.max_document = u64::MAX;
        let mut step = Self::new(room, Request { max_document, ..request }, None)?;
        step.streams = Some(places);
        Ok(step)
    }
}

#[async_trait]
impl Step for DocumentStep {
    fn streams(&self) -> bool {
        self.streams.is_some()
    }

    async fn run(self: Box<Self>, input: StepStream) -> Result<Output, ProcessError> {
        let Self { room, request, prefix, streams } = *self;
        let place = match streams {
            Some(places) => {
                let place = within(&*room.clock, room.limits.patience, places.acquire_owned());
                Some(place.await.and_then(Result::ok).ok_or(ProcessError::Overloaded)?)
            }
            None => None,
        };
        let worker = room.jail.spawn(&room.limits).await?;
        let feed = Feed {
            stdin: Some(worker.stdin),
            left: prefix.unwrap_or(room.max_document),
            whole: prefix.is_none(),
            limit: room.max_document,
            patience: room.limits.wall,
            clock: room.clock.clone(),
        };
        let output_bytes = room.limits.output_bytes;
        let mut talk = Talk {
            feeding: Some(Box::pin(feed.run(request, input))),
            answers: Answers::new(worker.stdout, room.pool, room.clock, output_bytes),
            leash: worker.leash,
            _jail: room.jail,
            _place: place,
        };
        let Frame::Head(media_type) = talk.next().await? else {
            return Err(ProcessError::refused(Slug::DocumentDamaged));
        };
        let body = stream::try_unfold(talk, |mut talk| async move {
            Ok(talk.piece().await?.map(|bytes| (bytes, talk)))
        });
        Ok(Output { media_type: media_type.as_str(), body: Box::pin(body) })
    }
}

/// The conversation with one worker. Dropping it kills the worker.
struct Talk {
    feeding: Option<BoxFuture<'static, Result<(), ProcessError>>>,
    answers: Answers,
    leash: Leash,
    /// A jail that goes takes its workers with it.
    _jail: Arc<Jail>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Talk {
    /// The next frame, feeding the worker meanwhile: it may answer before it has read all, or
    /// read all before it answers.
    async fn next(&mut self) -> Result<Frame, ProcessError> {
        loop {
            let Some(feeding) = &mut self.feeding else { return self.answers.next().await };
            let fed = {
                let answer = std::pin::pin!(self.answers.next());
                // Feeding first: an input that broke wins over what becomes of half of it.
                match select(feeding, answer).await {
                    Either::Left((fed, _)) => fed,
                    Either::Right((frame, _)) => return frame,
                }
            };
            self.fed(fed)?;
        }
    }

    /// The next piece of output; `None` after the last, when the input has ended well too.
    async fn piece(&mut self) -> Result<Option<Bytes>, ProcessError> {
        match self.next().await? {
            Frame::Data(bytes) => Ok(Some(bytes)),
            Frame::End => {
                if let Some(feeding) = &mut self.feeding {
                    let fed = feeding.await;
                    self.fed(fed)?;
                }
                Ok(None)
            }
            Frame::Head(_) => Err(ProcessError::refused(Slug::DocumentDamaged)),
        }
    }

    fn fed(&mut self, fed: Result<(), ProcessError>) -> Result<(), ProcessError> {
        self.feeding = None;
        // From here on every second is the worker's own.
        self.leash.start_timer();
        fed
    }
}
