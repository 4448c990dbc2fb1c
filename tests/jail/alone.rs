//! Each wall by itself: what it keeps a worker from when every other one has fallen.

use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;

use dayfly::clock::SystemClock;
use dayfly::jail::{Limits, Walls, Zygote};
use dayfly::process::{Act, selftest};
use serde_json::{Value, json};

use super::{PROGRAM, Path, Sibling, Victim, behind, input, jail, room_of, take};

const NONE: u8 = 0;
const LANDLOCK: u8 = 1;
const SECCOMP: u8 = 2;

/// The end of a worker that stood alone.
struct Ended {
    /// The walls it said were standing.
    standing: u8,
    status: ExitStatus,
    answer: Option<Value>,
}

/// A worker that no zygote started: in our own namespaces, with our own limits, and of the walls
/// only with those asked for.
#[expect(clippy::disallowed_methods, reason = "a test starts a worker where the jail would not")]
fn lone(walls: u8, act: &str, document: &[u8]) -> Ended {
    let mut command = Command::new(PROGRAM);
    command.arg0("dayfly-worker").arg(walls.to_string()).env_clear();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut worker = command.spawn().unwrap();
    let request = json!({ "step": "selftest", "options": { "act": act }, "prefix": false,
        "max_document": 1 << 20, "max_output": 1 << 20 });
    let request = request.to_string().into_bytes();
    let mut message = u32::try_from(request.len()).unwrap().to_le_bytes().to_vec();
    message.extend_from_slice(&request);
    message.extend_from_slice(document);
    // Fewer bytes than a pipe holds, so this never waits.
    worker.stdin.take().unwrap().write_all(&message).unwrap();
    let mut said = Vec::new();
    worker.stdout.take().unwrap().read_to_end(&mut said).unwrap();
    let status = worker.wait().unwrap();
    let (standing, mut frames) = said.split_first().expect("it says which walls stand");
    let mut data = Vec::new();
    while let Some((head, rest)) = frames.split_first_chunk::<5>() {
        let length = u32::from_le_bytes(head[1..].try_into().unwrap()) as usize;
        let (payload, rest) = rest.split_at(length.min(rest.len()));
        if head[0] == 2 {
            data.extend_from_slice(payload);
        }
        frames = rest;
    }
    Ended { standing: *standing, status, answer: serde_json::from_slice(&data).ok() }
}

