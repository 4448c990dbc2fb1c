//! What must not open: another segment, an altered one, another's keys.

use proptest::prelude::*;

use super::*;

const CHUNKED: usize = 3 * CHUNK_BYTES + 1000;

/// The stored bytes of chunk `index`.
fn chunk(index: usize) -> Range<usize> {
    let start = PREFIX_BYTES + index * SEALED_CHUNK_BYTES;
    start..start + SEALED_CHUNK_BYTES
}

#[test]
fn every_flipped_bit_of_a_small_segment_is_refused() {
    let case = Case::vault_page();
    let sealed = case.seal(&text(40));
    for bit in 0..sealed.bytes.len() * 8 {
        let mut flipped = sealed.clone();
        flipped.bytes[bit / 8] ^= 1 << (bit % 8);
        let expected = match bit / 8 {
            0..64 => OpenError::Header,
            64..120 => OpenError::Commitment,
            _ => OpenError::Damaged,
        };
        assert_eq!(case.open(&flipped), Err(expected), "bit {bit}");
    }
}

#[test]
fn a_segment_cut_at_any_byte_is_refused() {
    let case = Case::vault_page();
    let sealed = case.seal(&text(40));
    for len in 0..sealed.bytes.len() {
        let mut cut = sealed.clone();
        cut.bytes.truncate(len);
        assert!(case.open(&cut).is_err(), "{len}");
    }
}

#[test]
fn a_segment_cut_at_any_chunk_is_refused_even_if_the_listed_length_agrees() {
    let case = Case::vault_page();
    for len in [2 * CHUNK_BYTES, CHUNKED, 20 * CHUNK_BYTES] {
        let sealed = case.seal(&text(len));
        for chunks in 0..=len / CHUNK_BYTES {
            let mut cut = sealed.clone();
            cut.bytes.truncate(PREFIX_BYTES + chunks * SEALED_CHUNK_BYTES);
            assert_eq!(case.open(&cut), Err(OpenError::Damaged), "{chunks} of {len}");
            cut.plain_len = (chunks * CHUNK_BYTES) as u64;
            assert_eq!(case.open(&cut), Err(OpenError::Damaged), "{chunks} of {len}");
            cut.plain_len = cut.plain_len.saturating_sub(TAG_BYTES as u64);
            assert_eq!(case.open(&cut), Err(OpenError::Damaged), "{chunks} of {len}");
        }
    }
}

#[test]
fn trailing_bytes_are_refused() {
    let case = Case::vault_page();
    for len in [0, 100, CHUNK_BYTES, CHUNKED] {
        for extra in [1, TAG_BYTES, SEALED_CHUNK_BYTES] {
            let mut long = case.seal(&text(len));
            let last = long.bytes.len() - TAG_BYTES;
            let tail: Vec<u8> = long.bytes[last..].iter().copied().cycle().take(extra).collect();
            long.bytes.extend(tail);
            assert_eq!(case.open(&long), Err(OpenError::Damaged), "{extra} after {len}");
        }
    }
}

#[test]
fn chunks_that_changed_places_are_refused() {
    let case = Case::vault_page();
    // Chunks of equal content: only their places tell them apart.
    let sealed = case.seal(&vec![7; CHUNKED]);
    for (a, b) in [(0, 1), (1, 2), (0, 2)] {
        let mut swapped = sealed.clone();
        let first = sealed.bytes[chunk(a)].to_vec();
        swapped.bytes.copy_within(chunk(b), chunk(a).start);
        swapped.bytes[chunk(b)].copy_from_slice(&first);
        assert_eq!(case.open(&swapped), Err(OpenError::Damaged));
        let mut doubled = sealed.clone();
        doubled.bytes.copy_within(chunk(a), chunk(b).start);
        assert_eq!(case.open(&doubled), Err(OpenError::Damaged));
    }
}

