//! The whole Wycheproof files, where the shared folder has them.

use std::io::Read;

use flate2::read::ZlibDecoder;
use serde_json::Value;
use sha2::{Digest, Sha512};

use super::super::derive::hkdf;
use super::known_answers::{assert_gcm, open_bare};
use super::*;

/// Each test with its group, or none where the file is missing.
#[expect(clippy::disallowed_methods, reason = "a test reads its vectors")]
fn vectors(file: &str) -> Vec<(Value, Value)> {
    let Some(path) = shared(&format!("corpus/wycheproof/{file}")) else { return Vec::new() };
    let corpus: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut vectors = Vec::new();
    for group in corpus["testGroups"].as_array().unwrap() {
        for test in group["tests"].as_array().unwrap() {
            vectors.push((group.clone(), test.clone()));
        }
    }
    assert!(!vectors.is_empty());
    vectors
}

fn field(test: &Value, name: &str) -> Vec<u8> {
    hex(test[name].as_str().unwrap())
}

#[test]
fn every_chunked_encryption_vector_of_c2sp_has_its_verdict() {
    for (_, test) in vectors("c2sp_chunked_encryption_aes_256_gcm_test.json") {
        let mut sealed = field(&test, "ct");
        let mut inflated = Vec::new();
        if ZlibDecoder::new(&sealed[..]).read_to_end(&mut inflated).is_ok() && !sealed.is_empty() {
            sealed = inflated;
        }
        let opened = open_bare(&field(&test, "key"), &field(&test, "ctx"), &sealed);
        assert_eq!(opened.is_some(), test["result"] == "valid", "{}", test["comment"]);
        if let Some(plaintext) = opened {
            assert_eq!(Sha512::digest(plaintext)[..], field(&test, "msgSha512"));
        }
    }
}

#[test]
fn every_aes_256_gcm_vector_of_our_shape_has_its_verdict() {
    for (group, test) in vectors("aes_gcm_test.json") {
        let ours = (&group["keySize"], &group["ivSize"], &group["tagSize"], &test["aad"]);
        if ours == (&Value::from(256), &Value::from(96), &Value::from(128), &Value::from("")) {
            let [key, nonce, message, sealed, tag] =
                ["key", "iv", "msg", "ct", "tag"].map(|name| field(&test, name));
            assert_gcm(&key, &nonce, (&message, &sealed, &tag), test["result"] == "valid");
        }
    }
}

#[test]
fn every_hkdf_sha_512_vector_has_its_output() {
    for (_, test) in vectors("hkdf_sha512_test.json") {
        if test["result"] == "valid" {
            let mut out = vec![0; test["size"].as_u64().unwrap() as usize];
            let [salt, ikm, info] = ["salt", "ikm", "info"].map(|name| field(&test, name));
            hkdf(&salt, &ikm, &[&info], &mut out);
            assert_eq!(out, field(&test, "okm"), "{}", test["tcId"]);
        }
    }
}
