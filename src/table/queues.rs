//! In which order files end: with their bucket, alone before it, or by now without keys.
//!
//! What ends with a bucket stands there as often as others share it, so that its end is seen at
//! once, however many they are, and by whoever looks: not even a clock that is set back revives it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{FORGOTTEN_WITHIN, GRACE, LiveFile};
use crate::clock::{Boot, Now, Wall};
use crate::file::{Deadline, FileId};
use crate::keyring::Bucket;

#[derive(Default)]
pub(super) struct Queues {
    /// By the bucket's number: all files that were sealed under its key.
    buckets: BTreeMap<u64, Shelf>,
    // Those of all files that do not end with a bucket's key: their own secret is all that opens
    // them, or ends earlier. They are due on the first of two clocks, so they stand in two queues.
    alone_by_boot: BTreeSet<(Boot, FileId)>,
    alone_by_wall: BTreeSet<(Wall, FileId)>,
    /// Ended alone: their keys are destroyed.
    over: BTreeMap<FileId, Deadline>,
}

struct Shelf {
    bucket: Arc<Bucket>,
    files: BTreeSet<FileId>,
}

impl Shelf {
    fn is_over(&self, now: Now) -> bool {
        self.bucket.has_ended() || self.bucket.ends().is_due(now)
    }
}

fn is_past(end: Deadline, now: Now, span: Duration) -> bool {
    end.boot().plus(span) <= now.boot || end.expires_at().plus(span) <= now.wall
}

impl Queues {
    pub fn enter(&mut self, file: &LiveFile, due: Deadline) {
        let keys = &file.origin.keys;
        if let Some(bucket) = keys.bucket() {
            let new = || Shelf { bucket: bucket.clone(), files: BTreeSet::new() };
            self.buckets.entry(bucket.number()).or_insert_with(new).files.insert(file.id);
        }
        // The keys of parts may be of other buckets than the file's own.
        if !file.parts.is_empty() || !keys.ends_with_bucket() {
            self.alone_by_boot.insert((due.boot(), file.id));
            self.alone_by_wall.insert((due.expires_at(), file.id));
        }
    }

    pub fn leave(&mut self, file: &LiveFile, due: Deadline) {
        if let Some(bucket) = file.origin.keys.bucket()
            && let Some(shelf) = self.buckets.get_mut(&bucket.number())
        {
            shelf.files.remove(&file.id);
            if shelf.files.is_empty() {
                self.buckets.remove(&bucket.number());
            }
        }
        self.alone_by_boot.remove(&(due.boot(), file.id));
        self.alone_by_wall.remove(&(due.expires_at(), file.id));
        self.over.remove(&file.id);
    }

    /// Up to `limit` and some files that are due, or have no keys any more.
    pub fn over(&self, now: Now, limit: usize) -> BTreeSet<FileId> {
        let shelves = self.buckets.values().filter(|shelf| shelf.is_over(now));
        let shared = shelves.flat_map(|shelf| &shelf.files).take(limit);
        let mut ids = self.due_alone(now, limit);
        ids.extend(shared.chain(self.over.keys().take(limit)));
        ids
    }

    pub fn due_alone(&self, now: Now, limit: usize) -> BTreeSet<FileId> {
        let (boot, wall) = (self.alone_by_boot.iter(), self.alone_by_wall.iter());
        let boot = boot.take_while(|(at, _)| *at <= now.boot).map(|(_, id)| id).take(limit);
        let wall = wall.take_while(|(at, _)| *at <= now.wall).map(|(_, id)| id).take(limit);
        boot.chain(wall).copied().collect()
    }

    pub fn keys_gone(&mut self, file: FileId, due: Deadline) {
        self.alone_by_boot.remove(&(due.boot(), file));
        self.alone_by_wall.remove(&(due.expires_at(), file));
        self.over.insert(file, due);
    }

    pub fn next_due(&self, now: Now) -> Option<Duration> {
        let alone = self.alone_by_boot.first().map(|(at, _)| now.boot.until(*at));
        let wall = self.alone_by_wall.first().map(|(at, _)| now.wall.until(*at));
        let shelves = self.buckets.values().map(|shelf| match shelf.bucket.has_ended() {
            true => Duration::ZERO,
            false => shelf.bucket.ends().left(now),
        });
        let over = (!self.over.is_empty()).then_some(Duration::ZERO);
        alone.into_iter().chain(wall).chain(over).chain(shelves).min()
    }

    /// Files whose keys live though they are long due, and those that nobody has come to forget.
    pub fn overdue(&self, now: Now) -> usize {
        let boot = self.alone_by_boot.iter().take_while(|(at, _)| at.plus(GRACE) <= now.boot);
        let wall = self.alone_by_wall.iter().take_while(|(at, _)| at.plus(GRACE) <= now.wall);
        let shelves = self.buckets.values().filter(|shelf| {
            let span = if shelf.bucket.has_ended() { FORGOTTEN_WITHIN } else { GRACE };
            is_past(shelf.bucket.ends(), now, span)
        });
        let over = self.over.values().filter(|end| is_past(**end, now, FORGOTTEN_WITHIN));
        let shared = shelves.map(|shelf| shelf.files.len()).sum::<usize>();
        boot.count().max(wall.count()) + shared + over.count()
    }
}
