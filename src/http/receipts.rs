//! Receipts: shown, as signed notes, and with their place in the log.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use data_encoding::HEXLOWER;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};

use super::caller::{Caller, Need};
use super::files::usable;
use super::guard::json;
use super::segment::Segment;
use super::{Gate, Problem};
use crate::clock::Wall;
use crate::file::FileId;
use crate::keyring::KeyKind;
use crate::problem::Slug;
use crate::receipt::{NoProof, Proof, Receipt};
use crate::store::Answer;
use crate::wire;

/// What an acceptance is answered with: its leaf, by when it is in the log, and a signature.
pub(super) const PROMISE: HeaderName = HeaderName::from_static("dayfly-promise");

/// What was accepted, and that its keys were destroyed.
///
/// With `Accept: text/plain` it comes as a signed note (C2SP signed-note), which `dayfly verify`
/// reads. As on an upload, `Dayfly-Promise` is a signed promise that a live file's acceptance will
/// be in the log: leaf, blind, place and path to a root, by when, and who signed that root.
#[utoipa::path(
    get,
    path = "/v1/receipts/{id}",
    tag = "receipts",
    security(("key" = ["client", "owner", "auditor"])),
    params(("id" = String, Path, description = "The id of a file, or of a processing request")),
    responses(
        (status = 200, description = "The receipt", body = wire::Receipt),
        (status = 404, description = "No such receipt for this key", body = wire::Problem),
    )
)]
pub(super) async fn show(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Segment(id): Segment,
    request: Request,
) -> Result<Response, Problem> {
    let plain = wants_plain(request.headers());
    let id = asked(&gate, &caller, &id, request.uri().clone()).await?;
    let mut response = if plain {
        text(gate.pipeline.receipt_note(id, caller.tenant_id()).ok_or(Slug::NotFound)?)
    } else {
        let receipt = gate.pipeline.receipt(id, caller.tenant_id()).ok_or(Slug::NotFound)?;
        json(StatusCode::OK, &shown(&caller, &receipt))
    };
    let promised = gate.pipeline.evidence.acknowledge(&[id], true).await.unwrap_or_default();
    promise(&promised, response.headers_mut());
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    Ok(response)
}

/// The receipt's place in the log: that of its final note once there is one.
///
/// `dayfly verify` proves it offline. The log gets a new checkpoint every minute.
#[utoipa::path(
    get,
    path = "/v1/receipts/{id}/proof",
    tag = "receipts",
    security(("key" = ["client", "owner", "auditor"])),
    params(("id" = String, Path, description = "The id of a file, or of a processing request")),
    responses(
        (status = 200, description = "The proof", body = wire::Proof),
        (status = 404, description = "No such receipt for this key, or no log", body = wire::Problem),
        (status = 503, description = "The next checkpoint will have it", body = wire::Problem),
    )
)]
pub(super) async fn proof(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Segment(id): Segment,
    request: Request,
) -> Result<Response, Problem> {
    let id = asked(&gate, &caller, &id, request.uri().clone()).await?;
    match gate.pipeline.proof(id, caller.tenant_id()) {
        Ok(proof) => Ok(json(StatusCode::OK, &proven(proof))),
        Err(NoProof::Unknown) => Err(Slug::NotFound.into()),
        Err(NoProof::NotYet(seconds)) => Err(Problem::later(Slug::NotLoggedYet, seconds)),
    }
}

/// Who may ask, and for what. Looking for the file first ends it if it is due or used up: its
/// receipt is then final.
async fn asked(gate: &Gate, caller: &Caller, id: &str, uri: Uri) -> Result<FileId, Problem> {
    caller.admit(gate, &uri, Need::Receipts, &[])?;
    let id: FileId = id.parse().map_err(|_| Slug::NotFound)?;
    drop(usable(gate, caller, &id.to_string()).await);
    Ok(id)
}

/// Whether text is named, and JSON is not.
fn wants_plain(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/plain") && !accept.contains("/json"))
}

pub(super) fn text(text: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

/// Adds the promises that files' acceptances will be in the log.
pub(super) fn promise(promises: &[String], headers: &mut HeaderMap) {
    for promise in promises {
        headers.extend(HeaderValue::from_str(promise).ok().map(|promise| (PROMISE, promise)));
    }
}

pub(super) fn proven(proof: Proof) -> wire::Proof {
    let (blind, path) = proof.base64();
    wire::Proof {
        note: proof.note,
        kind: proof.kind,
        blind,
        index: proof.index,
        path,
        checkpoint: proof.checkpoint,
    }
}

pub(super) fn shown(caller: &Caller, receipt: &Receipt) -> wire::Receipt {
    let roles = caller.principal.roles();
    let salt = (roles.client || roles.owner).then(|| HEXLOWER.encode(&receipt.commitment_salt));
    let end = receipt.destroyed.as_ref();
    let key = |(kind, at): &(KeyKind, Wall)| wire::ReceiptKey {
        key: kind.as_str(),
        destroyed_at: at.rfc3339(),
    };
    let blob = |(store, answer): &(&'static str, Answer)| wire::ReceiptBlob {
        store,
        answer: answer.as_str(),
    };
    wire::Receipt {
        id: receipt.file.to_string(),
        file: receipt.file.to_string(),
        state: if end.is_some() { "final" } else { "live" },
        region: receipt.region.to_string(),
        accepted_at: receipt.accepted_at.rfc3339(),
        expires_at: receipt.expires_at.rfc3339(),
        destroyed_at: end.map(|end| end.at().rfc3339()),
        reason: end.map(|end| end.reason().as_str()),
        last_seen_alive: end.and_then(|end| Some(end.last_seen_alive()?.rfc3339())),
        keyring: receipt.keyring,
        keys: end.map(|end| end.keys().iter().map(key).collect()).unwrap_or_default(),
        blobs: receipt.blobs.iter().map(blob).collect(),
        handed_to: receipt.handed_to.clone(),
        accepted_limits: receipt.accepted_limits.clone(),
        commitment: HEXLOWER.encode(&receipt.commitment),
        commitment_salt: salt,
        build: receipt.build.clone(),
        log_index: receipt.log_index,
    }
}
