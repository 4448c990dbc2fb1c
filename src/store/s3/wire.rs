//! What the SDK wants from outside, met by our seams: its requests leave by `egress`, to one origin
//! and no other, and its time is `clock`'s. It has no client, timer or redirect of its own.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_s3::config::{HttpClient, RuntimeComponents};
use aws_sdk_s3::error::ConnectorError;
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_async::time::TimeSource;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

use crate::body::BodyError;
use crate::clock::Clock;
use crate::egress::{Answer, Egress, EgressError, Origin, Patience, Reach};

/// From a request's start to its answer, the time for its body apart.
const HEAD: Duration = Duration::from_secs(20);
/// Between two parts of an answer.
const STALL: Duration = Duration::from_secs(20);
/// A body that leaves more slowly than this stands still, bytes per second.
const SLOWEST: u64 = 256 << 10;

/// The way to one bucket.
#[derive(Clone)]
pub(super) struct Wire {
    pub egress: Egress,
    /// The bucket's own: with the bucket as host, or the endpoint where it stands in the path.
    pub origin: Origin,
}

impl Wire {
    async fn send(self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let request =
            request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
        // The SDK makes addresses of a bucket's name and rules of its own. What it makes must be
        // the bucket's origin: no other host ever sees a request.
        let asked = Origin::parse(&request.uri().to_string(), self.egress.insecure_loopback());
        if !asked.is_ok_and(|(origin, _)| origin == self.origin) {
            return Err(ConnectorError::user(EgressError::Forbidden.into()));
        }
        let bytes = request.body().size_hint().exact().unwrap_or_default();
        let head = HEAD + Duration::from_secs(bytes / SLOWEST);
        let patience = Patience { head, stall: STALL };
        let request = request.map(|body| body.map_err(|_| BodyError::Cut).boxed_unsync());
        let answer = self.egress.send(Reach::Operator, &self.origin, request, patience).await;
        let answer = answer.map_err(|error| match error {
            EgressError::Timeout => ConnectorError::timeout(error.into()),
            EgressError::Forbidden | EgressError::TooLong => ConnectorError::user(error.into()),
            EgressError::Unreachable | EgressError::Tls | EgressError::Cut => {
                ConnectorError::io(error.into())
            }
        })?;
        let answer = answer.map(|body| SdkBody::from_body_1_x(Shared(Mutex::new(body))));
        HttpResponse::try_from(answer).map_err(|error| ConnectorError::io(error.into()))
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wire({})", self.origin)
    }
}

impl HttpClient for Wire {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::new(self.clone().send(request))
    }
}

/// The SDK wants bodies that could be looked at from two threads. This one never is: the lock is
/// only ever passed by `&mut`.
struct Shared(Mutex<Answer>);

impl Shared {
    fn answer(&mut self) -> &mut Answer {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Body for Shared {
    type Data = Bytes;
    type Error = EgressError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, EgressError>>> {
        Pin::new(self.answer()).poll_frame(context)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).size_hint()
    }
}

/// The time that requests are signed with.
pub(super) struct SigningTime(pub Arc<dyn Clock>);

impl fmt::Debug for SigningTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningTime")
    }
}

impl TimeSource for SigningTime {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + self.0.now().wall.since_epoch()
    }
}
