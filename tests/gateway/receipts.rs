//! What a receipt proves, to whom, and for how long: through restarts, kills and tampering.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use data_encoding::BASE64;
use dayfly::receipt::verify;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tlog_tiles::{Hash, HashReader, record_hash, stored_hashes, tree_hash};

use crate::harness::{Client, Setup, TestGateway, eventually, is_long_tier, noise, run, skip};

mod crash;
mod forged;

/// A state folder that outlives its gateways.
pub struct State {
    home: TempDir,
}

impl State {
    fn new() -> Self {
        Self { home: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap() }
    }

    fn dir(&self) -> PathBuf {
        self.home.path().join("state")
    }

    fn setup(&self) -> Setup {
        Setup::new().set("state", "dir", &format!("\"{}\"", self.dir().display()))
    }

    /// Writes a paper down for a program to read.
    fn paper(&self, name: &str, text: &[u8]) -> String {
        let path = self.home.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

fn note(client: &Client, id: &str) -> String {
    let ask = client.ask("GET", format!("/v1/receipts/{id}")).header("Accept", "text/plain");
    let answer = ask.send().expect(200);
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    answer.body_text()
}

fn proof(client: &Client, id: &str) -> String {
    client.get(format!("/v1/receipts/{id}/proof")).expect(200).body_text()
}

/// The log as an outsider reads it: every entry, held against the checkpoint.
pub struct Log {
    pub size: u64,
    pub root: Hash,
    pub leaves: Vec<Vec<u8>>,
}

struct Hashes(Vec<Hash>);

impl HashReader for Hashes {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog_tiles::Error> {
        Ok(indexes.iter().map(|index| self.0[*index as usize]).collect())
    }
}

impl Log {
    #[track_caller]
    pub fn read(client: &Client) -> Self {
        let checkpoint = client.get("/log/checkpoint").expect(200).body_text();
        let mut lines = checkpoint.lines().skip(1);
        let size: u64 = lines.next().unwrap().parse().unwrap();
        let root = Hash::parse_hash(lines.next().unwrap()).unwrap();
        let mut leaves = Vec::new();
        for tile in 0..size.div_ceil(256) {
            let width = (size - tile * 256).min(256);
            let part = if width == 256 { String::new() } else { format!(".p/{width}") };
            let path = format!("/log/tile/entries/{tile:03}{part}");
            let bundle = client.get(path).expect(200).body;
            let hashes = client.get(format!("/log/tile/0/{tile:03}{part}")).expect(200).body;
            for (entry, hash) in bundle.chunks(35).zip(hashes.chunks(32)) {
                assert_eq!(entry[..2], [0, 33]);
                assert_eq!(record_hash(&entry[2..]).0, hash, "entries and tiles agree");
                leaves.push(entry[2..].to_vec());
            }
        }
        let log = Self { size, root, ..Self::of(leaves) };
        assert_eq!(log.root_at(size), root, "the checkpoint is over these leaves");
        log
    }

    /// A log of these leaves.
    pub fn of(leaves: Vec<Vec<u8>>) -> Self {
        Self { size: leaves.len() as u64, root: Hash([0; 32]), leaves }
    }

    /// The root that the first `size` of these leaves have.
    pub fn root_at(&self, size: u64) -> Hash {
        let mut hashes = Hashes(Vec::new());
        for (n, leaf) in (0..size).zip(&self.leaves) {
            let more = stored_hashes(n, leaf, &hashes).unwrap();
            hashes.0.extend(more);
        }
        tree_hash(size, &hashes).unwrap()
    }

    fn kinds(&self) -> [usize; 5] {
        let mut kinds = [0; 5];
        self.leaves.iter().for_each(|leaf| kinds[usize::from(leaf[0])] += 1);
        kinds
    }
}

/// The exit status of the other verifier.
fn python(file: &str, key: Option<&str>) -> Option<i32> {
    let mut command = Command::new("python3");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/verify.py")).arg(file);
    command.args(key.map(|key| ["--log-key", key]).into_iter().flatten());
    command.status().ok()?.code()
}

/// Both verifiers' one opinion.
#[track_caller]
fn judged(file: &str, key: Option<&str>) -> i32 {
    let mut arguments = vec!["verify", file];
    arguments.extend(key.map(|key| ["--log-key", key]).into_iter().flatten());
    let ours = run(&arguments).code.unwrap();
    assert_eq!(python(file, key), Some(ours), "the other verifier's opinion of {file}");
    ours
}

/// A gateway that has stopped and begun again, so that everything is in its log.
fn restarted(state: &State, mut gateway: TestGateway) -> TestGateway {
    gateway.signal(Signal::TERM);
    gateway.ends_well();
    state.setup().start()
}

#[test]
fn a_restart_answers_for_every_id_that_was_ever_answered() {
    let state = State::new();
    let gateway = state.setup().start();
    let client = gateway.client();
    let deleted = client.upload("", b"one");
    let before = client.delete(format!("/v1/files/{deleted}")).expect(200).json();
    let downloaded = client.upload("?downloads=1", b"two");
    client.download(&downloaded).expect(200);
    client.get(format!("/v1/files/{downloaded}")).problem(410, "downloaded");
    let expired = client.upload("?ttl=1s", b"three");
    eventually("it expires", || {
        (client.get(format!("/v1/files/{expired}")).status == 410).then_some(())
    });
    let ran = client.post("/v1/process/checksum", b"four").expect(200);
    let ran = ran.header("dayfly-receipt").unwrap().rsplit('/').next().unwrap().to_owned();
    let alive = client.upload("", &noise(300_000));
    let gateway = restarted(&state, gateway);
    let client = gateway.client();
    for (id, slug) in [
        (&deleted, "deleted"),
        (&downloaded, "downloaded"),
        (&expired, "expired"),
        (&alive, "key-lost"),
    ] {
        for path in [format!("/v1/files/{id}"), Client::content(id)] {
            let gone = client.get(&path).problem(410, slug).json();
            assert_eq!(gone["receipt"], format!("/v1/receipts/{id}"));
            gateway.client_of("other").get(&path).problem(404, "not-found");
        }
        gateway.client_of("other").get(format!("/v1/receipts/{id}")).problem(404, "not-found");
    }
    let again = client.delete(format!("/v1/files/{deleted}")).expect(200).json();
    for field in ["id", "accepted_at", "destroyed_at", "commitment", "commitment_salt", "reason"] {
        assert_eq!(again[field], before[field], "{field}");
    }
    assert_eq!(again["blobs"][0]["answer"], "deleted", "{again}");
    assert!(again["log_index"].is_u64(), "{again}");
    let receipt = |id: &str| client.get(format!("/v1/receipts/{id}")).expect(200).json();
    assert_eq!(receipt(&alive)["reason"], "shutdown");
    assert_eq!(receipt(&ran)["reason"], "consumed");
    assert_eq!(receipt(&ran)["handed_to"][0], "checksum");
    let random = "file_aaaaaaaaaaaaaaaaaaaaaaaaaa";
    for path in [format!("/v1/files/{random}"), format!("/v1/receipts/{random}/proof")] {
        client.get(path).problem(404, "not-found");
    }
}

#[test]
fn both_verifiers_tell_what_is_proven() {
    let state = State::new();
    let gateway = state.setup().start();
    let client = gateway.client();
    let id = client.upload("", b"a file");
    let live = state.paper("live", note(&client, &id).as_bytes());
    client.get(format!("/v1/receipts/{id}/proof")).problem(503, "not-logged-yet");
    client.delete(format!("/v1/files/{id}")).expect(200);
    // A note that is asked for before the store has answered is followed by another.
    eventually("the store has answered", || {
        let receipt = client.get(format!("/v1/receipts/{id}")).expect(200).json();
        (receipt["blobs"][0]["answer"] == "deleted").then_some(())
    });
    let early = note(&client, &id);
    let key = gateway.anonymous().get("/log/key").expect(200).body_text();
    let gateway = restarted(&state, gateway);
    let client = gateway.client();
    assert_eq!(note(&client, &id), early, "the note that was handed out is the one that is logged");
    assert_eq!(client.get("/log/key").expect(200).body_text(), key);
    let (proof, note) = (proof(&client, &id), state.paper("note", early.as_bytes()));
    let json = state.paper("proof", proof.as_bytes());
    let key_file = state.paper("key", key.as_bytes());
    assert_eq!(judged(&json, Some(&key_file)), 0);
    assert_eq!(judged(&note, Some(&key_file)), 3);
    assert_eq!(judged(&live, Some(&key_file)), 3);
    assert_eq!(judged(&json, None), 4);
    assert_eq!(judged(&note, None), 4);
    let other = State::new();
    let foreign = other.setup().start();
    let foreign = foreign.client().get("/log/key").expect(200).body_text();
    let foreign = state.paper("foreign", foreign.as_bytes());
    assert_eq!(judged(&json, Some(&foreign)), 1, "another log's key");
    assert_eq!(judged(&note, Some(&foreign)), 1);
    for nothing in ["", "{}", "hello\n"] {
        assert_eq!(judged(&state.paper("nothing", nothing.as_bytes()), Some(&key_file)), 2);
    }
    assert_eq!(run(&["verify", "/nowhere"]).code, Some(2));
    // Boot notes are proven the same way, by anybody.
    let boot = gateway.anonymous().get("/log/notes/0").expect(200).body_text();
    assert_eq!(judged(&state.paper("boot", boot.as_bytes()), Some(&key_file)), 0);
    client.get("/log/notes/1").problem(404, "not-found");
}

/// Statuses of many papers from the other verifier.
fn python_batch(papers: &[Vec<u8>], key: &str) -> Vec<u8> {
    let mut child = Command::new("python3")
        .args([concat!(env!("CARGO_MANIFEST_DIR"), "/tests/verify.py"), "--batch", key])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut into, out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let statuses = std::thread::scope(|scope| {
        scope.spawn(move || {
            for paper in papers {
                writeln!(into, "{}", BASE64.encode(paper)).unwrap();
            }
        });
        BufReader::new(out).lines().map(|line| line.unwrap().parse().unwrap()).collect()
    });
    assert!(child.wait().unwrap().success());
    statuses
}

/// The same proof with one field of it replaced.
fn with(proof: &Value, field: &str, value: impl Into<Value>) -> Vec<u8> {
    let mut changed = proof.clone();
    changed[field] = value.into();
    changed.to_string().into_bytes()
}

#[test]
fn what_was_changed_is_found_by_both_verifiers() {
    let state = State::new();
    let gateway = state.setup().start();
    let client = gateway.client();
    let ids: Vec<String> = (0..6).map(|_| client.upload("", b"a file")).collect();
    for id in &ids {
        client.delete(format!("/v1/files/{id}")).expect(200);
    }
    let gateway = restarted(&state, gateway);
    let client = gateway.client();
    let key = client.get("/log/key").expect(200).body_text();
    let key_file = state.paper("key", key.as_bytes());
    let (text, json) = (note(&client, &ids[0]), proof(&client, &ids[0]));
    let first: Value = serde_json::from_str(&json).unwrap();
    let second: Value = serde_json::from_str(&proof(&client, &ids[1])).unwrap();
    let gateway = restarted(&state, gateway);
    let later: Value = serde_json::from_str(&proof(&gateway.client(), &ids[0])).unwrap();
    assert_ne!(first["checkpoint"], later["checkpoint"]);
    let mut papers = Vec::new();
    let step = if is_long_tier() { 1 } else { 23 };
    for paper in [&text, &json] {
        for at in (0..paper.len()).step_by(step) {
            let mut changed = paper.clone().into_bytes();
            changed[at] ^= 1;
            papers.push(changed);
        }
    }
    for line in text.lines().filter(|line| !line.is_empty()) {
        papers.push(text.replacen(&format!("{line}\n"), "", 1).into_bytes());
        papers.push(text.replacen(line, &format!("{line}0"), 1).into_bytes());
    }
    for field in ["note", "kind", "blind", "index", "path", "checkpoint"] {
        // A field of another receipt of the same log; of the same receipt under a later root.
        if first[field] != second[field] {
            papers.push(with(&first, field, second[field].clone()));
        }
        let mut missing = first.clone();
        missing.as_object_mut().unwrap().remove(field);
        papers.push(missing.to_string().into_bytes());
        papers.push(with(&first, field, Value::Null));
    }
    papers.push(with(&first, "checkpoint", later["checkpoint"].clone()));
    papers.push(with(&first, "path", later["path"].clone()));
    papers.push(with(&first, "kind", 1));
    papers.push(with(&first, "index", u64::MAX));
    papers.push(with(&first, "path", vec!["A".to_owned(); 70]));
    papers.push(format!("{}{{\"index\":1,{}", "", &json[1..]).into_bytes());
    let theirs = python_batch(&papers, &key_file);
    assert_eq!(theirs.len(), papers.len());
    for (paper, theirs) in papers.iter().zip(theirs) {
        let ours = verify(paper, Some(&key)).status();
        let shown = String::from_utf8_lossy(paper);
        assert!(ours == 1 || ours == 2, "{ours} for\n{shown}");
        assert_eq!(ours, theirs, "the verifiers differ on\n{shown}");
    }
    if step > 1 {
        skip(&format!("all but every {step}th byte of a receipt; all: DAYFLY_TIER=long"));
    }
}

#[test]
fn the_log_is_for_whom_the_settings_say() {
    let paths =
        ["/log/checkpoint", "/log/key", "/log/policy", "/log/notes/0", "/log/tile/0/000.p/1"];
    let gateway = TestGateway::start();
    for path in paths {
        gateway.anonymous().get(path).expect(200);
    }
    for nothing in ["/log/tile/0/000", "/log/tile/0/000.p/2", "/log/tile/x/000", "/log/notes/1"] {
        gateway.anonymous().get(nothing).problem(404, "not-found");
    }
    gateway.anonymous().get("/log/key?x=1").problem(400, "unknown-parameter");
    let gateway = Setup::new().set("retention", "log", "\"tenants\"").start();
    for path in paths {
        gateway.anonymous().get(path).problem(401, "unauthenticated");
        gateway.client_of("auditor").get(path).expect(200);
    }
    let gateway = Setup::new().set("retention", "log", "\"off\"").start();
    let made = gateway.client().post("/v1/files", b"x").expect(201);
    assert!(made.header("dayfly-promise").is_none());
    let id = made.text("id");
    for path in paths {
        gateway.client().get(path).problem(404, "not-found");
    }
    gateway.client().get(format!("/v1/receipts/{id}/proof")).problem(404, "not-found");
    assert!(note(&gateway.client(), &id).starts_with("dayfly/v1 receipt\nstate live\n"));
}

#[test]
fn an_acceptance_is_promised_to_the_log_and_found_there() {
    let state = State::new();
    let gateway = state.setup().start();
    let made = gateway.client().post("/v1/files", b"x").expect(201);
    let promise = made.header("dayfly-promise").unwrap().to_owned();
    let id = made.text("id");
    let shown = gateway.client().get(format!("/v1/receipts/{id}")).expect(200);
    let again = shown.header("dayfly-promise").unwrap();
    // The key that signed it is in the boot note, which every receipt carries.
    let receipt = note(&gateway.client(), &id);
    let pen = receipt.lines().find_map(|line| line.strip_prefix("boot|pen ")).unwrap();
    let leaf = promised(&promise, pen);
    assert_eq!(promised(again, pen), leaf, "the same leaf, asked again");
    // Those who come together are promised together: each of them all the same.
    let client = gateway.client();
    let together: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let uploads: Vec<_> =
            (0..16).map(|_| scope.spawn(|| client.post("/v1/files", b"y"))).collect();
        let answers = uploads.into_iter().map(|upload| upload.join().unwrap().expect(201));
        answers.map(|made| promised(made.header("dayfly-promise").unwrap(), pen)).collect()
    });
    let gateway = restarted(&state, gateway);
    let log = Log::read(&gateway.client());
    for leaf in together.iter().chain([&leaf]) {
        assert_eq!(log.leaves.iter().filter(|there| *there == leaf).count(), 1);
    }
}

