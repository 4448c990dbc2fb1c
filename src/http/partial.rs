//! Resumable uploads as the IETF drafts them (draft-ietf-httpbis-resumable-upload, interop versions
//! 8 and 9): an upload is begun by POST /v1/files, and goes on at an address of its own.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};

use super::accept::Peer;
use super::arriving::{self, Done, find};
use super::body::declared;
use super::caller::{Caller, Need};
use super::content::insert;
use super::guard::stopping;
use super::segment::Segment;
use super::upload::{self, Wish};
use super::{Gate, Problem};
use crate::body::BodyError;
use crate::intake::{Digester, declared_type};
use crate::pipeline::{AnyUpload, Asked, Check, Chunk};
use crate::problem::Slug;
use crate::table::{Face, Progress, Purpose, Standpoint};
use crate::vault::Note;
use crate::wire;

mod fields;

pub(super) use fields::complete;

/// 104 is registered, and http has no name for it.
const RESUMPTION: u16 = 104;

/// Begins an upload with a request that says whether it ends with it, and takes what comes along.
pub(super) async fn create(
    gate: &Arc<Gate>,
    caller: &Caller,
    wish: Wish,
    digester: Digester,
    request: Request,
) -> Result<Response, Problem> {
    let headers = request.headers();
    is_one_file(&wish, headers)?;
    let last = fields::complete(headers).ok_or(Slug::BadRequest)?;
    let bytes = known_length(&request);
    let length = length(headers, last, bytes)?;
    let limit = wish.terms.max_bytes;
    if length.is_some_and(|length| length > limit) {
        return Err(refusal(gate, BodyError::TooLarge { limit }.into(), last));
    }
    if !gate.pipeline.has_quota(caller.tenant_id(), &wish.terms, length) {
        return Err(Problem::later(Slug::QuotaExceeded, 60));
    }
    let version = fields::version(headers);
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let note = Note {
        name: wish.name,
        declared_type: kind.and_then(declared_type),
        metadata: None,
        concat: None,
        downloads: wish.downloads,
    };
    let asked = Asked {
        who: caller.who(),
        face: Face::Draft,
        purpose: Purpose::Whole,
        terms: wish.terms,
        length,
        note,
        recipe: wish.recipe,
        claim: caller.claim_upload()?,
        digester,
    };
    let upload = gate.pipeline.begin_upload(caller.tenant_id(), asked)?;
    let speaks = Interlocutor::of(&request, version);
    if speaks.was_heard() {
        // A client that is told of it may ask for it after a crash.
        gate.pipeline.acknowledge_upload(&upload).await?;
        speaks.begun(gate, &upload);
    }
    let chunk = Chunk {
        input: super::body::incoming(request.into_body()),
        declared: bytes,
        at: 0,
        length: None,
        last,
        strict: true,
        check: Check::Nothing,
    };
    let done = arriving::add(gate, caller, &upload, chunk, !speaks.was_heard()).await;
    let done = done.map_err(|problem| refusal(gate, problem, last))?;
    let mut response = answer(gate, &upload, &done, last)?;
    if done.file.is_none() {
        *response.status_mut() = StatusCode::CREATED;
        let headers = response.headers_mut();
        insert(headers, header::LOCATION, &address(&upload));
        limits(gate, headers, &upload);
        arriving::tell_of_upload(gate, headers, &upload).await?;
    }
    Ok(response)
}

/// Refuses what else an upload may be, and a resumable one is not.
fn is_one_file(wish: &Wish, headers: &HeaderMap) -> Result<(), Problem> {
    if wish.boundary.is_some() {
        let detail = "A resumable upload is one file: its body is the file.";
        return Err(Problem::because(Slug::BadRequest, detail));
    }
    if headers.contains_key("idempotency-key") {
        // What makes it safe to go on is the upload's own address.
        return Err(Slug::IdempotencyUnsupported.into());
    }
    Ok(())
}

/// Bytes of a request's body, where they are known before it is read.
fn known_length(request: &Request) -> Option<u64> {
    let empty = http_body::Body::is_end_stream(request.body());
    declared(request).or(empty.then_some(0))
}

/// The whole upload's length, as a first request tells it in up to two ways.
fn length(headers: &HeaderMap, last: bool, bytes: Option<u64>) -> Result<Option<u64>, Problem> {
    let said = fields::length(headers);
    match (said, bytes) {
        (Some(said), Some(bytes)) if bytes > said || (last && bytes != said) => {
            Err(Problem::new(Slug::InconsistentUploadLength).registered())
        }
        (Some(said), _) => Ok(Some(said)),
        (None, bytes) => Ok(bytes.filter(|_| last)),
    }
}

