//! From every module's errors to problem documents: exhaustive, and the only place that does it.

use std::borrow::Cow;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};

use crate::body::BodyError;
use crate::connect::ConnectError;
use crate::file::{FileId, Reason};
use crate::keyring::KeyringError;
use crate::pipeline::{PipelineError, UploadError};
use crate::policy::Refusal;
use crate::problem::Slug;
use crate::process::ProcessError;
use crate::provider::ProviderError;
use crate::wire;

/// A refusal on its way out. Its detail is never built from request text.
#[derive(Clone, Debug)]
pub struct Problem {
    slug: Slug,
    detail: Cow<'static, str>,
    headers: Vec<(HeaderName, HeaderValue)>,
    receipt: Option<FileId>,
    /// Where an upload goes on, and where the request thought it did.
    offsets: Option<(u64, u64)>,
    /// Whether its type is the one registered with the IANA, in place of our page.
    registered: bool,
}

impl Problem {
    /// A problem that says no more than its page.
    #[must_use]
    pub const fn new(slug: Slug) -> Self {
        Self::because(slug, slug.advice())
    }

    /// A problem with a detail of its own.
    #[must_use]
    pub const fn because(slug: Slug, detail: &'static str) -> Self {
        Self {
            slug,
            detail: Cow::Borrowed(detail),
            headers: Vec::new(),
            receipt: None,
            offsets: None,
            registered: false,
        }
    }

    /// The same under its registered type, where it has one: what the draft on resumable uploads
    /// asks for.
    #[must_use]
    pub fn registered(mut self) -> Self {
        self.registered =
            matches!(self.slug, Slug::MismatchingUploadOffset | Slug::InconsistentUploadLength);
        self
    }

    fn kind(&self) -> String {
        if self.registered {
            return format!("{REGISTRY}#{}", self.slug.as_str());
        }
        format!("/problems/{}", self.slug.as_str())
    }

