//! A run: a key that signs, and the boot note by which the log key vouches for it.
//!
//! Mostly there is one for each process. When every secret of the process was destroyed at once
//! (VAULT.md, rule 6), the key is among them, and the next signature begins another run.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::note::{Boot, BootNote, Kind};
use super::pen::Pen;
use super::{Access, Evidence, EvidenceError};
use crate::entropy::Entropy;
use crate::secret::Slab;

/// A run that has begun: its number is not given yet.
pub(super) struct Begun {
    pub pen: Pen,
    pub text: String,
    /// The boot note, signed by the log key.
    pub signed: String,
    pub note: BootNote,
}

/// What a boot note says beside its keys.
pub(super) struct About<'a> {
    pub at: crate::clock::Wall,
    pub region: crate::region::Region,
    pub build: &'a str,
    pub limits: &'a [String],
}

/// Draws a key, and has the log key vouch for it.
pub(super) fn begin(
    key: &Pen,
    slab: &Slab,
    entropy: &dyn Entropy,
    about: &About<'_>,
) -> Result<Begun, EvidenceError> {
    let pen = Pen::draw_in(slab, entropy, format!("{}/pen", key.name()))?;
    let boot = Boot {
        log: &key.verifier(),
        pen: &pen.verifier(),
        at: about.at,
        region: about.region.as_str(),
        build: about.build,
        limits: about.limits,
    };
    let text = boot.text();
    let signed = key.sign_note(&text).ok_or(EvidenceError::LogKey)?;
    let note = BootNote::read(&signed).ok_or(EvidenceError::LogKey)?;
    Ok(Begun { pen, text, signed, note })
}

impl Evidence {
    /// The run that signs now; a new one, if its key was destroyed.
    ///
    /// # Errors
    /// When the gateway has stopped, or no new run can begin.
    pub(super) fn present_run(&self) -> Result<u32, EvidenceError> {
        let mut held = self.pen();
        let pen = held.as_ref().ok_or(EvidenceError::Stopped)?;
        if !pen.is_wiped() {
            return Ok(self.run());
        }
        let (at, region) = (self.clock.now().wall, self.region);
        let (build, limits) = (self.build, self.accepted_limits.as_slice());
        let about = About { at, region, build, limits };
        let begun = begin(self.log.key(), &self.slab, &*self.entropy, &about)?;
        let run = self.run() + 1;
        if let Some(ledger) = &self.ledger {
            self.blocking(|| ledger.archive.add_run(run, &begun.signed))?;
        }
        if self.access != Access::Off {
            let note = self.blinded(Kind::Boot, &begun.text, begun.signed)?;
            self.publish_notes(vec![note])?;
        }
        let mut runs = self.runs.write().unwrap_or_else(PoisonError::into_inner);
        runs.insert(run, Arc::new(begun.note));
        drop(runs);
        self.run.store(run, Ordering::SeqCst);
        *held = Some(begun.pen);
        tracing::warn!("the key that signs receipts was destroyed: another signs from now on");
        Ok(run)
    }

    pub(super) fn run(&self) -> u32 {
        self.run.load(Ordering::SeqCst)
    }

    /// Whether a run was this process's.
    pub(super) const fn is_ours(&self, run: u32) -> bool {
        run >= self.first_run
    }

    pub(super) fn pen(&self) -> MutexGuard<'_, Option<Pen>> {
        self.pen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
