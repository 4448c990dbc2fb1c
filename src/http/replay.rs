//! Repeating a request safely: `Idempotency-Key`, remembered as a keyed fingerprint alone.

use std::sync::Arc;

use aws_lc_rs::hmac;
use axum::extract::Request;
use axum::response::Response;
use futures_util::StreamExt;
use http::{Method, StatusCode};

use super::caller::Caller;
use super::files::find;
use super::{Gate, Problem, jobs, upload};
use crate::body::ByteStream;
use crate::intake::{Digester, Intake, Limits};
use crate::policy::Terms;
use crate::problem::Slug;
use crate::table::{Fingerprint, Outcome, Quotas, Running, Seen};

/// The longest key a client may choose, bytes.
const LONGEST_KEY: usize = 255;

/// What a request with an `Idempotency-Key` is.
pub(super) enum Attempt {
    /// It has none.
    Once,
    /// The first with its key.
    First(Running),
    /// A repetition; this is what the first made.
    Again(Outcome),
}

/// Looks the request's key up.
pub(super) fn attempt(gate: &Gate, caller: &Caller, request: &Request) -> Result<Attempt, Problem> {
    let Some(value) = request.headers().get("idempotency-key") else { return Ok(Attempt::Once) };
    if request.method() != Method::POST {
        return Err(Slug::IdempotencyUnsupported.into());
    }
    let key = value.as_bytes();
    if key.is_empty() || key.len() > LONGEST_KEY {
        let detail = "An Idempotency-Key has 1 to 255 bytes.";
        return Err(Problem::because(Slug::BadRequest, detail));
    }
    let mut name = hmac::Context::with_key(&gate.fingerprint_key);
    absorb(&mut name, &[b"key", request.uri().path().as_bytes(), key]);
    if let Some(grant) = caller.who().grant {
        // What a key or another grant has made is nobody else's to see.
        absorb(&mut name, &[b"grant", grant.as_bytes()]);
    }
    let name = name.sign();
    let mut short = [0; 32];
    short.copy_from_slice(&name.as_ref()[..32]);
    match gate.idempotency.look(caller.tenant_id(), short) {
        Seen::First(running) => Ok(Attempt::First(running)),
        Seen::Running => Err(Slug::Conflict.into()),
        Seen::Done(outcome) => Ok(Attempt::Again(outcome)),
    }
}

/// A keyed hash that covers the head of the request; the body is to follow. Of a multipart body the
/// parts count, not their boundary, which a client draws afresh each time.
pub(super) fn head(gate: &Gate, request: &Request, part: &[&str]) -> hmac::Context {
    let mut hash = hmac::Context::with_key(&gate.fingerprint_key);
    let uri = request.uri();
    let method = request.method().as_str().as_bytes();
    let query = uri.query().unwrap_or_default().as_bytes();
    absorb(&mut hash, &[b"request", method, uri.path().as_bytes(), query]);
    let part: Vec<&[u8]> = part.iter().map(|text| text.as_bytes()).collect();
    absorb(&mut hash, &part);
    hash
}

/// Adds parts with their lengths, so that no two lists of parts look alike.
fn absorb(hash: &mut hmac::Context, parts: &[&[u8]]) {
    for part in parts {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part);
    }
}

/// One fingerprint for the fingerprints of all parts, in order.
pub(super) fn join(gate: &Gate, parts: &[Fingerprint]) -> Fingerprint {
    let mut hash = hmac::Context::with_key(&gate.fingerprint_key);
    let parts: Vec<&[u8]> = parts.iter().map(<[u8; 32]>::as_slice).collect();
    absorb(&mut hash, &parts);
    let mut joined = [0; 32];
    joined.copy_from_slice(&hash.sign().as_ref()[..32]);
    joined
}

/// The fingerprint of a request whose body is known whole.
pub(super) fn whole(mut head: hmac::Context, body: &[u8]) -> Fingerprint {
    absorb(&mut head, &[body]);
    let mut found = [0; 32];
    found.copy_from_slice(&head.sign().as_ref()[..32]);
    found
}

/// Reads a body only to fingerprint it: nothing of it is kept, and the same limits hold.
pub(super) async fn fingerprint(
    gate: &Gate,
    terms: &Terms,
    input: ByteStream,
    head: hmac::Context,
) -> Result<Fingerprint, Problem> {
    let mut digester = Digester::default();
    digester.fingerprint(head);
    let limits = Limits {
        file_bytes: terms.max_bytes,
        live_bytes: u64::MAX,
        min_rate: gate.pipeline.min_rate(),
    };
    let nobodys = Quotas::default().open(crate::file::TenantId::from_bytes([0; 16]));
    let mut intake = Intake::new(input, &limits, nobodys, digester, gate.clock.clone());
    while let Some(frame) = intake.next().await {
        frame?;
    }
    let taken = intake.finish()?;
    taken.digester.into_fingerprint().ok_or(Slug::Internal.into())
}

/// Answers a repetition with what the first request made, as it is now.
pub(super) fn answer(
    gate: &Arc<Gate>,
    caller: &Caller,
    outcome: &Outcome,
    found: Fingerprint,
) -> Result<Response, Problem> {
    if outcome.fingerprint != found {
        return Err(Slug::IdempotencyMismatch.into());
    }
    if outcome.files.is_empty()
        && let Some(id) = outcome.job
    {
        // A job that is not known any more has had its time.
        let job = gate.pipeline.job(id, caller.tenant_id()).ok_or(Slug::Expired)?;
        return Ok(jobs::accepted(gate, &job));
    }
    let files: Result<Vec<_>, Problem> =
        outcome.files.iter().map(|id| find(gate, caller, &id.to_string())).collect();
    upload::created(gate, &files?, outcome.several, outcome.job).map(|mut response| {
        *response.status_mut() = StatusCode::CREATED;
        response
    })
}
