//! Keys: what ends them, and that nothing opens after.

use std::time::Duration;

use super::*;
use crate::clock::VirtualClock;
use crate::entropy::SeededEntropy;

const START: u64 = 1_800_000_000;

fn keys() -> (Keys, VirtualClock) {
    let clock = VirtualClock::at(Wall::from_unix(Duration::from_secs(START)));
    let slab = Slab::lock_at_most(256 << 10).unwrap();
    let epochs = Arc::new(MemoryKeyring::new(slab.clone()));
    let entropy = Arc::new(SeededEntropy::new(7));
    (Keys::new(Arc::new(clock.clone()), entropy, epochs, slab), clock)
}

fn file(byte: u8) -> FileId {
    FileId::from_bytes([byte; 16])
}

fn deadline(clock: &VirtualClock, ttl: u64) -> Deadline {
    Deadline::fix(clock.now(), Duration::from_secs(ttl)).unwrap()
}

#[test]
fn after_destruction_nothing_opens_and_the_first_reason_stands() {
    let (keys, clock) = keys();
    let held = keys.create(file(1), deadline(&clock, 3600)).unwrap();
    assert!(keys.input_key(&held).is_ok());
    let proof = keys.destroy(&held, Reason::Deleted);
    assert_eq!(keys.input_key(&held).unwrap_err(), KeyringError::Gone(Gone));
    assert_eq!(held.while_alive(|| clock.now(), || ()), Err(Gone));
    clock.advance(Duration::from_secs(5));
    let again = keys.destroy(&held, Reason::Expired);
    assert_eq!((again.at(), again.reason()), (proof.at(), Reason::Deleted));
    assert_eq!(keys.secrets_held(), 1, "only the epoch key is left");
    assert_eq!(keys.files_alive(), 0);
}

#[test]
fn either_clock_ends_the_keys_without_anybody_sweeping() {
    for boot in [true, false] {
        let (keys, clock) = keys();
        let held = keys.create(file(1), deadline(&clock, 600)).unwrap();
        if boot {
            let before = clock.now().wall;
            clock.advance(Duration::from_secs(600));
            clock.step_wall(before);
        } else {
            clock.step_wall(Wall::from_unix(Duration::from_secs(START + 600)));
        }
        assert_eq!(keys.input_key(&held).unwrap_err(), KeyringError::Gone(Gone));
        assert_eq!(held.while_alive(|| clock.now(), || ()), Err(Gone));
    }
}

#[test]
fn a_bucket_that_has_ended_takes_its_key_along_and_the_proof_says_so() {
    let (keys, clock) = keys();
    let held = keys.create(file(1), deadline(&clock, 3600)).unwrap();
    let early = keys.create(file(2), deadline(&clock, 3600)).unwrap();
    assert_eq!((keys.epochs_held().all(), keys.secrets_held()), (1, 3));
    let proof = keys.destroy(&early, Reason::Deleted);
    assert_eq!(proof.keys().len(), 1);
    clock.advance(Duration::from_secs(3600));
    assert_eq!(keys.sweep_epochs(), 1);
    let proof = keys.destroy(&held, Reason::Expired);
    assert_eq!(
        proof.keys().iter().map(|(kind, _)| *kind).collect::<Vec<_>>(),
        [KeyKind::FileSecret, KeyKind::Epoch]
    );
    assert_eq!(keys.secrets_held(), 0);
}

/// What every keyring must do.
fn suite(keyring: &dyn Keyring, clock: &VirtualClock) {
    let entropy = SeededEntropy::new(3);
    let (first, second) = (deadline(clock, 3600), deadline(clock, 7200));
    let read = |epoch| {
        let mut out = Secret::<32>::zero();
        keyring.read(epoch, &mut out).map(|()| *out.expose())
    };
    assert_eq!(read(first.epoch()), Err(Gone), "nothing was admitted");
    let bucket = keyring.admit(first, &entropy).unwrap();
    assert_eq!(bucket, Admitted { keeper: keyring.name(), ends: first });
    let key = read(first.epoch()).unwrap();
    let now = clock.now().wall.since_epoch();
    clock.step_wall(Wall::from_unix(now - Duration::from_secs(60)));
    let later = deadline(clock, 3660);
    clock.step_wall(Wall::from_unix(now));
    assert!(later.epoch() == first.epoch() && later.boot() > first.boot());
    assert_eq!(keyring.admit(later, &entropy), Ok(bucket), "the first deadline ends the bucket");
    assert_eq!(read(first.epoch()), Ok(key), "a bucket has one key");
    keyring.admit(second, &entropy).unwrap();
    assert_ne!(read(second.epoch()), Ok(key));
    assert_eq!(keyring.held().all(), 2);
    clock.advance(Duration::from_secs(3600));
    assert_eq!(keyring.sweep(clock.now()), [first.epoch()]);
    assert_eq!((read(first.epoch()), keyring.held().all()), (Err(Gone), 1));
    keyring.destroy_all();
    assert_eq!((read(second.epoch()), keyring.held()), (Err(Gone), Held::default()));
    let zeros = keyring.admit(second, &Broken);
    assert_eq!((zeros, keyring.held().all()), (Err(KeyringError::ZeroSecret), 0));
}

#[test]
fn every_keyring_passes_the_suite() {
    let clock = || VirtualClock::at(Wall::from_unix(Duration::from_secs(START)));
    let memory = clock();
    suite(&MemoryKeyring::new(Slab::lock_at_most(256 << 10).unwrap()), &memory);
    let kernel = clock();
    if let Some(keyring) = kernel::tests::keyring(Arc::new(kernel.clone())) {
        suite(&keyring, &kernel);
    }
}

