//! Who keeps something of tenants beside the pipeline: grants, and the audit trail. And what was
//! written down of tenants by an earlier run: whom it had suspended.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::pipeline::{Pipeline, TenantEvent};
use crate::policy::Policy;
use crate::receipt::{Audit, EvidenceError};
use crate::table::Grants;
use crate::tasks::Tasks;

/// Between two looks at what has ended.
const ROUND: Duration = Duration::from_secs(60);

/// Grants, bound to what happens to tenants and swept while the gateway runs; and the trail.
pub(super) fn keepers(
    pipeline: &Pipeline,
    clock: &Arc<dyn Clock>,
    tasks: &Tasks,
) -> (Arc<Grants>, Arc<Audit>) {
    let grants = Arc::new(Grants::new(clock.clone()));
    let held = grants.clone();
    pipeline.on_tenant(Arc::new(move |tenant, event| match event {
        TenantEvent::Erased => held.forget(tenant),
        TenantEvent::EvidenceErased | TenantEvent::Suspended | TenantEvent::Lifted => {}
    }));
    let (clock, held) = (clock.clone(), grants.clone());
    tasks.spawn(async move {
        loop {
            clock.sleep(ROUND).await;
            held.sweep();
        }
    });
    (grants, Arc::new(Audit::new(pipeline.evidence.clone())))
}

/// Suspends again who was suspended when an earlier run ended, before any of them can ask.
///
/// # Errors
/// When the state folder cannot be read.
pub(super) fn stay_suspended(pipeline: &Pipeline, policy: &Policy) -> Result<(), EvidenceError> {
    policy.tenants.values().try_for_each(|tenant| pipeline.stay_suspended(tenant.id))
}
