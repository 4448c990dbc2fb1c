//! Pack files: many stretches of sealed bytes in few nameless files.
//!
//! A file of its own for every live segment would cost a descriptor each. A pack takes stretches
//! one after another, never writes over one, and gives each one's blocks back to the file system
//! by a hole as soon as it is released; the pack itself goes with its last stretch.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FallocateFlags, fallocate};

use crate::disk::{ReadAt, Spool};

/// A pack takes no further stretch beyond this length, bytes. Ten gigabytes need forty of them.
const PACK_BYTES: u64 = 256 << 20;

/// Blocks are given back whole: stretches begin and end at multiples of the usual block, bytes.
const BLOCK: u64 = 4096;

/// Packs that take stretches at a time. Writes to one file wait for one another in the kernel.
const OPEN_PACKS: usize = 4;

/// Where stretches are written.
pub(super) struct Packs {
    spool: Spool,
    open: [Mutex<Option<Arc<Pack>>>; OPEN_PACKS],
    turn: AtomicUsize,
}

struct Pack {
    file: File,
    /// Where the next stretch begins.
    next: AtomicU64,
}

/// Bytes of a pack that belong to one blob.
pub(super) struct Stretch {
    pack: Arc<Pack>,
    at: u64,
    bytes: u64,
}

impl Packs {
    pub fn new(spool: Spool) -> Self {
        Self { spool, open: Default::default(), turn: AtomicUsize::new(0) }
    }

    /// Writes `bytes` somewhere.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, bytes: &[u8]) -> io::Result<Stretch> {
        let stretch = self.reserve(bytes.len() as u64)?;
        if let Err(error) = stretch.pack.file.write_all_at(bytes, stretch.at) {
            // What was written of it is of no use. If even that fails, it goes with the pack.
            let _ = stretch.release();
            return Err(error);
        }
        Ok(stretch)
    }

    fn reserve(&self, bytes: u64) -> io::Result<Stretch> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % OPEN_PACKS;
        let mut open = self.open[turn].lock().unwrap_or_else(PoisonError::into_inner);
        let full = |pack: &mut Arc<Pack>| pack.next.load(Ordering::Relaxed) >= PACK_BYTES;
        let pack = match open.take_if(|pack| !full(pack)) {
            Some(pack) => pack,
            None => Arc::new(Pack { file: self.spool.nameless()?, next: AtomicU64::new(0) }),
        };
        let at = pack.next.fetch_add(blocks(bytes), Ordering::Relaxed);
        *open = Some(pack.clone());
        Ok(Stretch { pack, at, bytes })
    }
}

impl Stretch {
    /// What it takes on the disk, bytes.
    pub fn footprint(&self) -> u64 {
        blocks(self.bytes)
    }

    /// Reads what begins `offset` bytes into the stretch.
    ///
    /// # Errors
    /// Those of the file system, and when it ends before.
    pub fn read(&self, offset: u64, into: &mut [u8], read: ReadAt) -> io::Result<()> {
        let fits = offset.checked_add(into.len() as u64).is_some_and(|end| end <= self.bytes);
        if !fits {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        read(&self.pack.file, into, self.at + offset)
    }

    /// Gives the blocks back. A pack whose last stretch this is goes as a whole when it is dropped.
    ///
    /// # Errors
    /// Those of the file system; doing it again is harmless.
    pub fn release(&self) -> io::Result<()> {
        if Arc::strong_count(&self.pack) == 1 {
            return Ok(());
        }
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(fallocate(&self.pack.file, hole, self.at, self.footprint())?)
    }
}

/// `bytes`, rounded up to whole blocks.
pub(super) const fn blocks(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK) * BLOCK
}

/// Whether files of this spool can give back parts of themselves. Without that, packs would keep
/// released bytes for as long as their longest-lived stretch.
pub(super) fn possible(spool: &Spool) -> bool {
    let packs = Packs::new(spool.clone());
    packs.write(&[0; 1]).and_then(|stretch| stretch.release()).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::disk::read_at;

    fn on_disk(pack: &Pack) -> u64 {
        pack.file.metadata().unwrap().blocks() * 512
    }

    #[test]
    fn a_released_stretch_gives_its_blocks_back_and_its_neighbours_stay() {
        let home = tempfile::tempdir().unwrap();
        let packs = Packs::new(Spool::open(&home.path().join("spool")).unwrap());
        let stretches: Vec<_> =
            (0..40u8).map(|mark| packs.write(&[mark; 16_536]).unwrap()).collect();
        let pack = stretches[0].pack.clone();
        let before = on_disk(&pack);
        let (gone, kept): (Vec<_>, Vec<_>) = stretches
            .into_iter()
            .filter(|one| Arc::ptr_eq(&one.pack, &pack))
            .enumerate()
            .partition(|(at, _)| at % 2 == 0);
        assert_eq!((gone.len(), kept.len()), (5, 5));
        for (_, stretch) in &gone {
            stretch.release().unwrap();
            let mut bytes = [9; 16];
            stretch.read(0, &mut bytes, read_at).unwrap();
            assert_eq!(bytes, [0; 16], "the blocks are gone");
        }
        assert_eq!(before - on_disk(&pack), 5 * blocks(16_536));
        for (at, stretch) in &kept {
            let mut bytes = vec![0; 16_536];
            stretch.read(0, &mut bytes, read_at).unwrap();
            let mark = u8::try_from(at * OPEN_PACKS).unwrap();
            assert!(bytes.iter().all(|byte| *byte == mark));
            assert!(stretch.read(16_530, &mut [0; 16], read_at).is_err(), "not into the next one");
        }
    }

    #[test]
    fn a_full_pack_closes_and_goes_with_its_last_stretch() {
        let home = tempfile::tempdir().unwrap();
        let packs = Packs::new(Spool::open(&home.path().join("spool")).unwrap());
        let first = packs.write(&[1; 100]).unwrap();
        first.pack.next.store(PACK_BYTES, Ordering::Relaxed);
        let pack = Arc::downgrade(&first.pack);
        for _ in 0..OPEN_PACKS {
            packs.write(&[2; 100]).unwrap();
        }
        assert!(pack.upgrade().is_some(), "its stretch lives");
        drop(first);
        assert!(pack.upgrade().is_none());
    }
}
