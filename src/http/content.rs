//! A file's bytes: whole or one range, as an attachment that no browser will run.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::body::{Outgoing, Recipient};
use super::caller::{Caller, Need};
use super::files::find;
use super::segment::Segment;
use super::{Gate, Problem, disposition};
use crate::deliver::{Conditions, Selection};
use crate::problem::Slug;
use crate::receipt::Action;
use crate::table::LiveFile;
use crate::vault::Record;

/// The bytes of a file.
///
/// One `Range` is honoured, several give the whole file. A file with `downloads`, or a grant,
/// answers with `Dayfly-Claim`: a delivery that breaks may be continued for 60 s with that header
/// and a Range.
#[utoipa::path(
    get,
    path = "/v1/files/{id}/content",
    tag = "files",
    security(("key" = ["client"])),
    params(
        ("id" = String, Path, description = "The file's id"),
        ("Range" = Option<String>, Header, description = "One byte range (RFC 9110)"),
        ("If-Range" = Option<String>, Header, description = "The strong ETag"),
        ("If-Match" = Option<String>, Header, description = "ETags, else 412"),
        ("If-None-Match" = Option<String>, Header, description = "ETags, then 304"),
        ("Dayfly-Claim" = Option<String>, Header, description = "Continues a broken delivery"),
    ),
    responses(
        (status = 200, description = "The whole file", content_type = "application/octet-stream"),
        (status = 206, description = "The range", content_type = "application/octet-stream"),
        (status = 304, description = "The client's copy is the file"),
        (status = 404, description = "No such file for this key", body = crate::wire::Problem),
        (status = 410, description = "It was, and is gone", body = crate::wire::Problem),
        (status = 412, description = "Another ETag", body = crate::wire::Problem),
        (status = 416, description = "Outside the file", body = crate::wire::Problem),
    )
)]
pub(super) async fn read(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Segment(id): Segment,
    request: Request,
) -> Result<Response, Problem> {
    caller.admit(&gate, request.uri(), Need::Download, &[])?;
    let granted = caller.downloads_of(&id)?;
    let file = find(&gate, &caller, &id)?;
    let record = gate.pipeline.record(&file)?;
    let headers = request.headers();
    let size = file.size();
    let selected = Lines::of(headers).conditions().select(size, &file.etag);
    let (range, status) = match selected {
        Selection::Whole => (0..size, StatusCode::OK),
        Selection::Part(range) => (range, StatusCode::PARTIAL_CONTENT),
        Selection::NotModified => return Ok(not_modified(&file)),
        Selection::PreconditionFailed => return Err(Slug::PreconditionFailed.into()),
        Selection::Unsatisfiable => return Err(unsatisfiable(size)),
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    describe(response.headers_mut(), &file, &record);
    let length = range.end - range.start;
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if status == StatusCode::PARTIAL_CONTENT {
        let part = format!("bytes {}-{}/{size}", range.start, range.end - 1);
        insert(response.headers_mut(), header::CONTENT_RANGE, &part);
    }
    if request.method() == Method::HEAD {
        return Ok(response);
    }
    let continued = headers.get("dayfly-claim").and_then(|value| value.to_str().ok());
    let delivered = gate.pipeline.deliver_under(&file, range, continued, granted);
    let (delivery, claim) = match delivered {
        Err(crate::pipeline::PipelineError::Downloaded) => {
            return Err(Problem::gone(file.id, crate::file::Reason::Downloaded));
        }
        other => other?,
    };
    caller.note(&gate, Action::FileRead, Some(file.id.into()));
    if let Some(claim) = claim {
        insert(response.headers_mut(), HeaderName::from_static("dayfly-claim"), &claim);
    }
    let to = Recipient::of(&request);
    *response.body_mut() = Outgoing::body(&gate, delivery, &to);
    Ok(response)
}

/// The headers that decide what is sent, several lines of one name as one list (RFC 9110, 5.3).
struct Lines {
    if_match: Option<String>,
    if_none_match: Option<String>,
    if_range: Option<String>,
    range: Option<String>,
}

impl Lines {
    fn of(headers: &HeaderMap) -> Self {
        // A value that is no text is no entity tag and no range of ours.
        let list = |name| joined(headers, &name).map(|found| found.unwrap_or_default());
        Self {
            if_match: list(header::IF_MATCH),
            if_none_match: list(header::IF_NONE_MATCH),
            if_range: list(header::IF_RANGE),
            range: list(header::RANGE),
        }
    }

    fn conditions(&self) -> Conditions<'_> {
        Conditions {
            if_match: self.if_match.as_deref(),
            if_none_match: self.if_none_match.as_deref(),
            if_range: self.if_range.as_deref(),
            range: self.range.as_deref(),
        }
    }
}

/// All lines of a header as one list; an error if one of them is not visible ASCII.
pub(super) fn joined(
    headers: &HeaderMap,
    name: &HeaderName,
) -> Option<Result<String, http::header::ToStrError>> {
    let mut lines = headers.get_all(name).iter().map(HeaderValue::to_str).peekable();
    lines.peek()?;
    let all: Result<Vec<&str>, _> = lines.collect();
    Some(all.map(|lines| lines.join(", ")))
}

/// What is said about the bytes, whichever of them are sent.
fn describe(headers: &mut HeaderMap, file: &LiveFile, record: &Record) {
    insert(headers, header::CONTENT_TYPE, &record.media_type);
    insert(headers, header::ETAG, &file.etag);
    insert(headers, header::CONTENT_DISPOSITION, &disposition::write(record.name.as_deref()));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    insert(headers, HeaderName::from_static("dayfly-region"), file.origin.region.as_str());
    let expires_at = file.expires_at().rfc3339();
    insert(headers, HeaderName::from_static("dayfly-expires-at"), &expires_at);
    if let Some(digest) = digest_header(record) {
        insert(headers, HeaderName::from_static("repr-digest"), &digest);
    }
}

/// `Repr-Digest` (RFC 9530) of the whole file, where a digest was computed.
pub(super) fn digest_header(record: &Record) -> Option<String> {
    let named = [("sha-256", &record.digests.sha256), ("sha-512", &record.digests.sha512)];
    let parts: Vec<String> = named
        .into_iter()
        .filter_map(|(name, value)| value.as_ref().map(|value| format!("{name}=:{value}:")))
        .collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn not_modified(file: &LiveFile) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    insert(response.headers_mut(), header::ETAG, &file.etag);
    response
}

fn unsatisfiable(size: u64) -> Problem {
    let problem = Problem::new(Slug::RangeNotSatisfiable);
    match HeaderValue::from_str(&format!("bytes */{size}")) {
        Ok(value) => problem.with(header::CONTENT_RANGE, value),
        Err(_) => problem,
    }
}

/// Sets a header whose value is ours; one that is no header value is left out.
pub(super) fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
