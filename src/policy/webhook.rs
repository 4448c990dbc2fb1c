//! Which hosts a tenant may have called, and the secret those calls are signed with.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64;
use zeroize::Zeroizing;

use crate::egress::Origin;

/// A secret of Standard Webhooks: `whsec_` and base64 of 24 to 64 bytes. Wiped on drop.
pub struct WebhookSecret(Zeroizing<Vec<u8>>);

/// The text is no such secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a webhook secret is whsec_ and the base64 of 24 to 64 bytes")]
pub struct WebhookSecretError;

impl WebhookSecret {
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for WebhookSecret {
    type Err = WebhookSecretError;

    fn from_str(text: &str) -> Result<Self, WebhookSecretError> {
        let encoded = text.strip_prefix("whsec_").ok_or(WebhookSecretError)?;
        let bytes = BASE64.decode(encoded.as_bytes()).map(Zeroizing::new);
        let bytes = bytes.map_err(|_| WebhookSecretError)?;
        if (24..=64).contains(&bytes.len()) { Ok(Self(bytes)) } else { Err(WebhookSecretError) }
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(..)")
    }
}

/// A host as the policy names it: exactly, with a port where only that one is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookHost {
    host: String,
    port: Option<u16>,
}

/// The text is no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a webhook's host is like hooks.example or hooks.example:8443, without scheme or path")]
pub struct WebhookHostError;

impl FromStr for WebhookHost {
    type Err = WebhookHostError;

    fn from_str(text: &str) -> Result<Self, WebhookHostError> {
        let (origin, path) =
            Origin::parse(&format!("https://{text}"), false).map_err(|_| WebhookHostError)?;
        let bare = path.is_empty() && !text.contains(['/', '?', '*']);
        let authority = text.rsplit(']').next().unwrap_or_default();
        let port = authority.contains(':').then(|| origin.port());
        let host = origin.host().to_owned();
        bare.then_some(Self { host, port }).ok_or(WebhookHostError)
    }
}

impl WebhookHost {
    /// Whether an origin is at this host.
    #[must_use]
    pub fn admits(&self, origin: &Origin) -> bool {
        self.host == origin.host() && self.port.is_none_or(|port| port == origin.port())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_met_exactly_or_not_at_all() {
        let admits = |host: &str, url: &str| {
            let origin = Origin::parse(url, true).unwrap().0;
            host.parse::<WebhookHost>().unwrap().admits(&origin)
        };
        assert!(admits("hooks.example", "https://hooks.example/a"));
        assert!(admits("Hooks.example", "https://HOOKS.example:8443/a"));
        assert!(admits("hooks.example:8443", "https://hooks.example:8443/"));
        assert!(admits("127.0.0.1", "http://127.0.0.1:1234/"));
        assert!(admits("[::1]:99", "http://[::1]:99/"));
        assert!(!admits("hooks.example:8443", "https://hooks.example/"));
        assert!(!admits("hooks.example", "https://a.hooks.example/"));
        assert!(!admits("hooks.example", "https://hooks.example.evil.example/"));
        assert!(!admits("hooks.example", "https://hooks.exampl/"));
        for wrong in ["", "https://hooks.example", "hooks.example/", "*.example", "a@b", "a b"] {
            assert!(wrong.parse::<WebhookHost>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_secret_is_long_enough_or_refused() {
        let short = format!("whsec_{}", BASE64.encode(&[1; 23]));
        let good = format!("whsec_{}", BASE64.encode(&[1; 24]));
        assert!(short.parse::<WebhookSecret>().is_err());
        assert_eq!(good.parse::<WebhookSecret>().unwrap().expose(), [1; 24]);
        for wrong in ["", "whsec_", "whsec_%%%", &good[6..]] {
            assert!(wrong.parse::<WebhookSecret>().is_err(), "{wrong:?}");
        }
    }
}
