//! The two lists of system calls: what a worker may ask of the kernel, and what a program may.
//!
//! The worker's was measured: what the processors do over the whole corpus once they have started,
//! and what memory, panics and stack overflows need. Any other call ends the process. A program is
//! somebody else's, and starts others: its list is longer, and what it lacks looks like an older
//! kernel (ENOSYS), so that a program that only tries goes on.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// Compares one argument of a call.
type Test = (u8, SeccompCmpOp, u64);

/// Calls of a worker without a condition.
const WORKER: &[c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_sched_yield,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// The filter of a worker; `None` on an architecture that has none here.
pub(super) fn worker() -> Option<BpfProgram> {
    let mut rules = plain(WORKER);
    let exec = || (2, SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64), 0);
    // Memory, but none that can be run.
    only(&mut rules, libc::SYS_mmap, &[&[exec()]])?;
    only(&mut rules, libc::SYS_mprotect, &[&[exec()]])?;
    // Questions about itself.
    let equal = |at, value: libc::c_int| (at, SeccompCmpOp::Eq, value.cast_unsigned().into());
    let asks: [&[Test]; 2] = [&[equal(1, libc::F_GETFD)], &[equal(1, libc::F_GETFL)]];
    only(&mut rules, libc::SYS_fcntl, &asks)?;
    let asks: [&[Test]; 2] =
        [&[equal(0, libc::PR_GET_DUMPABLE)], &[equal(0, libc::PR_GET_NO_NEW_PRIVS)]];
    only(&mut rules, libc::SYS_prctl, &asks)?;
    let own_limits = [(0, SeccompCmpOp::Eq, 0), (2, SeccompCmpOp::Eq, 0)];
    only(&mut rules, libc::SYS_prlimit64, &[&own_limits])?;
    compiled(rules, SeccompAction::KillProcess)
}

/// The filter of a program, as bytes for bubblewrap.
pub(super) fn program() -> Option<Vec<u8>> {
    let mut rules = plain(PROGRAM);
    #[cfg(target_arch = "x86_64")]
    rules.extend(plain(PROGRAM_X86_64));
    #[cfg(target_arch = "aarch64")]
    rules.extend(plain(PROGRAM_AARCH64));
    // Children and threads, but no namespaces. clone3 hides its flags in memory: it is missing.
    let namespaces = libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET;
    let none = (0, SeccompCmpOp::MaskedEq(namespaces.cast_unsigned().into()), 0);
    only(&mut rules, libc::SYS_clone, &[&[none]])?;
    // Its own limits alone.
    only(&mut rules, libc::SYS_prlimit64, &[&[(0, SeccompCmpOp::Eq, 0)]])?;
    // Nothing is typed into a terminal.
    let not = |request: u64| (1, SeccompCmpOp::Ne, request);
    only(&mut rules, libc::SYS_ioctl, &[&[not(libc::TIOCSTI), not(TIOCLINUX)]])?;
    let local = (0, SeccompCmpOp::Eq, libc::AF_UNIX.cast_unsigned().into());
    only(&mut rules, libc::SYS_socketpair, &[&[local]])?;
    let missing = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    let program = compiled(rules, missing)?;
    let bytes = |step: &seccompiler::sock_filter| {
        let mut bytes = [0; 8];
        bytes[..2].copy_from_slice(&step.code.to_ne_bytes());
        bytes[2..4].copy_from_slice(&[step.jt, step.jf]);
        bytes[4..].copy_from_slice(&step.k.to_ne_bytes());
        bytes
    };
    Some(program.iter().flat_map(bytes).collect())
}

const TIOCLINUX: u64 = 0x541c;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn plain(calls: &[c_long]) -> Rules {
    calls.iter().map(|call| (*call, Vec::new())).collect()
}

/// Allows a call where all tests of one of `ways` hold.
fn only(rules: &mut Rules, call: c_long, ways: &[&[Test]]) -> Option<()> {
    let rule = |tests: &&[Test]| {
        let tests = tests.iter().map(|(at, how, value)| {
            SeccompCondition::new(*at, SeccompCmpArgLen::Dword, how.clone(), *value)
        });
        SeccompRule::new(tests.collect::<Result<_, _>>().ok()?).ok()
    };
    rules.insert(call, ways.iter().map(rule).collect::<Option<_>>()?);
    Some(())
}

