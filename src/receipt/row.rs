//! One file's row of evidence, and the bytes it is sealed as.

use super::Receipt;
use super::bytes::{Reader, Writer, count};
use super::commitment::commit;
use super::ending::{Ending, KeysLost};
use super::ledger::day;
use super::lockers::Tag;
use super::note::{self, BootNote, Kind};
use super::tree::LeafBytes;
use crate::clock::{Boot, Wall};
use crate::file::{Epoch, FileId, Reason, TenantId};
use crate::keyring::KeyKind;
use crate::region::Region;
use crate::store::Answer;

/// Everything that is known of a file, until it is forgotten too. No content, name, type or size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub file: FileId,
    pub tenant: TenantId,
    pub region: Region,
    pub accepted_at: Wall,
    /// As the acceptance said it; `expires_at` may have come earlier since.
    pub first_expires_at: Wall,
    pub expires_at: Wall,
    pub epoch: Epoch,
    pub keyring: &'static str,
    pub blobs: Vec<(&'static str, Answer)>,
    /// How many of them were named by the acceptance.
    pub first_blobs: u8,
    pub handed_to: Vec<String>,
    /// How many of them were named by the acceptance.
    pub first_handed: u8,
    pub salt: [u8; 32],
    /// Over the segments' commitments.
    pub commitment: [u8; 32],
    /// The run that accepted it.
    pub run: u32,
    pub accept_index: Option<u64>,
    pub end: Option<Ending>,
    /// The run that saw its end.
    pub end_run: u32,
    /// The final note's signature, and the run that signed it.
    pub signature: Option<[u8; 64]>,
    pub signed_run: u32,
    pub final_index: Option<u64>,
    /// How often the final note was written anew, because a store answered late.
    pub revision: u32,
    /// Only grows: of two rows of one file the higher one holds.
    pub version: u32,
    // What this process alone knows.
    /// Where it is in the archive.
    pub key: Tag,
    /// The leaf of its acceptance, if that was in this process.
    pub leaf: Option<LeafBytes>,
    /// Its newest bytes could not be written.
    pub is_lost: bool,
    /// Where its newest bytes are, and when its file died.
    pub segment: u32,
    pub over: Option<Boot>,
}

impl Row {
    /// What the acceptance committed to.
    pub fn first_commitment(&self) -> [u8; 32] {
        commit(&self.salt, self.file, &[])
    }

    /// What its last receipt commits to: lost keys say no more than the acceptance.
    pub fn last_commitment(&self) -> [u8; 32] {
        let known = self.end.as_ref().is_some_and(|end| end.lost().is_none());
        if known { self.commitment } else { self.first_commitment() }
    }

    /// Whether a store has yet to answer.
    pub fn is_waiting(&self) -> bool {
        self.blobs.iter().any(|(_, answer)| *answer == Answer::Pending)
    }

    /// The blind of the leaf of that kind: like the salt it is for the tenant's own eyes.
    pub fn blind(&self, kind: u8, revision: u32) -> [u8; 32] {
        use sha2::{Digest, Sha256};
        let mut hash = Sha256::new();
        hash.update(b"dayfly/v1 blind\0");
        hash.update(self.salt);
        hash.update([kind]);
        hash.update(revision.to_be_bytes());
        hash.finalize().into()
    }

    /// The leaf of its acceptance.
    pub fn acceptance_leaf(&self, boot: &BootNote) -> LeafBytes {
        let kind = Kind::Acceptance;
        note::leaf(kind, &self.blind(kind as u8, 0), &note::acceptance(self, boot))
    }

    /// The kind of its final leaf.
    pub const fn final_kind(&self) -> Kind {
        if self.revision == 0 { Kind::Destruction } else { Kind::Amendment }
    }

    /// The leaf of its final note, once that is signed.
    pub fn final_leaf(&self, boot: &BootNote) -> Option<LeafBytes> {
        let kind = self.final_kind();
        let text = note::destruction(self, boot)?;
        Some(note::leaf(kind, &self.blind(kind as u8, self.revision), &text))
    }

