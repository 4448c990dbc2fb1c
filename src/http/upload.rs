//! Taking files in over HTTP: raw, by PUT, or several in one multipart body.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use http::{HeaderMap, HeaderName, Method, StatusCode, header};

use super::body::{declared, incoming};
use super::caller::{Caller, Need};
use super::content::{digest_header, insert};
use super::digests::{digester, wanted};
use super::files::view;
use super::guard::{json, stopping};
use super::query::{Query, downloads, ttl};
use super::replay::{self, Attempt};
use super::segment::Segment;
use super::{Gate, Problem, disposition, partial, receipts};
use crate::clock::within;
use crate::intake::{Digester, Parts, boundary, clean, declared_type};
use crate::job::JobId;
use crate::pipeline::{Order, PipelineError, Sealed, Upload};
use crate::policy::{Ask, Terms};
use crate::problem::Slug;
use crate::process::Recipe;
use crate::receipt::Action;
use crate::table::{LiveFile, Outcome, Use};
use crate::wire;

/// Why a job cannot have a file whose downloads are counted.
pub(super) const COUNTED: &str = "A job on a file whose downloads are counted has to consume it.";

const PARAMETERS: [&str; 5] = ["name", "ttl", "region", "downloads", "steps"];

/// Takes a file in: the body is the file. With `multipart/form-data`, every part that has a file
/// name becomes a file, all or none.
#[utoipa::path(
    post,
    path = "/v1/files",
    tag = "files",
    security(("key" = ["client"])),
    params(
        ("name" = Option<String>, Query, description = "Or in Content-Disposition"),
        ("ttl" = Option<String>, Query, description = "`90s` to `23h30m`; rounded down"),
        ("region" = Option<String>, Query, description = "One of the tenant's"),
        ("downloads" = Option<u64>, Query, description = "Gone after so many downloads"),
        ("steps" = Option<String>, Query, description = "Starts a job on it: `text`, `text+compress`"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe"),
        ("Want-Repr-Digest" = Option<String>, Header, description = "RFC 9530; sha-256, sha-512"),
        ("Repr-Digest" = Option<String>, Header, description = "Checked, else nothing is kept"),
        ("Upload-Complete" = Option<String>, Header, description = "`?0` or `?1`: the upload can be \
            resumed at the `Location` of a 104 or 201 (draft-ietf-httpbis-resumable-upload)"),
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 201, description = "The file; of a multipart body, `{\"files\":[…]}`",
            body = wire::File),
        (status = 400, description = "Damaged body, digest or name", body = wire::Problem),
        (status = 403, description = "The policy says no", body = wire::Problem),
        (status = 413, description = "Too large", body = wire::Problem),
        (status = 421, description = "Another gateway's region", body = wire::Problem),
        (status = 422, description = "No such region or life", body = wire::Problem),
        (status = 429, description = "Rate or quota", body = wire::Problem),
        (status = 503, description = "No memory left", body = wire::Problem),
        (status = 507, description = "No storage left", body = wire::Problem),
    )
)]
pub(super) async fn create(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    take(&gate, &caller, request, None).await
}

/// Takes a file in under a name: `curl -T report.pdf …/v1/files/`. Each PUT makes a new file.
#[utoipa::path(
    put,
    path = "/v1/files/{id}",
    tag = "files",
    security(("key" = ["client"])),
    params(("id" = String, Path, description = "Here, the new file's name")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 201, description = "The file", body = wire::File))
)]
pub(super) async fn put_named(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Segment(name): Segment,
    request: Request,
) -> Result<Response, Problem> {
    take(&gate, &caller, request, Some(name)).await
}

/// Takes a file in without a name.
#[utoipa::path(
    put,
    path = "/v1/files/",
    tag = "files",
    security(("key" = ["client"])),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 201, description = "The file", body = wire::File))
)]
pub(super) async fn put_unnamed(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    take(&gate, &caller, request, None).await
}

/// What is asked of one upload, apart from its bytes.
pub(super) struct Wish {
    pub terms: Terms,
    pub name: Option<String>,
    pub downloads: Option<u64>,
    declared: Option<u64>,
    pub boundary: Option<String>,
    /// What a job is to do with it.
    pub recipe: Option<Recipe>,
}

