//! Every outgoing request leaves by this door: one client, exact origins, no redirects, and an
//! address guard that judges what a name resolves to at the moment of connecting.
//!
//! Nothing here follows a redirect, reads a proxy from the environment, or sends a credential to
//! another origin than the one it was asked for: an answer 301 is an answer like any other.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::TokioTimer;

use crate::body::BodyError;
use crate::clock::{Clock, Sleep, within};
use crate::tasks::Tasks;

mod address;
mod connect;
mod origin;

pub use origin::{Origin, OriginError};

use connect::{Connector, Refused};

/// Which addresses a request may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Addresses of the public internet alone: for hosts that a tenant, a user or a provider named.
    Public,
    /// Any address: for hosts that the operator wrote into the configuration.
    Operator,
    /// The machine's own metadata service ([`Origin::instance`]) and nothing else.
    Instance,
}

/// Why there is no answer, or no whole one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// The name resolves to no address that may be reached.
    #[error("the host's addresses may not be reached from here")]
    Forbidden,
    /// Nobody answered there, or the name is unknown.
    #[error("the host cannot be reached")]
    Unreachable,
    /// The certificate is not the host's, or this machine has no trust roots.
    #[error("the host's TLS certificate is not accepted")]
    Tls,
    /// Nothing came, or nothing was taken, for as long as was agreed.
    #[error("the host did not answer in time")]
    Timeout,
    /// The connection broke off, or was never HTTP.
    #[error("the connection broke off")]
    Cut,
    /// The answer is longer than agreed.
    #[error("the answer is too long")]
    TooLong,
}

/// How long to wait, and for what.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// From the request's start to the answer's head. A body that is still being sent counts.
    pub head: Duration,
    /// Between two parts of the answer's body.
    pub stall: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { head: Duration::from_secs(20), stall: Duration::from_secs(20) }
    }
}

/// What a request carries. A body that ends in an error breaks the request off.
pub type Outgoing = UnsyncBoxBody<Bytes, BodyError>;

/// A request without a body.
#[must_use]
pub fn nothing() -> Outgoing {
    full(Bytes::new())
}

/// A body that is known whole.
#[must_use]
pub fn full(bytes: impl Into<Bytes>) -> Outgoing {
    http_body_util::Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

type Http = Client<HttpsConnector<Connector>, Outgoing>;

/// The one HTTP client. A clone shares its connections.
#[derive(Clone)]
pub struct Egress(Arc<Inner>);

struct Inner {
    // Dependencies.
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    // State: made at first use, since trust roots take a while to read.
    public: OnceLock<Option<Http>>,
    operator: OnceLock<Option<Http>>,
    instance: OnceLock<Option<Http>>,
    // Configuration.
    insecure_loopback: bool,
}

impl Egress {
    /// `insecure_loopback` lets `http://` reach 127.0.0.1 and ::1, which tests need. Connections
    /// are looked after by `tasks`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, tasks: Tasks, insecure_loopback: bool) -> Self {
        let (public, operator, instance) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Self(Arc::new(Inner { clock, tasks, public, operator, instance, insecure_loopback }))
    }

    /// Whether `http://` may be spoken on loopback.
    #[must_use]
    pub fn insecure_loopback(&self) -> bool {
        self.0.insecure_loopback
    }

    /// Sends a request to `origin` and returns the answer's head; its body streams. The request's
    /// own URI gives the path and the query alone.
    ///
    /// # Errors
    /// When no answer came. A status of 400 or more is an answer.
    pub async fn send(
        &self,
        reach: Reach,
        origin: &Origin,
        mut request: Request<Outgoing>,
        patience: Patience,
    ) -> Result<Response<Answer>, EgressError> {
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = origin.uri(path).ok_or(EgressError::Forbidden)?;
        let client = self.client(reach).ok_or(EgressError::Tls)?;
        let answer = within(&*self.0.clock, patience.head, client.request(request)).await;
        let (head, body) = answer.ok_or(EgressError::Timeout)?.map_err(told)?.into_parts();
        let clock = self.0.clock.clone();
        let alarm = clock.sleep(patience.stall);
        Ok(Response::from_parts(head, Answer { body, clock, alarm, stall: patience.stall }))
    }

    fn client(&self, reach: Reach) -> Option<&Http> {
        let cell = match reach {
            Reach::Public => &self.0.public,
            Reach::Operator => &self.0.operator,
            Reach::Instance => &self.0.instance,
        };
        cell.get_or_init(|| self.0.build(reach)).as_ref()
    }
}

impl Inner {
    fn build(&self, reach: Reach) -> Option<Http> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .ok()?;
        let tls = match tls.clone().with_native_roots() {
            Ok(tls) => tls.with_no_client_auth(),
            // Without roots no certificate is ever accepted; plain HTTP on loopback still works.
            Err(_) => {
                tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth()
            }
        };
        let connector = Connector::new(self.clock.clone(), reach, self.insecure_loopback);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(connector);
        let client = Client::builder(Spawn(self.tasks.clone()))
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(32)
            .http2_max_header_list_size(64 << 10)
            .build(connector);
        Some(client)
    }
}

/// Lets the client's connections be tasks of ours.
#[derive(Clone)]
struct Spawn(Tasks);

impl<F> hyper::rt::Executor<F> for Spawn
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, work: F) {
        drop(self.0.spawn(work));
    }
}

/// The body of an answer. It ends in an error if nothing comes for as long as was agreed.
pub struct Answer {
    body: Incoming,
    clock: Arc<dyn Clock>,
    alarm: Sleep,
    stall: Duration,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = EgressError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, EgressError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            this.alarm = this.clock.sleep(this.stall);
            return Poll::Ready(frame.map(|frame| frame.map_err(|_| EgressError::Cut)));
        }
        ready!(this.alarm.as_mut().poll(context));
        Poll::Ready(Some(Err(EgressError::Timeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// Reads a short answer whole: JSON, say.
///
/// # Errors
/// When it has more than `most` bytes, breaks off or stalls.
pub async fn read(mut answer: Answer, most: usize) -> Result<Vec<u8>, EgressError> {
    let mut bytes = Vec::new();
    while let Some(frame) = answer.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if bytes.len() + data.len() > most {
            return Err(EgressError::TooLong);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// What went wrong, from the innermost cause that says so.
fn told(error: legacy::Error) -> EgressError {
    let connecting = error.is_connect();
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(error) = cause {
        if let Some(refused) = error.downcast_ref::<Refused>() {
            return refused.told();
        }
        if error.is::<rustls::Error>() {
            return EgressError::Tls;
        }
        // An io::Error's own source skips the error it wraps.
        let io = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = match io {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    if connecting { EgressError::Unreachable } else { EgressError::Cut }
}

#[cfg(test)]
mod tests;
