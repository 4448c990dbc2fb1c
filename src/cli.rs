//! The command line: what can be asked, a key for who has none, and a client for a gateway.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use data_encoding::{BASE32_NOPAD, HEXLOWER};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::entropy::{Entropy, EntropyError};
use crate::secret::Secret;

pub mod client;
mod connect;
mod get;
mod list;
mod process;
mod pull;
mod put;
mod receipt;
mod remote;
mod remove;
mod resume;
mod transfer;

pub use client::Access;
pub use connect::{AskError, ConnectArguments, Gateway, Waiting, begin, confirm};
pub use remote::Remote;

/// The gateway that forgets.
#[derive(Debug, Parser)]
#[command(name = "dayfly", version, about, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the gateway. Without --config: on loopback, for trying it out, with a key for this run
    Serve {
        /// The settings file
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Address and port for clients, in place of the settings'
        #[arg(long, value_name = "ADDR")]
        listen: Option<SocketAddr>,
    },
    /// Checks settings and machine, and shows what would hold. Status 78 on a refusal
    Check {
        /// The settings file
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Also asks remote storage: its region, versions, locks and copies
        #[arg(long)]
        online: bool,
    },
    /// Says what the policy would decide about a request, rule by rule, and where each rule stands
    Explain(Box<Explain>),
    /// Asks the gateway here to take nothing new in, and waits until its last file has died
    Drain {
        /// Its process; needed where this user runs more than one
        #[arg(long, value_name = "PID")]
        pid: Option<i32>,
    },
    /// Checks a receipt offline. Status 0 proven, 1 disproven, 2 unreadable, 3 signature good but
    /// no inclusion shown, 4 signature good but the log key is not pinned
    Verify {
        /// The signed note, or the JSON of the receipt's proof; - for standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The text of /log/key, from a source you trust
        #[arg(long, value_name = "FILE")]
        log_key: Option<PathBuf>,
    },
    /// Connects a person's Dropbox or Google Drive: prints the page for them to open, and asks for
    /// the code they read there. DAYFLY_URL and DAYFLY_KEY (role connector) say whom to ask
    Connect(ConnectArguments),
    /// Keys for clients
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
    #[command(flatten)]
    Remote(Remote),
    /// Prints the JSON Schema of the settings file
    #[command(hide = true)]
    Schema,
    /// Prints the OpenAPI document
    #[command(hide = true)]
    Openapi,
}

/// A request that might be made.
#[derive(Debug, clap::Args)]
pub struct Explain {
    /// The settings file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Whose request it would be
    #[arg(long, value_name = "NAME")]
    pub tenant: String,
    /// The region it would ask for
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
    /// The storage service bytes would be pulled from
    #[arg(long, value_name = "PROVIDER")]
    pub source: Option<String>,
    /// Steps to run, like text,scrub
    #[arg(long, value_name = "STEPS", value_delimiter = ',')]
    pub steps: Vec<String>,
    /// The body's size
    #[arg(long, value_name = "BYTES")]
    pub size: Option<u64>,
    /// The storage service a result would be delivered to
    #[arg(long, value_name = "PROVIDER")]
    pub deliver: Option<String>,
    /// The host that would be told of the end
    #[arg(long, value_name = "HOST")]
    pub webhook: Option<String>,
    /// The life that would be asked for, like 4h
    #[arg(long, value_name = "SPAN")]
    pub ttl: Option<String>,
    /// The answer as JSON, as `POST /v1/policy/explain` gives it
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Draws a key: shows it once, and the block for the settings file
    New {
        /// The tenant it belongs to
        #[arg(long, value_name = "NAME", value_parser = tenant_name)]
        tenant: String,
        /// What it may do; may be given several times
        #[arg(long = "role", value_name = "ROLE", required = true,
            value_parser = ["client", "connector", "owner", "auditor", "ops"])]
        roles: Vec<String>,
        /// The key's public id; drawn if absent
        #[arg(long, value_name = "ID", value_parser = key_id)]
        id: Option<String>,
    },
}

fn tenant_name(text: &str) -> Result<String, String> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    checked(text, fits, "a tenant's name is 1 to 32 of a-z, 0-9 and \"-\"")
}

fn key_id(text: &str) -> Result<String, String> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    checked(text, fits, "a key's id is 1 to 32 of a-z and 0-9")
}

fn checked(text: &str, fits: impl Fn(u8) -> bool, complaint: &str) -> Result<String, String> {
    let good = (1..=32).contains(&text.len()) && text.bytes().all(fits);
    if good { Ok(text.to_owned()) } else { Err(complaint.to_owned()) }
}

/// A key that was just drawn.
pub struct NewKey {
    pub id: String,
    /// `dfk_<id>_<secret>`, to be shown once.
    pub bearer: Zeroizing<String>,
    /// SHA-256 of the secret part, hex.
    pub sha256: String,
}

impl NewKey {
    /// Draws a key: 32 random bytes in lower-case base32, 52 characters.
    ///
    /// # Errors
    /// When the random source fails.
    pub fn draw(entropy: &dyn Entropy, id: Option<&str>) -> Result<Self, EntropyError> {
        let id = match id {
            Some(id) => id.to_owned(),
            None => {
                let mut bytes = [0; 5];
                entropy.fill(&mut bytes)?;
                format!("k{}", BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
            }
        };
        let mut secret = Secret::<32>::zero();
        entropy.fill(secret.expose_mut())?;
        let text = Zeroizing::new(BASE32_NOPAD.encode(secret.expose()).to_ascii_lowercase());
        let sha256 = HEXLOWER.encode(&Sha256::digest(text.as_bytes()));
        let bearer = Zeroizing::new(format!("dfk_{id}_{}", text.as_str()));
        Ok(Self { id, bearer, sha256 })
    }

    /// The block for the settings file.
    #[must_use]
    pub fn block(&self, tenant: &str, roles: &[String]) -> String {
        let roles: Vec<String> = roles.iter().map(|role| format!("\"{role}\"")).collect();
        format!(
            "[[keys]]\nid = \"{}\"\ntenant = \"{tenant}\"\nroles = [{}]\nsha256 = \"{}\"\n",
            self.id,
            roles.join(", "),
            self.sha256
        )
    }
}
