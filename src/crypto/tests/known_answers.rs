//! VAULT.md's known answers, and a few published vectors that always run.

use sha2::{Digest, Sha256};

use super::super::aead::Cipher;
use super::super::derive::{SegmentKeys, hkdf};
use super::*;

fn sha256(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
}

fn seal_fixed(case: &Case, of: Implementation, plaintext: &[u8]) -> Stored {
    let sealer = case.sealer(of, &Fixed(counting::<24>(0x60)));
    stored(collect(sealer, [Bytes::copy_from_slice(plaintext)], None))
}

#[test]
fn the_header_and_the_input_key_are_the_vault_pages() {
    let case = Case::vault_page();
    let header = "444159310100000065752d63656e7472616c2d3100000000\
                  404142434445464748494a4b4c4d4e4f00000000001e8480000000006b49d2000000000000000000";
    assert_eq!(case.header.to_bytes()[..], hex(header));
    let key = "1ad0090eee6abf64798ad15a36dfe3a89a2f7ba7fee87b09dfb8a2c6fd20bf31";
    assert_eq!(case.key().expose()[..], hex(key));
}

#[test]
fn every_field_of_the_header_stands_where_the_vault_page_says() {
    let header = Header {
        role: Role::Token,
        region: "a".parse().unwrap(),
        file: FileId::from_bytes([0xee; 16]),
        epoch: Epoch::Minute(0x0102_0304),
        expires_at: 0x1112_1314_1516_1718,
        index: 0x2122_2324,
    };
    let expected = "4441593101040000610000000000000000000000000000\
                    00eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee01000000010203041112131415161718\
                    2122232400000000";
    assert_eq!(header.to_bytes()[..], hex(expected));
}

#[test]
fn segments_are_the_vault_pages_with_both_implementations() {
    let case = Case::vault_page();
    let answers = [
        (20_000, 20_152, "bbbb9e7bcd975bb39117f09d4ebb77938f00ea7dfd2475c5449ee9c96d55750f"),
        (16_384, 16_536, "879f411e47a7a6bd624da2acd8c5cf84c4e756f6f1442844c1cf679ebbd0d6dd"),
        (0, 136, "a273733dde031f343767629faf86682c1b8be044ab669f80ece291f317cbdc36"),
    ];
    for of in BOTH {
        for (plain, sealed, digest) in answers {
            let stored = seal_fixed(&case, of, &text(plain));
            assert_eq!((stored.bytes.len(), sha256(&stored.bytes).as_str()), (sealed, digest));
            let commitment = "51544df093157df8566db4cd3a95464691e3f24381fd074a8346daacc10d3c94";
            assert_eq!(stored.commitment[..], hex(commitment));
            assert_eq!(case.open(&stored).unwrap(), text(plain));
        }
    }
}

#[test]
fn a_segment_without_an_epoch_key_is_the_vault_pages() {
    let mut case = Case::vault_page();
    (case.header.epoch, case.epoch_key) = (Epoch::None, None);
    let stored = seal_fixed(&case, Implementation::BULK, &text(100));
    assert_eq!(stored.bytes.len(), 236);
    let digest = "2f6b331493275bc0edb14a1d0e0443cf5a8225ff8755b9758e4add8ac46725e3";
    assert_eq!(sha256(&stored.bytes), digest);
    assert_eq!(case.open(&stored).unwrap(), text(100));
}

#[test]
fn aes_256_gcm_is_that_of_published_vectors() {
    // Wycheproof aes_gcm_test 93, 98, 129 (a zero tag) and 134 (one bit of a tag flipped).
    let vectors = [
        (
            "80ba3192c803ce965ea371d5ff073cf0f43b6a2ab576b208426e11409c09b9b0",
            "4da5bf8dfd5852c1ea12379d",
            ("", "", "4771a7c404a472966cea8f73c8bfe17a"),
            true,
        ),
        (
            "3b2458d8176e1621c0cc24c0c0e24c1e80d72f7ee9149a4b166176629616d011",
            "45aaa3e5d16d2d42dc03445d",
            (
                "3ff1514b1c503915918f0c0c31094a6e1f",
                "73a6b6f45f6ccc5131e07f2caa1f2e2f56",
                "2d7379ec1db5952d4e95d30c340b1b1d",
            ),
            true,
        ),
        (
            "00112233445566778899aabbccddeeff102132435465768798a9bacbdcedfe0f",
            "ffffffffffffffffffffffff",
            (
                "c6152244cea1978d3e0bc274cf8c0b3b",
                "7cb6fc7c6abc009efe9551a99f36a421",
                "00000000000000000000000000000000",
            ),
            true,
        ),
        (
            "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
            "505152535455565758595a5b",
            (
                "202122232425262728292a2b2c2d2e2f",
                "b2061457c0759fc1749f174ee1ccadfa",
                "9ce8fe76d8ab1bf1bf887232eab590dd",
            ),
            false,
        ),
    ];
    for (key, nonce, (message, sealed, tag), valid) in vectors {
        assert_gcm(&hex(key), &hex(nonce), (&hex(message), &hex(sealed), &hex(tag)), valid);
    }
}

