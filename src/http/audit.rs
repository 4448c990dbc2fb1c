//! The audit trail, for those who look after a tenant.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;

use super::caller::{Caller, Need};
use super::guard::json;
use super::{Gate, Problem};
use crate::problem::Slug;
use crate::receipt::Line;
use crate::{tasks, wire};

/// Who did what to which id, and when, newest first. Kept as long as receipts are.
#[utoipa::path(
    get,
    path = "/v1/audit",
    tag = "rights",
    security(("key" = ["owner", "auditor"])),
    params(
        ("limit" = Option<u32>, Query, description = "1 to 1000; 100 if absent"),
        ("cursor" = Option<String>, Query, description = "From the page before"),
    ),
    responses((status = 200, description = "A page of lines", body = wire::AuditList))
)]
pub(super) async fn list(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let query = caller.admit(&gate, request.uri(), Need::Audit, &["limit", "cursor"])?;
    let (cursor, limit) = query.page()?;
    let listed = tasks::blocking(|| gate.audit.list(caller.tenant_id(), cursor, limit));
    let (lines, next) = listed.map_err(|_| Slug::Internal)?;
    let shown = wire::AuditList {
        audit: lines.into_iter().map(shown).collect(),
        cursor: next.map(|number| number.to_string()),
    };
    Ok(json(StatusCode::OK, &shown))
}

fn shown(line: Line) -> wire::AuditLine {
    wire::AuditLine {
        at: line.at.rfc3339(),
        key: line.who.key,
        grant: line.who.grant.map(|grant| grant.to_string()),
        action: line.action.as_str(),
        id: line.object.map(|object| object.to_string()),
    }
}
