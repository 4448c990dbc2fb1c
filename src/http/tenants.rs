//! A tenant's own rights: to have everything erased, suspended, or handed over.

use std::iter;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};

use super::body::{Outgoing, Recipient};
use super::caller::{Caller, Need};
use super::content::insert;
use super::files::view;
use super::receipts::shown;
use super::segment::Segment;
use super::{Gate, Problem};
use crate::body::BodyError;
use crate::file::{FileId, TenantId};
use crate::problem::Slug;
use crate::receipt::Action;

/// Receipts sent at a time.
const BATCH: usize = 32;

/// Erases everything of the tenant: files, uploads and runs in flight, jobs, grants.
///
/// When this is answered, no byte of it can be opened again. Uploads in flight end in 410 `erased`.
/// There is one receipt for each file or run that had been accepted. `evidence=true` also destroys
/// the tenant's receipts and audit trail, once the answer has left: what was then answers 404.
#[utoipa::path(
    delete,
    path = "/v1/tenants/{tenant}/data",
    tag = "rights",
    security(("key" = ["owner"])),
    params(
        ("tenant" = String, Path, description = "Your tenant's name"),
        ("evidence" = Option<bool>, Query, description = "Whether the evidence goes, too"),
    ),
    responses(
        (status = 200, description = "What was erased", body = crate::wire::Erased),
        (status = 404, description = "Not your tenant", body = crate::wire::Problem),
    )
)]
pub(super) async fn erase(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Segment(name): Segment,
    request: Request,
) -> Result<Response, Problem> {
    let query = caller.admit(&gate, request.uri(), Need::Owner, &["evidence"])?;
    let evidence = match query.get("evidence") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => {
            return Err(Problem::because(Slug::BadRequest, "evidence is true or false."));
        }
    };
    let tenant = own(&caller, &name)?;
    let (pipeline, connect) = (gate.pipeline.clone(), gate.connect.clone());
    // On its own: a client that leaves in the middle leaves nothing half erased. Connections first:
    // their tokens are to be revoked before the keys of all that is the tenant's are destroyed.
    let erasing = gate.tasks.spawn(async move {
        connect.revoke_all(tenant).await;
        pipeline.erase(tenant).await
    });
    let erased = erasing.await.map_err(|_| Slug::Internal)?;
    let ending = Ending { gate: gate.clone(), caller: caller.clone(), evidence, over: false };
    Ok(([(header::CONTENT_TYPE, "application/json")], receipts(ending, erased)).into_response())
}

/// What is still to be done when the receipts have left, or nobody wants them any more.
struct Ending {
    gate: Arc<Gate>,
    caller: Caller,
    evidence: bool,
    over: bool,
}

impl Ending {
    fn end(&mut self) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        let (gate, caller) = (self.gate.clone(), self.caller.clone());
        let note = move || caller.note(&gate, Action::TenantErase, None);
        if self.evidence {
            self.gate.pipeline.erase_evidence(self.caller.tenant_id(), note);
        } else {
            note();
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.end();
    }
}

/// `{"erased":n,"receipts":[…]}`, a few receipts at a time: there may be very many.
fn receipts(mut ending: Ending, erased: Vec<FileId>) -> Body {
    let head = format!("{{\"erased\":{},\"receipts\":[", erased.len()).into_bytes();
    if !ending.evidence {
        // It is done, and stays in the trail.
        ending.end();
    }
    let (mut from, mut separator) = (0, "");
    let pieces = iter::from_fn(move || {
        if from > erased.len() {
            return None;
        }
        let until = erased.len().min(from + BATCH);
        let mut piece = Vec::new();
        for id in &erased[from..until] {
            let tenant = ending.caller.tenant_id();
            let Some(receipt) = ending.gate.pipeline.receipt(*id, tenant) else { continue };
            let json = serde_json::to_vec(&shown(&ending.caller, &receipt));
            piece.extend_from_slice(separator.as_bytes());
            piece.extend_from_slice(&json.unwrap_or_default());
            separator = ",";
        }
        from = until;
        if until == erased.len() {
            ending.end();
            from += 1;
            piece.extend_from_slice(b"]}");
        }
        Some(piece)
    });
    let pieces = iter::once(head).chain(pieces);
    Body::from_stream(stream::iter(pieces.map(|piece| Ok::<_, BodyError>(Bytes::from(piece)))))
}

