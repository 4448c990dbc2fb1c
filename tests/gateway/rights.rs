//! What a tenant may ask of all it has here: erased, suspended, handed over.

use std::process::Command;

use serde_json::Value;

use crate::harness::{Answer, Client, Setup, TestGateway, Wire, eventually, noise, skip};

const LONG: usize = 24 << 20;
const DATA: &str = "/v1/tenants/acme/data";
const SUSPENSION: &str = "/v1/tenants/acme/suspension";
const EXPORT: &str = "/v1/tenants/acme/export";

#[track_caller]
fn suspend(gateway: &TestGateway) {
    gateway.client_of("owner").ask("PUT", SUSPENSION).send().expect(204);
}

#[track_caller]
fn resume(gateway: &TestGateway) {
    gateway.client_of("owner").delete(SUSPENSION).expect(204);
}

/// Lives without a deadline key: every slot in use is a file's or a run's own secret.
fn short_lives() -> Setup {
    Setup::new().set("retention", "default_ttl", "\"4m\"")
}

/// A reader that has a file's head and its first bytes, and the gateway's buffers full.
fn reader(client: &Client, path: &str) -> (Wire, crate::harness::Head, Vec<u8>) {
    let mut wire = client.ask("GET", path).begin_narrow();
    let head = wire.head();
    assert_eq!(head.status, 200);
    let start = wire.up_to(4096);
    (wire, head, start)
}

#[test]
fn an_erasure_destroys_everything_and_answers_with_a_receipt_for_each() {
    let gateway = TestGateway::start();
    let (client, owner) = (gateway.client(), gateway.client_of("owner"));
    let mut ids: Vec<String> = (0..70).map(|_| client.upload("", b"small")).collect();
    ids.push(client.upload("?downloads=2", &noise(2 << 20)));
    let theirs = gateway.client_of("other").upload("", b"theirs");
    let gone = client.upload("", b"gone before");
    client.delete(format!("/v1/files/{gone}")).expect(200);
    let answer = owner.delete(DATA).expect(200).json();
    assert_eq!(answer["erased"], ids.len());
    let receipts = answer["receipts"].as_array().unwrap();
    let mut found: Vec<&str> = receipts.iter().map(|one| one["file"].as_str().unwrap()).collect();
    found.sort_unstable();
    ids.sort_unstable();
    assert_eq!(found, ids);
    for receipt in receipts {
        assert_eq!((&receipt["state"], &receipt["reason"]), (&"final".into(), &"erased".into()));
        assert!(receipt["keys"].as_array().unwrap().iter().any(|key| key["key"] == "file_secret"));
    }
    for id in &ids {
        client.download(id).problem(410, "erased");
        client.delete(format!("/v1/files/{id}")).problem(410, "erased");
        let receipt = client.get(format!("/v1/receipts/{id}")).expect(200).json();
        assert_eq!(receipt["reason"], "erased");
    }
    client.download(&gone).problem(410, "deleted");
    assert_eq!(client.get("/v1/files").expect(200).json()["files"], serde_json::json!([]));
    gateway.client_of("other").download(&theirs).expect(200).is_body(b"theirs");
    assert_eq!(owner.delete(DATA).expect(200).json()["erased"], 0);
    // What comes after is not erased.
    let after = client.upload("", b"after");
    client.download(&after).expect(200).is_body(b"after");
}

#[test]
fn uploads_in_flight_end_with_the_erasure() {
    let gateway = short_lives().start();
    let (client, owner) = (gateway.client(), gateway.client_of("owner"));
    let mut plain = client.ask("POST", "/v1/files").begin(Some(1 << 20));
    plain.send(&noise(600_000)).unwrap();
    // The first part is sealed already when the erasure comes; the second never ends.
    let form = client.ask("POST", "/v1/files");
    let form = form.header("Content-Type", "multipart/form-data; boundary=b");
    let mut form = form.begin(Some(1 << 20));
    let part = |name: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=f; filename={name}\r\n\r\n")
            .into_bytes()
    };
    form.send(&[part("one"), noise(300_000), b"\r\n".to_vec(), part("two")].concat()).unwrap();
    form.send(b"some of it").unwrap();
    gateway.comes_to("dayfly_keyring_slots_used", 3.0);
    let answer = owner.delete(DATA).expect(200).json();
    assert_eq!(answer["erased"], 0, "none of them was accepted: {answer}");
    assert_eq!(gateway.metric("dayfly_keyring_slots_used"), 0.0, "no key outlives the answer");
    Answer::read(&mut plain, "POST /v1/files").problem(410, "erased");
    Answer::read(&mut form, "POST /v1/files").problem(410, "erased");
    gateway.is_empty_again();
}

