//! Uploads in several requests, beyond what the protocols say (tests/conformance holds those):
//! whose they are, how they end, what they cost, and that nothing of them is left.

use data_encoding::BASE64;
use serde_json::json;

use crate::harness::{
    Answer, Ask, Client, Disk, Marker, Setup, TestGateway, Wire, eventually, is_long_tier, noise,
    search, skip, tell,
};

mod clients;
mod proxy;

const KIND: &str = "application/offset+octet-stream";

fn tus<'a>(client: &'a Client, method: &'a str, path: &str) -> Ask<'a> {
    client.ask(method, path).header("Tus-Resumable", "1.0.0")
}

fn metadata(pairs: &[(&str, &str)]) -> String {
    let pairs =
        pairs.iter().map(|(key, value)| format!("{key} {}", BASE64.encode(value.as_bytes())));
    pairs.collect::<Vec<_>>().join(",")
}

/// An upload of that length; its path.
#[track_caller]
fn create(client: &Client, length: u64, said: &[(&str, &str)]) -> String {
    let ask = tus(client, "POST", "/v1/tus").header("Upload-Length", length.to_string());
    let ask = if said.is_empty() { ask } else { ask.header("Upload-Metadata", metadata(said)) };
    ask.send().expect(201).header("location").unwrap().to_owned()
}

fn patch<'a>(client: &'a Client, path: &str, offset: u64, bytes: &'a [u8]) -> Ask<'a> {
    let ask = tus(client, "PATCH", path).header("Content-Type", KIND);
    ask.header("Upload-Offset", offset.to_string()).body(bytes)
}

#[track_caller]
fn offset(client: &Client, path: &str) -> u64 {
    let seen = tus(client, "HEAD", path).send().expect(200);
    seen.header("upload-offset").unwrap().parse().unwrap()
}

/// The id of the file that an upload's path will be.
fn file_of(path: &str) -> String {
    path.replace("/v1/tus/upl_", "file_").replace("/v1/uploads/upl_", "file_")
}

/// A PATCH that has sent these bytes of more, and goes on being sent.
fn half(client: &Client, path: &str, bytes: &[u8], of: u64) -> Wire {
    let mut wire = patch(client, path, 0, b"").begin(Some(of));
    wire.send(bytes).unwrap();
    wire
}

#[test]
fn the_finished_upload_is_a_file_with_all_that_was_said_of_it() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let said = [
        ("filename", "../re\u{202e}port.txt"),
        ("ttl", "10m"),
        ("x", "kept"),
        ("filetype", "text/x-a"),
    ];
    let upload = create(&client, 11, &said);
    assert!(upload.starts_with("/v1/tus/upl_"), "{upload}");
    let receipt = client.get(format!("/v1/receipts/{}", file_of(&upload))).expect(200).json();
    assert_eq!(receipt["state"], "live", "accepted when it was created");
    client.get(format!("/v1/files/{}", file_of(&upload))).problem(404, "not-found");
    patch(&client, &upload, 0, b"hello ").send().expect(204);
    let done = patch(&client, &upload, 6, b"world").send().expect(204);
    let file = done.header("dayfly-file").unwrap().to_owned();
    assert_eq!(file, file_of(&upload));
    let shown = client.get(format!("/v1/files/{file}")).expect(200).json();
    assert_eq!((&shown["name"], &shown["size"]), (&json!("report.txt"), &json!(11)));
    assert_eq!(shown["declared_media_type"], "text/x-a");
    client.download(&file).expect(200).is_body(b"hello world");
    let part = client.ask("GET", Client::content(&file)).header("Range", "bytes=4-7").send();
    part.expect(206).is_body(b"o wo");
    let seen = tus(&client, "HEAD", &upload).send().expect(200);
    assert_eq!(seen.header("dayfly-file"), Some(file.as_str()));
    assert_eq!(seen.header("upload-metadata"), Some(metadata(&said).as_str()));
    client.delete(format!("/v1/files/{file}")).expect(200);
    tus(&client, "HEAD", &upload).send().expect(410);
    eventually("the store has answered for each of its blobs", || {
        let receipt = client.get(format!("/v1/receipts/{file}")).expect(200).json();
        let blobs = receipt["blobs"].as_array().unwrap();
        let all = blobs.iter().all(|blob| blob["answer"] == "deleted");
        (blobs.len() == 2 && all).then_some(())
    });
}

