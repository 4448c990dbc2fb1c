//! `compress`: gzip or zstd, in constant memory, as fast as the reader takes it.

use std::io::{self, Write};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::{StreamExt, stream};
use zeroize::Zeroize;
use zstd::stream::raw::CParameter;
use zstd::stream::write::Encoder as ZstdEncoder;

use super::options::{Kind, Setting, schema};
use super::{Description, Options, Output, ProcessError, Processor, Step, StepStream};
use crate::body::{BodyError, Pool};
use crate::budget::Permit;
use crate::clock::Clock;

const SETTINGS: &[Setting] = &[
    Setting {
        name: "format",
        kind: Kind::OneOf(&["gzip", "zstd"]),
        about: "The format of the output; gzip by default.",
        refusal: "format is gzip or zstd",
    },
    Setting {
        name: "level",
        kind: Kind::Whole { min: 1, max: 9 },
        about: "From 1, the fastest, to 9, the smallest; 6 for gzip and 3 for zstd by default.",
        refusal: "level is a whole number from 1 to 9",
    },
];

/// Bytes compressed before other tasks get their turn.
const SLICE: usize = 64 << 10;

/// What deflate's window, hash chains and buffers hold, bytes.
const GZIP_MEMORY: usize = 512 << 10;

/// What zstd's tables hold at any level, with the parameters below, bytes.
const ZSTD_MEMORY: usize = 8 << 20;

/// The `compress` processor. It parses nothing, so it runs in the gateway.
pub(super) struct Compress {
    description: Description,
    pool: Arc<Pool>,
    clock: Arc<dyn Clock>,
}

impl Compress {
    /// Its buffers, and what the encoders hold, are paid from `pool`'s budget.
    pub(super) fn new(pool: Arc<Pool>, clock: Arc<dyn Clock>) -> Self {
        let name = "compress".to_owned();
        let options = schema(SETTINGS);
        let description = Description { name, media_types: vec!["*/*"], options };
        Self { description, pool, clock }
    }
}

impl Processor for Compress {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn prepare(&self, options: &Options) -> Result<Box<dyn Step>, ProcessError> {
        let chosen = options.read(SETTINGS)?;
        let format = match chosen.get("format").map(String::as_str) {
            Some("zstd") => Format::Zstd,
            _ => Format::Gzip,
        };
        let level = chosen.get("level").and_then(|level| level.parse().ok());
        let (pool, clock) = (self.pool.clone(), self.clock.clone());
        Ok(Box::new(Compressing { format, level, pool, clock }))
    }
}

#[derive(Clone, Copy)]
enum Format {
    Gzip,
    Zstd,
}

struct Compressing {
    format: Format,
    level: Option<u32>,
    pool: Arc<Pool>,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl Step for Compressing {
    fn streams(&self) -> bool {
        true
    }

    async fn run(self: Box<Self>, input: StepStream) -> Result<Output, ProcessError> {
        let (memory, media_type) = match self.format {
            Format::Gzip => (GZIP_MEMORY, "application/gzip"),
            Format::Zstd => (ZSTD_MEMORY, "application/zstd"),
        };
        let permit = self.pool.budget().acquire(memory, &*self.clock).await;
        let permit = permit.map_err(|_| ProcessError::Overloaded)?;
        let encoder = Encoder::new(self.format, self.level).map_err(|_| ProcessError::Failed)?;
        let (pool, clock) = (self.pool, self.clock);
        let pending = Bytes::new();
        let state = Run { encoder: Some(encoder), input, pending, pool, clock, _permit: permit };
        let body = stream::try_unfold(state, |mut run| async move {
            Ok(run.next().await?.map(|bytes| (bytes, run)))
        });
        Ok(Output { media_type, body: Box::pin(body) })
    }
}

/// A compression on its way. Nothing is read ahead: the reader's pace is the input's.
struct Run {
    encoder: Option<Encoder>,
    input: StepStream,
    pending: Bytes,
    pool: Arc<Pool>,
    clock: Arc<dyn Clock>,
    _permit: Permit,
}

impl Run {
    /// The next compressed bytes; `None` after the last.
    async fn next(&mut self) -> Result<Option<Bytes>, ProcessError> {
        let Some(mut encoder) = self.encoder.take() else { return Ok(None) };
        loop {
            if !encoder.output().is_empty() && (encoder.output().len() >= SLICE || encoder.ended())
            {
                let bytes = self.hand_out(encoder.output()).await?;
                self.encoder = Some(encoder);
                return Ok(Some(bytes));
            }
            if encoder.ended() {
                return Ok(None);
            }
            if self.pending.is_empty() {
                match self.input.next().await {
                    Some(bytes) => self.pending = bytes?,
                    None => encoder = encoder.finish().map_err(|_| ProcessError::Failed)?,
                }
            } else {
                let slice = self.pending.split_to(self.pending.len().min(SLICE));
                encoder.write(&slice).map_err(|_| ProcessError::Failed)?;
                tokio::task::coop::consume_budget().await;
            }
        }
    }

