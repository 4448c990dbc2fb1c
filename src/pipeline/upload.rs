//! Taking a file in: keys first, then its bytes, sealed as they come; known only when complete.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use data_encoding::BASE32_NOPAD;
use zeroize::Zeroize;

use super::{Pipeline, PipelineError};
use crate::body::{BodyError, ByteStream};
use crate::clock::{Now, within};
use crate::entropy::random;
use crate::file::{Deadline, FileId, Reason, Role, TenantId};
use crate::intake::{Digester, Intake, Taken, media_type};
use crate::metrics;
use crate::policy::Terms;
use crate::receipt::Acceptance;
use crate::shred::Shredder;
use crate::table::{
    Claims, Closed, Cut, Fingerprint, Kind, LiveFile, Nursery, Origin, Place, Segment,
};
use crate::vault::Record;

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
    unborn: Unborn,
    created: Now,
    segment: Segment,
    record: Record,
    downloads: Option<u64>,
    taken: Taken,
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
        let deadline = Deadline::fix(now, terms.ttl)?;
        let file = FileId::draw(&*self.entropy)?;
        let keys = Arc::new(self.keys.create(file, deadline)?);
        let (shredder, nursery, blobs) = (self.shredder.clone(), self.nursery.clone(), Vec::new());
        let entered = nursery.enter(&keys);
        let origin = Some(Origin { keys, tenant, region: terms.region, deadline });
        let unborn = Unborn { shredder, nursery, origin, blobs, reason: Reason::Failed };
        entered.map(|()| unborn).map_err(|Closed| PipelineError::Stopped)
    }

    /// Waits until there is memory for a body, before any of it is read.
    ///
    /// # Errors
    /// When the budget stays spent.
    pub async fn admit(&self, declared: Option<u64>) -> Result<(), PipelineError> {
        Ok(self.vault.admit(declared).await?)
    }

    /// Whether a tenant's live bytes leave room for a body that declares its length.
    #[must_use]
    pub fn has_quota(&self, tenant: TenantId, terms: &Terms, declared: Option<u64>) -> bool {
        let used = self.quotas.used(tenant);
        used.saturating_add(declared.unwrap_or(1).max(1)) <= terms.max_live_bytes
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
        let Some(sealed) = within(&*self.clock, left, sealed).await else {
            unborn.reason = Reason::Expired;
            return Err(PipelineError::Expired);
        };
        let segment = sealed?;
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
        Ok(Sealed { unborn, created, segment, record, downloads: upload.downloads, taken })
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
                    for file in &files {
                        self.shredder.shred(file, Reason::Failed);
                    }
                    return Err(error);
                }
            }
        }
        Ok(files)
    }

    /// Makes a sealed file known: from here on it has a receipt and can be asked for.
    ///
    /// # Errors
    /// When its keys died meanwhile, or the random source fails.
    pub fn publish(&self, sealed: Sealed) -> Result<Arc<LiveFile>, PipelineError> {
        let Sealed { unborn, created, segment, record, downloads, taken } = sealed;
        let origin = unborn.origin()?;
        let id = origin.keys.file();
        let record = self.vault.seal_record(origin, &record)?;
        let rent = self.vault.rent(record.as_slice().len())?;
        let etag = BASE32_NOPAD.encode(&random::<16>(&*self.entropy)?).to_ascii_lowercase();
        self.evidence.accept(Acceptance {
            file: id,
            tenant: origin.tenant,
            region: origin.region,
            accepted_at: created.wall,
            expires_at: origin.deadline.expires_at(),
            epoch: origin.deadline.epoch(),
            keyring: origin.keys.keeper(),
            commitments: vec![segment.commitment],
            blobs: vec![self.vault.store_name(segment.place)],
            handed_to: Vec::new(),
        })?;
        let file = Arc::new(LiveFile {
            id,
            kind: Kind::File,
            origin: unborn.hand_over()?,
            created,
            record: Some(record),
            segments: vec![segment],
            etag: format!("\"{etag}\""),
            rent,
            claims: downloads.map(|n| Claims::new(n, self.clock.clone())),
            cut: Cut::default(),
            reservation: taken.reservation,
            released: AtomicBool::new(false),
        });
        if self.table.insert(file.clone()).is_err() {
            self.shredder.shred(&file, Reason::Expired);
            return Err(PipelineError::Expired);
        }
        metrics::count(metrics::FILES_ACCEPTED, 1);
        Ok(file)
    }
}
