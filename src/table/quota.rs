//! Live bytes per tenant, counted as they arrive and given back when a file dies.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::file::TenantId;

/// The counters of all tenants.
#[derive(Default)]
pub struct Quotas(Mutex<HashMap<TenantId, Arc<AtomicU64>>>);

/// Bytes counted against a tenant until this is dropped.
pub struct Reservation {
    used: Arc<AtomicU64>,
    bytes: u64,
}

/// The tenant's live bytes are used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tenant's live bytes are used up")]
pub struct QuotaExceeded;

impl Quotas {
    /// An empty reservation, to be grown as bytes arrive.
    #[must_use]
    pub fn open(&self, tenant: TenantId) -> Reservation {
        let mut counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Reservation { used: counters.entry(tenant).or_default().clone(), bytes: 0 }
    }

    /// Live bytes of a tenant now.
    #[must_use]
    pub fn used(&self, tenant: TenantId) -> u64 {
        let counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counters.get(&tenant).map_or(0, |used| used.load(Ordering::Relaxed))
    }
}

impl Reservation {
    /// Claims `more` bytes before they are used, so that parallel uploads cannot pass together.
    ///
    /// # Errors
    /// When the tenant would hold more than `limit`; nothing is claimed then.
    pub fn grow(&mut self, more: u64, limit: u64) -> Result<(), QuotaExceeded> {
        let fits = |used: u64| used.checked_add(more).filter(|after| *after <= limit);
        let claimed = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        claimed.map_err(|_| QuotaExceeded)?;
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_uploads_cannot_pass_the_limit_together_and_give_back_what_they_took() {
        let (quotas, acme) = (Quotas::default(), TenantId::of("acme"));
        let (mut one, mut two) = (quotas.open(acme), quotas.open(acme));
        one.grow(60, 100).unwrap();
        assert_eq!(two.grow(50, 100), Err(QuotaExceeded));
        two.grow(40, 100).unwrap();
        drop(one);
        assert_eq!(quotas.used(acme), 40);
        assert_eq!(quotas.used(TenantId::of("other")), 0);
    }
}
