//! Sealed bytes in a bucket: what the bucket shows, what it is asked, and what is left in it.

use std::path::PathBuf;
use std::sync::OnceLock;

use crate::harness::{
    Answer, BadBucket, Call, Client, HERE, Moto, Setup, TestGateway, Trap, Wrong, eventually,
    is_long_tier, noise, run, skip,
};

/// The storage region of these buckets.
const REGION: &str = "eu-central-1";

/// A gateway's settings over a bucket of a server on loopback.
fn over(endpoint: &str, bucket: &str) -> Setup {
    // Written once: other tests read it at the same time.
    static SECRET: OnceLock<PathBuf> = OnceLock::new();
    let secret = SECRET.get_or_init(|| {
        let secret = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bucket-secret");
        std::fs::write(&secret, "test\n").unwrap();
        secret
    });
    let file = format!("\"{}\"", secret.display());
    Setup::new()
        .without("vault.local")
        .set("", "allow_insecure_loopback", "true")
        .set("vault", "store", "\"s3\"")
        .set("vault.s3", "bucket", &format!("\"{bucket}\""))
        .set("vault.s3", "region", &format!("\"{REGION}\""))
        .set("vault.s3", "endpoint", &format!("\"{endpoint}\""))
        .set("vault.s3", "access_key_id_file", &file)
        .set("vault.s3", "secret_access_key_file", &file)
}

fn moto() -> Option<&'static Moto> {
    let moto = Moto::shared();
    if moto.is_none() {
        skip("no S3 server: tests/run installs moto");
    }
    moto
}

/// `check --online` and `serve` with these settings, until they end.
#[track_caller]
fn refused(setup: &Setup) -> String {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = dir.path().join("dayfly.toml");
    std::fs::write(&path, setup.toml()).unwrap();
    let path = path.to_str().unwrap();
    let checked = run(&["check", "--online", "--config", path]);
    assert_eq!(checked.code, Some(78), "{}{}", checked.stdout, checked.stderr);
    assert!(checked.stdout.contains("REFUSED   online"), "{}", checked.stdout);
    let served = run(&["serve", "--config", path]);
    assert_eq!(served.code, Some(78), "{}{}", served.stdout, served.stderr);
    assert!(!served.stdout.contains("listening"), "{}", served.stdout);
    served.stderr
}

#[test]
fn a_bucket_shows_no_content_no_name_and_no_tenant_and_is_empty_in_the_end() {
    let Some(moto) = moto() else { return };
    let bucket = moto.bucket(REGION);
    let gateway = over(&moto.endpoint(), &bucket).start();
    let client = gateway.client();
    let line = b"a line of a letter that nobody else may read, number one of many\n";
    let large: Vec<u8> = line.iter().copied().cycle().take(13 << 20).collect();
    let small: Vec<u8> = line.iter().copied().cycle().take(400_000).collect();
    let (one, two) = (
        client.upload("?name=salary-of-smith.txt", &large),
        client.upload("?name=salary-of-smith.txt", &small),
    );
    let keys = moto.objects(&bucket);
    assert_eq!(keys.len(), 2, "{keys:?}");
    // Somebody with a key of the storage's own; moto does not ask whether it is a good one.
    let known = "Authorization: AWS test:test\r\n";
    for key in &keys {
        let (status, stored) = moto.fetch("GET", &format!("/{bucket}/{key}"), known, b"");
        assert_eq!(status, 200);
        let windows = [&line[..16], &line[24..40], b"salary-of-smith", b"acme"];
        for window in windows {
            let found = stored.windows(window.len()).any(|bytes| bytes == window);
            assert!(!found, "{:?} stands in the bucket", String::from_utf8_lossy(window));
        }
        for word in ["salary", "smith", "acme", one.trim_start_matches("file_")] {
            assert!(!key.contains(word), "{key}");
        }
    }
    client.download(&one).expect(200).is_body(&large);
    let part = client.ask("GET", Client::content(&one)).header("Range", "bytes=7000000-9000000");
    part.send().expect(206).is_body(&large[7_000_000..=9_000_000]);
    let shorter = client.ask("PATCH", format!("/v1/files/{two}")).body(b"{\"ttl\":\"1s\"}");
    shorter.send().expect(200);
    eventually("the short life has left the bucket", || {
        (moto.objects(&bucket).len() == 1).then_some(())
    });
    client.get(format!("/v1/files/{two}")).expect(410);
    client.delete(format!("/v1/files/{one}")).expect(200);
    eventually("the bucket is empty", || moto.objects(&bucket).is_empty().then_some(()));
    let receipt = eventually("the receipt says so", || {
        let receipt = client.get(format!("/v1/receipts/{one}")).expect(200).json();
        (receipt["blobs"][0]["answer"] == "deleted").then_some(receipt)
    });
    assert_eq!(receipt["blobs"][0]["store"], "s3");
    assert_eq!(receipt["region"], HERE);
    assert_eq!(moto.uploads(&bucket), [""; 0]);
}

