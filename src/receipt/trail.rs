//! Audit trails as evidence: kept as long as receipts, and forgotten with the same keys.
//!
//! A line is noted in memory. Once a second all new lines of a tenant are sealed together and
//! written to the journal; the next checkpoint files them. So a line costs a request next to
//! nothing, and a kill may lose the last second's, but for those about a tenant as a whole.

use std::collections::{HashMap, VecDeque};
use std::sync::PoisonError;

use super::archive::Line as Block;
use super::audit::{Action, Line, Object};
use super::bytes::{Reader, Writer};
use super::journal::Entry;
use super::ledger::{Ledger, day};
use super::lockers::Tag;
use super::{Evidence, EvidenceError};
use crate::clock::Wall;
use crate::file::TenantId;
use crate::metrics;
use crate::policy::Who;

/// Lines in memory of all tenants together; past it whoever has most of them loses its oldest. A
/// line takes some 170 bytes. With a state folder they are there for a second.
const MOST: usize = 200_000;
/// Lines sealed together.
const BLOCK: usize = 1024;

/// Lines that are in memory alone.
#[derive(Default)]
pub(super) struct Trails {
    of: HashMap<TenantId, Trail>,
    lines: usize,
}

/// One tenant's, the oldest first. Their numbers are the tenant's own, and rise by one.
#[derive(Default)]
struct Trail {
    next: u64,
    lines: VecDeque<(u64, Line)>,
}

/// Blocks that wait to be filed, each with the segment of the journal that has it.
#[derive(Default)]
pub(super) struct Sealed {
    pub blocks: Vec<(u32, Block)>,
    /// The number after the last line of each trail that an earlier run has left.
    pub next: HashMap<Tag, u64>,
}

impl Sealed {
    /// A block that the journal of an earlier run has, and the archive has not.
    pub fn restore(&mut self, segment: u32, block: Block) {
        let next = self.next.entry(block.tag).or_default();
        if block.number >= *next {
            *next = block.number + 1;
            self.blocks.push((segment, block));
        }
    }
}

impl Evidence {
    fn trails(&self) -> std::sync::MutexGuard<'_, Trails> {
        self.trails.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line to a tenant's trail. Without retention nothing is kept.
    pub(super) fn note_down(
        &self,
        tenant: TenantId,
        who: Who,
        action: Action,
        object: Option<Object>,
    ) {
        if self.retention.is_zero() {
            return;
        }
        let line = Line { at: self.clock.now().wall, who, action, object };
        let mut trails = self.trails();
        if trails.lines >= MOST {
            trails.drop_one();
        }
        trails.lines += 1;
        let trail = trails.of.entry(tenant).or_insert_with(|| self.trail_of(tenant));
        trail.lines.push_back((trail.next, line));
        trail.next += 1;
    }

    /// A trail that goes on where an earlier run's ended.
    fn trail_of(&self, tenant: TenantId) -> Trail {
        let known = self.ledger.as_ref().map(|ledger| ledger.tag(tenant));
        let next = known.and_then(|tag| self.kept().trails.next.get(&tag).copied());
        Trail { next: next.unwrap_or(0), lines: VecDeque::new() }
    }

    /// Seals what was noted, and writes it down. A failure is counted: the lines wait for the next
    /// time.
    pub(super) fn write_trails(&self) {
        if let Some(ledger) = &self.ledger
            && let Err(error) = self.write_trails_to(ledger)
        {
            metrics::count(metrics::EVIDENCE_FAILURES, 1);
            tracing::error!("audit lines cannot be written: {error}");
        }
    }