#[test]
fn policy_and_quota_are_asked_when_an_upload_is_created() {
    let setup = Setup::new().set("tenants.acme", "max_live_bytes", "\"1MiB\"");
    let gateway = setup.set("tenants.acme", "max_file", "\"800KiB\"").start();
    let client = gateway.client();
    let ask = |client: &Client, length: u64, said: &[(&str, &str)]| {
        let ask = tus(client, "POST", "/v1/tus").header("Upload-Length", length.to_string());
        ask.header("Upload-Metadata", metadata(said)).send()
    };
    let plain = [("filename", "a")];
    ask(&client, 900 << 10, &plain).problem(413, "too-large");
    ask(&client, 5, &[("region", "nowhere-1")]).problem(422, "region-unavailable");
    ask(&client, 5, &[("region", "us-test-2")]).problem(403, "not-permitted-by-policy");
    ask(&client, 5, &[("ttl", "25h")]).problem(422, "bad-ttl");
    ask(&client, 5, &[("steps", "nonsense")]).problem(422, "unknown-step");
    ask(&client, 5, &[("filename", &"x".repeat(4097))]).problem(400, "bad-filename");
    ask(&gateway.client_of("abroad"), 5, &plain).problem(421, "wrong-region");
    ask(&gateway.client_of("owner"), 5, &plain).problem(403, "forbidden");
    let upload = create(&client, 700 << 10, &[]);
    patch(&client, &upload, 0, &noise(700 << 10)).send().expect(204);
    ask(&client, 700 << 10, &plain).problem(429, "quota-exceeded");
    let later = tus(&client, "POST", "/v1/tus").header("Upload-Defer-Length", "1").send();
    let later = later.expect(201).header("location").unwrap().to_owned();
    patch(&client, &later, 0, &noise(500 << 10)).send().problem(429, "quota-exceeded");
    assert_eq!(offset(&client, &later), 0);
    patch(&client, &later, 0, b"x")
        .header("Upload-Length", "900000")
        .send()
        .problem(413, "too-large");
    assert_eq!(offset(&client, &later), 0);
}

#[test]
fn steps_start_a_job_when_the_last_byte_is_there() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let upload = create(&client, 5, &[("steps", "checksum")]);
    let done = patch(&client, &upload, 0, b"hello").send().expect(204);
    let job = done.header("dayfly-job").expect("a job").to_owned();
    eventually("the job succeeds", || {
        let job = client.get(format!("/v1/jobs/{job}")).expect(200).json();
        (job["state"] == "succeeded").then_some(())
    });
}

#[test]
fn an_upload_answers_to_whoever_began_it_and_to_nobody_else() {
    let gateway = TestGateway::start();
    let owner = gateway.client();
    let made = owner.ask("POST", "/v1/files").header("Upload-Complete", "?0").body(b"hello").send();
    let draft = made.expect(201).header("location").unwrap().to_owned();
    let upload = create(&owner, 10, &[]);
    let grant = json!({"allow": "upload", "count": 2, "ttl": "5m"}).to_string();
    let grant = owner.post("/v1/grants", grant.as_bytes()).expect(201).text("grant");
    let grant = owner.with_key(Some(&grant));
    for stranger in [&gateway.client_of("acme2"), &gateway.client_of("other"), &grant] {
        tus(stranger, "HEAD", &upload).send().expect(404);
        patch(stranger, &upload, 0, b"hello").send().problem(404, "not-found");
        tus(stranger, "DELETE", &upload).send().problem(404, "not-found");
        stranger.ask("HEAD", &draft).send().expect(404);
    }
    // Nor to the other protocol.
    tus(&owner, "HEAD", &draft.replace("uploads", "tus")).send().expect(404);
    owner.ask("HEAD", upload.replace("tus", "uploads")).send().expect(404);
    assert_eq!(offset(&owner, &upload), 0);
}

#[test]
fn a_grant_goes_on_with_what_it_began_after_its_last_use() {
    let gateway = TestGateway::start();
    let owner = gateway.client();
    let grant = json!({"allow": "upload", "count": 1, "max_size": 100, "ttl": "5m"}).to_string();
    let grant = owner.post("/v1/grants", grant.as_bytes()).expect(201).text("grant");
    let grant = owner.with_key(Some(&grant));
    tus(&grant, "POST", "/v1/tus").header("Upload-Length", "101").send().problem(413, "too-large");
    let upload = create(&grant, 10, &[]);
    grant.post("/v1/files", b"more").problem(401, "unauthenticated");
    patch(&grant, &upload, 0, b"hello").send().expect(204);
    assert_eq!(offset(&grant, &upload), 5);
    let done = patch(&grant, &upload, 5, b"world").send().expect(204);
    assert_eq!(offset(&grant, &upload), 10, "the answer might have been lost");
    tus(&grant, "DELETE", &upload).send().problem(403, "upload-complete");
    grant.get("/v1/files").problem(401, "unauthenticated");
    owner.download(done.header("dayfly-file").unwrap()).expect(200).is_body(b"helloworld");
    // What is ended before it is a file counts for nothing.
    let again = json!({"allow": "upload", "count": 1, "ttl": "5m"}).to_string();
    let again = owner.post("/v1/grants", again.as_bytes()).expect(201).text("grant");
    let again = owner.with_key(Some(&again));
    let upload = create(&again, 10, &[]);
    tus(&again, "DELETE", &upload).send().expect(204);
    create(&again, 10, &[]);
}

