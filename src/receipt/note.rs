//! The texts that are signed: one `key value` a line, in a fixed order (C2SP signed-note).
//!
//! A text is made from a row afresh whenever it is needed, so its form must never change: another
//! form needs another first line. Every note of a run carries that run's boot note, which the log
//! key has signed, in lines that begin with [`CARRIED`].

use std::fmt::Write;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::row::Row;
use super::tree::LeafBytes;
use crate::clock::Wall;
use crate::store::Answer;

/// What a leaf stands for: its first byte, the one thing the log tells everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Boot = 0,
    Acceptance = 1,
    Destruction = 2,
    Closing = 3,
    /// A final note that was written anew, because a store answered after it was signed.
    Amendment = 4,
}

/// How a boot note's lines begin inside another note.
pub(super) const CARRIED: &str = "boot|";

/// The statement of one run: which key signs for it, and what it accepted of its machine.
#[derive(Clone, Debug)]
pub(super) struct BootNote {
    /// The verifier line of the run's pen.
    pub pen: String,
    pub build: String,
    pub limits: Vec<String>,
    /// The whole note, signed by the log key, as lines of another.
    carried: String,
}

/// What a boot note says.
pub(super) struct Boot<'a> {
    pub log: &'a str,
    pub pen: &'a str,
    pub at: Wall,
    pub region: &'a str,
    pub build: &'a str,
    pub limits: &'a [String],
}

impl Boot<'_> {
    pub fn text(&self) -> String {
        format!(
            "dayfly/v1 boot\nlog {}\npen {}\nstarted {}\nregion {}\nbuild {}\naccepted-limits {}\n",
            self.log,
            self.pen,
            self.at.rfc3339(),
            self.region,
            self.build,
            listed(self.limits),
        )
    }
}

impl BootNote {
    /// Reads back what [`Boot::text`] wrote and the log key signed.
    pub fn read(note: &str) -> Option<Self> {
        let field = |name: &str| {
            let mut lines = note.lines().take_while(|line| !line.is_empty());
            let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
            Some(line.to_owned())
        };
        let limits = field("accepted-limits")?;
        let limits = limits.split(' ').filter(|limit| *limit != "none").map(str::to_owned);
        Some(Self {
            pen: field("pen")?,
            build: field("build")?,
            limits: limits.collect(),
            carried: note.lines().fold(String::new(), |all, line| all + CARRIED + line + "\n"),
        })
    }
}

fn listed(words: &[String]) -> String {
    if words.is_empty() { "none".to_owned() } else { words.join(" ") }
}

/// What was said when the file was accepted.
pub(super) fn acceptance(row: &Row, boot: &BootNote) -> String {
    let mut text = String::with_capacity(2048);
    head(&mut text, "live", row, row.first_expires_at);
    for (store, _) in row.blobs.iter().take(usize::from(row.first_blobs)) {
        let _ = writeln!(text, "blob {store} pending");
    }
    let handed = row.handed_to.iter().take(usize::from(row.first_handed));
    for name in handed {
        let _ = writeln!(text, "handed-to {name}");
    }
    let _ = writeln!(text, "commitment {}", HEXLOWER.encode(&row.first_commitment()));
    text.push_str(&boot.carried);
    text
}

/// What is said when its keys are gone; `None` while they live.
pub(super) fn destruction(row: &Row, boot: &BootNote) -> Option<String> {
    let end = row.end.as_ref()?;
    let mut text = String::with_capacity(2048);
    head(&mut text, "final", row, row.expires_at);
    let _ = writeln!(text, "destroyed {}\nreason {}", end.at().rfc3339(), end.reason().as_str());
    if let Some(lost) = end.lost() {
        let (last_seen, found) = (lost.last_seen.rfc3339(), lost.found.rfc3339());
        let _ = writeln!(text, "last-seen-alive {last_seen}\nfound {found}");
    }
    for (key, at) in end.keys() {
        let _ = writeln!(text, "key {} {}", key.as_str(), at.rfc3339());
    }
    for (store, answer) in &row.blobs {
        let _ = writeln!(text, "blob {store} {}", Answer::as_str(*answer));
    }
    for name in &row.handed_to {
        let _ = writeln!(text, "handed-to {name}");
    }
    let _ = writeln!(text, "commitment {}", HEXLOWER.encode(&row.last_commitment()));
    if end.lost().is_some() {
        text.push_str("commitment-of acceptance\n");
    }
    if row.signed_run != row.end_run {
        text.push_str("recorded-by earlier-run\n");
    }
    if row.revision > 0 {
        let _ = writeln!(text, "revision {}", row.revision);
    }
    text.push_str(&boot.carried);
    Some(text)
}

fn head(text: &mut String, state: &str, row: &Row, expires_at: Wall) {
    let _ = write!(
        text,
        "dayfly/v1 receipt\nstate {state}\nfile {}\nregion {}\naccepted {}\nexpires {}\n\
         keyring {}\n",
        row.file,
        row.region,
        row.accepted_at.rfc3339(),
        expires_at.rfc3339(),
        row.keyring,
    );
}

/// A deadline bucket's account.
pub(super) fn closing(
    end: Wall,
    length: u64,
    accepted: u64,
    destroyed: u64,
    boot: &BootNote,
) -> String {
    let mut text = format!(
        "dayfly/v1 closing\nbucket {} {length}s\naccepted {accepted}\ndestroyed {destroyed}\n",
        end.rfc3339()
    );
    text.push_str(&boot.carried);
    text
}

/// A leaf: its kind, and a hash that nobody can guess a text to without the blind (VAULT.md).
pub(super) fn leaf(kind: Kind, blind: &[u8; 32], text: &str) -> LeafBytes {
    let mut hash = Sha256::new();
    hash.update(b"dayfly/v1 leaf\0");
    hash.update(blind);
    hash.update(text.as_bytes());
    let mut leaf = [kind as u8; 33];
    leaf[1..].copy_from_slice(&hash.finalize());
    leaf
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_boot_note_reads_back() {
        for limits in [vec![], vec!["swap".to_owned(), "kdump".to_owned()]] {
            let at = Wall::from_unix(Duration::from_secs(1_800_000_000));
            let boot = Boot {
                log: "l+1+k",
                pen: "p+1+k",
                at,
                region: "eu",
                build: "d 1",
                limits: &limits,
            };
            let note = format!("{}\n— l signature\n", boot.text());
            let read = BootNote::read(&note).unwrap();
            assert_eq!((read.pen.as_str(), read.build.as_str()), ("p+1+k", "d 1"));
            assert_eq!(read.limits, limits);
        }
    }
}
