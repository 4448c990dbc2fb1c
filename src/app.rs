//! Seams and settings composed into a running gateway.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::entropy::{Entropy, Machine};
use crate::http::{Crowd, TlsFiles};
use crate::jail::{Holds, Walls, Zygote};
use crate::keyring::{ProcessKeyring, Unusable};
use crate::policy::Policy;
use crate::process::Own;
use crate::receipt::Access;
use crate::store::S3Options;

mod check;
mod core;
mod gateway;
mod rights;

pub use check::{ask_storage, examine};
pub use gateway::{Gateway, StartError, Stopped};

/// Everything the operator sets, as plain values.
pub struct Settings {
    pub public: SocketAddr,
    pub admin: SocketAddr,
    /// The public listener's certificate; without one it speaks plain HTTP.
    pub tls: Option<TlsFiles>,
    pub cors_origins: Vec<String>,
    /// Where clients reach the gateway; without it, the public address.
    pub public_url: Option<String>,
    pub state_dir: Option<PathBuf>,
    /// Where the log key is, if not in the state folder.
    pub log_key_file: Option<PathBuf>,
    /// Who may read the log of proofs.
    pub log: Access,
    /// How long a receipt is kept after its file is gone.
    pub receipts: Duration,
    /// Memory for all buffers together.
    pub memory_bytes: u64,
    /// The least rate of a body, bytes per second; 0 for none.
    pub min_rate: u64,
    pub header_timeout: Duration,
    pub drain: Duration,
    pub crowd: Crowd,
    pub workers: Workers,
    pub log_json: bool,
    pub log_level: tracing::Level,
    pub store: Place,
    pub keyring: Keeper,
    pub accept: Accept,
    /// Whether services on loopback may be called without TLS: for tests.
    pub insecure_loopback: bool,
    /// The embedded default accepts every limit by itself, and says so once.
    pub accept_all: bool,
    /// Processors of the operator's own.
    pub own: Vec<Own>,
    pub policy: Policy,
}

/// What worker processes may use.
#[derive(Clone, Copy, Debug)]
pub struct Workers {
    /// `None`: one for each processor core.
    pub count: Option<NonZeroUsize>,
    pub memory_bytes: u64,
    pub time: Duration,
}

/// Where sealed bytes rest.
#[derive(Clone, Debug)]
pub enum Place {
    Memory,
    Local { dir: PathBuf, max_bytes: u64 },
    S3(S3Options),
}

/// Who keeps the epoch keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// The kernel where it can, else memory.
    Auto,
    /// The kernel, or the gateway does not start.
    Kernel,
    Memory,
}

/// Limits of the machine that the operator accepts by name.
#[derive(Clone, Copy, Debug, Default)]
pub struct Accept {
    pub swap: bool,
    pub kdump: bool,
    pub plain_http: bool,
    /// Walls around workers that may be missing.
    pub without: Walls,
}

/// What a gateway takes from outside: the machine, or a simulation.
pub struct Seams {
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub zygote: Zygote,
    /// What confines workers and programs here, as the zygote has tried.
    pub holds: Holds,
    pub machine: Arc<dyn Machine>,
    /// The process keyring, made before the first thread.
    pub kernel: Result<ProcessKeyring, Unusable>,
}
