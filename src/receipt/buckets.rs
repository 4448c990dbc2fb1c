//! Accounts of deadline buckets: how many files were to end in each, and how many did.

use std::collections::BTreeMap;
use std::time::Duration;

use super::row::Row;
use crate::clock::Wall;
use crate::file::Epoch;

/// From a bucket's end until an acceptance without a destruction is overdue.
pub(super) const OVERDUE_AFTER: Duration = Duration::from_secs(600);

/// A bucket: its end in unix seconds, and its length, 60 or 900 seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Bucket {
    pub end: u64,
    pub length: u64,
}

/// What is counted of one bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    pub accepted: u64,
    pub destroyed: u64,
    /// The counts its last closing leaf states.
    pub closed: Option<(u64, u64)>,
}

impl Bucket {
    /// The bucket a file counts in; one without an epoch key counts in the minute that holds its
    /// first deadline.
    pub fn of(row: &Row) -> Self {
        let length = if matches!(row.epoch, Epoch::Quarter(_)) { 900 } else { 60 };
        let end = row.epoch.end().unwrap_or(row.first_expires_at).since_epoch();
        Self { end: end.as_millis().div_ceil(u128::from(length) * 1000) as u64 * length, length }
    }

    pub const fn end(self) -> Wall {
        Wall::from_unix(Duration::from_secs(self.end))
    }
}

/// All buckets that are not settled.
#[derive(Clone, Debug, Default)]
pub(super) struct Buckets(BTreeMap<Bucket, Account>);

impl Buckets {
    pub fn restore(&mut self, bucket: Bucket, account: Account) {
        let there = self.0.entry(bucket).or_default();
        there.accepted += account.accepted;
        there.destroyed += account.destroyed;
        there.closed = there.closed.max(account.closed);
    }

    pub fn accepted(&mut self, row: &Row) {
        self.0.entry(Bucket::of(row)).or_default().accepted += 1;
    }

    pub fn destroyed(&mut self, row: &Row) {
        self.0.entry(Bucket::of(row)).or_default().destroyed += 1;
    }

    /// Buckets whose end has passed and whose files are all destroyed, or that are overdue; each
    /// once for the same counts. They are closed from here on.
    pub fn close(&mut self, now: Wall) -> Vec<(Bucket, Account)> {
        let mut closing = Vec::new();
        for (bucket, account) in &mut self.0 {
            let (counts, over) = ((account.accepted, account.destroyed), bucket.end() <= now);
            let late = bucket.end().plus(OVERDUE_AFTER) <= now;
            if over && (late || counts.0 == counts.1) && account.closed != Some(counts) {
                account.closed = Some(counts);
                closing.push((*bucket, *account));
            }
        }
        closing
    }

    /// Their closing leaves could not be logged: they are closed again later.
    pub fn reopen(&mut self, closed: &[(Bucket, Account)]) {
        for (bucket, _) in closed {
            if let Some(account) = self.0.get_mut(bucket) {
                account.closed = None;
            }
        }
    }

    /// Forgets settled buckets of long ago; nothing can change them any more.
    pub fn forget(&mut self, now: Wall) {
        self.0.retain(|bucket, account| {
            let settled = account.closed == Some((account.accepted, account.destroyed))
                && account.accepted == account.destroyed;
            !settled || bucket.end().plus(OVERDUE_AFTER * 2) > now
        });
    }

    /// Acceptances without a destruction, ten minutes after their bucket's end: must be 0.
    pub fn overdue(&self, now: Wall) -> u64 {
        let late = self.0.iter().filter(|(bucket, _)| bucket.end().plus(OVERDUE_AFTER) <= now);
        late.map(|(_, account)| account.accepted.saturating_sub(account.destroyed)).sum()
    }
}
