//! A worker that was taken over, and tries what it would try then.

use std::ffi::CString;
use std::io::Error;

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::frame::Fault;
use super::Act;

/// Whom and what it goes for: the document, as JSON.
#[derive(Deserialize)]
struct Targets {
    /// The gateway, and another worker.
    processes: Vec<i32>,
    /// A file that anybody may read.
    file: String,
    /// A port on loopback where somebody listens, by TCP and by UDP.
    port: u16,
    /// An abstract unix socket where somebody listens.
    socket: String,
}

/// The document: [`Targets`]. The answer: what the kernel said, 0 if it let the worker.
pub(super) fn attempt(act: Act, document: &[u8]) -> Result<Value, Fault> {
    let targets: Targets = serde_json::from_slice(document).map_err(|_| Fault::Damaged)?;
    let tries: Vec<libc::c_long> = match act {
        Act::OpenFile => vec![open(&targets.file)],
        Act::ListProcesses => vec![open("/proc"), open("/proc/self/status")],
        Act::ReadEnvironment => vec![open("/proc/1/environ"), open("/proc/self/environ")],
        Act::ConnectTcp => vec![connect(libc::SOCK_STREAM, &internet(targets.port))],
        Act::SendUdp => vec![connect(libc::SOCK_DGRAM, &internet(targets.port))],
        Act::ConnectUnix => vec![connect_unix(&targets.socket)],
        Act::Fork => vec![fork_bomb()],
        Act::Execute => vec![execute()],
        Act::Ptrace => {
            each(&targets, |pid| call(libc::SYS_ptrace, [libc::PTRACE_ATTACH.into(), pid, 0, 0]))
        }
        Act::ReadMemory => each(&targets, read_memory),
        Act::Signal => {
            let mut tries = each(&targets, |pid| call(libc::SYS_kill, [pid, 0, 0, 0]));
            tries.push(call(libc::SYS_kill, [-1, 0, 0, 0]));
            tries
        }
        Act::LimitOthers => each(&targets, |pid| {
            let none = [0u64; 2];
            let limit = none.as_ptr().expose_provenance().cast_signed() as i64;
            call(libc::SYS_prlimit64, [pid, i64::from(libc::RLIMIT_NOFILE), limit, 0])
        }),
        Act::OpenProcess => each(&targets, |pid| call(libc::SYS_pidfd_open, [pid, 0, 0, 0])),
        Act::IoUring => {
            let room = [0u8; 256];
            let room = room.as_ptr().expose_provenance().cast_signed() as i64;
            vec![call(libc::SYS_io_uring_setup, [4, room, 0, 0])]
        }
        // KEYCTL_GET_KEYRING_ID of the session's.
        Act::Keyctl => vec![call(libc::SYS_keyctl, [0, -3, 1, 0])],
        Act::Bpf => vec![call(libc::SYS_bpf, [0, 0, 0, 0])],
        Act::Unshare => vec![call(libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0, 0, 0])],
        Act::MemfdSecret => vec![call(libc::SYS_memfd_secret, [0, 0, 0, 0])],
        Act::MakeCode => vec![make_code()],
        _ => return Err(Fault::Unsupported),
    };
    Ok(json!({ "errno": tries }))
}

/// A system call by its number, with as many arguments as follow it.
pub(super) fn one_call(document: &[u8]) -> Result<Value, Fault> {
    let words = std::str::from_utf8(document).map_err(|_| Fault::Damaged)?;
    let mut numbers = words.split_whitespace().map(|word| word.parse::<i64>().unwrap_or(0));
    let number = numbers.next().ok_or(Fault::Damaged)?;
    let mut arguments = [0; 4];
    arguments.iter_mut().zip(numbers).for_each(|(place, word)| *place = word);
    Ok(json!({ "errno": call(number, arguments) }))
}

/// The error of a system call, 0 if there was none.
fn call(number: libc::c_long, [a, b, c, d]: [i64; 4]) -> libc::c_long {
    // SAFETY: numbers, and pointers to what outlives the call; what it changes is this process.
    errno(unsafe { libc::syscall(number, a, b, c, d, 0, 0) })
}

fn errno(result: libc::c_long) -> libc::c_long {
    if result >= 0 { 0 } else { Error::last_os_error().raw_os_error().unwrap_or(0).into() }
}

fn each(targets: &Targets, attack: impl Fn(i64) -> libc::c_long) -> Vec<libc::c_long> {
    targets.processes.iter().map(|pid| attack((*pid).into())).collect()
}

fn open(path: &str) -> libc::c_long {
    let Ok(path) = CString::new(path) else { return libc::EINVAL.into() };
    // Room for a descriptor: the limit on them is not what is tried here.
    // SAFETY: closes our own stderr, and reads a string that ends in a zero byte.
    errno(unsafe {
        libc::close(2);
        libc::open(path.as_ptr(), libc::O_RDONLY).into()
    })
}

/// 127.0.0.1 and a port, as the kernel wants them.
fn internet(port: u16) -> Vec<u8> {
    let mut address = (libc::AF_INET as u16).to_ne_bytes().to_vec();
    address.extend_from_slice(&port.to_be_bytes());
    address.extend_from_slice(&[127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    address
}

fn connect(kind: libc::c_int, address: &[u8]) -> libc::c_long {
    let family = i32::from(u16::from_ne_bytes([address[0], address[1]]));
    // SAFETY: closes our own stderr; the address is as long as is said.
    errno(unsafe {
        libc::close(2);
        let socket = libc::socket(family, kind, 0);
        if socket < 0 {
            return errno(-1);
        }
        let length = u32::try_from(address.len()).unwrap_or(0);
        let connected = libc::connect(socket, address.as_ptr().cast(), length);
        // A datagram socket connects to anything it has a way to.
        if connected == 0 { libc::send(socket, b"x".as_ptr().cast(), 1, 0) as i64 } else { -1 }
    })
}

fn connect_unix(name: &str) -> libc::c_long {
    let mut address = (libc::AF_UNIX as u16).to_ne_bytes().to_vec();
    address.push(0);
    address.extend_from_slice(name.as_bytes());
    connect(libc::SOCK_STREAM, &address)
}

/// Children that do the same. One is proof enough.
fn fork_bomb() -> libc::c_long {
    // SAFETY: the child ends at once.
    errno(unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::_exit(0);
        }
        child.into()
    })
}

fn execute() -> libc::c_long {
    let nothing: [*const libc::c_char; 1] = [std::ptr::null()];
    // SAFETY: a path that ends in a zero byte, and two lists that end at once.
    errno(unsafe {
        libc::execve(c"/proc/self/exe".as_ptr(), nothing.as_ptr(), nothing.as_ptr()).into()
    })
}

fn read_memory(pid: i64) -> libc::c_long {
    let mut into = [0u8; 8];
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let remote = libc::iovec { iov_base: std::ptr::with_exposed_provenance_mut(4096), iov_len: 8 };
    let pid = i32::try_from(pid).unwrap_or(0);
    // SAFETY: the kernel writes at most eight bytes to `into`, and checks the other side.
    errno(unsafe {
        libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) as i64
    })
}

/// Memory that can be run: how injected code gets to its second stage.
fn make_code() -> libc::c_long {
    let (rights, flags) = (libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_ANON);
    // SAFETY: a fresh mapping that nobody uses.
    let made = unsafe { libc::mmap(std::ptr::null_mut(), 4096, rights, flags, -1, 0) };
    if made == libc::MAP_FAILED { errno(-1) } else { 0 }
}
