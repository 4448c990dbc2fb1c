//! What this gateway is, allows and offers.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;

use super::caller::{Caller, Need};
use super::guard::json;
use super::{Gate, Problem};
use crate::wire;

/// The processing steps on offer, with their options.
#[utoipa::path(
    get,
    path = "/v1/processors",
    tag = "processing",
    security(("key" = [])),
    responses((status = 200, description = "The steps", body = wire::Processors))
)]
pub(super) async fn processors(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    caller.admit(&gate, request.uri(), Need::AnyRole, &[])?;
    let shown = |about: &crate::process::Description| wire::Processor {
        name: about.name.clone(),
        media_types: about.media_types.clone(),
        options: about.options.clone(),
    };
    let allowed = caller.tenant.processors.as_deref();
    let offered = caller.rules.steps.describe();
    let offered = offered.filter(|about| allowed.is_none_or(|list| list.contains(&about.name)));
    Ok(json(StatusCode::OK, &wire::Processors { processors: offered.map(shown).collect() }))
}

/// The regions, and what holds them.
#[utoipa::path(
    get,
    path = "/v1/regions",
    tag = "instance",
    security(("key" = [])),
    responses((status = 200, description = "The regions", body = wire::Regions))
)]
pub(super) async fn regions(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    caller.admit(&gate, request.uri(), Need::AnyRole, &[])?;
    let policy = &caller.rules.policy;
    let regions = policy.regions.iter().map(|(name, region)| {
        let here = *name == policy.here;
        let at = gate.about.started_at.rfc3339();
        wire::Region {
            name: name.to_string(),
            jurisdiction: region.jurisdiction.clone(),
            gateway: region.gateway.clone().filter(|_| !here),
            here,
            checked: here.then(|| wire::RegionCheck { store: gate.about.store, at }),
        }
    });
    Ok(json(StatusCode::OK, &wire::Regions { regions: regions.collect() }))
}

/// Whose key this is, and what it may.
#[utoipa::path(
    get,
    path = "/v1/whoami",
    tag = "instance",
    security(("key" = [])),
    responses((status = 200, description = "The key's tenant and roles", body = wire::Whoami))
)]
pub(super) async fn whoami(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    caller.admit(&gate, request.uri(), Need::AnyRole, &[])?;
    let (tenant, policy) = (&caller.tenant, &caller.rules.policy);
    let shown = wire::Whoami {
        tenant: caller.principal.tenant().to_owned(),
        display_name: tenant.display_name.clone(),
        key: caller.principal.key_id().to_owned(),
        roles: caller.principal.roles().names(),
        regions: tenant.regions.iter().map(ToString::to_string).collect(),
        max_ttl_seconds: policy.max_ttl.min(tenant.max_ttl).as_secs(),
        max_file_bytes: policy.max_file_bytes.min(tenant.max_file_bytes),
    };
    Ok(json(StatusCode::OK, &shown))
}

/// The state of the instance. For `ops` keys.
#[utoipa::path(
    get,
    path = "/v1/status",
    tag = "instance",
    security(("key" = ["ops"])),
    responses(
        (status = 200, description = "The state", body = wire::Status),
        (status = 403, description = "Not an ops key", body = wire::Problem),
    )
)]
pub(super) async fn status(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    caller.admit(&gate, request.uri(), Need::Ops, &[])?;
    let (census, about) = (gate.pipeline.census(), &gate.about);
    let epochs = gate.pipeline.keys.epochs_held();
    let shown = wire::Status {
        version: about.version,
        build: about.build,
        region: caller.rules.policy.here.to_string(),
        keyring: about.keyring,
        pages: about.pages,
        store: about.store,
        counts: wire::Counts {
            live_files: census.files,
            live_bytes: census.bytes,
            blobs: gate.pipeline.usage().blobs,
            pending_deletes: gate.pipeline.pending_deletes(),
            kernel_keys: epochs.kernel as u64,
            memory_keys: epochs.memory as u64,
        },
        oldest_live_seconds: census.oldest.as_secs(),
        overdue_deletions: census.overdue,
        accepted_limits: about.accepted_limits.clone(),
        policy_loaded_at: caller.rules.loaded_at.rfc3339(),
    };
    Ok(json(StatusCode::OK, &shown))
}
