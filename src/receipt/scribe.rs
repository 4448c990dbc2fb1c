//! Writing down, together: everything that waits is sealed, written and promised at once.
//!
//! Whoever needs something written lets the others who are ready come first, then writes what is
//! there for everybody. Under load one write and one signature serve many requests; a request that
//! is alone waits for nobody.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::journal::Entry;
use super::ledger::{Block, Ledger};
use super::promise::{PLACES, Promised, Together};
use super::tree::LeafBytes;
use super::{Access, Evidence, EvidenceError};
use crate::file::FileId;
use crate::metrics;

/// Written together at most.
const BATCH: usize = 256;

/// What waits to be written, and how far that has come. Counted from the start.
#[derive(Default)]
pub(super) struct Scribe {
    queue: Mutex<VecDeque<Item>>,
    /// Everything that ever came, and what of it is done.
    last: AtomicU64,
    done: AtomicU64,
    /// Held by who writes.
    turn: Mutex<()>,
}

enum Item {
    /// A row that is new, or has changed.
    Accepted(FileId),
    Row(FileId),
    /// Somebody wants the promise that its acceptance will be in the log.
    Ask(FileId, oneshot::Sender<String>),
}

/// What one write is made of.
#[derive(Default)]
struct Batch {
    files: Vec<FileId>,
    blocks: Vec<Block>,
    leaves: Vec<LeafBytes>,
    asked: Vec<(Promised, oneshot::Sender<String>)>,
}

impl Scribe {
    fn queue(&self) -> MutexGuard<'_, VecDeque<Item>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, item: Item) {
        let mut queue = self.queue();
        queue.push_back(item);
        self.last.fetch_add(1, Ordering::SeqCst);
    }

    fn is_done(&self, ticket: u64) -> bool {
        self.done.load(Ordering::SeqCst) >= ticket
    }

    fn last(&self) -> u64 {
        self.last.load(Ordering::SeqCst)
    }
}

impl Evidence {
    /// Whether anything is to be written, or promised, at all.
    const fn writes(&self) -> bool {
        self.ledger.is_some() || !matches!(self.access, Access::Off)
    }

    /// A row is new. Called while the rows are locked.
    pub(super) fn is_new(&self, file: FileId) {
        if self.ledger.is_some() {
            self.scribe.push(Item::Accepted(file));
        }
    }

    /// A row has changed. Called while the rows are locked.
    pub(super) fn has_changed(&self, file: FileId) {
        if self.ledger.is_some() {
            self.scribe.push(Item::Row(file));
        }
    }

    /// Returns when everything that has happened so far is written down: from here on a kill does
    /// not lose it. What could not be written stays in memory, and is filed with the next
    /// checkpoint that succeeds.
    pub async fn written(&self) {
        let ticket = self.scribe.last();
        if !self.scribe.is_done(ticket) {
            tokio::task::yield_now().await;
            self.write_until(ticket);
        }
    }

    /// Returns when the acceptance of these files is written down. With `promise`, gives the signed
    /// promise that each one's leaf will be in the log, in one line (`promise`); none without a
    /// log.
    ///
    /// # Errors
    /// When it cannot be written; the files must then not be kept.
    pub async fn acknowledge(
        &self,
        files: &[FileId],
        promise: bool,
    ) -> Result<Vec<String>, EvidenceError> {
        if !self.writes() {
            return Ok(Vec::new());
        }
        let mut asked = Vec::new();
        for file in files.iter().filter(|_| promise && self.access != Access::Off) {
            let (ask, answer) = oneshot::channel();
            self.scribe.push(Item::Ask(*file, ask));
            asked.push(answer);
        }
        self.written().await;
        let mut promises = Vec::with_capacity(asked.len());
        for answer in asked {
            promises.extend(answer.await.ok());
        }
        let kept = self.kept();
        let lost = |file| kept.rows.get(file).is_some_and(|row| row.is_lost);
        if files.iter().any(lost) {
            return Err(EvidenceError::Io(std::io::ErrorKind::StorageFull));
        }
        Ok(promises)
    }

    /// Writes everything now.
    pub(super) fn write_out(&self) {
        self.write_until(self.scribe.last());
    }

