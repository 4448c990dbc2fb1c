//! The policy's JSON shapes: what holds, what is asked of it, and what it answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Wall;
use crate::policy::{self, Places};

/// Everything the operator decided about requests; no key's secret, nor its hash.
#[derive(Debug, Serialize, ToSchema)]
pub struct Policy {
    /// The region this gateway runs in.
    pub region: String,
    pub regions: Vec<PolicyRegion>,
    pub tenants: Vec<PolicyTenant>,
    /// Steps by pipeline.
    pub pipelines: BTreeMap<String, Vec<String>>,
    /// The operator's own processors, each with the region it declares.
    pub processors: BTreeMap<String, Option<String>>,
    /// Storage services, each with the region it declares.
    pub providers: BTreeMap<String, Option<String>>,
    pub default_ttl_seconds: u64,
    pub max_ttl_seconds: u64,
    /// Bytes.
    pub max_file_bytes: u64,
    /// Of one tenant; 0 for no limit.
    pub requests_per_second: u32,
    /// RFC 3339, UTC.
    pub loaded_at: String,
}

/// A region, and where its clients are sent.
#[derive(Debug, Serialize, ToSchema)]
pub struct PolicyRegion {
    pub name: String,
    pub jurisdiction: Option<String>,
    pub gateway: Option<String>,
    /// Where it stands in the settings.
    pub from: String,
}

/// What a tenant may do.
#[derive(Debug, Serialize, ToSchema)]
pub struct PolicyTenant {
    pub name: String,
    pub display_name: Option<String>,
    /// The preferred one first.
    pub regions: Vec<String>,
    pub providers: Vec<String>,
    /// Null: every built-in one.
    pub processors: Option<Vec<String>>,
    /// Hosts, each with the region it declares.
    pub webhooks: BTreeMap<String, Option<String>>,
    pub max_ttl_seconds: u64,
    /// Bytes.
    pub max_file_bytes: u64,
    /// Bytes; null for no limit but the store's.
    pub max_live_bytes: Option<u64>,
    /// `on-request` or `always`.
    pub digest: &'static str,
    /// Where it stands in the settings.
    pub from: String,
}

fn named(
    map: &BTreeMap<String, Option<crate::region::Region>>,
) -> BTreeMap<String, Option<String>> {
    let named = map.iter().map(|(name, region)| (name.clone(), region.map(|one| one.to_string())));
    named.collect()
}

impl Policy {
    #[must_use]
    pub fn of(policy: &policy::Policy, loaded_at: Wall) -> Self {
        let regions = policy.regions.iter().map(|(name, region)| PolicyRegion {
            name: name.to_string(),
            jurisdiction: region.jurisdiction.clone(),
            gateway: region.gateway.clone(),
            from: policy.places.of(&format!("regions.{name}")),
        });
        let tenants = policy.tenants.iter().map(|(name, tenant)| PolicyTenant {
            name: name.clone(),
            display_name: tenant.display_name.clone(),
            regions: tenant.regions.iter().map(ToString::to_string).collect(),
            providers: tenant.providers.iter().map(|one| one.as_str().to_owned()).collect(),
            processors: tenant.processors.clone(),
            webhooks: named(&tenant.webhook_regions),
            max_ttl_seconds: tenant.max_ttl.as_secs(),
            max_file_bytes: tenant.max_file_bytes,
            max_live_bytes: Some(tenant.max_live_bytes).filter(|bytes| *bytes != u64::MAX),
            digest: if tenant.always_digest { "always" } else { "on-request" },
            from: policy.places.of(&format!("tenants.{name}")),
        });
        let own = policy.processors.iter();
        let own = own.map(|(name, own)| (name.clone(), own.region.map(|one| one.to_string())));
        Self {
            region: policy.here.to_string(),
            regions: regions.collect(),
            tenants: tenants.collect(),
            pipelines: policy.pipelines.clone(),
            processors: own.collect(),
            providers: named(&policy.provider_regions),
            default_ttl_seconds: policy.default_ttl.as_secs(),
            max_ttl_seconds: policy.max_ttl.as_secs(),
            max_file_bytes: policy.max_file_bytes,
            requests_per_second: policy.requests_per_second,
            loaded_at: loaded_at.rfc3339(),
        }
    }
}

/// A request that might be made.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Explain {
    pub tenant: String,
    /// Absent: none is asked for.
    pub region: Option<String>,
    /// A storage service to pull from; `upload` or `file` for bytes that are brought or are here.
    pub source: Option<String>,
    #[serde(default)]
    pub steps: Vec<String>,
    /// Bytes.
    pub size: Option<u64>,
    /// A storage service to deliver to.
    pub deliver: Option<String>,
    /// The host of a webhook.
    pub webhook: Option<String>,
    /// `90s` to `23h30m`.
    pub ttl: Option<String>,
}

impl Explain {
    /// The storage service bytes would come from, if they would come from one.
    #[must_use]
    pub fn provider(&self) -> Option<&str> {
        self.source.as_deref().filter(|source| !["upload", "file"].contains(source))
    }
}

/// What the policy says, and why.
#[derive(Debug, Serialize, ToSchema)]
pub struct Explanation {
    /// `allow`, `deny`, or `redirect` to another region's gateway.
    pub decision: &'static str,
    /// Where the bytes would rest; null if there is no such region.
    pub region: Option<String>,
    /// Every rule that has a word in it. The first that does not allow decides.
    pub reasons: Vec<Reason>,
}

/// One rule's word.
#[derive(Debug, Serialize, ToSchema)]
pub struct Reason {
    pub rule: &'static str,
    /// `allow`, `deny` or `redirect`.
    pub result: &'static str,
    /// File and line of the setting, or `default`; for `ops` keys alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

impl Explanation {
    /// With `places`, each rule says where it stands.
    #[must_use]
    pub fn of(explained: &policy::Explanation, places: Option<&Places>) -> Self {
        let reasons = explained.reasons.iter().map(|reason| Reason {
            rule: reason.rule,
            result: reason.result.as_str(),
            from: places.map(|places| places.of(&reason.key)),
        });
        Self {
            decision: explained.decision.as_str(),
            region: explained.region.map(|region| region.to_string()),
            reasons: reasons.collect(),
        }
    }
}
