//! Checking a receipt offline, with nothing but the log's public key. No part of this trusts the
//! gateway that wrote it, and `tests/verify.py` does the same without this code.

use data_encoding::BASE64;
use ed25519_dalek::{Signature, VerifyingKey};
use serde::Deserialize;
use signed_note::{Note, VerificationError, key_id};
use tlog_tiles::{Checkpoint, Hash, check_record, record_hash};

use super::note::{self, CARRIED, Kind};
use super::pen::ED25519;

/// A receipt's place in the log: what `GET /v1/receipts/{id}/proof` answers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Proof {
    note: String,
    kind: u8,
    blind: String,
    index: u64,
    path: Vec<String>,
    checkpoint: String,
}

/// What was found. Each has an exit status of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Signed, and in the log whose key was given.
    Proven,
    /// Some part contradicts another, or the log key.
    Disproven,
    /// Not a note and not a proof.
    Unreadable,
    /// Signed under the log key that was given; nothing shows that it is in the log.
    NotShownLogged,
    /// All is consistent, under a log key that nobody vouches for.
    KeyNotPinned,
}

impl Verdict {
    /// The exit status of `dayfly verify`.
    #[must_use]
    pub const fn status(self) -> u8 {
        match self {
            Self::Proven => 0,
            Self::Disproven => 1,
            Self::Unreadable => 2,
            Self::NotShownLogged => 3,
            Self::KeyNotPinned => 4,
        }
    }

    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Proven => "proven: signed by this gateway, and in its log",
            Self::Disproven => "disproven: it was changed, or another key has signed it",
            Self::Unreadable => "unreadable: neither a signed note nor a proof",
            Self::NotShownLogged => {
                "the signature is good, but this file shows no place in the log: ask for the \
                 receipt's proof"
            }
            Self::KeyNotPinned => {
                "the signature is good, but nobody has said which log key to trust: give --log-key"
            }
        }
    }
}

/// Judges a text note, or the JSON of a proof. `log_key` is the text of `/log/key`, from a source
/// that the reader trusts.
#[must_use]
pub fn verify(file: &[u8], log_key: Option<&str>) -> Verdict {
    judge(file, log_key).unwrap_or_else(|verdict| verdict)
}

fn judge(file: &[u8], log_key: Option<&str>) -> Result<Verdict, Verdict> {
    let text = std::str::from_utf8(file).map_err(|_| Verdict::Unreadable)?;
    let proof: Option<Proof> = if text.starts_with('{') {
        Some(serde_json::from_str(text).map_err(|_| Verdict::Unreadable)?)
    } else {
        None
    };
    let note = proof.as_ref().map_or(text, |proof| proof.note.as_str());
    let signed = Signed::read(note)?;
    let pinned = log_key.map(str::trim);
    if pinned.is_some_and(|pinned| pinned != signed.log_key) {
        return Err(Verdict::Disproven);
    }
    if let Some(proof) = &proof {
        is_logged(proof, &signed)?;
    }
    Ok(match (pinned, proof) {
        (None, _) => Verdict::KeyNotPinned,
        (Some(_), None) => Verdict::NotShownLogged,
        (Some(_), Some(_)) => Verdict::Proven,
    })
}

/// A note whose signature is good, and the log key that stands behind its signer.
struct Signed {
    text: String,
    log_key: String,
    kinds: &'static [Kind],
}

impl Signed {
    fn read(note: &str) -> Result<Self, Verdict> {
        let body = note.rsplit_once("\n\n").ok_or(Verdict::Unreadable)?.0;
        let kinds: &'static [Kind] = match (body.lines().next(), field(body, "state")) {
            (Some("dayfly/v1 boot"), _) => &[Kind::Boot],
            (Some("dayfly/v1 closing"), _) => &[Kind::Closing],
            (Some("dayfly/v1 receipt"), Some("live")) => &[Kind::Acceptance],
            (Some("dayfly/v1 receipt"), Some("final")) => &[Kind::Destruction, Kind::Amendment],
            _ => return Err(Verdict::Unreadable),
        };
        let boot = if kinds == [Kind::Boot] {
            note.to_owned()
        } else {
            body.lines()
                .filter_map(|line| line.strip_prefix(CARRIED))
                .fold(String::new(), |boot, line| boot + line + "\n")
        };
        let stated = boot.split_once("\n\n").map_or("", |(stated, _)| stated);
        let key = |name| field(stated, name).ok_or(Verdict::Unreadable);
        let (log_key, pen) = (key("log")?.to_owned(), key("pen")?);
        let text = checked(&boot, &log_key)?;
        let text = if kinds == [Kind::Boot] { text } else { checked(note, pen)? };
        Ok(Self { text, log_key, kinds })
    }
}