    fn write_trails_to(&self, ledger: &Ledger) -> Result<(), EvidenceError> {
        // One at a time: nobody else takes the same lines.
        let _alone = self.sealing.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let mut blocks = Vec::new();
            for (tenant, lines) in self.trails().some_of_each() {
                blocks.extend(self.block(ledger, tenant, &lines)?.map(|block| (tenant, block)));
            }
            if blocks.is_empty() {
                return Ok(());
            }
            let segment = ledger.segment();
            let entry = |(_, block): &(TenantId, Block)| Entry::Line {
                tag: block.tag,
                number: block.number,
                until: block.until,
                sealed: block.sealed.clone(),
            };
            ledger.journal.append(&blocks.iter().map(entry).collect::<Vec<_>>())?;
            // Known in both places for a moment, never in none.
            let written: Vec<_> =
                blocks.iter().map(|(tenant, block)| (*tenant, block.number)).collect();
            let blocks = blocks.into_iter().map(|(_, block)| (segment, block));
            self.kept().trails.blocks.extend(blocks);
            self.trails().forget_up_to(&written);
        }
    }

    fn block(
        &self,
        ledger: &Ledger,
        tenant: TenantId,
        lines: &[(u64, Line)],
    ) -> Result<Option<Block>, EvidenceError> {
        let (Some((first, _)), Some((number, last))) = (lines.first(), lines.last()) else {
            return Ok(None);
        };
        let mut bytes = Vec::with_capacity(16 + lines.len() * 64);
        let mut out = Writer(&mut bytes);
        out.number(*first);
        lines.iter().for_each(|(_, line)| line.encode(&mut out));
        let (tag, until) = (ledger.tag(tenant), self.kept_until(last.at));
        let sealed = ledger.lockers.seal(tag, day(last.at), bytes)?;
        Ok(Some(Block { tag, number: *number, until, sealed }))
    }

    fn kept_until(&self, at: Wall) -> u64 {
        at.plus(self.retention).unix_seconds() + 1
    }

    /// A page of a tenant's trail, newest first; and the cursor of the next page, if there is one.
    ///
    /// # Errors
    /// When the archive cannot be read.
    pub(super) fn lines(
        &self,
        tenant: TenantId,
        before: Option<u64>,
        most: usize,
    ) -> Result<(Vec<Line>, Option<u64>), EvidenceError> {
        let mut page = Page { before: before.unwrap_or(u64::MAX), most, lines: Vec::new() };
        let now = self.clock.now().wall;
        let alive = |line: &Line| line.at.plus(self.retention) > now;
        // In the order in which lines move on: one that moves meanwhile is seen twice, or once.
        let fresh: Vec<(u64, Line)> = {
            let trails = self.trails();
            let theirs = trails.of.get(&tenant).map(|trail| &trail.lines);
            let newest_first = theirs.into_iter().flat_map(|lines| lines.iter().rev());
            let wanted = newest_first.filter(|(number, _)| *number < page.before).take(most + 1);
            wanted.cloned().collect()
        };
        page.add(fresh.into_iter().filter(|(_, line)| alive(line)));
        if let Some(ledger) = &self.ledger {
            let tag = ledger.tag(tenant);
            let waiting: Vec<Vec<u8>> = {
                let kept = self.kept();
                let theirs = kept.trails.blocks.iter().rev().filter(|(_, block)| block.tag == tag);
                theirs.map(|(_, block)| block.sealed.clone()).collect()
            };
            let opened = |sealed: &[u8]| {
                let lines = read_block(&ledger.lockers.open_sealed(sealed).unwrap_or_default());
                lines.into_iter().rev().filter(|(_, line)| alive(line))
            };
            for sealed in waiting {
                page.add(opened(&sealed));
            }
            ledger.archive.lines(&tag, page.before, now.unix_seconds(), |sealed| {
                page.add(opened(sealed));
                !page.is_full()
            })?;
        }
        Ok(page.end())
    }

    /// Forgets lines in memory that are older than the retention.
    pub(super) fn sweep_trails(&self) {
        let now = self.clock.now().wall;
        let mut trails = self.trails();
        let Trails { of, lines } = &mut *trails;
        for trail in of.values_mut() {
            let old = |(_, line): &&(u64, Line)| line.at.plus(self.retention) <= now;
            let gone = trail.lines.iter().take_while(old).count();
            trail.lines.drain(..gone);
            *lines -= gone;
        }
    }

    /// Destroys a tenant's evidence keys: its receipts and its trail cannot be read any more, by
    /// anybody; its leaves stay in the log, and tell nothing. Files that are alive keep their rows,
    /// under a new key.
    ///
    /// # Errors
    /// When the keys cannot be overwritten.
    pub async fn forget_tenant(&self, tenant: TenantId) -> Result<(), EvidenceError> {
        // A final row is logged before it goes: it was promised.
        self.sign_finals(true).await;
        self.write_out();
        let tag = self.ledger.as_ref().map(|ledger| ledger.tag(tenant));
        self.trails().forget(tenant);
        {
            let mut kept = self.kept();
            kept.rows.retain(|_, row| row.tenant != tenant || row.end.is_none());
            kept.trails.blocks.retain(|(_, block)| Some(block.tag) != tag);
        }
        let Some(ledger) = &self.ledger else { return Ok(()) };
        ledger.lockers.destroy(|owner, _| Some(*owner) == tag)?;
        ledger.archive.forget_lines(&ledger.tag(tenant))?;
        let live: Vec<_> = {
            let kept = self.kept();
            kept.rows.values().filter(|row| row.tenant == tenant).cloned().collect()
        };
        ledger.write_rows(live.iter())
    }

    /// Writes down that a tenant is suspended, or no more: durably. Without a state folder a
    /// suspension ends with the process, as every file does.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note_suspension(&self, tenant: TenantId, suspended: bool) -> Result<(), EvidenceError> {
        let Some(ledger) = &self.ledger else { return Ok(()) };
        self.blocking(|| ledger.archive.suspend(&ledger.suspension(tenant), suspended))
    }

    /// Whether a tenant was suspended when it was last written down.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn is_suspended(&self, tenant: TenantId) -> Result<bool, EvidenceError> {
        let Some(ledger) = &self.ledger else { return Ok(false) };
        ledger.archive.is_suspended(&ledger.suspension(tenant))
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

    /// The oldest lines of each tenant, a block at most.
    fn some_of_each(&self) -> Vec<(TenantId, Vec<(u64, Line)>)> {
        let some = |trail: &Trail| trail.lines.iter().take(BLOCK).cloned().collect();
        self.of.iter().map(|(tenant, trail)| (*tenant, some(trail))).collect()
    }

    /// Takes lines out that are written down.
    fn forget_up_to(&mut self, written: &[(TenantId, u64)]) {
        for (tenant, last) in written {
            let Some(trail) = self.of.get_mut(tenant) else { continue };
            let gone = trail.lines.iter().take_while(|(number, _)| number <= last).count();
            trail.lines.drain(..gone);
            self.lines -= gone;
        }
    }

    fn forget(&mut self, tenant: TenantId) {
        let forgotten = self.of.get_mut(&tenant).map(|trail| std::mem::take(&mut trail.lines));
        self.lines -= forgotten.map_or(0, |lines| lines.len());
    }
}

