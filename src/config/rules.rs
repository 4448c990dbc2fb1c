//! From raw tables to the policy: tenants, keys, regions, pipelines, held against each other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::providers::{providers, return_to, tenants_providers};
use super::raw::{self, Raw};
use super::typed::Complaints;
use crate::clock::Wall;
use crate::disk;
use crate::file::{MAX_TTL, TenantId};
use crate::policy::{
    Key, OwnProcessor, Places, Policy, RegionPolicy, Roles, TenantPolicy, WebhookHost,
    WebhookSecret,
};
use crate::process::{BUILT_IN, MAX_STEPS, converter_is_installed};
use crate::region::Region;

pub(super) fn policy(raw: &Raw, wrong: &mut Complaints) -> Policy {
    let here = region("region", &raw.region, wrong);
    let regions = regions(raw, here, wrong);
    let default_ttl = wrong.span("retention.default_ttl", &raw.retention.default_ttl);
    let max_ttl = wrong.span("retention.max_ttl", &raw.retention.max_ttl);
    if max_ttl > MAX_TTL || max_ttl < Duration::from_secs(1) {
        wrong.say("retention.max_ttl", "1s to 23h30m: more would break the 24-hour promise");
    }
    if default_ttl > max_ttl || default_ttl < Duration::from_secs(1) {
        wrong.say("retention.default_ttl", "1s to retention.max_ttl");
    }
    let max_file_bytes = wrong.size("limits.max_file", &raw.limits.max_file);
    let mut tenants = BTreeMap::new();
    for (name, tenant) in &raw.tenants {
        let whole = Whole { raw, regions: &regions, max_ttl, max_file_bytes };
        let tenant = whole.tenant(name, tenant, wrong);
        tenants.insert(name.clone(), tenant);
    }
    if tenants.is_empty() {
        wrong.say("tenants", "nobody may do anything: add a [tenants.<name>] table");
    }
    leaving(raw, here, wrong);
    Policy {
        here,
        keys: keys(raw, wrong),
        tenants,
        pipelines: pipelines(raw, wrong),
        processors: processors(raw, &regions, wrong),
        providers: providers(raw, wrong),
        provider_regions: provider_regions(raw, &regions, wrong),
        places: Places::default(),
        default_ttl,
        max_ttl,
        max_file_bytes,
        requests_per_second: raw.limits.requests_per_second,
        regions,
    }
}

/// Scheme and authority, and nothing after them.
pub(super) fn is_base_url(text: &str) -> bool {
    let parsed = text.parse::<http::Uri>().ok();
    let parts = parsed.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")));
    parts.is_some_and(|uri| uri.authority().is_some() && uri.path() == "/" && !text.ends_with('/'))
}

/// Steps that this gateway can run.
pub(super) fn is_built(raw: &Raw, step: &str) -> bool {
    let here = step == "convert" && converter_is_installed();
    BUILT_IN.contains(&step) || here || raw.processors.contains_key(step)
}

/// Steps that have a meaning, here or in a later version.
fn is_known(raw: &Raw, step: &str) -> bool {
    is_built(raw, step) || is_later(step)
}

fn is_later(step: &str) -> bool {
    LATER.contains(&step)
}

/// Processors of the contract that this version does not have, or not on every machine.
const LATER: [&str; 6] = ["image", "thumbnail", "pdf", "redact", "scan", "convert"];

/// What a tenant may use without being given it by name: nothing that is the operator's own.
fn built_in() -> Vec<String> {
    BUILT_IN.into_iter().chain(LATER).map(str::to_owned).collect()
}

/// Named pipelines whose steps are all there; the others are only noted.
fn pipelines(raw: &Raw, wrong: &mut Complaints) -> BTreeMap<String, Vec<String>> {
    for (name, steps) in &raw.pipelines {
        let key = format!("pipelines.{name}");
        if is_known(raw, name) {
            wrong.say(&key, "a processor has this name already");
        }
        if steps.is_empty() || steps.len() > MAX_STEPS {
            wrong.say(&key, format!("a pipeline has 1 to {MAX_STEPS} steps"));
        }
        for step in steps.iter().filter(|step| !is_known(raw, step)) {
            wrong.say(&key, format!("there is no processor {step}"));
        }
    }
    let built =
        raw.pipelines.iter().filter(|(_, steps)| steps.iter().all(|step| is_built(raw, step)));
    built.map(|(name, steps)| (name.clone(), steps.clone())).collect()
}

/// A region that something outside the gateway declares: one there is a table for.
fn declared(
    key: &str,
    name: Option<&str>,
    regions: &BTreeMap<Region, RegionPolicy>,
    wrong: &mut Complaints,
) -> Option<Region> {
    let name = name?;
    let known = name.parse().ok().filter(|region| regions.contains_key(region));
    wrong.need(key, known, &format!("there is no [regions.{name}] table: add it"))
}