/// A line `name value` of a note's own text.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
}

/// One key, whose signatures must be the only ones that RFC 8032 makes.
struct Strict<'a> {
    name: &'a str,
    id: u32,
    key: VerifyingKey,
}

impl signed_note::Verifier for Strict<'_> {
    fn name(&self) -> &str {
        self.name
    }

    fn key_id(&self) -> u32 {
        self.id
    }

    fn verify(&self, text: &[u8], signature: &[u8]) -> bool {
        let signature = Signature::from_slice(signature);
        signature.is_ok_and(|signature| self.key.verify_strict(text, &signature).is_ok())
    }
}

impl signed_note::Verifiers for Strict<'_> {
    fn verifier(
        &self,
        name: &str,
        id: u32,
    ) -> Result<&dyn signed_note::Verifier, VerificationError> {
        if (name, id) == (self.name, self.id) {
            Ok(self)
        } else {
            Err(VerificationError::UnknownKey { name: name.to_owned(), id })
        }
    }
}

/// The text of a note that has one signature, by the key of that verifier line.
pub(super) fn checked(note: &str, verifier: &str) -> Result<String, Verdict> {
    let parsed = Note::from_bytes(note.as_bytes()).map_err(|_| Verdict::Unreadable)?;
    let key = verifier_key(verifier).ok_or(Verdict::Unreadable)?;
    let lines = note.rsplit_once("\n\n").map_or(0, |(_, signatures)| signatures.lines().count());
    if lines != 1 || parsed.verify(&key).is_err() {
        return Err(Verdict::Disproven);
    }
    String::from_utf8(parsed.text().to_vec()).map_err(|_| Verdict::Unreadable)
}

/// Name and key of `name+id+key`; the id must be the key's own.
fn verifier_key(line: &str) -> Option<Strict<'_>> {
    let (name, rest) = line.split_once('+')?;
    let (id, key) = rest.split_once('+')?;
    let bytes = BASE64.decode(key.as_bytes()).ok()?;
    let (kind, key) = bytes.split_first()?;
    let own = key_id(name, &bytes);
    let key = VerifyingKey::from_bytes(key.try_into().ok()?).ok()?;
    let good = format!("{own:08x}") == id && *kind == ED25519;
    good.then_some(Strict { name, id: own, key })
}

/// Whether the note's leaf is in the tree of a checkpoint that the same log key has signed.
fn is_logged(proof: &Proof, signed: &Signed) -> Result<(), Verdict> {
    let kind = signed.kinds.iter().find(|kind| **kind as u8 == proof.kind);
    let kind = *kind.ok_or(Verdict::Disproven)?;
    let bytes = |text: &str| {
        let bytes = BASE64.decode(text.as_bytes()).ok();
        bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()).ok_or(Verdict::Unreadable)
    };
    let checkpoint = checked(&proof.checkpoint, &signed.log_key)?;
    let checkpoint =
        Checkpoint::from_bytes(checkpoint.as_bytes()).map_err(|_| Verdict::Unreadable)?;
    let log = signed.log_key.split('+').next().unwrap_or_default();
    let leaf = note::leaf(kind, &bytes(&proof.blind)?, &signed.text);
    let path = proof.path.iter().map(|hash| bytes(hash).map(Hash)).collect::<Result<_, _>>()?;
    let (size, root) = (checkpoint.size(), *checkpoint.hash());
    if checkpoint.origin() != log || proof.index >= size || proof.path.len() > 64 {
        return Err(Verdict::Disproven);
    }
    check_record(&path, size, root, proof.index, record_hash(&leaf)).map_err(|_| Verdict::Disproven)
}
