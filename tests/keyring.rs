//! The kernel as dead-man's switch: nobody else reads an epoch key before its time, nobody at all
//! after it, and it dies with its process.
//!
//! The holder of the key is this very program, executed under another name. What is measured: a
//! same-uid process, a forked child and a program in a user namespace get EACCES for whatever they
//! try. Once the time is up, though the holder is stopped, a read from elsewhere is still EACCES
//! (the kernel asks for possession first), and every other call EKEYEXPIRED; so is the holder's own
//! next read. Once the holder is dead it is ENOKEY.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails loudly")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use dayfly::clock::{Clock, SystemClock, VirtualClock, Wall};
use dayfly::entropy::SystemEntropy;
use dayfly::file::Deadline;
use dayfly::keyring::{Held, KernelKeyring, Keyring, ProcessKeyring, Unusable};
use dayfly::secret::{Secret, Slab};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

const HOLDER: &str = "dayfly-holder-";
/// A uid that owns nothing, for what a non-root user meets.
const SOMEBODY: u32 = 64_321;

/// Deadlines a minute apart, up to 75 minutes.
const BUCKETS: u32 = 70;

const SETPERM: i32 = 5;
const DESCRIBE: i32 = 6;
const READ: i32 = 11;
const SET_TIMEOUT: i32 = 15;
const INVALIDATE: i32 = 21;

/// 0, or the error's number.
fn keyctl(call: i32, key: i32, argument: usize) -> i32 {
    let mut out = [0u8; 64];
    let (two, three) = match call {
        READ | DESCRIBE => (out.as_mut_ptr() as usize, out.len()),
        _ => (argument, 0),
    };
    // SAFETY: numbers, or a live buffer with its length.
    let done = unsafe { libc::syscall(libc::SYS_keyctl, call, key, two, three, 0usize) };
    if done >= 0 { 0 } else { std::io::Error::last_os_error().raw_os_error().unwrap() }
}

/// Everything somebody might try on a key of another's.
fn tries(key: i32) -> [(&'static str, i32); 5] {
    [
        ("read", keyctl(READ, key, 0)),
        ("describe", keyctl(DESCRIBE, key, 0)),
        ("extend", keyctl(SET_TIMEOUT, key, 3600)),
        ("permit", keyctl(SETPERM, key, 0x3f3f_3f3f)),
        ("invalidate", keyctl(INVALIDATE, key, 0)),
    ]
}

/// Runs `attempt` in a forked child and gives what it returned.
fn in_child(attempt: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child makes system calls alone, allocates nothing, and leaves by _exit.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let code = attempt();
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(code) };
    }
    let pid = Pid::from_raw(child).unwrap();
    let (_, status) = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
    status.exit_status().unwrap()
}

/// Waits a little, without an event to wait for: the kernel tells nobody when a key ends.
fn a_moment() {
    let moment = rustix::event::Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    rustix::event::poll(&mut [], Some(&moment)).unwrap();
}

/// What the holder does: keeps one key, or more than its quota has room for.
#[test]
fn holder() {
    let Some(name) = std::env::args().next().filter(|name| name.starts_with(HOLDER)) else {
        return;
    };
    match name.trim_start_matches(HOLDER).split_once('-') {
        Some(("one", life)) => hold_one(life.parse().unwrap()),
        Some(("many", others)) => hold_many(others.parse().unwrap()),
        _ => panic!("{name}"),
    }
}

fn keyring(clock: &VirtualClock) -> KernelKeyring {
    let ours = match ProcessKeyring::prepare() {
        Ok(ours) => ours,
        // Anything else is a key that the kernel took, and that did not behave.
        Err(why @ (Unusable::Missing | Unusable::Forbidden | Unusable::Quota)) => {
            println!("\nskipped {why}");
            std::process::exit(0);
        }
        Err(why) => panic!("{why}"),
    };
    KernelKeyring::new(ours, Arc::new(clock.clone()), Slab::lock().unwrap())
}