/// What a worker may never ask of the kernel once it works, whatever the arguments; and, with
/// arguments, what it may ask of itself alone.
const FORBIDDEN: &[(&str, libc::c_long, [i64; 4])] = &[
    ("socket", libc::SYS_socket, [libc::AF_INET as i64, libc::SOCK_STREAM as i64, 0, 0]),
    ("socketpair", libc::SYS_socketpair, [1, 1, 0, 0]),
    ("connect", libc::SYS_connect, [0; 4]),
    ("bind", libc::SYS_bind, [0; 4]),
    ("sendto", libc::SYS_sendto, [0; 4]),
    ("sendmsg", libc::SYS_sendmsg, [0; 4]),
    ("recvmsg", libc::SYS_recvmsg, [0; 4]),
    ("execve", libc::SYS_execve, [0; 4]),
    ("execveat", libc::SYS_execveat, [0; 4]),
    ("clone", libc::SYS_clone, [libc::SIGCHLD as i64, 0, 0, 0]),
    ("clone3", libc::SYS_clone3, [0; 4]),
    ("keyctl", libc::SYS_keyctl, [0; 4]),
    ("add_key", libc::SYS_add_key, [0; 4]),
    ("request_key", libc::SYS_request_key, [0; 4]),
    ("io_uring_setup", libc::SYS_io_uring_setup, [0; 4]),
    ("io_uring_enter", libc::SYS_io_uring_enter, [-1, 0, 0, 0]),
    ("io_uring_register", libc::SYS_io_uring_register, [-1, 0, 0, 0]),
    ("bpf", libc::SYS_bpf, [-1, 0, 0, 0]),
    ("ptrace", libc::SYS_ptrace, [libc::PTRACE_ATTACH as i64, -1, 0, 0]),
    ("process_vm_readv", libc::SYS_process_vm_readv, [-1, 0, 0, 0]),
    ("process_vm_writev", libc::SYS_process_vm_writev, [-1, 0, 0, 0]),
    ("process_madvise", libc::SYS_process_madvise, [-1, 0, 0, 0]),
    ("kcmp", libc::SYS_kcmp, [-1, 0, 0, 0]),
    ("pidfd_open", libc::SYS_pidfd_open, [-1, 0, 0, 0]),
    ("pidfd_getfd", libc::SYS_pidfd_getfd, [-1, 0, 0, 0]),
    ("pidfd_send_signal", libc::SYS_pidfd_send_signal, [-1, 0, 0, 0]),
    ("kill", libc::SYS_kill, [1, 0, 0, 0]),
    ("tkill", libc::SYS_tkill, [-1, 0, 0, 0]),
    ("tgkill", libc::SYS_tgkill, [-1, -1, 0, 0]),
    ("rt_sigqueueinfo", libc::SYS_rt_sigqueueinfo, [-1, 0, 0, 0]),
    ("rt_tgsigqueueinfo", libc::SYS_rt_tgsigqueueinfo, [-1, -1, 0, 0]),
    ("unshare", libc::SYS_unshare, [0; 4]),
    ("setns", libc::SYS_setns, [-1, 0, 0, 0]),
    ("openat", libc::SYS_openat, [-1, 0, 0, 0]),
    ("openat2", libc::SYS_openat2, [-1, 0, 0, 0]),
    ("open_by_handle_at", libc::SYS_open_by_handle_at, [-1, 0, 0, 0]),
    ("statx", libc::SYS_statx, [-1, 0, 0, 0]),
    ("newfstatat", libc::SYS_newfstatat, [-1, 0, 0, 0]),
    ("readlinkat", libc::SYS_readlinkat, [-1, 0, 0, 0]),
    ("getdents64", libc::SYS_getdents64, [-1, 0, 0, 0]),
    ("unlinkat", libc::SYS_unlinkat, [-1, 0, 0, 0]),
    ("mkdirat", libc::SYS_mkdirat, [-1, 0, 0, 0]),
    ("memfd_create", libc::SYS_memfd_create, [0; 4]),
    ("memfd_secret", libc::SYS_memfd_secret, [-1, 0, 0, 0]),
    ("shmget", libc::SYS_shmget, [0; 4]),
    ("msgget", libc::SYS_msgget, [0; 4]),
    ("semget", libc::SYS_semget, [0; 4]),
    ("mq_open", libc::SYS_mq_open, [0; 4]),
    ("pipe2", libc::SYS_pipe2, [0; 4]),
    ("dup", libc::SYS_dup, [-1, 0, 0, 0]),
    ("dup3", libc::SYS_dup3, [-1, -1, 0, 0]),
    ("eventfd2", libc::SYS_eventfd2, [0; 4]),
    ("epoll_create1", libc::SYS_epoll_create1, [-1, 0, 0, 0]),
    ("timerfd_create", libc::SYS_timerfd_create, [-1, 0, 0, 0]),
    ("inotify_init1", libc::SYS_inotify_init1, [-1, 0, 0, 0]),
    ("fanotify_init", libc::SYS_fanotify_init, [-1, 0, 0, 0]),
    ("ioctl", libc::SYS_ioctl, [-1, 0, 0, 0]),
    ("splice", libc::SYS_splice, [-1, 0, -1, 0]),
    ("vmsplice", libc::SYS_vmsplice, [-1, 0, 0, 0]),
    ("sendfile", libc::SYS_sendfile, [-1, -1, 0, 0]),
    ("mount", libc::SYS_mount, [0; 4]),
    ("umount2", libc::SYS_umount2, [0; 4]),
    ("pivot_root", libc::SYS_pivot_root, [0; 4]),
    ("chroot", libc::SYS_chroot, [0; 4]),
    ("chdir", libc::SYS_chdir, [0; 4]),
    ("perf_event_open", libc::SYS_perf_event_open, [0; 4]),
    ("userfaultfd", libc::SYS_userfaultfd, [-1, 0, 0, 0]),
    ("personality", libc::SYS_personality, [0xffff_ffff, 0, 0, 0]),
    ("seccomp", libc::SYS_seccomp, [-1, 0, 0, 0]),
    ("setuid", libc::SYS_setuid, [-1, 0, 0, 0]),
    ("setresuid", libc::SYS_setresuid, [-1, -1, -1, 0]),
    ("capset", libc::SYS_capset, [0; 4]),
    ("setsid", libc::SYS_setsid, [0; 4]),
    ("pkey_mprotect", libc::SYS_pkey_mprotect, [0, 0, 0, -1]),
    ("remap_file_pages", libc::SYS_remap_file_pages, [0; 4]),
    ("mlockall", libc::SYS_mlockall, [0; 4]),
    ("sysinfo", libc::SYS_sysinfo, [0; 4]),
    ("uname", libc::SYS_uname, [0; 4]),
    ("getppid", libc::SYS_getppid, [0; 4]),
    ("prlimit64 of another", libc::SYS_prlimit64, [1, libc::RLIMIT_NOFILE as i64, 0, 0]),
    ("prlimit64 of its own, set", libc::SYS_prlimit64, [0, libc::RLIMIT_NOFILE as i64, 8, 0]),
    ("prctl that sets", libc::SYS_prctl, [libc::PR_SET_DUMPABLE as i64, 0, 0, 0]),
    ("prctl that names", libc::SYS_prctl, [libc::PR_SET_NAME as i64, 0, 0, 0]),
    ("fcntl that copies", libc::SYS_fcntl, [0, libc::F_DUPFD as i64, 0, 0]),
    ("fcntl that sets", libc::SYS_fcntl, [0, libc::F_SETFL as i64, 0, 0]),
    ("fcntl that widens", libc::SYS_fcntl, [0, libc::F_SETPIPE_SZ as i64, 1 << 20, 0]),
    ("mmap to run", libc::SYS_mmap, [0, 4096, libc::PROT_EXEC as i64, 0x22]),
    ("mprotect to run", libc::SYS_mprotect, [0, 4096, libc::PROT_EXEC as i64, 0]),
];