fn address(upload: &AnyUpload) -> String {
    format!("/v1/uploads/{}", upload.id)
}

fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    insert(headers, HeaderName::from_static(name), value);
}

fn flag(complete: bool) -> &'static str {
    if complete { "?1" } else { "?0" }
}

/// `Upload-Limit`; its `max-age` is the seconds that are left.
fn limits(gate: &Gate, headers: &mut HeaderMap, upload: &AnyUpload) {
    let ends = upload.origin.keys.deadline().unwrap_or(upload.origin.deadline);
    let left = ends.left(gate.clock.now()).as_secs();
    set(headers, "upload-limit", &format!("max-size={}, max-age={left}", upload.max_bytes));
}

/// Who is spoken to before the answer: a client over HTTP/1.1 that named a version of ours.
struct Interlocutor {
    peer: Option<(Peer, i64)>,
}

impl Interlocutor {
    fn of(request: &Request, version: Option<i64>) -> Self {
        let one = request.version() == Version::HTTP_11;
        let peer = request.extensions().get::<Peer>().filter(|_| one).cloned();
        Self { peer: peer.zip(version) }
    }

    const fn was_heard(&self) -> bool {
        self.peer.is_some()
    }

    fn say(&self, mut fields: HeaderMap) {
        let Some((peer, version)) = &self.peer else { return };
        set(&mut fields, "upload-draft-interop-version", &version.to_string());
        if let Ok(status) = StatusCode::from_u16(RESUMPTION) {
            peer.interim.say((status, "Upload Resumption Supported"), &fields);
        }
    }

    /// Where to go on, should the request break off.
    fn begun(&self, gate: &Gate, upload: &AnyUpload) {
        let mut fields = HeaderMap::new();
        insert(&mut fields, header::LOCATION, &address(upload));
        set(&mut fields, "upload-offset", "0");
        limits(gate, &mut fields, upload);
        self.say(fields);
    }

    /// How much is kept already.
    fn kept(&self, offset: u64) {
        let mut fields = HeaderMap::new();
        set(&mut fields, "upload-offset", &offset.to_string());
        self.say(fields);
    }
}

/// What a refusal also says: that the upload is not complete, or that it was what was asked for;
/// and to whoever sends too much, how much there may be.
fn refusal(gate: &Gate, problem: Problem, last: bool) -> Problem {
    let mismatch = problem.slug() == Slug::MismatchingUploadOffset;
    let said = HeaderValue::from_static(flag(last && !mismatch));
    let too_large = problem.slug() == Slug::TooLarge;
    let problem = problem.registered().with(HeaderName::from_static("upload-complete"), said);
    let most = gate.rules.load().policy.max_file_bytes;
    match HeaderValue::from_str(&format!("max-size={most}")) {
        Ok(limit) if too_large => problem.with(HeaderName::from_static("upload-limit"), limit),
        Ok(_) | Err(_) => problem,
    }
}

/// The answer to bytes that were added: that of the original request once the upload is a file.
fn answer(gate: &Gate, upload: &AnyUpload, done: &Done, last: bool) -> Result<Response, Problem> {
    let offset = done.progress.offset;
    if let Some(broke) = done.broke {
        let problem = arriving::with_offset(arriving::broken(broke), offset);
        return Err(problem.with(HeaderName::from_static("upload-complete"), NOT_COMPLETE));
    }
    let mut response = match &done.file {
        Some(file) => upload::created(gate, std::slice::from_ref(file), false, done.job)?,
        None => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
    };
    let headers = response.headers_mut();
    set(headers, "upload-offset", &offset.to_string());
    match (&done.file, upload.file()) {
        (Some(file), _) => {
            set(headers, "upload-complete", "?1");
            arriving::tell_of_file(headers, &file.id.to_string(), done.job);
        }
        (None, Some(file)) => {
            // It was complete before: nothing was added.
            set(headers, "upload-complete", flag(last));
            arriving::tell_of_file(headers, &file.to_string(), None);
        }
        (None, None) => set(headers, "upload-complete", "?0"),
    }
    Ok(response)
}

const NOT_COMPLETE: HeaderValue = HeaderValue::from_static("?0");

