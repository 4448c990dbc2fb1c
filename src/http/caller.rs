//! Who is asking, under which rules: found once, and kept until the response's head is sent.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;

use super::{Gate, Problem, Rules};
use crate::file::TenantId;
use crate::policy::{Principal, Roles, TenantPolicy};
use crate::problem::Slug;

/// An authenticated request's principal, with the rules that held when it came.
#[derive(Clone)]
pub(super) struct Caller {
    pub principal: Principal,
    pub tenant: TenantPolicy,
    pub rules: Arc<Rules>,
}

impl Caller {
    /// `None` if the key's tenant is not in the policy.
    pub fn new(principal: Principal, rules: Arc<Rules>) -> Option<Self> {
        let tenant = rules.policy.tenant(&principal)?.clone();
        Some(Self { principal, tenant, rules })
    }

    pub const fn tenant_id(&self) -> TenantId {
        self.tenant.id
    }

    /// Refuses a key that has none of the roles asked for.
    pub fn require(&self, allowed: impl FnOnce(Roles) -> bool) -> Result<(), Problem> {
        if allowed(self.principal.roles()) { Ok(()) } else { Err(Slug::Forbidden.into()) }
    }

    /// Holds the tenant to its rate. Asked after policy and size, before anything is done.
    pub fn throttle(&self, gate: &Gate) -> Result<(), Problem> {
        let rate = self.rules.policy.requests_per_second;
        if gate.throttle.may_ask(self.tenant_id(), rate, gate.clock.now().boot) {
            Ok(())
        } else {
            Err(Problem::later(Slug::RateLimited, 1))
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or(Slug::Unauthenticated.into())
    }
}