    /// Moves what fits into one of the pool's buffers, and wipes what was moved.
    async fn hand_out(&mut self, output: &mut Vec<u8>) -> Result<Bytes, ProcessError> {
        let len = output.len().min(self.pool.buffer_bytes());
        let buffer = self.pool.take(len, &*self.clock).await;
        let mut buffer = buffer.map_err(|_| ProcessError::Body(BodyError::Overloaded))?;
        buffer.append(&output[..len]);
        output.copy_within(len.., 0);
        let rest = output.len() - len;
        output[rest..].zeroize();
        output.truncate(rest);
        Ok(buffer.into_bytes())
    }
}

/// The two encoders, writing to memory.
enum Encoder {
    Gzip(Box<GzEncoder<Vec<u8>>>),
    Zstd(Box<ZstdEncoder<'static, Vec<u8>>>),
    Ended(Vec<u8>),
}

impl Encoder {
    fn new(format: Format, level: Option<u32>) -> io::Result<Self> {
        match format {
            Format::Gzip => {
                let level = Compression::new(level.unwrap_or(6));
                Ok(Self::Gzip(Box::new(GzEncoder::new(Vec::new(), level))))
            }
            Format::Zstd => {
                let level = i32::try_from(level.unwrap_or(3)).unwrap_or(3);
                let mut encoder = ZstdEncoder::new(Vec::new(), level)?;
                // Bounded tables, whatever the level: memory is a published contract.
                encoder.set_parameter(CParameter::WindowLog(20))?;
                encoder.set_parameter(CParameter::ChainLog(18))?;
                encoder.set_parameter(CParameter::HashLog(18))?;
                encoder.include_checksum(true)?;
                Ok(Self::Zstd(Box::new(encoder)))
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.write_all(bytes),
            Self::Zstd(encoder) => encoder.write_all(bytes),
            Self::Ended(_) => Ok(()),
        }
    }

    /// What came out and was not yet handed on.
    fn output(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Zstd(encoder) => encoder.get_mut(),
            Self::Ended(output) => output,
        }
    }

    fn finish(self) -> io::Result<Self> {
        match self {
            Self::Gzip(encoder) => encoder.finish().map(Self::Ended),
            Self::Zstd(encoder) => encoder.finish().map(Self::Ended),
            Self::Ended(output) => Ok(Self::Ended(output)),
        }
    }

    const fn ended(&self) -> bool {
        matches!(self, Self::Ended(_))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::budget::Budget;
    use crate::clock::SystemClock;

    async fn run(
        pairs: &[(&str, &str)],
        input: StepStream,
    ) -> Result<(Vec<u8>, usize), ProcessError> {
        let pool = Pool::new(Budget::of(64 << 20), 256 << 10);
        let processor = Compress::new(pool, Arc::new(SystemClock));
        let pairs = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let step = processor.prepare(&Options { pairs, password: None })?;
        let mut body = step.run(input).await?.body;
        let (mut all, mut largest) = (Vec::new(), 0);
        while let Some(bytes) = body.next().await {
            let bytes = bytes?;
            largest = largest.max(bytes.len());
            all.extend_from_slice(&bytes);
        }
        Ok((all, largest))
    }

    fn noise() -> Vec<u8> {
        // Not compressible: every block is a hash of its number.
        (0u32..30_000).flat_map(|n| *blake3::hash(&n.to_le_bytes()).as_bytes()).collect()
    }

    fn chunks(bytes: &[u8]) -> StepStream {
        let chunks: Vec<_> =
            bytes.chunks(300_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        Box::pin(stream::iter(chunks))
    }

    #[tokio::test]
    async fn both_formats_unpack_to_what_went_in_and_stay_in_small_pieces() {
        let plain = noise();
        let (gzip, largest) = run(&[("level", "9")], chunks(&plain)).await.unwrap();
        let mut back = Vec::new();
        flate2::read::GzDecoder::new(&gzip[..]).read_to_end(&mut back).unwrap();
        assert!(back == plain && largest <= 256 << 10);

        let (zstd, _) = run(&[("format", "zstd")], chunks(&plain)).await.unwrap();
        assert!(zstd::stream::decode_all(&zstd[..]).unwrap() == plain);
        let (empty, _) = run(&[("format", "zstd")], chunks(b"")).await.unwrap();
        assert_eq!(zstd::stream::decode_all(&empty[..]).unwrap(), b"");
    }

    #[tokio::test]
    async fn an_input_that_breaks_never_looks_like_a_whole_output() {
        let cut = ProcessError::Body(BodyError::Truncated);
        let items = vec![Ok(Bytes::from_static(b"half")), Err(cut)];
        assert_eq!(run(&[], Box::pin(stream::iter(items))).await.unwrap_err(), cut);
        assert!(run(&[("level", "0")], chunks(b"")).await.is_err());
    }
}
