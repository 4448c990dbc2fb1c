//! Calls of a provider's API: one token at a time, waits that were asked for, answers with a limit.

use std::time::Duration;

use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use zeroize::Zeroizing;

use super::{Bearer, Edges, Endpoint, ProviderError, TokenSource};
use crate::budget::Permit;
use crate::clock::Boot;
use crate::egress::{self, Outgoing, Patience, full, read};
use crate::entropy::random;

pub const PATIENCE: Patience =
    Patience { head: Duration::from_secs(10), stall: Duration::from_secs(10) };
/// Content may take a while to be made, and stalls are resumed.
const CONTENT_PATIENCE: Patience =
    Patience { head: Duration::from_secs(30), stall: Duration::from_secs(10) };
/// A chunk has to be taken, and what is put together checked, before the answer comes.
const PUSH_PATIENCE: Patience =
    Patience { head: Duration::from_mins(2), stall: Duration::from_secs(10) };
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
        streamed: Option<Outgoing>,
    ) -> Result<Request<Outgoing>, ProviderError> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(format!("{}{}", at.path, self.path))
            .header(ACCEPT_ENCODING, "identity");
        if !self.headers.iter().any(|(name, _)| name == ACCEPT) {
            request = request.header(ACCEPT, "application/json");
        }
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, token.header()?);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let body = match (streamed, &self.body) {
            (Some(body), _) => body,
            (None, Some((kind, bytes))) => {
                request = request.header(CONTENT_TYPE, *kind);
                full(bytes.to_vec())
            }
            (None, None) => crate::egress::nothing(),
        };
        request.body(body).map_err(|_| ProviderError::Nonsense)
    }
}

/// An answer, read to its end.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
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
    let paid = paid(edges).await?;
    let request = call.request(at, token, None)?;
    let sent = edges.egress.send(at.reach, &at.origin, request, patience).await?;
    whole(sent, paid).await
}

async fn paid(edges: &Edges) -> Result<Permit, ProviderError> {
    let paid = edges.budget.acquire(MOST, &*edges.clock).await;
    paid.map_err(|_| ProviderError::Overloaded)
}

async fn whole(sent: Response<egress::Answer>, paid: Permit) -> Result<Answer, ProviderError> {
    let (head, body) = sent.into_parts();
    let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
    let is_json = text(CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/json"));
    let seconds = text(RETRY_AFTER).and_then(|after| after.trim().parse().ok());
    let retry_after = seconds.map(Duration::from_secs);
    let body = Zeroizing::new(read(body, MOST).await?);
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body,
        is_json,
        retry_after,
        _paid: paid,
    })
}

/// Sends a call for content and returns its answer unread, once it is one: nothing but a file's
/// bytes, or a way to them, ever gets past this. Another token is taken once; any other try is for
/// whoever knows how far it came.
pub async fn stream(
    edges: &Edges,
    at: &Endpoint,
    tokens: &dyn TokenSource,
    call: &Call,
    judge: fn(&Answer) -> Verdict,
) -> Result<Response<egress::Answer>, ProviderError> {
    let token = tokens.token().await?;
    match unread(edges, at, Some(&token), call, judge).await? {
        Ok(answer) => Ok(answer),
        Err(Refused::Renew) => {
            let token = tokens.renewed(&token).await?;
            match unread(edges, at, Some(&token), call, judge).await? {
                Ok(answer) => Ok(answer),
                Err(Refused::Renew) => Err(ProviderError::Revoked),
                Err(Refused::Over(error)) => Err(error),
            }
        }
        Err(Refused::Over(error)) => Err(error),
    }
}

/// As [`stream`], where the token must not go.
pub async fn stream_openly(
    edges: &Edges,
    at: &Endpoint,
    call: &Call,
    judge: fn(&Answer) -> Verdict,
) -> Result<Response<egress::Answer>, ProviderError> {
    let answer = unread(edges, at, None, call, judge).await?;
    answer.map_err(|refused| match refused {
        Refused::Renew => ProviderError::Refused,
        Refused::Over(error) => error,
    })
}

/// Why there is no content.
enum Refused {
    Renew,
    Over(ProviderError),
}

async fn unread(
    edges: &Edges,
    at: &Endpoint,
    token: Option<&Bearer>,
    call: &Call,
    judge: fn(&Answer) -> Verdict,
) -> Result<Result<Response<egress::Answer>, Refused>, ProviderError> {
    let request = call.request(at, token, None)?;
    let sent = edges.egress.send(at.reach, &at.origin, request, CONTENT_PATIENCE).await?;
    match sent.status() {
        StatusCode::OK | StatusCode::PARTIAL_CONTENT => return Ok(Ok(sent)),
        StatusCode::RANGE_NOT_SATISFIABLE => return Err(ProviderError::Changed),
        status if status.is_redirection() => return Ok(Ok(sent)),
        _ => {}
    }
    let answer = whole(sent, paid(edges).await?).await?;
    Ok(Err(match judge(&answer) {
        Verdict::Renew => Refused::Renew,
        Verdict::Over(error) => Refused::Over(error),
        Verdict::Again => Refused::Over(later(&answer)),
        // Neither content nor an error: what it is nobody documents.
        Verdict::Good => Refused::Over(ProviderError::Nonsense),
    }))
}

/// Sends a call whose body streams, once. Where the token has expired another is fetched, and the
/// caller told to come again at once.
pub async fn push(
    edges: &Edges,
    at: &Endpoint,
    tokens: &dyn TokenSource,
    call: &Call,
    body: Outgoing,
    judge: fn(&Answer) -> Verdict,
) -> Result<Answer, ProviderError> {
    let paid = paid(edges).await?;
    let token = tokens.token().await?;
    let request = call.request(at, Some(&token), Some(body))?;
    let sent = edges.egress.send(at.reach, &at.origin, request, PUSH_PATIENCE).await?;
    let answer = whole(sent, paid).await?;
    match judge(&answer) {
        Verdict::Good => Ok(answer),
        Verdict::Over(error) => Err(error),
        Verdict::Again => Err(later(&answer)),
        Verdict::Renew => {
            tokens.renewed(&token).await?;
            Err(ProviderError::Busy { after: Some(Duration::ZERO) })
        }
    }
}

/// When to come again.
fn later(answer: &Answer) -> ProviderError {
    match (answer.status.is_server_error(), answer.retry_after) {
        (true, None) => ProviderError::Unreachable,
        (_, after) => ProviderError::Busy { after },
    }
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
                Verdict::Again => (later(&answer), answer.retry_after),
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
