//! The pages a person meets on the way to a connection, and the way back from the provider.
//!
//! None of them needs a key: an address of its own and a cookie of the first browser are what they
//! ask for. Nothing of a request is ever written into a page.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use zeroize::Zeroizing;

use super::segment::Segment;
use super::{Gate, Problem, body, guard};
use crate::connect::{Person, Returned, Shown};
use crate::egress::Origin;
use crate::problem::Slug;
use crate::provider::Service;
use crate::table::{Connection, Ending, Standing};
use crate::web::{self, AccountPage, ConsentPage};

/// A form has one field.
const MOST_FORM: u64 = 4 << 10;
/// The longest value that a provider sends back in a URL.
const LONGEST_VALUE: usize = 4096;
/// A browser's cookie for one page ends with it.
const COOKIE_SECONDS: u64 = 1800;

/// Whether a refusal is to be read by a person: one of these pages, asked for as a page.
pub(super) fn wants_page(request: &Request) -> bool {
    let path = request.uri().path();
    let ours = path.starts_with("/connect/") || path.starts_with("/oauth/callback/");
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    ours && accept.is_some_and(|accept| accept.to_ascii_lowercase().contains("text/html"))
}

/// A refusal as a page.
pub(super) fn page_of(problem: &Problem, request_id: &str) -> Response {
    let page = web::refusal_page(problem.slug(), problem.detail(), request_id);
    let mut response = html(page, None);
    let status = StatusCode::from_u16(problem.slug().status());
    *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

fn html(page: String, provider: Option<&Origin>) -> Response {
    let policy = web::consent_policy(provider.map(ToString::to_string).as_deref());
    let policy = HeaderValue::from_str(&policy);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (
            header::CONTENT_SECURITY_POLICY,
            policy.unwrap_or(HeaderValue::from_static("default-src 'none'")),
        ),
    ];
    (headers, page).into_response()
}

/// 303: whatever the request was, what follows is a GET of a page whose address says nothing.
fn see(place: &str) -> Result<Response, Problem> {
    let place = HeaderValue::from_str(place).map_err(|_| Slug::Internal)?;
    let headers = [
        (header::LOCATION, place),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    Ok((StatusCode::SEE_OTHER, headers).into_response())
}

/// The cookies of a request.
struct Cookies<'a>(&'a HeaderMap);

impl Person for Cookies<'_> {
    fn cookie(&self, name: &str) -> Option<String> {
        let lines = self.0.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|one| {
            let (found, value) = one.split_once('=')?;
            (found.trim() == name).then(|| value.trim().to_owned())
        });
        let first = pairs.next()?;
        // Two of one name: one of them is not ours, and nobody knows which.
        pairs.next().is_none().then_some(first)
    }
}

/// Who asks, for what, and for how long.
///
/// Opens once, in the first browser that comes; another one gets 410.
#[utoipa::path(get, path = "/connect/{page}", tag = "connections",
    params(("page" = String, Path, description = "As `authorize_url` has it")),
    responses(
        (status = 200, description = "The page", content_type = "text/html"),
        (status = 404, description = "No such page", body = crate::wire::Problem),
        (status = 410, description = "It belongs to another browser", body = crate::wire::Problem),
    ))]
pub(super) async fn show(
    State(gate): State<Arc<Gate>>,
    Segment(page): Segment,
    request: Request,
) -> Result<Response, Problem> {
    is_opened_by_a_person(&request)?;
    let shown = gate.connect.open(&page, &Cookies(request.headers()))?;
    if shown.view.standing != Standing::Pending {
        return see(&format!("/connect/{page}/account"));
    }
    let terms = &shown.view.terms;
    let host = terms.return_to.as_deref().and_then(host_of);
    let text = web::consent_page(&ConsentPage {
        page: &page,
        form: &shown.form,
        name: &terms.display_name,
        return_host: host.as_deref(),
        service: terms.service(),
        access: terms.access,
        offline: terms.offline,
        lasts: terms.ttl,
    });
    let mut response = html(text, Some(terms.provider.authorize_origin()));
    if let Some((name, value)) = &shown.cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie(name, value)?);
    }
    Ok(response)
}