#[test]
fn an_upload_cut_at_fifty_points_leaves_no_part_and_no_object() {
    let Some(moto) = moto() else { return };
    let bucket = moto.bucket(REGION);
    let gateway = over(&moto.endpoint(), &bucket).start();
    let client = gateway.client();
    // moto takes its time: the whole length belongs to the long tier.
    let length = if is_long_tier() { 64 << 20 } else { 14 << 20 };
    let body = noise(length);
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (client, body) = (&client, &body);
            scope.spawn(move || {
                for point in (worker..50).step_by(4) {
                    let cut = body.len() / 50 * point + point * 7;
                    let mut wire = client.ask("POST", "/v1/files").begin(Some(body.len() as u64));
                    let _ = wire.send(&body[..cut]);
                    if point % 2 == 0 { wire.reset() } else { drop(wire) }
                }
            });
        }
    });
    gateway.is_empty_again();
    eventually("the bucket is empty", || {
        (moto.objects(&bucket).is_empty() && moto.uploads(&bucket).is_empty()).then_some(())
    });
    gateway.client().upload("", b"and it goes on");
}

/// The whole length, into a server of our own that keeps up with it.
#[test]
fn a_long_upload_cut_at_fifty_points_leaves_nothing() {
    let server = BadBucket::start();
    let gateway = over(&server.endpoint(), "bucket").start();
    let (client, body) = (gateway.client(), noise(64 << 20));
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let (client, body) = (&client, &body);
            scope.spawn(move || {
                for point in (worker..50).step_by(2) {
                    let cut = body.len() / 50 * point + point * 7;
                    let mut wire = client.ask("POST", "/v1/files").begin(Some(body.len() as u64));
                    let _ = wire.send(&body[..cut]);
                    if point % 4 < 2 { wire.reset() } else { drop(wire) }
                }
            });
        }
    });
    gateway.is_empty_again();
    eventually("the bucket is empty", || server.left().is_empty().then_some(()));
    let parts = server.count(Call::Part);
    assert!(parts > 100, "only {parts} parts were ever sent");
    let id = client.upload("", &body);
    client.download(&id).expect(200).is_body(&body);
}

#[test]
fn a_bucket_that_copies_itself_elsewhere_is_refused_at_start() {
    let server = BadBucket::start();
    server.pretend(
        "replication",
        "<ReplicationConfiguration><Role>r</Role><Rule><Status>Enabled</Status><Destination>\
         <Bucket>arn:aws:s3:::other</Bucket></Destination></Rule></ReplicationConfiguration>",
    );
    assert!(refused(&over(&server.endpoint(), "bucket")).contains("replication is on"));
}

