//! The log's tree: leaves and hashes in one file that only grows (RFC 6962; C2SP tlog-tiles).
//!
//! Leaf n is a block of its own: its 33 bytes, then the hashes that it completes. So one sync makes
//! a whole batch durable, every hash is found by arithmetic, and a block that was torn is seen to
//! be torn, because its hashes follow from its leaf and those before it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use tlog_tiles::{Error, HASH_SIZE, Hash, HashReader, Tile};
use tlog_tiles::{
    prove_record, split_stored_hash_index, stored_hash_index, stored_hashes, tree_hash,
};

/// A kind byte and a blinded hash.
pub const LEAF_BYTES: usize = 33;
pub type LeafBytes = [u8; LEAF_BYTES];

/// Height of the tiles that are served (C2SP tlog-tiles): 256 hashes.
const TILE_HEIGHT: u8 = 8;

/// Why a log's file is not the log that was signed. Going on would fork it.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    #[error("the log is shorter than the checkpoint that was signed")]
    Shorter,
    #[error("the log is not the one that was signed")]
    Changed,
    #[error("the log cannot be read or written ({0})")]
    Io(io::ErrorKind),
}

impl From<io::Error> for TreeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error.kind())
    }
}

/// Where the blocks are.
enum Blocks {
    File(File),
    /// A log that ends with its process.
    Memory(RwLock<Vec<u8>>),
}

/// A tree of leaves, read by many and grown by one.
pub struct Tree {
    blocks: Blocks,
    size: AtomicU64,
}

/// Where leaf `n` begins: the leaves before it, and the hashes they completed.
fn block_at(n: u64) -> u64 {
    LEAF_BYTES as u64 * n + HASH_SIZE as u64 * stored_hash_index(0, n)
}

/// Where a stored hash lies: in the block of the leaf that completed it.
fn hash_at(index: u64) -> u64 {
    let (level, n) = split_stored_hash_index(index);
    let leaf = ((n + 1) << level) - 1;
    LEAF_BYTES as u64 * (leaf + 1) + HASH_SIZE as u64 * index
}

impl Blocks {
    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.read_exact_at(into, at),
            Self::Memory(bytes) => {
                let bytes = bytes.read().unwrap_or_else(PoisonError::into_inner);
                let at = usize::try_from(at).unwrap_or(usize::MAX);
                let end = at.saturating_add(into.len());
                let found = bytes.get(at..end).ok_or(io::ErrorKind::UnexpectedEof)?;
                into.copy_from_slice(found);
                Ok(())
            }
        }
    }

    fn append(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => {
                file.write_all_at(bytes, at)?;
                file.sync_data()
            }
            Self::Memory(memory) => {
                memory.write().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    fn hash(&self, index: u64) -> io::Result<Hash> {
        let mut hash = [0; HASH_SIZE];
        self.read(hash_at(index), &mut hash)?;
        Ok(Hash(hash))
    }
}

/// What is stored, and a batch that is about to be.
struct View<'a> {
    blocks: &'a Blocks,
    /// Where `fresh` will lie.
    from: u64,
    fresh: &'a [u8],
}

impl HashReader for View<'_> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, Error> {
        let read = |index: &u64| {
            let at = hash_at(*index);
            if let Some(at) = at.checked_sub(self.from) {
                let at = usize::try_from(at).map_err(|_| Error::IndexesNotInTree)?;
                let found = self.fresh.get(at..at + HASH_SIZE).ok_or(Error::IndexesNotInTree)?;
                return Ok(Hash(found.try_into().map_err(|_| Error::MalformedHash)?));
            }
            self.blocks.hash(*index).map_err(|_| Error::IndexesNotInTree)
        };
        indexes.iter().map(read).collect()
    }
}

impl Tree {
    /// An empty tree in memory.
    pub(super) fn in_memory() -> Self {
        Self { blocks: Blocks::Memory(RwLock::default()), size: AtomicU64::new(0) }
    }