fn processors(
    raw: &Raw,
    regions: &BTreeMap<Region, RegionPolicy>,
    wrong: &mut Complaints,
) -> BTreeMap<String, OwnProcessor> {
    let own = raw.processors.iter().map(|(name, table)| {
        let key = format!("processors.{name}.region");
        let region = declared(&key, table.region.as_deref(), regions, wrong);
        let replaces_built_in = BUILT_IN.contains(&name.as_str()) || is_later(name);
        let own = OwnProcessor { region, replaces_built_in };
        (name.clone(), own)
    });
    own.collect()
}

fn provider_regions(
    raw: &Raw,
    regions: &BTreeMap<Region, RegionPolicy>,
    wrong: &mut Complaints,
) -> BTreeMap<String, Option<Region>> {
    let each = raw.providers.iter().map(|(name, table)| {
        let key = format!("providers.{name}.region");
        (name.clone(), declared(&key, table.region.as_deref(), regions, wrong))
    });
    each.collect()
}

/// What would hand bytes to another region on every use: visible now, so refused now.
fn leaving(raw: &Raw, here: Region, wrong: &mut Complaints) {
    let away = |step: &str| {
        let region = raw.processors.get(step)?.region.as_deref()?;
        (region != here.as_str()).then(|| region.to_owned())
    };
    let mut refuse = |key: &str, step: &str| {
        if let Some(region) = away(step) {
            let fix = format!("its bytes would leave {here}: take it out, or run one here");
            wrong.say(key, format!("the processor {step} is in {region}, so {fix}"));
        }
    };
    for (name, steps) in &raw.pipelines {
        steps.iter().for_each(|step| refuse(&format!("pipelines.{name}"), step));
    }
    for (name, tenant) in &raw.tenants {
        let key = format!("tenants.{name}.processors");
        // One that is never here uses another gateway, with the same settings.
        if tenant.regions.iter().any(|region| region == here.as_str()) {
            tenant.processors.iter().flatten().for_each(|step| refuse(&key, step));
        }
    }
}

fn region(key: &str, name: &str, wrong: &mut Complaints) -> Region {
    match name.parse() {
        Ok(region) => region,
        Err(error) => {
            wrong.say(key, error);
            // A stand-in: with a complaint there are no settings.
            "none".parse().unwrap_or_else(|_| unreachable!("\"none\" is a region's name"))
        }
    }
}

fn regions(raw: &Raw, here: Region, wrong: &mut Complaints) -> BTreeMap<Region, RegionPolicy> {
    let mut regions = BTreeMap::new();
    for (name, table) in &raw.regions {
        let key = format!("regions.{name}");
        let parsed = region(&key, name, wrong);
        if parsed != here && table.gateway.is_none() {
            let key = format!("{key}.gateway");
            wrong.say(&key, "missing: clients of this region must be told where to go");
        }
        if table.gateway.as_ref().is_some_and(|gateway| !is_base_url(gateway)) {
            let key = format!("{key}.gateway");
            wrong.say(&key, "a gateway is like https://us.example, without a path");
        }
        let (jurisdiction, gateway) = (table.jurisdiction.clone(), table.gateway.clone());
        regions.insert(parsed, RegionPolicy { jurisdiction, gateway });
    }
    if !regions.contains_key(&here) {
        let fix = format!("there is no [regions.{}] table: add it", raw.region);
        wrong.say("region", fix);
    }
    regions
}

/// What a tenant is checked against.
struct Whole<'a> {
    raw: &'a Raw,
    regions: &'a BTreeMap<Region, RegionPolicy>,
    max_ttl: Duration,
    max_file_bytes: u64,
}

