//! The stream: any framing, any hint, one end, and none after an error.

use proptest::prelude::*;

use super::*;

/// Cuts `bytes` at the given places.
fn framed(bytes: &[u8], cuts: &[usize]) -> Vec<Bytes> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| Bytes::copy_from_slice(&bytes[pair[0]..pair[1]])).collect()
}

fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    SystemEntropy.fill(&mut bytes).unwrap();
    bytes
}

/// Lengths around every edge the format has, and any other.
fn lengths() -> impl Strategy<Value = usize> {
    let edges = (0usize..=40, -1i64..=1)
        .prop_map(|(chunks, off)| (chunks as i64 * CHUNK_BYTES as i64 + off).max(0) as usize);
    prop_oneof![edges, 0usize..600_000, 0usize..200]
}

fn hints() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![
        Just(None),
        Just(Some(u64::MAX)),
        (0u64..700_000).prop_map(Some),
        (0u64..200).prop_map(Some),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_length_in_any_frames_with_any_hint_seals_alike_with_both_and_opens(
        len in lengths(), cuts in prop::collection::vec(any::<usize>(), 0..40),
        hint in hints(), honest in any::<bool>(),
    ) {
        let (case, plaintext, salt) = (Case::vault_page(), noise(len), Fixed::<24>([9; 24]));
        let hint = if honest { Some(len as u64) } else { hint };
        let sealed = BOTH.map(|of| {
            stored(collect(case.sealer(of, &salt), framed(&plaintext, &cuts), hint))
        });
        prop_assert_eq!(&sealed[0], &sealed[1]);
        prop_assert_eq!(sealed[0].plain_len, len as u64);
        prop_assert_eq!(case.open(&sealed[0]).unwrap(), plaintext);
    }

    #[test]
    fn an_input_that_ends_in_an_error_never_yields_an_end(
        len in lengths(), cuts in prop::collection::vec(any::<usize>(), 0..20),
        at in any::<prop::sample::Index>(), hint in hints(),
    ) {
        let case = Case::vault_page();
        let mut frames: Vec<_> = framed(&noise(len), &cuts).into_iter().map(Ok).collect();
        frames.insert(at.index(frames.len() + 1), Err(BodyError::Truncated));
        let sealer = case.sealer(Implementation::BULK, &SystemEntropy);
        let mut items = collect_items(sealer, frames, hint);
        prop_assert_eq!(items.pop().unwrap().unwrap_err(), BodyError::Truncated);
        for run in items {
            let run = run.unwrap();
            prop_assert!(!run.is_last());
            prop_assert!(matches!(run.as_slice().len(), RUN_BYTES | 262_400), "whole runs only");
        }
    }

    #[test]
    fn random_access_gives_the_slice(
        len in lengths(), ends in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
    ) {
        let (case, plaintext) = (Case::vault_page(), noise(len));
        let sealed = case.seal(&plaintext);
        let (a, b) = (ends.0.index(len + 1), ends.1.index(len + 1));
        let range = a.min(b)..a.max(b);
        let wanted = range.start as u64..range.end as u64;
        let opened = case.open_with(Implementation::BULK, &sealed, wanted).unwrap();
        prop_assert_eq!(opened, &plaintext[range]);
    }
}

#[test]
fn runs_hold_sixteen_chunks_and_the_first_the_prefix() {
    let sealer = Case::vault_page().sealer(Implementation::BULK, &SystemEntropy);
    let runs = collect(sealer, [Bytes::from(text(2 * 16 * CHUNK_BYTES))], None);
    let lengths: Vec<_> = runs.iter().map(|run| run.as_slice().len()).collect();
    assert_eq!(lengths, [RUN_BYTES, 16 * SEALED_CHUNK_BYTES, TAG_BYTES]);
    assert_eq!(runs.iter().map(SealedRun::is_last).collect::<Vec<_>>(), [false, false, true]);
}