#[test]
fn readers_and_runs_in_flight_are_cut_by_the_erasure() {
    let gateway = TestGateway::start();
    let (client, owner) = (gateway.client(), gateway.client_of("owner"));
    let bytes = noise(LONG);
    let id = client.upload("", &bytes);
    let (mut wire, head, mut got) = reader(&client, &Client::content(&id));
    // A run that streams: its head is out, its input goes on.
    let mut run = client.ask("POST", "/v1/process/compress").begin(Some(LONG as u64));
    run.send(&bytes[..8 << 20]).unwrap();
    let run_head = run.head();
    assert_eq!(run_head.status, 200);
    let answer = owner.delete(DATA).expect(200).json();
    assert_eq!(answer["erased"], 2, "the file and the run: {answer}");
    let rest = wire.body(&head);
    got.extend_from_slice(&rest.bytes);
    assert!(got.len() < LONG, "the message came to its end after the erasure");
    assert!(bytes.starts_with(&got));
    let _ = run.send(&bytes[8 << 20..]);
    assert!(!run.body(&run_head).whole, "the run came to its end after the erasure");
    gateway.is_empty_again();
}

#[test]
fn an_erasure_can_take_the_evidence_along() {
    let gateway = TestGateway::start();
    let (client, owner) = (gateway.client(), gateway.client_of("owner"));
    let before = client.upload("", b"x");
    client.delete(format!("/v1/files/{before}")).expect(200);
    let id = client.upload("", b"x");
    owner.delete(format!("{DATA}?evidence=maybe")).problem(400, "bad-request");
    let answer = owner.delete(format!("{DATA}?evidence=true")).expect(200).json();
    assert_eq!(answer["receipts"][0]["file"], id.as_str(), "they are handed over first");
    for id in [&before, &id] {
        // Soon after the answer: what was promised to be logged is signed first.
        eventually("the receipt is gone", || {
            (owner.get(format!("/v1/receipts/{id}")).status == 404).then_some(())
        });
        owner.get(format!("/v1/receipts/{id}")).problem(404, "not-found");
        client.download(id).problem(404, "not-found");
    }
    // Written when the old trail is gone.
    let trail = eventually("it is said that it was done", || {
        let trail = owner.get("/v1/audit").expect(200).json();
        (trail["audit"][0]["action"] == "tenant.erase").then_some(trail)
    });
    assert_eq!(trail["audit"].as_array().unwrap().len(), 1, "and nothing else: {trail}");
}

#[test]
fn a_suspended_tenant_reads_nothing_and_loses_nothing_but_time() {
    let gateway = TestGateway::start();
    let (client, other) = (gateway.client(), gateway.client_of("other"));
    let (kept, dropped) = (client.upload("", b"kept"), client.upload("", b"dropped"));
    let short = client.upload("?ttl=2s", b"short");
    let theirs = other.upload("", b"theirs");
    let grant =
        format!("{{\"allow\":\"download\",\"file\":\"{kept}\",\"count\":9,\"ttl\":\"5m\"}}");
    let grant = client.post("/v1/grants", grant.as_bytes()).expect(201).text("grant");
    let bearer = client.with_key(Some(&grant));
    suspend(&gateway);
    suspend(&gateway);
    for (method, path) in [
        ("GET", "/v1/files".to_owned()),
        ("GET", format!("/v1/files/{kept}")),
        ("GET", Client::content(&kept)),
        ("GET", Client::content("file_aaaaaaaaaaaaaaaaaaaaaaaaaa")),
        ("POST", "/v1/files".to_owned()),
        ("PUT", "/v1/files/a".to_owned()),
        ("PATCH", format!("/v1/files/{kept}")),
        ("POST", "/v1/process/checksum".to_owned()),
        ("POST", "/v1/grants".to_owned()),
    ] {
        client.ask(method, path).body(b"x").send().problem(403, "suspended");
    }
    gateway.client_of("owner").get(EXPORT).problem(403, "suspended");
    bearer.download(&kept).problem(403, "suspended");
    // Forgetting, evidence and what is known of the instance stay open.
    client.get("/v1/whoami").expect(200);
    client.get(format!("/v1/receipts/{kept}")).expect(200);
    gateway.client_of("auditor").get("/v1/audit").expect(200);
    client.delete(format!("/v1/files/{dropped}")).expect(200);
    other.download(&theirs).expect(200).is_body(b"theirs");
    // The deadline of the short one comes while nobody may look.
    gateway.comes_to("dayfly_live_files", 2.0);
    resume(&gateway);
    resume(&gateway);
    client.download(&short).problem(410, "expired");
    client.download(&dropped).problem(410, "deleted");
    client.download(&kept).expect(200).is_body(b"kept");
    bearer.download(&kept).expect(200).is_body(b"kept");
    client.upload("", b"again");
    client.get("/v1/nothing").problem(404, "not-found");
}

