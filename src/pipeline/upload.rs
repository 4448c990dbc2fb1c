//! Taking a file in: keys first, then its bytes, sealed as they come; known only when complete.

use std::sync::Arc;

use data_encoding::BASE32_NOPAD;

use super::{Pipeline, PipelineError};
use crate::body::{BodyError, ByteStream};
use crate::clock::{Now, within};
use crate::entropy::random;
use crate::file::{Deadline, FileId, Reason, Role, TenantId};
use crate::intake::{Digester, Intake, Taken, media_type};
use crate::keyring::FileKeys;
use crate::metrics;
use crate::policy::Terms;
use crate::receipt::Acceptance;
use crate::region::Region;
use crate::shred::Shredder;
use crate::table::{Claims, Cut, Fingerprint, Kind, LiveFile, Place, Segment};
use crate::vault::{Record, Sealing};

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
    tenant: TenantId,
    region: Region,
    created: Now,
    deadline: Deadline,
    segment: Segment,
    record: Record,
    downloads: Option<u64>,
    taken: Taken,
}

/// Keys of a file that is not complete: destroyed on drop, whatever became of the request.
pub(super) struct Unborn {
    shredder: Shredder,
    keys: Option<Arc<FileKeys>>,
    blobs: Vec<(Place, crate::store::BlobId)>,
    pub(super) reason: Reason,
}

impl Unborn {
    pub(super) fn new(shredder: Shredder, keys: FileKeys) -> Self {
        Self { shredder, keys: Some(Arc::new(keys)), blobs: Vec::new(), reason: Reason::Failed }
    }

    /// The keys, until they are handed over.
    pub(super) fn keys(&self) -> Result<&Arc<FileKeys>, BodyError> {
        self.keys.as_ref().ok_or(BodyError::Gone)
    }

    /// A blob that must go with the keys from now on.
    pub(super) fn owns(&mut self, segment: &Segment) {
        self.blobs.push((segment.place, segment.blob));
    }

    /// Hands the keys to a file that is complete.
    pub(super) fn hand_over(mut self) -> Result<Arc<FileKeys>, BodyError> {
        self.keys.take().ok_or(BodyError::Gone)
    }
}

impl Drop for Unborn {
    fn drop(&mut self) {
        if let Some(keys) = self.keys.take() {
            self.shredder.discard(&keys, self.reason, &self.blobs);
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
        let (created, deadline) = (self.clock.now(), self.deadline(terms)?);
        let file = FileId::draw(&*self.entropy)?;
        let mut unborn = Unborn::new(self.shredder.clone(), self.keys.create(file, deadline)?);
        let mut intake = Intake::new(
            upload.input,
            &self.limits(terms),
            self.quotas.open(tenant),
            upload.digester,
            self.clock.clone(),
        );
        let sealing = Sealing {
            keys: unborn.keys()?,
            tenant,
            region: terms.region,
            deadline,
            role: Role::Input,
            index: 0,
        };
        let sealed = self.vault.seal(sealing, &mut intake, upload.declared);
        let Some(sealed) = within(&*self.clock, deadline.left(created), sealed).await else {
            unborn.reason = Reason::Expired;
            return Err(PipelineError::Expired);
        };
        let segment = sealed?;
        unborn.owns(&segment);
        let taken = intake.finish()?;
        let record = Record {
            name: upload.name,
            media_type: media_type(&taken.head, upload.declared_type.as_deref()),
            declared_media_type: upload.declared_type,
            digests: taken.digester.found(),
        };
        let (region, downloads) = (terms.region, upload.downloads);
        Ok(Sealed { unborn, tenant, region, created, deadline, segment, record, downloads, taken })
    }

    /// Makes a sealed file known: from here on it has a receipt and can be asked for.
    ///
    /// # Errors
    /// When its keys died meanwhile, or the random source fails.
    pub fn publish(&self, sealed: Sealed) -> Result<Arc<LiveFile>, PipelineError> {
        let Sealed { unborn, tenant, region, created, deadline, segment, .. } = sealed;
        let Sealed { record, downloads, taken, .. } = sealed;
        let keys = unborn.keys()?;
        let id = keys.file();
        let sealing = Sealing { keys, tenant, region, deadline, role: Role::Record, index: 0 };
        let record = self.vault.seal_record(sealing, &record)?;
        let etag = BASE32_NOPAD.encode(&random::<16>(&*self.entropy)?).to_ascii_lowercase();
        self.evidence.accept(Acceptance {
            file: id,
            tenant,
            region,
            accepted_at: created.wall,
            expires_at: deadline.expires_at(),
            commitments: vec![segment.commitment],
            blobs: vec![self.vault.store_name(segment.place)],
            handed_to: Vec::new(),
        })?;
        let file = Arc::new(LiveFile {
            id,
            kind: Kind::File,
            tenant,
            region,
            created,
            sealed_deadline: deadline,
            keys: unborn.hand_over()?,
            record: Some(record),
            segments: vec![segment],
            etag: format!("\"{etag}\""),
            claims: downloads.map(|n| Claims::new(n, self.clock.clone())),
            cut: Cut::default(),
            reservation: taken.reservation,
        });
        if self.table.insert(file.clone()).is_err() {
            self.shredder.shred(&file, Reason::Expired);
            return Err(PipelineError::Expired);
        }
        metrics::count(metrics::FILES_ACCEPTED, 1);
        Ok(file)
    }
}
