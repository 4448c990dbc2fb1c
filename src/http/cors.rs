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
            ours("dayfly-region"),
            ours("dayfly-receipt"),
        ])
}