fn words(number: libc::c_long, arguments: [i64; 4]) -> Vec<u8> {
    let [a, b, c, d] = arguments;
    format!("{number} {a} {b} {c} {d}").into_bytes()
}

#[test]
fn the_filter_alone_ends_a_worker_at_each_call_that_is_not_a_workers() {
    let mut survived = Vec::new();
    for (name, number, arguments) in FORBIDDEN {
        let ended = lone(SECCOMP, "call", &words(*number, *arguments));
        assert_eq!(ended.standing, SECCOMP, "the filter stands here");
        if ended.status.signal() != Some(libc::SIGSYS) {
            survived.push((*name, ended.status, ended.answer));
        }
    }
    assert!(survived.is_empty(), "{survived:?}");
    // What is on the list passes, and without the filter so does what is not.
    let asked = words(libc::SYS_prlimit64, [0, libc::RLIMIT_NOFILE.into(), 0, 0]);
    assert_eq!(lone(SECCOMP, "call", &asked).answer, Some(json!({ "errno": 0 })));
    let uname = words(libc::SYS_getppid, [0; 4]);
    assert_eq!(lone(NONE, "call", &uname).answer, Some(json!({ "errno": 0 })));
}

/// The newest landlock this kernel has; 6 is the first with scopes.
fn landlock_version() -> i64 {
    // SAFETY: with these flags the kernel reads no memory and says a number.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0, 0, 1) }
}

/// The errors of an attack, 0 where it was let.
fn errors(walls: u8, act: &str, target: &[u8]) -> Vec<i64> {
    let ended = lone(walls, act, target);
    assert_eq!(ended.standing, walls, "{act}");
    let said = ended.answer.unwrap_or_else(|| panic!("{act}: {:?}", ended.status));
    serde_json::from_value(said["errno"].clone()).unwrap()
}

