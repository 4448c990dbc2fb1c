//! Connections as an app sees them: asked for, confirmed, looked into, ended.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use http::{StatusCode, header};
use serde::de::DeserializeOwned;

use super::caller::{Caller, Need};
use super::content::insert;
use super::guard::{json, stopping};
use super::query::{Query, number, ttl};
use super::replay::{self, Attempt};
use super::segment::Segment;
use super::upload::elsewhere;
use super::{Gate, Problem, body};
use crate::connect::{Browse, Wish};
use crate::intake::foreign_name;
use crate::policy::Ask;
use crate::problem::Slug;
use crate::provider::{Access, Item, Service};
use crate::receipt::{Action, Object};
use crate::table::{Connection, ConnectionId, Ending, Outcome, Standing};
use crate::wire;

const MOST_JSON: u64 = 16 << 10;
const MOST_LISTED: u64 = 1000;
const LISTED: u64 = 100;
/// The longest subject, bytes.
const LONGEST_SUBJECT: usize = 255;

/// Asks for a connection. Send the person to `authorize_url`; it opens once, within 10 minutes.
#[utoipa::path(
    post,
    path = "/v1/connections",
    tag = "connections",
    security(("key" = ["connector"])),
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")),
    request_body = wire::NewConnection,
    responses(
        (status = 201, description = "It waits for the person", body = wire::ConnectionCreated),
        (status = 403, description = "The policy says no", body = wire::Problem),
        (status = 421, description = "Another gateway's region", body = wire::Problem),
        (status = 422, description = "Not on offer, or no such life", body = wire::Problem),
        (status = 429, description = "Rate or quota", body = wire::Problem),
    )
)]
pub(super) async fn create(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    caller.admit(&gate, request.uri(), Need::Connector, &[])?;
    stopping(&gate)?;
    let attempt = replay::attempt(&gate, &caller, &request)?;
    let (head, body) = request.into_parts();
    let head = Request::from_parts(head, axum::body::Body::empty());
    let bytes = body::small(body, MOST_JSON, &*gate.clock).await?;
    let fingerprint = replay::whole(replay::head(&gate, &head, &[]), &bytes);
    let running = match attempt {
        Attempt::Again(outcome) if outcome.fingerprint != fingerprint => {
            return Err(Slug::IdempotencyMismatch.into());
        }
        Attempt::Again(outcome) => return again(&gate, &caller, &outcome),
        Attempt::First(running) => Some(running),
        Attempt::Once => None,
    };
    let asked: wire::NewConnection = parsed(&bytes)?;
    let made = gate.connect.begin(wish(&caller, asked, &head)?)?;
    caller.note(&gate, Action::ConnectionCreate, Some(object(made.terms.id)));
    if let Some(running) = running {
        let files = vec![made.terms.id.keys()];
        running.settle(Outcome { fingerprint, files, several: false, job: None });
    }
    created(&gate, &made)
}

/// What the first request made, as it is now.
fn again(gate: &Gate, caller: &Caller, outcome: &Outcome) -> Result<Response, Problem> {
    let id = outcome.files.first().copied().map(ConnectionId::of_keys).ok_or(Slug::Internal)?;
    let found = gate.connect.find(id, caller.tenant_id());
    match found {
        Ok(view) if !matches!(view.standing, Standing::Over(..)) => created(gate, &view),
        _ => Err(Slug::ConnectionRevoked.into()),
    }
}

fn created(gate: &Gate, made: &Connection) -> Result<Response, Problem> {
    let terms = &made.terms;
    let url = format!("{}/connect/{}", gate.connect.base_url(), terms.page.as_str());
    let mut response = json(
        StatusCode::CREATED,
        &wire::ConnectionCreated {
            id: terms.id.to_string(),
            state: state(made),
            // Opened, it belongs to its browser, and says nothing to another.
            authorize_url: (!made.opened).then_some(url),
            expires_at: made.until.wall.rfc3339(),
        },
    );
    let place = format!("/v1/connections/{}", terms.id);
    insert(response.headers_mut(), header::LOCATION, &place);
    Ok(response)
}

