//! Jobs: ordered, looked at, listed, cancelled.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use http::{StatusCode, Uri, header};
use serde_json::{Map, Value};

use super::caller::{Caller, Need};
use super::content::insert;
use super::files::{from_json, usable, view};
use super::guard::{json, stopping};
use super::process::password;
use super::query::{Query, ttl};
use super::replay::{self, Attempt};
use super::segment::Segment;
use super::upload::{COUNTED, elsewhere};
use super::{Gate, Problem, body};
use crate::deliver::Webhook;
use crate::egress::{Origin, OriginError};
use crate::job::{Event, JobId, State as JobState};
use crate::pipeline::{AnyJob, Order};
use crate::policy::{Ask, Terms, WebhookHost};
use crate::problem::Slug;
use crate::process::{Password, Recipe};
use crate::provider::Service;
use crate::receipt::Action;
use crate::table::{LiveFile, Outcome};
use crate::wire;

mod storage;

use storage::Item;

/// The longest order, bytes.
const MOST_JSON: u64 = 64 << 10;
/// Sources of one job.
const MOST_SOURCES: usize = 100;
/// Bytes of a webhook's URL.
const LONGEST_URL: usize = 2048;

/// Names and values.
type Pairs = Vec<(String, String)>;

/// Orders a job: steps that run on files when their turn comes.
///
/// A source may be an item of a connection: it is fetched first, and resumed where it breaks off.
/// Of a folder every file in and below it is taken, 100 at most. Without steps a job only fetches.
/// With steps what was fetched is not kept beside the outputs. `deliver` also puts the outputs into
/// a folder of a connection whose person agreed to `browse+write`; nothing there is replaced.
///
/// Its outputs are files, with their source's deadline or the earlier one that is asked for here.
/// A document's password goes in `Dayfly-Password`, or among the step's options as `password`.
#[utoipa::path(
    post,
    path = "/v1/jobs",
    tag = "jobs",
    security(("key" = ["client"])),
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe"),
        ("Dayfly-Password" = Option<String>, Header, description = "Opens an encrypted document"),
    ),
    request_body = wire::JobOrder,
    responses(
        (status = 202, description = "The job; `Location` names it", body = wire::Job),
        (status = 400, description = "No such order", body = wire::Problem),
        (status = 403, description = "The policy says no", body = wire::Problem),
        (status = 404, description = "No such file or connection", body = wire::Problem),
        (status = 409, description = "The connection is not active", body = wire::Problem),
        (status = 410, description = "The file or connection has ended", body = wire::Problem),
        (status = 421, description = "Another gateway's region", body = wire::Problem),
        (status = 422, description = "No such step, option, region or life", body = wire::Problem),
        (status = 429, description = "Rate, or too many jobs", body = wire::Problem),
        (status = 503, description = "No memory left", body = wire::Problem),
    )
)]
pub(super) async fn create(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    caller.allow(&gate, Need::Client)?;
    Query::parse(request.uri(), &[])?;
    let secret = password(&request)?;
    caller.throttle(&gate)?;
    stopping(&gate)?;
    let attempt = replay::attempt(&gate, &caller, &request)?;
    let (head, sent) = request.into_parts();
    let head = Request::from_parts(head, axum::body::Body::empty());
    let sent = body::small(sent, MOST_JSON, &*gate.clock).await?;
    let found = replay::whole(replay::head(&gate, &head, &[]), &sent);
    if let Attempt::Again(outcome) = &attempt {
        return replay::answer(&gate, &caller, outcome, found);
    }
    let asked: wire::JobOrder = from_json(&sent)?;
    let (terms, mut order, wanted) = judge(&gate, &caller, &head, asked, secret)?;
    order.sources = find(&gate, &caller, &wanted).await?;
    if !order.consume && order.sources.iter().any(|source| source.claims.is_some()) {
        return Err(Problem::because(Slug::BadDownloads, COUNTED));
    }
    if !gate.pipeline.has_quota(caller.tenant_id(), &terms, None) {
        return Err(Problem::later(Slug::QuotaExceeded, 60));
    }
    let job = gate.pipeline.submit(caller.tenant_id(), &terms, order)?;
    caller.note(&gate, Action::JobCreate, Some(job.id.into()));
    if let Attempt::First(running) = attempt {
        let (files, job) = (Vec::new(), Some(job.id));
        running.settle(Outcome { fingerprint: found, files, several: false, job });
    }
    Ok(accepted(&gate, &job))
}

