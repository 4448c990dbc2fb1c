//! The walls a worker puts up around itself before it reads its first byte.
//!
//! It is told which ones are wanted, and its first byte on stdout says which ones stand. The
//! gateway feeds nothing to a worker that says less than was wanted. Only our own code has run
//! then, so the word can be believed; nothing the worker says later is.

use std::io;

use landlock::{
    ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetError, RulesetStatus, Scope,
};
use rustix::process::{Resource, Rlimit, getpid, setrlimit};

use super::filter;
use crate::secret::forbid_dumps;

/// Layers of confinement. Limits, the empty environment and the closed descriptors are no part of
/// this: they hold everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walls {
    /// No file, no TCP port, and where the kernel knows how, no signal and no abstract socket
    /// beyond the worker itself.
    pub landlock: bool,
    /// A list of system calls; any other one ends the process.
    pub seccomp: bool,
    /// User, process, network, mount, IPC and host name namespaces of the workers' own.
    pub namespaces: bool,
}

impl Walls {
    pub const ALL: Self = Self { landlock: true, seccomp: true, namespaces: true };
    pub const NONE: Self = Self { landlock: false, seccomp: false, namespaces: false };

    pub(super) const fn bits(self) -> u8 {
        self.landlock as u8 | (self.seccomp as u8) << 1 | (self.namespaces as u8) << 2
    }

    pub(super) const fn from_bits(bits: u8) -> Self {
        Self { landlock: bits & 1 != 0, seccomp: bits & 2 != 0, namespaces: bits & 4 != 0 }
    }

    /// Whether every wall of `wanted` is among these.
    #[must_use]
    pub const fn include(self, wanted: Self) -> bool {
        self.bits() & wanted.bits() == wanted.bits()
    }
}

/// The walls named by the program's second argument; none if there is no such word.
fn wanted() -> Walls {
    let word = std::env::args_os().nth(1);
    let bits = word.and_then(|word| word.to_str().and_then(|word| word.parse().ok()));
    Walls::from_bits(bits.unwrap_or(0))
}

/// The first thing a worker does: nobody may read its memory, it may open nothing more, and the
/// walls go up. Says so on stdout.
///
/// # Errors
/// When the kernel refuses what it never may; the worker must then end.
pub fn settle_worker() -> io::Result<()> {
    settle(wanted(), |_| {}).map(drop)
}

/// A probe's whole life: puts up every wall and runs against each.
pub(super) fn probe() -> io::Result<()> {
    let filtered = settle(Walls::ALL, |standing| {
        let root = rustix::fs::open("/", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty());
        standing.landlock &= root.is_err();
    })?;
    if filtered.seccomp {
        // The filter ends the process here. If this returns, there is no filter.
        // SAFETY: makes a socket and touches no memory.
        unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) };
        say(NO_FILTER)?;
    }
    Ok(())
}

/// What a probe says after its first byte if it is still there.
const NO_FILTER: u8 = b'!';

fn settle(wanted: Walls, test: impl FnOnce(&mut Walls)) -> io::Result<Walls> {
    forbid_dumps()?;
    let mut standing = Walls::NONE;
    // The first process of its own process namespace, which the zygote made with all the others.
    standing.namespaces = wanted.namespaces && getpid().as_raw_nonzero().get() == 1;
    // In memory before the first descriptor is refused and the first call forbidden.
    let program = if wanted.seccomp { filter::worker() } else { None };
    standing.landlock = wanted.landlock && enter_landlock().unwrap_or(false);
    test(&mut standing);
    setrlimit(Resource::Nofile, Rlimit { current: Some(3), maximum: Some(3) })?;
    if let Some(program) = program {
        standing.seccomp = seccompiler::apply_filter(&program).is_ok();
    }
    say(standing.bits())?;
    Ok(standing)
}

fn say(byte: u8) -> io::Result<()> {
    rustix::io::write(rustix::stdio::stdout(), &[byte])?;
    Ok(())
}

/// Every right there is, handled and none granted. False where the kernel has no landlock.
fn enter_landlock() -> Result<bool, RulesetError> {
    const NEWEST: ABI = ABI::V6;
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .restrict_self()?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walls_travel_as_bits() {
        for bits in 0..8 {
            assert_eq!(Walls::from_bits(bits).bits(), bits);
            assert!(Walls::ALL.include(Walls::from_bits(bits)));
            assert_eq!(Walls::from_bits(bits).include(Walls::ALL), bits == 7);
        }
    }
}
