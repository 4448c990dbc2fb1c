//! Weighing a request: every rule says its word, the first that refuses decides.
//!
//! There is one set of rules. Deciding listens only to the outcome; explaining writes down what
//! each rule said and where it stands in the settings.

use std::time::Duration;

use super::{Ask, Policy, Refusal, TenantPolicy, Terms};
use crate::file::MAX_TTL;
use crate::region::Region;

/// What a rule, or all of them, say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    Deny,
    /// Another gateway's to decide.
    Redirect,
}

impl Verdict {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Redirect => "redirect",
        }
    }

    const fn of<T>(result: &Result<T, Refusal>) -> Self {
        match result {
            Ok(_) => Self::Allow,
            Err(Refusal::WrongRegion { .. }) => Self::Redirect,
            Err(_) => Self::Deny,
        }
    }
}

/// One rule's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    pub rule: &'static str,
    pub result: Verdict,
    /// The key of the settings the rule stands in.
    pub key: String,
}

/// A decision, and how it came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    pub decision: Verdict,
    /// Where the bytes would rest, as far as the request names a region there is.
    pub region: Option<Region>,
    pub reasons: Vec<Reason>,
}

/// Where a rule stands in the settings; put into words only if somebody asks.
#[derive(Clone, Copy)]
enum Spot<'a> {
    Key(&'static str),
    Tenant(&'static str),
    Region(Region),
    Processor(&'a str),
    Provider(&'a str),
}

impl Spot<'_> {
    fn key(self, tenant: &str) -> String {
        match self {
            Self::Key(key) => key.to_owned(),
            Self::Tenant(key) => format!("tenants.{tenant}.{key}"),
            Self::Region(region) => format!("regions.{region}"),
            Self::Processor(name) => format!("processors.{name}.region"),
            Self::Provider(name) => format!("providers.{name}.region"),
        }
    }
}

/// Keeps the first refusal, and lets a listener hear every word.
struct Scale<'s, 'a> {
    refused: Option<Refusal>,
    listener: &'s mut dyn FnMut(&'static str, Spot<'a>, Verdict),
}

impl<'a> Scale<'_, 'a> {
    fn weigh(&mut self, rule: &'static str, spot: Spot<'a>, result: Result<(), Refusal>) {
        (self.listener)(rule, spot, Verdict::of(&result));
        if let Err(refusal) = result {
            self.refused.get_or_insert(refusal);
        }
    }
}

fn demand(holds: bool, refusal: Refusal) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(refusal) }
}

/// Whether bytes of a file that rests in `within` may be handed to something that declares a
/// region. What declares none stands where the operator says it does: beside the gateway.
///
/// # Errors
/// When they would leave.
pub fn stays(within: Region, declared: Option<Region>) -> Result<(), Refusal> {
    demand(declared.is_none_or(|there| there == within), Refusal::LeavesRegion)
}

impl Policy {
    /// Decides a request that brings a file, or has something done with one.
    ///
    /// # Errors
    /// The first rule that refuses, in the order region, life, source, steps, delivery, webhook,
    /// size.
    pub fn decide(&self, tenant: &TenantPolicy, ask: &Ask<'_>) -> Result<Terms, Refusal> {
        self.judge(tenant, ask, &mut |_, _, _| {}).0
    }

    /// Steps as they would run: a pipeline stands for its own.
    #[must_use]
    pub fn expand(&self, steps: &[String]) -> Vec<String> {
        let each = steps.iter().flat_map(|step| match self.pipelines.get(step) {
            Some(pipeline) => pipeline.clone(),
            None => vec![step.clone()],
        });
        each.collect()
    }

