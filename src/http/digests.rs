//! Which digests a request sends along, and which it wants (RFC 9530).

use http::{HeaderMap, HeaderName};

use super::Problem;
use super::caller::Caller;
use super::content::joined;
use crate::intake::{Algorithm, Digester, Expected};
use crate::problem::Slug;

/// What is to be hashed, as the request and the tenant's policy ask.
pub(super) fn digester(
    caller: &Caller,
    headers: &HeaderMap,
    multipart: bool,
) -> Result<Digester, Problem> {
    let mut digester = Digester::default();
    let expected = expected(headers)?;
    if multipart && !expected.is_empty() {
        let detail = "A multipart body has no one digest: send each file by itself.";
        return Err(Problem::because(Slug::BadDigest, detail));
    }
    digester.expect(expected);
    for algorithm in wanted(caller, headers) {
        digester.compute(algorithm);
    }
    Ok(digester)
}

/// The digests the client sent. None is passed over silently: what cannot be read is refused.
pub(super) fn expected(headers: &HeaderMap) -> Result<Vec<Expected>, Problem> {
    let mut all = Vec::new();
    for name in ["content-digest", "repr-digest"] {
        if let Some(value) = joined(headers, &HeaderName::from_static(name)) {
            let value = value.map_err(|_| Slug::BadDigest)?;
            all.extend(Expected::parse(&value).map_err(|_| Slug::BadDigest)?);
        }
    }
    Ok(all)
}

/// A wish that cannot be read is no wish (RFC 9530, section 4).
pub(super) fn wanted(caller: &Caller, headers: &HeaderMap) -> Vec<Algorithm> {
    let wish = joined(headers, &HeaderName::from_static("want-repr-digest"));
    let wish = wish.and_then(Result::ok).and_then(|wish| Algorithm::wanted(&wish));
    let always = caller.tenant.always_digest.then_some(Algorithm::Sha256);
    wish.into_iter().chain(always).collect()
}
