//! Reading an object in order: one request for a stretch, and another where it broke off.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;

use super::Inner;
use super::fault::Fault;
use crate::body::Buffer;
use crate::store::{BlobReader, StoreError};

/// A stretch of one object, read once from its start to its end.
pub(super) struct Reader {
    store: Arc<Inner>,
    key: Arc<str>,
    left: Range<u64>,
    body: Option<ByteStream>,
    /// Bytes that came with those that were wanted.
    ahead: Bytes,
}

impl Reader {
    pub fn new(store: Arc<Inner>, key: Arc<str>, stretch: Range<u64>) -> Self {
        Self { store, key, left: stretch, body: None, ahead: Bytes::new() }
    }

    /// Copies what has come into `out`; returns how much that was, 0 when the body must be asked
    /// for (again).
    async fn some(&mut self, out: &mut [u8]) -> Result<usize, Fault> {
        if self.ahead.is_empty() {
            let Some(body) = &mut self.body else {
                let body = self.store.bucket.get(&self.key, self.left.clone()).await?;
                self.body = Some(body);
                return Ok(0);
            };
            match body.next().await {
                Some(Ok(bytes)) => self.ahead = bytes,
                // It ended too early, or stood still: the rest is asked for anew.
                Some(Err(_)) | None => {
                    self.body = None;
                    return Err(Fault::Busy);
                }
            }
        }
        let taken = self.ahead.len().min(out.len());
        out[..taken].copy_from_slice(&self.ahead.split_to(taken));
        self.left.start += taken as u64;
        Ok(taken)
    }

    /// Fills `out`, with patience that begins anew whenever something has come.
    pub async fn fill(&mut self, out: &mut [u8]) -> Result<(), StoreError> {
        if self.left.end - self.left.start < out.len() as u64 {
            return Err(StoreError::Missing);
        }
        let (mut filled, mut failures) = (0, 0);
        while filled < out.len() {
            match self.some(&mut out[filled..]).await {
                Ok(taken) => {
                    filled += taken;
                    failures = if taken > 0 { 0 } else { failures };
                }
                Err(Fault::Busy) if failures < super::retry::TRIES => {
                    self.store.bucket.retry.pause(failures).await;
                    failures += 1;
                }
                Err(fault) => return Err(fault.into()),
            }
        }
        Ok(())
    }
}

#[async_trait]
impl BlobReader for Reader {
    async fn read(&mut self, into: &mut Buffer) -> Result<(), StoreError> {
        self.fill(into.as_mut_slice()).await
    }
}
