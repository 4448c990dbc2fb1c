//! What a client learns of resumable uploads before it begins one, and what every answer says.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::fields::VERSION;
use crate::http::{Gate, content};
use crate::intake::ALGORITHMS;

const EXTENSIONS: &str = "creation,creation-with-upload,creation-defer-length,expiration,checksum,\
                          checksum-trailer,termination,concatenation";

/// Adds the version to every answer of this protocol, and to OPTIONS what is offered. The limits
/// are the instance's: a tenant's may be smaller, and nobody has said who asks.
pub(in crate::http) async fn announced(
    State(gate): State<Arc<Gate>>,
    request: Request,
    next: Next,
) -> Response {
    let (tus, draft) = (is_ours(request.uri().path()), request.uri().path() == "/v1/files");
    let asks = *request.method() == Method::OPTIONS;
    let mut response = next.run(request).await;
    if !(tus || asks && draft) {
        return response;
    }
    let most = gate.rules.load().policy.max_file_bytes;
    let headers = response.headers_mut();
    if tus {
        set(headers, "tus-resumable", VERSION);
    }
    if asks && tus {
        set(headers, "tus-version", VERSION);
        set(headers, "tus-extension", EXTENSIONS);
        set(headers, "tus-max-size", &most.to_string());
        set(headers, "tus-checksum-algorithm", ALGORITHMS);
    }
    if asks && draft {
        set(headers, "upload-limit", &format!("max-size={most}"));
    }
    response
}

fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    content::insert(headers, HeaderName::from_static(name), value);
}

fn is_ours(path: &str) -> bool {
    path.strip_prefix("/v1/tus").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A client behind something that knows only GET and POST writes its method in a header.
pub(in crate::http) fn overridden<B>(request: &mut http::Request<B>) {
    let over = HeaderName::from_static("x-http-method-override");
    if *request.method() != Method::POST || !is_ours(request.uri().path()) {
        return;
    }
    let asked = request.headers().get(over).map(HeaderValue::as_bytes);
    let known = [Method::PATCH, Method::DELETE, Method::HEAD, Method::OPTIONS];
    let meant = known.into_iter().find(|method| Some(method.as_str().as_bytes()) == asked);
    if let Some(meant) = meant {
        *request.method_mut() = meant;
    }
}
