//! Taking a file in: keys first, then its bytes, sealed as they come; known only when complete.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use data_encoding::BASE32_NOPAD;
use zeroize::Zeroize;

use super::{Pipeline, PipelineError};
use crate::body::{BodyError, ByteStream};
use crate::clock::{Now, Wall, within};
use crate::entropy::random;
use crate::file::{Deadline, FileId, Reason, Role, TenantId};
use crate::intake::{Digester, Intake, Taken, media_type};
use crate::metrics;
use crate::policy::Terms;
use crate::receipt::Acceptance;
use crate::region::Region;
use crate::shred::Shredder;
use crate::table::{
    self, Claims, Closed, Cut, Ended, Era, Fingerprint, Kind, LiveFile, Nursery, Origin, Part,
    Place, Segment,
};
use crate::vault::{Record, Turn};

/// Blobs of one file whose store's answer its receipt repeats: as many as a row of evidence holds.
const BLOBS_NAMED: usize = 255;

/// A file as it arrives.
pub struct Upload {
    pub input: ByteStream,
    /// Bytes the sender said would come.
    pub declared: Option<u64>,
    pub name: Option<String>,
    pub declared_type: Option<String>,
    pub downloads: Option<u64>,
    pub digester: Digester,
}

/// A file that is sealed but not yet known to anybody. Dropped, it is forgotten without a trace.
pub struct Sealed {
    pub(super) kind: Kind,
    pub(super) unborn: Unborn,
    pub(super) era: Era,
    pub(super) created: Now,
    /// What was joined into it; its bytes come first.
    pub(super) parts: Vec<Joined>,
    /// In which order those come, where it is not each once.
    pub(super) order: Vec<u32>,
    pub(super) segments: Vec<Segment>,
    pub(super) record: Record,
    pub(super) downloads: Option<u64>,
    pub(super) taken: Taken,
    /// Processors that have had its plaintext already.
    pub(super) handed_to: Vec<String>,
    /// Whether it has a receipt already.
    pub(super) accepted: bool,
}

/// What another file that was not complete has given up to be joined.
pub(super) struct Joined {
    pub unborn: Unborn,
    pub segments: Vec<Segment>,
    /// Whether it has a receipt of its own.
    pub accepted: bool,
}

/// Keys of a file that is not complete: destroyed on drop, whatever became of the request.
pub(super) struct Unborn {
    shredder: Shredder,
    nursery: Nursery,
    origin: Option<Origin>,
    blobs: Vec<(Place, crate::store::BlobId)>,
    pub(super) reason: Reason,
}

impl Unborn {
    /// What its segments are sealed under, until it is handed over.
    pub(super) fn origin(&self) -> Result<&Origin, BodyError> {
        self.origin.as_ref().ok_or(BodyError::Gone)
    }

    /// A blob that must go with the keys from now on.
    pub(super) fn owns(&mut self, segment: &Segment) {
        self.blobs.push((segment.place, segment.blob));
    }

    /// A blob that goes before the keys do: its segment is in no record.
    pub(super) fn disown(&mut self, segment: &Segment) {
        self.blobs.retain(|(place, blob)| (*place, *blob) != (segment.place, segment.blob));
        self.shredder.discard_segment(segment.place, segment.blob);
    }

    /// Its era has ended: why it is not to be.
    pub(super) fn ended(&mut self, ended: Ended) -> PipelineError {
        self.reason = reason(ended);
        ended.into()
    }

    /// Hands the keys to a file that is complete.
    pub(super) fn hand_over(mut self) -> Result<Origin, BodyError> {
        let origin = self.origin.take().ok_or(BodyError::Gone)?;
        self.nursery.leave(origin.keys.file());
        Ok(origin)
    }
}

impl Drop for Unborn {
    fn drop(&mut self) {
        if let Some(origin) = self.origin.take() {
            self.nursery.leave(origin.keys.file());
            self.shredder.discard(&origin.keys, self.reason, &self.blobs);
        }
    }
}

/// When it ends: an output may live shorter than the deadline it is sealed with.
pub(super) fn expires_at(origin: &Origin) -> Wall {
    origin.keys.deadline().unwrap_or(origin.deadline).expires_at()
}

impl Sealed {
    /// The keyed hash over request and body, if one was asked for.
    pub fn fingerprint(&mut self) -> Option<Fingerprint> {
        std::mem::take(&mut self.taken.digester).into_fingerprint()
    }
}

