//! What the tests of this room share: one file's secrets, a store in memory, a reader over it.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};

use crate::body::{BodyError, Buffer, ByteStream, Pool};
use crate::budget::Budget;
use crate::clock::SystemClock;
use crate::entropy::{Entropy, EntropyError, SystemEntropy};
use crate::file::{Epoch, FileId, Role, TenantId};
use crate::secret::Secret;

use super::*;

mod known_answers;
mod reference;
mod refusals;
mod residue;
mod streaming;
mod wycheproof;

const BOTH: [Implementation; 2] = [Implementation::AwsLc, Implementation::RustCrypto];

/// All that is needed to seal or open one segment.
#[derive(Clone)]
struct Case {
    header: Header,
    tenant: TenantId,
    epoch_key: Option<Secret<32>>,
    file_secret: Secret<32>,
}

/// `N` bytes that count up from `first`.
fn counting<const N: usize>(first: u8) -> [u8; N] {
    std::array::from_fn(|i| first + i as u8)
}

fn secret(bytes: [u8; 32]) -> Secret<32> {
    let mut secret = Secret::zero();
    *secret.expose_mut() = bytes;
    secret
}

impl Case {
    /// The secrets and header of VAULT.md's known answers.
    fn vault_page() -> Self {
        Self {
            header: Header {
                role: Role::Input,
                region: "eu-central-1".parse().unwrap(),
                file: FileId::from_bytes(counting(0x40)),
                epoch: Epoch::Quarter(2_000_000),
                expires_at: 1_800_000_000,
                index: 0,
            },
            tenant: TenantId::from_bytes(counting(0x50)),
            epoch_key: Some(secret(counting(0))),
            file_secret: secret(counting(0x20)),
        }
    }

    fn key(&self) -> InputKey {
        let Header { file, epoch, .. } = &self.header;
        InputKey::derive(self.epoch_key.as_ref(), &self.file_secret, file, *epoch).unwrap()
    }

    fn sealer(&self, of: Implementation, entropy: &dyn Entropy) -> Sealer {
        Sealer::with(of, &self.header, &self.tenant, self.key(), entropy).unwrap()
    }

    fn seal(&self, plaintext: &[u8]) -> Stored {
        let frame = Bytes::copy_from_slice(plaintext);
        let sealer = self.sealer(Implementation::BULK, &SystemEntropy);
        stored(collect(sealer, [frame], Some(plaintext.len() as u64)))
    }

    fn opener(&self, of: Implementation, stored: &Stored) -> Result<Opener, OpenError> {
        let layout = Layout::of(stored.plain_len);
        let listed = Listed { header: &self.header, commitment: &stored.commitment, layout };
        let prefix = &stored.bytes[..stored.bytes.len().min(PREFIX_BYTES)];
        Opener::with(of, listed, &self.tenant, self.key(), prefix)
    }

    fn open(&self, stored: &Stored) -> Result<Vec<u8>, OpenError> {
        let opened = BOTH.map(|of| self.open_with(of, stored, 0..stored.plain_len));
        assert_eq!(opened[0], opened[1], "both implementations agree");
        let [opened, _] = opened;
        opened
    }

    fn open_with(
        &self,
        of: Implementation,
        stored: &Stored,
        range: Range<u64>,
    ) -> Result<Vec<u8>, OpenError> {
        let opener = self.opener(of, stored)?;
        let mut plaintext = Vec::new();
        for run in opener.layout().runs(range) {
            let mut buffer = buffer_with(&stored.read(&run, opener.layout()));
            let opened = opener.open_run(run.chunks, &mut buffer);
            assert!(opened.is_ok() || buffer.is_empty(), "nothing is left of a damaged run");
            opened?;
            plaintext.extend_from_slice(&buffer.as_slice()[run.wanted]);
        }
        Ok(plaintext)
    }
}

/// A segment as a store holds it and a record lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stored {
    bytes: Vec<u8>,
    plain_len: u64,
    commitment: [u8; COMMITMENT_BYTES],
}

impl Stored {
    /// What a store gives for a run: less if the segment is short, all that is there for the last.
    fn read(&self, run: &Run, layout: Layout) -> Vec<u8> {
        let all = self.bytes.len();
        let last = run.chunks.end == layout.chunks();
        let end = if last { all } else { all.min(run.stored.end as usize) };
        self.bytes[end.min(run.stored.start as usize)..end].to_vec()
    }
}

fn buffer_with(bytes: &[u8]) -> Buffer {
    let size = bytes.len().max(RUN_BYTES);
    let pool = Pool::new(Budget::of(8 << 20), size);
    let mut buffer = run_now(pool.take(size, &SystemClock)).unwrap();
    assert_eq!(buffer.append(bytes), bytes.len());
    buffer
}

fn run_now<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

/// An input that makes its reader wait before each frame.
fn halting<T: Send + 'static>(items: Vec<T>) -> impl Stream<Item = T> + Send {
    stream::iter(items).then(|item| async {
        tokio::task::yield_now().await;
        item
    })
}

type Item = Result<SealedRun, BodyError>;

fn collect_items(
    sealer: Sealer,
    frames: Vec<Result<Bytes, BodyError>>,
    declared: Option<u64>,
) -> Vec<Item> {
    let pool = Pool::new(Budget::of(64 << 20), RUN_BYTES);
    let input: ByteStream = Box::pin(halting(frames));
    let sealing = SealStream::new(sealer, input, pool, Arc::new(SystemClock), declared);
    run_now(sealing.collect())
}

fn collect(
    sealer: Sealer,
    frames: impl IntoIterator<Item = Bytes>,
    declared: Option<u64>,
) -> Vec<SealedRun> {
    let items = collect_items(sealer, frames.into_iter().map(Ok).collect(), declared);
    items.into_iter().map(Result::unwrap).collect()
}

fn stored(mut runs: Vec<SealedRun>) -> Stored {
    let end = runs.last_mut().unwrap().take_end().unwrap();
    assert!(runs.iter().all(|run| !run.is_last()), "one end, on the last run");
    let bytes = runs.iter().flat_map(|run| run.as_slice()).copied().collect::<Vec<_>>();
    assert_eq!(bytes.len() as u64, sealed_len(end.plain_len()));
    Stored { bytes, plain_len: end.plain_len(), commitment: *end.commitment() }
}

/// "ephemeral " over and over, as on the vault page.
fn text(len: usize) -> Vec<u8> {
    b"ephemeral ".iter().copied().cycle().take(len).collect()
}

/// Always the same bytes.
struct Fixed<const N: usize>([u8; N]);

impl<const N: usize> Entropy for Fixed<N> {
    fn fill(&self, out: &mut [u8]) -> Result<(), EntropyError> {
        out.copy_from_slice(&self.0[..out.len()]);
        Ok(())
    }
}

struct Dry;

impl Entropy for Dry {
    fn fill(&self, _: &mut [u8]) -> Result<(), EntropyError> {
        Err(EntropyError)
    }
}

fn hex(text: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
}

/// A file of the shared folder beside the checkout; the tests that want one also pass without.
fn shared(path: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared").join(path);
    if !path.exists() {
        skipped(&format!("{} is not here", path.display()));
        return None;
    }
    Some(path)
}

#[expect(clippy::print_stderr, reason = "a test that did not run must say so")]
fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
}
