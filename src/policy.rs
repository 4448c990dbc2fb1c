//! Who may do what, where: decided before the first byte of a body is read.
//!
//! Plain values and pure functions. The same code decides a request and explains it; a reload
//! replaces the whole policy at once, and a request ends under the one it began with.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::egress::Origin;
use crate::file::TenantId;
use crate::provider::{Client, Service};
use crate::region::Region;

mod grant;
mod keys;
mod places;
mod webhook;
mod weigh;
pub use grant::{GrantId, GrantToken, PresentedGrant, Who};
pub use keys::{Key, KeyError, Presented, Principal, Roles};
pub use places::Places;
pub use webhook::{WebhookHost, WebhookHostError, WebhookSecret, WebhookSecretError};
pub use weigh::{Explanation, Reason, Verdict, stays};

/// Everything the operator decides about requests.
#[derive(Clone, Debug)]
pub struct Policy {
    pub here: Region,
    pub regions: BTreeMap<Region, RegionPolicy>,
    pub tenants: BTreeMap<String, TenantPolicy>,
    pub keys: Vec<Key>,
    pub pipelines: BTreeMap<String, Vec<String>>,
    /// The operator's own processors.
    pub processors: BTreeMap<String, OwnProcessor>,
    /// Who we are to the storage services that can be connected.
    pub providers: BTreeMap<Service, Client>,
    /// Storage services, each with the region it declares.
    pub provider_regions: BTreeMap<String, Option<Region>>,
    pub default_ttl: Duration,
    pub max_ttl: Duration,
    pub max_file_bytes: u64,
    pub requests_per_second: u32,
    /// Where all this was written.
    pub places: Places,
}

/// What policy has to know of a processor that is not built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnProcessor {
    /// Where it stands, if it is reached over a network.
    pub region: Option<Region>,
    /// Whether it does the work of a built-in one.
    pub replaces_built_in: bool,
}

/// What is said about a region.
#[derive(Clone, Debug)]
pub struct RegionPolicy {
    pub jurisdiction: Option<String>,
    /// Where to send clients of this region; absent for this gateway's own.
    pub gateway: Option<String>,
}

/// What a tenant may do.
#[derive(Clone, Debug)]
pub struct TenantPolicy {
    pub id: TenantId,
    pub display_name: Option<String>,
    /// In the order of preference.
    pub regions: Vec<Region>,
    /// `None`: every built-in step.
    pub processors: Option<Vec<String>>,
    /// Hosts that may be told of a job's end, each with the region it declares.
    pub webhook_regions: BTreeMap<String, Option<Region>>,
    pub max_ttl: Duration,
    pub max_file_bytes: u64,
    pub max_live_bytes: u64,
    pub always_digest: bool,
    /// Storage services its users may connect.
    pub providers: Vec<Service>,
    /// Where its users may be sent back to.
    pub return_to: Vec<ReturnTo>,
    /// Hosts that may be told of a job's end.
    pub webhooks: Vec<WebhookHost>,
    /// What such messages are signed with; without it none are sent.
    pub webhook_secret: Option<Arc<WebhookSecret>>,
}

/// An address that people may be sent to: a whole origin, or one path of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReturnTo {
    pub origin: Origin,
    /// Empty for every path.
    pub path: String,
}

/// The longest address that people are sent to, bytes.
const LONGEST_RETURN: usize = 2048;

impl TenantPolicy {
    /// The address to send a person to, written anew from its parts; `None` if it is not one of the
    /// tenant's, exactly.
    #[must_use]
    pub fn return_address(&self, asked: &str) -> Option<String> {
        // The scheme is compared below: plain HTTP is listed only where the settings let it be.
        let (origin, rest) = Origin::parse(asked, true).ok()?;
        let path = rest.split('?').next().unwrap_or_default();
        let listed = |entry: &ReturnTo| {
            entry.origin == origin && (entry.path.is_empty() || entry.path == path)
        };
        let fits = asked.len() <= LONGEST_RETURN && self.return_to.iter().any(listed);
        let rest = if path.is_empty() { format!("/{rest}") } else { rest };
        fits.then(|| format!("{origin}{rest}"))
    }
}

/// What a request asks for, as far as it can be told before its body.
#[derive(Clone, Debug, Default)]
pub struct Ask<'a> {
    pub region: Option<&'a str>,
    pub ttl: Option<Duration>,
    pub declared_bytes: Option<u64>,
    pub steps: &'a [String],
    /// The storage service bytes are pulled from.
    pub source: Option<&'a str>,
    /// The storage service a result is delivered to.
    pub deliver: Option<&'a str>,
    /// The host that is told of the end.
    pub webhook: Option<&'a str>,
}

/// What was granted: the terms a file is taken in under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    pub region: Region,
    pub ttl: Duration,
    pub max_bytes: u64,
    pub max_live_bytes: u64,
}

/// Why a request is refused before its body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("no such region")]
    RegionUnavailable,
    #[error("the region is not the tenant's")]
    RegionNotPermitted,
    /// The tenant's region, held by another gateway: its base URL.
    #[error("another gateway holds the region")]
    WrongRegion { gateway: Option<String> },
    #[error("the life asked for is longer than the tenant's longest")]
    TtlNotPermitted,
    #[error("the step is not the tenant's")]
    StepNotPermitted,
    #[error("the storage service is not the tenant's")]
    SourceNotPermitted,
    #[error("the place of delivery is not the tenant's")]
    DeliveryNotPermitted,
    #[error("the webhook's host is not the tenant's")]
    WebhookNotPermitted,
    #[error("the bytes would leave the file's region")]
    LeavesRegion,
    #[error("the body is larger than {limit} bytes")]
    TooLarge { limit: u64 },
}

impl Policy {
    /// The policy of the tenant a key belongs to.
    #[must_use]
    pub fn tenant(&self, principal: &Principal) -> Option<&TenantPolicy> {
        self.tenants.get(principal.tenant())
    }
}

#[cfg(test)]
mod tests;
