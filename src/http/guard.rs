//! What every request passes on its way in, and every response on its way out.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use data_encoding::BASE32_NOPAD;
use http_body::Body;

use super::accept::Peer;
use super::caller::Caller;
use super::leftover::Leftover;
use super::neighbour::Neighbour;
use super::{Gate, Problem, Rules, consent, query};
use crate::entropy::{Entropy, random};
use crate::file::UploadId;
use crate::metrics;
use crate::policy::{Presented, PresentedGrant};
use crate::problem::Slug;
use crate::receipt::Access;

/// Outermost: gives the request its id, renders problems, and sets the headers that every response
/// carries.
pub(super) async fn finished(
    State(gate): State<Arc<Gate>>,
    request: Request,
    next: Next,
) -> Response {
    gate.pipeline.wake().await;
    let began = gate.clock.now().boot;
    let id = request_id(&*gate.entropy);
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let one = request.version() <= Version::HTTP_11;
    // A browser asks before it sends: it is to hear the refusal itself, not of a failed question.
    let preflight = request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let has_body = !request.body().is_end_stream();
    let as_page = consent::wants_page(&request);
    let leftover = Leftover::default();
    let request = if one { request } else { request.map(|body| leftover.lend(body)) };
    let mut response = match addressed(&request) {
        // The layer below would answer any OPTIONS by itself.
        Err(problem) if *request.method() == Method::OPTIONS && !preflight => {
            problem.into_response()
        }
        Err(_) | Ok(()) => next.run(request).await,
    };
    // What an answer tells of files is written down before it leaves. Content tells nothing of them
    // that was not told before.
    if !(response.status().is_success() && route.as_deref() == Some("/v1/files/{id}/content")) {
        gate.pipeline.evidence.written().await;
    }
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        metrics::count_by(metrics::PROBLEMS, "slug", problem.slug().as_str());
        if one && has_body {
            // The body may not have been read to its end: hyper ends the connection, so say so.
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        } else if has_body {
            gate.tasks.spawn(leftover.discard(gate.clock.clone()));
        }
        let carried = std::mem::take(response.headers_mut());
        response = if as_page { consent::page_of(&problem, &id) } else { problem.render(&id) };
        // What other layers have set (CORS, Allow) stays; what the problem says wins.
        for (name, value) in carried.iter() {
            if !response.headers().contains_key(name) {
                response.headers_mut().append(name, value.clone());
            }
        }
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert("x-request-id", value);
    }
    if !headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
        // Of no use to anybody but a page of a listed origin.
        headers.remove(header::ACCESS_CONTROL_EXPOSE_HEADERS);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    let status = response.status().as_u16();
    metrics::request(known(&method), status);
    let took = gate.clock.now().boot.since(began);
    log(&id, &method, route.as_deref(), status, took);
    response
}

