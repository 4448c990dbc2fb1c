//! `checksum`: digests of the bytes as they pass.

use async_trait::async_trait;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use futures_util::{StreamExt, stream};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::options::{Kind, Setting, schema};
use super::{Description, Options, Output, ProcessError, Processor, Step, StepStream};

const SETTINGS: &[Setting] = &[Setting {
    name: "alg",
    kind: Kind::SomeOf(&["sha-256", "sha-384", "sha-512", "blake3"]),
    about: "The digests to compute, joined by commas; sha-256 by default.",
    refusal: "alg is one or more of sha-256, sha-384, sha-512 and blake3, joined by commas",
}];

/// Bytes hashed before other tasks get their turn.
const SLICE: usize = 64 << 10;

/// The `checksum` processor. It parses nothing, so it runs in the gateway.
pub(super) struct Checksum {
    description: Description,
}

impl Default for Checksum {
    fn default() -> Self {
        let name = "checksum".to_owned();
        let options = schema(SETTINGS);
        Self { description: Description { name, media_types: vec!["*/*"], options } }
    }
}

impl Processor for Checksum {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn prepare(&self, options: &Options) -> Result<Box<dyn Step>, ProcessError> {
        let chosen = options.read(SETTINGS)?;
        let names = chosen.get("alg").map_or("sha-256", String::as_str);
        let mut hashes: Vec<Hash> = Vec::new();
        for hash in names.split(',').filter_map(Hash::named) {
            // Asked for twice, computed once.
            if hashes.iter().all(|known| known.name() != hash.name()) {
                hashes.push(hash);
            }
        }
        Ok(Box::new(Hashing(hashes)))
    }
}

struct Hashing(Vec<Hash>);

#[async_trait]
impl Step for Hashing {
    fn streams(&self) -> bool {
        true
    }

    async fn run(self: Box<Self>, input: StepStream) -> Result<Output, ProcessError> {
        let body = stream::once(digests(self.0, input));
        Ok(Output { media_type: "application/json", body: Box::pin(body) })
    }
}

async fn digests(mut hashes: Vec<Hash>, mut input: StepStream) -> Result<Bytes, ProcessError> {
    while let Some(bytes) = input.next().await {
        for slice in bytes?.chunks(SLICE) {
            hashes.iter_mut().for_each(|hash| hash.update(slice));
            tokio::task::coop::consume_budget().await;
        }
    }
    let digests = hashes.iter_mut().map(|hash| (hash.name().to_owned(), hash.hex()));
    let digests: Map<String, Value> = digests.collect();
    Ok(json!({ "checksums": digests }).to_string().into())
}

/// Boxed, and never moved out of: a hash holds up to a block of the document, and a move would
/// leave a copy of it on the stack.
enum Hash {
    Sha256(Box<Sha256>),
    Sha384(Box<Sha384>),
    Sha512(Box<Sha512>),
    Blake3(Box<blake3::Hasher>),
}

impl Hash {
    fn named(name: &str) -> Option<Self> {
        match name {
            "sha-256" => Some(Self::Sha256(Box::default())),
            "sha-384" => Some(Self::Sha384(Box::default())),
            "sha-512" => Some(Self::Sha512(Box::default())),
            "blake3" => Some(Self::Blake3(Box::default())),
            _ => None,
        }
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "sha-256",
            Self::Sha384(_) => "sha-384",
            Self::Sha512(_) => "sha-512",
            Self::Blake3(_) => "blake3",
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Sha384(hash) => hash.update(bytes),
            Self::Sha512(hash) => hash.update(bytes),
            Self::Blake3(hash) => drop(hash.update(bytes)),
        }
    }

    fn hex(&mut self) -> Value {
        Value::String(match self {
            Self::Sha256(hash) => HEXLOWER.encode(&hash.finalize_reset()),
            Self::Sha384(hash) => HEXLOWER.encode(&hash.finalize_reset()),
            Self::Sha512(hash) => HEXLOWER.encode(&hash.finalize_reset()),
            Self::Blake3(hash) => HEXLOWER.encode(hash.finalize().as_bytes()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::BodyError;

    async fn run(
        alg: &str,
        items: Vec<Result<Bytes, ProcessError>>,
    ) -> Result<Bytes, ProcessError> {
        let pairs = vec![("alg".to_owned(), alg.to_owned())];
        let options = Options { pairs, password: None };
        let step = Checksum::default().prepare(&options)?;
        let mut output = step.run(Box::pin(stream::iter(items))).await?;
        output.body.next().await.unwrap()
    }

    #[tokio::test]
    async fn known_digests_come_out_whatever_the_chunks() {
        let chunks = vec![Ok(Bytes::from("a")), Ok(Bytes::new()), Ok(Bytes::from("bc"))];
        let answer = run("blake3,sha-256,sha-256", chunks).await.unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        let sha = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let blake = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85";
        assert_eq!(answer, json!({ "checksums": { "sha-256": sha, "blake3": blake } }));
    }

    #[tokio::test]
    async fn a_broken_input_has_no_digest_and_md5_is_refused() {
        let cut = ProcessError::Body(BodyError::Truncated);
        assert_eq!(run("sha-512", vec![Ok(Bytes::from("a")), Err(cut)]).await, Err(cut));
        assert!(matches!(run("md5", vec![]).await, Err(ProcessError::Refused { .. })));
    }
}
