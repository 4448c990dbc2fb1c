//! What the environment tells the client's commands: where the gateway is, and the key.

use zeroize::Zeroizing;

use crate::cli::Access;

/// `DAYFLY_URL` and `DAYFLY_KEY`; an empty one counts as absent.
#[must_use]
pub fn access() -> Access {
    Access { url: variable("DAYFLY_URL"), key: variable("DAYFLY_KEY").map(Zeroizing::new) }
}

#[expect(clippy::disallowed_methods, reason = "this is the seam that others must go through")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