#[test]
fn whatever_ends_a_file_ends_an_upload_and_a_stream_into_it() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let owner = gateway.client_of("owner");
    let rests = create(&client, 100_000, &[]);
    patch(&client, &rests, 0, &noise(50_000)).send().expect(204);
    let runs = create(&client, 100_000, &[]);
    let mut wire = half(&client, &runs, &noise(50_000), 100_000);
    let erased = owner.delete("/v1/tenants/acme/data").expect(200).json();
    assert_eq!(erased["erased"], 2, "{erased}");
    let cut = wire.try_head();
    assert!(cut.is_none_or(|head| head.status >= 400), "the stream was cut");
    for upload in [&rests, &runs] {
        patch(&client, upload, 50_000, b"more").send().problem(410, "erased");
    }
    gateway.is_empty_again();
    let rests = create(&client, 100_000, &[]);
    owner.ask("PUT", "/v1/tenants/acme/suspension").send().expect(204);
    patch(&client, &rests, 0, b"x").send().problem(403, "suspended");
    owner.delete("/v1/tenants/acme/suspension").expect(204);
    tus(&client, "HEAD", &rests).send().expect(410);
    let short = create(&client, 100_000, &[("ttl", "1s")]);
    let mut wire = half(&client, &short, &noise(50_000), 100_000);
    eventually("it expires", || {
        let answer = client.get(format!("/v1/receipts/{}", file_of(&short))).expect(200).json();
        (answer["reason"] == "expired").then_some(())
    });
    assert!(wire.try_head().is_none_or(|head| head.status >= 400), "the stream was cut");
    // SIGTERM finds one at rest and one under way; `Drop` asserts that nothing of them is left.
    let rests = create(&client, 100_000, &[]);
    patch(&client, &rests, 0, &noise(50_000)).send().expect(204);
}

#[test]
fn of_many_that_write_at_one_offset_one_wins() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let upload = create(&client, 2_000_000, &[]);
    let pieces: Vec<Vec<u8>> = (0..6_u8).map(|mark| vec![mark; 1_000_000]).collect();
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let sent: Vec<_> = pieces
            .iter()
            .map(|piece| scope.spawn(|| patch(&client, &upload, 0, piece).send()))
            .collect();
        sent.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    let won: Vec<usize> = (0..6).filter(|at| statuses[*at] == 204).collect();
    assert_eq!(won.len(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 204 | 409 | 423)), "{statuses:?}");
    let done = patch(&client, &upload, 1_000_000, &[9; 1_000_000]).send().expect(204);
    let whole = [&pieces[won[0]][..], &[9; 1_000_000]].concat();
    client.download(done.header("dayfly-file").unwrap()).expect(200).is_body(&whole);
}

#[test]
fn parts_with_lives_of_their_own_end_with_the_file_they_became() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let part = |bytes: &[u8], ttl: &str| {
        let ask = tus(&client, "POST", "/v1/tus").header("Upload-Concat", "partial");
        let ask = ask.header("Upload-Length", bytes.len().to_string());
        let made = ask.header("Upload-Metadata", metadata(&[("ttl", ttl)])).send().expect(201);
        let path = made.header("location").unwrap().to_owned();
        patch(&client, &path, 0, bytes).send().expect(204);
        (path, made.header("dayfly-expires-at").unwrap().to_owned())
    };
    let big = noise(700_000);
    let ((one, long), (two, short)) = (part(b"hello ", "4h"), part(&big, "10m"));
    assert!(short < long, "{short} {long}");
    let join = |list: &str| {
        let ask = tus(&client, "POST", "/v1/tus").header("Upload-Concat", list);
        ask.header("Upload-Metadata", metadata(&[("filename", "joined")])).send()
    };
    let made = join(&format!("final;{one} {two} {one}")).expect(201);
    assert_eq!(made.header("dayfly-expires-at"), Some(short.as_str()), "the earliest of them");
    let file = made.header("dayfly-file").unwrap().to_owned();
    let whole = [b"hello ", &big[..], b"hello "].concat();
    client.download(&file).expect(200).is_body(&whole);
    let tail = client.ask("GET", Client::content(&file)).header("Range", "bytes=-9").send();
    tail.expect(206).is_body(&whole[whole.len() - 9..]);
    join(&format!("final;{one}")).problem(403, "upload-complete");
    tus(&client, "DELETE", &one).send().problem(403, "upload-complete");
    client.delete(format!("/v1/files/{file}")).expect(200);
    for part in [&one, &two] {
        tus(&client, "HEAD", part).send().expect(410);
        let receipt = client.get(format!("/v1/receipts/{}", file_of(part))).expect(200).json();
        assert_eq!((&receipt["state"], &receipt["reason"]), (&json!("final"), &json!("deleted")));
    }
    gateway.is_empty_again();
}