#[test]
fn a_bucket_that_cannot_forget_is_refused_at_start() {
    let Some(moto) = moto() else { return };
    let lies = |bucket: &str| refused(&over(&moto.endpoint(), bucket));
    let versioned = moto.bucket(REGION);
    moto.version(&versioned, "Enabled");
    assert!(lies(&versioned).contains("versioning is on"));
    moto.version(&versioned, "Suspended");
    assert!(lies(&versioned).contains("versioning is suspended"));
    let locked = moto.bucket_with(REGION, "x-amz-bucket-object-lock-enabled: true\r\n");
    let said = lies(&locked);
    assert!(said.contains("versioning is on") || said.contains("object lock is on"), "{said}");
    assert!(lies(&moto.bucket("us-west-2")).contains("lies in us-west-2, not in eu-central-1"));
    assert!(lies("no-such-bucket").contains("does not exist"));
    let open = moto.bucket_with(REGION, "x-amz-acl: public-read\r\n");
    assert!(lies(&open).contains("public"));
    let replicated = moto.bucket(REGION);
    let (source, target) = (replicated.as_str(), moto.bucket(REGION));
    moto.version(source, "Enabled");
    moto.version(&target, "Enabled");
    let rule = format!(
        "<ReplicationConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
         <Role>arn:aws:iam::123456789012:role/r</Role><Rule><ID>a</ID><Priority>1</Priority>\
         <Status>Enabled</Status><Filter><Prefix></Prefix></Filter><DeleteMarkerReplication>\
         <Status>Disabled</Status></DeleteMarkerReplication><Destination>\
         <Bucket>arn:aws:s3:::{target}</Bucket></Destination></Rule></ReplicationConfiguration>"
    );
    let (status, said) = moto.ask("PUT", &format!("/{source}?replication"), "", &rule);
    assert_eq!(status, 200, "{said}");
    // It takes versions, so that is what is found first.
    assert!(lies(source).contains("versioning is on"));
    let nobody = over("http://127.0.0.1:9", "bucket");
    assert!(refused(&nobody).contains("did not answer"));
    let plain = over("http://storage.example", "bucket");
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = dir.path().join("dayfly.toml");
    std::fs::write(&path, plain.toml()).unwrap();
    let plain = run(&["check", "--config", path.to_str().unwrap()]);
    assert!(
        plain.stderr.contains("line ") && plain.stderr.contains("vault.s3.endpoint"),
        "{}",
        plain.stderr
    );
}

#[test]
fn a_fit_bucket_is_told_of_as_the_server_reports_it() {
    let Some(moto) = moto() else { return };
    let bucket = moto.bucket(REGION);
    let setup = over(&moto.endpoint(), &bucket);
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = dir.path().join("dayfly.toml");
    std::fs::write(&path, setup.toml()).unwrap();
    let checked = run(&["check", "--online", "--config", path.to_str().unwrap()]);
    assert_eq!(checked.code, Some(0), "{}{}", checked.stdout, checked.stderr);
    assert!(checked.stdout.contains("lies in eu-central-1; versioning off"), "{}", checked.stdout);
    let gateway = setup.start();
    let regions = gateway.client().get("/v1/regions").expect(200).json();
    let regions = regions["regions"].as_array().unwrap();
    let here = regions.iter().find(|region| region["here"] == true).unwrap();
    let checked = &here["checked"];
    for (member, value) in [
        ("store", "s3"),
        ("bucket_region", REGION),
        ("versioning", "off"),
        ("object_lock", "off"),
        ("replication", "off"),
    ] {
        assert_eq!(checked[member], value, "{checked}");
    }
    assert!(checked["at"].as_str().is_some_and(|at| at.ends_with('Z')), "{checked}");
}