#[test]
fn a_suspended_tenant_can_be_erased_and_stays_suspended() {
    let gateway = TestGateway::start();
    let (client, owner) = (gateway.client(), gateway.client_of("owner"));
    let id = client.upload("", b"mine");
    suspend(&gateway);
    let answer = owner.delete(DATA).expect(200).json();
    assert_eq!(
        (&answer["erased"], &answer["receipts"][0]["file"]),
        (&1.into(), &id.clone().into())
    );
    client.post("/v1/files", b"x").problem(403, "suspended");
    resume(&gateway);
    client.download(&id).problem(410, "erased");
}

#[test]
fn what_is_in_flight_is_cut_by_the_suspension() {
    for store in ["local", "memory"] {
        let gateway = short_lives().set("vault", "store", &format!("\"{store}\"")).start();
        let client = gateway.client();
        let bytes = noise(LONG);
        let id = client.upload("", &bytes);
        let (mut wire, head, mut got) = reader(&client, &Client::content(&id));
        let mut upload = client.ask("POST", "/v1/files").begin(Some(1 << 20));
        upload.send(&noise(600_000)).unwrap();
        let mut run = client.ask("POST", "/v1/process/checksum").begin(Some(1 << 20));
        run.send(&noise(600_000)).unwrap();
        gateway.comes_to("dayfly_keyring_slots_used", 3.0);
        suspend(&gateway);
        Answer::read(&mut upload, "POST /v1/files").problem(403, "suspended");
        Answer::read(&mut run, "POST /v1/process/checksum").problem(403, "suspended");
        let rest = wire.body(&head);
        got.extend_from_slice(&rest.bytes);
        assert!(got.len() < LONG, "{store}: it came to its end while suspended");
        assert!(bytes.starts_with(&got), "{store}");
        resume(&gateway);
        client.download(&id).expect(200).is_body(&bytes);
        assert_eq!(
            client.get("/v1/files").expect(200).json()["files"].as_array().unwrap().len(),
            1
        );
    }
}

#[test]
fn a_stream_that_was_cut_stays_cut_when_the_suspension_is_lifted_at_once() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let id = client.upload("", &noise(LONG));
    let (mut wire, head, start) = reader(&client, &Client::content(&id));
    suspend(&gateway);
    resume(&gateway);
    assert!(start.len() + wire.body(&head).bytes.len() < LONG);
    client.download(&id).expect(200);
}

/// Asks Python what is in a zip: each member's name with its content in hex, after checking all.
fn unzip(gateway: &TestGateway, zip: &[u8]) -> Value {
    let file = gateway.dir().join("export.zip");
    std::fs::write(&file, zip).unwrap();
    let program = "import sys,json,zipfile,hashlib\n\
        z=zipfile.ZipFile(sys.argv[1])\n\
        assert z.testzip() is None\n\
        print(json.dumps({n:{'sha':hashlib.sha256(z.read(n)).hexdigest(),\
        'json':json.loads(z.read(n)) if n.endswith('.json') else None} for n in z.namelist()}))";
    let found = Command::new("python3").arg("-c").arg(program).arg(&file).output().unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    match Command::new("unzip").arg("-tqq").arg(&file).output() {
        // Of an empty zip it only warns.
        Ok(tested) => assert!(tested.status.code() <= Some(1), "unzip: {}", tested.status),
        Err(_) => skip("unzip's opinion of an export: it is not installed"),
    }
    serde_json::from_slice(&found.stdout).unwrap()
}

fn sha(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
}

