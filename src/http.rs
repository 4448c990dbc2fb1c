//! The public face: routes, who may use them, and how every refusal is said.
//!
//! A request is refused in a fixed order, before its body is read: credential in the URL, key,
//! role, route, policy, size, rate, load. The body is polled only after that, so a client that
//! waits for `100 Continue` never gets one for a refused upload.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::clock::{Clock, Wall};
use crate::connect::Connect;
use crate::entropy::Entropy;
use crate::pipeline::Pipeline;
use crate::policy::Policy;
use crate::process::Registry;
use crate::provider::{Provider, Service};
use crate::receipt::Audit;
use crate::table::{Grants, Idempotency};
use crate::tasks::{Shutdown, Tasks};

mod about;
mod accept;
mod arriving;
mod audit;
mod body;
mod caller;
mod connections;
mod consent;
mod content;
mod cors;
mod describe;
mod digests;
mod disposition;
mod events;
mod files;
mod frames;
mod grants;
mod guard;
mod interim;
mod jobs;
mod leftover;
mod line;
mod log;
mod neighbour;
mod pages;
mod partial;
mod places;
mod policy;
mod problem;
mod process;
mod query;
mod receipts;
mod replay;
mod segment;
mod socket;
mod tenants;
mod throttle;
mod tls;
mod tus;
mod upload;
mod watch;

pub use accept::{Door, Listener};
use describe::Security;
pub use guard::request_id;
pub use neighbour::{Network, Proxies};
pub use places::Crowd;
pub use problem::Problem;
pub use throttle::Throttle;
pub use tls::{Certificates, Pair, TlsError, TlsFiles};
pub use watch::Watch;

/// What the operator can change while the gateway runs. A request ends under the rules it began
/// with.
pub struct Rules {
    pub policy: Policy,
    pub steps: Registry,
    pub providers: BTreeMap<Service, Arc<dyn Provider>>,
    pub cors_origins: Vec<String>,
    pub loaded_at: Wall,
}

/// What the gateway says about itself.
pub struct About {
    pub version: &'static str,
    pub build: &'static str,
    pub keyring: &'static str,
    pub pages: &'static str,
    pub store: &'static str,
    pub accepted_limits: Vec<String>,
    pub started_at: Wall,
}

/// Everything a request can reach.
pub struct Gate {
    // Dependencies.
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub pipeline: Pipeline,
    pub connect: Connect,
    pub rules: Arc<ArcSwap<Rules>>,
    pub shutdown: Shutdown,
    pub tasks: Tasks,
    // State.
    pub idempotency: Idempotency,
    pub grants: Arc<Grants>,
    pub audit: Arc<Audit>,
    pub throttle: Throttle,
    pub watch: Watch,
    /// Keys the fingerprints of repeated requests; drawn afresh by every process.
    pub fingerprint_key: hmac::Key,
    /// Whose word on a client's address is taken.
    pub proxies: Proxies,
    // Words.
    pub about: About,
}

type Shared = Arc<Gate>;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Dayfly",
        description = "The gateway that forgets: files are sealed as they stream in, processed in \
            memory, handed back, and made unreadable for good within 24 hours. Every GET answers \
            HEAD, too, without a body."
    ),
    tags(
        (name = "files", description = "Take files in, hand them out, forget them"),
        (name = "uploads", description = "Take files in by several requests: tus 1.0.0, and the \
            IETF's draft, which POST /v1/files begins"),
        (name = "processing", description = "Bytes in, result out, nothing left behind"),
        (name = "connections", description = "Dropbox and Google Drive, by a person's consent"),
        (name = "jobs", description = "Work that is asked for now and fetched later"),
        (name = "grants", description = "Hand a small right on: to a browser, or for one file"),
        (name = "rights", description = "What a tenant may ask of all it has here"),
        (name = "receipts", description = "What was accepted, and that it was destroyed"),
        (name = "log", description = "The log of proofs: anybody can check that nothing is missing"),
        (name = "instance", description = "What this gateway is and allows"),
        (name = "pages", description = "These pages")
    ),
    components(schemas(crate::wire::Problem)),
    modifiers(&Security)
)]
struct Api;

/// Every route, and the document that describes them.
fn routes() -> (Router<Shared>, utoipa::openapi::OpenApi) {
    let (router, mut document) = OpenApiRouter::<Shared>::with_openapi(Api::openapi())
        .routes(routes!(upload::create, files::list))
        .routes(routes!(upload::put_unnamed))
        .routes(routes!(upload::put_named, files::show, files::shorten, files::delete))
        .routes(routes!(content::read))
        .routes(routes!(tus::create))
        .routes(routes!(tus::look, tus::append, tus::end))
        .routes(routes!(partial::look, partial::append, partial::end))
        .routes(routes!(process::run))
        .routes(routes!(jobs::create, jobs::list))
        .routes(routes!(jobs::show, jobs::cancel))
        .routes(routes!(events::follow))
        .routes(routes!(receipts::show))
        .routes(routes!(receipts::proof))
        .routes(routes!(log::checkpoint))
        .routes(routes!(log::key))
        .routes(routes!(log::policy))
        .routes(routes!(log::note))
        .routes(routes!(log::tile))
        .routes(routes!(connections::create, connections::list))
        .routes(routes!(connections::show, connections::delete))
        .routes(routes!(connections::confirm))
        .routes(routes!(connections::items))
        .routes(routes!(consent::show))
        .routes(routes!(consent::consent))
        .routes(routes!(consent::refuse))
        .routes(routes!(consent::disconnect))
        .routes(routes!(consent::account))
        .routes(routes!(consent::callback))
        .routes(routes!(grants::create))
        .routes(routes!(audit::list))
        .routes(routes!(tenants::erase))
        .routes(routes!(tenants::suspend, tenants::resume))
        .routes(routes!(tenants::export))
        .routes(routes!(about::processors))
        .routes(routes!(about::regions))
        .routes(routes!(about::whoami))
        .routes(routes!(about::status))
        .routes(routes!(policy::show))
        .routes(routes!(policy::explain))
        .routes(routes!(pages::openapi))
        .routes(routes!(pages::docs))
        .routes(routes!(pages::problems))
        .routes(routes!(pages::problem))
        .routes(routes!(pages::stylesheet))
        .split_for_parts();
    // The router's star, which takes the slashes too, is not the document's.
    if let Some(tile) = document.paths.paths.remove("/log/tile/{*tile}") {
        document.paths.paths.insert("/log/tile/{tile}".to_owned(), tile);
    }
    describe::complete(&mut document);
    (router, document)
}

/// The OpenAPI 3.1 document, generated from the routes themselves.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    routes().1
}

/// The whole public service.
pub fn service(gate: &Shared) -> Router {
    routes()
        .0
        .fallback(guard::nothing_here)
        .method_not_allowed_fallback(guard::wrong_method)
        .layer(from_fn_with_state(gate.clone(), guard::authenticated))
        .layer(from_fn(guard::well_addressed))
        .layer(cors::layer(gate))
        .layer(from_fn_with_state(gate.clone(), tus::announced))
        .layer(from_fn_with_state(gate.clone(), guard::finished))
        .with_state(gate.clone())
}