/// Makes everything of the tenant unreadable (403 `suspended`) until the suspension is lifted.
///
/// Uploads, downloads and runs in flight are cut. Deadlines run on. Deleting, erasing, receipts and
/// the audit trail go on working. A gateway with a state folder still knows of it after a restart.
#[utoipa::path(
    put,
    path = "/v1/tenants/{tenant}/suspension",
    tag = "rights",
    security(("key" = ["owner", "ops"])),
    params(("tenant" = String, Path, description = "The tenant's name")),
    responses(
        (status = 204, description = "It is suspended"),
        (status = 404, description = "Not your tenant", body = crate::wire::Problem),
    )
)]
pub(super) async fn suspend(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Segment(name): Segment,
    request: Request,
) -> Result<Response, Problem> {
    caller.admit(&gate, request.uri(), Need::OwnerOrOps, &[])?;
    let tenant = any(&caller, &name)?;
    if gate.pipeline.suspend(tenant).map_err(|_| Slug::Internal)? {
        gate.audit.note(tenant, caller.who(), Action::TenantSuspend, None);
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Lifts a suspension: what still lives can be read again.
#[utoipa::path(
    delete,
    path = "/v1/tenants/{tenant}/suspension",
    tag = "rights",
    security(("key" = ["owner", "ops"])),
    params(("tenant" = String, Path, description = "The tenant's name")),
    responses(
        (status = 204, description = "It is not suspended"),
        (status = 404, description = "Not your tenant", body = crate::wire::Problem),
    )
)]
pub(super) async fn resume(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Segment(name): Segment,
    request: Request,
) -> Result<Response, Problem> {
    caller.admit(&gate, request.uri(), Need::OwnerOrOps, &[])?;
    let tenant = any(&caller, &name)?;
    if gate.pipeline.lift(tenant).map_err(|_| Slug::Internal)? {
        gate.audit.note(tenant, caller.who(), Action::TenantResume, None);
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Everything of the tenant that is alive, as one zip: `files/<id>/record.json` and
/// `files/<id>/content`.
///
/// It is made while it is sent. A file that dies before its turn is left out; if one dies in its
/// middle the message is cut. Of a file whose downloads are counted only the record is there: its
/// bytes would be a download.
#[utoipa::path(
    get,
    path = "/v1/tenants/{tenant}/export",
    tag = "rights",
    security(("key" = ["owner"])),
    params(("tenant" = String, Path, description = "Your tenant's name")),
    responses(
        (status = 200, description = "The zip", content_type = "application/zip"),
        (status = 404, description = "Not your tenant", body = crate::wire::Problem),
    )
)]
pub(super) async fn export(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Segment(name): Segment,
    request: Request,
) -> Result<Response, Problem> {
    caller.admit(&gate, request.uri(), Need::Owner, &[])?;
    let tenant = own(&caller, &name)?;
    let described = gate.clone();
    let describe = Box::new(move |file: &Arc<_>| {
        let view = view(&described, file).ok()?;
        serde_json::to_vec_pretty(&view).ok()
    });
    let export = gate.pipeline.export(tenant, describe)?;
    let mut response = Response::new(Body::empty());
    if request.method() != Method::HEAD {
        caller.note(&gate, Action::TenantExport, None);
        *response.body_mut() = Outgoing::export(&gate, export, &Recipient::of(&request));
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/zip"));
    let attachment = "attachment; filename=\"dayfly-export.zip\"";
    insert(headers, header::CONTENT_DISPOSITION, attachment);
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    let region = caller.rules.policy.here;
    insert(headers, HeaderName::from_static("dayfly-region"), region.as_str());
    Ok(response)
}

/// The caller's own tenant; any other name is unknown to it.
fn own(caller: &Caller, name: &str) -> Result<TenantId, Problem> {
    if caller.principal.tenant() == name { Ok(caller.tenant_id()) } else { Err(unknown()) }
}

/// For the operator, any tenant of the policy; for an owner, its own.
fn any(caller: &Caller, name: &str) -> Result<TenantId, Problem> {
    if !caller.principal.roles().ops {
        return own(caller, name);
    }
    caller.rules.policy.tenants.get(name).map(|tenant| tenant.id).ok_or_else(unknown)
}

fn unknown() -> Problem {
    Slug::NotFound.into()
}
