//! tus 1.0.0: uploads that are created, added to, looked at, joined and ended.
//!
//! What an upload is and may become is the pipeline's business ([`crate::pipeline::AnyUpload`]);
//! here are the protocol's words for it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::arriving::{self, Done, Trailers, find};
use super::body::declared;
use super::caller::{Caller, Need};
use super::content::insert;
use super::guard::stopping;
use super::query::{Query, ttl};
use super::segment::Segment;
use super::upload::{elsewhere, recipe};
use super::{Gate, Problem};
use crate::intake::{Algorithm, Digester, clean, declared_type};
use crate::pipeline::{AnyUpload, Asked, Check, Chunk};
use crate::policy::{Ask, Terms};
use crate::problem::Slug;
use crate::process::Recipe;
use crate::table::{Face, Progress, Purpose, Standpoint, Use};
use crate::vault::Note;
use crate::wire;

mod discover;
mod fields;
mod metadata;

pub(super) use discover::{announced, overridden};
use fields::{Concat, bad, one};
use metadata::Metadata;

/// Begins a resumable upload (tus 1.0.0, creation, creation-with-upload, concatenation).
///
/// `Upload-Metadata` keys that mean something: `filename`, `filetype`, `ttl`, `region`, `steps`;
/// others are kept and repeated. Its life runs from here on. `X-HTTP-Method-Override` is heard.
#[utoipa::path(
    post,
    path = "/v1/tus",
    tag = "uploads",
    security(("key" = ["client"])),
    params(
        ("Tus-Resumable" = String, Header, description = "1.0.0"),
        ("Upload-Length" = Option<u64>, Header, description = "Bytes it will have"),
        ("Upload-Defer-Length" = Option<String>, Header, description = "1: said later"),
        ("Upload-Metadata" = Option<String>, Header, description = "Keys and base64 values"),
        ("Upload-Concat" = Option<String>, Header, description = "`partial`, or `final;` and parts"),
        ("Upload-Checksum" = Option<String>, Header, description = "Of the bytes sent along"),
    ),
    request_body(content = Vec<u8>, content_type = "application/offset+octet-stream"),
    responses(
        (status = 201, description = "It began; `Location` is its address, `Upload-Expires` its \
            end. If it is complete, `Dayfly-File` names the file"),
        (status = 400, description = "A field that cannot be read", body = wire::Problem),
        (status = 403, description = "The policy says no", body = wire::Problem),
        (status = 412, description = "Another version of tus", body = wire::Problem),
        (status = 413, description = "Too large", body = wire::Problem),
        (status = 415, description = "A body of another type", body = wire::Problem),
        (status = 421, description = "Another gateway's region", body = wire::Problem),
        (status = 422, description = "No such region, life or step", body = wire::Problem),
        (status = 429, description = "Rate or quota", body = wire::Problem),
        (status = 460, description = "The bytes do not match their checksum", body = wire::Problem),
        (status = 503, description = "No memory left", body = wire::Problem),
        (status = 507, description = "No storage left", body = wire::Problem),
    )
)]
pub(super) async fn create(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    caller.allow(&gate, Need::Upload)?;
    fields::version(request.headers())?;
    let wish = wish(&caller, &request)?;
    if !gate.pipeline.has_quota(caller.tenant_id(), &wish.terms, wish.length) {
        return Err(Problem::later(Slug::QuotaExceeded, 60));
    }
    caller.throttle(&gate)?;
    stopping(&gate)?;
    if wish.recipe.is_some() {
        gate.pipeline.has_room_for_jobs(caller.tenant_id())?;
    }
    match &wish.concat {
        Concat::Final(parts) => {
            let parts = parts.clone();
            join(&gate, &caller, wish, &parts).await
        }
        Concat::Whole | Concat::Part => begin(&gate, &caller, wish, request).await,
    }
}

/// What is asked of an upload.
struct Wish {
    terms: Terms,
    length: Option<u64>,
    concat: Concat,
    note: Note,
    recipe: Option<Recipe>,
}