#[test]
fn a_chunk_from_another_file_or_from_another_sealing_is_refused() {
    let case = Case::vault_page();
    let mut other = case.clone();
    other.header.file = FileId::from_bytes([1; 16]);
    let sealed = case.seal(&text(CHUNKED));
    for foreign in [other.seal(&text(CHUNKED)), case.seal(&text(CHUNKED))] {
        let mut spliced = sealed.clone();
        spliced.bytes[chunk(1)].copy_from_slice(&foreign.bytes[chunk(1)]);
        assert_eq!(case.open(&spliced), Err(OpenError::Damaged));
        let mut spliced = sealed.clone();
        spliced.bytes[PREFIX_BYTES..].copy_from_slice(&foreign.bytes[PREFIX_BYTES..]);
        assert_eq!(case.open(&spliced), Err(OpenError::Damaged));
    }
}

#[test]
fn of_two_sealings_of_one_index_only_the_listed_one_opens() {
    let case = Case::vault_page();
    let (dropped, listed) = (case.seal(b"first try"), case.seal(b"then this"));
    assert_eq!(case.open(&listed).unwrap(), b"then this");
    let replayed = Stored { bytes: dropped.bytes, ..listed };
    assert_eq!(case.open(&replayed), Err(OpenError::Commitment));
}

#[test]
fn a_commitment_that_does_not_belong_to_the_keys_is_refused_even_if_listed_and_stored() {
    let case = Case::vault_page();
    let mut sealed = case.seal(&text(100));
    sealed.commitment[5] ^= 1;
    sealed.bytes[88 + 5] ^= 1;
    assert_eq!(case.open(&sealed), Err(OpenError::Commitment));
}

#[test]
fn another_header_is_refused_field_by_field() {
    let case = Case::vault_page();
    let sealed = case.seal(&text(100));
    let changes: [fn(&mut Case); 7] = [
        |case| case.header.role = Role::Output,
        |case| case.header.region = "eu-central-2".parse().unwrap(),
        |case| case.header.file = FileId::from_bytes([0; 16]),
        |case| case.header.epoch = Epoch::Quarter(2_000_001),
        |case| case.header.epoch = Epoch::Minute(2_000_000),
        |case| case.header.expires_at += 1,
        |case| case.header.index += 1,
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let mut other = case.clone();
        change(&mut other);
        assert_eq!(other.open(&sealed), Err(OpenError::Header), "{i}");
        // An attacker who also edits the stored header meets other keys.
        let mut edited = sealed.clone();
        edited.bytes[..HEADER_BYTES].copy_from_slice(&other.header.to_bytes());
        assert_eq!(other.open(&edited), Err(OpenError::Commitment), "{i}");
        assert_eq!(case.open(&edited), Err(OpenError::Header), "{i}");
    }
}

#[test]
fn another_tenant_or_secret_is_refused_before_anything_is_decrypted() {
    let case = Case::vault_page();
    let sealed = case.seal(&text(100));
    let changes: [fn(&mut Case); 3] = [
        |case| case.tenant = TenantId::of("acme"),
        |case| case.file_secret.expose_mut()[0] ^= 1,
        |case| case.epoch_key.as_mut().unwrap().expose_mut()[31] ^= 0x80,
    ];
    for change in changes {
        let mut other = case.clone();
        change(&mut other);
        assert_eq!(other.open(&sealed), Err(OpenError::Commitment));
    }
}

#[test]
fn another_listed_length_is_refused() {
    let case = Case::vault_page();
    for len in [0, 100, CHUNK_BYTES, CHUNKED] {
        let sealed = case.seal(&text(len));
        for other in [0, 1, len.saturating_sub(1), len + 1, len + TAG_BYTES, len + CHUNK_BYTES] {
            if other != len {
                let listed = Stored { plain_len: other as u64, ..sealed.clone() };
                assert_eq!(case.open(&listed), Err(OpenError::Damaged), "{other} for {len}");
            }
        }
    }
}