    /// Opens the file. Whole blocks beyond what was signed stay, for they may have been; what is
    /// torn is cut off.
    ///
    /// # Errors
    /// When the file is not that of the checkpoint, `(size, root)`.
    pub(super) fn open(file: File, signed: Option<(u64, Hash)>) -> Result<Self, TreeError> {
        let length = file.metadata()?.len();
        let (size, root) = signed.unwrap_or((0, tlog_tiles::EMPTY_HASH));
        if block_at(size) > length {
            return Err(TreeError::Shorter);
        }
        let tree = Self { blocks: Blocks::File(file), size: AtomicU64::new(size) };
        if tree.root(size).is_none_or(|found| found != root) {
            return Err(TreeError::Changed);
        }
        let mut whole = size;
        while tree.is_whole(whole) {
            whole += 1;
        }
        if let Blocks::File(file) = &tree.blocks
            && length != block_at(whole)
        {
            file.set_len(block_at(whole))?;
        }
        tree.size.store(whole, Ordering::Release);
        Ok(tree)
    }

    /// Whether block `n` is there, and what it says follows from what is before it.
    fn is_whole(&self, n: u64) -> bool {
        let Ok(leaf) = self.leaf(n) else { return false };
        let view = View { blocks: &self.blocks, from: u64::MAX, fresh: &[] };
        let Ok(hashes) = stored_hashes(n, &leaf, &view) else { return false };
        let first = stored_hash_index(0, n);
        let same =
            |(at, hash): (u64, &Hash)| self.blocks.hash(first + at).is_ok_and(|h| h == *hash);
        (0..).zip(&hashes).all(same)
    }

    /// Adds leaves, durably; returns the first one's index. One caller at a time.
    ///
    /// # Errors
    /// Those of the file; the tree then is as it was.
    pub(super) fn append(&self, leaves: &[LeafBytes]) -> Result<u64, TreeError> {
        let first = self.size();
        let (from, mut fresh) = (block_at(first), Vec::new());
        for (n, leaf) in (first..).zip(leaves) {
            let view = View { blocks: &self.blocks, from, fresh: &fresh };
            // The leaf's own bytes stand before the hashes it completes.
            let hashes = stored_hashes(n, leaf, &view).map_err(|_| TreeError::Changed)?;
            fresh.extend_from_slice(leaf);
            hashes.iter().for_each(|hash| fresh.extend_from_slice(&hash.0));
        }
        self.blocks.append(from, &fresh)?;
        self.size.store(first + leaves.len() as u64, Ordering::Release);
        Ok(first)
    }

    pub(super) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// A stored hash, by its index.
    #[cfg(test)]
    pub(super) fn stored(&self, index: u64) -> io::Result<Hash> {
        self.blocks.hash(index)
    }