/// Reading ahead must not take the page from whoever it is for.
fn is_opened_by_a_person(request: &Request) -> Result<(), Problem> {
    let says = |name: &str| {
        let value = request.headers().get(name).and_then(|value| value.to_str().ok());
        value.is_some_and(|value| value.contains("prefetch") || value.contains("preview"))
    };
    if request.method() == Method::HEAD {
        return Err(guard_get_only());
    }
    if says("sec-purpose") || says("purpose") || says("x-moz") {
        let detail = "The page opens once: it is not to be loaded ahead.";
        return Err(Problem::because(Slug::BadRequest, detail));
    }
    Ok(())
}

fn guard_get_only() -> Problem {
    let allow = HeaderValue::from_static("GET, POST");
    Problem::new(Slug::MethodNotAllowed).with(header::ALLOW, allow)
}

fn cookie(name: &str, value: &str) -> Result<HeaderValue, Problem> {
    let secure = if name.starts_with("__Host-") { "; Secure" } else { "" };
    // Lax: it must come along when the provider sends the browser back.
    let line = Zeroizing::new(format!(
        "{name}={value}; Path=/; Max-Age={COOKIE_SECONDS}; HttpOnly; SameSite=Lax{secure}"
    ));
    let mut line = HeaderValue::from_str(&line).map_err(|_| Slug::Internal)?;
    line.set_sensitive(true);
    Ok(line)
}

fn host_of(url: &str) -> Option<String> {
    let (origin, _) = Origin::parse(url, true).ok()?;
    let text = origin.to_string();
    text.split_once("://").map(|(_, host)| host.to_owned())
}

/// The page's own form: its one field.
async fn form(gate: &Gate, request: Request) -> Result<Zeroizing<String>, Problem> {
    let refused = Problem::because(Slug::BadRequest, "The form's own token is missing or wrong.");
    // Browsers that say where a form comes from say it here; the others have the token alone.
    let site = request.headers().get("sec-fetch-site");
    if site.is_some_and(|site| site != "same-origin") {
        return Err(refused);
    }
    let bytes = body::small(request.into_body(), MOST_FORM, &*gate.clock).await?;
    let mut fields = form_urlencoded::parse(&bytes).filter(|(name, _)| name == "form");
    match (fields.next(), fields.next()) {
        (Some((_, value)), None) => Ok(Zeroizing::new(value.into_owned())),
        _ => Err(refused),
    }
}

/// The person agrees.
#[utoipa::path(post, path = "/connect/{page}/consent", tag = "connections",
    params(("page" = String, Path, description = "As in the page's address")),
    responses(
        (status = 303, description = "On to the provider"),
        (status = 400, description = "Not sent by the page", body = crate::wire::Problem),
        (status = 410, description = "Another browser, or over", body = crate::wire::Problem),
    ))]
pub(super) async fn consent(
    State(gate): State<Arc<Gate>>,
    Segment(page): Segment,
    request: Request,
) -> Result<Response, Problem> {
    guard::stopping(&gate)?;
    let headers = request.headers().clone();
    let form = form(&gate, request).await?;
    see(&gate.connect.consent(&page, &Cookies(&headers), &form)?)
}

/// The person says no.
#[utoipa::path(post, path = "/connect/{page}/refuse", tag = "connections",
    params(("page" = String, Path, description = "As in the page's address")),
    responses((status = 303, description = "On to a page that says so")))]
pub(super) async fn refuse(
    State(gate): State<Arc<Gate>>,
    Segment(page): Segment,
    request: Request,
) -> Result<Response, Problem> {
    let headers = request.headers().clone();
    let form = form(&gate, request).await?;
    gate.connect.refuse(&page, &Cookies(&headers), &form).await?;
    see(&format!("/connect/{page}/account"))
}

/// "Not you?": the person takes it back.
#[utoipa::path(post, path = "/connect/{page}/disconnect", tag = "connections",
    params(("page" = String, Path, description = "As in the page's address")),
    responses((status = 303, description = "On to a page that says so")))]
pub(super) async fn disconnect(
    State(gate): State<Arc<Gate>>,
    Segment(page): Segment,
    request: Request,
) -> Result<Response, Problem> {
    let headers = request.headers().clone();
    let form = form(&gate, request).await?;
    gate.connect.disconnect(&page, &Cookies(&headers), &form).await?;
    see(&format!("/connect/{page}/account"))
}

/// Whose account it is, and the way on; or how it ended.
#[utoipa::path(get, path = "/connect/{page}/account", tag = "connections",
    params(("page" = String, Path, description = "As in the page's address")),
    responses((status = 200, description = "The page", content_type = "text/html")))]
