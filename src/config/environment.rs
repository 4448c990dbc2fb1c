//! What is taken from the environment: secrets that must not stand in a file, and for the command
//! line where the gateway is.

use zeroize::Zeroizing;

/// A client's own settings.
pub struct Caller {
    /// `DAYFLY_URL`: the gateway's address.
    pub url: String,
    /// `DAYFLY_KEY`: the key to ask with.
    pub key: Zeroizing<String>,
}

/// What the environment says of the gateway to ask.
///
/// # Errors
/// The variable that is missing.
pub fn caller() -> Result<Caller, &'static str> {
    let url = variable("DAYFLY_URL").unwrap_or_else(|| "http://127.0.0.1:8080".to_owned());
    let key = variable("DAYFLY_KEY").map(Zeroizing::new).ok_or("DAYFLY_KEY")?;
    Ok(Caller { url, key })
}

/// A secret by the name of its variable.
pub(super) fn secret(name: &str) -> Option<String> {
    variable(name)
}

#[expect(clippy::disallowed_methods, reason = "the configuration is where the environment is read")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
