//! Taking files in: measured, checked and named while they stream, never collected.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use crate::body::{BodyError, ByteStream};
use crate::clock::Clock;
use crate::metrics;
use crate::table::Reservation;

mod attended;
mod checksum;
mod digest;
mod media;
mod multipart;
mod name;
mod pace;

pub use attended::{Attended, Sum};
pub use checksum::{ALGORITHMS, Checksum, ChecksumError, Summer};
pub use digest::{Algorithm, Digester, Expected, HeaderError};
pub use media::{declared_type, media_type};
pub use multipart::{Part, Parts, boundary};
pub use name::{NameError, clean, foreign_name, output_name};
pub use pace::Pace;

/// Bytes at a body's start that its type is told by.
pub const HEAD_BYTES: usize = 8192;

/// A body on its way in: every byte counted against the limits before it is sealed.
pub struct Intake {
    input: ByteStream,
    pace: Pace,
    limit: u64,
    live_limit: u64,
    before: u64,
    seen: u64,
    reservation: Reservation,
    digester: Digester,
    head: Vec<u8>,
}

/// What was learned of a body once it has ended well.
pub struct Taken {
    pub bytes: u64,
    pub head: Vec<u8>,
    pub reservation: Reservation,
    pub digester: Digester,
}

/// The limits a body is held against.
pub struct Limits {
    /// The largest file, bytes.
    pub file_bytes: u64,
    /// The tenant's live bytes in all.
    pub live_bytes: u64,
    /// The least rate, bytes per second; 0 for none.
    pub min_rate: u64,
}

impl Intake {
    /// Measures `input` against `limits`, counting its bytes in `reservation`.
    #[must_use]
    pub fn new(
        input: ByteStream,
        limits: &Limits,
        reservation: Reservation,
        digester: Digester,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            input,
            pace: Pace::new(clock, limits.min_rate),
            limit: limits.file_bytes,
            live_limit: limits.live_bytes,
            before: 0,
            seen: 0,
            reservation,
            digester,
            head: Vec::new(),
        }
    }

    /// Counts `bytes` that came before these against the file's limit.
    #[must_use]
    pub const fn after(mut self, bytes: u64) -> Self {
        self.before = bytes;
        self
    }

    /// What was learned, after the stream has ended.
    ///
    /// # Errors
    /// When the bytes do not match the digest that was sent with them.
    pub fn finish(mut self) -> Result<Taken, BodyError> {
        self.digester.check()?;
        Ok(self.into_taken())
    }

    /// What was learned of a body of which there may be more: its digests go on.
    #[must_use]
    pub fn into_taken(self) -> Taken {
        let Self { seen, head, reservation, digester, .. } = self;
        Taken { bytes: seen, head, reservation, digester }
    }

    fn take(&mut self, frame: &Bytes) -> Result<(), BodyError> {
        let more = frame.len() as u64;
        if more > self.limit.saturating_sub(self.before + self.seen) {
            return Err(BodyError::TooLarge { limit: self.limit });
        }
        self.reservation.grow(more, self.live_limit).map_err(|_| BodyError::Quota)?;
        self.seen += more;
        metrics::count(metrics::UPLOAD_BYTES, more);
        let missing = HEAD_BYTES.saturating_sub(self.head.len());
        self.head.extend_from_slice(&frame[..missing.min(frame.len())]);
        self.digester.update(frame);
        Ok(())
    }
}

impl Stream for Intake {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        match this.input.poll_next_unpin(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.pace.moved(frame.len());
                Poll::Ready(Some(this.take(&frame).map(|()| frame)))
            }
            Poll::Ready(other) => Poll::Ready(other),
            // Only the time a sender keeps us waiting is held against it.
            Poll::Pending => match this.pace.poll_too_slow(cx) {
                Poll::Ready(()) => Poll::Ready(Some(Err(BodyError::TooSlow))),
                Poll::Pending => Poll::Pending,
            },
        }
    }
}