/// Reads the fields, and asks the policy.
fn wish(caller: &Caller, request: &Request) -> Result<Wish, Problem> {
    Query::parse(request.uri(), &[])?;
    let headers = request.headers();
    let concat = fields::concat(headers)?;
    let length = match &concat {
        Concat::Final(_) => fields::length(headers)?,
        Concat::Whole | Concat::Part => fields::length_or_later(headers)?,
    };
    let sent = one(headers, "upload-metadata")?.filter(|sent| !sent.is_empty());
    let said = sent.map(Metadata::parse).transpose()?.unwrap_or_default();
    let part = matches!(concat, Concat::Part);
    // A part's words are its own: the file's are said with the last request.
    let steps = said.steps.as_deref().filter(|_| !part);
    let recipe = steps.map(|steps| recipe(caller, steps)).transpose()?;
    let ask = Ask {
        region: said.region.as_deref(),
        ttl: said.ttl.as_deref().map(ttl).transpose()?,
        declared_bytes: length,
        steps: recipe.as_ref().map_or(&[], |(_, names)| names.as_slice()),
        ..Ask::default()
    };
    let terms = caller.decide(&ask).map_err(|refusal| elsewhere(refusal, request))?;
    let name =
        clean(said.filename.as_deref().unwrap_or_default()).map_err(|_| Slug::BadFilename)?;
    let note = Note {
        name,
        declared_type: said.filetype.as_deref().and_then(declared_type),
        metadata: sent.map(str::to_owned),
        concat: one(headers, "upload-concat")?.map(str::to_owned),
        downloads: None,
    };
    Ok(Wish { terms, length, concat, note, recipe: recipe.map(|(recipe, _)| recipe) })
}

impl Wish {
    fn asked(self, caller: &Caller, purpose: Purpose, claim: Option<Use>) -> Asked {
        let mut digester = Digester::default();
        if caller.tenant.always_digest && purpose != Purpose::Part {
            digester.compute(Algorithm::Sha256);
        }
        Asked {
            who: caller.who(),
            face: Face::Tus,
            purpose,
            terms: self.terms,
            length: self.length,
            note: self.note,
            recipe: self.recipe,
            claim,
            digester,
        }
    }
}

async fn begin(
    gate: &Arc<Gate>,
    caller: &Caller,
    wish: Wish,
    request: Request,
) -> Result<Response, Problem> {
    let bytes = declared(&request);
    let has_body = bytes.map_or_else(|| !is_empty(request.body()), |bytes| bytes > 0);
    if has_body {
        fields::content_type(request.headers())?;
    }
    let (head, body) = request.into_parts();
    let (input, trailers) = arriving::incoming(body);
    let check = check(&head.headers, trailers)?;
    if let (Some(bytes), Some(length)) = (bytes, wish.length)
        && bytes > length
    {
        return Err(bad("More bytes come along than Upload-Length says."));
    }
    let part = matches!(wish.concat, Concat::Part);
    // A part is no file: what a grant allows is claimed by what it is joined into.
    let claim = if part { None } else { caller.claim_upload()? };
    if part {
        arriving::may_have_part(gate, caller)?;
    }
    let purpose = if part { Purpose::Part } else { Purpose::Whole };
    let length = wish.length;
    let upload =
        gate.pipeline.begin_upload(caller.tenant_id(), wish.asked(caller, purpose, claim))?;
    let mut done = None;
    if has_body || (length == Some(0) && !part) {
        let chunk = Chunk {
            input,
            declared: bytes.or((!has_body).then_some(0)),
            at: 0,
            length: None,
            last: false,
            strict: false,
            check,
        };
        done = Some(arriving::add(gate, caller, &upload, chunk, true).await?);
    }
    let mut response = created(gate, &upload).await?;
    let headers = response.headers_mut();
    if let Some(done) = done {
        told(headers, &done)?;
    }
    Ok(response)
}

fn check(headers: &HeaderMap, trailers: Trailers) -> Result<Check, Problem> {
    fields::check(headers, move || trailers.take())
}

fn is_empty(body: &Body) -> bool {
    http_body::Body::is_end_stream(body)
}

