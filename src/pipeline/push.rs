//! Putting results into a person's storage: by the provider's upload sessions, chunk by chunk,
//! never over what is there, and checked against what the provider says it has.

use std::sync::Arc;

use futures_util::future::{Either, select};
use futures_util::{StreamExt, TryStreamExt};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

use super::pull::{Storage, Told, Tries};
use super::{Pipeline, PipelineError};
use crate::egress::Outgoing;
use crate::provider::{Check, Chunk, Hasher, Parcel, ProviderError, Sent, Session, Stored};
use crate::table::LiveFile;

/// Bytes of a chunk: a multiple of what both providers ask for.
const CHUNK: u64 = 8 << 20;

/// Where a job's results are put.
#[derive(Clone)]
pub struct Delivery {
    pub storage: Storage,
    /// `None` for the account's root.
    pub folder: Option<String>,
}

impl Pipeline {
    /// Puts one file there. Its receipt names the service from before the first byte leaves.
    pub(super) async fn put_back(
        &self,
        to: &Delivery,
        file: &Arc<LiveFile>,
        told: Told,
    ) -> Result<(), PipelineError> {
        let storage = &to.storage;
        let work = Box::pin(self.carry_back(to, file, told));
        let carried = match select(work, Box::pin(storage.cut.fired())).await {
            Either::Left((carried, _)) => carried,
            Either::Right(_) => return Err(ProviderError::Revoked.into()),
        };
        if matches!(carried, Err(PipelineError::Provider(ProviderError::Revoked))) {
            storage.tokens.lost();
        }
        carried
    }

    async fn carry_back(
        &self,
        to: &Delivery,
        file: &Arc<LiveFile>,
        told: Told,
    ) -> Result<(), PipelineError> {
        let (storage, record) = (&to.storage, self.record(file)?);
        let parcel = Parcel {
            name: record.name.clone().unwrap_or_else(|| file.id.to_string()),
            media_type: record.media_type.clone(),
            bytes: file.size(),
            folder: to.folder.clone(),
            root: storage.root.clone(),
        };
        drop(record);
        let mut tries = Tries::new(self);
        let session = loop {
            match storage.provider.begin_upload(&*storage.tokens, &parcel).await {
                Ok(session) => break session,
                Err(error) => tries.after(error).await?,
            }
        };
        self.evidence.hand(file.id, &[storage.provider.service().as_str().to_owned()]);
        let stored = self.chunks(storage, &parcel, &session, file, told).await?;
        if self.is_same(file, &parcel, &stored).await? {
            return Ok(());
        }
        // What is there is not what was sent: it is not left behind.
        let (tokens, root) = (&*storage.tokens, parcel.root.as_deref());
        let _ = storage.provider.take_away(tokens, &stored, root).await;
        Err(ProviderError::Damaged.into())
    }

    /// Sends chunk after chunk, each read from the vault as it leaves, and again from where the
    /// provider says that it has come to.
    async fn chunks(
        &self,
        storage: &Storage,
        parcel: &Parcel,
        session: &Session,
        file: &Arc<LiveFile>,
        told: Told,
    ) -> Result<Stored, PipelineError> {
        let (provider, tokens) = (&storage.provider, &*storage.tokens);
        let (mut at, mut tries) = (0, Tries::new(self));
        loop {
            told(at, Some(parcel.bytes));
            let bytes = CHUNK.min(parcel.bytes - at);
            let chunk = Chunk { at, bytes, body: self.body(file, at..at + bytes) };
            let sent = match provider.send(tokens, parcel, session, chunk).await {
                Ok(sent) => sent,
                Err(error) => {
                    tries.after(error).await?;
                    loop {
                        match provider.sent(tokens, parcel, session).await {
                            Ok(sent) => break sent,
                            Err(error) => tries.after(error).await?,
                        }
                    }
                }
            };
            match sent {
                Sent::Whole(stored) => return Ok(stored),
                Sent::Upto(upto) if upto > parcel.bytes => {
                    return Err(ProviderError::Nonsense.into());
                }
                Sent::Upto(upto) if upto > at => {
                    tries.moved();
                    at = upto;
                }
                Sent::Upto(upto) => {
                    // It has lost some, or taken nothing: not for ever.
                    tries.after(ProviderError::Unreachable).await?;
                    at = upto;
                }
            }
        }
    }

    fn body(&self, file: &Arc<LiveFile>, range: std::ops::Range<u64>) -> Outgoing {
        let plain = self.vault.open_file(file, range).map_ok(Frame::data);
        StreamBody::new(plain).boxed_unsync()
    }

    /// Whether the provider has what was sent, as far as it says what it has.
    async fn is_same(
        &self,
        file: &Arc<LiveFile>,
        parcel: &Parcel,
        stored: &Stored,
    ) -> Result<bool, PipelineError> {
        if stored.bytes.is_some_and(|bytes| bytes != parcel.bytes) {
            return Ok(false);
        }
        let Some(check) = stored.check else { return Ok(stored.bytes.is_some()) };
        Ok(self.hash(file, &check).await? == check)
    }

    async fn hash(&self, file: &Arc<LiveFile>, like: &Check) -> Result<Check, PipelineError> {
        let mut hasher = Hasher::like(like);
        let mut plain = self.vault.open_file(file, 0..file.size());
        while let Some(bytes) = plain.next().await.transpose()? {
            hasher.update(&bytes);
        }
        Ok(hasher.finish())
    }
}
