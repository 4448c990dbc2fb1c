//! A gateway as the command line sees it: where it is, who asks, and what it answered.
//!
//! Every command that asks a gateway goes through [`Client`]: it leaves by `egress`, shows a
//! refusal in the gateway's own words, and knows the exit status of each way to fail.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::{Either, select};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::clock::{Boot, Clock, SystemClock};
use crate::egress::{
    Answer, Egress, EgressError, Origin, Outgoing, Patience, Reach, full, nothing, read,
};
use crate::tasks::Tasks;

/// Where the gateway is and who asks, as the environment says it.
#[derive(Default)]
pub struct Access {
    /// `DAYFLY_URL`
    pub url: Option<String>,
    /// `DAYFLY_KEY`
    pub key: Option<Zeroizing<String>>,
}

/// Where `dayfly serve` listens by itself.
const HOME: &str = "http://127.0.0.1:8080";
/// No byte has moved in either direction for this long: the gateway is gone. Processing takes its
/// time between the last byte in and the first byte out.
const STALL: Duration = Duration::from_secs(120);
/// The most of a JSON answer that is read, bytes.
const MOST_JSON: usize = 16 << 20;
const MOST_PROBLEM: usize = 64 << 10;

/// Why a command did not do what it was asked. Each way has an exit status of its own.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("DAYFLY_KEY is not set: it holds the key, dfk_…")]
    NoKey,
    #[error("DAYFLY_KEY is no key: it looks like dfk_<id>_<secret>")]
    BadKey,
    #[error(
        "DAYFLY_URL is no gateway's address: it is like https://eu.example, or on this machine \
         http://127.0.0.1:8080; a key is sent in the clear nowhere else"
    )]
    BadUrl,
    #[error("{0}")]
    Usage(&'static str),
    /// The gateway said no.
    #[error("{0}")]
    Refused(Refusal),
    #[error("the gateway: {0}")]
    Away(#[from] EgressError),
    #[error("the gateway's answer is not what it should be")]
    Strange,
    #[error("{}: {kind}", path.display())]
    Local { path: PathBuf, kind: std::io::ErrorKind },
}

impl ClientError {
    /// Something went wrong with a file here.
    #[must_use]
    pub fn local(path: &Path, error: &std::io::Error) -> Self {
        Self::Local { path: path.to_owned(), kind: error.kind() }
    }

    /// 1: refused by the gateway. 2: asked wrongly. 3: no gateway, or it broke off. 4: a file here
    /// cannot be read or written.
    #[must_use]
    pub const fn exit_status(&self) -> u8 {
        match self {
            Self::Refused(_) => 1,
            Self::NoKey | Self::BadKey | Self::BadUrl | Self::Usage(_) => 2,
            Self::Away(_) | Self::Strange => 3,
            Self::Local { .. } => 4,
        }
    }
}

/// A problem document, or what there was instead of one.
#[derive(Debug)]
pub struct Refusal {
    pub status: u16,
    pub document: Value,
}

impl Refusal {
    /// The last part of the problem's type: `not-found`, say.
    #[must_use]
    pub fn slug(&self) -> Option<&str> {
        self.document["type"].as_str()?.strip_prefix("/problems/")
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |member: &str| self.document[member].as_str().map(printable);
        write!(f, "refused with status {}", self.status)?;
        if let (Some(title), Some(detail)) = (text("title"), text("detail")) {
            write!(f, ": {title}. {detail}")?;
        }
        for (member, name) in [("receipt", "receipt"), ("request_id", "request")] {
            if let Some(value) = text(member) {
                write!(f, " [{name} {value}]")?;
            }
        }
        Ok(())
    }
}

/// Text of somebody else's, without what could drive a terminal.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Asks one gateway under one key.
pub struct Client {
    // Dependencies.
    clock: Arc<dyn Clock>,
    egress: Egress,
    // Configuration.
    origin: Origin,
    base: String,
    bearer: HeaderValue,
}

impl Client {
    /// # Errors
    /// When there is no key, or the address is none that a key may be sent to.
    pub fn new(access: &Access) -> Result<Self, ClientError> {
        let url = access.url.as_deref().unwrap_or(HOME);
        // A name proves nothing about where it leads, but this one every machine keeps to itself.
        let local = url.strip_prefix("http://localhost");
        let local = local.filter(|rest| rest.is_empty() || rest.starts_with([':', '/']));
        let url = local.map_or(url.to_owned(), |rest| format!("http://127.0.0.1{rest}"));
        let (origin, base) = Origin::parse(&url, true).map_err(|_| ClientError::BadUrl)?;
        if base.contains('?') {
            return Err(ClientError::BadUrl);
        }
        let key = access.key.as_ref().ok_or(ClientError::NoKey)?;
        let header = Zeroizing::new(format!("Bearer {}", key.trim()));
        let mut bearer = HeaderValue::from_str(&header).map_err(|_| ClientError::BadKey)?;
        bearer.set_sensitive(true);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let egress = Egress::new(clock.clone(), Tasks::default(), true);
        Ok(Self { clock, egress, origin, base, bearer })
    }

    /// A request of `path` (with its query), ready to be sent.
    ///
    /// # Errors
    /// When the path is no path.
    pub fn request(
        &self,
        method: Method,
        path: &str,
        body: Outgoing,
    ) -> Result<Request<Outgoing>, ClientError> {
        let strange = |_| ClientError::Usage("that makes no address");
        let uri: http::Uri = format!("{}{path}", self.base).parse().map_err(strange)?;
        let mut request = Request::new(body);
        (*request.method_mut(), *request.uri_mut()) = (method, uri);
        request.headers_mut().insert(header::AUTHORIZATION, self.bearer.clone());
        let agent = concat!("dayfly/", env!("CARGO_PKG_VERSION"));
        request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static(agent));
        Ok(request)
    }

    /// Sends a request, however long its body takes while it moves, and returns an answer that is
    /// no refusal. Its body streams.
    ///
    /// # Errors
    /// When the gateway refuses, cannot be reached, or nothing moves any more.
    pub async fn send(
        &self,
        request: Request<Outgoing>,
        pulse: &Pulse,
    ) -> Result<Response<Answer>, ClientError> {
        // Whatever limits the time is the stall below.
        let patience = Patience { head: Duration::from_hours(7 * 24), stall: STALL };
        let sent = self.egress.send(Reach::Operator, &self.origin, request, patience);
        let (sent, stalled) = (std::pin::pin!(sent), std::pin::pin!(pulse.stopped(&*self.clock)));
        let answer = match select(sent, stalled).await {
            Either::Left((answer, _)) => answer?,
            Either::Right(_) => return Err(EgressError::Timeout.into()),
        };
        if answer.status().is_success() { Ok(answer) } else { Err(refusal(answer).await?) }
    }

    /// Sends a request whose body, if any, is JSON and whose answer is, too.
    ///
    /// # Errors
    /// As [`Client::send`], and when the answer is not what it should be.
    pub async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, ClientError> {
        let outgoing = body.map_or_else(nothing, |body| full(body.to_string()));
        let mut request = self.request(method, path, outgoing)?;
        if body.is_some() {
            let json = HeaderValue::from_static("application/json");
            request.headers_mut().insert(header::CONTENT_TYPE, json);
        }
        answered(self.send(request, &Pulse::new(&*self.clock)).await?).await
    }

    /// Waits a while before asking again.
    pub async fn pause(&self, span: Duration) {
        self.clock.sleep(span).await;
    }

    /// Whether a long body should wait to be asked for. Over HTTP/1.1 a refusal can be lost while
    /// one is still sending; over TLS it is HTTP/2, where it cannot.
    pub(super) fn asks_first(&self) -> bool {
        !self.origin.is_https()
    }

    /// What shows that bytes still move.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        Pulse::new(&*self.clock)
    }
}

