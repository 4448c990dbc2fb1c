//! The log of proofs: a tree of blinded leaves, and the checkpoints that are signed over it
//! (C2SP tlog-checkpoint, tlog-tiles).

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tlog_tiles::{Checkpoint, Hash};

use super::EvidenceError;
use super::pen::Pen;
use super::tree::{LeafBytes, Tree};
use crate::disk::StateDir;

const CHECKPOINT: &str = "checkpoint";
const TREE: &str = "tree";

/// A checkpoint that was signed, and is served.
pub(super) struct Published {
    pub size: u64,
    pub note: String,
}

pub(super) struct Log {
    key: Pen,
    tree: Tree,
    dir: Option<Arc<StateDir>>,
    published: Mutex<Arc<Published>>,
}

impl Log {
    /// A log that ends with its process.
    pub fn in_memory(key: Pen) -> Result<Self, EvidenceError> {
        Self::over(key, Tree::in_memory(), None)
    }

    /// Opens the log of earlier runs, or begins one. It must be the one that was signed, or a
    /// longer one.
    pub fn open(key: Pen, dir: Arc<StateDir>) -> Result<Self, EvidenceError> {
        let note = dir.read(CHECKPOINT)?;
        let signed = note.map(|note| read(&key, &note).ok_or(EvidenceError::Checkpoint));
        let tree = Tree::open(dir.file(TREE)?, signed.transpose()?)?;
        Self::over(key, tree, Some(dir))
    }

    fn over(key: Pen, tree: Tree, dir: Option<Arc<StateDir>>) -> Result<Self, EvidenceError> {
        let published = Arc::new(Published { size: 0, note: String::new() });
        let log = Self { key, tree, dir, published: Mutex::new(published) };
        log.publish()?;
        Ok(log)
    }

    /// The name in its checkpoints.
    pub fn origin(&self) -> &str {
        self.key.name()
    }

    pub const fn key(&self) -> &Pen {
        &self.key
    }

    /// Adds leaves, durably; returns the first one's index. One caller at a time.
    pub fn append(&self, leaves: &[LeafBytes]) -> Result<u64, EvidenceError> {
        Ok(self.tree.append(leaves)?)
    }

    /// Signs what the tree holds, and serves that from now on.
    pub fn publish(&self) -> Result<(), EvidenceError> {
        let size = self.tree.size();
        let root = self.tree.root(size).ok_or(EvidenceError::Checkpoint)?;
        let checkpoint = Checkpoint::new(self.origin(), size, root, "");
        let text = checkpoint.map_err(|_| EvidenceError::Checkpoint)?.to_bytes();
        let text = String::from_utf8(text).map_err(|_| EvidenceError::Checkpoint)?;
        let note = self.key.sign_note(&text).ok_or(EvidenceError::Checkpoint)?;
        if let Some(dir) = &self.dir {
            dir.replace(CHECKPOINT, note.as_bytes())?;
        }
        let published = Arc::new(Published { size, note });
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = published;
        Ok(())
    }

    pub fn published(&self) -> Arc<Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many leaves there are, those included that no checkpoint shows yet.
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    pub fn leaf(&self, index: u64) -> io::Result<LeafBytes> {
        self.tree.leaf(index)
    }

    /// The path from a leaf to the root of a checkpoint.
    pub fn path(&self, published: &Published, index: u64) -> Option<Vec<Hash>> {
        self.tree.path(published.size, index)
    }

    pub fn tile(&self, level: u8, index: u64, width: u32) -> Option<Vec<u8>> {
        self.tree.tile(self.published().size, level, index, width)
    }

    pub fn entries(&self, index: u64, width: u32) -> Option<Vec<u8>> {
        self.tree.entries(self.published().size, index, width)
    }
}

/// Size and root of a checkpoint that this key has signed.
fn read(key: &Pen, note: &[u8]) -> Option<(u64, Hash)> {
    let note = super::verify::checked(std::str::from_utf8(note).ok()?, &key.verifier()).ok()?;
    let checkpoint = Checkpoint::from_bytes(note.as_bytes()).ok()?;
    (checkpoint.origin() == key.name()).then(|| (checkpoint.size(), *checkpoint.hash()))
}
