//! Which browser origins may read responses: exactly those the operator lists.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::Gate;

pub(super) fn layer(gate: &Arc<Gate>) -> CorsLayer {
    let gate = gate.clone();
    let listed = move |origin: &HeaderValue, _: &http::request::Parts| {
        let rules = gate.rules.load();
        rules.cors_origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes())
    };
    let ours = |name: &'static str| HeaderName::from_static(name);
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
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::CONTENT_DISPOSITION,
            header::RANGE,
            header::IF_RANGE,
            header::IF_MATCH,
            header::IF_NONE_MATCH,
            ours("idempotency-key"),
            ours("last-event-id"),
            ours("want-repr-digest"),
            ours("repr-digest"),
            ours("content-digest"),
            ours("dayfly-claim"),
            ours("dayfly-password"),
            ours("tus-resumable"),
            ours("upload-length"),
            ours("upload-offset"),
            ours("upload-metadata"),
            ours("upload-defer-length"),
            ours("upload-concat"),
            ours("upload-checksum"),
            ours("upload-complete"),
            ours("upload-draft-interop-version"),
            ours("x-http-method-override"),
            ours("x-requested-with"),
            ours("x-request-id"),
        ])
        .expose_headers([
            header::LOCATION,
            header::ETAG,
            header::CONTENT_DISPOSITION,
            header::CONTENT_RANGE,
            header::RETRY_AFTER,
            ours("repr-digest"),
            ours("x-request-id"),
            ours("dayfly-claim"),
            ours("dayfly-expires-at"),
            ours("dayfly-promise"),
            ours("dayfly-region"),
            ours("dayfly-receipt"),
            ours("dayfly-file"),
            ours("dayfly-job"),
            ours("tus-resumable"),
            ours("tus-version"),
            ours("tus-extension"),
            ours("tus-max-size"),
            ours("tus-checksum-algorithm"),
            ours("upload-offset"),
            ours("upload-length"),
            ours("upload-metadata"),
            ours("upload-defer-length"),
            ours("upload-concat"),
            ours("upload-expires"),
            ours("upload-complete"),
            ours("upload-limit"),
        ])
}