/// The lines of a block with their numbers, as far as it reads.
fn read_block(bytes: &[u8]) -> Vec<(u64, Line)> {
    let mut from = Reader(bytes);
    let Some(first) = from.number() else { return Vec::new() };
    let lines = std::iter::from_fn(|| Line::decode(&mut from));
    (first..).zip(lines).collect()
}

/// A page that is filled from the newest line down.
struct Page {
    before: u64,
    most: usize,
    lines: Vec<(u64, Line)>,
}

impl Page {
    fn is_full(&self) -> bool {
        self.lines.len() > self.most
    }

    fn add(&mut self, newest_first: impl Iterator<Item = (u64, Line)>) {
        for (number, line) in newest_first {
            if number < self.before && !self.is_full() {
                self.before = number;
                self.lines.push((number, line));
            }
        }
    }

    fn end(mut self) -> (Vec<Line>, Option<u64>) {
        let more = self.is_full();
        self.lines.truncate(self.most);
        let next = self.lines.last().map(|(number, _)| *number).filter(|_| more);
        (self.lines.into_iter().map(|(_, line)| line).collect(), next)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::clock::VirtualClock;
    use crate::entropy::SystemEntropy;

    const DAY: Duration = Duration::from_hours(24);

    fn evidence() -> (Evidence, VirtualClock) {
        let clock = VirtualClock::at(Wall::from_unix(Duration::from_secs(1_800_000_000)));
        let shared = Arc::new(clock.clone());
        (Evidence::new(shared, Arc::new(SystemEntropy), DAY).unwrap(), clock)
    }

    fn note(evidence: &Evidence, tenant: &str, number: u8) {
        let who = Who { key: "k1".to_owned(), grant: None };
        let object = Object::new("file", [number; 16]);
        evidence.note_down(TenantId::of(tenant), who, Action::FileCreate, Some(object));
    }

    fn numbers(evidence: &Evidence, cursor: Option<u64>, most: usize) -> (Vec<u8>, Option<u64>) {
        let (lines, next) = evidence.lines(TenantId::of("acme"), cursor, most).unwrap();
        (lines.iter().filter_map(|line| line.object).map(|object| object.id()[0]).collect(), next)
    }

    #[test]
    fn pages_go_from_the_newest_back_and_show_ones_own() {
        let (evidence, _) = evidence();
        note(&evidence, "other", 99);
        (0..5).for_each(|number| note(&evidence, "acme", number));
        let (first, next) = numbers(&evidence, None, 2);
        assert_eq!(first, [4, 3]);
        note(&evidence, "acme", 5);
        let (second, next) = numbers(&evidence, next, 2);
        assert_eq!(second, [2, 1], "a new line moves no page");
        assert_eq!(numbers(&evidence, next, 2), (vec![0], None));
        assert_eq!(numbers(&evidence, None, 6), (vec![5, 4, 3, 2, 1, 0], None));
    }

    #[test]
    fn lines_are_kept_for_their_time_and_no_longer() {
        let (evidence, clock) = evidence();
        note(&evidence, "acme", 1);
        clock.advance(DAY / 2);
        note(&evidence, "acme", 2);
        clock.advance(DAY / 2);
        assert_eq!(numbers(&evidence, None, 10), (vec![2], None), "before anybody sweeps");
        evidence.sweep_trails();
        assert_eq!(evidence.trails().lines, 1);
        note(&evidence, "acme", 3);
        assert_eq!(numbers(&evidence, None, 1), (vec![3], Some(2)));
        assert_eq!(numbers(&evidence, Some(2), 1), (vec![2], None));
        evidence.trails().forget(TenantId::of("acme"));
        assert_eq!(numbers(&evidence, None, 10), (Vec::new(), None));
    }

    #[test]
    fn a_tenant_with_too_many_lines_loses_its_own_oldest() {
        let (evidence, _) = evidence();
        note(&evidence, "other", 99);
        (0..=MOST).for_each(|number| note(&evidence, "acme", (number % 251) as u8));
        assert_eq!(evidence.trails().lines, MOST);
        assert_eq!(evidence.lines(TenantId::of("other"), None, 10).unwrap().0.len(), 1);
    }
}