/// Where an upload stands. Whoever is writing to it lets go: the offset told is where the next
/// bytes belong.
#[utoipa::path(
    get,
    path = "/v1/uploads/{id}",
    tag = "uploads",
    security(("key" = ["client"])),
    params(("id" = String, Path, description = "The upload's id")),
    responses(
        (status = 204, description = "`Upload-Offset`, `Upload-Complete`, `Upload-Limit` and, where \
            it is known, `Upload-Length`"),
        (status = 404, description = "No such upload for this key", body = wire::Problem),
        (status = 410, description = "It was, and is gone", body = wire::Problem),
    )
)]
pub(super) async fn look(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Segment(id): Segment,
    request: Request,
) -> Result<Response, Problem> {
    caller.admit(&gate, request.uri(), Need::Upload, &[])?;
    let upload = find(&gate, &caller, &id, Face::Draft)?;
    let seen = gate.pipeline.look(&upload).await?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    let (progress, file) = match seen {
        Standpoint::Resting(progress) => (progress, None),
        Standpoint::Complete(file, bytes) => {
            (Progress { offset: bytes, length: Some(bytes) }, Some(file.to_string()))
        }
        Standpoint::Moved(bytes) => (Progress { offset: bytes, length: Some(bytes) }, None),
    };
    set(headers, "upload-offset", &progress.offset.to_string());
    set(headers, "upload-complete", flag(file.is_some()));
    if let Some(length) = progress.length {
        set(headers, "upload-length", &length.to_string());
    }
    limits(&gate, headers, &upload);
    if let Some(file) = file {
        arriving::tell_of_file(headers, &file, None);
    }
    Ok(response)
}

/// Adds bytes to an upload that POST /v1/files began. With `Upload-Complete: ?1` it ends with them,
/// and the answer is the one that request would have had.
#[utoipa::path(
    patch,
    path = "/v1/uploads/{id}",
    tag = "uploads",
    security(("key" = ["client"])),
    params(
        ("id" = String, Path, description = "The upload's id"),
        ("Upload-Offset" = u64, Header, description = "Where the bytes belong"),
        ("Upload-Complete" = String, Header, description = "`?1`: it ends with them; `?0`"),
        ("Upload-Length" = Option<u64>, Header, description = "Bytes in all, if not said before"),
    ),
    request_body(content = Vec<u8>, content_type = "application/partial-upload"),
    responses(
        (status = 201, description = "The file", body = wire::File),
        (status = 204, description = "They are kept; `Upload-Offset` is where the next belong"),
        (status = 400, description = "A field is missing, or the length contradicts what was said: \
            then the upload has ended", body = wire::Problem),
        (status = 403, description = "It takes no more bytes", body = wire::Problem),
        (status = 404, description = "No such upload for this key", body = wire::Problem),
        (status = 409, description = "Another offset, or another request writes to it",
            body = wire::Problem),
        (status = 410, description = "It was, and is gone", body = wire::Problem),
        (status = 413, description = "Too large", body = wire::Problem),
        (status = 415, description = "A body of another type", body = wire::Problem),
    )
)]
pub(super) async fn append(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Segment(id): Segment,
    request: Request,
) -> Result<Response, Problem> {
    caller.admit(&gate, request.uri(), Need::Upload, &[])?;
    stopping(&gate)?;
    let upload = find(&gate, &caller, &id, Face::Draft)?;
    let headers = request.headers();
    if !fields::is_partial(headers) {
        let detail = "The body's type is application/partial-upload.";
        return Err(Problem::because(Slug::UnsupportedMediaType, detail));
    }
    let missing = "An append says Upload-Offset and Upload-Complete.";
    let missing = || Problem::because(Slug::BadRequest, missing);
    let at = fields::offset(headers).ok_or_else(missing)?;
    let last = fields::complete(headers).ok_or_else(missing)?;
    let length = fields::length(headers);
    if upload.rests_at(at) {
        Interlocutor::of(&request, fields::version(headers)).kept(at);
    }
    let bytes = known_length(&request);
    let chunk = Chunk {
        input: super::body::incoming(request.into_body()),
        declared: bytes,
        at,
        length,
        last,
        strict: true,
        check: Check::Nothing,
    };
    let done = arriving::add(&gate, &caller, &upload, chunk, false).await;
    let done = done.map_err(|problem| refusal(&gate, problem, last))?;
    answer(&gate, &upload, &done, last)
}

/// Ends an upload: its keys are destroyed, and those of the file it has become.
#[utoipa::path(
    delete,
    path = "/v1/uploads/{id}",
    tag = "uploads",
    security(("key" = ["client"])),
    params(("id" = String, Path, description = "The upload's id")),
    responses(
        (status = 204, description = "Nothing of it can be opened any more"),
        (status = 404, description = "No such upload for this key", body = wire::Problem),
        (status = 410, description = "It was gone before", body = wire::Problem),
    )
)]
pub(super) async fn end(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Segment(id): Segment,
    request: Request,
) -> Result<Response, Problem> {
    caller.admit(&gate, request.uri(), Need::UploadForgets, &[])?;
    let upload = find(&gate, &caller, &id, Face::Draft)?;
    arriving::end(&gate, &caller, &upload)
}
