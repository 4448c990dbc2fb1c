//! Evidence keys: one per tenant and day, so that a tenant's erasure, or a day that is older than
//! the retention, can be forgotten by destroying a key.
//!
//! They must outlive a restart, so they rest in the state folder, each wrapped under a key that
//! follows from the log key. If that lies outside the folder, a copy of the folder opens nothing.
//! A destroyed key's place is overwritten and synced; what a drive keeps of old blocks is its own.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use super::EvidenceError;
use crate::crypto::{ROW_NONCE_BYTES, open_row, seal_row};
use crate::entropy::{Entropy, random};
use crate::secret::{Locked, Secret};

/// A tenant as the evidence knows it: an HMAC, never a name or an id that could be recomputed.
pub(super) type Tag = [u8; 16];

/// A place: tag, day, nonce, wrapped key and its tag; a free one is all zeros.
const PLACE_BYTES: usize = 16 + 4 + ROW_NONCE_BYTES + 32 + 16;

/// All evidence keys.
pub(super) struct Lockers {
    entropy: Arc<dyn Entropy>,
    file: File,
    wrap: Locked<Secret<32>>,
    keys: Mutex<Keys>,
}

#[derive(Default)]
struct Keys {
    places: Vec<Option<Locker>>,
    by_owner: HashMap<(Tag, u32), u32>,
}

/// A key as it rests: it is unwrapped for one row, and wiped.
#[derive(Clone, Copy)]
struct Locker {
    tag: Tag,
    day: u32,
    nonce: [u8; ROW_NONCE_BYTES],
    wrapped: [u8; 48],
}

impl Locker {
    fn read(place: &[u8]) -> Option<Self> {
        let (tag, rest) = place.split_first_chunk::<16>()?;
        let (day, rest) = rest.split_first_chunk::<4>()?;
        let (nonce, wrapped) = rest.split_first_chunk::<ROW_NONCE_BYTES>()?;
        let (day, wrapped) = (u32::from_be_bytes(*day), wrapped.try_into().ok()?);
        Some(Self { tag: *tag, day, nonce: *nonce, wrapped })
    }

    fn unwrap(&self, wrap: &Secret<32>) -> Option<Secret<32>> {
        let mut bytes = zeroize::Zeroizing::new(self.wrapped.to_vec());
        open_row(wrap, self.nonce, &mut bytes).ok()?;
        let mut key = Secret::zero();
        key.expose_mut().copy_from_slice(&bytes);
        Some(key)
    }
}

