//! `http`: a service of the operator's in the same region, as a streaming proxy.
//!
//! Bytes go on while they come in, and its answer comes back while it is made: each side waits for
//! the other by the connection's own pressure, and nothing is stored. Whose turn it is decides
//! whose time runs: a slow client never looks like a slow service. What the service says in a
//! failure reaches nobody.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use futures_util::future::{Either, select};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use http::{Request, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

use super::own::{Means, plain};
use super::{Description, Options, Output, ProcessError, Processor, Step, StepStream};
use crate::body::{BodyError, Pool};
use crate::budget::Permit;
use crate::clock::{Boot, Clock};
use crate::egress::{Answer, Egress, EgressError, Origin, Patience, Reach};
use crate::entropy::{Entropy, random};
use crate::problem::Slug;

/// A service, and how it wants to be asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    pub name: String,
    pub origin: Origin,
    /// The path, from its `/` on.
    pub path: String,
    pub method: Method,
    /// Where the service wants a form with a file in it.
    pub form: Option<Form>,
    /// Of its answer.
    pub media_type: &'static str,
    /// Of what it reads; empty for anything.
    pub accepts: Vec<&'static str>,
    /// How long it may keep everybody waiting.
    pub stall: Duration,
    /// The longest answer, bytes.
    pub output_bytes: u64,
}

/// How the body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Post,
    Put,
}

/// `multipart/form-data` with one file in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    pub field: String,
    /// The service may tell the type by it. Never the client's own name for the file.
    pub filename: String,
}

/// What the connection's two directions hold on their way.
const MEMORY: usize = 1 << 20;

/// Our own clock decides, by whose turn it is: this is longer than any file lives.
const NO_HURRY: Duration = Duration::from_hours(24);

/// The `http` processor.
pub(super) struct UpstreamProcessor {
    description: Description,
    call: Call,
}

#[derive(Clone)]
struct Call {
    upstream: Arc<Upstream>,
    egress: Egress,
    entropy: Arc<dyn Entropy>,
    pool: Arc<Pool>,
    clock: Arc<dyn Clock>,
}

impl UpstreamProcessor {
    pub(super) fn new(upstream: Upstream, means: &Means) -> Self {
        let description = plain(&upstream.name, &upstream.accepts);
        let call = Call {
            upstream: Arc::new(upstream),
            egress: means.egress.clone(),
            entropy: means.entropy.clone(),
            pool: means.room.pool.clone(),
            clock: means.room.clock.clone(),
        };
        Self { description, call }
    }
}

impl Processor for UpstreamProcessor {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn prepare(&self, options: &Options) -> Result<Box<dyn Step>, ProcessError> {
        options.read(&[])?;
        Ok(Box::new(self.call.clone()))
    }
}

#[async_trait]
impl Step for Call {
    fn streams(&self) -> bool {
        true
    }

    async fn run(self: Box<Self>, input: StepStream) -> Result<Output, ProcessError> {
        let permit = self.pool.budget().acquire(MEMORY, &*self.clock).await;
        let permit = permit.map_err(|_| ProcessError::Overloaded)?;
        let turns = Turns::new(self.clock.clone(), self.upstream.stall);
        let request = self.request(Sent { input, turns: turns.clone() })?;
        let patience = Patience { head: NO_HURRY, stall: NO_HURRY };
        let sent = self.egress.send(Reach::Operator, &self.upstream.origin, request, patience);
        let answer = turns.wait(sent).await?.map_err(|error| turns.blame(error))?;
        turns.broken_input()?;
        let encoded = answer.headers().contains_key(header::CONTENT_ENCODING);
        match answer.status() {
            StatusCode::OK if !encoded => {}
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                return Err(ProcessError::refused(Slug::UnsupportedMediaType));
            }
            // A redirect too: plaintext goes where the settings say, and nowhere else.
            _ => return Err(ProcessError::refused(Slug::UpstreamFailed)),
        }
        let (media_type, left) = (self.upstream.media_type, self.upstream.output_bytes);
        let reply = Reply { body: answer.into_body(), turns, left, _permit: permit };
        let body = stream::try_unfold(reply, |mut reply| async move {
            Ok(reply.next().await?.map(|bytes| (bytes, reply)))
        });
        Ok(Output { media_type, body: Box::pin(body) })
    }
}

impl Call {
    fn request(&self, sent: Sent) -> Result<Request<crate::egress::Outgoing>, ProcessError> {
        let method = match self.upstream.method {
            Method::Post => http::Method::POST,
            Method::Put => http::Method::PUT,
        };
        let path = if self.upstream.path.is_empty() { "/" } else { &self.upstream.path };
        let request = Request::builder().method(method).uri(path);
        let request = request.header(header::ACCEPT, self.upstream.media_type);
        let (kind, body): (_, Sending) = match &self.upstream.form {
            None => ("application/octet-stream".to_owned(), Box::pin(sent)),
            Some(form) => {
                // Drawn afresh: no document can hold it, and end its own part with it.
                let drawn = random::<16>(&*self.entropy).map_err(|_| ProcessError::Overloaded)?;
                let mark = HEXLOWER.encode(&drawn);
                let (head, tail) = form.around(&mark);
                let whole = stream::iter([Ok(head)]).chain(sent).chain(stream::iter([Ok(tail)]));
                (format!("multipart/form-data; boundary={mark}"), Box::pin(whole))
            }
        };
        let body = StreamBody::new(body.map_ok(Frame::data));
        let request = request.header(header::CONTENT_TYPE, kind).body(body.boxed_unsync());
        request.map_err(|_| ProcessError::Failed)
    }
}

