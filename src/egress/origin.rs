//! Where a request may go: scheme, host and port, exactly.

use std::fmt;
use std::net::IpAddr;

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};

/// The address of the instance metadata service (AWS; other clouds took it over).
pub(super) const INSTANCE_METADATA: &str = "169.254.169.254";

/// A scheme, a host and a port (RFC 6454). Paths stand apart, so that an allow list compares hosts
/// and nothing else.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    scheme: Scheme,
    authority: Authority,
}

/// Why a text names no origin that may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    #[error("write it as https://host or https://host:port, without user, password or fragment")]
    Syntax,
    #[error("http:// is only for loopback, and only with allow_insecure_loopback = true")]
    Plain,
}

impl Origin {
    /// Reads a URL and returns its origin and its path, without a `/` at its end, and query.
    ///
    /// # Errors
    /// When it is no absolute `https` URL; `http` is accepted for a loopback address where
    /// `insecure_loopback` says so.
    pub fn parse(url: &str, insecure_loopback: bool) -> Result<(Self, String), OriginError> {
        if url.contains(['#', '\\']) || url.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(OriginError::Syntax);
        }
        let parts = url.parse::<Uri>().map_err(|_| OriginError::Syntax)?.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err(OriginError::Syntax);
        };
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(OriginError::Syntax);
        }
        if authority.as_str().ends_with(':') {
            return Err(OriginError::Syntax);
        }
        let lower = authority.as_str().to_ascii_lowercase();
        let authority = lower.parse().map_err(|_| OriginError::Syntax)?;
        let origin = Self { scheme, authority };
        if origin.scheme == Scheme::HTTP {
            if !(insecure_loopback && origin.is_loopback()) {
                return Err(OriginError::Plain);
            }
        } else if origin.scheme != Scheme::HTTPS {
            return Err(OriginError::Syntax);
        }
        let path = parts.path_and_query.map_or_else(String::new, |path| path.as_str().to_owned());
        Ok((origin, path.strip_suffix('/').unwrap_or(&path).to_owned()))
    }

    /// Where a cloud machine tells about itself: one link-local address, by plain HTTP, which never
    /// leaves the machine; or `written`, on loopback where that may be spoken.
    ///
    /// # Errors
    /// When what is written is neither.
    pub fn instance(written: Option<&str>, insecure_loopback: bool) -> Result<Self, OriginError> {
        let own =
            Self { scheme: Scheme::HTTP, authority: Authority::from_static(INSTANCE_METADATA) };
        match written.map(|url| url.strip_suffix('/').unwrap_or(url)) {
            None => Ok(own),
            Some(url) if url == own.to_string() => Ok(own),
            Some(url) => Ok(Self::parse(url, insecure_loopback)?.0),
        }
    }

    /// The host: a name in lower case, or an address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    /// The port, the scheme's own where none was written.
    #[must_use]
    pub fn port(&self) -> u16 {
        let usual = if self.is_https() { 443 } else { 80 };
        self.authority.port_u16().unwrap_or(usual)
    }

    #[must_use]
    pub fn is_https(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    /// Whether it is written as a loopback address; a name never is.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host().parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    pub(super) fn uri(&self, path: Option<PathAndQuery>) -> Option<Uri> {
        let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
        let uri = Uri::builder().scheme(self.scheme.clone()).authority(self.authority.clone());
        uri.path_and_query(path).build().ok()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port_and_the_rest_is_a_path() {
        let (origin, path) = Origin::parse("https://API.example:8443/v2/", false).unwrap();
        assert_eq!((origin.to_string(), path), ("https://api.example:8443".into(), "/v2".into()));
        assert_eq!((origin.host(), origin.port()), ("api.example", 8443));
        let (origin, path) = Origin::parse("https://hooks.example", false).unwrap();
        assert_eq!((origin.port(), path.as_str()), (443, ""));
        assert_eq!(
            Origin::parse("https://[2001:DB8::1]/x", false).unwrap().0.host(),
            "2001:db8::1"
        );
    }

    #[test]
    fn the_instances_own_service_is_one_address_or_loopback() {
        let own = Origin::instance(None, false).unwrap();
        assert_eq!((own.to_string().as_str(), own.port()), ("http://169.254.169.254", 80));
        assert_eq!(Origin::instance(Some("http://169.254.169.254/"), false), Ok(own));
        assert!(Origin::instance(Some("http://127.0.0.1:1"), true).is_ok());
        for (other, loopback) in
            [("http://127.0.0.1:1", false), ("http://169.254.169.253", true), ("x", true)]
        {
            assert!(Origin::instance(Some(other), loopback).is_err(), "{other}");
        }
    }

    #[test]
    fn what_could_mislead_is_refused() {
        for url in [
            "",
            "/path",
            "example.com",
            "https://",
            "https://user@example.com/",
            "https://example.com@evil.example/",
            "https://example.com\\@evil.example/",
            "https://example.com:/",
            "https://exam ple.com/",
            "https://example.com/#here",
            "ftp://example.com/",
            "file:///etc/passwd",
        ] {
            assert_eq!(Origin::parse(url, true).unwrap_err(), OriginError::Syntax, "{url:?}");
        }
        for url in ["http://example.com/", "http://localhost/", "http://10.0.0.1/"] {
            assert_eq!(Origin::parse(url, true).unwrap_err(), OriginError::Plain, "{url:?}");
        }
        assert_eq!(Origin::parse("http://127.0.0.1:1/", false).unwrap_err(), OriginError::Plain);
        assert!(Origin::parse("http://127.0.0.1:1/", true).is_ok());
        assert!(Origin::parse("http://[::1]:1/", true).is_ok());
    }
}
