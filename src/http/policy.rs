//! The policy, shown and explained.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;

use super::caller::{Caller, Need};
use super::files::read_json;
use super::guard::json;
use super::query::ttl;
use super::{Gate, Problem};
use crate::policy::{Ask, Policy, TenantPolicy};
use crate::problem::Slug;
use crate::wire;

/// The policy as it holds now. For `ops` keys.
#[utoipa::path(
    get,
    path = "/v1/policy",
    tag = "instance",
    security(("key" = ["ops"])),
    responses(
        (status = 200, description = "The policy", body = wire::Policy),
        (status = 403, description = "Not an ops key", body = wire::Problem),
    )
)]
pub(super) async fn show(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    caller.admit(&gate, request.uri(), Need::Ops, &[])?;
    let policy = &caller.rules.policy;
    Ok(json(StatusCode::OK, &wire::Policy::of(policy, caller.rules.loaded_at)))
}

/// What the policy would say to a request, and each rule's part in it. The code that decides
/// requests gives the answer; nothing is done.
///
/// Keys without the role `ops` may ask about their own tenant.
#[utoipa::path(
    post,
    path = "/v1/policy/explain",
    tag = "instance",
    security(("key" = [])),
    request_body = wire::Explain,
    responses(
        (status = 200, description = "Decision, region, and each rule with its result",
            body = wire::Explanation),
        (status = 404, description = "No such tenant for this key", body = wire::Problem),
        (status = 422, description = "No such step, or no such life", body = wire::Problem),
    )
)]
pub(super) async fn explain(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    caller.admit(&gate, request.uri(), Need::AnyRole, &[])?;
    let asked: wire::Explain = read_json(&gate, request.into_body()).await?;
    let rules = caller.rules.clone();
    let (policy, ops) = (&rules.policy, caller.principal.roles().ops);
    let tenant = visible(policy, &caller, ops, &asked.tenant).ok_or(Slug::NotFound)?;
    let steps: Vec<String> = match asked.steps.join("+") {
        none if none.is_empty() => Vec::new(),
        steps => rules.steps.parse(&steps)?.names().map(str::to_owned).collect(),
    };
    let ask = Ask {
        region: asked.region.as_deref(),
        ttl: asked.ttl.as_deref().map(ttl).transpose()?,
        declared_bytes: asked.size,
        steps: &steps,
        source: asked.provider(),
        deliver: asked.deliver.as_deref(),
        webhook: asked.webhook.as_deref(),
    };
    let explained = policy.explain(&asked.tenant, tenant, &ask);
    let places = ops.then_some(&policy.places);
    Ok(json(StatusCode::OK, &wire::Explanation::of(&explained, places)))
}

/// The tenant asked about, if this key may know of it.
fn visible<'a>(
    policy: &'a Policy,
    caller: &Caller,
    ops: bool,
    name: &str,
) -> Option<&'a TenantPolicy> {
    policy.tenants.get(name).filter(|_| ops || name == caller.principal.tenant())
}