type Sending = Pin<Box<dyn Stream<Item = Result<Bytes, BodyError>> + Send>>;

impl Form {
    /// What stands before and behind the file.
    fn around(&self, mark: &str) -> (Bytes, Bytes) {
        let head = format!(
            "--{mark}\r\ncontent-disposition: form-data; name=\"{}\"; filename=\"{}\"\r\n\
             content-type: application/octet-stream\r\n\r\n",
            self.field, self.filename
        );
        (head.into(), format!("\r\n--{mark}--\r\n").into())
    }
}

/// Whose turn it is, and how the input has ended.
#[derive(Clone)]
struct Turns {
    clock: Arc<dyn Clock>,
    stall: Duration,
    state: Arc<Mutex<State>>,
}

struct State {
    /// Since when the service is waited for; `None` while the client is.
    upstream_since: Option<Boot>,
    input_ended: bool,
    input_error: Option<ProcessError>,
}

impl Turns {
    fn new(clock: Arc<dyn Clock>, stall: Duration) -> Self {
        let state =
            State { upstream_since: Some(clock.now().boot), input_ended: false, input_error: None };
        Self { clock, stall, state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the service as long as it may keep us waiting; `upstream-timeout` beyond.
    async fn wait<F: Future>(&self, work: F) -> Result<F::Output, ProcessError> {
        let began = self.clock.now().boot;
        let mut work = std::pin::pin!(work);
        loop {
            let now = self.clock.now().boot;
            // Only waits of ours count: a reader who comes back late finds it with all its time.
            let since = self.state().upstream_since.map(|since| since.max(began));
            let left =
                since.map_or(self.stall, |since| self.stall.saturating_sub(now.since(since)));
            if left.is_zero() {
                self.broken_input()?;
                return Err(ProcessError::refused(Slug::UpstreamTimeout));
            }
            match select(work, self.clock.sleep(left)).await {
                Either::Left((done, _)) => return Ok(done),
                Either::Right(((), again)) => work = again,
            }
        }
    }

    /// An input that broke wins over whatever the service made of its beginning.
    fn broken_input(&self) -> Result<(), ProcessError> {
        self.state().input_error.map_or(Ok(()), Err)
    }

    fn blame(&self, error: EgressError) -> ProcessError {
        let slug = match error {
            EgressError::Timeout => Slug::UpstreamTimeout,
            EgressError::TooLong => Slug::ProcessorLimit,
            EgressError::Forbidden
            | EgressError::Unreachable
            | EgressError::Tls
            | EgressError::Cut => Slug::UpstreamFailed,
        };
        self.broken_input().err().unwrap_or(ProcessError::refused(slug))
    }
}

/// The input on its way to the service.
struct Sent {
    input: StepStream,
    turns: Turns,
}

impl Stream for Sent {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.input.poll_next_unpin(context);
        let now = self.turns.clock.now().boot;
        let mut state = self.turns.state();
        state.upstream_since = polled.is_ready().then_some(now);
        match polled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(bytes))) => Poll::Ready(Some(Ok(bytes))),
            Poll::Ready(Some(Err(error))) => {
                state.input_error = Some(error);
                Poll::Ready(Some(Err(BodyError::Cut)))
            }
            Poll::Ready(None) => {
                state.input_ended = true;
                Poll::Ready(None)
            }
        }
    }
}

/// The service's answer on its way back.
struct Reply {
    body: Answer,
    turns: Turns,
    /// Bytes it may still send.
    left: u64,
    _permit: Permit,
}

impl Reply {
    /// The next bytes; `None` at an end that can be believed.
    async fn next(&mut self) -> Result<Option<Bytes>, ProcessError> {
        loop {
            let frame = self.turns.wait(self.body.frame()).await?;
            self.turns.broken_input()?;
            let Some(frame) = frame else {
                // Who is done before the input has ended answers something else than was asked.
                let ended = self.turns.state().input_ended;
                let early = ProcessError::refused(Slug::UpstreamFailed);
                return if ended { Ok(None) } else { Err(early) };
            };
            let frame = frame.map_err(|error| self.turns.blame(error))?;
            // Trailers say nothing to us.
            let Ok(bytes) = frame.into_data() else { continue };
            let over = || ProcessError::refused(Slug::ProcessorLimit);
            self.left = self.left.checked_sub(bytes.len() as u64).ok_or_else(over)?;
            return Ok(Some(bytes));
        }
    }
}