    #[must_use]
    pub const fn slug(&self) -> Slug {
        self.slug
    }

    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    fn retry_after(self, seconds: u32) -> Self {
        self.with(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// No valid key or grant.
    #[must_use]
    pub fn unauthenticated() -> Self {
        let challenge = HeaderValue::from_static("Bearer");
        Self::new(Slug::Unauthenticated).with(header::WWW_AUTHENTICATE, challenge)
    }

    /// A file that was and is no more.
    #[must_use]
    pub fn gone(file: FileId, reason: Reason) -> Self {
        let slug = match reason {
            Reason::Deleted | Reason::Cancelled | Reason::Failed => Slug::Deleted,
            Reason::Expired => Slug::Expired,
            Reason::Downloaded => Slug::Downloaded,
            Reason::Consumed => Slug::Consumed,
            Reason::Erased => Slug::Erased,
            Reason::KeyLost | Reason::Shutdown => Slug::KeyLost,
        };
        Self { receipt: Some(file), ..Self::new(slug) }
    }

    /// Asks a client to come back after `seconds`.
    #[must_use]
    pub fn later(slug: Slug, seconds: u32) -> Self {
        Self::new(slug).retry_after(seconds)
    }

    /// The same as a part of a job, which no single request has failed.
    #[must_use]
    pub fn of_job(&self) -> wire::JobProblem {
        wire::JobProblem {
            kind: format!("/problems/{}", self.slug.as_str()),
            title: self.slug.title(),
            status: self.slug.status(),
            detail: self.detail.clone().into_owned(),
            receipt: self.receipt.map(|file| format!("/v1/receipts/{file}")),
        }
    }

    /// The document, once the request's id is known.
    #[must_use]
    pub fn render(self, request_id: &str) -> Response {
        let document = wire::Problem {
            kind: self.kind(),
            title: self.slug.title(),
            status: self.slug.status(),
            detail: self.detail.into_owned(),
            request_id: request_id.to_owned(),
            receipt: self.receipt.map(|file| format!("/v1/receipts/{file}")),
            expected_offset: self.offsets.map(|(expected, _)| expected),
            provided_offset: self.offsets.map(|(_, provided)| provided),
        };
        let json = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = Response::new(Body::from(json));
        let status = StatusCode::from_u16(self.slug.status());
        *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        let kind = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, kind);
        headers.extend(self.headers);
        response
    }
}

impl IntoResponse for Problem {
    /// A placeholder that `guard::finished` renders: only it knows the request's id.
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Slug> for Problem {
    fn from(slug: Slug) -> Self {
        Self::new(slug)
    }
}

impl From<PipelineError> for Problem {
    fn from(error: PipelineError) -> Self {
        match error {
            PipelineError::Body(error) => error.into(),
            PipelineError::Keys(error) => error.into(),
            PipelineError::Process(error) => error.into(),
            PipelineError::Provider(error) => error.into(),
            PipelineError::Entropy(_) => Self::later(Slug::Overloaded, 1),
            PipelineError::Ttl(_) => Self::new(Slug::BadTtl),
            PipelineError::Evidence => Self::new(Slug::StorageFull),
            PipelineError::Expired => Self::new(Slug::Expired),
            PipelineError::Stopped => Self::later(Slug::ShuttingDown, 30),
            PipelineError::Downloaded => Self::new(Slug::Downloaded),
            PipelineError::GrantSpent => Self::unauthenticated(),
            PipelineError::Suspended => Self::new(Slug::Suspended),
            PipelineError::Erased => Self::new(Slug::Erased),
            PipelineError::Lost(file, reason) => Self::gone(file, reason),
            PipelineError::TooManyJobs => Self::because(
                Slug::QuotaExceeded,
                "As many of the tenant's jobs as there may be have not ended yet.",
            )
            .retry_after(60),
        }
    }
}

/// Problem types that are registered (RFC 9457, section 4.2).
const REGISTRY: &str = "https://iana.org/assignments/http-problem-types";

impl From<UploadError> for Problem {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::Pipeline(error) => error.into(),
            UploadError::Offset { expected, provided } => {
                let offset = HeaderName::from_static("upload-offset");
                let problem = Self::new(Slug::MismatchingUploadOffset)
                    .with(offset, HeaderValue::from(expected));
                Self { offsets: Some((expected, provided)), ..problem }
            }
            UploadError::Length => Self::new(Slug::InconsistentUploadLength),
            UploadError::Busy => Self::new(Slug::UploadLocked),
            UploadError::Complete => Self::new(Slug::UploadComplete),
            UploadError::Checksum => Self::new(Slug::ChecksumMismatch),
            UploadError::BadChecksum => {
                Self::because(Slug::BadRequest, "The trailer Upload-Checksum cannot be understood.")
            }
            UploadError::Unfinished => {
                Self::because(Slug::BadRequest, "A part that is to be joined is not complete.")
            }
            UploadError::Over => Self::new(Slug::Deleted),
        }
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Truncated => Self::new(Slug::TruncatedBody),
            BodyError::TooSlow => Self::new(Slug::UploadTooSlow),
            BodyError::TooLarge { limit } => too_large(limit),
            BodyError::Quota => Self::later(Slug::QuotaExceeded, 60),
            BodyError::DigestMismatch => Self::new(Slug::DigestMismatch),
            BodyError::Multipart => Self::new(Slug::BadMultipart),
            BodyError::Gone => Self::new(Slug::Expired),
            BodyError::StorageFull => Self::new(Slug::StorageFull),
            BodyError::Unfit => Self::later(Slug::StorageUnfit, 60),
            BodyError::Overloaded => Self::later(Slug::Overloaded, 1),
            BodyError::Damaged | BodyError::Storage | BodyError::Region | BodyError::Cut => {
                Self::new(Slug::Internal)
            }
        }
    }
}

impl From<KeyringError> for Problem {
    fn from(error: KeyringError) -> Self {
        match error {
            KeyringError::Full
            | KeyringError::Refused
            | KeyringError::Entropy(_)
            | KeyringError::ZeroSecret => Self::later(Slug::Overloaded, 1),
            KeyringError::Gone(_) => Self::new(Slug::Expired),
        }
    }
}

impl From<ProcessError> for Problem {
    fn from(error: ProcessError) -> Self {
        match error {
            ProcessError::Body(error) => error.into(),
            ProcessError::Refused { slug, detail } => {
                detail.map_or(Self::new(slug), |detail| Self::because(slug, detail))
            }
            ProcessError::Overloaded => Self::later(Slug::Overloaded, 1),
            ProcessError::Failed => Self::new(Slug::Internal),
        }
    }
}

