//! Calls of a provider's API: one token at a time, waits that were asked for, answers with a limit.

use std::time::Duration;

use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use zeroize::Zeroizing;

use super::{Bearer, Edges, Endpoint, ProviderError, TokenSource};
use crate::budget::Permit;
use crate::clock::Boot;
use crate::egress::{Patience, full, read};
use crate::entropy::random;

pub const PATIENCE: Patience =
    Patience { head: Duration::from_secs(10), stall: Duration::from_secs(10) };
/// Whoever disconnects waits for the answer.
pub const REVOKE_PATIENCE: Patience =
    Patience { head: Duration::from_secs(4), stall: Duration::from_secs(4) };
/// The longest answer that is read, bytes: a full page of a listing has a few hundred KiB.
const MOST: usize = 2 << 20;
/// A call with all its tries and waits ends within this.
const WITHIN: Duration = Duration::from_secs(20);
const TRIES: u32 = 4;
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// A request in the making, without its token.
pub struct Call {
    pub method: Method,
    /// Below the endpoint's own path, with its query.
    pub path: String,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Option<(&'static str, Zeroizing<Vec<u8>>)>,
}

impl Call {
    pub const fn get(path: String) -> Self {
        Self { method: Method::GET, path, headers: Vec::new(), body: None }
    }

    pub fn json(path: String, body: &serde_json::Value) -> Self {
        let bytes = Zeroizing::new(serde_json::to_vec(body).unwrap_or_default());
        let body = Some(("application/json", bytes));
        Self { method: Method::POST, path, headers: Vec::new(), body }
    }

    fn request(
        &self,
        at: &Endpoint,
        token: Option<&Bearer>,
    ) -> Result<Request<crate::egress::Outgoing>, ProviderError> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(format!("{}{}", at.path, self.path))
            .header(ACCEPT, "application/json")
            .header(ACCEPT_ENCODING, "identity");
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, token.header()?);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let body = match &self.body {
            Some((kind, bytes)) => {
                request = request.header(CONTENT_TYPE, *kind);
                full(bytes.to_vec())
            }
            None => crate::egress::nothing(),
        };
        request.body(body).map_err(|_| ProviderError::Nonsense)
    }
}

/// An answer, read to its end.
pub struct Answer {
    pub status: StatusCode,
    pub body: Zeroizing<Vec<u8>>,
    is_json: bool,
    retry_after: Option<Duration>,
    _paid: Permit,
}

impl Answer {
    /// The body as JSON; an answer that does not say it is JSON is none.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, ProviderError> {
        if !self.is_json {
            return Err(ProviderError::Nonsense);
        }
        serde_json::from_slice(&self.body).map_err(|_| ProviderError::Nonsense)
    }
}

/// What a provider makes of a status.
pub enum Verdict {
    Good,
    /// The token has expired: once more with another.
    Renew,
    /// Once more, after a while.
    Again,
    Over(ProviderError),
}

/// Sends a call once, without a second try.
pub async fn once(
    edges: &Edges,
    at: &Endpoint,
    token: Option<&Bearer>,
    call: &Call,
    patience: Patience,
) -> Result<Answer, ProviderError> {
    let paid = edges.budget.acquire(MOST, &*edges.clock).await;
    let paid = paid.map_err(|_| ProviderError::Overloaded)?;
    let request = call.request(at, token)?;
    let sent = edges.egress.send(at.reach, &at.origin, request, patience).await?;
    let (head, body) = sent.into_parts();
    let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
    let is_json = text(CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/json"));
    let seconds = text(RETRY_AFTER).and_then(|after| after.trim().parse().ok());
    let body = Zeroizing::new(read(body, MOST).await?);
    let retry_after = seconds.map(Duration::from_secs);
    Ok(Answer { status: head.status, body, is_json, retry_after, _paid: paid })
}

/// Sends a call until it is answered for good: another token once, waits as the provider asks, and
/// all of it within a bound.
pub async fn call(
    edges: &Edges,
    at: &Endpoint,
    tokens: &dyn TokenSource,
    call: &Call,
    judge: fn(&Answer) -> Verdict,
) -> Result<Answer, ProviderError> {
    let until = edges.clock.now().boot.plus(WITHIN);
    let mut token = tokens.token().await?;
    let (mut renewed, mut failed) = (false, 0);
    loop {
        let (error, asked) = match once(edges, at, Some(&token), call, PATIENCE).await {
            Ok(answer) => match judge(&answer) {
                Verdict::Good => return Ok(answer),
                Verdict::Over(error) => return Err(error),
                Verdict::Renew if renewed => return Err(ProviderError::Revoked),
                Verdict::Renew => {
                    renewed = true;
                    token = tokens.renewed(&token).await?;
                    continue;
                }
                Verdict::Again => {
                    let after = answer.retry_after;
                    let error = match answer.status {
                        status if status.is_server_error() => ProviderError::Unreachable,
                        _ => ProviderError::Busy { after },
                    };
                    (error, after)
                }
            },
            Err(error @ (ProviderError::Unreachable | ProviderError::Timeout)) => (error, None),
            Err(error) => return Err(error),
        };
        failed += 1;
        if failed >= TRIES || !wait(edges, until, asked, failed).await {
            return Err(error);
        }
    }
}

/// Waits before another try; false if that would take too long.
async fn wait(edges: &Edges, until: Boot, asked: Option<Duration>, failed: u32) -> bool {
    let doubled = FIRST_WAIT * 2u32.pow(failed - 1);
    // Half of the wait is drawn, so that many who failed together do not come back together.
    let drawn = random::<1>(&*edges.entropy).map_or(0, |[byte]| u32::from(byte));
    let spread = doubled / 2 + doubled / 512 * drawn;
    let span = asked.map_or(spread, |asked| asked.max(spread));
    if edges.clock.now().boot.plus(span) >= until {
        return false;
    }
    edges.clock.sleep(span).await;
    true
}

/// A query string.
pub fn query(pairs: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::from("?"));
    query.extend_pairs(pairs).finish()
}

/// A provider's timestamp, in our own form.
pub fn moment(text: &str) -> Option<String> {
    text.parse::<jiff::Timestamp>().ok().map(|at| at.to_string())
}