impl Lockers {
    /// Opens the file of wrapped keys. A place that does not open under this log key is another's,
    /// and refused: writing on would lose what it seals.
    pub fn open(
        entropy: Arc<dyn Entropy>,
        file: File,
        wrap: Locked<Secret<32>>,
    ) -> Result<Self, EvidenceError> {
        let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).unwrap_or(0)];
        file.read_exact_at(&mut bytes, 0)?;
        let mut keys = Keys::default();
        for (index, place) in bytes.chunks_exact(PLACE_BYTES).enumerate() {
            let locker = if place.iter().all(|byte| *byte == 0) {
                None
            } else {
                let locker = Locker::read(place).filter(|locker| locker.unwrap(&wrap).is_some());
                Some(locker.ok_or(EvidenceError::Foreign)?)
            };
            if let Some(locker) = &locker {
                keys.by_owner.insert((locker.tag, locker.day), index as u32);
            }
            keys.places.push(locker);
        }
        Ok(Self { entropy, file, wrap, keys: Mutex::new(keys) })
    }

    fn keys(&self) -> std::sync::MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seals a row under the tenant's key of that day, which is made if there is none:
    /// place || nonce || sealed.
    pub fn seal(&self, tag: Tag, day: u32, mut row: Vec<u8>) -> Result<Vec<u8>, EvidenceError> {
        let (place, key) = self.key(tag, day)?;
        let nonce = random::<ROW_NONCE_BYTES>(&*self.entropy)?;
        seal_row(&key, nonce, &mut row).map_err(|_| EvidenceError::Sealing)?;
        Ok([&place.to_be_bytes()[..], &nonce, &row].concat())
    }

    /// Opens what [`Lockers::seal`] made; `None` once its key is destroyed.
    pub fn open_sealed(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (place, rest) = sealed.split_first_chunk::<4>()?;
        let (nonce, row) = rest.split_first_chunk::<ROW_NONCE_BYTES>()?;
        let place = u32::from_be_bytes(*place) as usize;
        let locker = (*self.keys().places.get(place)?)?;
        let key = locker.unwrap(&self.wrap)?;
        let mut row = row.to_vec();
        open_row(&key, *nonce, &mut row).ok()?;
        Some(row)
    }

    fn key(&self, tag: Tag, day: u32) -> Result<(u32, Secret<32>), EvidenceError> {
        let mut keys = self.keys();
        if let Some(place) = keys.by_owner.get(&(tag, day))
            && let Some(locker) = &keys.places[*place as usize]
        {
            return Ok((*place, locker.unwrap(&self.wrap).ok_or(EvidenceError::Sealing)?));
        }
        let mut key = Secret::<32>::zero();
        self.entropy.fill(key.expose_mut())?;
        let nonce = random::<ROW_NONCE_BYTES>(&*self.entropy)?;
        let mut wrapped = key.expose().to_vec();
        seal_row(&self.wrap, nonce, &mut wrapped).map_err(|_| EvidenceError::Sealing)?;
        // Places are never used again: an old row must not meet another key.
        let place = keys.places.len();
        let bytes = [&tag[..], &day.to_be_bytes(), &nonce, &wrapped].concat();
        self.file.write_all_at(&bytes, (place * PLACE_BYTES) as u64)?;
        self.file.sync_data()?;
        keys.places.push(Locker::read(&bytes));
        keys.by_owner.insert((tag, day), place as u32);
        Ok((place as u32, key))
    }

    /// Destroys the keys for which `doomed` says so; returns how many.
    pub fn destroy(&self, doomed: impl Fn(&Tag, u32) -> bool) -> Result<usize, EvidenceError> {
        let mut keys = self.keys();
        let mut destroyed = 0;
        for place in 0..keys.places.len() {
            let owner = keys.places[place].as_ref().map(|locker| (locker.tag, locker.day));
            let Some((tag, day)) = owner.filter(|(tag, day)| doomed(tag, *day)) else { continue };
            self.file.write_all_at(&[0; PLACE_BYTES], (place * PLACE_BYTES) as u64)?;
            keys.places[place] = None;
            keys.by_owner.remove(&(tag, day));
            destroyed += 1;
        }
        if destroyed > 0 {
            self.file.sync_data()?;
        }
        Ok(destroyed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::StateDir;
    use crate::entropy::SystemEntropy;

    fn lockers(at: &std::path::Path, byte: u8) -> Result<Lockers, EvidenceError> {
        let mut wrap = Locked::<Secret<32>>::zeroed().unwrap();
        wrap.expose_mut()[0] = byte;
        let file = StateDir::open(at).unwrap().file("keys").unwrap();
        Lockers::open(Arc::new(SystemEntropy), file, wrap)
    }

    #[test]
    fn rows_open_after_a_restart_until_their_key_is_destroyed() {
        let home = tempfile::tempdir().unwrap();
        let at = home.path().join("state");
        let first = lockers(&at, 1).unwrap();
        let ours = first.seal([1; 16], 1, b"ours".to_vec()).unwrap();
        let later = first.seal([1; 16], 2, b"later".to_vec()).unwrap();
        let theirs = first.seal([2; 16], 1, b"theirs".to_vec()).unwrap();
        drop(first);
        assert!(matches!(lockers(&at, 2), Err(EvidenceError::Foreign)), "another log key");
        let second = lockers(&at, 1).unwrap();
        assert_eq!(second.open_sealed(&ours).unwrap(), b"ours");
        assert_eq!(second.destroy(|tag, _| *tag == [1; 16]).unwrap(), 2);
        assert!(second.open_sealed(&ours).is_none() && second.open_sealed(&later).is_none());
        second.seal([1; 16], 1, b"new".to_vec()).unwrap();
        drop(second);
        let third = lockers(&at, 1).unwrap();
        assert!(third.open_sealed(&ours).is_none(), "its place is never used again");
        assert_eq!(third.open_sealed(&theirs).unwrap(), b"theirs");
    }
}
