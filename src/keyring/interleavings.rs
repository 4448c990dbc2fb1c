//! Readers against destroyers: loom runs the gate through every order that threads can take.

use std::sync::PoisonError;
use std::time::Duration;

use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use loom::sync::{Arc, RwLock};
use loom::thread;

use crate::clock::{Boot, Now, Wall};
use crate::file::Deadline;

#[expect(clippy::duplicate_mod, reason = "the same gate, over loom's lock")]
#[path = "gate.rs"]
mod gate;

use gate::{Era, Gate};

const START: u64 = 1_800_000_000;
const TTL: Duration = Duration::from_secs(100);
/// Runs of chunks in the file that is read.
const RUNS: usize = 2;

/// A secret that says whether it was wiped, like a slot of the slab.
struct Slot(Arc<AtomicBool>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[derive(Clone)]
struct World {
    gate: Arc<Gate<Slot, u32>>,
    wiped: Arc<AtomicBool>,
    /// Set once a destroyer has returned.
    destroyed: Arc<AtomicBool>,
    /// Seconds since the start, on both clocks.
    seconds: Arc<AtomicU64>,
}

impl World {
    fn new() -> Self {
        let wiped = Arc::new(AtomicBool::new(false));
        let deadline = Deadline::fix(at(0), TTL).unwrap();
        Self {
            gate: Arc::new(Gate::new(Slot(wiped.clone()), deadline)),
            wiped,
            destroyed: Arc::new(AtomicBool::new(false)),
            seconds: Arc::new(AtomicU64::new(0)),
        }
    }

    fn now(&self) -> Now {
        at(self.seconds.load(Ordering::SeqCst))
    }

    /// Opens the file run by run; how many runs came out.
    fn read(&self) -> usize {
        for run in 0..RUNS {
            let destroyed = self.destroyed.load(Ordering::SeqCst);
            let opened = self.gate.pass(
                || self.now(),
                |_| {
                    assert!(!self.wiped.load(Ordering::SeqCst), "opened without a secret");
                    let gone = self.wiped.load(Ordering::SeqCst);
                    assert!(!gone, "the secret went while a run was being opened");
                    let returned = self.destroyed.load(Ordering::SeqCst);
                    assert!(!returned, "destroy returned while a run was being opened");
                },
            );
            if opened.is_none() {
                return run;
            }
            assert!(!destroyed, "plaintext after destroy returned");
        }
        RUNS
    }

    fn destroy(&self, proof: u32) -> u32 {
        let proof = self.gate.close(|_| proof);
        assert!(self.wiped.load(Ordering::SeqCst), "a proof, and the secret is still there");
        self.destroyed.store(true, Ordering::SeqCst);
        proof
    }
}

fn at(seconds: u64) -> Now {
    Now {
        wall: Wall::from_unix(Duration::from_secs(START + seconds)),
        boot: Boot::from_start(Duration::from_secs(seconds)),
    }
}

/// Every order with up to three interruptions of a thread that could go on: without a bound it
/// would take hours.
fn every_order(world: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(world);
}

#[test]
fn a_reader_gets_the_whole_file_or_gone_and_nothing_after_destroy_returned() {
    every_order(|| {
        let world = World::new();
        let (reader, destroyer) = (world.clone(), world.clone());
        let reader = thread::spawn(move || reader.read());
        let destroyer = thread::spawn(move || destroyer.destroy(1));
        let here = world.read();
        assert!(here <= RUNS && reader.join().unwrap() <= RUNS);
        assert_eq!(destroyer.join().unwrap(), 1);
        assert_eq!(world.read(), 0, "closed for good");
    });
}

#[test]
fn of_two_destroyers_the_first_one_counts_and_both_know_it() {
    every_order(|| {
        let world = World::new();
        let (reader, destroyer) = (world.clone(), world.clone());
        let reader = thread::spawn(move || reader.read());
        let destroyer = thread::spawn(move || destroyer.destroy(1));
        let here = world.destroy(2);
        assert_eq!(here, destroyer.join().unwrap());
        assert!(reader.join().unwrap() <= RUNS);
        assert!(world.gate.deadline().is_none());
    });
}

#[test]
fn nothing_opens_after_a_deadline_that_was_brought_forward_or_has_come() {
    every_order(|| {
        let world = World::new();
        let (reader, shortener) = (world.clone(), world.clone());
        let reader = thread::spawn(move || reader.read());
        let shortener =
            thread::spawn(move || shortener.gate.shorten(at(0), Duration::from_secs(1)).is_some());
        world.seconds.store(1, Ordering::SeqCst);
        let shortened = shortener.join().unwrap();
        assert!(shortened, "it was not closed");
        assert_eq!(world.read(), 0, "due, though nobody has destroyed it");
        assert!(reader.join().unwrap() <= RUNS);
        assert_eq!(world.destroy(3), 3);
        assert!(world.gate.shorten(at(0), TTL).is_none(), "nothing revives it");
        assert!(world.gate.pass(|| at(0), |_| ()).is_none());
    });
}

#[test]
fn nobody_is_inside_once_an_era_has_ended_and_nobody_comes_in() {
    every_order(|| {
        let (world, era) = (World::new(), Arc::new(Era::first()));
        let ended = Arc::new(AtomicBool::new(false));
        let open = |world: World, era: Arc<Era>, ended: Arc<AtomicBool>| {
            let before = ended.load(Ordering::SeqCst);
            let opened = world.gate.pass(
                || at(0),
                |_| {
                    era.during(0, || {
                        let early = !ended.load(Ordering::SeqCst);
                        thread::yield_now();
                        assert!(early && !ended.load(Ordering::SeqCst), "opened after the end");
                    })
                },
            );
            assert!(!(before && opened.flatten().is_some()), "let in after the end");
        };
        let (there, of, over) = (world.clone(), era.clone(), ended.clone());
        let reader = thread::spawn(move || open(there, of, over));
        let (there, destroyer) = (world.clone(), world.clone());
        let destroyer = thread::spawn(move || destroyer.destroy(1));
        era.end();
        ended.store(true, Ordering::SeqCst);
        open(there, era.clone(), ended);
        assert_eq!(era.number(), 1);
        reader.join().unwrap();
        assert_eq!(destroyer.join().unwrap(), 1);
    });
}