impl Pipeline {
    /// Draws the keys of something that is to come. Its deadline runs from `now`.
    pub(super) fn conceive(
        &self,
        tenant: TenantId,
        terms: &Terms,
        now: Now,
    ) -> Result<Unborn, PipelineError> {
        self.cradle(tenant, terms.region, Deadline::fix(now, terms.ttl)?)
    }

    /// Draws keys that live until a deadline that stands already.
    pub(super) fn cradle(
        &self,
        tenant: TenantId,
        region: Region,
        deadline: Deadline,
    ) -> Result<Unborn, PipelineError> {
        if !self.quotas.has_slot(tenant, self.keys.slots(), self.keys.secrets_held()) {
            return Err(BodyError::Quota.into());
        }
        let file = FileId::draw(&*self.entropy)?;
        let keys = Arc::new(self.keys.create(file, deadline)?);
        // Its bucket may end earlier than asked for.
        let deadline = keys.deadline().unwrap_or(deadline);
        let (shredder, nursery, blobs) = (self.shredder.clone(), self.nursery.clone(), Vec::new());
        let entered = nursery.enter(&keys, tenant);
        let origin = Some(Origin { keys, tenant, region, deadline });
        let unborn = Unborn { shredder, nursery, origin, blobs, reason: Reason::Failed };
        entered.map(|()| unborn).map_err(|Closed| PipelineError::Stopped)
    }

    /// Waits until there is memory for a body, before any of it is read.
    ///
    /// # Errors
    /// When the budget stays spent.
    pub async fn admit(&self, declared: Option<u64>) -> Result<Turn, PipelineError> {
        Ok(self.vault.admit(declared).await?)
    }

    /// Whether a tenant's live bytes leave room for a body that declares its length, and the locked
    /// pages for one more file of that tenant.
    #[must_use]
    pub fn has_quota(&self, tenant: TenantId, terms: &Terms, declared: Option<u64>) -> bool {
        let used = self.quotas.used(tenant);
        let fits = used.saturating_add(declared.unwrap_or(1).max(1)) <= terms.max_live_bytes;
        fits && self.quotas.has_slot(tenant, self.keys.slots(), self.keys.secrets_held())
    }

    /// Takes in and seals a file. Its deadline runs from now.
    ///
    /// # Errors
    /// The body's error, or that of keys, memory or store. Nothing is kept then.
    pub async fn seal(
        &self,
        tenant: TenantId,
        terms: &Terms,
        upload: Upload,
    ) -> Result<Sealed, PipelineError> {
        let created = self.clock.now();
        let era = self.enter(tenant)?;
        let mut unborn = self.conceive(tenant, terms, created)?;
        let mut intake = Intake::new(
            upload.input,
            &self.limits(terms),
            self.quotas.open(tenant),
            upload.digester,
            self.clock.clone(),
        );
        let origin = unborn.origin()?;
        let sealed = self.vault.seal(origin, (Role::Input, 0), &mut intake, upload.declared);
        let left = origin.deadline.left(created);
        let segment = match era.during(within(&*self.clock, left, sealed)).await {
            Err(ended) => return Err(unborn.ended(ended)),
            Ok(None) => {
                unborn.reason = Reason::Expired;
                return Err(PipelineError::Expired);
            }
            Ok(Some(sealed)) => sealed.map_err(|error| era.blame(PipelineError::from(error)))?,
        };
        unborn.owns(&segment);
        let mut taken = intake.finish()?;
        let record = Record {
            name: upload.name,
            media_type: media_type(&taken.head, upload.declared_type.as_deref()),
            declared_media_type: upload.declared_type,
            digests: taken.digester.found(),
        };
        // The first bytes have told the type; nothing plain is kept while other parts arrive.
        taken.head.zeroize();
        let (downloads, handed_to) = (upload.downloads, Vec::new());
        let (parts, order, segments) = (Vec::new(), Vec::new(), vec![segment]);
        let kind = Kind::File;
        Ok(Sealed {
            kind,
            unborn,
            era,
            created,
            parts,
            order,
            segments,
            record,
            downloads,
            taken,
            handed_to,
            accepted: false,
        })
    }

    /// Makes files known together: all of them, or none.
    ///
    /// # Errors
    /// That of the first that cannot be published; those before it are shredded.
    pub fn publish_all(&self, sealed: Vec<Sealed>) -> Result<Vec<Arc<LiveFile>>, PipelineError> {
        let mut files = Vec::with_capacity(sealed.len());
        for one in sealed {
            match self.publish(one) {
                Ok(file) => files.push(file),
                Err(error) => {
                    self.discard(&files);
                    return Err(error);
                }
            }
        }
        Ok(files)
    }

