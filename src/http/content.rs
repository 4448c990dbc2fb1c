//! A file's bytes: whole or one range, as an attachment that no browser will run.

use std::fmt::Write;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::accept::Peer;
use super::body::Outgoing;
use super::caller::Caller;
use super::files::find;
use super::query::Query;
use super::{Gate, Problem};
use crate::deliver::{Conditions, Selection};
use crate::problem::Slug;
use crate::table::LiveFile;
use crate::vault::Record;

/// The bytes of a file.
///
/// One `Range` is honoured, several give the whole file. A file with `downloads` answers with
/// `Dayfly-Claim`: a delivery that breaks may be continued for 60 s with that header and a Range.
#[utoipa::path(
    get,
    path = "/v1/files/{id}/content",
    tag = "files",
    security(("key" = [])),
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
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require(|roles| roles.client)?;
    Query::parse(request.uri(), &[])?;
    caller.throttle(&gate)?;
    let file = find(&gate, &caller, &id)?;
    let record = gate.pipeline.record(&file)?;
    let headers = request.headers();
    let size = file.size();
    let selected = conditions(headers).select(size, &file.etag);
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
    let delivered = gate.pipeline.deliver(&file, range, continued);
    let (delivery, claim) = match delivered {
        Err(crate::pipeline::PipelineError::Downloaded) => {
            return Err(Problem::gone(file.id, crate::file::Reason::Downloaded));
        }
        other => other?,
    };
    if let Some(claim) = claim {
        insert(response.headers_mut(), HeaderName::from_static("dayfly-claim"), &claim);
    }
    let peer = request.extensions().get::<Peer>().cloned();
    *response.body_mut() = Outgoing::body(delivery, peer);
    Ok(response)
}

fn conditions(headers: &HeaderMap) -> Conditions<'_> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    Conditions {
        if_match: text(header::IF_MATCH),
        if_none_match: text(header::IF_NONE_MATCH),
        if_range: text(header::IF_RANGE),
        range: text(header::RANGE),
    }
}

/// What is said about the bytes, whichever of them are sent.
fn describe(headers: &mut HeaderMap, file: &LiveFile, record: &Record) {
    insert(headers, header::CONTENT_TYPE, &record.media_type);
    insert(headers, header::ETAG, &file.etag);
    insert(headers, header::CONTENT_DISPOSITION, &disposition(record.name.as_deref()));
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

/// Always an attachment; the name percent-encoded (RFC 8187), so that no character of it can end
/// the header.
fn disposition(name: Option<&str>) -> String {
    let Some(name) = name else { return "attachment".to_owned() };
    let mut header = "attachment; filename*=UTF-8''".to_owned();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
            header.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(header, "%{byte:02X}");
        }
    }
    header
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_end_its_header() {
        assert_eq!(disposition(None), "attachment");
        assert_eq!(
            disposition(Some("a\"; b\r\n é.pdf")),
            "attachment; filename*=UTF-8''a%22%3B%20b%0D%0A%20%C3%A9.pdf"
        );
    }
}
