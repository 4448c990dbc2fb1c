//! Pages for people: problems and the documentation. Pure functions from words to HTML.
//!
//! No page needs a script, loads anything from elsewhere, or carries anything of a request.
//! Templates lie in `web/`; askama escapes all that they are given.

mod consent;
mod prose;
mod reference;
mod schema;

use askama::Template;
use serde_json::Value;

use crate::problem::Slug;
use prose::{Block, Span};
use reference::Reference;

pub use consent::{
    AccountPage, ConsentPage, account_page, consent_page, consent_policy, ended_page, refusal_page,
};

/// What `/assets/dayfly.css` serves.
pub const STYLESHEET: &str = include_str!("web/dayfly.css");

/// Goes with every page: one stylesheet of our own, and nothing else.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; \
     img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[derive(Template)]
#[template(path = "problem.html", config = "src/web/askama.toml")]
struct ProblemPage {
    here: &'static str,
    slug: Slug,
    happened: &'static str,
}

#[derive(Template)]
#[template(path = "problems.html", config = "src/web/askama.toml")]
struct ProblemsPage {
    here: &'static str,
    slugs: Vec<Slug>,
}

#[derive(Template)]
#[template(path = "docs.html", config = "src/web/askama.toml")]
struct DocsPage {
    here: &'static str,
    reference: Reference,
}

/// The page behind a problem's `type`.
#[must_use]
pub fn problem_page(slug: Slug) -> String {
    // Not "problems": from here that link leads up.
    written(&ProblemPage { here: "problem", slug, happened: happened(slug.status()) })
}

/// `/problems`: all of them, by status.
#[must_use]
pub fn problems_page() -> String {
    let mut slugs = Slug::ALL.to_vec();
    slugs.sort_by_key(|slug| slug.status());
    written(&ProblemsPage { here: "problems", slugs })
}

/// `/docs`: a tour, and the OpenAPI 3.1 document written out. Parts that are missing, dangling or
/// circular are left out; the page is always whole.
#[must_use]
pub fn docs_page(openapi: &Value) -> String {
    written(&DocsPage { here: "docs", reference: Reference::read(openapi) })
}

/// Writing into a `String` cannot fail, and the templates call nothing that can.
fn written(page: &impl Template) -> String {
    page.render().unwrap_or_default()
}

/// What a status says of the request, in a sentence.
const fn happened(status: u16) -> &'static str {
    match status {
        400 => "The gateway found something in the request that it cannot act on.",
        401 => "The request came without a key or grant that the gateway accepts.",
        403 => "The gateway knows who asks, and what is asked for is not theirs to do.",
        404 => "The gateway looked, and has nothing to show to this key.",
        405 => "The address exists, but does not answer to this method.",
        408 => "The gateway stopped waiting for the rest of the request.",
        409 => "Something else must end before this request can be answered.",
        410 => "What the request asks for was here once, and has been forgotten.",
        412 => "A condition that the request itself sets does not hold.",
        413 => "The request carries more bytes than may be taken in.",
        415 => "The bytes are of a type that was not foreseen here.",
        416 => "The request asks for a part that the file does not have.",
        421 => "The request reached a gateway that must not hold these bytes.",
        422 => "The request was understood, but what it asks for cannot be done.",
        423 => "Another request is at work on this, and goes on.",
        460 => "The bytes are not those that their checksum says.",
        502 => "A service that the gateway depends on did not do its part.",
        504 => "A service that the gateway depends on took too long.",
        429 => "More was asked than is allowed at the moment.",
        503 => "The gateway cannot take this request now.",
        507 => "The gateway has no room for the bytes.",
        500.. => "The fault lies with the gateway, or with something it depends on.",
        _ => "The gateway refused the request.",
    }
}

#[cfg(test)]
mod tests;