    /// Shreds files that were published for a request that has failed after all.
    pub fn discard(&self, files: &[Arc<LiveFile>]) {
        for file in files {
            self.shredder.shred(file, Reason::Failed);
        }
    }

    /// Makes a sealed file known: from here on it has a receipt and can be asked for.
    ///
    /// # Errors
    /// When its keys died meanwhile, or the random source fails.
    pub fn publish(&self, sealed: Sealed) -> Result<Arc<LiveFile>, PipelineError> {
        let era = sealed.era.clone();
        // Whatever failed: if the era is over, that is why.
        self.publish_within(sealed).map_err(|error| era.blame(error))
    }

    fn publish_within(&self, sealed: Sealed) -> Result<Arc<LiveFile>, PipelineError> {
        let Sealed { mut unborn, era, created, parts, order, segments, record, .. } = sealed;
        let (downloads, taken, handed_to) = (sealed.downloads, sealed.taken, sealed.handed_to);
        if let Some(ended) = era.end() {
            return Err(unborn.ended(ended));
        }
        let origin = unborn.origin()?;
        let id = origin.keys.file();
        let record = self.vault.seal_record(origin, &record)?;
        let listed = || parts.iter().flat_map(|part| &part.segments).chain(&segments);
        let rent = record.as_slice().len() + listed().count() * size_of::<Segment>();
        let rent = self.vault.rent(rent)?;
        let etag = BASE32_NOPAD.encode(&random::<16>(&*self.entropy)?).to_ascii_lowercase();
        let places = table::places(&order, parts.len()).filter_map(|place| parts.get(place));
        let in_order = places.flat_map(|part| &part.segments).chain(&segments);
        let commitments: Vec<_> = in_order.map(|segment| segment.commitment).collect();
        let blobs = listed().take(BLOBS_NAMED);
        let blobs = blobs.map(|segment| self.vault.store_name(segment.place)).collect::<Vec<_>>();
        if sealed.accepted {
            self.evidence.complete(id, &commitments, &blobs);
        } else {
            self.evidence.accept(Acceptance {
                file: id,
                tenant: origin.tenant,
                region: origin.region,
                accepted_at: created.wall,
                expires_at: expires_at(origin),
                epoch: origin.deadline.epoch(),
                keyring: origin.keys.keeper(),
                commitments,
                blobs,
                handed_to,
            })?;
        }
        for part in parts.iter().filter(|part| part.accepted) {
            let own: Vec<_> = part.segments.iter().map(|segment| segment.commitment).collect();
            self.evidence.complete(part.unborn.origin()?.keys.file(), &own, &[]);
        }
        // From here on what goes wrong finds the keys in one hand, or in the other.
        let parts = parts.into_iter().map(|part| {
            Ok::<_, BodyError>(Part { segments: part.segments, origin: part.unborn.hand_over()? })
        });
        let parts = parts.collect::<Result<Vec<_>, _>>()?;
        let file = Arc::new(LiveFile {
            id,
            kind: sealed.kind,
            origin: unborn.hand_over()?,
            created,
            record: Some(record),
            parts,
            order,
            segments,
            etag: format!("\"{etag}\""),
            rent,
            claims: downloads.map(|n| Claims::new(n, self.clock.clone())),
            cut: Cut::default(),
            reservation: taken.reservation,
            released: AtomicBool::new(false),
        });
        self.enroll(&file, &era)?;
        metrics::count(metrics::FILES_ACCEPTED, 1);
        Ok(file)
    }

    /// Puts a file or a run into the table. Looks at its era after that: an erasure looks through
    /// the table after it has ended the era, so that one of the two sees the other.
    pub(super) fn enroll(&self, file: &Arc<LiveFile>, era: &Era) -> Result<(), PipelineError> {
        let entered = self.table.insert(file.clone());
        if let Some(ended) = era.end() {
            self.shredder.shred(file, reason(ended));
            return Err(ended.into());
        }
        if entered.is_err() {
            self.shredder.shred(file, Reason::Expired);
            return Err(PipelineError::Expired);
        }
        Ok(())
    }
}

/// What becomes of something unfinished when its era ends.
const fn reason(ended: Ended) -> Reason {
    match ended {
        Ended::Suspended => Reason::Cancelled,
        Ended::Erased => Reason::Erased,
    }
}