#[test]
fn versions_switched_on_later_stop_intake_while_the_rest_runs_out() {
    let Some(moto) = moto() else { return };
    let bucket = moto.bucket(REGION);
    let setup = over(&moto.endpoint(), &bucket).set("vault.s3", "check_every", "\"1s\"");
    let gateway = setup.start();
    let (client, body) = (gateway.client(), noise(700_000));
    let id = client.upload("", &body);
    assert_eq!(gateway.metric("dayfly_store_unfit"), 0.0);
    moto.version(&bucket, "Enabled");
    gateway.comes_to("dayfly_store_unfit", 1.0);
    for path in ["/v1/files", "/v1/process/checksum"] {
        let ask = client.ask("POST", path).header("Expect", "100-continue");
        let mut wire = ask.begin(Some(1_000_000));
        let answer = Answer::read(&mut wire, path);
        assert!(!answer.continued, "the body was asked for");
        answer.problem(503, "storage-unfit");
    }
    let ready = gateway.operator().get("/readyz").expect(503).body_text();
    assert!(ready.contains("versioning is on"), "{ready}");
    client.download(&id).expect(200).is_body(&body);
    client.delete(format!("/v1/files/{id}")).expect(200);
    // Not only hidden by a mark: nothing of it is left.
    eventually("no version is left", || moto.versions(&bucket).is_empty().then_some(()));
    moto.version(&bucket, "Suspended");
    gateway.comes_to("dayfly_store_unfit", 1.0);
}

#[test]
fn what_a_killed_gateway_left_is_gone_after_the_next_start() {
    let Some(moto) = moto() else { return };
    let bucket = moto.bucket(REGION);
    let setup = over(&moto.endpoint(), &bucket);
    let mut first = setup.clone().start();
    let sibling = setup.clone().start();
    let body = noise(14 << 20);
    let kept = sibling.client().upload("", &body[..700_000]);
    first.client().upload("", &body[..700_000]);
    let mut wire = first.client().ask("POST", "/v1/files").begin(Some(body.len() as u64));
    wire.send(&body[..body.len() - 1]).unwrap();
    eventually("an upload has begun", || (!moto.uploads(&bucket).is_empty()).then_some(()));
    first.kill();
    assert_eq!(moto.objects(&bucket).len(), 2);
    let next = setup.start();
    eventually("what the dead one left is gone", || {
        (moto.objects(&bucket).len() == 1 && moto.uploads(&bucket).is_empty()).then_some(())
    });
    sibling.client().download(&kept).expect(200).is_body(&body[..700_000]);
    drop((next, sibling));
    assert_eq!(moto.objects(&bucket), [""; 0]);
}

#[test]
fn a_storage_that_fails_is_said_to_and_a_redirect_is_not_followed() {
    let (server, trap) = (BadBucket::start(), Trap::set());
    let gateway: TestGateway = over(&server.endpoint(), "bucket").start();
    let (client, body) = (gateway.client(), noise(700_000));
    server.spoil(Call::Put, 100, Wrong::Status(507, "QuotaExceeded"));
    client.post("/v1/files", &body).problem(507, "storage-full");
    server.mend();
    for status in [301, 307] {
        server.spoil(Call::Put, 100, Wrong::Redirect(status, trap.addr));
        client.post("/v1/files", &body).problem(500, "internal");
        server.mend();
    }
    server.spoil(Call::Put, 100, Wrong::Status(503, "SlowDown"));
    client.post("/v1/files", &body).problem(500, "internal");
    server.mend();
    server.spoil(Call::Put, 2, Wrong::Status(503, "SlowDown"));
    let id = client.upload("", &body);
    server.spoil(Call::Get, 2, Wrong::Truncated);
    client.download(&id).expect(200).is_body(&body);
    server.spoil(Call::Get, 100, Wrong::Redirect(307, trap.addr));
    assert!(client.ask("GET", Client::content(&id)).try_send().is_none_or(|got| !got.whole));
    server.mend();
    server.spoil(Call::Delete, 3, Wrong::Status(500, "InternalError"));
    client.delete(format!("/v1/files/{id}")).expect(200);
    eventually("the bucket is empty", || server.left().is_empty().then_some(()));
    assert!(gateway.metric("dayfly_store_delete_failures_total") >= 3.0);
    assert_eq!(trap.bytes(), 0, "the redirect's target heard of it");
}