/// The parts become a file, at once.
async fn join(
    gate: &Arc<Gate>,
    caller: &Caller,
    wish: Wish,
    parts: &[String],
) -> Result<Response, Problem> {
    let parts = parts.iter().map(|id| find(gate, caller, id, Face::Tus));
    let parts = parts.collect::<Result<Vec<_>, _>>()?;
    let claim = caller.claim_upload()?;
    let asked = wish.asked(caller, Purpose::Joined, claim);
    let (gate_too, caller_too) = (gate.clone(), caller.clone());
    let joining = gate.tasks.spawn(async move {
        let tenant = caller_too.tenant_id();
        let (upload, finished) = gate_too.pipeline.join_uploads(tenant, asked, &parts).await?;
        let (file, job) = arriving::finish(&gate_too, &caller_too, finished)?;
        Ok::<_, Problem>((upload, file, job))
    });
    let joined = joining.await.unwrap_or_else(|_| Err(Slug::Internal.into()));
    let (upload, file, job) = joined?;
    let mut response = created(gate, &upload).await?;
    arriving::tell_of_file(response.headers_mut(), &file.id.to_string(), job);
    Ok(response)
}

/// 201, and where the upload is.
async fn created(gate: &Gate, upload: &AnyUpload) -> Result<Response, Problem> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::CREATED;
    let headers = response.headers_mut();
    insert(headers, header::LOCATION, &format!("/v1/tus/{}", upload.id));
    arriving::tell_of_upload(gate, headers, upload).await?;
    expires(headers, upload);
    Ok(response)
}

/// `Upload-Expires`, the real end, in the form of RFC 9110, section 5.6.7: whole seconds, rounded
/// down.
fn expires(headers: &mut HeaderMap, upload: &AnyUpload) {
    let ends = upload.origin.keys.deadline().unwrap_or(upload.origin.deadline).expires_at();
    insert(headers, HeaderName::from_static("upload-expires"), &ends.http_date());
}

fn number(headers: &mut HeaderMap, name: &'static str, value: u64) {
    headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
}

/// What is said of bytes that were added.
fn told(headers: &mut HeaderMap, done: &Done) -> Result<(), Problem> {
    if let Some(broke) = done.broke {
        return Err(arriving::with_offset(arriving::broken(broke), done.progress.offset));
    }
    number(headers, "upload-offset", done.progress.offset);
    if let Some(file) = &done.file {
        arriving::tell_of_file(headers, &file.id.to_string(), done.job);
    }
    Ok(())
}

/// Where an upload stands.
///
/// Whoever is writing to it lets go: the offset told is where the next bytes belong.
#[utoipa::path(
    get,
    path = "/v1/tus/{id}",
    tag = "uploads",
    security(("key" = ["client"])),
    params(
        ("id" = String, Path, description = "The upload's id"),
        ("Tus-Resumable" = String, Header, description = "1.0.0"),
    ),
    responses(
        (status = 200, description = "`Upload-Offset`, `Upload-Length` and the rest"),
        (status = 404, description = "No such upload for this key", body = wire::Problem),
        (status = 410, description = "It was, and is gone", body = wire::Problem),
        (status = 412, description = "Another version of tus", body = wire::Problem),
    )
)]
pub(super) async fn look(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Segment(id): Segment,
    request: Request,
) -> Result<Response, Problem> {
    caller.admit(&gate, request.uri(), Need::Upload, &[])?;
    fields::version(request.headers())?;
    let upload = find(&gate, &caller, &id, Face::Tus)?;
    let seen = gate.pipeline.look(&upload).await?;
    let note = gate.pipeline.note(&upload)?;
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    let progress = match seen {
        Standpoint::Resting(progress) => progress,
        Standpoint::Complete(file, bytes) => {
            arriving::tell_of_file(headers, &file.to_string(), None);
            Progress { offset: bytes, length: Some(bytes) }
        }
        Standpoint::Moved(bytes) => Progress { offset: bytes, length: Some(bytes) },
    };
    number(headers, "upload-offset", progress.offset);
    match progress.length {
        Some(length) => number(headers, "upload-length", length),
        None => insert(headers, HeaderName::from_static("upload-defer-length"), "1"),
    }
    let repeated = [("upload-metadata", &note.metadata), ("upload-concat", &note.concat)];
    for (name, value) in repeated {
        if let Some(value) = value {
            insert(headers, HeaderName::from_static(name), value);
        }
    }
    expires(headers, &upload);
    Ok(response)
}

