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
use axum::middleware::from_fn_with_state;
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
use crate::table::Idempotency;
use crate::tasks::{Shutdown, Tasks};

mod about;
mod accept;
mod body;
mod caller;
mod connections;
mod consent;
mod content;
mod cors;
mod disposition;
mod files;
mod guard;
mod leftover;
mod pages;
mod problem;
mod process;
mod query;
mod replay;
mod segment;
mod socket;
mod throttle;
mod upload;
mod watch;

pub use accept::{Door, Listener};
pub use problem::Problem;
pub use throttle::Throttle;
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
    pub throttle: Throttle,
    pub watch: Watch,
    /// Keys the fingerprints of repeated requests; drawn afresh by every process.
    pub fingerprint_key: hmac::Key,
    // Words.
    pub about: About,
}

type Shared = Arc<Gate>;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Dayfly",
        description = "The gateway that forgets: files are sealed as they stream in, processed in \
            memory, handed back, and made unreadable for good within 24 hours."
    ),
    tags(
        (name = "files", description = "Take files in, hand them out, forget them"),
        (name = "processing", description = "Bytes in, result out, nothing left behind"),
        (name = "connections", description = "Dropbox and Google Drive, by a person's consent"),
        (name = "receipts", description = "What was accepted, and that it was destroyed"),
        (name = "instance", description = "What this gateway is and allows"),
        (name = "pages", description = "These pages")
    ),
    components(schemas(crate::wire::Problem)),
    modifiers(&Security)
)]
struct Api;

struct Security;

impl utoipa::Modify for Security {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("`dfk_<id>_<secret>`, as `dayfly key new` prints it"))
            .build();
        let components = api.components.get_or_insert_with(Default::default);
        components.add_security_scheme("key", SecurityScheme::Http(bearer));
    }
}

/// Every route, and the document that describes them.
fn routes() -> (Router<Shared>, utoipa::openapi::OpenApi) {
    OpenApiRouter::<Shared>::with_openapi(Api::openapi())
        .routes(routes!(upload::create, files::list))
        .routes(routes!(upload::put_unnamed))
        .routes(routes!(upload::put_named, files::show, files::shorten, files::delete))
        .routes(routes!(content::read))
        .routes(routes!(process::run))
        .routes(routes!(files::receipt))
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
        .routes(routes!(about::processors))
        .routes(routes!(about::regions))
        .routes(routes!(about::whoami))
        .routes(routes!(about::status))
        .routes(routes!(pages::openapi))
        .routes(routes!(pages::docs))
        .routes(routes!(pages::problems))
        .routes(routes!(pages::problem))
        .routes(routes!(pages::stylesheet))
        .split_for_parts()
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
        .layer(cors::layer(gate))
        .layer(from_fn_with_state(gate.clone(), guard::finished))
        .with_state(gate.clone())
}
