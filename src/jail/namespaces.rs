//! Namespaces of the zygote's own, which workers and programs are born into.

use std::io;

use rustix::fs::{Mode, OFlags, open, stat};
use rustix::process::{DumpableBehavior, getegid, geteuid, set_dumpable_behavior};

/// Nobody, everywhere.
const NOBODY: u32 = 65_534;

/// Leaves the gateway's user, network, mounts, IPC and host name. Called while the zygote may
/// still be dumped: the kernel lets nobody else write its own user map.
///
/// # Errors
/// When the kernel, or whoever confines this whole container, refuses. Workers then live where the
/// gateway lives, and say so.
pub(super) fn enter() -> io::Result<()> {
    leave_root();
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let all = libc::CLONE_NEWUSER
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS;
    // SAFETY: touches no memory; this process has one thread.
    if unsafe { libc::unshare(all) } != 0 {
        return Err(io::Error::last_os_error());
    }
    tell("/proc/self/setgroups", "deny")?;
    tell("/proc/self/uid_map", &format!("{NOBODY} {uid} 1"))?;
    tell("/proc/self/gid_map", &format!("{NOBODY} {gid} 1"))
}

/// Root becomes nobody: limits on processes do not hold for root, and neither do file modes.
/// Where that cannot be, or would make this program unreadable, workers are held by the other
/// walls alone.
fn leave_root() {
    let readable = stat("/proc/self/exe").is_ok_and(|about| about.st_mode & 0o005 == 0o005);
    if !geteuid().is_root() || !readable {
        return;
    }
    // SAFETY: these touch no memory (no group is read from the null pointer); this process has one
    // thread.
    let left = unsafe {
        libc::setgroups(0, std::ptr::null()) == 0
            && libc::setresgid(NOBODY, NOBODY, NOBODY) == 0
            && libc::setresuid(NOBODY, NOBODY, NOBODY) == 0
    };
    if left {
        // A change of user makes a process undumpable. It holds nothing yet, and becomes so again.
        let _ = set_dumpable_behavior(DumpableBehavior::Dumpable);
    }
}

fn tell(path: &str, words: &str) -> io::Result<()> {
    let file = open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, words.as_bytes())?;
    Ok(())
}