fn compiled(rules: Rules, otherwise: SeccompAction) -> Option<BpfProgram> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).ok()?;
    SeccompFilter::new(rules, otherwise, SeccompAction::Allow, arch).ok()?.try_into().ok()
}

/// Calls of a program without a condition, on every architecture. Not here, on purpose: sockets, keys, io_uring, bpf,
/// ptrace and its kin, pidfds, other processes' memory and limits, namespaces, mounts, memory
/// outside of the address space limit (memfd, SysV shared memory), and all administration.
const PROGRAM: &[c_long] = &[
    libc::SYS_brk,
    libc::SYS_capget,
    libc::SYS_chdir,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_copy_file_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fadvise64,
    libc::SYS_fallocate,
    libc::SYS_fchdir,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_fgetxattr,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_futex,
    libc::SYS_get_robust_list,
    libc::SYS_getcpu,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getgroups,
    libc::SYS_getitimer,
    libc::SYS_getpgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getpriority,
    libc::SYS_getrandom,
    libc::SYS_getresgid,
    libc::SYS_getresuid,
    libc::SYS_getrusage,
    libc::SYS_getsid,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_getxattr,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_rm_watch,
    libc::SYS_kill,
    libc::SYS_lgetxattr,
    libc::SYS_linkat,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mincore,
    libc::SYS_mkdirat,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_msync,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_prctl,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_pselect6,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_read,
    libc::SYS_readahead,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_renameat2,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sendfile,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_setitimer,
    libc::SYS_setpgid,
    libc::SYS_setpriority,
    libc::SYS_setsid,
    libc::SYS_sigaltstack,
    libc::SYS_splice,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_symlinkat,
    libc::SYS_sysinfo,
    libc::SYS_tee,
    libc::SYS_tgkill,
    libc::SYS_timer_create,
    libc::SYS_timer_delete,
    libc::SYS_timer_getoverrun,
    libc::SYS_timer_gettime,
    libc::SYS_timer_settime,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_gettime,
    libc::SYS_timerfd_settime,
    libc::SYS_times,
    libc::SYS_tkill,
    libc::SYS_truncate,
    libc::SYS_umask,
    libc::SYS_uname,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_write,
    libc::SYS_writev,
];

/// The same calls under the older names that only this architecture still has.
#[cfg(target_arch = "x86_64")]
const PROGRAM_X86_64: &[c_long] = &[
    libc::SYS_access,
    libc::SYS_alarm,
    libc::SYS_arch_prctl,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_creat,
    libc::SYS_dup2,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
    libc::SYS_fork,
    libc::SYS_getdents,
    libc::SYS_getpgrp,
    libc::SYS_getrlimit,
    libc::SYS_inotify_init,
    libc::SYS_lchown,
    libc::SYS_link,
    libc::SYS_lstat,
    libc::SYS_mkdir,
    libc::SYS_open,
    libc::SYS_pause,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_rmdir,
    libc::SYS_select,
    libc::SYS_setrlimit,
    libc::SYS_stat,
    libc::SYS_symlink,
    libc::SYS_time,
    libc::SYS_unlink,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_vfork,
];

/// renameat, which libc has no name for here.
#[cfg(target_arch = "aarch64")]
const PROGRAM_AARCH64: &[c_long] = &[38];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lists_compile_and_name_no_call_twice() {
        assert!(worker().is_some_and(|program| program.len() < 4096));
        assert!(program().is_some_and(|bytes| bytes.len() < 4096 * 8 && bytes.len() % 8 == 0));
        let count = plain(WORKER).len() + plain(PROGRAM).len();
        assert_eq!(count, WORKER.len() + PROGRAM.len());
    }

    #[test]
    fn what_reaches_beyond_the_process_is_on_no_list() {
        let never = [
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_request_key,
            libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter,
            libc::SYS_io_uring_register,
            libc::SYS_bpf,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_pidfd_open,
            libc::SYS_pidfd_getfd,
            libc::SYS_pidfd_send_signal,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_memfd_create,
            libc::SYS_memfd_secret,
            libc::SYS_clone3,
            libc::SYS_mount,
            libc::SYS_perf_event_open,
            libc::SYS_userfaultfd,
        ];
        for call in never {
            assert!(!WORKER.contains(&call) && !PROGRAM.contains(&call), "{call}");
        }
        for call in [libc::SYS_execve, libc::SYS_openat, libc::SYS_clone, libc::SYS_kill] {
            assert!(!WORKER.contains(&call), "{call}");
        }
    }
}
