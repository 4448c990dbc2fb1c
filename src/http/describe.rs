//! What holds for every operation, added to the document in one place.

use utoipa::Modify;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, Response};

/// How a request shows who it is from.
pub(super) struct Security;

impl Modify for Security {
    fn modify(&self, api: &mut OpenApi) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "`dfk_<id>_<secret>`, as `dayfly key new` prints it; or a grant, `dfg_…`",
            ))
            .build();
        let components = api.components.get_or_insert_with(Default::default);
        components.add_security_scheme("key", SecurityScheme::Http(bearer));
    }
}

/// When each of the refusals that any operation can meet is met.
const ANYWHERE: [(&str, &str); 2] = [
    ("400", "A query parameter this takes not, or a credential in the URL"),
    ("405", "The path exists, for the methods in `Allow`"),
];
const WITH_KEY: [(&str, &str); 3] = [
    ("401", "No valid key or grant"),
    ("403", "The key's roles do not allow this, the policy says no, or the tenant is suspended"),
    ("429", "Too many requests, or too many wrong keys; `Retry-After` says how long to wait"),
];
const WITH_PARAMETER: (&str, &str) = ("404", "Nothing is there for this key");

/// Adds the common refusals to every operation that does not name them itself, and HEAD beside
/// every GET.
pub(super) fn complete(api: &mut OpenApi) {
    for (path, item) in &mut api.paths.paths {
        let named = path.contains('{');
        for operation in operations(item) {
            let keyed = operation.security.is_some();
            let common = ANYWHERE.iter().chain(WITH_KEY.iter().filter(|_| keyed));
            for (status, when) in common.chain(named.then_some(&WITH_PARAMETER)) {
                let refusals = &mut operation.responses.responses;
                refusals.entry((*status).to_owned()).or_insert_with(|| refusal(when));
            }
        }
        item.head = item.get.as_ref().map(without_body);
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let all = [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete];
    all.into_iter().filter_map(Option::as_mut)
}

fn refusal(when: &str) -> RefOr<Response> {
    let problem = Content::new(Some(Ref::from_schema_name("Problem")));
    let mut response = Response::new(when);
    response.content.insert("application/problem+json".to_owned(), problem.into());
    RefOr::T(response)
}

/// The same head as GET's, and nothing after it.
fn without_body(get: &Operation) -> Operation {
    let mut head = get.clone();
    head.summary = None;
    head.description = Some("As GET, without a body.".to_owned());
    head.operation_id = head.operation_id.map(|id| format!("{id}_head"));
    for response in head.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            response.content.clear();
        }
    }
    head
}
