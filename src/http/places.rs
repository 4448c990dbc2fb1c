//! Places for connections: so many in all, and no neighbour may take them all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::neighbour::{Neighbour, Proxies};

/// Any neighbour may have this many, however few are left.
const ALWAYS: usize = 64;

/// How many connections there may be.
#[derive(Clone, Debug)]
pub struct Crowd {
    /// In all; the others wait in the listener's queue.
    pub most: usize,
    /// From one address (IPv6: one /64); 0 sets no number. Whatever it is, nobody may have more
    /// than are still free, so that a few of them can never take all.
    pub most_each: usize,
    /// Proxies speak for many: only the number in all holds for them.
    pub proxies: Proxies,
}

/// The places of one listener.
pub(super) struct Places {
    free: Arc<Semaphore>,
    crowd: Crowd,
    held: Mutex<HashMap<Neighbour, usize>>,
}

/// One connection's place, given back when it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    from: Option<Neighbour>,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    pub fn new(crowd: Crowd) -> Self {
        Self { free: Arc::new(Semaphore::new(crowd.most)), crowd, held: Mutex::default() }
    }

    /// Waits for a free place, whoever may come.
    pub async fn free(&self) -> Option<OwnedSemaphorePermit> {
        self.free.clone().acquire_owned().await.ok()
    }

    /// Gives it to whoever came, unless that neighbour has too many.
    pub fn give(self: &Arc<Self>, permit: OwnedSemaphorePermit, to: IpAddr) -> Option<Place> {
        let from = (!self.crowd.proxies.trust(to)).then(|| Neighbour::of(to));
        if let Some(from) = from {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            let count = held.entry(from).or_insert(0);
            if *count >= self.most_for_one() {
                return None;
            }
            *count += 1;
        }
        Some(Place { places: self.clone(), from, _permit: permit })
    }

    fn most_for_one(&self) -> usize {
        let share = self.free.available_permits().max(ALWAYS);
        if self.crowd.most_each == 0 { share } else { share.min(self.crowd.most_each) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(from) = self.from else { return };
        let mut held = self.places.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&from) {
            *count -= 1;
            if *count == 0 {
                held.remove(&from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(most: usize, most_each: usize, proxies: &[&str]) -> Arc<Places> {
        let proxies = Proxies::new(proxies.iter().map(|one| one.parse().unwrap()).collect());
        Arc::new(Places::new(Crowd { most, most_each, proxies }))
    }

    fn take(places: &Arc<Places>, from: &str) -> Option<Place> {
        let permit = places.free.clone().try_acquire_owned().ok()?;
        places.give(permit, from.parse().unwrap())
    }

    fn take_all(places: &Arc<Places>, from: &str) -> Vec<Place> {
        std::iter::from_fn(|| take(places, from)).collect()
    }

    #[test]
    fn nobody_gets_more_than_are_left() {
        let places = places(1000, 0, &[]);
        let first = take_all(&places, "1.1.1.1");
        assert_eq!(first.len(), 500);
        let second = take_all(&places, "2001:db8::1");
        assert_eq!(second.len(), 250);
        assert!(take(&places, "2001:db8::2").is_none(), "the same network");
        assert!(take(&places, "3.3.3.3").is_some(), "there is always one for somebody new");
        drop(first);
        assert!(take(&places, "1.1.1.1").is_some());
        assert!(!places.held.lock().unwrap().contains_key(&Neighbour::of([1, 1, 1, 1].into())));
    }

    #[test]
    fn a_number_for_each_holds_and_proxies_are_spared() {
        let places = places(1000, 10, &["9.9.9.9"]);
        assert_eq!(take_all(&places, "1.1.1.1").len(), 10);
        let held = take_all(&places, "9.9.9.9");
        assert_eq!(held.len(), 1000);
    }

    #[test]
    fn a_small_house_is_shared_by_coming_first() {
        let places = places(8, 0, &[]);
        assert_eq!(take_all(&places, "1.1.1.1").len(), 8);
    }
}