/// Asks the policy, in the order provider, name, address, region and life.
fn wish(caller: &Caller, asked: wire::NewConnection, head: &Request) -> Result<Wish, Problem> {
    let no = |detail| Problem::because(Slug::NotPermitted, detail);
    let service = Service::parse(&asked.provider).ok_or(Slug::NotOffered)?;
    let provider = caller.rules.providers.get(&service).cloned();
    let provider = provider.filter(|_| caller.tenant.providers.contains(&service));
    let provider = provider.ok_or_else(|| no("The provider is not one of the tenant's."))?;
    let access = Access::parse(&asked.access).ok_or_else(|| {
        Problem::because(Slug::BadRequest, "access is picked, browse or browse+write.")
    })?;
    let display_name = caller.tenant.display_name.clone().ok_or_else(|| {
        no("The tenant has no display_name: the consent page could not say who asks.")
    })?;
    let return_to = match asked.return_to {
        Some(url) => Some(
            caller
                .tenant
                .return_address(&url)
                .ok_or_else(|| no("return_to is not the tenant's."))?,
        ),
        None => None,
    };
    if asked.subject.as_ref().is_some_and(|s| s.is_empty() || s.len() > LONGEST_SUBJECT) {
        return Err(Problem::because(Slug::BadRequest, "A subject has 1 to 255 bytes."));
    }
    let life = asked.ttl.as_deref().map(ttl).transpose()?;
    let ask = Ask { ttl: life, ..Ask::default() };
    let terms = caller.rules.policy.decide(&caller.tenant, &ask);
    let terms = terms.map_err(|refusal| elsewhere(refusal, head))?;
    Ok(Wish {
        tenant: caller.tenant_id(),
        terms,
        provider,
        access,
        offline: asked.offline.unwrap_or_default(),
        display_name,
        return_to,
        subject: asked.subject,
    })
}

/// Your tenant's connections, newest first.
#[utoipa::path(
    get,
    path = "/v1/connections",
    tag = "connections",
    security(("key" = ["connector"])),
    params(
        ("limit" = Option<u32>, Query, description = "1 to 1000; 100 if absent"),
        ("cursor" = Option<String>, Query, description = "From the page before"),
    ),
    responses((status = 200, description = "A page of them", body = wire::ConnectionList))
)]
pub(super) async fn list(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let query = caller.admit(&gate, request.uri(), Need::Connector, &["limit", "cursor"])?;
    let cursor = match query.get("cursor").map(number) {
        None => None,
        Some(Some(cursor)) => Some(cursor),
        Some(None) => {
            return Err(Problem::because(Slug::BadRequest, "cursor is not one of a list's."));
        }
    };
    let (found, next) = gate.connect.list(caller.tenant_id(), cursor, limit(&query)?);
    let connections = found.iter().map(|one| view(&gate, one)).collect();
    let cursor = next.map(|number| number.to_string());
    Ok(json(StatusCode::OK, &wire::ConnectionList { connections, cursor }))
}

fn limit(query: &Query) -> Result<usize, Problem> {
    match query.get("limit").map(number) {
        None => Ok(LISTED as usize),
        Some(Some(limit)) if (1..=MOST_LISTED).contains(&limit) => Ok(limit as usize),
        Some(_) => Err(Problem::because(Slug::BadRequest, "limit is a number from 1 to 1000.")),
    }
}

/// One connection. Its token is never shown.
#[utoipa::path(
    get,
    path = "/v1/connections/{id}",
    tag = "connections",
    security(("key" = ["connector"])),
    params(("id" = String, Path, description = "The connection's id")),
    responses(
        (status = 200, description = "The connection", body = wire::Connection),
        (status = 404, description = "No such connection for this key", body = wire::Problem),
    )
)]
pub(super) async fn show(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Segment(id): Segment,
    request: Request,
) -> Result<Response, Problem> {
    caller.admit(&gate, request.uri(), Need::Connector, &[])?;
    let found = gate.connect.find(known(&id)?, caller.tenant_id())?;
    Ok(json(StatusCode::OK, &view(&gate, &found)))
}

/// Confirms that the person who consented is the one in front of the app. A wrong or late code ends
/// the connection.
#[utoipa::path(
    post,
    path = "/v1/connections/{id}/confirm",
    tag = "connections",
    security(("key" = ["connector"])),
    params(("id" = String, Path, description = "The connection's id")),
    request_body = wire::Confirm,
    responses(
        (status = 200, description = "It is active", body = wire::Connection),
        (status = 400, description = "The code is wrong or late", body = wire::Problem),
        (status = 404, description = "No such connection and subject", body = wire::Problem),
        (status = 409, description = "Nobody has consented yet", body = wire::Problem),
        (status = 410, description = "It has ended", body = wire::Problem),
    )
)]
pub(super) async fn confirm(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Segment(id): Segment,
    request: Request,
) -> Result<Response, Problem> {
    caller.admit(&gate, request.uri(), Need::Connector, &[])?;
    let id = known(&id)?;
    gate.connect.find(id, caller.tenant_id())?;
    let bytes = body::small(request.into_body(), MOST_JSON, &*gate.clock).await?;
    let asked: wire::Confirm = parsed(&bytes)?;
    let (code, subject) = (asked.code.trim(), asked.subject.as_deref());
    let confirmed = gate.connect.confirm(id, caller.tenant_id(), code, subject).await?;
    caller.note(&gate, Action::ConnectionConfirm, Some(object(id)));
    Ok(json(StatusCode::OK, &view(&gate, &confirmed)))
}