    /// As it is shown.
    pub fn receipt(&self, build: &str, limits: &[String]) -> Receipt {
        Receipt {
            file: self.file,
            region: self.region,
            accepted_at: self.accepted_at,
            expires_at: self.expires_at,
            destroyed: self.end.clone(),
            keyring: self.keyring,
            blobs: self.blobs.clone(),
            handed_to: self.handed_to.clone(),
            commitment: self.last_commitment(),
            commitment_salt: self.salt,
            accepted_limits: limits.to_vec(),
            build: build.to_owned(),
            log_index: if self.end.is_some() { self.final_index } else { self.accept_index },
        }
    }

    /// The day whose key seals it.
    pub fn day(&self) -> u32 {
        day(self.end.as_ref().map_or(self.accepted_at, Ending::at))
    }

    /// Appends its bytes, to be sealed.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        let mut out = Writer(bytes);
        out.bytes(self.file.as_bytes());
        out.bytes(self.tenant.as_bytes());
        out.bytes(self.region.padded());
        out.number(self.version.into());
        for at in [self.accepted_at, self.first_expires_at, self.expires_at] {
            out.time(at);
        }
        out.number(self.epoch.code());
        out.text(self.keyring);
        out.0.push(count(self.blobs.len()));
        for (store, answer) in self.blobs.iter().take(255) {
            out.text(store);
            out.0.push(u8::from(*answer == Answer::Deleted));
        }
        out.0.push(self.first_blobs);
        out.0.push(count(self.handed_to.len()));
        self.handed_to.iter().take(255).for_each(|name| out.text(name));
        out.0.push(self.first_handed);
        out.bytes(&self.salt);
        out.bytes(&self.commitment);
        out.number(self.run.into());
        out.option(self.accept_index);
        if let Some(end) = &self.end {
            out.0.push(1);
            self.encode_end(end, &mut out);
        } else {
            out.0.push(0);
        }
    }

    fn encode_end(&self, end: &Ending, out: &mut Writer<'_>) {
        out.time(end.at());
        out.0.push(end.reason() as u8);
        out.0.push(count(end.keys().len()));
        for (kind, at) in end.keys() {
            out.0.push(*kind as u8);
            out.time(*at);
        }
        out.0.push(u8::from(end.lost().is_some()));
        if let Some(lost) = end.lost() {
            out.time(lost.last_seen);
            out.time(lost.found);
        }
        out.number(self.end_run.into());
        out.0.push(u8::from(self.signature.is_some()));
        out.bytes(&self.signature.unwrap_or([0; 64]));
        out.number(self.signed_run.into());
        out.option(self.final_index);
        out.number(self.revision.into());
    }

    /// A row from its bytes; `None` if they are none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        let mut row = Self {
            file: FileId::from_bytes(from.array()?),
            tenant: TenantId::from_bytes(from.array()?),
            region: from.region()?,
            version: from.number()? as u32,
            accepted_at: from.time()?,
            first_expires_at: from.time()?,
            expires_at: from.time()?,
            epoch: epoch(from.number()?)?,
            keyring: word(&from.text()?),
            blobs: Vec::new(),
            first_blobs: 0,
            handed_to: Vec::new(),
            first_handed: 0,
            salt: [0; 32],
            commitment: [0; 32],
            run: 0,
            accept_index: None,
            end: None,
            end_run: 0,
            signature: None,
            signed_run: 0,
            final_index: None,
            revision: 0,
            key: [0; 16],
            leaf: None,
            is_lost: false,
            segment: 0,
            over: None,
        };
        for _ in 0..from.byte()? {
            let store = word(&from.text()?);
            row.blobs.push((store, [Answer::Pending, Answer::Deleted][usize::from(from.flag()?)]));
        }
        row.first_blobs = from.byte()?;
        for _ in 0..from.byte()? {
            row.handed_to.push(from.text()?);
        }
        row.first_handed = from.byte()?;
        (row.salt, row.commitment) = (from.array()?, from.array()?);
        (row.run, row.accept_index) = (from.number()? as u32, from.option()?);
        if from.flag()? {
            row.decode_end(&mut from)?;
        }
        from.0.is_empty().then_some(row)
    }

    fn decode_end(&mut self, from: &mut Reader<'_>) -> Option<()> {
        let (at, reason, mut keys) = (from.time()?, reason(from.byte()?)?, Vec::new());
        for _ in 0..from.byte()? {
            let kind = if from.flag()? { KeyKind::Epoch } else { KeyKind::FileSecret };
            keys.push((kind, from.time()?));
        }
        let lost = if from.flag()? {
            Some(KeysLost { last_seen: from.time()?, found: from.time()? })
        } else {
            None
        };
        self.end = Some(Ending::read_back(at, reason, keys, lost));
        self.end_run = from.number()? as u32;
        let signed = from.flag()?;
        self.signature = Some(from.array()?).filter(|_| signed);
        self.signed_run = from.number()? as u32;
        self.final_index = from.option()?;
        self.revision = from.number()? as u32;
        Some(())
    }
}

