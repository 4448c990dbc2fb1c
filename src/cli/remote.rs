//! The commands that ask a gateway, and how they speak: to people by lines, to programs by JSON.

use std::io::Write;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::client::{Access, Client, ClientError};
use super::get::Get;
use super::list::List;
use super::process::Process;
use super::pull::Pull;
use super::put::Put;
use super::receipt::Receipt;
use super::remove::Remove;

const STATUSES: &str = "\
The gateway is the one at DAYFLY_URL (http://127.0.0.1:8080 if absent), the key the one in DAYFLY_KEY.
Status 0: done. 1: refused by the gateway. 2: asked wrongly. 3: no gateway, or it broke off.
4: a file here cannot be read or written. 130: interrupted.";

/// A command for a gateway.
#[derive(Debug, Subcommand)]
pub enum Remote {
    /// Sends files in, and prints the id of each
    #[command(after_help = STATUSES)]
    Put(Put),
    /// Fetches a file; it has its name here only when it is whole
    #[command(after_help = STATUSES)]
    Get(Get),
    /// Lists the files that are alive
    #[command(after_help = STATUSES)]
    Ls(List),
    /// Destroys the keys of files, now
    #[command(after_help = STATUSES)]
    Rm(Remove),
    /// Shows what became of a file: its receipt, signed note or proof
    #[command(after_help = STATUSES)]
    Receipt(Receipt),
    /// Sends a file through processing steps, and keeps nothing of it there
    #[command(after_help = STATUSES)]
    Process(Process),
    /// Fetches an item of a connection, and prints the id of each file it becomes
    #[command(after_help = STATUSES)]
    Pull(Pull),
}

/// How a command speaks.
#[derive(Args, Clone, Copy, Debug)]
pub struct Voice {
    /// Speaks JSON, one document a line
    #[arg(long)]
    json: bool,
}

impl Voice {
    /// Whether bars may be drawn.
    #[must_use]
    pub const fn draws(self) -> bool {
        !self.json
    }

    /// Says a result on stdout: the gateway's JSON, or words for people. A reader that has gone
    /// away is no error.
    pub fn say(self, document: &Value, words: &str) {
        let line = if self.json { document.to_string() } else { words.to_owned() };
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }

    fn complain(self, error: &ClientError) {
        let mut to = std::io::stderr().lock();
        let _ = match error {
            ClientError::Refused(refusal) if self.json && refusal.document.is_object() => {
                writeln!(to, "{}", refusal.document)
            }
            error => writeln!(to, "dayfly: {error}"),
        };
    }
}

impl Remote {
    /// Does what was asked, and says how it went by the exit status.
    pub async fn run(self, access: Access) -> u8 {
        let voice = match &self {
            Self::Put(put) => put.voice,
            Self::Get(get) => get.voice,
            Self::Ls(list) => list.voice,
            Self::Rm(remove) => remove.voice,
            Self::Receipt(receipt) => receipt.voice,
            Self::Process(process) => process.voice,
            Self::Pull(pull) => pull.voice,
        };
        match self.ask(access).await {
            Ok(()) => 0,
            Err(error) => {
                voice.complain(&error);
                error.exit_status()
            }
        }
    }

    async fn ask(self, access: Access) -> Result<(), ClientError> {
        let client = Client::new(&access)?;
        // The copy in the request's header is the one that is needed.
        drop(access);
        match self {
            Self::Put(put) => put.run(&client).await,
            Self::Get(get) => get.run(&client).await,
            Self::Ls(list) => list.run(&client).await,
            Self::Rm(remove) => remove.run(&client).await,
            Self::Receipt(receipt) => receipt.run(&client).await,
            Self::Process(process) => process.run(&client).await,
            Self::Pull(pull) => pull.run(&client).await,
        }
    }
}

/// A member of a JSON object, for a line that people read.
#[must_use]
pub fn word<'a>(document: &'a Value, member: &str) -> &'a str {
    document[member].as_str().unwrap_or("-")
}

/// One segment of a path.
#[must_use]
pub fn segment(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, SEGMENT).to_string()
}

const SEGMENT: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'_').remove(b'-').remove(b'.').remove(b'+');