/// Revokes a connection at its provider and destroys its token. Again, it answers the same.
#[utoipa::path(
    delete,
    path = "/v1/connections/{id}",
    tag = "connections",
    security(("key" = ["connector"])),
    params(("id" = String, Path, description = "The connection's id")),
    responses(
        (status = 200, description = "It has ended", body = wire::ConnectionEnded),
        (status = 404, description = "No such connection for this key", body = wire::Problem),
    )
)]
pub(super) async fn delete(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Segment(id): Segment,
    request: Request,
) -> Result<Response, Problem> {
    caller.admit(&gate, request.uri(), Need::ConnectorForgets, &[])?;
    let (ended, revocation) = gate.connect.revoke(known(&id)?, caller.tenant_id()).await?;
    caller.note(&gate, Action::ConnectionRevoke, Some(object(ended.terms.id)));
    let ended = wire::ConnectionEnded {
        id: ended.terms.id.to_string(),
        state: state(&ended),
        provider_revocation: revocation.as_str(),
    };
    Ok(json(StatusCode::OK, &ended))
}

/// A folder of the connected account, page by page.
#[utoipa::path(
    get,
    path = "/v1/connections/{id}/items",
    tag = "connections",
    security(("key" = ["connector"])),
    params(
        ("id" = String, Path, description = "The connection's id"),
        ("folder" = Option<String>, Query, description = "A folder's id; the root if absent"),
        ("cursor" = Option<String>, Query, description = "From the page before"),
        ("limit" = Option<u32>, Query, description = "About so many; 1 to 1000, 100 if absent"),
        ("subject" = Option<String>, Query, description = "Where one was given"),
    ),
    responses(
        (status = 200, description = "Part of the folder", body = wire::Items),
        (status = 404, description = "No such connection, subject or folder", body = wire::Problem),
        (status = 409, description = "The connection is not active", body = wire::Problem),
        (status = 410, description = "The connection has ended", body = wire::Problem),
        (status = 502, description = "The provider failed", body = wire::Problem),
        (status = 504, description = "The provider took too long", body = wire::Problem),
    )
)]
pub(super) async fn items(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Segment(id): Segment,
    request: Request,
) -> Result<Response, Problem> {
    let query = caller.admit(
        &gate,
        request.uri(),
        Need::Connector,
        &["folder", "cursor", "limit", "subject"],
    )?;
    let browse = Browse {
        folder: query.get("folder").filter(|folder| !folder.is_empty()),
        cursor: query.get("cursor"),
        subject: query.get("subject"),
        limit: limit(&query)?,
    };
    let listed = gate.connect.items(known(&id)?, caller.tenant_id(), &browse).await?;
    let items = listed.items.into_iter().map(item).collect();
    Ok(json(StatusCode::OK, &wire::Items { items, cursor: listed.cursor }))
}

fn known(id: &str) -> Result<ConnectionId, Problem> {
    id.parse().map_err(|_| Slug::NotFound.into())
}

const fn object(id: ConnectionId) -> Object {
    Object::new("conn", *id.as_bytes())
}

fn parsed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|_| {
        Problem::because(Slug::BadRequest, "The body is not the JSON object this request takes.")
    })
}

const fn state(view: &Connection) -> &'static str {
    match view.standing {
        Standing::Pending => "pending",
        Standing::Consented => "consented",
        Standing::Active => "active",
        Standing::Over(Ending::Revoked, _) => "revoked",
        Standing::Over(Ending::Expired, _) => "expired",
        Standing::Over(Ending::Failed(_), _) => "failed",
    }
}

/// A connection as its app sees it: the account's name is unsealed for this, once it is confirmed.
fn view(gate: &Gate, of: &Connection) -> wire::Connection {
    let (terms, grant) = (&of.terms, of.grant.as_ref());
    let active = grant.filter(|_| of.standing == Standing::Active);
    let account = active.and_then(|grant| gate.connect.label(grant).ok());
    let problem = match of.standing {
        Standing::Over(Ending::Failed(slug), _) => Some(wire::StateProblem {
            kind: format!("/problems/{}", slug.as_str()),
            title: slug.title(),
            status: slug.status(),
            detail: slug.advice(),
        }),
        _ => None,
    };
    let revocation = match of.standing {
        Standing::Over(_, revocation) => Some(revocation.as_str()),
        _ => None,
    };
    wire::Connection {
        id: terms.id.to_string(),
        provider: terms.service().as_str(),
        access: terms.access.as_str(),
        offline: terms.offline,
        state: state(of),
        problem,
        account: account.map(|label| label.to_string()),
        scopes: grant.map(|grant| grant.scopes.clone()).unwrap_or_default(),
        created_at: terms.created.wall.rfc3339(),
        expires_at: of.until.wall.rfc3339(),
        provider_revocation: revocation,
    }
}

/// An item with a name that is safe to show and to save under.
fn item(item: Item) -> wire::Item {
    wire::Item {
        id: item.id,
        name: foreign_name(&item.name).unwrap_or_else(|| "_".to_owned()),
        kind: if item.folder { "folder" } else { "file" },
        size: item.bytes,
        media_type: item.media_type,
        modified_at: item.modified_at,
        digest: item.digest.map(|(algorithm, value)| [(algorithm, value)].into()),
    }
}