#[test]
fn chunks_that_are_not_there_or_not_asked_for_are_refused() {
    let case = Case::vault_page();
    let sealed = case.seal(&text(CHUNKED));
    let opener = case.opener(Implementation::BULK, &sealed).unwrap();
    #[expect(clippy::reversed_empty_ranges, reason = "a caller's mistake must not open anything")]
    for (chunks, stored) in
        [(0..0, 0..0), (4..5, chunk(0)), (1..2, chunk(0)), (0..2, chunk(0)), (2..1, chunk(1))]
    {
        let mut buffer = buffer_with(&sealed.bytes[stored]);
        assert_eq!(opener.open_run(chunks, &mut buffer), Err(OpenError::Damaged));
        assert!(buffer.is_empty());
    }
}

#[test]
fn one_bad_chunk_wipes_the_good_ones_opened_with_it() {
    let case = Case::vault_page();
    let mut sealed = case.seal(&text(CHUNKED));
    sealed.bytes[chunk(2).start] ^= 1;
    for of in BOTH {
        let opener = case.opener(of, &sealed).unwrap();
        let mut body = sealed.bytes[PREFIX_BYTES..].to_vec();
        assert_eq!(opener.open_chunks(0..4, &mut body), Err(OpenError::Damaged));
        assert!(body.iter().all(|byte| *byte == 0));
    }
}

#[test]
fn weak_or_mismatched_secrets_make_no_key() {
    let case = Case::vault_page();
    let (file, epoch) = (case.header.file, case.header.epoch);
    let (good, zero) = (&case.file_secret, &Secret::zero());
    let derive =
        |epoch_key, secret, epoch| InputKey::derive(epoch_key, secret, &file, epoch).map(drop);
    assert_eq!(derive(Some(zero), good, epoch), Err(KeyError::AllZero));
    assert_eq!(derive(Some(good), zero, epoch), Err(KeyError::AllZero));
    assert_eq!(derive(None, zero, Epoch::None), Err(KeyError::AllZero));
    assert_eq!(derive(None, good, epoch), Err(KeyError::Epoch));
    assert_eq!(derive(Some(good), good, Epoch::None), Err(KeyError::Epoch));
    assert_eq!(derive(Some(good), good, Epoch::Minute(1)), Ok(()));
    assert_eq!(format!("{:?}", case.key()), "InputKey(..)");
}

#[test]
fn without_randomness_nothing_is_sealed() {
    let case = Case::vault_page();
    let sealer = Sealer::new(&case.header, &case.tenant, case.key(), &Dry);
    assert_eq!(sealer.err(), Some(SealError::Entropy(EntropyError)));
    let record = seal_record(&case.header, &case.tenant, case.key(), &Dry, b"x");
    assert_eq!(record.err(), Some(SealError::Entropy(EntropyError)));
}

#[test]
fn each_sealing_has_a_salt_of_its_own() {
    let case = Case::vault_page();
    let (a, b) = (case.seal(b"same"), case.seal(b"same"));
    assert_ne!(a.bytes[64..88], b.bytes[64..88]);
    assert_ne!(a.bytes[PREFIX_BYTES..], b.bytes[PREFIX_BYTES..]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_flipped_bit_anywhere_is_refused(
        len in 0usize..400_000, at in any::<prop::sample::Index>(),
    ) {
        let case = Case::vault_page();
        let mut sealed = case.seal(&text(len));
        let bit = at.index(sealed.bytes.len() * 8);
        sealed.bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(case.open(&sealed).is_err());
    }

    #[test]
    fn a_cut_anywhere_is_refused(len in 0usize..400_000, at in any::<prop::sample::Index>()) {
        let case = Case::vault_page();
        let mut sealed = case.seal(&text(len));
        sealed.bytes.truncate(at.index(sealed.bytes.len()));
        prop_assert!(case.open(&sealed).is_err());
    }
}
