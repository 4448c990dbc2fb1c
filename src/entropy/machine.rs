//! Whether this machine is still the one that drew our keys (VAULT.md, rule 6).
//!
//! A virtual machine that is copied, or restored from a snapshot, gets a new generation id. Linux
//! shows the id to nobody; since 6.10 it announces a change (`NEW_VMGENID=1`, a uevent) right after
//! it has reseeded its own random source. Asking whether one has come is one system call on a
//! socket that does not wait. Elsewhere, and in a network namespace that a user namespace owns, no
//! change is ever seen: that is one of the limits VAULT.md names.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recvfrom, socket_with};

/// The kernel's own announcements.
const KERNEL: u32 = 1;
/// A uevent is at most 2 KiB of text with its head.
const LARGEST: usize = 8 << 10;
const NEWS: &[u8] = b"\0NEW_VMGENID=1\0";

/// Knows whether the machine was copied or restored.
pub trait Machine: Send + Sync + 'static {
    /// Whether it has become another since the last question. Cheap: asked at every request.
    fn is_another(&self) -> bool;
}

/// Listens to the kernel.
pub struct SystemMachine {
    events: Option<OwnedFd>,
}

impl SystemMachine {
    /// Begins to listen; where the kernel does not allow it, no change will be seen.
    #[must_use]
    pub fn listen() -> Self {
        let open = || {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let (family, kind) = (AddressFamily::NETLINK, SocketType::DGRAM);
            let socket = socket_with(family, kind, flags, Some(KOBJECT_UEVENT))?;
            bind(&socket, &SocketAddrNetlink::new(0, KERNEL))?;
            Ok::<_, Errno>(socket)
        };
        Self { events: open().ok() }
    }

    /// Whether changes are seen at all.
    #[must_use]
    pub const fn is_heard(&self) -> bool {
        self.events.is_some()
    }
}

impl Machine for SystemMachine {
    fn is_another(&self) -> bool {
        let Some(events) = &self.events else { return false };
        let mut text = [0; LARGEST];
        loop {
            match recvfrom(events, &mut text, RecvFlags::empty()) {
                Ok((length, _, from)) => {
                    let from = from.and_then(|from| SocketAddrNetlink::try_from(from).ok());
                    // Number 0 is the kernel; a program may speak to this group too.
                    let kernels = from.is_some_and(|from| from.pid() == 0);
                    if kernels && tells(text.get(..length).unwrap_or_default()) {
                        return true;
                    }
                }
                Err(Errno::INTR) => {}
                // Nothing more has come; or so much that some of it was dropped (NOBUFS), which
                // takes hundreds of events within a second: then the next ones are looked at.
                Err(_) => return false,
            }
        }
    }
}

fn tells(event: &[u8]) -> bool {
    event.windows(NEWS.len()).any(|part| part == NEWS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::print_stdout, reason = "what is not tested is said aloud")]
    fn nothing_has_happened_and_only_the_one_event_counts() {
        let machine = SystemMachine::listen();
        if !machine.is_heard() {
            println!("SKIPPED: no uevents here");
        }
        assert!(!machine.is_another());
        let event = |key: &str| format!("change@/devices/x\0ACTION=change\0{key}=1\0SEQNUM=7\0");
        assert!(tells(event("NEW_VMGENID").as_bytes()));
        assert!(!tells(event("OLD_VMGENID").as_bytes()));
        assert!(!tells(event("SYNTH_ARG_NEW_VMGENID").as_bytes()));
    }
}
