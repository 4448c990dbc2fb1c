//! Rates: wrong keys per address, requests per tenant. Both in bounded memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::neighbour::Neighbour;
use crate::clock::Boot;
use crate::file::TenantId;

/// Wrong keys an address may show within [`FORGIVEN_AFTER`]. An address behind which many clients
/// sit shares it, so it is not small; a secret has 256 bits, so it need not be.
const WRONG_KEYS: f64 = 200.0;
const FORGIVEN_AFTER: Duration = Duration::from_secs(20);
/// Addresses or tenants remembered at most; past it all are forgiven.
const MOST: usize = 10_000;

/// A bucket that leaks at a steady rate.
struct Bucket {
    level: f64,
    at: Boot,
}

/// All buckets.
#[derive(Default)]
pub struct Throttle {
    wrong_keys: Mutex<HashMap<Neighbour, Bucket>>,
    requests: Mutex<HashMap<TenantId, Bucket>>,
}

impl Throttle {
    /// Whether this address may be told once more that its key is wrong, and counts it.
    pub(super) fn may_fail(&self, from: Neighbour, now: Boot) -> bool {
        let rate = WRONG_KEYS / FORGIVEN_AFTER.as_secs_f64();
        if level(&self.wrong_keys, from, rate, now, 0.0) >= WRONG_KEYS {
            return false;
        }
        level(&self.wrong_keys, from, rate, now, 1.0);
        true
    }

    /// Whether this tenant may make another request, and counts it; 0 for no limit. A second's
    /// worth may come at once.
    pub(super) fn may_ask(&self, tenant: TenantId, per_second: u32, now: Boot) -> bool {
        if per_second == 0 {
            return true;
        }
        let rate = f64::from(per_second);
        if level(&self.requests, tenant, rate, now, 0.0) > rate - 1.0 {
            return false;
        }
        level(&self.requests, tenant, rate, now, 1.0);
        true
    }
}

/// Lets a bucket leak until now, adds to it, and tells how full it is.
fn level<K: Hash + Eq>(
    buckets: &Mutex<HashMap<K, Bucket>>,
    key: K,
    rate: f64,
    now: Boot,
    add: f64,
) -> f64 {
    let mut buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
    if buckets.len() >= MOST && !buckets.contains_key(&key) {
        buckets.clear();
    }
    let bucket = buckets.entry(key).or_insert(Bucket { level: 0.0, at: now });
    let leaked = now.since(bucket.at).as_secs_f64() * rate;
    bucket.level = (bucket.level - leaked).max(0.0) + add;
    bucket.at = now;
    bucket.level
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_keys_are_slowed_per_address_and_forgiven_with_time() {
        let throttle = Throttle::default();
        let [one, two] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(|at| Neighbour::of(at.into()));
        let now = Boot::from_start(Duration::from_secs(100));
        for _ in 0..WRONG_KEYS as u32 {
            assert!(throttle.may_fail(one, now));
        }
        assert!(!throttle.may_fail(one, now));
        assert!(throttle.may_fail(two, now));
        assert!(throttle.may_fail(one, now.plus(FORGIVEN_AFTER)));
    }

    #[test]
    fn a_tenant_gets_its_rate_and_no_more() {
        let throttle = Throttle::default();
        let now = Boot::from_start(Duration::from_secs(100));
        let acme = TenantId::of("acme");
        let served = (0..10).filter(|_| throttle.may_ask(acme, 3, now)).count();
        assert_eq!(served, 3);
        assert!(throttle.may_ask(acme, 3, now.plus(Duration::from_secs(1))));
        assert!(throttle.may_ask(acme, 0, now), "0 is no limit");
    }
}