fn still() -> VirtualClock {
    VirtualClock::at(Wall::from_unix(Duration::from_secs(1_800_000_000)))
}

fn hold_one(life: u64) {
    let clock = still();
    let keyring = keyring(&clock);
    let deadline = Deadline::fix(clock.now(), Duration::from_secs(300)).unwrap();
    clock.advance(Duration::from_secs(300 - life));
    keyring.admit(deadline, &SystemEntropy).unwrap();
    let key = keyring.serial(deadline.epoch()).unwrap();
    println!("\nserial {key}");
    // A thread that comes later possesses it too; a child does not; nor does one that is root in
    // a user namespace of its own.
    let later = std::thread::scope(|scope| scope.spawn(|| keyctl(READ, key, 0)).join().unwrap());
    println!("thread {later}");
    println!("child {}", in_child(|| keyctl(READ, key, 0)));
    println!(
        "userns {}",
        in_child(|| {
            // SAFETY: changes this child alone.
            if unsafe { libc::unshare(libc::CLONE_NEWUSER) } != 0 {
                255
            } else {
                keyctl(READ, key, 0)
            }
        })
    );
    println!("extend {}", keyctl(SET_TIMEOUT, key, 3600));
    println!("self {}", keyctl(READ, key, 0));
    println!("ready 0");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let gone = keyring.read(deadline.epoch(), &mut Secret::zero()).is_err();
    println!("gone {}", i32::from(gone));
    println!("after {}", keyctl(READ, key, 0));
    println!("end 0");
}

fn hold_many(others: u32) {
    let clock = still();
    let keyring = keyring(&clock);
    // Buckets alone never use a quota up; what else the user keeps does.
    for other in 0..others {
        let name = std::ffi::CString::new(format!("other {other}")).unwrap();
        // SAFETY: two strings that end in NUL, and a byte to be read.
        let added = unsafe {
            let kind = c"user".as_ptr();
            libc::syscall(libc::SYS_add_key, kind, name.as_ptr(), [0u8; 1].as_ptr(), 1, -2)
        };
        assert!(added > 0);
    }
    let mut kept = Vec::new();
    for at in 0..BUCKETS {
        let ttl = Duration::from_secs(300 + 60 * u64::from(at));
        let deadline = Deadline::fix(clock.now(), ttl).unwrap();
        let bucket = keyring.admit(deadline, &SystemEntropy).unwrap();
        kept.push((deadline.epoch(), bucket.keeper));
    }
    let Held { kernel, memory } = keyring.held();
    println!("\nkernel {kernel}");
    println!("memory {memory}");
    let named = kept.iter().filter(|(_, keeper)| *keeper == "kernel").count();
    println!("named {named}");
    let mut out = Secret::zero();
    let read = kept.iter().filter(|(epoch, _)| keyring.read(*epoch, &mut out).is_ok()).count();
    println!("readable {read}");
    keyring.destroy_all();
    let left = kept.iter().filter(|(epoch, _)| keyring.read(*epoch, &mut out).is_ok()).count();
    println!("left {left}");
    println!("ready 0");
}