pub(super) async fn account(
    State(gate): State<Arc<Gate>>,
    Segment(page): Segment,
    request: Request,
) -> Result<Response, Problem> {
    is_opened_by_a_person(&request)?;
    let person = Cookies(request.headers());
    let shown = gate.connect.visit(&page, &person)?;
    match &shown.view.standing {
        Standing::Pending => see(&format!("/connect/{page}")),
        Standing::Consented => match gate.connect.code(&page, &person)? {
            Some(code) => granted(&gate, &page, &shown, &code),
            None => Err(Slug::ConnectionRevoked.into()),
        },
        Standing::Active => Ok(ended(&shown.view, None)),
        Standing::Over(ending, _) => Ok(ended(&shown.view, Some(*ending))),
    }
}

fn granted(gate: &Gate, page: &str, shown: &Shown, code: &str) -> Result<Response, Problem> {
    let terms = &shown.view.terms;
    let grant = shown.view.grant.as_ref().ok_or(Slug::ConnectionRevoked)?;
    let label = gate.connect.label(grant)?;
    let onward = terms.return_to.as_ref().map(|to| {
        Zeroizing::new(with_query(to, &[("connection", &terms.id.to_string()), ("code", code)]))
    });
    let text = web::account_page(&AccountPage {
        page,
        form: &shown.form,
        name: &terms.display_name,
        service: terms.service(),
        label: &readable(&label),
        onward: onward.as_deref().map(String::as_str),
        code,
    });
    Ok(html(text, None))
}

/// A name from outside: without what could reorder or hide the text around it.
fn readable(label: &str) -> Zeroizing<String> {
    let flat = Zeroizing::new(label.replace(['/', '\\'], " "));
    let cut: Zeroizing<String> = Zeroizing::new(flat.chars().take(200).collect());
    let clean = crate::intake::clean(&cut).ok().flatten();
    Zeroizing::new(clean.unwrap_or_else(|| "…".to_owned()))
}

fn ended(view: &Connection, ending: Option<Ending>) -> Response {
    let terms = &view.terms;
    let how = ending.map(|ending| match ending {
        Ending::Failed(slug) => slug,
        Ending::Revoked | Ending::Expired => Slug::ConnectionRevoked,
    });
    let id = terms.id.to_string();
    let onward = terms.return_to.as_ref().filter(|_| how.is_some()).map(|to| {
        let why = how.map_or("", Slug::as_str);
        with_query(to, &[("connection", &id), ("error", why)])
    });
    let name = &terms.display_name;
    html(web::ended_page(name, terms.service(), how, onward.as_deref()), None)
}

/// An address of the tenant's with more in its query.
fn with_query(url: &str, pairs: &[(&str, &str)]) -> String {
    let more = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    let sign = if url.contains('?') { '&' } else { '?' };
    format!("{url}{sign}{more}")
}

/// Where a provider sends a browser back to.
#[utoipa::path(get, path = "/oauth/callback/{service}", tag = "connections",
    params(("service" = String, Path, description = "`dropbox` or `google_drive`")),
    responses(
        (status = 303, description = "On to a page that shows the account"),
        (status = 400, description = "Not a way back we know", body = crate::wire::Problem),
    ))]
pub(super) async fn callback(
    State(gate): State<Arc<Gate>>,
    Path(service): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let service = Service::parse(&service).ok_or(Slug::NotFound)?;
    is_opened_by_a_person(&request)?;
    let returned = returned(&request)?;
    let page = gate.connect.come_back(service, returned, &Cookies(request.headers())).await?;
    see(&format!("/connect/{}/account", page.as_str()))
}

/// What matters of the query. What else a provider adds is its own affair.
fn returned(request: &Request) -> Result<Returned, Problem> {
    let mut found = Returned::default();
    let query = request.uri().query().unwrap_or_default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let value = Zeroizing::new(value.into_owned());
        let twice = match &*name {
            "state" => found.state.replace(value.clone()).is_some(),
            "code" => found.code.replace(value.clone()).is_some(),
            "error" => found.error.replace(value.to_string()).is_some(),
            "iss" => found.issuer.replace(value.to_string()).is_some(),
            "picked_file_ids" => found.picked.replace(value.to_string()).is_some(),
            _ => false,
        };
        // One of two values would be believed, and nobody knows which was meant.
        if twice || value.len() > LONGEST_VALUE {
            return Err(Slug::OauthState.into());
        }
    }
    Ok(found)
}