impl Whole<'_> {
    fn tenant(&self, name: &str, tenant: &raw::Tenant, wrong: &mut Complaints) -> TenantPolicy {
        let at = format!("tenants.{name}");
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if !(1..=32).contains(&name.len()) || !name.bytes().all(fits) {
            wrong.say(&at, "a tenant's name is 1 to 32 of a-z, 0-9 and \"-\"");
        }
        let key = |part: &str| format!("{at}.{part}");
        let mut regions = Vec::new();
        for name in &tenant.regions {
            let region = region(&key("regions"), name, wrong);
            if !self.regions.contains_key(&region) {
                wrong.say(&key("regions"), format!("there is no [regions.{name}] table"));
            }
            regions.push(region);
        }
        if regions.is_empty() {
            wrong.say(&key("regions"), "empty: its files could rest nowhere");
        }
        let max_ttl = tenant.max_ttl.as_ref().map(|text| wrong.span(&key("max_ttl"), text));
        let max_file = tenant.max_file.as_ref().map(|size| wrong.size(&key("max_file"), size));
        let live = tenant.max_live_bytes.as_ref();
        let live = live.map(|size| wrong.size(&key("max_live_bytes"), size));
        let always_digest = match tenant.digest.as_deref() {
            None | Some("on-request") => false,
            Some("always") => true,
            Some(_) => {
                wrong.say(&key("digest"), "\"on-request\" or \"always\"");
                false
            }
        };
        for step in tenant.processors.iter().flatten().filter(|step| !is_known(self.raw, step)) {
            wrong.say(&key("processors"), format!("there is no processor {step}"));
        }
        let webhook_regions = self.webhook_regions(&at, tenant, wrong);
        TenantPolicy {
            id: TenantId::of(name),
            display_name: tenant.display_name.clone(),
            regions,
            processors: tenant.processors.clone().or_else(|| Some(built_in())),
            webhook_regions,
            max_ttl: max_ttl.unwrap_or(self.max_ttl).min(self.max_ttl),
            max_file_bytes: max_file.unwrap_or(self.max_file_bytes).min(self.max_file_bytes),
            max_live_bytes: live.unwrap_or(u64::MAX),
            always_digest,
            providers: tenants_providers(self.raw, &at, tenant, wrong),
            return_to: return_to(self.raw, &at, tenant, wrong),
            webhooks: webhooks(&key("webhooks"), tenant, wrong),
            webhook_secret: webhook_secret(&key("webhook_secret_file"), tenant, wrong),
        }
    }
}

fn webhooks(key: &str, tenant: &raw::Tenant, wrong: &mut Complaints) -> Vec<WebhookHost> {
    let parsed = tenant.webhooks.iter().map(|host| host.parse::<WebhookHost>());
    let complained = parsed.filter_map(|host| host.map_err(|error| wrong.say(key, error)).ok());
    complained.collect()
}

fn webhook_secret(
    key: &str,
    tenant: &raw::Tenant,
    wrong: &mut Complaints,
) -> Option<Arc<WebhookSecret>> {
    let path = tenant.webhook_secret_file.as_ref()?;
    // Neither the path's content nor the system's own words belong into a complaint.
    let text = disk::read_text(path).ok().map(Zeroizing::new);
    let text = wrong.need(key, text, "the file cannot be read")?;
    let parsed = text.trim().parse::<WebhookSecret>();
    parsed.map_err(|error| wrong.say(key, error)).ok().map(Arc::new)
}

impl Whole<'_> {
    fn webhook_regions(
        &self,
        at: &str,
        tenant: &raw::Tenant,
        wrong: &mut Complaints,
    ) -> BTreeMap<String, Option<Region>> {
        let key = format!("{at}.webhook_regions");
        for host in tenant.webhook_regions.keys().filter(|host| !tenant.webhooks.contains(*host)) {
            wrong.say(&key, format!("{host} is not one of its webhooks"));
        }
        let each = tenant.webhooks.iter().map(|host| {
            let name = tenant.webhook_regions.get(host).map(String::as_str);
            (host.clone(), declared(&key, name, self.regions, wrong))
        });
        each.collect()
    }
}

fn keys(raw: &Raw, wrong: &mut Complaints) -> Vec<Key> {
    let mut keys: Vec<Key> = Vec::new();
    for key in &raw.keys {
        let at = format!("keys.{}", key.id);
        if !raw.tenants.contains_key(&key.tenant) {
            wrong.say(&at, format!("there is no [tenants.{}] table", key.tenant));
        }
        if keys.iter().any(|earlier| earlier.id() == key.id) {
            wrong.say(&at, "two keys have this id");
        }
        let mut roles = Roles::default();
        for role in &key.roles {
            if !roles.add(role) {
                let roles = "a role is client, connector, owner, auditor or ops";
                wrong.say(&at, format!("there is no role {role}: {roles}"));
            }
        }
        if key.roles.is_empty() {
            wrong.say(&at, "a key without roles may do nothing");
        }
        let not_after = key.not_after.as_ref().and_then(|text| {
            let parsed = text.parse::<jiff::Timestamp>().ok();
            let parsed = wrong.need(&at, parsed, "not_after is like 2027-01-01T00:00:00Z")?;
            let seconds = u64::try_from(parsed.as_second()).unwrap_or_default();
            Some(Wall::from_unix(Duration::from_secs(seconds)))
        });
        match Key::new(&key.id, &key.tenant, roles, &key.sha256, not_after) {
            Ok(key) => keys.push(key),
            Err(error) => wrong.say(&at, error),
        }
    }
    keys
}