/// The holder, as its parent sees it. Killed on drop.
struct Holder {
    process: Child,
    stdin: ChildStdin,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Holder {
    #[expect(clippy::disallowed_methods, reason = "the test's other process is this program")]
    fn start(what: &str, uid: Option<u32>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg0(format!("{HOLDER}{what}")).args(["holder", "--exact", "--nocapture"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(uid) = uid {
            command.uid(uid).gid(uid);
        }
        let mut process = command.spawn().unwrap();
        let stdin = process.stdin.take().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, stdin, lines }
    }

    /// The next `word number` it says; `None` if the kernel keeps no keys here.
    fn said(&mut self, word: &str) -> Option<i32> {
        loop {
            let line = self.lines.next().expect("it speaks before it ends").unwrap();
            if let Some(why) = line.strip_prefix("skipped ") {
                println!("SKIPPED: {why}");
                return None;
            }
            if let Some(number) = line.strip_prefix(word) {
                return Some(number.trim().parse().unwrap());
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_stopped_holders_key_is_nobodys_before_its_time_and_the_kernel_ends_it() {
    const LIFE: u64 = 4;
    let mut holder = Holder::start("one-4", None);
    let Some(key) = holder.said("serial") else { return };
    let began = SystemClock.now().boot;
    assert_eq!(holder.said("thread"), Some(0), "a later thread of the holder reads it");
    assert_eq!(holder.said("child"), Some(libc::EACCES));
    match holder.said("userns") {
        Some(255) => println!("SKIPPED: no user namespaces here"),
        seen => assert_eq!(seen, Some(libc::EACCES)),
    }
    assert_eq!(holder.said("extend"), Some(libc::EACCES), "not even the holder puts it off");
    assert_eq!(holder.said("self"), Some(0), "and all these tries ended nothing");
    holder.said("ready").unwrap();
    holder.signal(Signal::STOP);
    for (what, errno) in tries(key) {
        assert_eq!(errno, libc::EACCES, "{what}, from another process of the same user");
    }
    // Who does not possess a key is refused before its end is looked at, and hears EACCES for ever;
    // but whoever wants to put the end off hears whether it has come.
    let mut seen = keyctl(SET_TIMEOUT, key, 3600);
    while seen == libc::EACCES {
        let waited = SystemClock.now().boot.since(began);
        assert!(waited < Duration::from_secs(LIFE + 1), "alive {waited:?} after it was made");
        a_moment();
        seen = keyctl(SET_TIMEOUT, key, 3600);
    }
    assert_eq!(seen, libc::EKEYEXPIRED, "ended while its holder is stopped");
    let lived = SystemClock.now().boot.since(began);
    assert!(lived >= Duration::from_secs(LIFE - 2), "ended early, after {lived:?}");
    let refused = [
        ("read", libc::EACCES),
        ("describe", libc::EKEYEXPIRED),
        ("extend", libc::EKEYEXPIRED),
        ("permit", libc::EKEYEXPIRED),
        ("invalidate", libc::EKEYEXPIRED),
    ];
    assert_eq!(tries(key), refused, "after its end, from elsewhere");
    holder.signal(Signal::CONT);
    holder.stdin.write_all(b"\n").unwrap();
    assert_eq!(holder.said("gone"), Some(1), "the holder's own keyring says Gone");
    assert_eq!(holder.said("after"), Some(libc::EKEYEXPIRED));
}

#[test]
fn a_killed_holders_key_goes_with_it() {
    let mut holder = Holder::start("one-200", None);
    let Some(key) = holder.said("serial") else { return };
    holder.said("ready").unwrap();
    assert_eq!(keyctl(READ, key, 0), libc::EACCES);
    holder.signal(Signal::KILL);
    holder.process.wait().unwrap();
    let began = SystemClock.now().boot;
    // The kernel collects it in the background; until then it stays nobody's.
    let mut seen = keyctl(READ, key, 0);
    while seen != libc::ENOKEY {
        assert_eq!(seen, libc::EACCES);
        assert!(SystemClock.now().boot.since(began) < Duration::from_secs(5));
        a_moment();
        seen = keyctl(READ, key, 0);
    }
}

#[test]
fn beyond_the_users_quota_keys_stay_in_memory_and_say_so() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: only root may become a user without keys");
        return;
    }
    let mut holder = Holder::start("many-150", Some(SOMEBODY));
    let Some(kernel) = holder.said("kernel") else { return };
    let (memory, buckets) = (holder.said("memory").unwrap(), BUCKETS.cast_signed());
    println!("{kernel} in the kernel, {memory} in memory");
    assert_eq!(kernel + memory, buckets);
    assert!(kernel > 0 && memory > 0, "a quota of 200 keys, 150 of them taken");
    assert_eq!(holder.said("named"), Some(kernel), "each bucket's keeper is told");
    assert_eq!(holder.said("readable"), Some(buckets));
    assert_eq!(holder.said("left"), Some(0));
}