/// Holds an order against the policy; its sources are still to be found.
fn judge(
    gate: &Gate,
    caller: &Caller,
    head: &Request,
    asked: wire::JobOrder,
    secret: Option<Password>,
) -> Result<(Terms, Order, Vec<String>), Problem> {
    let (options, own) = options(&asked.options)?;
    let (wanted, items) = sources(asked.source, asked.sources)?;
    let subject = asked.subject.as_deref();
    let (pulls, mut services) = storage::pulls(gate, caller, &items, subject)?;
    let deliver =
        asked.deliver.map(|to| storage::delivery(gate, caller, to, subject)).transpose()?;
    let names: Vec<String>;
    let recipe = if asked.steps.is_empty() {
        if deliver.is_none() && !wanted.is_empty() {
            let detail = "A job on files names at least one step, or where they are delivered.";
            return Err(Problem::because(Slug::UnknownStep, detail));
        }
        names = Vec::new();
        Recipe::nothing()
    } else {
        let steps = caller.rules.steps.parse(&asked.steps.join("+"))?;
        names = steps.names().map(str::to_owned).collect();
        Recipe::new(steps, options, own.or(secret))?
    };
    let webhook = asked.webhook.map(|asked| webhook(gate, caller, &asked.url)).transpose()?;
    let mut ask = Ask {
        region: asked.region.as_deref(),
        ttl: asked.ttl.as_deref().map(ttl).transpose()?,
        steps: &names,
        source: services.pop().map(Service::as_str),
        deliver: deliver.as_ref().map(|to| to.storage.provider.service().as_str()),
        webhook: webhook.as_ref().and_then(|webhook| listed(caller, &webhook.origin)),
        ..Ask::default()
    };
    let terms = caller.decide(&ask).map_err(|refusal| elsewhere(refusal, head))?;
    for service in services {
        ask.source = Some(service.as_str());
        caller.decide(&ask).map_err(|refusal| elsewhere(refusal, head))?;
    }
    let order = Order {
        sources: Vec::new(),
        pulls,
        deliver,
        recipe,
        ttl: ask.ttl,
        consume: asked.consume,
        webhook,
        always_digest: caller.tenant.always_digest,
    };
    Ok((terms, order, wanted))
}

/// The ids of the files a job is to work on, and the items that become files first.
fn sources(
    one: Option<wire::Source>,
    several: Vec<wire::Source>,
) -> Result<(Vec<String>, Vec<Item>), Problem> {
    let all = match (one, several) {
        (Some(one), several) if several.is_empty() => vec![one],
        (None, several) if (1..=MOST_SOURCES).contains(&several.len()) => several,
        _ => {
            let detail = "A job has a source, or 1 to 100 sources.";
            return Err(Problem::because(Slug::BadRequest, detail));
        }
    };
    let (mut files, mut items) = (Vec::new(), Vec::new());
    for source in all {
        let twice = match (source.file, source.connection, source.item) {
            (Some(file), None, None) => !add(&mut files, file),
            (None, Some(connection), Some(item)) => !add(&mut items, Item { connection, item }),
            _ => {
                let detail = "A source is a file, or an item of a connection.";
                return Err(Problem::because(Slug::BadRequest, detail));
            }
        };
        if twice {
            let detail = "A source is named twice.";
            return Err(Problem::because(Slug::BadRequest, detail));
        }
    }
    Ok((files, items))
}

