//! Parts become a file: their segments are listed, not copied.

use std::sync::Arc;

use super::super::growing::{Claimed, Growing};
use super::super::{Pipeline, PipelineError};
use super::{AnyUpload, Arriving, Asked, Finished, UploadError};
use crate::body::BodyError;
use crate::budget::Permit;
use crate::crypto::SealedRecord;
use crate::file::{TenantId, UploadId};
use crate::table::{Held, LiveFile, Origin, Progress, Purpose, UploadParts};

/// A part that is held while it is joined.
struct Taken {
    id: UploadId,
    held: Held<Arriving>,
    progress: Progress,
    arriving: Arriving,
}

impl Pipeline {
    /// Joins complete parts, in this order, into a file. One that is named twice is there twice.
    /// The parts are its own from then on, and it ends with the earliest of them.
    ///
    /// # Errors
    /// When one of them is not a complete part: then all stay as they are.
    pub async fn join_uploads(
        &self,
        tenant: TenantId,
        asked: Asked,
        parts: &[Arc<AnyUpload>],
    ) -> Result<(Arc<AnyUpload>, Finished), UploadError> {
        let mut taken: Vec<Taken> = Vec::with_capacity(parts.len());
        let mut order = Vec::with_capacity(parts.len());
        for part in parts {
            let known = taken.iter().position(|one| one.id == part.id);
            let place = match known {
                Some(place) => Ok(place),
                None => self.take_part(part).await.map(|one| {
                    taken.push(one);
                    taken.len() - 1
                }),
            };
            match place {
                Ok(place) => order.push(place),
                Err(why) => {
                    put_back(taken);
                    return Err(why);
                }
            }
        }
        let bytes = order.iter().map(|place| taken[*place].progress.offset);
        let bytes = bytes.fold(0_u64, u64::saturating_add);
        let limit = asked.terms.max_bytes;
        if bytes > limit || asked.length.is_some_and(|length| length != bytes) {
            put_back(taken);
            let too_large: UploadError = BodyError::TooLarge { limit }.into();
            return Err(if bytes > limit { too_large } else { UploadError::Length });
        }
        self.joined(tenant, asked, (taken, order), bytes).await
    }

    async fn take_part(&self, part: &Arc<AnyUpload>) -> Result<Taken, UploadError> {
        if part.purpose != Purpose::Part {
            return Err(UploadError::Unfinished);
        }
        let (held, progress, arriving) = part.take(&*self.clock).await?;
        if !progress.is_complete() {
            drop(held.rest(progress, arriving));
            return Err(UploadError::Unfinished);
        }
        Ok(Taken { id: part.id, held, progress, arriving })
    }

    /// From here on the parts are the file's: what fails takes them along.
    async fn joined(
        &self,
        tenant: TenantId,
        asked: Asked,
        (taken, order): (Vec<Taken>, Vec<usize>),
        bytes: u64,
    ) -> Result<(Arc<AnyUpload>, Finished), UploadError> {
        let (mut helds, mut growings): (Vec<_>, Vec<Growing>) = (Vec::new(), Vec::new());
        for one in taken {
            helds.push((one.held, one.progress.offset));
            growings.push(one.arriving.growing);
        }
        let mut whole = self.join(tenant, &asked.terms, growings, &order)?;
        self.accept_early(&mut whole)?;
        let origin = whole.origin()?.clone();
        let note = self.vault.seal_note(&origin, &asked.note)?;
        let rent = self.vault.rent(note.as_slice().len())?;
        self.digest(&mut whole, asked.digester.clone()).await?;
        let claimed = Claimed {
            name: asked.note.name.clone(),
            declared_type: asked.note.declared_type.clone(),
            downloads: None,
        };
        let sealed = self.complete(whole, claimed).await?;
        let file = self.publish(sealed)?;
        let moved = helds.into_iter().map(|(held, bytes)| held.moved(bytes));
        if moved.fold(true, |all, one| all & one) {
            return self.known_as_joined(asked, (origin, note, rent), file, bytes);
        }
        // One of them was ended meanwhile, and its keys with it.
        self.discard(&[file]);
        Err(UploadError::Over)
    }

    fn known_as_joined(
        &self,
        asked: Asked,
        (origin, note, rent): (Origin, SealedRecord, Permit),
        file: Arc<LiveFile>,
        bytes: u64,
    ) -> Result<(Arc<AnyUpload>, Finished), UploadError> {
        let (created, max_bytes) = (file.created, asked.terms.max_bytes);
        let (who, face, purpose) = (asked.who, asked.face, asked.purpose);
        let parts = UploadParts { who, face, purpose, origin, created, max_bytes, note, rent };
        let begun = self.uploads.joined(parts, file.id, bytes);
        let upload = begun.map_err(|crate::table::Closed| PipelineError::Stopped)?;
        let (terms, recipe, claim) = (asked.terms, asked.recipe, asked.claim);
        Ok((upload, Finished { file, terms, recipe, claim }))
    }
}

fn put_back(taken: Vec<Taken>) {
    for one in taken {
        drop(one.held.rest(one.progress, one.arriving));
    }
}
