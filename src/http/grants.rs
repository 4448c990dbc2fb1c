//! Handing a right on: to a browser that uploads, or to whoever is to fetch one file.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;

use super::caller::{Caller, Need};
use super::files::{read_json, usable};
use super::guard::{json, stopping};
use super::query::ttl;
use super::upload::elsewhere;
use super::{Gate, Problem};
use crate::policy::{Ask, GrantToken, PresentedGrant};
use crate::problem::Slug;
use crate::receipt::Action;
use crate::table::{DownloadScope, Grant, Scope, UploadScope};
use crate::wire;

/// The most uses a grant may have.
const MOST_USES: u64 = 10_000;

/// Hands a right on: to upload so many files, or to download one.
///
/// The answer's `grant` is used as a Bearer token, and shown this once. It ends with its last use,
/// its time, its file, its key or an erasure, whichever comes first. An upload that is refused or
/// breaks off does not count; a download counts from its first byte, and continues by
/// `Dayfly-Claim`.
#[utoipa::path(
    post,
    path = "/v1/grants",
    tag = "grants",
    security(("key" = ["client"])),
    request_body = wire::GrantAsk,
    responses(
        (status = 201, description = "The grant", body = wire::Grant),
        (status = 404, description = "No such file for this key", body = wire::Problem),
        (status = 410, description = "The file was, and is gone", body = wire::Problem),
        (status = 421, description = "Another gateway's region", body = wire::Problem),
        (status = 422, description = "No such region or time", body = wire::Problem),
    )
)]
pub(super) async fn create(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    caller.admit(&gate, request.uri(), Need::Client, &[])?;
    stopping(&gate)?;
    let key = caller.rules.policy.key(&caller.principal).ok_or(Slug::Unauthenticated)?.clone();
    let (head, body) = request.into_parts();
    let head = Request::from_parts(head, axum::body::Body::empty());
    let asked: wire::GrantAsk = read_json(&gate, body).await?;
    let span = ttl(match &asked {
        wire::GrantAsk::Upload { ttl, .. } | wire::GrantAsk::Download { ttl, .. } => ttl,
    })?;
    let now = gate.clock.now();
    let mut ends = (now.wall.plus(span), now.boot.plus(span));
    let scope = match asked {
        wire::GrantAsk::Upload { max_size, count, region, .. } => {
            let ask = Ask { region: region.as_deref(), ..Ask::default() };
            let terms = caller.decide(&ask).map_err(|refusal| elsewhere(refusal, &head))?;
            let region = region.map(|_| terms.region);
            Scope::Upload(UploadScope::new(uses(count)?, max_size, region))
        }
        wire::GrantAsk::Download { file, count, .. } => {
            let file = usable(&gate, &caller, &file).await?;
            ends.0 = ends.0.min(file.expires_at());
            Scope::Download(DownloadScope::new(&file, uses(count)?, gate.clock.clone()))
        }
    };
    let token = GrantToken::draw(&*gate.entropy).map_err(crate::pipeline::PipelineError::from)?;
    let presented = PresentedGrant::parse(token.expose()).ok_or(Slug::Internal)?;
    let rent = gate.pipeline.rent()?;
    let grant = Grant::new(&presented, (key, caller.tenant_id()), scope, ends, rent);
    let grant = gate.grants.add(grant).map_err(|crate::table::TooMany| {
        Problem::because(Slug::QuotaExceeded, "The tenant has as many grants as it may have.")
    })?;
    caller.note(&gate, Action::GrantCreate, Some(grant.id.into()));
    let shown =
        wire::Grant { grant: token.expose().to_owned(), expires_at: grant.expires_at().rfc3339() };
    Ok(json(StatusCode::CREATED, &shown))
}

fn uses(count: u64) -> Result<u64, Problem> {
    if (1..=MOST_USES).contains(&count) {
        Ok(count)
    } else {
        Err(Problem::because(Slug::BadRequest, "count is a number from 1 to 10000."))
    }
}