impl From<ConnectError> for Problem {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Unknown => Self::new(Slug::NotFound),
            ConnectError::Taken => Self::new(Slug::ConnectionTaken),
            ConnectError::Form => {
                Self::because(Slug::BadRequest, "The form's own token is missing or wrong.")
            }
            ConnectError::State => Self::new(Slug::OauthState),
            ConnectError::NotActive => Self::new(Slug::ConnectionNotActive),
            ConnectError::Over => Self::new(Slug::ConnectionRevoked),
            ConnectError::BadCode => Self::new(Slug::BadCode),
            ConnectError::NotOffered => Self::new(Slug::NotOffered),
            ConnectError::Cursor => {
                Self::because(Slug::BadRequest, "cursor is not one of this listing's.")
            }
            ConnectError::Suspended => Self::new(Slug::Suspended),
            ConnectError::Quota => Self::later(Slug::QuotaExceeded, 60),
            ConnectError::Stopped => Self::later(Slug::ShuttingDown, 30),
            ConnectError::Entropy(_) => Self::later(Slug::Overloaded, 1),
            ConnectError::Keys(error) => error.into(),
            ConnectError::Body(error) => error.into(),
            ConnectError::Provider(error) => error.into(),
        }
    }
}

impl From<ProviderError> for Problem {
    fn from(error: ProviderError) -> Self {
        match error {
            ProviderError::Revoked => Self::new(Slug::ConnectionRevoked),
            ProviderError::NotFound => Self::new(Slug::ItemNotFound),
            ProviderError::Restart => Self::because(
                Slug::BadRequest,
                "The listing has to be started over: leave cursor out.",
            ),
            ProviderError::Busy { after } => {
                let seconds = after.map_or(5, |after| after.as_secs().clamp(1, 3600));
                Self::later(Slug::UpstreamFailed, u32::try_from(seconds).unwrap_or(3600))
            }
            ProviderError::Timeout => Self::new(Slug::UpstreamTimeout),
            ProviderError::Overloaded => Self::later(Slug::Overloaded, 1),
            ProviderError::Changed => Self::because(
                Slug::UpstreamFailed,
                "The item became another while it was fetched. Nothing was kept: order it again.",
            ),
            ProviderError::Damaged => Self::because(
                Slug::UpstreamFailed,
                "The bytes do not match the provider's own hash of them. Nothing was kept.",
            ),
            ProviderError::TooMany => Self::because(
                Slug::TooLarge,
                "The folder holds more files than one job takes. Nothing was kept.",
            ),
            ProviderError::Refused | ProviderError::Unreachable | ProviderError::Nonsense => {
                Self::new(Slug::UpstreamFailed)
            }
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::RegionUnavailable => Self::new(Slug::RegionUnavailable),
            Refusal::RegionNotPermitted => {
                Self::because(Slug::NotPermitted, "The region is not one of the tenant's.")
            }
            Refusal::WrongRegion { .. } => Self::new(Slug::WrongRegion),
            Refusal::TtlNotPermitted => {
                Self::because(Slug::NotPermitted, "The life is longer than the tenant's longest.")
            }
            Refusal::StepNotPermitted => {
                Self::because(Slug::NotPermitted, "The step is not one of the tenant's.")
            }
            Refusal::SourceNotPermitted => {
                Self::because(Slug::NotPermitted, "The storage service is not one of the tenant's.")
            }
            Refusal::DeliveryNotPermitted => Self::because(
                Slug::NotPermitted,
                "The place of delivery is not one of the tenant's.",
            ),
            Refusal::WebhookNotPermitted => {
                Self::because(Slug::NotPermitted, "The webhook's host is not one of the tenant's.")
            }
            Refusal::LeavesRegion => {
                Self::because(Slug::NotPermitted, "The bytes would leave the file's region.")
            }
            Refusal::TooLarge { limit } => too_large(limit),
        }
    }
}

fn too_large(limit: u64) -> Problem {
    let detail = format!("A file may have {limit} bytes here. Nothing was kept.");
    Problem { detail: Cow::Owned(detail), ..Problem::new(Slug::TooLarge) }
}
