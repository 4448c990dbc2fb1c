//! What people's rights need of the evidence: lines of an audit trail, and its destruction.

use super::archive::Line;
use super::journal::Entry;
use super::ledger::day;
use super::{Evidence, EvidenceError};
use crate::file::TenantId;

/// Lines kept in memory where there is no state folder; past it the oldest go.
const MOST_LINES: usize = 100_000;

impl Evidence {
    /// Adds a line to a tenant's trail; returns when it is written. It is kept for the retention of
    /// receipts, sealed under the tenant's evidence key. Without retention nothing is kept.
    ///
    /// # Errors
    /// When it cannot be sealed or written.
    pub fn note_down(&self, tenant: TenantId, line: Vec<u8>) -> Result<(), EvidenceError> {
        if self.retention.is_zero() {
            return Ok(());
        }
        let now = self.clock.now().wall;
        let until = now.plus(self.retention).unix_seconds() + 1;
        let Some(ledger) = &self.ledger else {
            let mut kept = self.kept();
            let number = kept.next_line;
            kept.next_line += 1;
            kept.lines.push(Line { tag: *tenant.as_bytes(), number, until, sealed: line });
            let over = kept.lines.len().saturating_sub(MOST_LINES);
            kept.lines.drain(..over);
            return Ok(());
        };
        let tag = ledger.tag(tenant);
        let sealed = ledger.lockers.seal(tag, day(now), line)?;
        let number = {
            let mut kept = self.kept();
            kept.next_line += 1;
            kept.next_line - 1
        };
        ledger.journal.append(&[Entry::Line { tag, number, until, sealed: sealed.clone() }])?;
        self.kept().lines.push(Line { tag, number, until, sealed });
        Ok(())
    }

    /// A page of a tenant's trail, newest first: numbers, which only fall, and lines. `before` is
    /// the last number of the page before.
    ///
    /// # Errors
    /// When the archive cannot be read.
    pub fn lines(
        &self,
        tenant: TenantId,
        before: Option<u64>,
        most: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, EvidenceError> {
        let (before, now) = (before.unwrap_or(u64::MAX), self.clock.now().wall.unix_seconds());
        let tag = self.ledger.as_ref().map_or(*tenant.as_bytes(), |ledger| ledger.tag(tenant));
        let mut found: Vec<(u64, Vec<u8>)> = {
            let kept = self.kept();
            let theirs = kept
                .lines
                .iter()
                .filter(|line| line.tag == tag && line.number < before && line.until > now);
            theirs.map(|line| (line.number, line.sealed.clone())).collect()
        };
        if let Some(ledger) = &self.ledger {
            found.extend(ledger.archive.lines(&tag, before, most, now)?);
        }
        found.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        found.dedup_by_key(|(number, _)| *number);
        found.truncate(most);
        let open = |(number, sealed): (u64, Vec<u8>)| match &self.ledger {
            Some(ledger) => Some((number, ledger.lockers.open_sealed(&sealed)?)),
            None => Some((number, sealed)),
        };
        Ok(found.into_iter().filter_map(open).collect())
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
        {
            let mut kept = self.kept();
            kept.rows.retain(|_, row| row.tenant != tenant || row.end.is_none());
            let tag = self.ledger.as_ref().map_or(*tenant.as_bytes(), |ledger| ledger.tag(tenant));
            kept.lines.retain(|line| line.tag != tag);
        }
        let Some(ledger) = &self.ledger else { return Ok(()) };
        let tag = ledger.tag(tenant);
        ledger.lockers.destroy(|owner, _| *owner == tag)?;
        let live: Vec<_> = {
            let kept = self.kept();
            kept.rows.values().filter(|row| row.tenant == tenant).cloned().collect()
        };
        live.iter().try_for_each(|row| ledger.write_row(row))
    }
}
