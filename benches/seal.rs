//! What sealing and opening cost beside a plain copy through the same buffers.
//!
//! Frames come from one hot buffer, as they do from a socket, and each run is let go at once.

use std::hint::black_box;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use bytes::Bytes;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use dayfly::body::{BodyError, Buffer, Pool};
use dayfly::budget::Budget;
use dayfly::clock::SystemClock;
use dayfly::crypto::{
    CHUNK_BYTES, Header, Implementation, InputKey, Layout, Listed, Opener, PREFIX_BYTES, RUN_BYTES,
    SealStream, Sealer,
};
use dayfly::entropy::SystemEntropy;
use dayfly::file::{Epoch, FileId, Role, TenantId};
use dayfly::secret::Secret;
use futures_util::{Stream, StreamExt, stream};

/// What hyper hands over on a fast connection.
const FRAME: usize = 64 << 10;

struct File {
    header: Header,
    tenant: TenantId,
    secret: Secret<32>,
    pool: Arc<Pool>,
}

impl File {
    fn new() -> Self {
        let header = Header {
            role: Role::Input,
            region: "eu-central-1".parse().expect("a region"),
            file: FileId::from_bytes([1; 16]),
            epoch: Epoch::None,
            expires_at: 1_800_000_000,
            index: 0,
        };
        let mut secret = Secret::zero();
        secret.expose_mut().fill(7);
        let pool = Pool::new(Budget::of(64 << 20), RUN_BYTES);
        Self { header, tenant: TenantId::of("acme"), secret, pool }
    }

    fn key(&self) -> InputKey {
        InputKey::derive(None, &self.secret, &self.header.file, self.header.epoch).expect("a key")
    }

    fn sealed(
        &self,
        of: Implementation,
        len: usize,
    ) -> SealStream<impl Stream<Item = Result<Bytes, BodyError>> + Unpin + use<>> {
        let sealer = Sealer::with(of, &self.header, &self.tenant, self.key(), &SystemEntropy);
        let (sealer, clock) = (sealer.expect("a sealer"), Arc::new(SystemClock));
        SealStream::new(sealer, frames(len), self.pool.clone(), clock, Some(len as u64))
    }

    async fn take(&self) -> Buffer {
        self.pool.take(RUN_BYTES, &SystemClock).await.expect("a buffer")
    }
}

fn frames(len: usize) -> impl Stream<Item = Result<Bytes, BodyError>> + Unpin {
    let frame = Bytes::from(vec![7; FRAME]);
    stream::iter((0..len / FRAME).map(move |_| Ok(frame.clone())))
}

async fn copy(file: &File, len: usize) {
    let (mut frames, mut buffer) = (frames(len), file.take().await);
    while let Some(frame) = frames.next().await {
        let mut frame = frame.expect("a frame");
        while !frame.is_empty() {
            let taken = buffer.append(&frame);
            let _ = frame.split_to(taken);
            if buffer.room() == 0 {
                black_box(buffer.as_slice());
                buffer = file.take().await;
            }
        }
    }
}

async fn seal(file: &File, of: Implementation, len: usize) {
    let mut runs = file.sealed(of, len);
    while let Some(run) = runs.next().await {
        black_box(run.expect("a run").as_slice());
    }
}

/// Opens what `stored` holds; with no opener only copies it into the buffers.
async fn open(file: &File, opener: Option<&Opener>, layout: Layout, stored: &[u8]) {
    for run in layout.runs(0..layout.plain_len()) {
        let mut buffer = file.take().await;
        buffer.append(&stored[run.stored.start as usize..run.stored.end as usize]);
        if let Some(opener) = opener {
            opener.open_run(run.chunks, &mut buffer).expect("an intact run");
        }
        black_box(buffer.as_slice());
    }
}

fn measure(group: &mut BenchmarkGroup<'_, WallTime>, label: &str, len: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let file = File::new();
    let both = [("aws-lc-rs", Implementation::AwsLc), ("aes-gcm", Implementation::RustCrypto)];
    group.throughput(Throughput::Bytes(len as u64));
    group.bench_function(format!("seal/{label}/memcpy"), |b| {
        b.iter(|| runtime.block_on(copy(&file, len)));
    });
    for (name, of) in both {
        group.bench_function(format!("seal/{label}/{name}"), |b| {
            b.iter(|| runtime.block_on(seal(&file, of, len)));
        });
    }

    let (mut stored, mut commitment, mut runs) = (Vec::new(), [0; 32], file.sealed(both[0].1, len));
    while let Some(run) = runtime.block_on(runs.next()) {
        let mut run = run.expect("a run");
        stored.extend_from_slice(run.as_slice());
        if let Some(end) = run.take_end() {
            commitment = *end.commitment();
        }
    }
    let layout = Layout::of(len as u64);
    group.bench_function(format!("open/{label}/memcpy"), |b| {
        b.iter(|| runtime.block_on(open(&file, None, layout, &stored)));
    });
    for (name, of) in both {
        let listed = Listed { header: &file.header, commitment: &commitment, layout };
        group.bench_function(format!("open/{label}/{name}"), |b| {
            b.iter(|| {
                let prefix = &stored[..PREFIX_BYTES];
                let opener = Opener::with(of, listed, &file.tenant, file.key(), prefix);
                let opener = opener.expect("the listed segment");
                runtime.block_on(open(&file, Some(&opener), layout, &stored));
            });
        });
    }
}

/// What the cipher alone takes for one chunk that lies in the first-level cache.
fn bound(group: &mut BenchmarkGroup<'_, WallTime>) {
    let key = UnboundKey::new(&AES_256_GCM, &[1; 32]).expect("a key");
    let (key, mut chunk) = (LessSafeKey::new(key), vec![7; CHUNK_BYTES]);
    group.throughput(Throughput::Bytes(CHUNK_BYTES as u64));
    group.bench_function("bound/16KiB/aws-lc-rs", |b| {
        b.iter(|| {
            let nonce = Nonce::assume_unique_for_key([0; 12]);
            key.seal_in_place_separate_tag(nonce, Aad::empty(), black_box(&mut chunk))
        });
    });
}

fn seal_and_open(c: &mut Criterion) {
    let mut group = c.benchmark_group("crypto");
    group.sample_size(20);
    bound(&mut group);
    measure(&mut group, "1MiB", 1 << 20);
    measure(&mut group, "64MiB", 64 << 20);
    group.finish();
}

criterion_group!(benches, seal_and_open);
criterion_main!(benches);