/// One vector, with both implementations.
pub(super) fn assert_gcm(key: &[u8], nonce: &[u8], vector: (&[u8], &[u8], &[u8]), valid: bool) {
    let (message, sealed, tag) = vector;
    let (nonce, tag) = (nonce.try_into().unwrap(), tag.try_into().unwrap());
    for of in BOTH {
        let cipher = Cipher::new(of, key.try_into().unwrap()).unwrap();
        let mut chunk = sealed.to_vec();
        assert_eq!(cipher.open(nonce, &mut chunk, &tag).is_ok(), valid);
        if valid {
            assert_eq!(chunk, message);
            assert_eq!(cipher.seal(nonce, &mut chunk).unwrap(), tag);
            assert_eq!(chunk, sealed);
        }
    }
}

#[test]
fn hkdf_sha_512_is_that_of_a_published_vector() {
    // Wycheproof hkdf_sha512_test 70.
    let ikm = "9fb35c09d3efebdfe522d4875d9adac74ee7eb7b845432f1cb28a9c9a48ffe63\
               bfea2fab94106d96eff39629cf57ef5e7c3e94fb95ff8057f0894c1f352806cd";
    let salt = "100d0324664c4c02443fc97e5186e38a256133e825398d387fd6138acc8b4783\
                3f660f52c960b74bfeb30c38fba4b6e426c17dbef9d45e582ef2857afba229ae";
    let expected = "a50e6839375e2a7eabc5a3610a12225b4e1d6a1cc0b4f600a528cd26ef5fee12\
                    336e39c57a001620c8e4cb9414316b11f11861c314c3acef48251867a2327c9d";
    let mut out = [0; 64];
    hkdf(&hex(salt), &hex(ikm), &[&hex("e7bd97cdac7d9e6b")], &mut out);
    assert_eq!(out[..], hex(expected));
}

#[test]
fn the_key_schedule_is_that_of_c2sp_chunked_encryption() {
    // Wycheproof c2sp_chunked_encryption 10: a context with a zero byte in it.
    let key = hex("59454c4c4f57205355424d4152494e452059454c4c4f57205355424d4152494e");
    let sealed = "12ede102c3ef730da4f3d4dbfaf11003683238315befe73b21ebb2246ac19f3a7d50abd2a5a365f7\
                  652bda670814dbc883ce618256d2d513bd238c2c0dded7614d52bef77bc04273656df97a294323";
    let opened = open_bare(&key, &hex("7465737400636f6e74657874"), &hex(sealed)).unwrap();
    assert_eq!(opened.len(), 7);
}

/// Opens salt, commitment and chunks under a bare context, as the spec has them.
pub(super) fn open_bare(key: &[u8], context: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let opened = BOTH.map(|of| {
        let layout = Layout::of_sealed(sealed.len() as u64 + HEADER_BYTES as u64)?;
        let (salt, rest) = sealed.split_first_chunk::<24>()?;
        let (commitment, chunks) = rest.split_first_chunk::<COMMITMENT_BYTES>()?;
        let key = InputKey::from_bytes(key.try_into().ok()?);
        let keys = SegmentKeys::schedule(key, salt, &[context, b"", b""], of).ok()?;
        if keys.commitment != *commitment {
            return None;
        }
        let mut opened = chunks.to_vec();
        let len = Opener { keys, layout }.open_chunks(0..layout.chunks(), &mut opened).ok()?;
        opened.truncate(len);
        Some(opened)
    });
    assert_eq!(opened[0], opened[1], "both implementations agree");
    let [opened, _] = opened;
    opened
}
