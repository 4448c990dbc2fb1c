//! The way into a process: what it leaves unread for too long ends it, what it never reads is dropped.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use zeroize::Zeroizing;

use super::frame::Fault;
use super::{ProcessError, StepStream};
use crate::body::BodyError;
use crate::clock::{Clock, within};

/// The way in. It reads its input to the end even when nobody takes it any more: an input that
/// breaks is an error whatever was made of its beginning.
pub(super) struct Feed {
    pub stdin: Option<pipe::Sender>,
    /// Bytes the process will still be given.
    pub left: u64,
    /// A longer document is refused; otherwise its rest is read and dropped.
    pub whole: bool,
    pub limit: u64,
    /// How long the process may leave a piece unread.
    pub patience: Duration,
    pub clock: Arc<dyn Clock>,
}

impl Feed {
    pub(super) async fn run(
        mut self,
        request: Zeroizing<Vec<u8>>,
        mut input: StepStream,
    ) -> Result<(), ProcessError> {
        self.write(&request).await?;
        drop(request);
        while let Some(bytes) = input.next().await {
            let bytes = bytes?;
            let len = bytes.len() as u64;
            if len > self.left && self.whole {
                return Err(BodyError::TooLarge { limit: self.limit }.into());
            }
            let taken = usize::try_from(len.min(self.left)).unwrap_or(bytes.len());
            self.left -= taken as u64;
            self.write(&bytes[..taken]).await?;
        }
        if let Some(mut stdin) = self.stdin.take() {
            let _ = stdin.shutdown().await;
        }
        Ok(())
    }

    /// Writes unless the process has stopped reading: what that means, its answer tells.
    async fn write(&mut self, bytes: &[u8]) -> Result<(), ProcessError> {
        let Some(stdin) = &mut self.stdin else { return Ok(()) };
        match within(&*self.clock, self.patience, stdin.write_all(bytes)).await {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) => {
                self.stdin = None;
                Ok(())
            }
            None => Err(ProcessError::refused(Fault::Limit.slug())),
        }
    }
}
