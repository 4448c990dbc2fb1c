//! A worker's answers, each of them held against what it may say.

use std::sync::Arc;

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use super::super::ProcessError;
use super::super::frame::{FRAME_HEAD, Fault, Kind, MAX_PAYLOAD, MediaType};
use crate::body::{BodyError, Buffer, Pool};
use crate::clock::Clock;
use crate::metrics;

/// The longest word of the closed lists, bytes, with room to spare: Office's media types are long.
const MAX_WORD: usize = 128;

/// A frame that was found good.
#[derive(Debug)]
pub(super) enum Frame {
    Head(MediaType),
    Data(Bytes),
    End,
}

/// Reads frames. A call to [`Answers::next`] that is dropped loses nothing.
pub(super) struct Answers {
    stdout: pipe::Receiver,
    pool: Arc<Pool>,
    clock: Arc<dyn Clock>,
    head: [u8; FRAME_HEAD],
    head_filled: usize,
    /// Bytes of the current data frame that are still to come.
    data_left: usize,
    piece: Option<(Buffer, usize)>,
    /// Bytes of output still allowed.
    output_left: u64,
    told_head: bool,
}

impl Answers {
    pub(super) fn new(
        stdout: pipe::Receiver,
        pool: Arc<Pool>,
        clock: Arc<dyn Clock>,
        output_left: u64,
    ) -> Self {
        let (head, piece) = ([0; FRAME_HEAD], None);
        let (head_filled, data_left, told_head) = (0, 0, false);
        Self { stdout, pool, clock, head, head_filled, data_left, piece, output_left, told_head }
    }

    /// The next frame.
    ///
    /// # Errors
    /// The fault the worker names; `processor-limit` when it ended without an end frame, said
    /// too much, or said what no worker says.
    pub(super) async fn next(&mut self) -> Result<Frame, ProcessError> {
        loop {
            if self.data_left > 0 {
                return self.data().await.map(Frame::Data);
            }
            while self.head_filled < FRAME_HEAD {
                self.head_filled += self.read_head().await?;
            }
            let [kind, length @ ..] = self.head;
            let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
            let kind = Kind::from_byte(kind).filter(|_| length <= MAX_PAYLOAD);
            match kind.ok_or_else(broken)? {
                Kind::Data => {
                    let rest = self.output_left.checked_sub(length as u64);
                    self.output_left = rest.filter(|_| self.told_head).ok_or_else(broken)?;
                    self.data_left = length;
                    self.head_filled = 0;
                }
                Kind::End if length == 0 && self.told_head => return Ok(Frame::End),
                Kind::Head if !self.told_head => {
                    let word = self.word(length).await?;
                    let media_type = MediaType::parse(word.as_slice()).ok_or_else(broken)?;
                    (self.told_head, self.head_filled) = (true, 0);
                    return Ok(Frame::Head(media_type));
                }
                Kind::Problem => {
                    let word = self.word(length).await?;
                    let fault = Fault::parse(word.as_slice()).ok_or_else(broken)?;
                    if matches!(fault, Fault::Limit) {
                        metrics::count_by(metrics::WORKER_FAILURES, "why", "limit");
                    }
                    let (slug, detail) = (fault.slug(), fault.detail());
                    return Err(ProcessError::Refused { slug, detail });
                }
                Kind::End | Kind::Head => return Err(broken()),
            }
        }
    }

    async fn read_head(&mut self) -> Result<usize, ProcessError> {
        read(&mut self.stdout, &mut self.head[self.head_filled..]).await
    }

    /// The next piece of a data frame, as large as one of the pool's buffers may be.
    async fn data(&mut self) -> Result<Bytes, ProcessError> {
        let bytes = self.fill(self.data_left).await?;
        self.data_left -= bytes.len();
        Ok(bytes.into_bytes())
    }

    /// A short payload: one of the closed lists' words.
    async fn word(&mut self, length: usize) -> Result<Buffer, ProcessError> {
        if length == 0 || length > MAX_WORD {
            return Err(broken());
        }
        self.fill(length).await
    }

    /// A buffer with the next `length` bytes, or as many as a buffer holds.
    async fn fill(&mut self, length: usize) -> Result<Buffer, ProcessError> {
        let length = length.min(self.pool.buffer_bytes());
        let (mut buffer, mut filled) = match self.piece.take() {
            Some(piece) => piece,
            None => {
                let buffer = self.pool.take(length, &*self.clock).await;
                let mut buffer = buffer.map_err(|_| ProcessError::Body(BodyError::Overloaded))?;
                buffer.resize(length);
                (buffer, 0)
            }
        };
        while filled < buffer.len() {
            let (place, from) = (self.piece.insert((buffer, filled)), filled);
            let count = read(&mut self.stdout, &mut place.0.as_mut_slice()[from..]).await?;
            let Some((back, _)) = self.piece.take() else { return Err(broken()) };
            (buffer, filled) = (back, from + count);
        }
        Ok(buffer)
    }
}

/// Reads at least one byte: a pipe that ends before the end frame belongs to a worker that was
/// killed, or killed itself by running out of memory or stack.
async fn read(from: &mut pipe::Receiver, into: &mut [u8]) -> Result<usize, ProcessError> {
    match from.read(into).await {
        Ok(0) | Err(_) => Err(broken()),
        Ok(count) => Ok(count),
    }
}

fn broken() -> ProcessError {
    metrics::count_by(metrics::WORKER_FAILURES, "why", "ended-early-or-lied");
    ProcessError::refused(Fault::Limit.slug())
}
