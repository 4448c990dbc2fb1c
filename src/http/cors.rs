//! Which browser origins may read responses: exactly those the operator lists.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::Gate;

/// Fields that a page may send.
const ALLOWED: [&str; 26] = [
    "authorization",
    "content-type",
    "content-disposition",
    "range",
    "if-range",
    "if-match",
    "if-none-match",
    "idempotency-key",
    "last-event-id",
    "want-repr-digest",
    "repr-digest",
    "content-digest",
    "dayfly-claim",
    "dayfly-password",
    "tus-resumable",
    "upload-length",
    "upload-offset",
    "upload-metadata",
    "upload-defer-length",
    "upload-concat",
    "upload-checksum",
    "upload-complete",
    "upload-draft-interop-version",
    "x-http-method-override",
    "x-requested-with",
    "x-request-id",
];

/// Fields that a page may read.
const EXPOSED: [&str; 27] = [
    "location",
    "etag",
    "content-disposition",
    "content-range",
    "retry-after",
    "repr-digest",
    "x-request-id",
    "dayfly-claim",
    "dayfly-expires-at",
    "dayfly-promise",
    "dayfly-region",
    "dayfly-receipt",
    "dayfly-file",
    "dayfly-job",
    "tus-resumable",
    "tus-version",
    "tus-extension",
    "tus-max-size",
    "tus-checksum-algorithm",
    "upload-offset",
    "upload-length",
    "upload-metadata",
    "upload-defer-length",
    "upload-concat",
    "upload-expires",
    "upload-complete",
    "upload-limit",
];

pub(super) fn layer(gate: &Arc<Gate>) -> CorsLayer {
    let gate = gate.clone();
    let listed = move |origin: &HeaderValue, _: &http::request::Parts| {
        let rules = gate.rules.load();
        rules.cors_origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes())
    };
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(listed))
        .allow_methods([
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ])
        .allow_headers(ALLOWED.map(HeaderName::from_static))
        .expose_headers(EXPOSED.map(HeaderName::from_static))
}
