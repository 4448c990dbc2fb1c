//! Who is asking, under which rules: found once, and kept until the response's head is sent.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::Uri;
use http::request::Parts;

use super::query::Query;
use super::{Gate, Problem, Rules};
use crate::file::{FileId, TenantId};
use crate::policy::{Ask, Principal, Refusal, Roles, TenantPolicy, Terms, Who};
use crate::problem::Slug;
use crate::receipt::{Action, Object};
use crate::table::{Claims, Grant, Scope, Spent, UploadScope, Use};

/// An authenticated request's principal, with the rules that held when it came.
#[derive(Clone)]
pub(super) struct Caller {
    pub principal: Principal,
    pub tenant: TenantPolicy,
    pub rules: Arc<Rules>,
    /// What it shows instead of a key.
    grant: Option<Arc<Grant>>,
}

/// Who may make a request. Every handler names one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Any key. A grant is none.
    AnyRole,
    /// Files, steps and grants of one's tenant.
    Client,
    /// To have something forgotten: also while the tenant is suspended.
    ClientForgets,
    /// Taking files in: a client, or a grant for it.
    Upload,
    /// To have an upload ended: also while the tenant is suspended.
    UploadForgets,
    /// A file's bytes: a client, or a grant for that file.
    Download,
    /// Connections of one's tenant.
    Connector,
    /// To have a connection ended: also while the tenant is suspended.
    ConnectorForgets,
    Receipts,
    Audit,
    Owner,
    /// A tenant's suspension.
    OwnerOrOps,
    Ops,
}

impl Need {
    fn is_met(self, caller: &Caller) -> bool {
        let roles = caller.principal.roles();
        let scope = caller.grant.as_ref().map(|grant| &grant.scope);
        match self {
            Self::AnyRole => roles != Roles::default(),
            Self::Client | Self::ClientForgets => roles.client,
            Self::Upload | Self::UploadForgets => {
                roles.client || matches!(scope, Some(Scope::Upload(_)))
            }
            Self::Download => roles.client || matches!(scope, Some(Scope::Download(_))),
            Self::Connector | Self::ConnectorForgets => roles.connector,
            Self::Receipts => roles.client || roles.owner || roles.auditor,
            Self::Audit => roles.owner || roles.auditor,
            Self::Owner => roles.owner,
            Self::OwnerOrOps => roles.owner || roles.ops,
            Self::Ops => roles.ops,
        }
    }

    /// Whether a suspended tenant is refused it. What is known of the instance, evidence, and what
    /// ends something stay open.
    const fn is_suspended(self) -> bool {
        match self {
            Self::Client | Self::Upload | Self::Download | Self::Connector => true,
            Self::AnyRole
            | Self::ConnectorForgets
            | Self::ClientForgets
            | Self::UploadForgets
            | Self::Receipts
            | Self::Audit
            | Self::Owner
            | Self::OwnerOrOps
            | Self::Ops => false,
        }
    }
}

impl Caller {
    /// `None` if the key's tenant is not in the policy.
    pub fn new(principal: Principal, rules: Arc<Rules>) -> Option<Self> {
        let tenant = rules.policy.tenant(&principal)?.clone();
        Some(Self { principal, tenant, rules, grant: None })
    }

    /// Whoever shows a grant: somebody of its key's tenant who may do nothing else.
    pub fn bearing(grant: Arc<Grant>, rules: Arc<Rules>) -> Option<Self> {
        let caller = Self::new(grant.key.bearer(), rules)?;
        Some(Self { grant: Some(grant), ..caller })
    }

    pub const fn tenant_id(&self) -> TenantId {
        self.tenant.id
    }

    /// The key or grant itself: what it began in parts, nobody else may go on with.
    pub fn who(&self) -> Who {
        let grant = self.grant.as_ref().map(|grant| grant.id);
        Who { key: self.principal.key_id().to_owned(), grant }
    }

    /// What every handler asks first: the role, the tenant's standing, the query's names, the rate.
    pub fn admit(
        &self,
        gate: &Gate,
        uri: &Uri,
        need: Need,
        known: &[&str],
    ) -> Result<Query, Problem> {
        self.allow(gate, need)?;
        let query = Query::parse(uri, known)?;
        self.throttle(gate)?;
        Ok(query)
    }

    /// Refuses a key or grant that may not do this, and a suspended tenant.
    pub fn allow(&self, gate: &Gate, need: Need) -> Result<(), Problem> {
        if !need.is_met(self) {
            return Err(Slug::Forbidden.into());
        }
        if need.is_suspended() {
            gate.pipeline.enter(self.tenant_id())?;
        }
        Ok(())
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

    /// Writes what was done into the tenant's audit trail.
    pub fn note(&self, gate: &Gate, action: Action, object: Option<Object>) {
        gate.audit.note(self.tenant_id(), self.who(), action, object);
    }

    /// Asks the policy, and the grant where there is one: neither widens the other.
    pub fn decide(&self, ask: &Ask<'_>) -> Result<Terms, Refusal> {
        let Some(upload) = self.upload() else {
            return self.rules.policy.decide(&self.tenant, ask);
        };
        let named = upload.region.as_ref().map(crate::region::Region::as_str);
        let region = ask.region.or(named);
        let terms = self.rules.policy.decide(&self.tenant, &Ask { region, ..*ask })?;
        if upload.region.is_some_and(|region| region != terms.region) {
            return Err(Refusal::RegionNotPermitted);
        }
        let limit = upload.max_bytes.map_or(terms.max_bytes, |most| most.min(terms.max_bytes));
        if ask.declared_bytes.is_some_and(|bytes| bytes > limit) {
            return Err(Refusal::TooLarge { limit });
        }
        Ok(Terms { max_bytes: limit, ..terms })
    }

    /// Claims one of a grant's uploads; a key needs none.
    pub fn claim_upload(&self) -> Result<Option<Use>, Problem> {
        let claimed = self.upload().map(UploadScope::claim).transpose();
        claimed.map_err(|Spent| Problem::unauthenticated())
    }

    /// The count of a grant's downloads; a key has none. To a grant, another file than its own is
    /// unknown.
    pub fn downloads_of(&self, file: &str) -> Result<Option<&Claims>, Problem> {
        match self.grant.as_ref().map(|grant| &grant.scope) {
            None => Ok(None),
            Some(Scope::Download(download)) if file.parse::<FileId>() == Ok(download.file) => {
                Ok(Some(&download.claims))
            }
            Some(Scope::Download(_) | Scope::Upload(_)) => Err(Slug::NotFound.into()),
        }
    }

    fn upload(&self) -> Option<&UploadScope> {
        match self.grant.as_ref().map(|grant| &grant.scope) {
            Some(Scope::Upload(upload)) => Some(upload),
            Some(Scope::Download(_)) | None => None,
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or(Slug::Unauthenticated.into())
    }
}
