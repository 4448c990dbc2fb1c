//! Live bytes and files per tenant, counted as they arrive and given back when a file dies.
//!
//! Each live file takes one of a fixed number of locked slots, an empty one too. As long as there
//! are plenty, nobody is asked; of the last ones only tenants that hold less than an equal share of
//! all get some. So no tenant, by many small files, keeps the others from having any.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::file::TenantId;

/// One in so many slots is kept for tenants that hold less than their share.
const KEPT_BACK: usize = 8;

/// The counters of all tenants.
#[derive(Default)]
pub struct Quotas {
    counters: Mutex<HashMap<TenantId, Arc<Counter>>>,
    /// How many tenants there are, by the policy.
    tenants: AtomicUsize,
}

#[derive(Default)]
struct Counter {
    bytes: AtomicU64,
    files: AtomicUsize,
}

/// A file, and its bytes, counted against a tenant until this is dropped.
pub struct Reservation {
    used: Arc<Counter>,
    bytes: u64,
}

/// The tenant's live bytes are used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tenant's live bytes are used up")]
pub struct QuotaExceeded;

impl Quotas {
    /// A reservation without bytes, to be grown as they arrive.
    #[must_use]
    pub fn open(&self, tenant: TenantId) -> Reservation {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let used = counters.entry(tenant).or_default().clone();
        used.files.fetch_add(1, Ordering::Relaxed);
        Reservation { used, bytes: 0 }
    }

    /// Live bytes of a tenant now.
    #[must_use]
    pub fn used(&self, tenant: TenantId) -> u64 {
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        counters.get(&tenant).map_or(0, |used| used.bytes.load(Ordering::Relaxed))
    }

    /// How many tenants share the slots from now on.
    pub fn share_among(&self, tenants: usize) {
        self.tenants.store(tenants, Ordering::Relaxed);
    }

    /// Whether a tenant may take one more of `slots`, of which `taken` are.
    #[must_use]
    pub fn has_slot(&self, tenant: TenantId, slots: usize, taken: usize) -> bool {
        if slots.saturating_sub(taken) > slots / KEPT_BACK {
            return true;
        }
        let share = slots / self.tenants.load(Ordering::Relaxed).max(1);
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        counters.get(&tenant).is_none_or(|used| used.files.load(Ordering::Relaxed) < share)
    }
}

impl Reservation {
    /// Claims `more` bytes before they are used, so that parallel uploads cannot pass together.
    ///
    /// # Errors
    /// When the tenant would hold more than `limit`; nothing is claimed then.
    pub fn grow(&mut self, more: u64, limit: u64) -> Result<(), QuotaExceeded> {
        let fits = |used: u64| used.checked_add(more).filter(|after| *after <= limit);
        let claimed = self.used.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        claimed.map_err(|_| QuotaExceeded)?;
        self.bytes += more;
        Ok(())
    }

    /// Gives back some of what it claimed.
    pub fn shrink(&mut self, less: u64) {
        let less = less.min(self.bytes);
        self.used.bytes.fetch_sub(less, Ordering::Relaxed);
        self.bytes -= less;
    }

    /// Takes over what another of the same tenant has claimed.
    pub fn absorb(&mut self, mut other: Self) {
        if Arc::ptr_eq(&self.used, &other.used) {
            self.bytes += std::mem::take(&mut other.bytes);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.used.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.used.files.fetch_sub(1, Ordering::Relaxed);
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

    #[test]
    fn the_last_slots_are_for_those_who_hold_less_than_their_share() {
        let (quotas, greedy, modest) =
            (Quotas::default(), TenantId::of("greedy"), TenantId::of("modest"));
        let slots = 80;
        let mut held = Vec::new();
        while quotas.has_slot(greedy, slots, held.len()) {
            held.push(quotas.open(greedy));
            assert!(held.len() < slots || held.len() == slots, "it ends");
            if held.len() == slots {
                break;
            }
        }
        assert_eq!(held.len(), slots, "alone it may have all");
        held.clear();
        quotas.share_among(2);
        while quotas.has_slot(greedy, slots, held.len()) {
            held.push(quotas.open(greedy));
        }
        assert_eq!(held.len(), slots - slots / KEPT_BACK);
        assert!(quotas.has_slot(modest, slots, held.len()));
        let one = quotas.open(modest);
        assert!(quotas.has_slot(modest, slots, held.len() + 1));
        held.truncate(slots / 2);
        assert!(quotas.has_slot(greedy, slots, held.len() + 1), "plenty again");
        drop(one);
    }
}
