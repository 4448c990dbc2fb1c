//! `dayfly drain`: asks the gateway on this machine to take nothing new in, and sees it out.
//!
//! The request is a signal, so it needs no key and no listener, and the kernel says who may send
//! it. Before it is sent the process is pinned, and must be a gateway that waits for this signal:
//! a number that was given to another process meanwhile is never signalled.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::disk;

/// The name the kernel shows of a gateway, and of its zygote; workers are called otherwise.
const COMM: &str = "dayfly";

/// Why nobody was asked.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    #[error("no gateway of this user runs here")]
    Nobody,
    #[error("several gateways of this user run here: say which with --pid ({0})")]
    Several(String),
    #[error("process {0} is no gateway of this user that is ready to be drained")]
    Stranger(i32),
    #[error("the gateway cannot be reached: {0}")]
    Refused(#[from] io::Error),
}

/// A gateway, held by a descriptor that never names another process.
#[derive(Debug)]
pub struct Running {
    pub pid: i32,
    process: OwnedFd,
}

impl Running {
    /// The gateway with this number; without one, the only one there is.
    ///
    /// # Errors
    /// When there is none, or more than one to choose from.
    pub fn find(pid: Option<i32>) -> Result<Self, DrainError> {
        if let Some(pid) = pid {
            return Self::open(pid).ok_or(DrainError::Stranger(pid));
        }
        let entries = std::fs::read_dir("/proc")?.filter_map(Result::ok);
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let mut found: Vec<Self> = pids.filter_map(Self::open).collect();
        match (found.pop(), found.is_empty()) {
            (None, _) => Err(DrainError::Nobody),
            (Some(only), true) => Ok(only),
            (Some(last), false) => {
                found.push(last);
                let pids: Vec<String> = found.iter().map(|one| one.pid.to_string()).collect();
                Err(DrainError::Several(pids.join(", ")))
            }
        }
    }

    /// Pins the process first and looks at it then, so that both are of the same one.
    fn open(pid: i32) -> Option<Self> {
        let process = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        let status = disk::read_text(&PathBuf::from(format!("/proc/{pid}/status"))).ok()?;
        let us = rustix::process::geteuid().as_raw();
        waits_for_it(&status, us).then_some(Self { pid, process })
    }

    /// Asks it to take nothing new in.
    ///
    /// # Errors
    /// When the kernel does not let the signal through.
    pub fn ask(&self) -> Result<(), DrainError> {
        Ok(pidfd_send_signal(&self.process, Signal::USR1).map_err(io::Error::from)?)
    }

    /// Returns when the process has ended.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub fn see_out(&self) -> Result<(), DrainError> {
        let mut ended = [PollFd::new(&self.process, PollFlags::IN)];
        loop {
            match poll(&mut ended, None) {
                Err(rustix::io::Errno::INTR) => {}
                polled => return Ok(polled.map(drop).map_err(io::Error::from)?),
            }
        }
    }
}

/// Whether /proc/pid/status is that of our user's gateway with a handler for the signal. Anybody
/// without one (a zygote, another program) would die of it or miss it.
fn waits_for_it(status: &str, us: u32) -> bool {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.strip_prefix(':')?.trim())
    };
    let named = field("Name") == Some(COMM);
    let ours = field("Uid").and_then(|ids| ids.split_whitespace().nth(1)?.parse().ok()) == Some(us);
    let caught = field("SigCgt").and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0);
    named && ours && caught & (1 << (Signal::USR1.as_raw() - 1)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_gateway_that_waits_for_the_signal_is_asked() {
        let status = |name: &str, uid: u32, caught: &str| {
            format!("Name:\t{name}\nState:\tS\nUid:\t0\t{uid}\t0\t0\nSigCgt:\t{caught}\n")
        };
        let ready = "0000000000000200";
        assert!(waits_for_it(&status("dayfly", 7, ready), 7));
        assert!(!waits_for_it(&status("dayfly", 7, ready), 8), "another user's");
        assert!(!waits_for_it(&status("bash", 7, ready), 7), "another program");
        assert!(!waits_for_it(&status("dayfly", 7, "0000000000000100"), 7), "it would die of it");
        assert!(!waits_for_it("Name:\tdayfly\n", 0), "nothing is known of it");
    }
}