    fn reader(&self) -> View<'_> {
        View { blocks: &self.blocks, from: u64::MAX, fresh: &[] }
    }

    /// The root over the first `size` leaves.
    pub(super) fn root(&self, size: u64) -> Option<Hash> {
        tree_hash(size, &self.reader()).ok()
    }

    /// The path from leaf `index` to the root over the first `size` leaves.
    pub(super) fn path(&self, size: u64, index: u64) -> Option<Vec<Hash>> {
        prove_record(size, index, &self.reader()).ok()
    }

    pub(super) fn leaf(&self, index: u64) -> io::Result<LeafBytes> {
        let mut leaf = [0; LEAF_BYTES];
        self.blocks.read(block_at(index), &mut leaf)?;
        Ok(leaf)
    }

    /// A tile of hashes (level 0 to 63) that the tree over the first `size` leaves has.
    pub(super) fn tile(&self, size: u64, level: u8, index: u64, width: u32) -> Option<Vec<u8>> {
        let shift = u32::from(TILE_HEIGHT) * u32::from(level);
        let there = size.checked_shr(shift).unwrap_or(0);
        let end = index.checked_mul(256)?.checked_add(u64::from(width))?;
        let fits = (1..=256).contains(&width) && end <= there;
        fits.then(|| Tile::new(TILE_HEIGHT, level, index, width, false))?
            .read_data(&self.reader())
            .ok()
    }

    /// The entries of a tile of level 0, each with its length before it.
    pub(super) fn entries(&self, size: u64, index: u64, width: u32) -> Option<Vec<u8>> {
        let first = index.checked_mul(256)?;
        let end = first.checked_add(u64::from(width))?;
        if !(1..=256).contains(&width) || end > size {
            return None;
        }
        let mut bundle = Vec::with_capacity(width as usize * (LEAF_BYTES + 2));
        for n in first..end {
            bundle.extend_from_slice(&(LEAF_BYTES as u16).to_be_bytes());
            bundle.extend_from_slice(&self.leaf(n).ok()?);
        }
        Some(bundle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::StateDir;
    use tlog_tiles::{check_record, record_hash};

    fn leaf(n: u64) -> LeafBytes {
        let mut leaf = [1; LEAF_BYTES];
        leaf[1..9].copy_from_slice(&n.to_be_bytes());
        leaf
    }

    #[test]
    fn every_leaf_is_proven_in_every_later_tree() {
        let tree = Tree::in_memory();
        for n in 0..70 {
            assert_eq!(tree.append(&[leaf(n)]).unwrap(), n);
        }
        assert_eq!(tree.append(&(70..600).map(leaf).collect::<Vec<_>>()).unwrap(), 70);
        for size in [1, 2, 3, 64, 70, 255, 256, 257, 600] {
            let root = tree.root(size).unwrap();
            for n in (0..size).step_by(7) {
                let path = tree.path(size, n).unwrap();
                check_record(&path, size, root, n, record_hash(&leaf(n))).unwrap();
            }
        }
    }

    #[test]
    fn tiles_hold_what_the_specification_says_and_no_more() {
        let tree = Tree::in_memory();
        tree.append(&(0..600).map(leaf).collect::<Vec<_>>()).unwrap();
        let full = tree.tile(600, 0, 1, 256).unwrap();
        assert_eq!(full.len(), 8192);
        assert_eq!(full[..32], record_hash(&leaf(256)).0);
        let above = tree.tile(600, 1, 0, 2).unwrap();
        assert_eq!(above[32..], Tile::subtree_hash(&full).0);
        assert_eq!(tree.tile(600, 0, 2, 88).unwrap().len(), 88 * 32);
        for (level, index, width) in [(0, 2, 89), (0, 3, 1), (1, 0, 3), (2, 0, 1), (63, 0, 1)] {
            assert!(tree.tile(600, level, index, width).is_none(), "{level}/{index}.p/{width}");
        }
        let bundle = tree.entries(600, 2, 88).unwrap();
        assert_eq!((bundle.len(), &bundle[..2]), (88 * 35, &[0, 33][..]));
        assert_eq!(bundle[2..35], leaf(512));
        assert!(tree.entries(600, 2, 89).is_none() && tree.entries(600, u64::MAX, 1).is_none());
    }

    #[test]
    fn a_file_torn_at_any_byte_keeps_what_was_signed_and_whole_blocks_beyond() {
        let home = tempfile::tempdir().unwrap();
        let dir = StateDir::open(&home.path().join("state")).unwrap();
        let open = |signed| Tree::open(dir.file("t").unwrap(), signed);
        let tree = open(None).unwrap();
        tree.append(&(0..5).map(leaf).collect::<Vec<_>>()).unwrap();
        let root = tree.root(5).unwrap();
        let signed = Some((5, root));
        tree.append(&(5..9).map(leaf).collect::<Vec<_>>()).unwrap();
        let all = dir.read("t").unwrap().unwrap();
        for cut in block_at(5)..=block_at(9) {
            dir.replace("t", &all[..cut as usize]).unwrap();
            let found = open(signed).unwrap();
            let whole = (5..=9).rev().find(|n| block_at(*n) <= cut).unwrap();
            assert_eq!(found.size(), whole, "cut at {cut}");
            assert_eq!(found.root(whole).unwrap(), tree.root(whole).unwrap());
            found.append(&[leaf(99)]).unwrap();
            assert_eq!(open(signed).unwrap().size(), whole + 1);
        }
        for cut in [0, block_at(5) - 1] {
            dir.replace("t", &all[..cut as usize]).unwrap();
            assert!(matches!(open(signed), Err(TreeError::Shorter)));
        }
        for at in 0..block_at(5) as usize {
            // Only what the root stands on shows a change without reading every leaf.
            let mut changed = all.clone();
            changed[at] ^= 1;
            dir.replace("t", &changed).unwrap();
            if let Ok(found) = open(signed) {
                assert_eq!(found.root(5).unwrap(), root);
            }
        }
    }
}