async fn take(
    gate: &Arc<Gate>,
    caller: &Caller,
    request: Request,
    path_name: Option<String>,
) -> Result<Response, Problem> {
    caller.allow(gate, Need::Upload)?;
    let mut wish = wish(caller, &request, path_name)?;
    let digester = digester(caller, request.headers(), wish.boundary.is_some())?;
    let (tenant, declared) = (caller.tenant_id(), wish.declared);
    if !gate.pipeline.has_quota(tenant, &wish.terms, declared) {
        return Err(Problem::later(Slug::QuotaExceeded, 60));
    }
    caller.throttle(gate)?;
    stopping(gate)?;
    if wish.recipe.is_some() {
        gate.pipeline.has_room_for_jobs(tenant)?;
    }
    if request.method() == Method::POST && partial::complete(request.headers()).is_some() {
        return partial::create(gate, caller, wish, digester, request).await;
    }
    let attempt = replay::attempt(gate, caller, &request)?;
    let _turn = gate.pipeline.admit(declared).await?;
    match (attempt, wish.boundary.clone()) {
        (Attempt::Again(outcome), boundary) => {
            let found = fingerprint_again(gate, &wish, request, boundary).await?;
            let mut response = replay::answer(gate, caller, &outcome, found)?;
            let again = gate.pipeline.evidence.acknowledge(&outcome.files, true).await;
            receipts::promise(&again.unwrap_or_default(), response.headers_mut());
            Ok(response)
        }
        (attempt, Some(boundary)) => {
            // The first part's life runs while the others arrive: past its end nothing of the
            // request is left.
            let left = gate.pipeline.shortest_life(&wish.terms)?;
            let era = gate.pipeline.enter(tenant)?;
            let recipe = wish.recipe.take();
            let all = several(gate, caller, (&wish, recipe), request, boundary, attempt);
            let all = era.during(within(&*gate.clock, left, all)).await;
            all.map_err(PipelineError::from)?.unwrap_or(Err(Slug::Expired.into()))
        }
        (attempt, None) => one(gate, caller, wish, request, digester, attempt).await,
    }
}

/// Reads query and headers, and asks the policy.
fn wish(caller: &Caller, request: &Request, path_name: Option<String>) -> Result<Wish, Problem> {
    let query = Query::parse(request.uri(), &PARAMETERS)?;
    let content_type = text(request.headers(), &header::CONTENT_TYPE);
    let multipart = content_type.is_some_and(|kind| {
        kind.trim_start().to_ascii_lowercase().starts_with("multipart/form-data")
    });
    let in_parts = multipart && request.method() == Method::POST;
    let boundary = match content_type.filter(|_| in_parts) {
        Some(kind) => Some(boundary(kind)?),
        None => None,
    };
    let asked_name = query.get("name").map(str::to_owned).or(path_name);
    let asked_name = asked_name.or_else(|| disposition::read(request.headers()));
    let name = clean(asked_name.as_deref().unwrap_or_default()).map_err(|_| Slug::BadFilename)?;
    let declared = declared(request);
    let recipe = query.get("steps").map(|steps| recipe(caller, steps)).transpose()?;
    let ask = Ask {
        region: query.get("region"),
        ttl: query.get("ttl").map(ttl).transpose()?,
        // A multipart body is longer than its files, and each of them is measured for itself.
        declared_bytes: declared.filter(|_| boundary.is_none()),
        steps: recipe.as_ref().map_or(&[], |(_, names)| names.as_slice()),
        ..Ask::default()
    };
    let downloads = query.get("downloads").map(downloads).transpose()?;
    if downloads.is_some() && recipe.is_some() {
        return Err(Problem::because(Slug::BadDownloads, COUNTED));
    }
    let terms = caller.decide(&ask).map_err(|refusal| elsewhere(refusal, request))?;
    let recipe = recipe.map(|(recipe, _)| recipe);
    Ok(Wish { terms, name, downloads, declared, boundary, recipe })
}

/// The steps a job is to run on the upload, and their names. The `+` between them is a blank once
/// the query is decoded.
pub(super) fn recipe(caller: &Caller, steps: &str) -> Result<(Recipe, Vec<String>), Problem> {
    let steps = caller.rules.steps.parse(&steps.replace([' ', ','], "+"))?;
    let names = steps.names().map(str::to_owned).collect();
    Ok((Recipe::new(steps, Vec::new(), None)?, names))
}

