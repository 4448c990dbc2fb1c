//! A step that misbehaves on order, to see that the jail holds on this very machine.
//!
//! It is in no registry, so no request reaches it: `dayfly check` and the tests run it directly.

use std::hint::black_box;
use std::io::{Read, Write};

use rustix::process::{DumpableBehavior, dumpable_behavior};
use serde_json::{Value, json};

use super::document::{DocumentRoom, DocumentStep};
use super::frame::{Fault, Kind, MediaType, Request};
use super::worker::{Answer, Pipe, write_frame};
use super::{ProcessError, Step};

mod attack;
mod search;
pub use search::masked;

pub(super) const NAME: &str = "selftest";

macro_rules! acts {
    ($($(#[$doc:meta])* $act:ident $word:literal;)*) => {
        /// What the worker is to do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Act { $($(#[$doc])* $act,)* }

        impl Act {
            pub const ALL: &[Self] = &[$(Self::$act),*];

            /// What a worker that was taken over would try; the document says whom it goes for.
            pub const ATTACKS: &[Self] = ATTACKS;

            const fn word(self) -> &'static str {
                match self { $(Self::$act => $word,)* }
            }

            fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$act),)* _ => None }
            }
        }
    };
}

acts! {
    /// Answers with its surroundings: environment, descriptors, limits.
    LookAround "look-around";
    /// Answers with the namespaces it is in, as the kernel numbers them.
    Namespaces "namespaces";
    /// Makes one system call: its number and arguments are the document.
    Call "call";
    /// Looks for what is not its own in its memory, its descriptors and the kernel's keys.
    Search "search";
    /// Panics.
    Panic "panic";
    /// Computes for ever.
    Spin "spin";
    /// Takes memory for ever.
    Allocate "allocate";
    /// Recurses for ever.
    Recurse "recurse";
    /// Answers for ever.
    Flood "flood";
    /// Ends without a word.
    Exit "exit";
    /// Ends after half of an answer.
    Truncate "truncate";
    /// Answers at once, reading nothing of the document.
    Hurry "hurry";
    /// A frame of a kind there is not.
    UnknownFrame "unknown-frame";
    /// A frame that claims four gigabytes.
    HugeFrame "huge-frame";
    /// A media type that would run in a browser.
    UnknownType "unknown-type";
    /// A fault that is none of a worker's.
    UnknownFault "unknown-fault";
    /// Data before a head.
    Headless "headless";
    OpenFile "open-file";
    ListProcesses "list-processes";
    ReadEnvironment "read-environment";
    ConnectTcp "connect-tcp";
    SendUdp "send-udp";
    ConnectUnix "connect-unix";
    Fork "fork";
    Execute "execute";
    Ptrace "ptrace";
    /// Reads another process's memory.
    ReadMemory "read-memory";
    Signal "signal";
    /// Sets another process's limits.
    LimitOthers "limit-others";
    /// A pidfd of another process.
    OpenProcess "open-process";
    IoUring "io-uring";
    Keyctl "keyctl";
    Bpf "bpf";
    Unshare "unshare";
    MemfdSecret "memfd-secret";
    /// Memory that can be run.
    MakeCode "make-code";
}

const ATTACKS: &[Act] = &[
    Act::OpenFile,
    Act::ListProcesses,
    Act::ReadEnvironment,
    Act::ConnectTcp,
    Act::SendUdp,
    Act::ConnectUnix,
    Act::Fork,
    Act::Execute,
    Act::Ptrace,
    Act::ReadMemory,
    Act::Signal,
    Act::LimitOthers,
    Act::OpenProcess,
    Act::IoUring,
    Act::Keyctl,
    Act::Bpf,
    Act::Unshare,
    Act::MemfdSecret,
    Act::MakeCode,
];

/// A step that makes its worker do `act`.
///
/// # Errors
/// None in practice: the request is short.
pub fn selftest(room: DocumentRoom, act: Act) -> Result<Box<dyn Step>, ProcessError> {
    let options = [("act".to_owned(), act.word().to_owned())].into();
    // `Hurry` must answer while the gateway still feeds it.
    let request = Request { step: NAME.to_owned(), options, ..Request::default() };
    Ok(Box::new(DocumentStep::new(room, request, None)?))
}

/// Whether the worker reads its document before it acts.
pub(super) fn reads(request: &Request) -> bool {
    request.options.get("act").is_none_or(|act| act != Act::Hurry.word())
}

