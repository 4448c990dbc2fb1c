//! Document steps on real and on hostile documents: the right text, the right refusal, in bounded
//! time, and nothing of the machine in any answer.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Client, TestGateway, is_long_tier, skip, tell};

mod mutants;
mod mutate;
mod recall;
mod sample;
mod traps;

/// What one document may take, start and answer included: a worker's time and some patience, on a
/// machine that does other things too.
const LONGEST: Duration = Duration::from_secs(60);

/// Real documents, where the folder of shared material stands beside the project.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus/documents"));
    let Ok(entries) = std::fs::read_dir(&folder) else {
        skip("the corpus of documents is not there");
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    paths.iter().map(|path| (name(path), std::fs::read(path).unwrap())).collect()
}

/// The slug of a refusal, or `ok`.
#[track_caller]
fn outcome(client: &Client, path: &str, document: &[u8], what: &str) -> String {
    let began = Instant::now();
    let answer = client.post(path, document);
    let took = began.elapsed();
    assert!(took < LONGEST, "{what} {path} took {took:?}");
    if answer.status == 200 {
        assert!(answer.whole, "{what} {path} was cut");
        return "ok".to_owned();
    }
    assert!([415, 422].contains(&answer.status), "{what} {path}: {}", answer.status);
    let kind = answer.json()["type"].as_str().unwrap_or_default().to_owned();
    kind.rsplit('/').next().unwrap_or_default().to_owned()
}

/// The steps that read a document whole or in part, with options that change what they do.
fn document_steps(client: &Client) -> Vec<String> {
    let known = client.get("/v1/processors").expect(200).json();
    let names = known["processors"].as_array().unwrap().iter();
    let names: Vec<&str> = names.map(|processor| processor["name"].as_str().unwrap()).collect();
    ["text", "text?format=markdown", "detect", "metadata", "scrub", "archive"]
        .into_iter()
        .filter(|step| names.contains(&step.split('?').next().unwrap()))
        .map(|step| format!("/v1/process/{step}"))
        .collect()
}

#[test]
fn every_document_of_the_corpus_gives_a_result_or_a_reason() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let mut outcomes: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (name, bytes) in corpus() {
        for step in document_steps(&client) {
            let said = outcome(&client, &step, &bytes, &name);
            assert_ne!(said, "processor-limit", "{name} {step}");
            if step.ends_with("detect") {
                assert_eq!(said, "ok", "{name}: anything can be detected");
            }
            *outcomes.entry((step, said)).or_default() += 1;
        }
    }
    for ((step, said), count) in outcomes {
        tell(&format!("corpus {step}: {count} {said}"));
    }
    gateway.is_empty_again();
}

#[test]
fn every_format_gives_its_text_plain_and_as_markdown() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    for (kind, document) in sample::all() {
        let plain = client.post("/v1/process/text", &document).expect(200);
        assert_eq!(plain.header("content-type"), Some("text/plain; charset=utf-8"), "{kind}");
        let plain = plain.body_text();
        for word in sample::WORDS {
            assert!(plain.contains(word), "{kind} without {word}: {plain:?}");
        }
        let marked = client.post("/v1/process/text?format=markdown", &document).expect(200);
        assert_eq!(marked.header("content-type"), Some("text/markdown; charset=utf-8"), "{kind}");
        let found = client.post("/v1/process/detect", &document).expect(200).json();
        assert_eq!(found["extension"], kind, "{found}");
        let shown = marked.body_text();
        let structured = ["docx", "pptx", "odt", "html", "epub"];
        assert!(!structured.contains(&kind) || shown.contains("# Heading"), "{kind}: {shown:?}");
        let tables = ["docx", "pptx", "xlsx", "odt", "ods", "html", "csv", "rtf"];
        assert!(!tables.contains(&kind) || shown.contains("| --- |"), "{kind}: {shown:?}");
    }
    gateway.is_empty_again();
}

#[test]
fn formats_that_are_not_read_are_told_apart_from_damage_and_locks() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let ole = |stream: &str| {
        let mut file = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".to_vec();
        file.resize(1024, 0);
        file.extend(stream.encode_utf16().flat_map(u16::to_le_bytes));
        file.resize(2048, 0);
        file
    };
    for (document, slug) in [
        (ole("WordDocument"), "unsupported-media-type"),
        (ole("Workbook"), "unsupported-media-type"),
        (ole("PowerPoint Document"), "unsupported-media-type"),
        (ole("EncryptedPackage"), "document-encrypted"),
        (sample::locked_odt(), "document-encrypted"),
        (sample::zip(&[("[Content_Types].xml", ""), ("xl/x", "")]), "document-damaged"),
    ] {
        assert_eq!(outcome(&client, "/v1/process/text", &document, slug), slug);
    }
    gateway.is_empty_again();
}

#[test]
fn a_false_declaration_and_a_double_nature_are_said() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let detect = |query: &str, document: &[u8]| {
        client.post(format!("/v1/process/detect{query}"), document).expect(200).json()
    };
    let gif = b"GIF89a\x01\0\x01\0\0\0\0;".to_vec();
    assert_eq!(detect("", &gif), json!({ "media_type": "image/gif", "extension": "gif" }));
    let both = [gif.clone(), sample::zip(&[("a", "b")])].concat();
    assert_eq!(detect("", &both)["also"], json!(["application/zip"]));
    assert_eq!(detect("?declared=image/gif", &gif)["matches"], true);
    assert_eq!(detect("?declared=application/pdf", &gif)["matches"], false);
    client.post("/v1/process/detect?declared=gif", &gif).problem(422, "bad-option");
    gateway.is_empty_again();
}

/// How many mutants of each format are tried.
fn mutants() -> u64 {
    if is_long_tier() { 10_000 } else { 200 }
}
