//! Files as their owner sees them: shown, listed, shortened, deleted, and their receipts.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use data_encoding::HEXLOWER;
use http::StatusCode;

use super::caller::{Caller, Need};
use super::guard::json;
use super::query::ttl;
use super::segment::Segment;
use super::{Gate, Problem, body};
use crate::file::{FileId, Reason};
use crate::problem::Slug;
use crate::receipt::{Action, Receipt};
use crate::store::Answer;
use crate::table::LiveFile;
use crate::wire;

/// The longest JSON body, bytes.
const MOST_JSON: u64 = 16 << 10;

/// Your live files, newest first.
#[utoipa::path(
    get,
    path = "/v1/files",
    tag = "files",
    security(("key" = ["client"])),
    params(
        ("limit" = Option<u32>, Query, description = "1 to 1000; 100 if absent"),
        ("cursor" = Option<String>, Query, description = "From the page before"),
    ),
    responses((status = 200, description = "A page of files", body = wire::FileList))
)]
pub(super) async fn list(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let query = caller.admit(&gate, request.uri(), Need::Client, &["limit", "cursor"])?;
    let (cursor, limit) = query.page()?;
    let (files, next) = gate.pipeline.list(caller.tenant_id(), cursor, limit);
    // A file that dies between the listing and the look at its record is simply not shown.
    let shown = files.iter().filter(|file| !is_used_up(file));
    let files = shown.filter_map(|file| view(&gate, file).ok()).collect();
    let cursor = next.map(|number| number.to_string());
    Ok(json(StatusCode::OK, &wire::FileList { files, cursor }))
}

/// One file.
#[utoipa::path(
    get,
    path = "/v1/files/{id}",
    tag = "files",
    security(("key" = ["client"])),
    params(("id" = String, Path, description = "The file's id")),
    responses(
        (status = 200, description = "The file", body = wire::File),
        (status = 404, description = "No such file for this key", body = wire::Problem),
        (status = 410, description = "It was, and is gone", body = wire::Problem),
    )
)]
pub(super) async fn show(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Segment(id): Segment,
    request: Request,
) -> Result<Response, Problem> {
    caller.admit(&gate, request.uri(), Need::Client, &[])?;
    let file = usable(&gate, &caller, &id).await?;
    Ok(json(StatusCode::OK, &view(&gate, &file)?))
}

/// Shortens a file's life. It can never be made longer.
#[utoipa::path(
    patch,
    path = "/v1/files/{id}",
    tag = "files",
    security(("key" = ["client"])),
    params(("id" = String, Path, description = "The file's id")),
    request_body = wire::Shorten,
    responses(
        (status = 200, description = "The file, with its earlier end", body = wire::File),
        (status = 404, description = "No such file for this key", body = wire::Problem),
        (status = 410, description = "It was, and is gone", body = wire::Problem),
        (status = 422, description = "No such life", body = wire::Problem),
    )
)]
pub(super) async fn shorten(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Segment(id): Segment,
    request: Request,
) -> Result<Response, Problem> {
    caller.admit(&gate, request.uri(), Need::Client, &[])?;
    let file = usable(&gate, &caller, &id).await?;
    let asked: wire::Shorten = read_json(&gate, request.into_body()).await?;
    gate.pipeline.shorten(&file, ttl(&asked.ttl)?)?;
    caller.note(&gate, Action::FileShorten, Some(file.id.into()));
    Ok(json(StatusCode::OK, &view(&gate, &file)?))
}

/// Destroys a file's keys, now.
///
/// When this is answered, no byte of the file can be opened again, by anybody.
#[utoipa::path(
    delete,
    path = "/v1/files/{id}",
    tag = "files",
    security(("key" = ["client"])),
    params(("id" = String, Path, description = "The file's id")),
    responses(
        (status = 200, description = "The receipt; the same one again later", body = wire::Receipt),
        (status = 404, description = "No such file for this key", body = wire::Problem),
        (status = 410, description = "It was gone before, another way", body = wire::Problem),
    )
)]
pub(super) async fn delete(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Segment(id): Segment,
    request: Request,
) -> Result<Response, Problem> {
    caller.admit(&gate, request.uri(), Need::ClientForgets, &[])?;
    let id: FileId = id.parse().map_err(|_| Slug::NotFound)?;
    let receipt = match gate.pipeline.find(id, caller.tenant_id()) {
        Some(file) => {
            caller.note(&gate, Action::FileDelete, Some(id.into()));
            gate.pipeline.delete(&file)
        }
        None => gate.pipeline.receipt(id, caller.tenant_id()),
    };
    let receipt = receipt.ok_or(Slug::NotFound)?;
    match receipt.destroyed.as_ref().map(|proof| proof.reason()) {
        Some(Reason::Deleted) | None => Ok(json(StatusCode::OK, &shown(&gate, &caller, &receipt))),
        Some(reason) => Err(Problem::gone(id, reason)),
    }
}

