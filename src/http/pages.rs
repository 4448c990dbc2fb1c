//! Pages for people: what a problem means, and the reference that is made from the routes.

use std::sync::{Arc, OnceLock};

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderName, header};

use super::query::Query;
use super::segment::Segment;
use super::{Gate, Problem, guard};
use crate::problem::Slug;
use crate::web;

/// The document and its page never change while a process runs.
static DOCUMENT: OnceLock<serde_json::Value> = OnceLock::new();
static PAGE: OnceLock<String> = OnceLock::new();

fn document() -> &'static serde_json::Value {
    DOCUMENT.get_or_init(|| serde_json::to_value(super::openapi()).unwrap_or_default())
}

fn html(page: String) -> Response {
    let headers: [(HeaderName, &str); 3] = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, web::CONTENT_SECURITY_POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, page).into_response()
}

/// This API as OpenAPI 3.1.
#[utoipa::path(get, path = "/openapi.json", tag = "pages",
    responses((status = 200, description = "The document", content_type = "application/json")))]
pub(super) async fn openapi(
    State(_): State<Arc<Gate>>,
    request: Request,
) -> Result<Response, Problem> {
    Query::parse(request.uri(), &[])?;
    Ok(guard::json(http::StatusCode::OK, document()))
}

/// This API to read.
#[utoipa::path(get, path = "/docs", tag = "pages",
    responses((status = 200, description = "The page", content_type = "text/html")))]
pub(super) async fn docs(
    State(_): State<Arc<Gate>>,
    request: Request,
) -> Result<Response, Problem> {
    Query::parse(request.uri(), &[])?;
    Ok(html(PAGE.get_or_init(|| web::docs_page(document())).clone()))
}

/// Every way Dayfly says no.
#[utoipa::path(get, path = "/problems", tag = "pages",
    responses((status = 200, description = "The page", content_type = "text/html")))]
pub(super) async fn problems(
    State(_): State<Arc<Gate>>,
    request: Request,
) -> Result<Response, Problem> {
    Query::parse(request.uri(), &[])?;
    Ok(html(web::problems_page()))
}

/// What one problem means, and what to do.
#[utoipa::path(get, path = "/problems/{slug}", tag = "pages",
    params(("slug" = String, Path, description = "The last part of a problem's type")),
    responses(
        (status = 200, description = "The page", content_type = "text/html"),
        (status = 404, description = "No such problem", body = crate::wire::Problem),
    ))]
pub(super) async fn problem(
    State(_): State<Arc<Gate>>,
    Segment(slug): Segment,
    request: Request,
) -> Result<Response, Problem> {
    Query::parse(request.uri(), &[])?;
    let slug = Slug::parse(&slug).ok_or(Slug::NotFound)?;
    Ok(html(web::problem_page(slug)))
}

/// How the pages look.
#[utoipa::path(get, path = "/assets/dayfly.css", tag = "pages",
    responses((status = 200, description = "The stylesheet", content_type = "text/css")))]
pub(super) async fn stylesheet(
    State(_): State<Arc<Gate>>,
    request: Request,
) -> Result<Response, Problem> {
    Query::parse(request.uri(), &[])?;
    let headers: [(HeaderName, &str); 2] = [
        (header::CONTENT_TYPE, "text/css; charset=utf-8"),
        (header::CACHE_CONTROL, "public, max-age=3600"),
    ];
    Ok((headers, web::STYLESHEET).into_response())
}