/// Backends that receipts name. A word that is not known to this version is told as that.
fn word(text: &str) -> &'static str {
    ["kernel", "memory", "local", "s3"].into_iter().find(|word| *word == text).unwrap_or("other")
}

fn reason(byte: u8) -> Option<Reason> {
    use Reason::{
        Cancelled, Consumed, Deleted, Downloaded, Erased, Expired, Failed, KeyLost, Shutdown,
    };
    let all =
        [Deleted, Expired, Downloaded, Consumed, Cancelled, Failed, Erased, KeyLost, Shutdown];
    all.into_iter().find(|reason| *reason as u8 == byte)
}

fn epoch(code: u64) -> Option<Epoch> {
    let number = code & ((1 << 56) - 1);
    match code >> 56 {
        0 => Some(Epoch::Quarter(number)),
        1 => Some(Epoch::Minute(number)),
        2 => Some(Epoch::None),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn row() -> Row {
        let at = |seconds: u64| Wall::from_unix(Duration::from_millis(seconds * 1001));
        let lost = KeysLost { last_seen: at(6), found: at(7) };
        let keys = vec![(KeyKind::FileSecret, at(5)), (KeyKind::Epoch, at(6))];
        Row {
            file: FileId::from_bytes([1; 16]),
            tenant: TenantId::of("acme"),
            region: "eu-central-1".parse().unwrap(),
            accepted_at: at(1),
            first_expires_at: at(9),
            expires_at: at(8),
            epoch: Epoch::Quarter(2_000_000),
            keyring: "kernel",
            blobs: vec![("local", Answer::Deleted), ("s3", Answer::Pending)],
            first_blobs: 1,
            handed_to: vec!["text".to_owned(), "tika".to_owned()],
            first_handed: 1,
            salt: [3; 32],
            commitment: [4; 32],
            run: 7,
            accept_index: Some(0),
            end: Some(Ending::read_back(at(5), Reason::Erased, keys, Some(lost))),
            end_run: 8,
            signature: Some([5; 64]),
            signed_run: 9,
            final_index: None,
            revision: 2,
            version: 3,
            key: [0; 16],
            leaf: None,
            is_lost: false,
            segment: 0,
            over: None,
        }
    }

    #[test]
    fn a_row_reads_back_as_it_was_and_no_part_of_one_does() {
        let live = Row {
            end: None,
            epoch: Epoch::None,
            end_run: 0,
            signature: None,
            signed_run: 0,
            revision: 0,
            ..row()
        };
        for row in [row(), live] {
            let mut bytes = Vec::new();
            row.encode(&mut bytes);
            assert_eq!(Row::decode(&bytes), Some(row));
            for cut in 0..bytes.len() {
                assert_eq!(Row::decode(&bytes[..cut]), None);
            }
            assert_eq!(Row::decode(&[&bytes[..], &[0]].concat()), None);
        }
    }
}