/// Adds bytes to an upload, at its offset. The last ones make it a file: `Dayfly-File`.
#[utoipa::path(
    patch,
    path = "/v1/tus/{id}",
    tag = "uploads",
    security(("key" = ["client"])),
    params(
        ("id" = String, Path, description = "The upload's id"),
        ("Tus-Resumable" = String, Header, description = "1.0.0"),
        ("Upload-Offset" = u64, Header, description = "Where the bytes belong"),
        ("Upload-Length" = Option<u64>, Header, description = "Bytes in all, if not said before"),
        ("Upload-Checksum" = Option<String>, Header, description = "sha1, sha256 or crc32c; also \
            as a trailer"),
    ),
    request_body(content = Vec<u8>, content_type = "application/offset+octet-stream"),
    responses(
        (status = 204, description = "They are kept; `Upload-Offset` is where the next belong"),
        (status = 400, description = "A field that cannot be read", body = wire::Problem),
        (status = 403, description = "It takes no more bytes", body = wire::Problem),
        (status = 404, description = "No such upload for this key", body = wire::Problem),
        (status = 409, description = "Another offset", body = wire::Problem),
        (status = 410, description = "It was, and is gone", body = wire::Problem),
        (status = 412, description = "Another version of tus", body = wire::Problem),
        (status = 413, description = "Too large", body = wire::Problem),
        (status = 415, description = "A body of another type", body = wire::Problem),
        (status = 423, description = "Another request writes to it", body = wire::Problem),
        (status = 460, description = "They do not match their checksum: none is kept",
            body = wire::Problem),
    )
)]
pub(super) async fn append(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Segment(id): Segment,
    request: Request,
) -> Result<Response, Problem> {
    caller.admit(&gate, request.uri(), Need::Upload, &[])?;
    fields::version(request.headers())?;
    stopping(&gate)?;
    let upload = find(&gate, &caller, &id, Face::Tus)?;
    if upload.purpose == Purpose::Joined {
        return Err(Slug::UploadComplete.into());
    }
    fields::content_type(request.headers())?;
    let at = fields::offset(request.headers())?;
    let length = fields::length(request.headers())?;
    let bytes = declared(&request);
    let empty = bytes.is_none() && is_empty(request.body());
    let (head, body) = request.into_parts();
    let (input, trailers) = arriving::incoming(body);
    let chunk = Chunk {
        input,
        declared: bytes.or(empty.then_some(0)),
        at,
        length,
        last: false,
        strict: false,
        check: check(&head.headers, trailers)?,
    };
    let done = arriving::add(&gate, &caller, &upload, chunk, false).await?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    told(headers, &done)?;
    if done.file.is_none()
        && let Some(file) = upload.file()
    {
        arriving::tell_of_file(headers, &file.to_string(), None);
    }
    expires(headers, &upload);
    Ok(response)
}

/// Ends an upload: its keys are destroyed, and those of the file it has become.
#[utoipa::path(
    delete,
    path = "/v1/tus/{id}",
    tag = "uploads",
    security(("key" = ["client"])),
    params(
        ("id" = String, Path, description = "The upload's id"),
        ("Tus-Resumable" = String, Header, description = "1.0.0"),
    ),
    responses(
        (status = 204, description = "Nothing of it can be opened any more"),
        (status = 404, description = "No such upload for this key", body = wire::Problem),
        (status = 410, description = "It was gone before", body = wire::Problem),
        (status = 412, description = "Another version of tus", body = wire::Problem),
    )
)]
pub(super) async fn end(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Segment(id): Segment,
    request: Request,
) -> Result<Response, Problem> {
    caller.admit(&gate, request.uri(), Need::UploadForgets, &[])?;
    fields::version(request.headers())?;
    let upload = find(&gate, &caller, &id, Face::Tus)?;
    arriving::end(&gate, &caller, &upload)
}
