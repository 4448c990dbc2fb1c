//! The audit trail: which key did what to which id, and when. No name, content or address.
//!
//! In memory, for as long as receipts are kept, and bounded: when there are too many lines, whoever
//! has most of them loses its oldest.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use data_encoding::BASE32_NOPAD;

use crate::clock::{Boot, Clock, Wall};
use crate::file::{FileId, TenantId};
use crate::job::JobId;
use crate::metrics;
use crate::policy::{GrantId, Who};

/// Lines kept of all tenants together. A line takes some 170 bytes.
const MOST: usize = 200_000;

macro_rules! actions {
    ($($variant:ident $text:literal;)*) => {
        /// What was done.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Action { $(
            #[doc = $text]
            $variant,
        )* }

        impl Action {
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

actions! {
    FileCreate "file.create";
    FileRead "file.read";
    FileShorten "file.shorten";
    FileDelete "file.delete";
    Process "process.run";
    JobCreate "job.create";
    JobCancel "job.cancel";
    GrantCreate "grant.create";
    ConnectionCreate "connection.create";
    ConnectionConfirm "connection.confirm";
    ConnectionRevoke "connection.revoke";
    TenantErase "tenant.erase";
    TenantSuspend "tenant.suspend";
    TenantResume "tenant.resume";
    TenantExport "tenant.export";
}

/// The id of what it was done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object {
    kind: &'static str,
    id: [u8; 16],
}

impl Object {
    /// An id that is shown as `kind_` and 26 base32 characters.
    #[must_use]
    pub const fn new(kind: &'static str, id: [u8; 16]) -> Self {
        Self { kind, id }
    }
}

impl From<FileId> for Object {
    fn from(file: FileId) -> Self {
        Self::new("file", *file.as_bytes())
    }
}

impl From<JobId> for Object {
    fn from(job: JobId) -> Self {
        Self::new("job", *job.as_bytes())
    }
}

impl From<GrantId> for Object {
    fn from(grant: GrantId) -> Self {
        Self::new("grant", *grant.as_bytes())
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.kind, BASE32_NOPAD.encode(&self.id).to_ascii_lowercase())
    }
}

/// One line.
#[derive(Clone, Debug)]
pub struct Line {
    pub at: Wall,
    pub who: Who,
    pub action: Action,
    /// `None` where it was done to the tenant as a whole.
    pub object: Option<Object>,
    number: u64,
    noted: Boot,
}

/// The lines of all tenants.
pub struct Audit {
    clock: Arc<dyn Clock>,
    retention: Duration,
    trails: Mutex<Trails>,
}

/// All tenants' lines. Tenants come from the policy, so they are few.
#[derive(Default)]
struct Trails {
    of: HashMap<TenantId, Trail>,
    lines: usize,
}

/// One tenant's lines, the oldest first. Their numbers are the tenant's own.
#[derive(Default)]
struct Trail {
    next: u64,
    lines: VecDeque<Line>,
}

impl Audit {
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, retention: Duration) -> Self {
        Self { clock, retention, trails: Mutex::default() }
    }

    fn trails(&self) -> std::sync::MutexGuard<'_, Trails> {
        self.trails.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a line into a tenant's trail.
    pub fn note(&self, tenant: TenantId, who: Who, action: Action, object: Option<Object>) {
        let now = self.clock.now();
        let mut trails = self.trails();
        if trails.lines >= MOST {
            trails.drop_one();
        }
        trails.lines += 1;
        let trail = trails.of.entry(tenant).or_default();
        let number = trail.next;
        trail.next += 1;
        trail.lines.push_back(Line { at: now.wall, who, action, object, number, noted: now.boot });
    }

    /// A page of a tenant's lines, newest first, from the one after `cursor` on; and the cursor of
    /// the next page, if there is one.
    #[must_use]
    pub fn list(
        &self,
        tenant: TenantId,
        cursor: Option<u64>,
        limit: usize,
    ) -> (Vec<Line>, Option<u64>) {
        let now = self.clock.now().boot;
        let trails = self.trails();
        let Some(trail) = trails.of.get(&tenant) else { return (Vec::new(), None) };
        // Numbers rise by one from line to line, so that a cursor is a place.
        let first = trail.lines.front().map_or(0, |line| line.number);
        let end = cursor.map_or(usize::MAX, |cursor| cursor.saturating_sub(first) as usize);
        let newest_first = trail.lines.iter().take(end).rev();
        let mut kept =
            newest_first.take_while(|line| now.since(line.noted) < self.retention).peekable();
        let page: Vec<Line> = kept.by_ref().take(limit).cloned().collect();
        let next = page.last().map(|line| line.number).filter(|_| kept.peek().is_some());
        (page, next)
    }

    /// Forgets a tenant's lines.
    pub fn forget(&self, tenant: TenantId) {
        let mut trails = self.trails();
        let forgotten = trails.of.get_mut(&tenant).map(|trail| std::mem::take(&mut trail.lines));
        trails.lines -= forgotten.map_or(0, |lines| lines.len());
    }

    /// Forgets what is older than the retention.
    pub fn sweep(&self) {
        let now = self.clock.now().boot;
        let mut trails = self.trails();
        let Trails { of, lines } = &mut *trails;
        for trail in of.values_mut() {
            let old = |line: &&Line| now.since(line.noted) >= self.retention;
            let gone = trail.lines.iter().take_while(old).count();
            trail.lines.drain(..gone);
            *lines -= gone;
        }
    }
}