/// Adds what is not there yet; whether it was not.
fn add<T: PartialEq>(all: &mut Vec<T>, one: T) -> bool {
    let new = !all.contains(&one);
    if new {
        all.push(one);
    }
    new
}

async fn find(gate: &Gate, caller: &Caller, ids: &[String]) -> Result<Vec<Arc<LiveFile>>, Problem> {
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        found.push(usable(gate, caller, id).await?);
    }
    Ok(found)
}

/// Options as pairs, a step's own ones as `step.option`; a password comes apart from them.
fn options(asked: &Map<String, Value>) -> Result<(Pairs, Option<Password>), Problem> {
    let (mut pairs, mut password) = (Vec::new(), None);
    let mut take = |prefix: Option<&str>, key: &str, value: &Value| {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                let detail = "An option is a text, a number, true or false.";
                return Err(Problem::because(Slug::BadOption, detail));
            }
        };
        if key == "password" {
            password = Some(Password::new(text));
        } else {
            pairs.push((prefix.map_or(key.to_owned(), |step| format!("{step}.{key}")), text));
        }
        Ok(())
    };
    for (name, value) in asked {
        match value {
            Value::Object(own) => {
                for (key, value) in own {
                    take(Some(name), key, value)?;
                }
            }
            other => take(None, name, other)?,
        }
    }
    Ok((pairs, password))
}

/// The host of the tenant's policy that an origin is at, as the policy names it.
fn listed<'a>(caller: &'a Caller, origin: &Origin) -> Option<&'a str> {
    let mut hosts = caller.tenant.webhook_regions.keys();
    let at = |host: &&String| host.parse::<WebhookHost>().is_ok_and(|host| host.admits(origin));
    hosts.find(at).map(String::as_str)
}

/// Who is told of the job's end, if the tenant's policy names that host.
fn webhook(gate: &Gate, caller: &Caller, url: &str) -> Result<Webhook, Problem> {
    let unreadable = "webhook.url is not an https URL without user, password or fragment.";
    let unreadable = || Problem::because(Slug::BadRequest, unreadable);
    if url.len() > LONGEST_URL {
        return Err(unreadable());
    }
    let insecure = gate.pipeline.egress.insecure_loopback();
    let (origin, _) = Origin::parse(url, insecure).map_err(|error| match error {
        OriginError::Syntax => unreadable(),
        OriginError::Plain => Problem::because(Slug::NotPermitted, "A webhook is told by https."),
    })?;
    let uri: Uri = url.parse().map_err(|_| unreadable())?;
    if !caller.tenant.webhooks.iter().any(|host| host.admits(&origin)) {
        let detail = "The webhook's host is not one of the tenant's.";
        return Err(Problem::because(Slug::NotPermitted, detail));
    }
    let Some(secret) = caller.tenant.webhook_secret.clone() else {
        let detail = "The tenant has no secret to sign webhooks with.";
        return Err(Problem::because(Slug::NotPermitted, detail));
    };
    let path = uri.path_and_query().map_or_else(String::new, |path| path.as_str().to_owned());
    Ok(Webhook { origin, path, secret })
}

/// Your jobs, newest first.
#[utoipa::path(
    get,
    path = "/v1/jobs",
    tag = "jobs",
    security(("key" = ["client"])),
    params(
        ("limit" = Option<u32>, Query, description = "1 to 1000; 100 if absent"),
        ("cursor" = Option<String>, Query, description = "From the page before"),
    ),
    responses((status = 200, description = "A page of jobs", body = wire::JobList))
)]
pub(super) async fn list(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let query = caller.admit(&gate, request.uri(), Need::Client, &["limit", "cursor"])?;
    let (cursor, limit) = query.page()?;
    let (jobs, next) = gate.pipeline.jobs(caller.tenant_id(), cursor, limit);
    let jobs = jobs.iter().map(|job| shown(&gate, job, job.board.now())).collect();
    let cursor = next.map(|number| number.to_string());
    Ok(json(StatusCode::OK, &wire::JobList { jobs, cursor }))
}

