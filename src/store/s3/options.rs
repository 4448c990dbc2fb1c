//! Where a bucket is, and what may name one: regional endpoints alone.

use std::fmt;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::egress::{Origin, OriginError};

/// A bucket and the way to it.
#[derive(Clone)]
pub struct S3Options {
    pub bucket: String,
    /// The storage region requests are signed for, and the bucket must lie in.
    pub region: String,
    pub endpoint: Origin,
    /// Whether the bucket stands in the path; else it is part of the host's name.
    pub path_style: bool,
    pub credentials: Lender,
    /// Between two checks of the bucket.
    pub check_every: Duration,
    pub insecure_loopback: bool,
}

/// Who gives the credentials.
#[derive(Clone)]
pub enum Lender {
    /// The operator, in files or the environment.
    Operator { access_key_id: Zeroizing<String>, secret_access_key: Zeroizing<String> },
    /// The machine, for a while at a time: where its metadata service is.
    #[cfg(feature = "instance-role")]
    Instance(Origin),
}

impl fmt::Debug for S3Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Options")
            .field("bucket", &self.bucket)
            .field("region", &self.region)
            .field("endpoint", &self.endpoint)
            .field("path_style", &self.path_style)
            .finish_non_exhaustive()
    }
}

/// Why a bucket or an endpoint cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    #[error("a bucket's name is 3 to 63 of a-z, 0-9, \".\" and \"-\"; no ARN, no access point")]
    Bucket,
    #[error(transparent)]
    Endpoint(#[from] OriginError),
    #[error("an endpoint has no path")]
    Path,
    #[error("acceleration, access points and multi-region endpoints do not say where bytes rest")]
    Nowhere,
    #[error("it is not an endpoint of vault.s3.region")]
    OtherRegion,
}

/// Whether a name is a plain bucket's.
///
/// # Errors
/// When it is not.
pub fn check_bucket(name: &str) -> Result<(), PlaceError> {
    let inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-';
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = name.as_bytes();
    let fits = (3..=63).contains(&bytes.len()) && bytes.iter().copied().all(inside);
    // These endings stand for access points and for directory buckets, which are other services.
    let other = ["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"];
    let plain = !other.iter().any(|end| name.ends_with(end));
    if fits && plain && edge(bytes.first()) && edge(bytes.last()) {
        Ok(())
    } else {
        Err(PlaceError::Bucket)
    }
}

/// An endpoint as it is written; without one, AWS's own of the region.
///
/// # Errors
/// When it has a path, is not regional, or is plain HTTP beyond loopback.
pub fn endpoint(
    written: Option<&str>,
    region: &str,
    insecure_loopback: bool,
) -> Result<Origin, PlaceError> {
    let own = format!("https://s3.{region}.amazonaws.com");
    let (origin, path) = Origin::parse(written.unwrap_or(&own), insecure_loopback)?;
    if !path.is_empty() {
        return Err(PlaceError::Path);
    }
    let host = origin.host();
    let labels = || host.split('.');
    let nowhere = |label: &str| {
        label.contains("accelerate") || label == "accesspoint" || label.contains("s3-global")
    };
    if labels().any(nowhere) {
        return Err(PlaceError::Nowhere);
    }
    let aws = host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn");
    if aws && !labels().any(|label| label == region) {
        return Err(PlaceError::OtherRegion);
    }
    Ok(origin)
}

impl S3Options {
    /// The one origin that requests for the bucket may go to.
    ///
    /// # Errors
    /// When the bucket cannot be part of a host's name.
    pub(super) fn origin(&self) -> Result<Origin, PlaceError> {
        if self.path_style {
            return Ok(self.endpoint.clone());
        }
        let whole = self.endpoint.to_string();
        let (scheme, rest) = whole.split_once("://").ok_or(PlaceError::Bucket)?;
        let named = format!("{scheme}://{}.{rest}", self.bucket);
        Ok(Origin::parse(&named, self.insecure_loopback)?.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_buckets_are_named() {
        for name in ["abc", "dayfly-eu", "a.b.c", "0-0"] {
            assert_eq!(check_bucket(name), Ok(()), "{name}");
        }
        for name in [
            "ab",
            "Upper",
            "-abc",
            "abc-",
            "a/b",
            "arn:aws:s3:eu-central-1:1:accesspoint/x",
            "mfzwi23gnjvgw.mrap",
            "alias-s3alias",
            "place--euc1-az1--x-s3",
            "",
        ] {
            assert_eq!(check_bucket(name), Err(PlaceError::Bucket), "{name}");
        }
    }

    #[test]
    fn an_endpoint_is_regional() {
        let of = |written: Option<&str>| endpoint(written, "eu-central-1", true);
        let own = of(None).unwrap().to_string();
        assert_eq!(own, "https://s3.eu-central-1.amazonaws.com");
        for good in [
            "https://s3.dualstack.eu-central-1.amazonaws.com",
            "https://s3-fips.eu-central-1.amazonaws.com",
            "https://bucket.vpce-1a2b.s3.eu-central-1.vpce.amazonaws.com",
            "https://garage.example:3900",
            "http://127.0.0.1:5000",
        ] {
            assert!(of(Some(good)).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("https://s3-accelerate.amazonaws.com", PlaceError::Nowhere),
            ("https://x.accesspoint.s3-global.amazonaws.com", PlaceError::Nowhere),
            ("https://s3.amazonaws.com", PlaceError::OtherRegion),
            ("https://s3.us-west-2.amazonaws.com", PlaceError::OtherRegion),
            ("https://garage.example/path", PlaceError::Path),
            ("http://garage.example", PlaceError::Endpoint(OriginError::Plain)),
        ] {
            assert_eq!(of(Some(bad)).unwrap_err(), why, "{bad}");
        }
    }
}