    /// Writes if much waits: files that end without a request have nobody to wait for it.
    pub(super) fn write_if_many(&self) {
        let last = self.scribe.last();
        if !self.scribe.is_done(last.saturating_sub(BATCH as u64)) {
            self.write_until(last);
        }
    }

    fn write_until(&self, ticket: u64) {
        while !self.scribe.is_done(ticket) {
            let _turn = self.scribe.turn.lock().unwrap_or_else(PoisonError::into_inner);
            if !self.scribe.is_done(ticket) {
                self.write_batch();
            }
        }
    }

    fn write_batch(&self) {
        let items: Vec<Item> = {
            let mut queue = self.scribe.queue();
            let most = queue.len().min(BATCH);
            queue.drain(..most).collect()
        };
        let count = items.len() as u64;
        let batch = self.collect(items);
        if let Some(ledger) = &self.ledger {
            let written = write(ledger, &batch.blocks, &batch.leaves);
            self.mark(&batch.files, written.is_err());
            if let Err(error) = written {
                metrics::count(metrics::EVIDENCE_FAILURES, 1);
                tracing::error!("receipts cannot be written: {error}");
            }
        }
        self.promise(batch.asked);
        self.scribe.done.fetch_add(count, Ordering::SeqCst);
    }

    /// The rows' bytes, as they are now.
    fn collect(&self, items: Vec<Item>) -> Batch {
        let (segment, by_leaf) = (self.segment(), self.retention.is_zero());
        let mut batch = Batch::default();
        let mut kept = self.kept();
        for item in items {
            match item {
                // Of rows that are not kept only what was promised is.
                Item::Row(_) if by_leaf => {}
                Item::Accepted(file) if by_leaf => {
                    batch.leaves.extend(kept.rows.get(&file).and_then(|row| row.leaf));
                    batch.files.push(file);
                }
                Item::Accepted(file) | Item::Row(file) => {
                    let Some(row) = kept.rows.get_mut(&file) else { continue };
                    batch.files.push(file);
                    row.segment = segment;
                    Block::add(&mut batch.blocks, row);
                }
                Item::Ask(file, sender) => {
                    let row = kept.rows.get(&file).filter(|row| row.run == self.run());
                    let promised = row.and_then(|row| Some(Promised::new(row.leaf?, &row.salt)));
                    batch.asked.extend(promised.map(|promised| (promised, sender)));
                }
            }
        }
        batch
    }

    /// Remembers of which rows the newest bytes are in memory alone.
    fn mark(&self, files: &[FileId], are_lost: bool) {
        let mut kept = self.kept();
        for file in files {
            if let Some(row) = kept.rows.get_mut(file).filter(|row| row.is_lost != are_lost) {
                row.is_lost = are_lost;
            }
        }
    }

    /// Answers those who asked. Without a pen, or randomness, they hear nothing.
    fn promise(&self, asked: Vec<(Promised, oneshot::Sender<String>)>) {
        let by = self.clock.now().wall.plus(super::MERGE_WITHIN);
        let mut asked = asked.into_iter();
        loop {
            let (some, senders): (Vec<_>, Vec<_>) = asked.by_ref().take(PLACES).unzip();
            if some.is_empty() {
                return;
            }
            let Ok(together) = Together::new(some.iter(), &*self.entropy) else { return };
            let signed = self.pen().as_ref().and_then(|pen| pen.sign_note(&together.text(by)));
            let signature = signed.as_deref().and_then(|note| note.lines().last());
            let Some(signature) = signature.and_then(|line| line.strip_prefix("\u{2014} ")) else {
                return;
            };
            for (line, sender) in together.lines(by, signature).zip(senders) {
                // Whoever asked may have left.
                let _ = sender.send(line);
            }
        }
    }
}

fn write(ledger: &Ledger, blocks: &[Block], leaves: &[LeafBytes]) -> Result<(), EvidenceError> {
    let mut entries: Vec<Entry> = leaves.iter().copied().map(Entry::Leaf).collect();
    for block in blocks {
        entries.push(ledger.seal_block(block)?);
    }
    if entries.is_empty() { Ok(()) } else { Ok(ledger.journal.append(&entries)?) }
}
