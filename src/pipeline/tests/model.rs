//! What a client may expect of files, in plain numbers: no keys, no tasks, no stores.

use std::collections::HashMap;
use std::time::Duration;

use crate::clock::{Boot, Now, Wall};
use crate::file::{FileId, Reason};
use crate::table::CONTINUE_WITHIN;

/// A deadline on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct End {
    pub wall: Wall,
    pub boot: Boot,
}

/// A bucket's length and number.
pub type Bucket = (u64, u64);

/// A bucket, and which of the keys it ever had.
pub type KeyOf = (Bucket, u64);

impl End {
    /// What VAULT.md promises to somebody who asks for `ttl` seconds now.
    pub fn promised(now: Now, ttl: u64) -> (Self, Option<Bucket>) {
        let asked = now.wall.since_epoch() + Duration::from_secs(ttl);
        let (end, bucket) = if ttl < 300 {
            (Duration::from_millis(asked.as_millis() as u64), None)
        } else {
            let length = if ttl <= 75 * 60 { 60 } else { 900 };
            let count = asked.as_secs() / length;
            (Duration::from_secs(count * length), Some((length, count)))
        };
        let boot = now.boot.plus(end.saturating_sub(now.wall.since_epoch()));
        (Self { wall: Wall::from_unix(end), boot }, bucket)
    }

    pub fn is_due(self, now: Now) -> bool {
        now.wall >= self.wall || now.boot >= self.boot
    }

    pub fn shorten(&mut self, now: Now, ttl: u64) {
        self.shorten_to(now, Duration::from_secs(ttl));
    }

    fn shorten_to(&mut self, now: Now, ttl: Duration) {
        let asked = now.wall.since_epoch() + ttl;
        let asked = Wall::from_unix(Duration::from_millis(asked.as_millis() as u64));
        self.wall = self.wall.min(asked);
        self.boot = self.boot.min(now.boot.plus(ttl));
    }

    /// With the end of its source, where that has come nearer since `first` was promised to it.
    pub fn no_later_than_source(&mut self, source: Self, first: Self, now: Now) {
        if source.left(now) < first.left(now) {
            self.shorten_to(now, source.left(now));
        }
    }

    /// With the end of its bucket's key, where the wall clock was set back since that began.
    fn no_later_than(&mut self, bucket: End, now: Now) {
        if self.boot > bucket.boot {
            self.boot = bucket.boot;
            let told = now.wall.plus(now.boot.until(bucket.boot)).since_epoch();
            let told = Wall::from_unix(Duration::from_millis(told.as_millis() as u64));
            self.wall = self.wall.min(told);
        }
    }

    /// How long until the first of the clocks reaches it.
    pub fn left(self, now: Now) -> Duration {
        now.wall.until(self.wall).min(now.boot.until(self.boot))
    }
}

/// Downloads that are counted.
pub struct Counted {
    pub left: u64,
    claims: Vec<Claimed>,
}

struct Claimed {
    token: String,
    running: u32,
    spent: bool,
    until: Option<Boot>,
}

/// How far a delivery came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Came {
    Nowhere,
    /// Nowhere either, but under a claim that others ran under before.
    Back,
    Partly,
    Whole,
}

impl Counted {
    pub fn new(left: u64) -> Self {
        Self { left, claims: Vec::new() }
    }

    /// Whether `token` may be continued now; if so, it is.
    pub fn continues(&mut self, token: &str, now: Now) -> bool {
        let claim = self.claims.iter_mut().find(|claim| claim.token == token);
        let Some(claim) = claim else { return false };
        if claim.until.is_some_and(|until| now.boot >= until) {
            return false;
        }
        claim.until.get_or_insert(now.boot.plus(CONTINUE_WITHIN));
        claim.running += 1;
        true
    }

    pub fn begin(&mut self, token: String) {
        self.left -= 1;
        self.claims.push(Claimed { token, running: 1, spent: false, until: None });
    }

    pub fn settle(&mut self, token: &str, came: Came, now: Now) {
        let Some(at) = self.claims.iter().position(|claim| claim.token == token) else { return };
        let claim = &mut self.claims[at];
        claim.running -= 1;
        match came {
            Came::Nowhere if claim.running == 0 && !claim.spent => {
                self.claims.remove(at);
                self.left += 1;
            }
            Came::Nowhere => {}
            Came::Whole => claim.until = Some(now.boot),
            Came::Partly | Came::Back => {
                claim.until.get_or_insert(now.boot.plus(CONTINUE_WITHIN));
            }
        }
    }

    /// A byte has left under the claim.
    pub fn spend(&mut self, token: &str) {
        for claim in self.claims.iter_mut().filter(|claim| claim.token == token) {
            claim.spent = true;
        }
    }

    pub fn are_spent(&self, now: Now) -> bool {
        let over = |claim: &Claimed| {
            claim.running == 0 && claim.until.is_none_or(|until| now.boot >= until)
        };
        self.left == 0 && self.claims.iter().all(over)
    }
}

/// A file as its owner knows it.
pub struct Known {
    pub id: FileId,
    /// Where its bytes begin in the pattern that all files are cut from.
    pub offset: usize,
    pub size: u64,
    pub end: End,
    /// The end it was promised at first.
    pub first: End,
    /// The epoch key it was sealed under.
    pub key: Option<KeyOf>,
    pub counted: Option<Counted>,
    /// The claim that was given out last.
    pub token: Option<String>,
    pub over: Option<Reason>,
}

/// The keys of deadline buckets: a bucket ends with the first deadline admitted to it.
#[derive(Default)]
pub struct Buckets {
    held: HashMap<Bucket, (u64, End)>,
    drawn: u64,
}

impl Buckets {
    /// The key for a file of this bucket, with which the file ends at the latest.
    pub fn admit(&mut self, bucket: Option<Bucket>, end: &mut End, now: Now) -> Option<KeyOf> {
        let bucket = bucket?;
        if self.held.get(&bucket).is_some_and(|(_, ends)| ends.is_due(now)) {
            self.sweep(now);
        }
        self.drawn += 1;
        let (key, ends) = *self.held.entry(bucket).or_insert((self.drawn, *end));
        end.no_later_than(ends, now);
        Some((bucket, key))
    }

    pub fn sweep(&mut self, now: Now) {
        self.held.retain(|_, (_, end)| !end.is_due(now));
    }

    /// Whether what was sealed under `key` can be opened.
    pub fn hold(&self, key: Option<KeyOf>) -> bool {
        let held = |(bucket, drawn)| self.held.get(&bucket).is_some_and(|(now, _)| *now == drawn);
        key.is_none_or(held)
    }

    pub fn count(&self) -> usize {
        self.held.len()
    }
}
