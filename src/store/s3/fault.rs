//! What a storage server's refusals mean to us. Its own words are never passed on.

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::store::StoreError;

/// Why a request to the bucket failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// No object of this name, or none that reaches as far as was asked.
    #[error("there is no such object")]
    Missing,
    /// No multipart upload of this id: aborted, completed, or never begun.
    #[error("there is no such upload")]
    NoUpload,
    #[error("there is no such bucket")]
    NoBucket,
    /// What was asked for was never set on the bucket.
    #[error("the bucket has no such setting")]
    NotSet,
    /// The server does not know this request.
    #[error("the server does not offer this")]
    NotOffered,
    #[error("the credentials may not do this")]
    Denied,
    /// The bucket is elsewhere. Nothing is ever sent there.
    #[error("the server points to another place")]
    Elsewhere,
    #[error("the storage is full")]
    Full,
    /// It may succeed the next time: too many requests, a failure inside, a connection that broke.
    #[error("the server did not answer, or was busy")]
    Busy,
    #[error("the server answered something else than it was asked")]
    Strange,
}

impl Fault {
    /// Reads an SDK's error: the code and the status, never the message.
    pub fn of<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Self {
        match error {
            SdkError::ServiceError(answer) => {
                Self::told(answer.err().code(), answer.raw().status().as_u16())
            }
            SdkError::ResponseError(answer) if answer.raw().status().as_u16() < 300 => Self::Busy,
            SdkError::ResponseError(answer) => Self::told(None, answer.raw().status().as_u16()),
            SdkError::DispatchFailure(failure) if failure.is_user() => Self::Strange,
            SdkError::DispatchFailure(_) | SdkError::TimeoutError(_) => Self::Busy,
            _ => Self::Strange,
        }
    }

    fn told(code: Option<&str>, status: u16) -> Self {
        match code.unwrap_or_default() {
            "NoSuchKey" | "InvalidRange" => Self::Missing,
            "NoSuchUpload" => Self::NoUpload,
            "NoSuchBucket" => Self::NoBucket,
            "ObjectLockConfigurationNotFoundError"
            | "ReplicationConfigurationNotFoundError"
            | "NoSuchPublicAccessBlockConfiguration"
            | "NoSuchBucketPolicy" => Self::NotSet,
            "NotImplemented" | "MethodNotAllowed" | "UnsupportedOperation" => Self::NotOffered,
            "PermanentRedirect"
            | "TemporaryRedirect"
            | "Redirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException" => Self::Elsewhere,
            "QuotaExceeded" | "StorageFull" => Self::Full,
            // Some servers say it with status 200 or 400.
            "SlowDown" | "InternalError" | "ServiceUnavailable" | "RequestTimeout"
            | "OperationAborted" => Self::Busy,
            _ => Self::by_status(status),
        }
    }

    const fn by_status(status: u16) -> Self {
        match status {
            300..=399 => Self::Elsewhere,
            401 | 403 => Self::Denied,
            404 | 416 => Self::Missing,
            405 | 501 => Self::NotOffered,
            507 => Self::Full,
            // A 200 whose body was an error, timeouts, throttling, and what failed inside.
            200..=299 | 408 | 429 | 500..=599 => Self::Busy,
            _ => Self::Strange,
        }
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Missing => Self::Missing,
            Fault::Full => Self::Full,
            Fault::NoUpload
            | Fault::NoBucket
            | Fault::NotSet
            | Fault::NotOffered
            | Fault::Denied
            | Fault::Elsewhere
            | Fault::Busy
            | Fault::Strange => Self::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_count_before_statuses() {
        for (code, status, fault) in [
            (Some("SlowDown"), 200, Fault::Busy),
            (Some("SlowDown"), 503, Fault::Busy),
            (Some("NoSuchUpload"), 404, Fault::NoUpload),
            (Some("NoSuchBucket"), 404, Fault::NoBucket),
            (Some("PermanentRedirect"), 301, Fault::Elsewhere),
            (None, 301, Fault::Elsewhere),
            (None, 307, Fault::Elsewhere),
            (None, 403, Fault::Denied),
            (None, 404, Fault::Missing),
            (None, 500, Fault::Busy),
            (None, 501, Fault::NotOffered),
            (Some("InvalidPart"), 400, Fault::Strange),
        ] {
            assert_eq!(Fault::told(code, status), fault, "{code:?} {status}");
        }
    }
}