#[test]
fn a_small_file_of_known_length_takes_a_small_buffer_and_none_before_its_first_byte() {
    let pool = Pool::new(Budget::of(1 << 20), RUN_BYTES);
    let frames: Vec<Result<Bytes, BodyError>> = vec![Ok(Bytes::from(text(600)))];
    let sealer = Case::vault_page().sealer(Implementation::BULK, &SystemEntropy);
    let input: ByteStream = Box::pin(halting(frames));
    let mut sealing =
        SealStream::new(sealer, input, pool.clone(), Arc::new(SystemClock), Some(600));
    run_now(async {
        assert!(futures_util::poll!(sealing.next()).is_pending());
        assert_eq!(pool.budget().used(), 0);
        let run = sealing.next().await.unwrap().unwrap();
        assert_eq!((run.as_slice().len(), pool.budget().used()), (736, 1024));
        assert!(sealing.next().await.is_none());
        drop(run);
    });
    assert_eq!(pool.budget().used(), 0);
}

#[test]
fn a_run_that_is_kept_gives_its_empty_room_back() {
    let pool = Pool::new(Budget::of(1 << 20), RUN_BYTES);
    let sealer = Case::vault_page().sealer(Implementation::BULK, &SystemEntropy);
    let input = stream::iter([Ok(Bytes::from_static(b"few"))]);
    let mut sealing = SealStream::new(sealer, input, pool.clone(), Arc::new(SystemClock), None);
    let mut run = run_now(sealing.next()).unwrap().unwrap();
    let before = run.as_slice().to_vec();
    assert!(pool.budget().used() > 200 << 10);
    run.shrink();
    assert_eq!((pool.budget().used(), run.as_slice()), (1024, &before[..]));
}

#[test]
fn a_spent_budget_ends_the_stream_with_overloaded() {
    let pool = Pool::new(Budget::of(1024), RUN_BYTES);
    let sealer = Case::vault_page().sealer(Implementation::BULK, &SystemEntropy);
    let input = stream::iter([Ok(Bytes::from_static(b"few"))]);
    let sealing = SealStream::new(sealer, input, pool, Arc::new(SystemClock), None);
    let items: Vec<_> = run_now(sealing.collect());
    assert_eq!(items.len(), 1);
    assert_eq!(items[0].as_ref().unwrap_err(), &BodyError::Overloaded);
}

#[test]
fn no_run_holds_plaintext() {
    let sealed = Case::vault_page().seal(&text(300_000));
    assert!(!sealed.bytes.windows(10).any(|window| window == b"ephemeral "));
}

#[test]
fn a_record_opens_whole_and_also_chunk_by_chunk_in_bulk() {
    let mut case = Case::vault_page();
    for (role, len) in [(Role::Record, 0), (Role::Token, 77), (Role::Record, 2 * CHUNK_BYTES)] {
        case.header.role = role;
        let plaintext = text(len);
        let record =
            seal_record(&case.header, &case.tenant, case.key(), &SystemEntropy, &plaintext)
                .unwrap();
        let commitment = *record.end().commitment();
        let open = |sealed: &[u8]| {
            open_record(&case.header, &case.tenant, case.key(), &commitment, sealed)
        };
        assert_eq!(open(record.as_slice()).unwrap()[..], plaintext);
        let bytes = record.as_slice().to_vec();
        for cut in [0, 1, 119, 120, 135, bytes.len() - 17, bytes.len() - 16, bytes.len() - 1] {
            assert!(cut >= bytes.len() || open(&bytes[..cut]).is_err(), "{cut} of {}", bytes.len());
        }
        assert!(open(&[&bytes[..], &[0]].concat()).is_err());
        let stored = Stored { bytes, plain_len: record.end().plain_len(), commitment };
        assert_eq!(case.open(&stored).unwrap(), plaintext);
    }
}

#[tokio::test]
async fn a_frame_is_let_go_of_before_the_next_is_asked_for() {
    struct Tracked {
        _held: Arc<()>,
    }
    impl AsRef<[u8]> for Tracked {
        fn as_ref(&self) -> &[u8] {
            &[7; 1000]
        }
    }
    let held = Arc::new(());
    let frames = (0..3).map(|_| {
        // Who reads into the same memory again must be its only holder here.
        assert_eq!(Arc::strong_count(&held), 1, "an earlier frame is still held");
        Ok(Bytes::from_owner(Tracked { _held: held.clone() }))
    });
    let sealer = Case::vault_page().sealer(Implementation::BULK, &SystemEntropy);
    let pool = Pool::new(Budget::of(1 << 20), RUN_BYTES);
    let input = stream::iter(frames);
    let sealing = SealStream::new(sealer, input, pool, Arc::new(SystemClock), Some(3000));
    let runs: Vec<_> = sealing.collect().await;
    assert!(runs.len() == 1 && runs[0].is_ok());
}