/// One job. It can be asked for until ten minutes after its deadline.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}",
    tag = "jobs",
    security(("key" = ["client"])),
    params(("id" = String, Path, description = "The job's id")),
    responses(
        (status = 200, description = "The job", body = wire::Job),
        (status = 404, description = "No such job for this key", body = wire::Problem),
    )
)]
pub(super) async fn show(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Segment(id): Segment,
    request: Request,
) -> Result<Response, Problem> {
    caller.admit(&gate, request.uri(), Need::Client, &[])?;
    let job = own(&gate, &caller, &id)?;
    Ok(json(StatusCode::OK, &shown(&gate, &job, job.board.now())))
}

/// Cancels a job.
///
/// When this is answered its work has stopped, and its intermediates and outputs are shredded; so
/// are the outputs of a job that had succeeded before. Its sources stay.
#[utoipa::path(
    delete,
    path = "/v1/jobs/{id}",
    tag = "jobs",
    security(("key" = ["client"])),
    params(("id" = String, Path, description = "The job's id")),
    responses(
        (status = 200, description = "The job, as it has ended", body = wire::Job),
        (status = 404, description = "No such job for this key", body = wire::Problem),
    )
)]
pub(super) async fn cancel(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Segment(id): Segment,
    request: Request,
) -> Result<Response, Problem> {
    caller.admit(&gate, request.uri(), Need::ClientForgets, &[])?;
    let job = own(&gate, &caller, &id)?;
    gate.pipeline.cancel(&job).await;
    caller.note(&gate, Action::JobCancel, Some(job.id.into()));
    Ok(json(StatusCode::OK, &shown(&gate, &job, job.board.now())))
}

/// The tenant's own job. A random id and another tenant's are told apart by nothing.
pub(super) fn own(gate: &Gate, caller: &Caller, id: &str) -> Result<Arc<AnyJob>, Problem> {
    let id: JobId = id.parse().map_err(|_| Slug::NotFound)?;
    gate.pipeline.job(id, caller.tenant_id()).ok_or(Slug::NotFound.into())
}

/// 202, and where the job is.
pub(super) fn accepted(gate: &Gate, job: &AnyJob) -> Response {
    let shown = shown(gate, job, job.board.now());
    let mut response = json(StatusCode::ACCEPTED, &shown);
    insert(response.headers_mut(), header::LOCATION, &shown.links.this);
    response
}

/// A job as it was at one moment.
pub(super) fn shown(gate: &Gate, job: &AnyJob, at: Event) -> wire::Job {
    let (state, progress) = (at.state, at.progress);
    let outputs = match state {
        // An output that dies between its finding and the look at its record is simply not shown.
        JobState::Succeeded => {
            let alive = gate.pipeline.outputs(job);
            alive.iter().filter_map(|file| view(gate, file).ok()).collect()
        }
        _ => Vec::new(),
    };
    let failure = || {
        let failure = job.failure.get();
        failure.map_or(Problem::new(Slug::Internal), |error| Problem::from(*error)).of_job()
    };
    wire::Job {
        id: job.id.to_string(),
        state: state.as_str(),
        progress: wire::JobProgress {
            step: progress.step.and_then(|at| job.steps.get(at).cloned()),
            bytes_in: progress.bytes_in,
            bytes_total: progress.bytes_total,
            percent: progress.percent,
        },
        outputs,
        problem: (state == JobState::Failed).then(failure),
        sources: job.sources.iter().map(ToString::to_string).collect(),
        steps: job.steps.clone(),
        consume: job.consume,
        region: job.region.to_string(),
        created_at: job.created.wall.rfc3339(),
        expires_at: job.deadline.expires_at().rfc3339(),
        links: wire::JobLinks {
            this: format!("/v1/jobs/{}", job.id),
            events: format!("/v1/jobs/{}/events", job.id),
        },
    }
}
