//! Files that come in pieces: what breaks off is kept, what is undone never opens again, and all of
//! it dies like a file.

use super::*;
use crate::body::BodyError;
use crate::intake::Expected;
use crate::pipeline::{Claimed, Growing};

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 % 251) as u8).collect()
}

/// Bytes that end well, or break off.
fn piece(bytes: &[u8], broke: Option<BodyError>) -> ByteStream {
    let frames = bytes.chunks(50_000).map(|frame| Ok(Bytes::copy_from_slice(frame)));
    let frames: Vec<_> = frames.chain(broke.map(Err)).collect();
    Box::pin(stream::iter(frames))
}

impl House {
    fn grow(&self) -> Growing {
        self.pipeline.grow(tenant(), &self.terms(3600), Digester::default()).unwrap()
    }

    async fn append(&self, growing: &mut Growing, bytes: &[u8], broke: Option<BodyError>) {
        let appended = self.pipeline.append(growing, piece(bytes, broke), None).await;
        assert_eq!(appended, Ok(broke));
    }

    async fn finish(&self, growing: Growing) -> Arc<LiveFile> {
        let sealed = self.pipeline.complete(growing, Claimed::default()).await.unwrap();
        self.pipeline.publish(sealed).unwrap()
    }

    async fn read(&self, file: &LiveFile, range: std::ops::Range<u64>) -> Vec<u8> {
        let frames: Vec<Bytes> = self.vault.open_file(file, range).try_collect().await.unwrap();
        frames.concat()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_that_broke_off_make_one_file_and_one_receipt() {
    let (house, plain) = (house(), text(900_000));
    let mut growing = house.grow();
    let mut at = 0;
    for (to, broke) in [
        (1, Some(BodyError::Truncated)),
        (1, Some(BodyError::Truncated)),
        (300_000, Some(BodyError::TooSlow)),
        (300_000 + 16_384, Some(BodyError::Cut)),
        (900_000, None),
    ] {
        house.append(&mut growing, &plain[at..to], broke).await;
        assert_eq!(growing.bytes(), to as u64);
        at = to;
    }
    assert_eq!(growing.segments(), 4, "a piece without a byte is no segment");
    let file = house.finish(growing).await;
    assert_eq!(file.size(), 900_000);
    for range in [0..900_000, 0..1, 1..2, 299_999..300_001, 316_383..316_385, 5..899_999] {
        let opened = house.read(&file, range.start as u64..range.end as u64).await;
        assert!(opened == plain[range.clone()], "{range:?}");
    }
    let reading = house.vault.open_file(&file, 0..900_000);
    let receipt = house.pipeline.delete(&file).unwrap();
    assert_eq!(receipt.blobs.len(), 4);
    let opened: Result<Vec<Bytes>, _> = reading.try_collect().await;
    assert!(opened.is_err(), "its bytes may have gone first");
    drop(file);
    house.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_piece_that_is_refused_or_undone_leaves_what_was_there_before() {
    let (house, plain) = (house(), text(200_000));
    let mut digester = Digester::default();
    // SHA-256 of the 200 000 bytes, by another implementation.
    let sent = "sha-256=:+x2Pq6xiLNFv57n7i8YQBRXcQXvVbQNuSWpJ1MIPY7g=:";
    digester.expect(Expected::parse(sent).unwrap());
    let mut growing = house.pipeline.grow(tenant(), &house.terms(3600), digester).unwrap();
    house.append(&mut growing, &plain[..70_000], None).await;
    for error in [BodyError::Quota, BodyError::DigestMismatch] {
        let input = piece(&plain[..100_000], Some(error));
        let refused = house.pipeline.append(&mut growing, input, None).await;
        assert_eq!(refused, Err(PipelineError::Body(error)));
    }
    let before = growing.digester();
    house.append(&mut growing, &text(100_000), None).await;
    assert_eq!((growing.bytes(), house.vault.usage().blobs), (170_000, 2));
    house.pipeline.undo(&mut growing, before);
    while house.pipeline.pending_deletes() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!((growing.bytes(), house.vault.usage().blobs), (70_000, 1));
    assert_eq!(house.pipeline.quotas.used(tenant()), 70_000);
    house.append(&mut growing, &plain[70_000..], None).await;
    let file = house.finish(growing).await;
    assert!(house.read(&file, 0..200_000).await == plain);
    house.pipeline.delete(&file);
    drop(file);
    house.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_short_pieces_are_gathered_into_one_segment_of_the_same_bytes() {
    let (house, plain) = (house(), text(100_000));
    let mut growing = house.grow();
    for bytes in plain.chunks(700) {
        house.append(&mut growing, bytes, None).await;
        if growing.segments() > 20 {
            house.pipeline.gather(&mut growing, 1).await.unwrap();
        }
    }
    assert!(growing.segments() <= 20);
    house.pipeline.gather(&mut growing, 0).await.unwrap();
    assert_eq!((growing.segments(), growing.bytes()), (1, 100_000));
    let file = house.finish(growing).await;
    assert!(house.read(&file, 0..100_000).await == plain);
    house.pipeline.delete(&file);
    drop(file);
    house.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_joined_is_read_as_one_and_dies_as_one_with_the_earliest_of_its_parts() {
    let (house, plain) = (house(), text(500_000));
    let mut parts = Vec::new();
    for (bytes, ttl) in [(&plain[..200_000], 7200), (&plain[200_000..], 600)] {
        let terms = house.terms(ttl);
        let mut part = house.pipeline.grow(tenant(), &terms, Digester::default()).unwrap();
        house.append(&mut part, bytes, None).await;
        parts.push(part);
    }
    let earliest = parts[1].deadline().unwrap().expires_at();
    let whole = house.pipeline.join(tenant(), &house.terms(7200), parts, &[]).unwrap();
    let file = house.finish(whole).await;
    assert_eq!((file.expires_at(), file.size()), (earliest, 500_000));
    assert!(house.read(&file, 199_000..400_000).await == plain[199_000..400_000]);
    assert_eq!(house.keys.files_alive(), 3);
    house.clock.advance(Duration::from_secs(600));
    // Nobody has swept yet: every part's own gate is shut all the same.
    let opened: Result<Vec<Bytes>, _> = house.vault.open_file(&file, 0..1).try_collect().await;
    assert_eq!(opened.unwrap_err(), BodyError::Gone);
    house.pipeline.sweep().await;
    let receipt = house.pipeline.receipt(file.id, tenant()).unwrap();
    assert_eq!(receipt.blobs.len(), 2);
    assert_eq!(receipt.destroyed.unwrap().reason(), Reason::Expired);
    drop(file);
    house.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_became_complete_leaves_nothing_and_takes_no_more_after_its_end() {
    let house = house();
    let mut growing = house.grow();
    house.append(&mut growing, &text(300_000), None).await;
    house.clock.advance(Duration::from_secs(3600));
    house.pipeline.sweep().await;
    assert_eq!(growing.deadline(), None, "the sweeper finds its keys in the nursery");
    let late = house.pipeline.append(&mut growing, piece(b"late", None), None).await;
    assert_eq!(late, Err(PipelineError::Expired));
    drop(growing);
    house.is_empty().await;

    let mut growing = house.grow();
    house.append(&mut growing, &text(300_000), None).await;
    house.pipeline.suspend(tenant()).unwrap();
    let cut = house.pipeline.append(&mut growing, piece(b"more", None), None).await;
    assert_eq!(cut, Err(PipelineError::Suspended));
    drop(growing);
    house.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_a_byte_is_one_empty_segment() {
    let house = house();
    let mut growing = house.grow();
    house.append(&mut growing, b"", None).await;
    let file = house.finish(growing).await;
    assert_eq!((file.segments.len(), file.size()), (1, 0));
    assert!(house.read(&file, 0..0).await.is_empty());
    house.pipeline.delete(&file);
    drop(file);
    house.is_empty().await;
}
