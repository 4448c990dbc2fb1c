//! Evidence: what was accepted, and the statement that its keys were destroyed.
//!
//! A receipt holds no name, size, type, digest or address. Its final form demands a
//! [`KeysDestroyed`]. Receipts are unsigned and live in memory until the log of proofs is built;
//! they are kept for the operator's retention, and beyond [`MOST`] the oldest final one goes.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::clock::{Boot, Clock, Wall};
use crate::entropy::{Entropy, EntropyError, random};
use crate::file::{FileId, TenantId};
use crate::keyring::KeysDestroyed;
use crate::region::Region;
use crate::store::Answer;

mod audit;
pub use audit::{Action, Audit, Line, Object};

/// Receipts kept in memory; past it the oldest final one is forgotten.
pub const MOST: usize = 200_000;

/// The statement about one file.
#[derive(Clone, Debug)]
pub struct Receipt {
    pub file: FileId,
    pub region: Region,
    pub accepted_at: Wall,
    pub expires_at: Wall,
    pub destroyed: Option<Arc<KeysDestroyed>>,
    /// The backend that kept the key of the file's deadline.
    pub keyring: &'static str,
    pub blobs: Vec<(&'static str, Answer)>,
    /// Processors that were handed plaintext.
    pub handed_to: Vec<String>,
    pub commitment: [u8; 32],
    pub commitment_salt: [u8; 32],
}

/// What is said about a file when it is accepted.
#[derive(Clone, Debug)]
pub struct Acceptance {
    pub file: FileId,
    pub tenant: TenantId,
    pub region: Region,
    pub accepted_at: Wall,
    pub expires_at: Wall,
    pub keyring: &'static str,
    pub commitments: Vec<[u8; 32]>,
    pub blobs: Vec<&'static str>,
    pub handed_to: Vec<String>,
}

/// All receipts of this process.
pub struct Evidence {
    // Dependencies.
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    // Configuration.
    retention: Duration,
    // State.
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    rows: HashMap<FileId, Row>,
    /// Final receipts, the oldest first. Those of live files are never forgotten.
    over: VecDeque<(Boot, FileId)>,
}

struct Row {
    tenant: TenantId,
    receipt: Receipt,
    /// When its file was destroyed: the retention counts from there.
    over: Option<Boot>,
}

impl Evidence {
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>, retention: Duration) -> Self {
        Self { clock, entropy, retention, kept: Mutex::default() }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records an acceptance: from here on the file has a receipt.
    ///
    /// # Errors
    /// When no salt can be drawn; the file must then not be accepted.
    pub fn accept(&self, said: Acceptance) -> Result<(), EntropyError> {
        let salt = random::<32>(&*self.entropy)?;
        let receipt = Receipt {
            file: said.file,
            region: said.region,
            accepted_at: said.accepted_at,
            expires_at: said.expires_at,
            destroyed: None,
            keyring: said.keyring,
            blobs: said.blobs.into_iter().map(|store| (store, Answer::Pending)).collect(),
            handed_to: said.handed_to,
            commitment: commit(&salt, said.file, &said.commitments),
            commitment_salt: salt,
        };
        let mut kept = self.kept();
        if kept.rows.len() >= MOST
            && let Some((_, oldest)) = kept.over.pop_front()
        {
            kept.rows.remove(&oldest);
        }
        kept.rows.insert(said.file, Row { tenant: said.tenant, receipt, over: None });
        Ok(())
    }

    /// Processors are about to be handed the file's plaintext: its receipt names them.
    pub fn hand(&self, file: FileId, processors: &[String]) {
        if let Some(row) = self.kept().rows.get_mut(&file).filter(|row| row.over.is_none()) {
            for name in processors {
                if !row.receipt.handed_to.contains(name) {
                    row.receipt.handed_to.push(name.clone());
                }
            }
        }
    }

    /// A life was shortened: the receipt says the earlier end.
    pub fn shorten(&self, file: FileId, expires_at: Wall) {
        if let Some(row) = self.kept().rows.get_mut(&file) {
            row.receipt.expires_at = row.receipt.expires_at.min(expires_at);
        }
    }

    /// A processor was handed the file's plaintext: the receipt names it, once.
    pub fn hand_over(&self, file: FileId, name: &str) {
        if let Some(row) = self.kept().rows.get_mut(&file)
            && row.receipt.handed_to.iter().all(|known| known != name)
        {
            row.receipt.handed_to.push(name.to_owned());
        }
    }

    /// Makes the receipt final and returns it. Only the first proof counts.
    pub fn finish(&self, proof: &Arc<KeysDestroyed>) -> Option<Receipt> {
        let now = self.clock.now().boot;
        let mut kept = self.kept();
        let row = kept.rows.get_mut(&proof.file())?;
        row.receipt.destroyed.get_or_insert_with(|| proof.clone());
        let receipt = row.receipt.clone();
        if row.over.replace(now).is_none() {
            kept.over.push_back((now, proof.file()));
        }
        Some(receipt)
    }

    /// Notes what the store answered to the delete of the file's `index`th blob.
    pub fn answered(&self, file: FileId, index: usize, answer: Answer) {
        if let Some(row) = self.kept().rows.get_mut(&file)
            && let Some(blob) = row.receipt.blobs.get_mut(index)
        {
            blob.1 = answer;
        }
    }

    /// A tenant's own receipt; another tenant's and an unknown one look the same.
    #[must_use]
    pub fn get(&self, file: FileId, tenant: TenantId) -> Option<Receipt> {
        let kept = self.kept();
        let row = kept.rows.get(&file).filter(|row| row.tenant == tenant)?;
        let over = row.over.map(|over| self.clock.now().boot.since(over));
        (over.is_none_or(|age| age < self.retention)).then(|| row.receipt.clone())
    }

    /// Forgets every final receipt of a tenant.
    pub fn forget(&self, tenant: TenantId) {
        let mut kept = self.kept();
        let Kept { rows, over } = &mut *kept;
        rows.retain(|_, row| row.tenant != tenant || row.over.is_none());
        over.retain(|(_, file)| rows.contains_key(file));
    }

    /// Forgets what is older than the retention.
    pub fn sweep(&self) {
        let now = self.clock.now().boot;
        let mut kept = self.kept();
        while let Some((over, file)) = kept.over.front().copied()
            && now.since(over) >= self.retention
        {
            kept.over.pop_front();
            kept.rows.remove(&file);
        }
    }
}

/// K over the segments' commitments, in order (VAULT.md, "Receipts").
fn commit(salt: &[u8; 32], file: FileId, commitments: &[[u8; 32]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"dayfly/v1 receipt\0");
    hash.update(salt);
    hash.update(file.as_bytes());
    hash.update(u32::try_from(commitments.len()).unwrap_or(u32::MAX).to_be_bytes());
    for commitment in commitments {
        hash.update(commitment);
    }
    hash.finalize().into()
}