#[test]
fn an_export_is_a_zip_of_everything_alive() {
    // Less memory than what is exported: it cannot have been collected.
    let gateway = Setup::new().set("limits", "memory", "\"16MiB\"").start();
    let (client, owner) = (gateway.client(), gateway.client_of("owner"));
    let empty = owner.get(EXPORT).expect(200);
    assert_eq!(empty.header("content-type"), Some("application/zip"));
    assert_eq!(unzip(&gateway, &empty.body), serde_json::json!({}));
    let long = noise(LONG);
    let files = [
        (client.upload("?name=long%20one.bin", &long), &long[..]),
        (client.upload("?name=empty.txt", b""), b""),
        (client.upload("?name=..%2f..%2fpasswd", b"a path is no name"), b"a path is no name"),
    ];
    let counted = client.upload("?downloads=1&name=once.txt", b"only once");
    gateway.client_of("other").upload("", b"theirs");
    let zip = owner.get(EXPORT).expect(200);
    let found = unzip(&gateway, &zip.body);
    assert_eq!(found.as_object().unwrap().len(), 7, "{found}");
    for (id, bytes) in files {
        let content = &found[format!("files/{id}/content")];
        assert_eq!(content["sha"], sha(bytes), "{id}");
        let record = &found[format!("files/{id}/record.json")]["json"];
        assert_eq!(record, &client.get(format!("/v1/files/{id}")).expect(200).json());
    }
    let record = &found[format!("files/{counted}/record.json")]["json"];
    assert_eq!((&record["name"], &record["downloads_left"]), (&"once.txt".into(), &1.into()));
    client.download(&counted).expect(200).is_body(b"only once");
    let head = owner.ask("HEAD", EXPORT).send().expect(200);
    assert_eq!(head.header("content-type"), Some("application/zip"));
}

#[test]
fn an_export_is_honest_about_what_dies_meanwhile() {
    let gateway = TestGateway::start();
    let (client, owner) = (gateway.client(), gateway.client_of("owner"));
    let older = client.upload("", b"dies before its turn");
    let long = noise(LONG);
    let newer = client.upload("", &long);
    let (mut wire, head, mut zip) = chunked_reader(&owner);
    client.delete(format!("/v1/files/{older}")).expect(200);
    let rest = wire.body(&head);
    assert!(rest.whole);
    zip.extend_from_slice(&rest.bytes);
    let found = unzip(&gateway, &zip);
    assert_eq!(found[format!("files/{newer}/content")]["sha"], sha(&long));
    assert_eq!(found.as_object().unwrap().len(), 2, "the older one is left out: {found}");
    // One that dies in its middle takes the message's end along; so does the tenant's suspension.
    let (mut wire, head, _) = chunked_reader(&owner);
    client.delete(format!("/v1/files/{newer}")).expect(200);
    assert!(!wire.body(&head).whole, "a broken zip was completed");
    client.upload("", &long);
    let (mut wire, head, _) = chunked_reader(&owner);
    suspend(&gateway);
    assert!(!wire.body(&head).whole, "an export was completed while suspended");
}

/// A reader that has an export's head; its chunks are read by whoever goes on.
fn chunked_reader(owner: &Client) -> (Wire, crate::harness::Head, Vec<u8>) {
    let mut wire = owner.ask("GET", EXPORT).begin_narrow();
    let head = wire.head();
    assert_eq!(head.status, 200);
    (wire, head, Vec::new())
}

#[test]
fn a_restart_lifts_no_suspension_and_forgets_no_trail() {
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let state = format!("\"{}\"", home.path().join("state").display());
    let start = || Setup::new().set("state", "dir", &state).start();
    let mut gateway = start();
    gateway.client().upload("", b"before");
    suspend(&gateway);
    // The first time a kill, then an end in order.
    for kill in [true, false] {
        if kill {
            gateway.kill();
        } else {
            gateway.signal(rustix::process::Signal::TERM);
            gateway.ends_well();
        }
        gateway = start();
        gateway.client().post("/v1/files", b"x").problem(403, "suspended");
        gateway.client_of("other").upload("", b"others go on");
    }
    resume(&gateway);
    gateway.client().upload("", b"after");
    gateway.signal(rustix::process::Signal::TERM);
    gateway.ends_well();
    let gateway = start();
    gateway.client().upload("", b"and again");
    let trail = gateway.client_of("auditor").get("/v1/audit").expect(200).json();
    let lines = trail["audit"].as_array().unwrap();
    let actions: Vec<&str> =
        lines.iter().rev().map(|one| one["action"].as_str().unwrap()).collect();
    let expected = ["file.create", "tenant.suspend", "tenant.resume", "file.create", "file.create"];
    assert_eq!(actions, expected);
}

#[test]
fn an_erasure_takes_the_records_of_jobs_along() {
    let gateway = TestGateway::start();
    let (client, owner) = (gateway.client(), gateway.client_of("owner"));
    let job = client.post("/v1/files?steps=checksum", b"x").expect(201).text("job");
    let theirs = gateway.client_of("other").post("/v1/files?steps=checksum", b"x").expect(201);
    owner.delete(DATA).expect(200);
    client.get(format!("/v1/jobs/{job}")).problem(404, "not-found");
    assert_eq!(client.get("/v1/jobs").expect(200).json()["jobs"], serde_json::json!([]));
    let theirs = theirs.text("job");
    gateway.client_of("other").get(format!("/v1/jobs/{theirs}")).expect(200);
}