#[test]
fn every_files_digest_where_the_tenant_wants_it() {
    let setup = Setup::new().set("tenants.acme", "digest", "\"always\"");
    let gateway = setup.start();
    let client = gateway.client();
    let upload = create(&client, 11, &[]);
    patch(&client, &upload, 0, b"hello ").send().expect(204);
    let wrong = patch(&client, &upload, 6, b"wOrld").header("Upload-Checksum", "crc32c AAAAAA==");
    wrong.send().problem(460, "checksum-mismatch");
    let done = patch(&client, &upload, 6, b"world").send().expect(204);
    let file = done.header("dayfly-file").unwrap();
    let shown = client.get(format!("/v1/files/{file}")).expect(200).json();
    let sum = "uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=";
    assert_eq!(shown["digest"]["sha-256"], sum);
    let whole = client.ask("POST", "/v1/files").header("Upload-Complete", "?0");
    let whole = whole.header("Repr-Digest", format!("sha-256=:{sum}:")).body(b"hello ").send();
    let place = whole.expect(201).header("location").unwrap().to_owned();
    let end = |bytes: &'static [u8]| {
        let ask = client.ask("PATCH", &place).header("Content-Type", "application/partial-upload");
        ask.header("Upload-Offset", "6").header("Upload-Complete", "?1").body(bytes).send()
    };
    end(b"World").problem(400, "digest-mismatch");
    end(b"world").expect(410);
}

#[test]
fn whatever_the_fields_say_the_offset_stays_and_nothing_of_them_is_told() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let upload = create(&client, 100, &[]);
    patch(&client, &upload, 0, b"hello").send().expect(204);
    let mark = "mqzvwkpt";
    let mut random = blake3::Hasher::new().update(b"fields").finalize_xof();
    let mut draw = |below: usize| {
        let mut bytes = [0; 4];
        random.fill(&mut bytes);
        u32::from_be_bytes(bytes) as usize % below
    };
    let names = [
        "Upload-Offset",
        "Upload-Length",
        "Upload-Checksum",
        "Content-Type",
        "Tus-Resumable",
        "Upload-Concat",
        "Upload-Metadata",
        "Upload-Defer-Length",
        "Trailer",
        "Expect",
    ];
    let values = [
        "-1",
        "6",
        "4",
        "101",
        "99999999999999999999",
        "1e2",
        "0x5",
        "",
        "5 5",
        "5,5",
        "\"5\"",
        "?1",
        "final;",
        "final;/v1/tus/upl_x",
        "partial ",
        "sha1 ",
        "sha1 AAAA",
        "sha256 !!!",
        "1.0.1",
        "2",
        "application/octet-stream",
        "Upload-Checksum",
        "key",
        "a YQ==,a YQ==",
        "filename /w==",
    ];
    let rounds = if is_long_tier() { 20_000 } else { 400 };
    for _ in 0..rounds {
        let creates = draw(3) == 0;
        let mut fields = vec![
            ("Tus-Resumable", "1.0.0".to_owned()),
            ("Content-Type", KIND.to_owned()),
            ("Upload-Offset", "5".to_owned()),
        ];
        if creates {
            fields.push(("Upload-Length", "7".to_owned()));
        }
        for _ in 0..=draw(3) {
            let name = names[draw(names.len())];
            fields.retain(|(known, _)| *known != name || draw(4) == 0);
            let value = values[draw(values.len())].to_owned();
            fields.push((name, if draw(8) == 0 { format!("{value}{mark}") } else { value }));
        }
        let (method, path) = if creates { ("POST", "/v1/tus") } else { ("PATCH", &upload[..]) };
        // A body that does not fit whatever is said: it can never be taken by mistake.
        let body = vec![b'z'; if creates { 102 } else { 96 }];
        let mut ask = client.ask(method, path);
        for (name, value) in &fields {
            ask = ask.header(name, value);
        }
        let answer =
            if draw(2) == 0 { ask.body(&body).chunked().send() } else { ask.body(&body).send() };
        assert!((400..500).contains(&answer.status), "{}: {fields:?}", answer.status);
        assert!(!answer.body_text().contains(mark), "{fields:?}");
    }
    assert_eq!(offset(&client, &upload), 5);
    assert!(!gateway.stderr().contains(mark), "what was sent was logged");
    assert_eq!(client.get("/v1/files").expect(200).json()["files"], json!([]));
}