/// A policy's refusal; for another gateway's region with its address, same path, no query.
pub(super) fn elsewhere(refusal: crate::policy::Refusal, request: &Request) -> Problem {
    let gateway = match &refusal {
        crate::policy::Refusal::WrongRegion { gateway } => gateway.clone(),
        _ => None,
    };
    let problem = Problem::from(refusal);
    let place =
        gateway.map(|base| format!("{}{}", base.trim_end_matches('/'), request.uri().path()));
    match place.and_then(|place| http::HeaderValue::from_str(&place).ok()) {
        Some(place) => problem.with(header::LOCATION, place),
        None => problem,
    }
}

/// One file, the whole body.
async fn one(
    gate: &Arc<Gate>,
    caller: &Caller,
    wish: Wish,
    request: Request,
    mut digester: Digester,
    attempt: Attempt,
) -> Result<Response, Problem> {
    let declared_type = text(request.headers(), &header::CONTENT_TYPE).and_then(declared_type);
    if matches!(attempt, Attempt::First(_)) {
        digester.fingerprint(replay::head(gate, &request, &[]));
    }
    let claim = caller.claim_upload()?;
    let upload = Upload {
        input: incoming(request.into_body()),
        declared: wish.declared,
        name: wish.name,
        declared_type,
        downloads: wish.downloads,
        digester,
    };
    let mut sealed = gate.pipeline.seal(caller.tenant_id(), &wish.terms, upload).await?;
    let fingerprint = sealed.fingerprint();
    let files = [gate.pipeline.publish(sealed)?];
    let job = start(gate, caller, &wish.terms, wish.recipe, &files)?;
    noted(gate, caller, &files, claim);
    settle(attempt, fingerprint, &files, false, job);
    acknowledged(gate, &files, created(gate, &files, false, job)?).await
}

/// Every file of a multipart body, or none: they become known together, after the last.
async fn several(
    gate: &Arc<Gate>,
    caller: &Caller,
    (wish, recipe): (&Wish, Option<Recipe>),
    request: Request,
    boundary: String,
    attempt: Attempt,
) -> Result<Response, Problem> {
    let algorithms = wanted(caller, request.headers());
    let (head, body) = request.into_parts();
    let head = Request::from_parts(head, axum::body::Body::empty());
    let mut parts = Parts::new(incoming(body), boundary, gate.pipeline.pace());
    let (mut sealed, mut fingerprints): (Vec<Sealed>, Vec<_>) = (Vec::new(), Vec::new());
    let mut claims = Vec::new();
    while let Some(part) = parts.next().await? {
        claims.extend(caller.claim_upload()?);
        let mut digester = Digester::default();
        for algorithm in &algorithms {
            digester.compute(*algorithm);
        }
        let (name, kind) = (part.name.as_str(), part.declared.as_deref().unwrap_or_default());
        if matches!(attempt, Attempt::First(_)) {
            digester.fingerprint(replay::head(gate, &head, &[name, kind]));
        }
        let upload = Upload {
            input: part.body,
            declared: None,
            name: clean(&part.name).map_err(|_| Slug::BadFilename)?,
            declared_type: part.declared.as_deref().and_then(declared_type),
            downloads: wish.downloads,
            digester,
        };
        let mut one = gate.pipeline.seal(caller.tenant_id(), &wish.terms, upload).await?;
        fingerprints.extend(one.fingerprint());
        sealed.push(one);
    }
    if sealed.is_empty() {
        let detail = "No part of the body has a file name.";
        return Err(Problem::because(Slug::BadMultipart, detail));
    }
    let files = gate.pipeline.publish_all(sealed)?;
    let job = start(gate, caller, &wish.terms, recipe, &files)?;
    noted(gate, caller, &files, claims);
    settle(attempt, Some(replay::join(gate, &fingerprints)), &files, true, job);
    acknowledged(gate, &files, created(gate, &files, true, job)?).await
}

/// The answer, once the files' acceptance is written down; with the promises that it will be in
/// the log. A client that leaves meanwhile leaves files behind that live until their deadline, as
/// one does that leaves a moment later.
async fn acknowledged(
    gate: &Gate,
    files: &[Arc<LiveFile>],
    mut response: Response,
) -> Result<Response, Problem> {
    let promises = gate.pipeline.acknowledge(files).await?;
    receipts::promise(&promises, response.headers_mut());
    Ok(response)
}