    /// Decides as [`Policy::decide`] does, and says why. `name` is the tenant's, for the settings'
    /// keys.
    #[must_use]
    pub fn explain(&self, name: &str, tenant: &TenantPolicy, ask: &Ask<'_>) -> Explanation {
        let mut reasons = Vec::new();
        let mut listen = |rule, spot: Spot<'_>, result| {
            reasons.push(Reason { rule, result, key: spot.key(name) });
        };
        let (outcome, region) = self.judge(tenant, ask, &mut listen);
        Explanation { decision: Verdict::of(&outcome), region, reasons }
    }

    fn judge<'a>(
        &self,
        tenant: &TenantPolicy,
        ask: &Ask<'a>,
        listener: &mut dyn FnMut(&'static str, Spot<'a>, Verdict),
    ) -> (Result<Terms, Refusal>, Option<Region>) {
        let mut scale = Scale { refused: None, listener };
        let region = self.weigh_region(tenant, ask.region, &mut scale);
        let longest = self.max_ttl.min(tenant.max_ttl).min(MAX_TTL);
        let ttl = ask.ttl.unwrap_or_else(|| self.default_ttl.min(longest));
        self.weigh_life(tenant, ttl, longest, &mut scale);
        // Without a region nothing can leave it, and the request is refused already.
        let within = region.unwrap_or(self.here);
        self.weigh_ways(tenant, ask, within, &mut scale);
        let max_bytes = self.max_file_bytes.min(tenant.max_file_bytes);
        if let Some(bytes) = ask.declared_bytes {
            let own = tenant.max_file_bytes < self.max_file_bytes;
            let spot = if own { Spot::Tenant("max_file") } else { Spot::Key("limits.max_file") };
            let result = demand(bytes <= max_bytes, Refusal::TooLarge { limit: max_bytes });
            scale.weigh("size", spot, result);
        }
        let max_live_bytes = tenant.max_live_bytes;
        let terms = || Terms { region: within, ttl, max_bytes, max_live_bytes };
        (scale.refused.map_or_else(|| Ok(terms()), Err), region)
    }

    /// The region a request is for, if there is such a region.
    fn weigh_region(
        &self,
        tenant: &TenantPolicy,
        asked: Option<&str>,
        scale: &mut Scale<'_, '_>,
    ) -> Option<Region> {
        let region = match asked {
            Some(name) => {
                let known = name.parse().ok().filter(|region| self.regions.contains_key(region));
                let spot = known.map_or(Spot::Key("regions"), Spot::Region);
                let result = demand(known.is_some(), Refusal::RegionUnavailable);
                scale.weigh("region-known", spot, result);
                known
            }
            None if tenant.regions.contains(&self.here) => Some(self.here),
            None => tenant.regions.first().copied(),
        };
        if let Some(region) = region {
            let theirs = demand(tenant.regions.contains(&region), Refusal::RegionNotPermitted);
            scale.weigh("region-of-tenant", Spot::Tenant("regions"), theirs);
        }
        let spot = if region == Some(self.here) {
            Spot::Key("region")
        } else {
            region.map_or(Spot::Key("region"), Spot::Region)
        };
        if asked.is_none() || region.is_some() {
            let here = demand(region == Some(self.here), self.elsewhere(region));
            scale.weigh("region-held-here", spot, here);
        }
        region
    }

    fn elsewhere(&self, region: Option<Region>) -> Refusal {
        let known = region.and_then(|region| self.regions.get(&region));
        Refusal::WrongRegion { gateway: known.and_then(|region| region.gateway.clone()) }
    }

    fn weigh_life(
        &self,
        tenant: &TenantPolicy,
        ttl: Duration,
        longest: Duration,
        scale: &mut Scale<'_, '_>,
    ) {
        let own = tenant.max_ttl < self.max_ttl;
        let spot = if own { Spot::Tenant("max_ttl") } else { Spot::Key("retention.max_ttl") };
        scale.weigh("life", spot, demand(ttl <= longest, Refusal::TtlNotPermitted));
    }

    /// Where bytes come from, and every way on which they could leave.
    fn weigh_ways<'a>(
        &self,
        tenant: &TenantPolicy,
        ask: &Ask<'a>,
        within: Region,
        scale: &mut Scale<'_, 'a>,
    ) {
        let theirs = |provider: &str| tenant.providers.iter().any(|one| one.as_str() == provider);
        if let Some(source) = ask.source {
            let result = demand(theirs(source), Refusal::SourceNotPermitted);
            scale.weigh("source", Spot::Tenant("providers"), result);
        }
        for step in ask.steps {
            let own = self.processors.get(step.as_str());
            let permitted = match &tenant.processors {
                Some(list) => list.contains(step),
                // Without a list: the built-in ones, whoever does their work.
                None => own.is_none_or(|own| own.replaces_built_in),
            };
            let permitted = demand(permitted, Refusal::StepNotPermitted);
            scale.weigh("step", Spot::Tenant("processors"), permitted);
            if let Some(region) = own.and_then(|own| own.region) {
                scale.weigh("step-region", Spot::Processor(step), stays(within, Some(region)));
            }
        }
        if let Some(target) = ask.deliver {
            let permitted = demand(theirs(target), Refusal::DeliveryNotPermitted);
            scale.weigh("delivery", Spot::Tenant("providers"), permitted);
            if let Some(region) = self.provider_regions.get(target).copied().flatten() {
                scale.weigh("delivery-region", Spot::Provider(target), stays(within, Some(region)));
            }
        }
        if let Some(host) = ask.webhook {
            let listed = tenant.webhook_regions.get(host);
            let permitted = demand(listed.is_some(), Refusal::WebhookNotPermitted);
            scale.weigh("webhook", Spot::Tenant("webhooks"), permitted);
            if let Some(region) = listed.copied().flatten() {
                let spot = Spot::Tenant("webhook_regions");
                scale.weigh("webhook-region", spot, stays(within, Some(region)));
            }
        }
    }
}