#[test]
fn a_short_life_has_no_epoch_key() {
    let (keys, clock) = keys();
    let held = keys.create(file(1), deadline(&clock, 299)).unwrap();
    assert!(keys.input_key(&held).is_ok());
    assert_eq!(keys.epochs_held().all(), 0);
}

#[test]
fn a_shortened_life_ends_at_the_earlier_time_and_never_grows_back() {
    let (keys, clock) = keys();
    let held = keys.create(file(1), deadline(&clock, 3600)).unwrap();
    let short = held.shorten(clock.now(), Duration::from_secs(10)).unwrap();
    let longer = held.shorten(clock.now(), Duration::from_secs(1000)).unwrap();
    assert_eq!(short, longer);
    clock.advance(Duration::from_secs(10));
    assert_eq!(keys.input_key(&held).unwrap_err(), KeyringError::Gone(Gone));
}

#[test]
fn an_epoch_key_that_was_destroyed_leaves_its_files_unreadable() {
    let (keys, clock) = keys();
    let held = keys.create(file(1), deadline(&clock, 3600)).unwrap();
    keys.destroy_epochs();
    assert_eq!(keys.input_key(&held).unwrap_err(), KeyringError::Gone(Gone));
    // A new key for the same bucket is another key: the old file stays shut in its cipher.
    let other = keys.create(file(2), deadline(&clock, 3600)).unwrap();
    assert!(keys.input_key(&other).is_ok());
}

struct Broken;
impl Entropy for Broken {
    fn fill(&self, out: &mut [u8]) -> Result<(), EntropyError> {
        out.fill(0);
        Ok(())
    }
}

#[test]
fn an_all_zero_secret_is_refused() {
    let slab = Slab::lock_at_most(256 << 10).unwrap();
    let clock = VirtualClock::at(Wall::from_unix(Duration::from_secs(START)));
    let epochs = Arc::new(MemoryKeyring::new(slab.clone()));
    let keys = Keys::new(Arc::new(clock.clone()), Arc::new(Broken), epochs, slab);
    let refused = keys.create(file(1), deadline(&clock, 3600)).err();
    assert_eq!(refused, Some(KeyringError::ZeroSecret));
}

#[test]
fn a_condemnation_ends_every_file_at_once_and_none_that_comes_after() {
    let (keys, clock) = keys();
    let (long, short) = (deadline(&clock, 3600), deadline(&clock, 60));
    let before = [keys.create(file(1), long).unwrap(), keys.create(file(2), short).unwrap()];
    assert_eq!(keys.files_alive(), 2);
    keys.condemn(Suspicion::SameSalt);
    let after = keys.create(file(3), long).unwrap();
    for held in &before {
        assert_eq!(keys.input_key(held).unwrap_err(), KeyringError::Gone(Gone));
        assert_eq!(held.while_alive(|| clock.now(), || ()), Err(Gone));
        assert_eq!((held.deadline(), held.shorten(clock.now(), Duration::ZERO)), (None, Err(Gone)));
        let proof = keys.destroy(held, Reason::Expired);
        assert_eq!(proof.reason(), Reason::KeyLost);
    }
    assert!(keys.input_key(&after).is_ok());
    assert_eq!((keys.generation(), keys.files_alive()), (1, 1));
}

#[test]
fn a_file_never_outlives_its_buckets_key() {
    let (keys, clock) = keys();
    let first = keys.create(file(1), deadline(&clock, 3600)).unwrap();
    clock.advance(Duration::from_secs(3000));
    // Fifty minutes are gone, and the clock says that none is.
    clock.step_wall(Wall::from_unix(Duration::from_secs(START)));
    let asked = deadline(&clock, 3600);
    let second = keys.create(file(2), asked).unwrap();
    let (first, end) = (first.deadline().unwrap(), second.deadline().unwrap());
    assert_eq!((asked.epoch(), end.boot()), (first.epoch(), first.boot()));
    // What is shown is when it ends: in ten minutes, not in an hour.
    assert_eq!(clock.now().wall.until(end.expires_at()), Duration::from_secs(600));
    assert_eq!(end.sealed_unix(), asked.sealed_unix(), "its header names its bucket");
    clock.advance(Duration::from_secs(599));
    assert!(keys.input_key(&second).is_ok());
    assert!(!second.ends_with_bucket(), "by the wall clock it ends before its bucket");
    clock.advance(Duration::from_secs(1));
    assert_eq!(keys.input_key(&second).unwrap_err(), KeyringError::Gone(Gone));
    assert_eq!(keys.sweep_epochs(), 1);
}

#[test]
fn a_bucket_that_is_due_begins_anew_with_another_key() {
    let (keys, clock) = keys();
    let early = keys.create(file(1), deadline(&clock, 600)).unwrap();
    clock.advance(Duration::from_secs(600));
    clock.step_wall(Wall::from_unix(Duration::from_secs(START)));
    let asked = deadline(&clock, 600);
    let late = keys.create(file(2), asked).unwrap();
    assert_eq!(late.deadline(), Some(asked), "a whole life");
    assert!(keys.input_key(&late).is_ok() && keys.input_key(&early).is_err());
}

#[test]
fn who_ends_with_a_bucket_is_told_from_who_ends_alone() {
    let (keys, clock) = keys();
    let long = keys.create(file(1), deadline(&clock, 3600)).unwrap();
    let short = keys.create(file(2), deadline(&clock, 299)).unwrap();
    assert_eq!((long.ends_with_bucket(), short.ends_with_bucket()), (true, false));
    long.shorten(clock.now(), Duration::from_secs(100)).unwrap();
    assert!(!long.ends_with_bucket(), "it ends before its bucket");
}