/// Starts the job that was asked for along with the upload, on all of its files. If that cannot be,
/// nothing is kept of the upload either.
pub(super) fn start(
    gate: &Gate,
    caller: &Caller,
    terms: &Terms,
    recipe: Option<Recipe>,
    files: &[Arc<LiveFile>],
) -> Result<Option<JobId>, Problem> {
    let Some(recipe) = recipe else { return Ok(None) };
    let order = Order {
        sources: files.to_vec(),
        pulls: Vec::new(),
        deliver: None,
        recipe,
        ttl: None,
        consume: false,
        webhook: None,
        always_digest: caller.tenant.always_digest,
    };
    let started = gate.pipeline.submit(caller.tenant_id(), terms, order);
    let job = started.inspect_err(|_| gate.pipeline.discard(files))?;
    caller.note(gate, Action::JobCreate, Some(job.id.into()));
    Ok(Some(job.id))
}

/// Files were made: that is in the trail, and what a grant allowed for them is spent.
pub(super) fn noted(
    gate: &Gate,
    caller: &Caller,
    files: &[Arc<LiveFile>],
    claims: impl IntoIterator<Item = Use>,
) {
    claims.into_iter().for_each(Use::keep);
    for file in files {
        caller.note(gate, Action::FileCreate, Some(file.id.into()));
    }
}

/// Remembers what a first request with an `Idempotency-Key` made.
fn settle(
    attempt: Attempt,
    fingerprint: Option<crate::table::Fingerprint>,
    files: &[Arc<LiveFile>],
    several: bool,
    job: Option<JobId>,
) {
    if let (Attempt::First(running), Some(fingerprint)) = (attempt, fingerprint) {
        let files = files.iter().map(|file| file.id).collect();
        running.settle(Outcome { fingerprint, files, several, job });
    }
}

/// Reads a repeated request's body only to compare it with the first.
async fn fingerprint_again(
    gate: &Arc<Gate>,
    wish: &Wish,
    request: Request,
    boundary: Option<String>,
) -> Result<crate::table::Fingerprint, Problem> {
    let (head, body) = request.into_parts();
    let head = Request::from_parts(head, axum::body::Body::empty());
    let Some(boundary) = boundary else {
        let context = replay::head(gate, &head, &[]);
        return replay::fingerprint(gate, &wish.terms, incoming(body), context).await;
    };
    let mut parts = Parts::new(incoming(body), boundary, gate.pipeline.pace());
    let mut fingerprints = Vec::new();
    while let Some(part) = parts.next().await? {
        let kind = part.declared.as_deref().unwrap_or_default();
        let context = replay::head(gate, &head, &[&part.name, kind]);
        fingerprints.push(replay::fingerprint(gate, &wish.terms, part.body, context).await?);
    }
    Ok(replay::join(gate, &fingerprints))
}

/// 201, with everything a client may want to know next.
pub(super) fn created(
    gate: &Gate,
    files: &[Arc<LiveFile>],
    several: bool,
    job: Option<JobId>,
) -> Result<Response, Problem> {
    let job = job.map(|id| id.to_string());
    let mut views = Vec::with_capacity(files.len());
    for file in files {
        views.push(view(gate, file)?);
    }
    let first = files.first().ok_or(Slug::Internal)?;
    let region = first.origin.region.to_string();
    let expires_at = first.expires_at().rfc3339();
    let (mut response, location) = if several {
        (json(StatusCode::CREATED, &wire::Created { files: views, job }), "/v1/files".to_owned())
    } else {
        let view = wire::File { job, ..views.swap_remove(0) };
        (json(StatusCode::CREATED, &view), view.links.this)
    };
    let headers = response.headers_mut();
    insert(headers, header::LOCATION, &location);
    insert(headers, HeaderName::from_static("dayfly-region"), &region);
    insert(headers, HeaderName::from_static("dayfly-expires-at"), &expires_at);
    if !several && let Some(digest) = digest_header(&gate.pipeline.record(first)?) {
        insert(headers, HeaderName::from_static("repr-digest"), &digest);
    }
    Ok(response)
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
