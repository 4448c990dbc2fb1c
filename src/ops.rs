//! The operator's face: is it alive, is it ready, what does it hold.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, StatusCode, header};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;

use crate::budget::Budget;
use crate::clock::Clock;
use crate::entropy::Entropy;
use crate::http::{Problem, request_id};
use crate::jail::Jail;
use crate::keyring::Keys;
use crate::metrics;
use crate::pipeline::Pipeline;
use crate::problem::Slug;
use crate::tasks::{Shutdown, Tasks};

mod doctor;
mod drain;
pub use doctor::{Facts, Finding, Standing, examine};
pub use drain::{DrainError, Running};

/// What the admin listener looks at.
pub struct Admin {
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub metrics: PrometheusHandle,
    pub pipeline: Pipeline,
    pub keys: Arc<Keys>,
    pub jail: Arc<Jail>,
    pub budget: Budget,
    pub tasks: Tasks,
    pub shutdown: Shutdown,
}

/// `/livez`, `/readyz` and `/metrics`, for callers that name this listener as their host: a page in
/// a browser cannot reach it under a name of its own (DNS rebinding).
pub fn admin(admin: Admin, at: SocketAddr) -> Router {
    Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(scrape))
        .fallback(|State(admin): State<Arc<Admin>>| async move { admin.problem(Slug::NotFound) })
        .method_not_allowed_fallback(|State(admin): State<Arc<Admin>>| async move {
            admin.problem(Slug::MethodNotAllowed)
        })
        .layer(from_fn_with_state(at, known_host))
        .with_state(Arc::new(admin))
}

async fn known_host(State(at): State<SocketAddr>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    let host = authority.or(host).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let ours = ["localhost", "127.0.0.1", "[::1]"].contains(&name)
        || at.ip().to_string() == name
        || format!("[{}]", at.ip()) == name;
    let mut response = if ours {
        next.run(request).await
    } else {
        let advice = "This listener answers to its address or localhost.\n";
        (StatusCode::MISDIRECTED_REQUEST, advice).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    let mut reasons = Vec::new();
    if admin.shutdown.has_begun() {
        reasons.push("stopping: nothing new is taken in");
    } else if admin.shutdown.is_draining() {
        reasons.push("draining: nothing new is taken in, and it ends with the last file");
    }
    if admin.pipeline.census().overdue > 0 {
        reasons.push("files are alive past their deadline");
    }
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({ "ready": ready, "reasons": reasons }).to_string();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn scrape(State(admin): State<Arc<Admin>>) -> Response {
    admin.refresh();
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, admin.metrics.render()).into_response()
}

impl Admin {
    fn problem(&self, slug: Slug) -> Response {
        Problem::new(slug).render(&request_id(&*self.entropy))
    }

    /// Gauges are read when somebody looks, not kept up to date on every request.
    fn refresh(&self) {
        let census = self.pipeline.census();
        metrics::set(metrics::LIVE_FILES, census.files as f64);
        metrics::set(metrics::LIVE_BYTES, census.bytes as f64);
        metrics::set(metrics::OVERDUE_DELETIONS, census.overdue as f64);
        metrics::set(metrics::OLDEST_LIVE, census.oldest.as_secs_f64());
        let pending = self.pipeline.pending_deletes();
        metrics::set(metrics::STORE_DELETES_PENDING, pending as f64);
        metrics::set(metrics::BUDGET, self.budget.total() as f64);
        metrics::set(metrics::BUDGET_USED, self.budget.used() as f64);
        metrics::set(metrics::KEYRING_SLOTS_USED, self.keys.secrets_held() as f64);
        let epochs = self.keys.epochs_held();
        metrics::set(metrics::KEYRING_KERNEL_KEYS, epochs.kernel as f64);
        metrics::set(metrics::KEYRING_MEMORY_KEYS, epochs.memory as f64);
        metrics::set(metrics::WORKERS_RUNNING, self.jail.busy() as f64);
        metrics::total(metrics::TASKS_PANICKED, self.tasks.panicked());
        self.metrics.run_upkeep();
    }
}