/// The worker's side.
pub(super) fn answer(request: &Request, document: &[u8]) -> Result<Answer, Fault> {
    let act = request.options.get("act").and_then(|act| Act::parse(act));
    match act.ok_or(Fault::Unsupported)? {
        act if ATTACKS.contains(&act) => {
            return attack::attempt(act, document).map(|said| json_answer(&said));
        }
        Act::LookAround => return Ok(json_answer(&surroundings())),
        Act::Namespaces => return Ok(json_answer(&namespaces())),
        Act::Call => return attack::one_call(document).map(|said| json_answer(&said)),
        Act::Search => return search::search(document).map(|found| json_answer(&found)),
        Act::Hurry => return Ok(json_answer(&json!({}))),
        Act::Panic => black_box(None::<u8>).map_or_else(|| panic!("on order"), |_| ()),
        Act::Spin => loop {
            black_box(());
        },
        Act::Allocate => allocate(),
        Act::Recurse => drop(black_box(recurse(1))),
        Act::Flood => flood(),
        Act::Exit => std::process::exit(0),
        Act::Truncate => {
            say(Kind::Head, MediaType::Plain.as_str().as_bytes());
            say(Kind::Data, b"half of ");
            std::process::exit(0);
        }
        Act::UnknownFrame => raw(&[9, 0, 0, 0, 0]),
        Act::HugeFrame => {
            say(Kind::Head, MediaType::Plain.as_str().as_bytes());
            raw(&[Kind::Data as u8, 255, 255, 255, 255]);
        }
        Act::UnknownType => say(Kind::Head, b"text/html"),
        Act::UnknownFault => say(Kind::Problem, b"unauthenticated"),
        Act::Headless => say(Kind::Data, b"text"),
        _ => return Err(Fault::Unsupported),
    }
    Err(Fault::Limit)
}

fn json_answer(value: &Value) -> Answer {
    Answer { media_type: MediaType::Json, bytes: value.to_string().into_bytes() }
}

/// What a worker can see of the machine. The descriptors are asked for one by one: it may open
/// nothing, its own list included.
fn surroundings() -> Value {
    let is_open = |fd: &i32| {
        // SAFETY: F_GETFD touches no memory, and any number is allowed.
        unsafe { libc::fcntl(*fd, libc::F_GETFD) != -1 }
    };
    let limit = |resource| rustix::process::getrlimit(resource).current;
    use rustix::process::Resource;
    json!({
        "environment": std::env::vars_os().count(),
        "arguments": std::env::args_os().count(),
        "descriptors": (0..4096).filter(is_open).collect::<Vec<_>>(),
        "files": limit(Resource::Nofile),
        "dumpable": dumpable_behavior().is_ok_and(|b| b != DumpableBehavior::NotDumpable),
        "new_privileges": !rustix::thread::no_new_privs().unwrap_or(false),
        "memory": limit(Resource::As),
        "stack": limit(Resource::Stack),
        "seconds": limit(Resource::Cpu),
        "locked": limit(Resource::Memlock),
        "queues": limit(Resource::Msgqueue),
        "file_size": limit(Resource::Fsize),
        "core": limit(Resource::Core),
        "processes": limit(Resource::Nproc),
    })
}

/// Read through the proc file system of whoever started it, so only where no wall stands.
fn namespaces() -> Value {
    let number = |name: &str| {
        let about = rustix::fs::stat(format!("/proc/self/ns/{name}").as_str());
        (name.to_owned(), about.map_or(Value::Null, |about| about.st_ino.into()))
    };
    ["user", "pid", "net", "mnt", "ipc", "uts"].into_iter().map(number).collect()
}

fn allocate() {
    let mut held: Vec<Vec<u8>> = Vec::new();
    loop {
        // Written to, or the kernel would never give the pages.
        held.push(vec![1; 1 << 20]);
        black_box(&held);
    }
}

fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    if black_box(depth) == 0 { 0 } else { recurse(depth + 1) + frame[7] }
}

fn flood() {
    say(Kind::Head, MediaType::Plain.as_str().as_bytes());
    let piece = vec![b'a'; 64 << 10];
    loop {
        say(Kind::Data, &piece);
    }
}

fn say(kind: Kind, payload: &[u8]) {
    if write_frame(&mut Pipe, kind, payload).is_err() {
        std::process::exit(1);
    }
}

/// Bytes that are no frame, then silence until somebody ends this process.
fn raw(bytes: &[u8]) {
    let _ = Pipe.write_all(bytes);
    let _ = Pipe.read(&mut [0; 1]);
    loop {
        black_box(());
    }
}