impl Trails {
    fn drop_one(&mut self) {
        let longest = self.of.values_mut().max_by_key(|trail| trail.lines.len());
        if longest.and_then(|trail| trail.lines.pop_front()).is_some() {
            self.lines -= 1;
            metrics::count(metrics::AUDIT_LINES_DROPPED, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::VirtualClock;

    const DAY: Duration = Duration::from_hours(24);

    fn audit() -> (Audit, VirtualClock) {
        let clock = VirtualClock::at(Wall::from_unix(Duration::from_secs(1_800_000_000)));
        (Audit::new(Arc::new(clock.clone()), DAY), clock)
    }

    fn note(audit: &Audit, tenant: &str, number: u8) {
        let who = Who { key: "k1".to_owned(), grant: None };
        let object = Object::new("file", [number; 16]);
        audit.note(TenantId::of(tenant), who, Action::FileCreate, Some(object));
    }

    fn numbers(audit: &Audit, cursor: Option<u64>, limit: usize) -> (Vec<u8>, Option<u64>) {
        let (lines, next) = audit.list(TenantId::of("acme"), cursor, limit);
        (lines.iter().filter_map(|line| line.object).map(|object| object.id[0]).collect(), next)
    }

    #[test]
    fn pages_go_from_the_newest_back_and_show_ones_own() {
        let (audit, _) = audit();
        note(&audit, "other", 99);
        (0..5).for_each(|number| note(&audit, "acme", number));
        let (first, next) = numbers(&audit, None, 2);
        assert_eq!(first, [4, 3]);
        note(&audit, "acme", 5);
        let (second, next) = numbers(&audit, next, 2);
        assert_eq!(second, [2, 1], "a new line moves no page");
        assert_eq!(numbers(&audit, next, 2), (vec![0], None));
        assert_eq!(numbers(&audit, None, 6), (vec![5, 4, 3, 2, 1, 0], None));
    }

    #[test]
    fn lines_are_kept_for_their_time_and_no_longer() {
        let (audit, clock) = audit();
        note(&audit, "acme", 1);
        clock.advance(DAY / 2);
        note(&audit, "acme", 2);
        clock.advance(DAY / 2);
        assert_eq!(numbers(&audit, None, 10), (vec![2], None), "before anybody sweeps");
        audit.sweep();
        assert_eq!(audit.trails().lines, 1);
        note(&audit, "acme", 3);
        assert_eq!(numbers(&audit, None, 1), (vec![3], Some(2)));
        assert_eq!(numbers(&audit, Some(2), 1), (vec![2], None));
        audit.forget(TenantId::of("acme"));
        assert_eq!(numbers(&audit, None, 10), (Vec::new(), None));
    }

    #[test]
    fn a_tenant_with_too_many_lines_loses_its_own_oldest() {
        let (audit, _) = audit();
        note(&audit, "other", 99);
        (0..=MOST).for_each(|number| note(&audit, "acme", (number % 251) as u8));
        assert_eq!(audit.trails().lines, MOST);
        assert_eq!(audit.list(TenantId::of("other"), None, 10).0.len(), 1);
    }
}