/// Refuses what no address may be, credentials above all. Inside CORS, so that a page can read why.
pub(super) async fn well_addressed(request: Request, next: Next) -> Response {
    match addressed(&request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn addressed(request: &Request) -> Result<(), Problem> {
    if query::holds_credential(request.uri()) {
        return Err(Slug::TokenInUrl.into());
    }
    if request.version() == Version::HTTP_11 && !has_one_host(request) {
        let detail = "An HTTP/1.1 request has one Host (RFC 9112, section 3.2).";
        return Err(Problem::because(Slug::BadRequest, detail));
    }
    Ok(())
}

fn has_one_host(request: &Request) -> bool {
    request.headers().get_all(header::HOST).iter().count() == 1
}

/// The allow-list of what is ever logged of a request: our id, its method, the route's pattern,
/// the status, and the time to the response's head.
fn log(id: &str, method: &Method, route: Option<&str>, status: u16, took: Duration) {
    let (method, route) = (known(method), route.unwrap_or("none"));
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    if status >= 500 {
        tracing::warn!(request_id = id, method, route, status, took_ms, "answered");
    } else {
        tracing::info!(request_id = id, method, route, status, took_ms, "answered");
    }
}

/// Lets in who shows a valid key or grant, and anybody to what needs none.
pub(super) async fn authenticated(
    State(gate): State<Arc<Gate>>,
    mut request: Request,
    next: Next,
) -> Response {
    let log_is_public = gate.pipeline.evidence.access() != Access::Tenants;
    let is_log = request.uri().path().starts_with("/log/");
    if is_public(request.method(), request.uri().path()) || (is_log && log_is_public) {
        return next.run(request).await;
    }
    let from = request.extensions().get::<Peer>().map(|peer| peer.address.ip());
    let from = from.map(|peer| Neighbour::of(gate.proxies.client(peer, request.headers())));
    let rules = gate.rules.load_full();
    let now = gate.clock.now();
    let Some(caller) = caller(&gate, &request, rules) else {
        // A good key is never kept waiting for the bad ones of others behind the same address.
        if !from.is_none_or(|from| gate.throttle.may_fail(from, now.boot)) {
            return Problem::later(Slug::RateLimited, 10).into_response();
        }
        return Problem::unauthenticated().into_response();
    };
    // Only what creates something accepts it, and its handler looks at it again.
    let creates = request.method() == Method::POST
        && matches!(request.uri().path(), "/v1/files" | "/v1/jobs" | "/v1/connections");
    if request.headers().contains_key("idempotency-key") && !creates {
        return Problem::new(Slug::IdempotencyUnsupported).into_response();
    }
    request.extensions_mut().insert(caller);
    next.run(request).await
}

/// Whoever shows a key, or a grant whose key stands behind it.
fn caller(gate: &Gate, request: &Request, rules: Arc<Rules>) -> Option<Caller> {
    let (token, now) = (bearer(request)?, gate.clock.now().wall);
    let Some(presented) = PresentedGrant::parse(token) else {
        let principal = rules.policy.authenticate(&Presented::parse(token)?, now)?;
        return Caller::new(principal, rules);
    };
    let claim = request.headers().get("dayfly-claim").and_then(|value| value.to_str().ok());
    let upload = upload_of(request.uri().path());
    let began = |grant| upload.is_some_and(|upload| gate.pipeline.is_of_grant(upload, grant));
    let grant = gate.grants.authenticate(&presented, claim, began)?;
    if !rules.policy.stands_behind(&grant.key, now) {
        return None;
    }
    Caller::bearing(grant, rules)
}

/// The upload a request goes on with, by its address.
fn upload_of(path: &str) -> Option<UploadId> {
    let id = path.strip_prefix("/v1/tus/").or_else(|| path.strip_prefix("/v1/uploads/"))?;
    id.parse().ok()
}

fn bearer(request: &Request) -> Option<&str> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn is_public(method: &Method, path: &str) -> bool {
    method == Method::OPTIONS
        || matches!(path, "/openapi.json" | "/docs" | "/problems")
        || path.starts_with("/problems/")
        || path.starts_with("/assets/")
        || path.starts_with("/connect/")
        || path.starts_with("/oauth/callback/")
}

/// No such route.
pub(super) async fn nothing_here() -> Problem {
    Problem::new(Slug::NotFound)
}

/// The route exists, for other methods.
pub(super) async fn wrong_method() -> Problem {
    Problem::new(Slug::MethodNotAllowed)
}

/// An id only tells requests apart: without entropy they are all alike, and still served.
pub fn request_id(entropy: &dyn Entropy) -> String {
    let bytes = random::<10>(entropy).unwrap_or_default();
    format!("req_{}", BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
}

/// A method as a metric's label: a client cannot invent a series.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// An answer to a question asked too early or too late.
pub(super) fn stopping(gate: &Gate) -> Result<(), Problem> {
    if gate.shutdown.is_draining() { Err(Problem::later(Slug::ShuttingDown, 30)) } else { Ok(()) }
}

/// A response with a JSON body.
pub(super) fn json<T: serde::Serialize>(status: StatusCode, value: &T) -> Response {
    let bytes = serde_json::to_vec(value).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response()
}
