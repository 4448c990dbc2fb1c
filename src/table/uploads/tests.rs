//! The stages of an upload, and who may take it from one to the next.

use futures_util::FutureExt;

use super::*;
use crate::budget::Budget;
use crate::clock::{VirtualClock, Wall};
use crate::crypto::{Header, InputKey, seal_record};
use crate::entropy::SeededEntropy;
use crate::file::{Deadline, Epoch, Role};
use crate::keyring::{Keys, MemoryKeyring};
use crate::secret::{Secret, Slab};

const ACME: &str = "acme";

struct House {
    uploads: Uploads<&'static str>,
    clock: VirtualClock,
    keys: Keys,
    budget: Budget,
    entropy: Arc<SeededEntropy>,
}

fn house() -> House {
    let clock = VirtualClock::at(Wall::from_unix(Duration::from_secs(1_800_000_000)));
    let (entropy, slab) = (Arc::new(SeededEntropy::new(5)), Slab::lock().unwrap());
    let epochs = Arc::new(MemoryKeyring::new(slab.clone()));
    let keys = Keys::new(Arc::new(clock.clone()), entropy.clone(), epochs, slab);
    let uploads = Uploads::default();
    House { uploads, clock, keys, budget: Budget::of(1 << 20), entropy }
}

fn who(key: &str) -> Who {
    Who { key: key.to_owned(), grant: None }
}

fn at(offset: u64) -> Progress {
    Progress { offset, length: Some(10) }
}

impl House {
    fn parts(&self) -> UploadParts {
        let now = self.clock.now();
        let deadline = Deadline::fix(now, Duration::from_secs(60)).unwrap();
        let file = FileId::draw(&*self.entropy).unwrap();
        let keys = Arc::new(self.keys.create(file, deadline).unwrap());
        let (tenant, region) = (TenantId::of(ACME), "local".parse().unwrap());
        let header = Header {
            role: Role::Record,
            region,
            file,
            epoch: Epoch::None,
            expires_at: 0,
            index: 1,
        };
        let mut secret = Secret::<32>::zero();
        secret.expose_mut().fill(7);
        let input = InputKey::derive(None, &secret, &file, Epoch::None).unwrap();
        let note = seal_record(&header, &tenant, input, &*self.entropy, b"{}").unwrap();
        UploadParts {
            who: who("k1"),
            face: Face::Tus,
            purpose: Purpose::Whole,
            origin: Origin { keys, tenant, region, deadline },
            created: now,
            max_bytes: 100,
            note,
            rent: self.budget.try_acquire(1).unwrap(),
        }
    }

    fn begin(&self) -> Arc<Upload<&'static str>> {
        self.uploads.begin(self.parts(), at(0), "grown").unwrap()
    }

    fn take(&self, upload: &Arc<Upload<&'static str>>) -> Held<&'static str> {
        upload.take(&self.clock).now_or_never().unwrap().unwrap().0
    }
}

#[test]
fn one_writes_and_puts_it_back_for_the_next() {
    let house = house();
    let upload = house.begin();
    let held = house.take(&upload);
    assert!(!house.uploads.is_quiet());
    assert!(held.rest(at(4), "grown more").is_none());
    assert!(house.uploads.is_quiet() && upload.rests_at(4));
    let looked = upload.look(&house.clock).now_or_never().unwrap();
    assert_eq!(looked, Ok(Standpoint::Resting(at(4))));
    let held = house.take(&upload);
    let file = upload.id.file();
    assert!(held.complete(file, 10));
    assert_eq!(upload.file(), Some(file));
    let again = upload.take(&house.clock).now_or_never().unwrap();
    assert_eq!(again.err(), Some(NotNow::Complete(file, 10)));
}

#[test]
fn a_look_makes_a_writer_let_go_and_waits_for_what_it_has() {
    let house = house();
    let upload = house.begin();
    let held = house.take(&upload);
    let mut wanted = Box::pin(held.wanted());
    assert!((&mut wanted).now_or_never().is_none());
    let mut look = Box::pin(upload.look(&house.clock));
    for _ in 0..LOOKS {
        assert!((&mut look).now_or_never().is_none());
        assert!((&mut wanted).now_or_never().is_none(), "what moves is waited for, a while");
        held.pulse().fetch_add(1, Ordering::Relaxed);
        house.clock.advance(ABANDONED);
    }
    assert!((&mut look).now_or_never().is_none());
    assert!(wanted.now_or_never().is_some(), "it is told");
    assert!(held.rest(at(7), "grown").is_none());
    assert_eq!(look.now_or_never(), Some(Ok(Standpoint::Resting(at(7)))));
}

#[test]
fn an_abandoned_writer_lets_go_and_one_that_moves_is_left_alone() {
    let house = house();
    let upload = house.begin();
    let held = house.take(&upload);
    let pulse = held.pulse();
    let mut second = Box::pin(upload.take(&house.clock));
    for _ in 0..LOOKS {
        assert!((&mut second).now_or_never().is_none());
        pulse.fetch_add(1, Ordering::Relaxed);
        house.clock.advance(ABANDONED);
    }
    assert_eq!(second.now_or_never().unwrap().err(), Some(NotNow::Busy));
    assert!(held.wanted().now_or_never().is_none(), "it was not disturbed");
    let mut third = Box::pin(upload.take(&house.clock));
    assert!((&mut third).now_or_never().is_none());
    house.clock.advance(ABANDONED);
    assert!((&mut third).now_or_never().is_none());
    assert!(held.wanted().now_or_never().is_some(), "silent for too long");
    assert!(held.rest(at(3), "grown").is_none());
    let (third, progress, _) = third.now_or_never().unwrap().unwrap();
    assert_eq!(progress, at(3));
    assert!(third.moved(3));
}

#[test]
fn what_was_ended_while_somebody_wrote_comes_back_to_be_destroyed() {
    let house = house();
    let upload = house.begin();
    let held = house.take(&upload);
    assert!(upload.end().is_none(), "somebody has it");
    assert_eq!(held.rest(at(5), "grown"), Some("grown"));
    assert_eq!(upload.look(&house.clock).now_or_never(), Some(Err(NotNow::Over)));
    let other = house.begin();
    assert_eq!(other.end(), Some("grown"));
    let third = house.begin();
    let held = house.take(&third);
    assert!(third.end().is_none());
    assert!(!held.complete(third.id.file(), 10), "too late");
    let lost = house.begin();
    drop(house.take(&lost));
    assert_eq!(lost.take(&house.clock).now_or_never().unwrap().err(), Some(NotNow::Over));
}

#[test]
fn an_upload_exists_for_whoever_began_it_and_until_its_deadline() {
    let house = house();
    let upload = house.begin();
    let acme = TenantId::of(ACME);
    assert!(house.uploads.get(upload.id, acme, &who("k1")).is_some());
    assert!(house.uploads.get(upload.id, acme, &who("k2")).is_none());
    assert!(house.uploads.get(upload.id, TenantId::of("other"), &who("k1")).is_none());
    assert_eq!((house.uploads.open_of(&who("k1")), house.uploads.of(acme).len()), (1, 1));
    assert!(house.uploads.sweep(house.clock.now()).is_empty());
    house.clock.advance(Duration::from_secs(60));
    assert_eq!(house.uploads.sweep(house.clock.now()).len(), 1);
    assert!(house.uploads.get(upload.id, acme, &who("k1")).is_none());
    assert!(house.uploads.close().is_empty());
    assert!(house.uploads.begin(house.parts(), at(0), "late").is_err());
}
