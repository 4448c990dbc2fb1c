//! Uploads that come in several requests, whatever protocol they speak.
//!
//! One state machine under both faces ([`crate::table::Upload`]): who appends holds the upload,
//! appends one segment, and puts it back, or makes it a file. An upload is accepted when it is
//! created: it has a receipt from then on, so that what became of it can be told after a restart.

use std::sync::{Arc, Mutex, PoisonError};

use super::growing::{Claimed, Growing};
use super::{Pipeline, PipelineError};
use crate::body::{BodyError, ByteStream};
use crate::file::{FileId, Reason, TenantId, UploadId};
use crate::intake::{Attended, Checksum, Digester, Sum, Summer};
use crate::policy::{GrantId, Terms, Who};
use crate::process::Recipe;
use crate::receipt::Receipt;
use crate::table::{
    Face, Held, LiveFile, NotNow, Progress, Purpose, Standpoint, Upload as Row, UploadParts, Use,
};
use crate::vault::Note;

mod gather;
mod join;

/// An upload of this gateway's.
pub type AnyUpload = Row<Arriving>;

/// What of an upload arrives, and what is to be done with it.
pub struct Arriving {
    growing: Growing,
    terms: Terms,
    recipe: Option<Recipe>,
    claim: Option<Use>,
}

/// An upload that is asked for, found good by policy.
pub struct Asked {
    pub who: Who,
    pub face: Face,
    pub purpose: Purpose,
    pub terms: Terms,
    /// Bytes it will have, if its sender has said so.
    pub length: Option<u64>,
    pub note: Note,
    /// What a job is to do with the file.
    pub recipe: Option<Recipe>,
    /// What a grant allows for it.
    pub claim: Option<Use>,
    pub digester: Digester,
}

/// One request's bytes.
pub struct Chunk {
    pub input: ByteStream,
    /// Bytes the request said would come.
    pub declared: Option<u64>,
    /// Where they begin.
    pub at: u64,
    /// Bytes of the whole upload, if this request says so.
    pub length: Option<u64>,
    /// Whether the upload ends with them.
    pub last: bool,
    /// Whether bytes past its length end the upload.
    pub strict: bool,
    pub check: Check,
}

/// How a piece is verified. One that is not whole, or not right, is dropped.
pub enum Check {
    Nothing,
    Against(Checksum),
    /// By what comes after the bytes.
    Trailing(Box<dyn FnOnce() -> Option<Checksum> + Send>),
}

/// What became of a chunk.
pub struct Added {
    pub progress: Progress,
    /// Why it is not whole; what came is kept.
    pub broke: Option<BodyError>,
    pub finished: Option<Finished>,
}

/// An upload that has become a file, and what was asked for it.
pub struct Finished {
    pub file: Arc<LiveFile>,
    pub terms: Terms,
    pub recipe: Option<Recipe>,
    pub claim: Option<Use>,
}

/// Why a request cannot add to an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UploadError {
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// It goes on elsewhere.
    #[error("the upload is at another offset")]
    Offset { expected: u64, provided: u64 },
    /// More bytes than it has, or another length than was said before.
    #[error("the length contradicts what was said before")]
    Length,
    #[error("another request writes to the upload")]
    Busy,
    /// It takes no bytes: it is a file, or part of one.
    #[error("the upload is complete")]
    Complete,
    #[error("the bytes do not match their checksum")]
    Checksum,
    /// What stands after the bytes is no checksum.
    #[error("the checksum cannot be understood")]
    BadChecksum,
    /// A part to be joined is not complete, or none.
    #[error("a part is not complete")]
    Unfinished,
    #[error("the upload has ended")]
    Over,
}

impl From<BodyError> for UploadError {
    fn from(error: BodyError) -> Self {
        Self::Pipeline(error.into())
    }
}

impl From<NotNow> for UploadError {
    fn from(why: NotNow) -> Self {
        match why {
            NotNow::Busy => Self::Busy,
            NotNow::Complete(..) | NotNow::Moved(_) => Self::Complete,
            NotNow::Over => Self::Over,
        }
    }
}

impl Pipeline {
    /// Begins an upload: from here on it has an id, a deadline and a receipt.
    ///
    /// # Errors
    /// When there are no keys or no memory for it, or it cannot be written down.
    pub fn begin_upload(
        &self,
        tenant: TenantId,
        asked: Asked,
    ) -> Result<Arc<AnyUpload>, PipelineError> {
        let mut growing = self.grow(tenant, &asked.terms, asked.digester)?;
        self.accept_early(&mut growing)?;
        let origin = growing.origin()?.clone();
        let note = self.vault.seal_note(&origin, &asked.note)?;
        let rent = self.vault.rent(note.as_slice().len())?;
        let parts = UploadParts {
            who: asked.who,
            face: asked.face,
            purpose: asked.purpose,
            origin,
            created: growing.created(),
            max_bytes: asked.terms.max_bytes,
            note,
            rent,
        };
        let progress = Progress { offset: 0, length: asked.length };
        let (terms, recipe, claim) = (asked.terms, asked.recipe, asked.claim);
        let arriving = Arriving { growing, terms, recipe, claim };
        let begun = self.uploads.begin(parts, progress, arriving);
        begun.map_err(|crate::table::Closed| PipelineError::Stopped)
    }