/// What was accepted, and that its keys were destroyed.
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
pub(super) async fn receipt(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Segment(id): Segment,
    request: Request,
) -> Result<Response, Problem> {
    caller.admit(&gate, request.uri(), Need::Receipts, &[])?;
    let id: FileId = id.parse().map_err(|_| Slug::NotFound)?;
    // Looking for the file first ends it if it is due or used up: its receipt is then final.
    drop(usable(&gate, &caller, &id.to_string()).await);
    let receipt = gate.pipeline.receipt(id, caller.tenant_id()).ok_or(Slug::NotFound)?;
    Ok(json(StatusCode::OK, &shown(&gate, &caller, &receipt)))
}

/// The tenant's own live file, or the problem that says what became of it. A random id and another
/// tenant's are told apart by nothing.
pub(super) fn find(gate: &Gate, caller: &Caller, id: &str) -> Result<Arc<LiveFile>, Problem> {
    let id: FileId = id.parse().map_err(|_| Slug::NotFound)?;
    if let Some(file) = gate.pipeline.find(id, caller.tenant_id()) {
        return Ok(file);
    }
    let receipt = gate.pipeline.receipt(id, caller.tenant_id());
    let over = receipt.and_then(|receipt| receipt.destroyed);
    Err(over.map_or_else(|| Slug::NotFound.into(), |proof| Problem::gone(id, proof.reason())))
}

/// As [`find`], for all but the delivery that may go on. A file whose downloads have all left is
/// gone: a client that stays connected and silent for as long as is waited here has everything.
pub(super) async fn usable(
    gate: &Gate,
    caller: &Caller,
    id: &str,
) -> Result<Arc<LiveFile>, Problem> {
    let file = find(gate, caller, id)?;
    let Some(claims) = file.claims.as_ref().filter(|claims| claims.are_used_up()) else {
        return Ok(file);
    };
    claims.settled().await;
    gate.pipeline.conclude(&file);
    find(gate, caller, id)
}

fn is_used_up(file: &LiveFile) -> bool {
    file.claims.as_ref().is_some_and(crate::table::Claims::are_used_up)
}

/// A file as it is shown: its name and type are unsealed for this, and wiped after.
pub(super) fn view(gate: &Gate, file: &Arc<LiveFile>) -> Result<wire::File, Problem> {
    let record = gate.pipeline.record(file)?;
    let digests = &record.digests;
    let named = [("sha-256", &digests.sha256), ("sha-512", &digests.sha512)];
    let digest = (!digests.is_empty()).then(|| {
        named.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect()
    });
    Ok(wire::File {
        id: file.id.to_string(),
        name: record.name.clone(),
        media_type: record.media_type.clone(),
        declared_media_type: record.declared_media_type.clone(),
        size: file.size(),
        digest,
        region: file.origin.region.to_string(),
        created_at: file.created.wall.rfc3339(),
        expires_at: file.expires_at().rfc3339(),
        downloads_left: file.claims.as_ref().map(crate::table::Claims::left),
        state: "ready",
        links: wire::Links {
            this: format!("/v1/files/{}", file.id),
            content: format!("/v1/files/{}/content", file.id),
            receipt: format!("/v1/receipts/{}", file.id),
        },
        job: None,
    })
}

pub(super) fn shown(gate: &Gate, caller: &Caller, receipt: &Receipt) -> wire::Receipt {
    let roles = caller.principal.roles();
    let salt = (roles.client || roles.owner).then(|| HEXLOWER.encode(&receipt.commitment_salt));
    let proof = receipt.destroyed.as_deref();
    let key = |(kind, at): &(crate::keyring::KeyKind, crate::clock::Wall)| wire::ReceiptKey {
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
        state: if proof.is_some() { "final" } else { "live" },
        region: receipt.region.to_string(),
        accepted_at: receipt.accepted_at.rfc3339(),
        expires_at: receipt.expires_at.rfc3339(),
        destroyed_at: proof.map(|proof| proof.at().rfc3339()),
        reason: proof.map(|proof| proof.reason().as_str()),
        keyring: receipt.keyring,
        keys: proof.map(|proof| proof.keys().iter().map(key).collect()).unwrap_or_default(),
        blobs: receipt.blobs.iter().map(blob).collect(),
        handed_to: receipt.handed_to.clone(),
        accepted_limits: gate.about.accepted_limits.clone(),
        commitment: HEXLOWER.encode(&receipt.commitment),
        commitment_salt: salt,
        build: gate.about.build,
        log_index: None,
    }
}

/// A small body as the JSON object a request takes.
pub(super) async fn read_json<T>(gate: &Gate, body: Body) -> Result<T, Problem>
where
    T: serde::de::DeserializeOwned,
{
    from_json(&body::small(body, MOST_JSON, &*gate.clock).await?)
}

pub(super) fn from_json<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|_| {
        Problem::because(Slug::BadRequest, "The body is not the JSON object this request takes.")
    })
}