#[test]
fn landlock_alone_keeps_a_worker_from_files_ports_signals_and_sockets() {
    let (victim, mut sibling) = (Victim::new(), Sibling::new());
    let mut target: Value = serde_json::from_slice(&victim.target(0)).unwrap();
    target["processes"] = json!([sibling.0.id()]);
    let target = target.to_string().into_bytes();
    let mut acts = vec!["open-file", "list-processes", "read-environment", "execute"];
    let version = landlock_version();
    if version >= 4 {
        acts.push("connect-tcp");
    }
    if version >= 6 {
        acts.extend(["connect-unix", "signal"]);
    }
    acts.push("ptrace");
    for act in &acts {
        // Not for a debugger that is really let, nor for a program that would run here.
        let harmless = !["ptrace", "execute"].contains(act);
        if harmless {
            let open = errors(NONE, act, &target);
            assert!(open.contains(&0), "{act} works where no wall stands: {open:?}");
            victim.was_reached();
        }
        let mut held = errors(LANDLOCK, act, &target);
        if *act == "signal" {
            // The second goes to everybody, and the kernel calls that a success whoever it reached.
            held.truncate(1);
        }
        assert!(held.iter().all(|error| *error != 0), "{act}: {held:?}");
        assert!(!victim.was_reached(), "{act}");
    }
    assert!(sibling.is_unharmed());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_namespaces_alone_keep_a_worker_from_everybody() {
    let zygote = Zygote::start(Path::new(PROGRAM)).unwrap();
    if !zygote.examine().unwrap().walls.namespaces {
        println!("SKIPPED: no namespaces can be made here");
        return;
    }
    let clock = Arc::new(SystemClock);
    let wanted = Walls { namespaces: true, ..Walls::NONE };
    let (jail, _) = behind(Some(wanted), 1, clock.clone());
    let room = room_of(jail, Limits::default(), clock);
    let seen = take(selftest(room.clone(), Act::Namespaces).unwrap(), input("x")).await.unwrap();
    let seen: Value = serde_json::from_slice(&seen).unwrap();
    for name in ["user", "pid", "net", "mnt", "ipc", "uts"] {
        let ours = rustix::fs::stat(format!("/proc/self/ns/{name}").as_str()).unwrap().st_ino;
        assert!(seen[name].is_u64() && seen[name] != ours, "{name}: {seen}, ours {ours}");
    }
    let (victim, mut sibling) = (Victim::new(), Sibling::new());
    let target = victim.target(sibling.0.id().cast_signed());
    for act in [
        Act::ConnectTcp,
        Act::SendUdp,
        Act::ConnectUnix,
        Act::Ptrace,
        Act::ReadMemory,
        Act::Signal,
        Act::LimitOthers,
        Act::OpenProcess,
    ] {
        let said = take(selftest(room.clone(), act).unwrap(), input(target.clone())).await;
        let said: Value = serde_json::from_slice(&said.unwrap()).unwrap();
        let errors = said["errno"].as_array().unwrap();
        assert!(errors.iter().all(|error| *error != 0), "{act:?}: {said}");
        assert!(!victim.was_reached(), "{act:?}");
    }
    assert!(sibling.is_unharmed());
}

/// What the zygote does not have, no worker can be given by mistake.
#[tokio::test(flavor = "multi_thread")]
async fn the_zygote_holds_nothing_of_the_gateway() {
    use rustix::fs::{MemfdFlags, memfd_create};
    // Left open across an exec, as a careless library would.
    let planted = memfd_create("planted", MemfdFlags::empty()).unwrap();
    let (jail, zygote) = jail(1, Arc::new(SystemClock));
    drop(jail.spawn(&Limits::default()).await.unwrap());
    let at = format!("/proc/{}", zygote.as_raw_nonzero());
    #[expect(clippy::disallowed_methods, reason = "a test looks at what it has started")]
    let environment = std::fs::read(format!("{at}/environ"));
    let (Ok(environment), Ok(list)) = (environment, std::fs::read_dir(format!("{at}/fd"))) else {
        println!("SKIPPED: only root may look into the zygote");
        return;
    };
    assert_eq!(environment, b"", "an environment");
    let fds: Vec<String> = list
        .map(|fd| std::fs::read_link(fd.unwrap().path()).unwrap().to_string_lossy().into_owned())
        .collect();
    let strange = |fd: &&String| {
        let known = ["/dev/null", "socket:", "anon_inode:[pidfd]", "pidfd:"];
        !known.iter().any(|kind| fd.starts_with(kind))
    };
    let strange: Vec<_> = fds.iter().filter(strange).collect();
    assert!(strange.is_empty(), "{strange:?} of {fds:?}");
    drop((planted, jail));
}