    /// Somebody's own upload, while it lives.
    #[must_use]
    pub fn upload(&self, id: UploadId, tenant: TenantId, who: &Who) -> Option<Arc<AnyUpload>> {
        let upload = self.uploads.get(id, tenant, who)?;
        if !upload.is_alive(self.clock.now()) {
            self.end_upload(&upload, Reason::Expired);
            return None;
        }
        Some(upload)
    }

    /// Whether a grant has begun that upload.
    #[must_use]
    pub fn is_of_grant(&self, id: UploadId, grant: GrantId) -> bool {
        self.uploads.is_of_grant(id, grant)
    }

    /// How many uploads somebody has that are not complete.
    #[must_use]
    pub fn open_uploads(&self, who: &Who) -> usize {
        self.uploads.open_of(who)
    }

    /// Where an upload stands. Whoever writes lets go for this.
    ///
    /// # Errors
    /// When it has ended.
    pub async fn look(&self, upload: &AnyUpload) -> Result<Standpoint, UploadError> {
        Ok(upload.look(&*self.clock).await?)
    }

    /// What its sender says of it.
    ///
    /// # Errors
    /// When its keys are gone.
    pub fn note(&self, upload: &AnyUpload) -> Result<Note, PipelineError> {
        Ok(self.vault.note(&upload.origin, &upload.note)?)
    }

    /// Destroys an upload's keys, those of the file it has become too, and forgets it.
    pub fn end_upload(&self, upload: &AnyUpload, reason: Reason) -> Option<Receipt> {
        let file = upload.file().and_then(|id| self.table.get(id, upload.origin.tenant));
        let receipt = match file {
            Some(file) => self.shredder.shred(&file, reason),
            None => self.shredder.end(&upload.origin.keys, reason),
        };
        drop(upload.end());
        self.uploads.forget(upload.id);
        receipt
    }

    /// Ends all of a tenant's uploads that are not complete; which those were.
    pub(super) fn end_uploads(&self, tenant: TenantId, reason: Reason) -> Vec<FileId> {
        let mut ended = Vec::new();
        for upload in self.uploads.of(tenant) {
            if upload.file().is_none() {
                self.end_upload(&upload, reason);
                ended.push(upload.id.file());
            }
        }
        ended
    }

    /// Ends uploads that are due, and forgets those whose files have died.
    pub(super) fn sweep_uploads(&self) {
        for upload in self.uploads.sweep(self.clock.now()) {
            self.shredder.end(&upload.origin.keys, Reason::Expired);
            drop(upload.end());
        }
    }

    /// Ends every upload, and lets none begin.
    pub(super) fn close_uploads(&self) {
        for upload in self.uploads.close() {
            self.shredder.end(&upload.origin.keys, Reason::Shutdown);
            drop(upload.end());
        }
    }

    /// Adds a request's bytes to an upload. What came is kept if they break off, unless they were
    /// to be verified. The last ones make it a file.
    ///
    /// # Errors
    /// When they do not belong there, or cannot be kept: then not a byte of them is.
    pub async fn add(&self, upload: &Arc<AnyUpload>, chunk: Chunk) -> Result<Added, UploadError> {
        let (held, progress, arriving) = match upload.take(&*self.clock).await {
            Ok(taken) => taken,
            Err(NotNow::Complete(_, bytes)) if upload.purpose == Purpose::Whole => {
                return after_the_end(bytes, &chunk);
            }
            Err(why) => return Err(why.into()),
        };
        let fits = Fit { progress, max_bytes: upload.max_bytes };
        match fits.judge(&chunk) {
            Ok(progress) => self.add_held(upload, held, progress, arriving, chunk).await,
            Err(UploadError::Length) if chunk.strict => {
                self.end_upload(upload, Reason::Failed);
                Err(UploadError::Length)
            }
            Err(why) => {
                drop(held.rest(progress, arriving));
                Err(why)
            }
        }
    }

