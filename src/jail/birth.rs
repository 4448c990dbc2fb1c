//! How the zygote brings a process into the world: cloned, limited, and executed afresh.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};

/// Everything a process starts with.
pub(super) struct Birth<'a> {
    pub program: &'a CStr,
    pub arguments: &'a [CString],
    /// Its descriptors, from 0 on; it has no others.
    pub fds: &'a [BorrowedFd<'a>],
    pub limits: &'a [(Resource, u64)],
    /// Whether it is the first process of a process namespace of its own.
    pub apart: bool,
    /// Whether signals mean what they usually mean; if not, most are ignored.
    pub usual_signals: bool,
    /// The zygote itself: a process that is born after its death ends at once.
    pub parent: BorrowedFd<'a>,
}

/// Descriptors are first moved above these, so that none is overwritten while they take their
/// places.
const ABOVE: RawFd = 64;

/// The most descriptors a process starts with.
const MOST_FDS: usize = 8;

impl Birth<'_> {
    /// The new process's pidfd. Whether its program could be executed shows in what it says.
    pub(super) fn give(&self) -> io::Result<OwnedFd> {
        let arguments = pointers(self.arguments);
        let nothing = [std::ptr::null()];
        if self.apart
            && let Ok(pidfd) = self.clone_process(libc::CLONE_NEWPID, &arguments, &nothing)
        {
            return Ok(pidfd);
        }
        self.clone_process(0, &arguments, &nothing)
    }

    fn clone_process(
        &self,
        flags: libc::c_int,
        arguments: &[*const libc::c_char],
        environment: &[*const libc::c_char],
    ) -> io::Result<OwnedFd> {
        let flags = flags | libc::CLONE_PIDFD | libc::SIGCHLD;
        let (flags, none) = (i64::from(flags), 0i64);
        let mut pidfd: RawFd = -1;
        // SAFETY: without CLONE_VM this is fork: the child has a copy of everything, and this
        // process has one thread, so the copy is whole. The kernel writes one pidfd.
        let child =
            unsafe { libc::syscall(libc::SYS_clone, flags, none, &raw mut pidfd, none, none) };
        match child {
            0 => {
                let _ = self.prepare();
                // SAFETY: both arrays end in a null pointer, and each string in a zero byte.
                unsafe {
                    libc::execve(self.program.as_ptr(), arguments.as_ptr(), environment.as_ptr());
                    libc::_exit(127)
                }
            }
            // SAFETY: the kernel has just opened it for this process.
            1.. => Ok(unsafe { OwnedFd::from_raw_fd(pidfd) }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// In the child, before its program. An error ends it.
    fn prepare(&self) -> io::Result<()> {
        let done = self.confine();
        if done.is_err() {
            // SAFETY: ends this process, which nobody has seen yet.
            unsafe { libc::_exit(126) }
        }
        done
    }

    fn confine(&self) -> io::Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        let mut parent = [PollFd::from_borrowed_fd(self.parent, PollFlags::IN)];
        if poll(&mut parent, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? > 0 {
            // It died before the first line: nobody would kill this process any more.
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        rustix::thread::set_no_new_privs(true)?;
        self.place_descriptors()?;
        for (resource, limit) in self.limits {
            let limit = Rlimit { current: Some(*limit), maximum: Some(*limit) };
            setrlimit(*resource, limit)?;
        }
        if self.usual_signals {
            for signal in super::zygote::IGNORED.into_iter().chain([libc::SIGPIPE]) {
                // SAFETY: SIG_DFL installs no handler.
                unsafe { libc::signal(signal, libc::SIG_DFL) };
            }
        }
        Ok(())
    }

    fn place_descriptors(&self) -> io::Result<()> {
        let mut above = [-1; MOST_FDS];
        for (place, fd) in above.iter_mut().zip(self.fds) {
            *place = rustix::io::fcntl_dupfd_cloexec(fd, ABOVE)?.into_raw_fd();
        }
        let mut count = 0;
        for from in above.into_iter().take(self.fds.len()) {
            // SAFETY: touches no memory, and every descriptor of this child is to be replaced.
            if unsafe { libc::dup2(from, count) } != count {
                return Err(io::Error::last_os_error());
            }
            count += 1;
        }
        // SAFETY: touches no memory; nothing here uses a descriptor afterwards.
        let closed = unsafe { libc::syscall(libc::SYS_close_range, count, libc::c_uint::MAX, 0) };
        if closed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// As execve wants them.
fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    let pointers = strings.iter().map(|string| string.as_ptr());
    pointers.chain([std::ptr::null()]).collect()
}