/// The leaf of a promise, which must be signed by that pen: its way leads to the signed root.
fn promised(promise: &str, pen: &str) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    let [leaf, blind, place, path, by, name, signature] =
        promise.split(' ').collect::<Vec<_>>()[..]
    else {
        panic!("{promise}")
    };
    let bytes = |text: &str| BASE64.decode(text.as_bytes()).unwrap();
    let leaf = bytes(leaf);
    let mut node = Sha256::digest([&[0][..], &bytes(blind), &leaf].concat());
    let mut place: usize = place.parse().unwrap();
    for other in path.split(',').map(bytes) {
        let (left, right) =
            if place & 1 == 0 { (&node[..], &other[..]) } else { (&other[..], &node[..]) };
        node = Sha256::digest([&[1][..], left, right].concat());
        place >>= 1;
    }
    let root = BASE64.encode(&node);
    let text = format!("dayfly/v1 promise\nroot {root}\nby {by}\n\n\u{2014} {name} {signature}\n");
    let verifier = signed_note::StandardVerifier::new(pen).unwrap();
    let parsed = signed_note::Note::from_bytes(text.as_bytes()).unwrap();
    parsed.verify(&signed_note::VerifierList::new(vec![Box::new(verifier)])).unwrap();
    leaf
}

#[test]
fn evidence_tells_no_name_size_type_digest_tenant_or_address() {
    let state = State::new();
    let gateway = state.setup().start();
    let client = gateway.client();
    let body = noise(123_457);
    let digest = BASE64.encode(&<sha2::Sha256 as sha2::Digest>::digest(&body));
    let ask = client.ask("PUT", "/v1/files/plantedname.pdf");
    let ask = ask.header("Content-Type", "application/x-planted").body(&body);
    let made = ask.header("Want-Repr-Digest", "sha-256=1").send().expect(201);
    assert!(made.body_text().contains(&digest), "there is a digest to leak");
    let id = made.text("id");
    let mut shown = note(&client, &id);
    client.delete(format!("/v1/files/{id}")).expect(200);
    let gateway = restarted(&state, gateway);
    let client = gateway.client();
    shown += &note(&client, &id);
    shown += &proof(&client, &id);
    shown += &client.get(format!("/v1/receipts/{id}")).expect(200).body_text();
    let log = Log::read(&client);
    assert_eq!(log.kinds(), [2, 1, 1, 0, 0], "counts of each kind are what the log tells");
    assert!(log.leaves.iter().all(|leaf| leaf.len() == 33));
    shown += &client.get("/log/policy").expect(200).body_text();
    shown += &client.get("/log/notes/0").expect(200).body_text();
    let hex: String = BASE64.decode(digest.as_bytes()).unwrap().iter().map(hex).collect();
    let words = ["plantedname", "x-planted", "123457", &digest, &hex, "acme", "127.0.0.1"];
    for word in words {
        assert!(!shown.contains(word), "{word} is in\n{shown}");
    }
    let raw: Vec<u8> = raw(&state.dir());
    // On disk not even the ids and times of receipts are in the clear.
    let file = id.strip_prefix("file_").unwrap();
    for word in words.iter().chain(&[file, "eu-test", "deleted"]) {
        let public = ["eu-test"].contains(word);
        let found = raw.windows(word.len()).any(|window| window == word.as_bytes());
        assert_eq!(found, public, "{word} in the state folder");
    }
}

fn hex(byte: &u8) -> String {
    format!("{byte:02x}")
}

/// Every byte of a folder's files.
fn raw(dir: &Path) -> Vec<u8> {
    let files = std::fs::read_dir(dir).unwrap().flatten();
    files.flat_map(|entry| std::fs::read(entry.path()).unwrap()).collect()
}

#[test]
fn two_gateways_do_not_share_a_state_folder() {
    let state = State::new();
    let gateway = state.setup().start();
    let config = gateway.config().display().to_string();
    let second = run(&["serve", "--config", &config, "--listen", "127.0.0.1:0"]);
    assert_eq!(second.code, Some(78), "{}", second.stderr);
    assert!(second.stderr.contains("another gateway uses it"), "{}", second.stderr);
}
