//! The thief's own reading of VAULT.md: from drawn bytes to keys, and from keys to plaintext.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Tag};
use dayfly::entropy::{Entropy, SeededEntropy};
use dayfly::file::TenantId;
use sha2::{Digest, Sha512};

use crate::victim::{REGION, SEED, TENANT};

const CHUNK: usize = 16_384;
const PREFIX: usize = 120;

/// What the victim said of a file: nothing secret.
#[derive(Clone, Debug)]
pub struct Told {
    pub id: [u8; 16],
    /// Of its segment.
    pub commitment: [u8; 32],
    /// The first bytes of its sealed record.
    pub record: [u8; PREFIX],
    /// What each eight bytes of it are.
    pub word: [u8; 8],
}

/// A file whose keys the thief knows.
pub struct Opened {
    pub file_secret: [u8; 32],
    pub epoch_key: Option<[u8; 32]>,
    pub input_key: [u8; 32],
    pub chunk_key: [u8; 32],
    pub record_key: [u8; 32],
    pub word: [u8; 8],
    info: Vec<u8>,
    commitment: [u8; 32],
}

/// What one key schedule gives.
struct Schedule {
    chunk_key: [u8; 32],
    base_nonce: [u8; 12],
    commitment: [u8; 32],
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 64] {
    let mut block = [0; 128];
    block[..key.len()].copy_from_slice(key);
    let pad = |by: u8| block.map(|byte| byte ^ by);
    let mut inner = Sha512::new();
    inner.update(pad(0x36));
    for part in parts {
        inner.update(part);
    }
    Sha512::new().chain_update(pad(0x5c)).chain_update(inner.finalize()).finalize().into()
}

/// HKDF-Expand-SHA-512, at most two blocks.
fn expand(key: &[u8], info: &[u8], length: usize) -> Vec<u8> {
    let first = hmac(key, &[info, &[1]]);
    let mut out = first.to_vec();
    if length > out.len() {
        out.extend(hmac(key, &[&first, info, &[2]]));
    }
    out.truncate(length);
    out
}

fn input_key(secret: &[u8], epoch_key: Option<&[u8; 32]>, id: &[u8], epoch: &[u8]) -> [u8; 32] {
    let (salt, label) = match epoch_key {
        Some(key) => (&key[..], "dayfly/v1 input key\0"),
        None => (&[][..], "dayfly/v1 input key, no epoch\0"),
    };
    let info = [label.as_bytes(), id, epoch].concat();
    expand(&hmac(salt, &[secret]), &info, 32).try_into().unwrap()
}

/// What a segment's keys are bound to, from its stored header and salt.
fn info(prefix: &[u8]) -> Vec<u8> {
    let label = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0";
    let tenant = TenantId::of(TENANT);
    [&label[..], &prefix[64..88], b"dayfly/v1 segment\0", &prefix[..64], tenant.as_bytes()].concat()
}

fn schedule(input_key: &[u8; 32], info: &[u8]) -> Schedule {
    let okm = expand(input_key, info, 76);
    Schedule {
        chunk_key: okm[..32].try_into().unwrap(),
        base_nonce: okm[32..44].try_into().unwrap(),
        commitment: okm[44..].try_into().unwrap(),
    }
}

/// The plaintext of a stored segment, if every chunk of it verifies.
fn open(schedule: &Schedule, stored: &[u8]) -> Option<Vec<u8>> {
    let cipher = Aes256Gcm::new(&schedule.chunk_key.into());
    let mut plain = Vec::new();
    for (index, chunk) in stored[PREFIX..].chunks(CHUNK + 16).enumerate() {
        let mut nonce = schedule.base_nonce;
        for (byte, of_index) in nonce[4..].iter_mut().zip((index as u64).to_be_bytes()) {
            *byte ^= of_index;
        }
        let (bytes, tag) = chunk.split_at(chunk.len() - 16);
        let (mut bytes, tag) = (bytes.to_vec(), Tag::try_from(tag).ok()?);
        cipher.decrypt_inout_detached(&nonce.into(), &[], (&mut bytes[..]).into(), &tag).ok()?;
        plain.extend(bytes);
    }
    Some(plain)
}

/// The bytes the victim drew, from the same seed and the lengths it told.
pub fn replay(lengths: &[usize]) -> Vec<Vec<u8>> {
    let entropy = SeededEntropy::new(SEED);
    let draw = |length: &usize| {
        let mut bytes = vec![0; *length];
        entropy.fill(&mut bytes).unwrap();
        bytes
    };
    lengths.iter().map(draw).collect()
}

/// The keys of every file that was told of, each shown to open its file from the spool.
pub fn all(told: &[Told], drawn: &[Vec<u8>], spool: &[Vec<u8>]) -> Vec<Opened> {
    let mut epoch_keys: Vec<[u8; 32]> = Vec::new();
    told.iter().filter_map(|told| one(told, drawn, spool, &mut epoch_keys)).collect()
}

fn one(
    told: &Told,
    drawn: &[Vec<u8>],
    spool: &[Vec<u8>],
    epoch_keys: &mut Vec<[u8; 32]>,
) -> Option<Opened> {
    let stored = spool.iter().find(|stored| stored.get(88..PREFIX) == Some(&told.commitment))?;
    assert_eq!((&stored[..4], &stored[24..40]), (&b"DAY1"[..], &told.id[..]));
    assert!(stored[8..24].starts_with(REGION.as_bytes()));
    // The file's id is drawn, then its secret, and, for the first file of a bucket, the bucket's.
    let at = drawn.iter().position(|bytes| bytes[..] == told.id)?;
    let file_secret: [u8; 32] = drawn[at + 1].clone().try_into().ok()?;
    let next = <[u8; 32]>::try_from(drawn[at + 2].clone()).ok();
    let has_epoch = stored[40] != 2;
    let mut candidates: Vec<Option<[u8; 32]>> = vec![None];
    if has_epoch {
        candidates = epoch_keys.iter().rev().copied().map(Some).chain([next]).collect();
    }
    let info = info(stored);
    candidates.into_iter().find_map(|epoch_key| {
        if has_epoch && epoch_key.is_none() {
            return None;
        }
        let input_key = input_key(&file_secret, epoch_key.as_ref(), &told.id, &stored[40..48]);
        let keys = schedule(&input_key, &info);
        if keys.commitment != told.commitment {
            return None;
        }
        let plain = open(&keys, stored)?;
        assert!(plain.len() > CHUNK && plain.chunks(8).all(|bytes| told.word.starts_with(bytes)));
        let record = schedule(&input_key, &self::info(&told.record));
        assert_eq!(record.commitment, told.record[88..], "the record's keys, too");
        if let Some(key) = epoch_key.filter(|key| !epoch_keys.contains(key)) {
            epoch_keys.push(key);
        }
        Some(Opened {
            file_secret,
            epoch_key,
            input_key,
            chunk_key: keys.chunk_key,
            record_key: record.chunk_key,
            word: told.word,
            info: info.clone(),
            commitment: told.commitment,
        })
    })
}

impl Opened {
    /// Whether 32 bytes are the key of this file's key schedule: that is what its commitment tells.
    pub fn opens_with(&self, candidate: &[u8; 32]) -> bool {
        schedule(candidate, &self.info).commitment == self.commitment
    }
}