/// An answer's JSON.
///
/// # Errors
/// When it breaks off or is not what it should be.
pub async fn answered<T: DeserializeOwned>(answer: Response<Answer>) -> Result<T, ClientError> {
    let bytes = read(answer.into_body(), MOST_JSON).await?;
    serde_json::from_slice(&bytes).map_err(|_| ClientError::Strange)
}

/// What a refusal says. Redirects are refusals too: nothing follows them with a key in hand.
async fn refusal(answer: Response<Answer>) -> Result<ClientError, ClientError> {
    let status = answer.status();
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(ClientError::Strange);
    }
    let bytes = read(answer.into_body(), MOST_PROBLEM).await.unwrap_or_default();
    let document = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    Ok(ClientError::Refused(Refusal { status: status.as_u16(), document }))
}

/// Beats whenever bytes move; the boot clock's milliseconds of the last time.
#[derive(Clone)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    fn new(clock: &dyn Clock) -> Self {
        Self(Arc::new(AtomicU64::new(millis(clock))))
    }

    pub(super) fn beat(&self) {
        self.0.store(millis(&SystemClock), Ordering::Relaxed);
    }

    async fn stopped(&self, clock: &dyn Clock) {
        loop {
            let still = millis(clock).saturating_sub(self.0.load(Ordering::Relaxed));
            let still = Duration::from_millis(still);
            if still >= STALL {
                return;
            }
            clock.sleep(STALL.saturating_sub(still)).await;
        }
    }
}

fn millis(clock: &dyn Clock) -> u64 {
    let since_boot = clock.now().boot.since(Boot::from_start(Duration::ZERO));
    u64::try_from(since_boot.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(url: &str) -> Access {
        let key = Some(Zeroizing::new("dfk_k_secret".to_owned()));
        Access { url: Some(url.to_owned()), key }
    }

    #[test]
    fn a_key_goes_over_tls_or_stays_on_this_machine() {
        for good in [
            "https://eu.example",
            "https://eu.example/under/",
            "http://127.0.0.1:1",
            "http://localhost:8080",
            "http://localhost",
            "http://[::1]:9/",
        ] {
            assert!(Client::new(&access(good)).is_ok(), "{good}");
        }
        for bad in [
            "http://eu.example",
            "http://10.0.0.1",
            "http://localhost.example",
            "http://localhost@evil.example",
            "eu.example",
            "https://eu.example/?a=b",
        ] {
            assert!(matches!(Client::new(&access(bad)), Err(ClientError::BadUrl)), "{bad}");
        }
        assert!(matches!(Client::new(&Access::default()), Err(ClientError::NoKey)));
    }

    #[test]
    fn a_refusal_is_told_without_what_could_drive_a_terminal() {
        let document = serde_json::json!({
            "type": "/problems/not-found", "title": "Not\u{1b}[2J", "detail": "No such.",
            "request_id": "req_a"
        });
        let refusal = Refusal { status: 404, document };
        assert_eq!(refusal.slug(), Some("not-found"));
        let said = refusal.to_string();
        assert!(said.starts_with("refused with status 404: Not"), "{said}");
        assert!(said.ends_with("No such. [request req_a]") && !said.contains('\u{1b}'), "{said}");
    }
}
