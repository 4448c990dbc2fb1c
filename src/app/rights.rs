//! Who keeps something of tenants beside the pipeline: grants, and the audit trail.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::pipeline::{Pipeline, TenantEvent};
use crate::receipt::Audit;
use crate::table::Grants;
use crate::tasks::Tasks;

/// Between two looks at what has ended.
const ROUND: Duration = Duration::from_secs(60);

/// Grants and the trail, bound to what happens to tenants, and swept while the gateway runs.
pub(super) fn keepers(
    pipeline: &Pipeline,
    clock: &Arc<dyn Clock>,
    tasks: &Tasks,
    retention: Duration,
) -> (Arc<Grants>, Arc<Audit>) {
    let grants = Arc::new(Grants::new(clock.clone()));
    let audit = Arc::new(Audit::new(clock.clone(), retention));
    let (held, kept) = (grants.clone(), audit.clone());
    pipeline.on_tenant(Arc::new(move |tenant, event| match event {
        TenantEvent::Erased => held.forget(tenant),
        TenantEvent::EvidenceErased => kept.forget(tenant),
        TenantEvent::Suspended | TenantEvent::Lifted => {}
    }));
    let (clock, held, kept) = (clock.clone(), grants.clone(), audit.clone());
    tasks.spawn(async move {
        loop {
            clock.sleep(ROUND).await;
            held.sweep();
            kept.sweep();
        }
    });
    (grants, audit)
}