    async fn add_held(
        &self,
        upload: &AnyUpload,
        held: Held<Arriving>,
        mut progress: Progress,
        mut arriving: Arriving,
        chunk: Chunk,
    ) -> Result<Added, UploadError> {
        let left = progress.length.unwrap_or(upload.max_bytes) - progress.offset;
        let (declared, strict, last) = (chunk.declared, chunk.strict, chunk.last);
        let (check, sum) = chunk.check.ready();
        let before = sum.is_some().then(|| arriving.growing.digester());
        let wanted = Box::pin(held.wanted());
        let input = Attended::new(chunk.input, wanted, held.pulse(), left, sum.clone());
        let added = self.append(&mut arriving.growing, Box::pin(input), declared).await;
        let added = match (added, before) {
            (Ok(broke), Some(digester)) => {
                let verdict = check.judge(sum, broke.is_some());
                if verdict.is_err() && arriving.growing.bytes() > progress.offset {
                    self.undo(&mut arriving.growing, digester);
                }
                verdict.map(|()| broke)
            }
            (Ok(broke), None) => Ok(broke),
            (Err(PipelineError::Body(BodyError::TooLarge { .. })), _)
                if progress.length.is_some() =>
            {
                Err(UploadError::Length)
            }
            (Err(PipelineError::Body(BodyError::TooLarge { .. })), _) => {
                Err(BodyError::TooLarge { limit: upload.max_bytes }.into())
            }
            (Err(error), _) => Err(error.into()),
        };
        progress.offset = arriving.growing.bytes();
        if last && matches!(added, Ok(None)) {
            progress.length = Some(progress.offset);
        }
        match added {
            Ok(None) if progress.is_complete() && upload.purpose == Purpose::Whole => {
                self.finish(upload, held, progress, arriving).await
            }
            Err(UploadError::Length) if strict => {
                drop((held, arriving));
                self.end_upload(upload, Reason::Failed);
                Err(UploadError::Length)
            }
            Ok(broke) => {
                // What cannot be gathered now is gathered next time.
                let _ = self.gather_tail(&mut arriving.growing).await;
                drop(held.rest(progress, arriving));
                Ok(Added { progress, broke, finished: None })
            }
            Err(why) => {
                drop(held.rest(progress, arriving));
                Err(why)
            }
        }
    }

    /// Makes a file of an upload that has all its bytes.
    async fn finish(
        &self,
        upload: &AnyUpload,
        held: Held<Arriving>,
        progress: Progress,
        arriving: Arriving,
    ) -> Result<Added, UploadError> {
        let note = self.note(upload)?;
        let claimed = Claimed {
            name: note.name.clone(),
            declared_type: note.declared_type.clone(),
            downloads: note.downloads,
        };
        let Arriving { growing, terms, recipe, claim } = arriving;
        let sealed = self.complete(growing, claimed).await?;
        let file = self.publish(sealed)?;
        if !held.complete(file.id, progress.offset) {
            self.discard(&[file]);
            return Err(UploadError::Over);
        }
        let finished = Some(Finished { file, terms, recipe, claim });
        Ok(Added { progress, broke: None, finished })
    }
}

/// An upload's place in the world, as a request has to fit it.
struct Fit {
    progress: Progress,
    max_bytes: u64,
}

impl Fit {
    /// The progress with what the request says of its length.
    fn judge(&self, chunk: &Chunk) -> Result<Progress, UploadError> {
        let Progress { offset, length } = self.progress;
        if chunk.at != offset {
            return Err(UploadError::Offset { expected: offset, provided: chunk.at });
        }
        let ends = chunk.declared.map(|declared| offset.saturating_add(declared));
        let said = chunk.length.or(ends.filter(|_| chunk.last));
        let length = match (length, said) {
            (Some(length), Some(said)) if length != said => return Err(UploadError::Length),
            (known, said) => known.or(said),
        };
        if length.is_some_and(|length| length < offset) {
            return Err(UploadError::Length);
        }
        let limit = self.max_bytes;
        if length.is_some_and(|length| length > limit) {
            return Err(BodyError::TooLarge { limit }.into());
        }
        match (ends, length) {
            (Some(ends), Some(length)) if ends > length => Err(UploadError::Length),
            (Some(ends), Some(length)) if chunk.last && ends < length => Err(UploadError::Length),
            (Some(ends), None) if ends > limit => Err(BodyError::TooLarge { limit }.into()),
            _ => Ok(Progress { offset, length }),
        }
    }
}

/// A request that comes after the last byte: the answer to the one before was lost. It adds
/// nothing.
fn after_the_end(bytes: u64, chunk: &Chunk) -> Result<Added, UploadError> {
    if chunk.at != bytes {
        return Err(UploadError::Offset { expected: bytes, provided: chunk.at });
    }
    if chunk.declared != Some(0) {
        return Err(UploadError::Length);
    }
    let progress = Progress { offset: bytes, length: Some(bytes) };
    Ok(Added { progress, broke: None, finished: None })
}

impl Check {
    /// The check, and where its sum will be; none if nothing is to be summed.
    fn ready(self) -> (Self, Option<Sum>) {
        let summer = match &self {
            Self::Nothing => None,
            Self::Against(expected) => Some(Summer::of(expected)),
            Self::Trailing(_) => Some(Summer::any()),
        };
        (self, summer.map(|summer| Arc::new(Mutex::new(Some(summer)))))
    }

    fn judge(self, sum: Option<Sum>, broke: bool) -> Result<(), UploadError> {
        let expected = match self {
            Self::Nothing => return Ok(()),
            _ if broke => return Err(BodyError::Truncated.into()),
            Self::Against(expected) => expected,
            Self::Trailing(read) => read().ok_or(UploadError::BadChecksum)?,
        };
        let summer = sum.and_then(|sum| sum.lock().unwrap_or_else(PoisonError::into_inner).take());
        let same = summer.is_some_and(|summer| summer.is(&expected));
        if same { Ok(()) } else { Err(UploadError::Checksum) }
    }
}