#[test]
fn many_small_appends_cost_the_same_each_and_take_no_more_memory() {
    let rounds: usize = if is_long_tier() { 20_000 } else { 3_000 };
    let gateway = TestGateway::start();
    let client = gateway.client();
    let content = noise(rounds * 1024);
    let upload = create(&client, content.len() as u64, &[]);
    let (mut times, mut most, mut last) = (Vec::new(), 0.0_f64, None);
    let began = std::time::Instant::now();
    for (at, piece) in content.chunks(1024).enumerate() {
        let sent = patch(&client, &upload, at as u64 * 1024, piece).send().expect(204);
        last = sent.header("dayfly-file").map(str::to_owned);
        if at % (rounds / 10) == rounds / 10 - 1 {
            times.push(began.elapsed());
            most = most.max(gateway.metric("dayfly_budget_used_bytes"));
        }
    }
    let steps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
    let (early, late) = (steps[..4].iter().sum::<f64>(), steps[5..].iter().sum::<f64>());
    tell(&format!(
        "{rounds} appends of 1 KiB: {:?}; the last 40 % took {:.2} of the first; budget \
                   {:.0} KiB at most",
        times.last().unwrap(),
        late / early,
        most / 1024.0
    ));
    assert!(late < early * 2.0, "{steps:?}");
    // Under a hundred small pieces, a few gathered ones, and the upload itself.
    assert!(most < 8.0 * 1024.0 * 1024.0, "{most} bytes");
    client.download(&last.expect("a file")).expect(200).is_body(&content);
}

#[test]
fn a_kill_in_mid_patch_leaves_nothing_and_the_loss_is_told() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let disk = match Disk::new(dir.path(), 64 << 20) {
        Ok(disk) => disk,
        Err(why) => return skip(&format!("kill −9 (root and loop devices needed): {why}")),
    };
    let state = format!("\"{}\"", disk.place().join("state").display());
    let setup = Setup::new().set("state", "dir", &state).set("vault.local", "max", "\"32MiB\"");
    let mut gateway = setup.spool(&disk.place().join("spool")).start();
    let setup = gateway.setup.clone();
    let client = gateway.client();
    let (content, name) = (Marker::new("resumable content"), Marker::new("resumable name"));
    let said = [("filename", &name.letters(48)[..]), ("note", &name.letters(80)[..])];
    let (text, length) = (content.text(3 << 20), 6 << 20);
    let upload = create(&client, length, &said);
    patch(&client, &upload, 0, &text[..1 << 20]).send().expect(204);
    let mut wire = patch(&client, &upload, 1 << 20, b"").begin(Some(5 << 20));
    wire.send(&text[1 << 20..]).unwrap();
    eventually("it is being written", || {
        (gateway.metric("dayfly_upload_bytes_total") >= 2e6).then_some(())
    });
    let part = tus(&client, "POST", "/v1/tus").header("Upload-Concat", "partial");
    let part = part.header("Upload-Length", "5").send().expect(201);
    let part = part.header("location").unwrap().to_owned();
    gateway.kill();
    let markers = [content, name];
    let found = search(&markers, &disk.settled(), 0, "the device");
    assert!(found.is_empty(), "plaintext rests on the device: {found:?}");
    let gateway = setup.start();
    let client = gateway.client();
    for path in [&upload, &part] {
        tus(&client, "HEAD", path).send().expect(410);
        patch(&client, path, 1 << 20, b"more").send().problem(410, "key-lost");
        gateway
            .client_of("other")
            .ask("HEAD", path.as_str())
            .header("Tus-Resumable", "1.0.0")
            .send()
            .expect(404);
    }
    let receipt = client.get(format!("/v1/receipts/{}", file_of(&upload))).expect(200).json();
    assert_eq!(receipt["reason"], "key-lost");
    drop((gateway, wire));
}
