//! Scrubbing JPEGs one after the other, beside exiftool started for each of them.
//!
//! `cargo bench --bench scrub`. Each of ours is written by one worker and judged by another, as in
//! the gateway. Ends with status 1 if ours is less than five times as fast per image. exiftool runs
//! for fewer images, since each takes as long as any other; where it is not installed ours is
//! measured alone.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement tells its figures")]
#![expect(clippy::disallowed_methods, reason = "the other one is a program of its own")]

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dayfly::body::Pool;
use dayfly::budget::Budget;
use dayfly::clock::{Clock, SystemClock};
use dayfly::jail::{Jail, Limits, Zygote};
use dayfly::process::{DocumentRoom, Output, ProcessError, Registry, StepStream};
use dayfly::tasks::Tasks;
use futures_util::{StreamExt, stream};

const PROGRAM: &str = env!("CARGO_BIN_EXE_dayfly");
const IMAGES: u32 = 1000;
const THEIRS: u32 = 250;
const BYTES: usize = 100 << 10;
const TIMES: f64 = 5.0;

fn main() -> ExitCode {
    let zygote = Zygote::start(Path::new(PROGRAM)).unwrap();
    let walls = zygote.examine().unwrap().walls;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let ours = runtime.block_on(async {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let workers = NonZeroUsize::new(2).unwrap();
        let jail = Jail::new(zygote, workers, walls, Tasks::default(), clock.clone()).unwrap();
        let room = DocumentRoom {
            jail: Arc::new(jail),
            pool: Pool::new(Budget::of(64 << 20), 256 << 10),
            clock: clock.clone(),
            limits: Limits::default(),
            max_document: 64 << 20,
        };
        let registry = Registry::built_in(&room);
        let began = clock.now().boot;
        for number in 0..IMAGES {
            let image = jpeg(number);
            let clean = scrubbed(&registry, image.clone()).await.unwrap();
            assert!(clean.len() < image.len() && clean.len() > BYTES);
        }
        clock.now().boot.since(began)
    });
    let ours = tell("dayfly", ours, IMAGES);
    if Command::new("exiftool").arg("-ver").output().is_err() {
        println!("SKIPPED: exiftool is not installed");
        return ExitCode::SUCCESS;
    }
    let clock = SystemClock;
    let began = clock.now().boot;
    for number in 0..THEIRS {
        let image = jpeg(number);
        let mut exiftool = Command::new("exiftool");
        exiftool.args(["-q", "-all=", "-o", "-", "-"]);
        exiftool.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = exiftool.spawn().unwrap();
        child.stdin.take().unwrap().write_all(&image).unwrap();
        let clean = child.wait_with_output().unwrap().stdout;
        assert!(clean.len() < image.len() && clean.len() > BYTES);
    }
    let theirs = tell("exiftool", clock.now().boot.since(began), THEIRS);
    println!("{:.1} times as fast", theirs / ours);
    if theirs / ours < TIMES { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Milliseconds an image.
fn tell(name: &str, took: Duration, images: u32) -> f64 {
    let each = took.as_secs_f64() * 1000.0 / f64::from(images);
    println!(
        "{name:<10} {images:>5} images of {BYTES} bytes: {:.1} s, {each:.2} ms each",
        took.as_secs_f64()
    );
    each
}

async fn scrubbed(registry: &Registry, image: Bytes) -> Result<Vec<u8>, ProcessError> {
    let plan = registry.parse("scrub")?.prepare(&[], None)?;
    let step = plan.into_steps().pop().unwrap();
    let approval = step.approval().unwrap();
    let clean = collect(step.run(input(image)).await?).await?;
    collect(approval.run(input(clean.clone().into())).await?).await?;
    Ok(clean)
}

fn input(bytes: Bytes) -> StepStream {
    Box::pin(stream::iter([Ok(bytes)]))
}

async fn collect(mut output: Output) -> Result<Vec<u8>, ProcessError> {
    let mut all = Vec::new();
    while let Some(bytes) = output.body.next().await {
        all.extend_from_slice(&bytes?);
    }
    Ok(all)
}

/// An image with an author, a camera and a comment, and pixels nobody decodes here.
fn jpeg(number: u32) -> Bytes {
    let mut exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x02".to_vec();
    exif.extend_from_slice(b"\x01\x0f\0\x02\0\0\0\x04CAM\0\x01\x3b\0\x02\0\0\0\x04JQP\0\0\0\0\0");
    let mut image = b"\xff\xd8\xff\xe1".to_vec();
    image.extend_from_slice(&u16::try_from(exif.len() + 2).unwrap().to_be_bytes());
    image.extend_from_slice(&exif);
    image.extend_from_slice(b"\xff\xfe\0\x0dby somebody");
    image.extend_from_slice(b"\xff\xdb\0\x43\0");
    image.extend_from_slice(&[1; 64]);
    image.extend_from_slice(b"\xff\xc0\0\x0b\x08\x02\0\x02\0\x01\x01\x11\0");
    image.extend_from_slice(b"\xff\xda\0\x08\x01\x01\0\0\x3f\0");
    let mut noise = vec![0; BYTES];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut noise);
    for byte in noise {
        image.push(byte);
        if byte == 0xff {
            image.push(0);
        }
    }
    image.extend_from_slice(b"\xff\xd9");
    image.into()
}
