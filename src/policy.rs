//! Who may do what, where: decided before the first byte of a body is read.
//!
//! Plain values and pure functions. The same code decides a request and would explain it; a reload
//! replaces the whole policy at once, and a request ends under the one it began with.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::egress::Origin;
use crate::file::{MAX_TTL, TenantId};
use crate::provider::{Client, Service};
use crate::region::Region;

mod grant;
mod keys;
mod webhook;
pub use grant::{GrantId, GrantToken, PresentedGrant, Who};
pub use keys::{Key, KeyError, Presented, Principal, Roles};
pub use webhook::{WebhookHost, WebhookHostError, WebhookSecret, WebhookSecretError};

/// Everything the operator decides about requests.
#[derive(Clone, Debug)]
pub struct Policy {
    pub here: Region,
    pub regions: BTreeMap<Region, RegionPolicy>,
    pub tenants: BTreeMap<String, TenantPolicy>,
    pub keys: Vec<Key>,
    pub pipelines: BTreeMap<String, Vec<String>>,
    /// Who we are to the storage services that can be connected.
    pub providers: BTreeMap<Service, Client>,
    pub default_ttl: Duration,
    pub max_ttl: Duration,
    pub max_file_bytes: u64,
    pub requests_per_second: u32,
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
    #[error("the body is larger than {limit} bytes")]
    TooLarge { limit: u64 },
}

impl Policy {
    /// The policy of the tenant a key belongs to.
    #[must_use]
    pub fn tenant(&self, principal: &Principal) -> Option<&TenantPolicy> {
        self.tenants.get(principal.tenant())
    }

    /// Decides a request that brings a file or asks for a step.
    ///
    /// # Errors
    /// The first rule that refuses, in the order region, life, steps, size.
    pub fn decide(&self, tenant: &TenantPolicy, ask: &Ask<'_>) -> Result<Terms, Refusal> {
        let region = self.region(tenant, ask.region)?;
        let longest = self.max_ttl.min(tenant.max_ttl).min(MAX_TTL);
        let ttl = ask.ttl.unwrap_or_else(|| self.default_ttl.min(longest));
        if ttl > longest {
            return Err(Refusal::TtlNotPermitted);
        }
        self.steps(tenant, ask.steps)?;
        let max_bytes = self.max_file_bytes.min(tenant.max_file_bytes);
        if ask.declared_bytes.is_some_and(|bytes| bytes > max_bytes) {
            return Err(Refusal::TooLarge { limit: max_bytes });
        }
        Ok(Terms { region, ttl, max_bytes, max_live_bytes: tenant.max_live_bytes })
    }

    fn region(&self, tenant: &TenantPolicy, asked: Option<&str>) -> Result<Region, Refusal> {
        let Some(asked) = asked else {
            if tenant.regions.contains(&self.here) {
                return Ok(self.here);
            }
            let first = tenant.regions.first();
            return Err(self.elsewhere(first.copied()));
        };
        let known = asked.parse().ok().filter(|region| self.regions.contains_key(region));
        let region: Region = known.ok_or(Refusal::RegionUnavailable)?;
        if !tenant.regions.contains(&region) {
            return Err(Refusal::RegionNotPermitted);
        }
        if region != self.here {
            return Err(self.elsewhere(Some(region)));
        }
        Ok(region)
    }

    fn elsewhere(&self, region: Option<Region>) -> Refusal {
        let known = region.and_then(|region| self.regions.get(&region));
        Refusal::WrongRegion { gateway: known.and_then(|region| region.gateway.clone()) }
    }

    fn steps(&self, tenant: &TenantPolicy, steps: &[String]) -> Result<(), Refusal> {
        let Some(allowed) = &tenant.processors else { return Ok(()) };
        if steps.iter().all(|step| allowed.contains(step)) {
            Ok(())
        } else {
            Err(Refusal::StepNotPermitted)
        }
    }
}

#[cfg(test)]
mod tests;
