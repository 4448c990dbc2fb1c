//! The kernel's own keyring, where this machine has one.

use std::time::Duration;

use super::*;
use crate::clock::{SystemClock, VirtualClock, Wall};

const START: u64 = 1_800_000_000;

/// A keyring of this test's thread and its children, or a loud word that there is none.
#[expect(clippy::print_stdout, reason = "what is not tested is said aloud")]
pub(in crate::keyring) fn keyring(clock: Arc<dyn Clock>) -> Option<KernelKeyring> {
    match ProcessKeyring::prepare() {
        Ok(ours) => Some(KernelKeyring::new(ours, clock, Slab::lock_at_most(256 << 10).unwrap())),
        // Anything else is a key that the kernel took, and that did not behave.
        Err(why @ (Unusable::Missing | Unusable::Forbidden | Unusable::Quota)) => {
            println!("SKIPPED: the kernel keeps no keys here: {why}");
            None
        }
        Err(why) => panic!("{why}"),
    }
}

fn soon(clock: &VirtualClock, left: u64) -> Deadline {
    let deadline = Deadline::fix(clock.now(), Duration::from_secs(300)).unwrap();
    clock.advance(Duration::from_secs(300 - left));
    deadline
}

fn still() -> VirtualClock {
    VirtualClock::at(Wall::from_unix(Duration::from_secs(START)))
}

#[test]
fn every_later_thread_reads_the_key_and_an_earlier_one_never_does() {
    let (ask, asked) = std::sync::mpsc::channel::<(Arc<KernelKeyring>, Epoch)>();
    std::thread::scope(|scope| {
        let earlier = scope.spawn(move || {
            let (keyring, epoch) = asked.recv().ok()?;
            Some(keyring.read(epoch, &mut Secret::zero()))
        });
        let clock = still();
        let Some(keyring) = keyring(Arc::new(clock.clone())) else { return drop(ask) };
        let keyring = Arc::new(keyring);
        let deadline = soon(&clock, 200);
        let bucket = keyring.admit(deadline, &SystemEntropy);
        assert_eq!(bucket, Ok(Admitted { keeper: "kernel", ends: deadline }));
        let epoch = deadline.epoch();
        let read = move |keyring: &KernelKeyring| {
            let mut out = Secret::zero();
            keyring.read(epoch, &mut out).map(|()| *out.expose())
        };
        let here = read(&keyring).unwrap();
        assert_ne!(here, [0; 32]);
        let later = keyring.clone();
        assert_eq!(scope.spawn(move || read(&later)).join().unwrap(), Ok(here));
        ask.send((keyring, epoch)).unwrap();
        assert_eq!(earlier.join().unwrap(), Some(Err(Gone)));
    });
}

#[test]
fn permissions_are_the_possessors_alone_and_the_timeout_stands() {
    let clock = still();
    let Some(keyring) = keyring(Arc::new(clock.clone())) else { return };
    let deadline = soon(&clock, 100);
    keyring.admit(deadline, &SystemEntropy).unwrap();
    let serial = Serial(keyring.serial(deadline.epoch()).unwrap());
    assert_eq!(keyctl::permissions(serial), Ok(POSSESSOR_ONLY));
    assert_eq!(keyctl::set_timeout(serial, 1000), Err(Errno::ACCESS), "it cannot be put off");
    assert_eq!(keyctl::set_permissions(serial, 0x3f3f_0000), Err(Errno::ACCESS));
    let line = described(serial);
    assert!(line.contains(" 0b000000 "), "{line}");
    let timeout = line.split_whitespace().nth(3).unwrap().to_owned();
    assert!(["99s", "1m"].contains(&timeout.as_str()), "{timeout}");
    keyring.destroy_all();
    is_collected(serial);
    assert_eq!(keyring.held(), Held::default());
}

/// Unreadable from now on, and soon unknown to the kernel, which has then zeroed it.
fn is_collected(serial: Serial) {
    loop {
        match keyctl::read(serial, &mut Secret::zero()) {
            Err(Errno::NOKEY) => return,
            Err(Errno::ACCESS) => std::thread::yield_now(),
            other => panic!("{other:?}"),
        }
    }
}

/// A key's line in /proc/keys, which shows what the reader may view.
fn described(serial: Serial) -> String {
    let table = crate::disk::read_text("/proc/keys".as_ref()).unwrap();
    let number = format!("{:08x} ", serial.0);
    table.lines().find(|line| line.starts_with(&number)).unwrap_or_default().to_owned()
}

#[test]
fn the_kernel_ends_a_key_with_its_bucket_though_nobody_sweeps() {
    let clock = still();
    let Some(keyring) = keyring(Arc::new(clock.clone())) else { return };
    let deadline = soon(&clock, 2);
    let second = loop {
        let second = SystemClock.now().wall.unix_seconds();
        keyring.admit(deadline, &SystemEntropy).unwrap();
        if SystemClock.now().wall.unix_seconds() == second {
            break second;
        }
        // The second changed meanwhile: nobody knows which one the kernel has counted from.
        keyring.destroy_all();
    };
    // The kernel's own second follows with a tick.
    let (end, tick) = (Duration::from_secs(second + 2), Duration::from_millis(20));
    let mut out = Secret::zero();
    loop {
        let before = SystemClock.now().wall.since_epoch();
        if keyring.read(deadline.epoch(), &mut out).is_err() {
            break;
        }
        assert!(before < end + tick, "it outlived its bucket by {:?}", before - end);
        std::thread::yield_now();
    }
    assert!(SystemClock.now().wall.since_epoch() >= end, "it ended before its bucket");
    // Held until the sweep, which takes an expired key out of the keyring too.
    let serial = Serial(keyring.serial(deadline.epoch()).unwrap());
    assert_eq!(keyctl::read(serial, &mut out), Err(Errno::KEYEXPIRED));
    clock.advance(Duration::from_secs(2));
    assert_eq!(keyring.sweep(clock.now()), [deadline.epoch()]);
    is_collected(serial);
}

#[test]
fn seconds_are_counted_to_the_first_end_and_never_past_it() {
    let deadline = Deadline::fix(still().now(), Duration::from_secs(300)).unwrap();
    let at = |wall_ms: u64, boot_ms: u64| {
        let (start, clock) = (Duration::from_secs(START), still());
        clock.advance(Duration::from_millis(boot_ms));
        clock.step_wall(Wall::from_unix(start + Duration::from_millis(wall_ms)));
        seconds_left(deadline, clock.now())
    };
    assert_eq!(at(0, 0), 300);
    // The kernel adds to its whole second: 0 s + 300 s, though only 299.1 s are left.
    assert_eq!(at(900, 900), 300);
    assert_eq!(at(299_999, 299_999), 1);
    assert_eq!(at(300_000, 300_000), 0);
    // Set back by 100 s: the boot clock decides. Set forward: the wall clock does.
    assert_eq!(at(0, 100_000), 200);
    assert_eq!(at(100_000, 0), 200);
    // Two readings a moment apart cost no second; a whole second apart they do.
    assert_eq!(at(900, 930), 300);
    assert_eq!(at(900, 1_900), 299);
}

#[test]
fn a_bucket_that_is_over_gets_no_key() {
    let clock = still();
    let Some(keyring) = keyring(Arc::new(clock.clone())) else { return };
    let deadline = soon(&clock, 0);
    let refused = keyring.admit(deadline, &SystemEntropy);
    assert_eq!((refused, keyring.held().all()), (Err(KeyringError::Gone(Gone)), 0));
}
