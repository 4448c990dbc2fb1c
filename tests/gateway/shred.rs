//! Forgetting: a file that was deleted, has expired or was used up cannot be had again.

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::harness::{Client, HERE, Setup, TestGateway, Wire, eventually, noise};

const LONG: usize = 24 << 20;

/// Asserts the shape of a final receipt.
fn is_final(receipt: &Value, id: &str, reason: &str) {
    assert_eq!(receipt["file"], id, "{receipt}");
    assert!(receipt["id"].is_string(), "{receipt}");
    assert_eq!(receipt["state"], "final", "{receipt}");
    assert_eq!(receipt["reason"], reason, "{receipt}");
    assert_eq!(receipt["region"], HERE, "{receipt}");
    assert_eq!(receipt["keyring"], "memory", "{receipt}");
    let mut times = Vec::new();
    for member in ["accepted_at", "expires_at", "destroyed_at"] {
        let text = receipt[member].as_str().unwrap_or_else(|| panic!("{member}: {receipt}"));
        assert!(text.ends_with('Z'), "{receipt}");
        times.push(text.parse::<jiff::Timestamp>().unwrap());
    }
    assert!(times[0] <= times[2], "{receipt}");
    let keys = receipt["keys"].as_array().unwrap();
    assert!(keys.iter().any(|key| key["key"] == "file_secret"), "{receipt}");
    for key in keys {
        assert!(key["key"] == "file_secret" || key["key"] == "epoch", "{receipt}");
        if key["key"] == "file_secret" {
            assert!(key["destroyed_at"].is_string(), "{receipt}");
        }
    }
    assert!(!receipt["blobs"].as_array().unwrap().is_empty(), "{receipt}");
    for blob in receipt["blobs"].as_array().unwrap() {
        assert!(blob["store"].is_string(), "{receipt}");
    }
    assert!(receipt["handed_to"].is_array() && receipt["accepted_limits"].is_array(), "{receipt}");
    assert!(receipt["commitment"].is_string() && receipt["build"].is_string(), "{receipt}");
    assert!(receipt["commitment_salt"].is_string(), "the tenant's own client: {receipt}");
    assert_eq!(receipt.get("log_index"), Some(&Value::Null), "no log yet: {receipt}");
    let members = receipt.as_object().unwrap();
    for absent in ["name", "size", "media_type", "digest", "address"] {
        assert!(!members.contains_key(absent), "{receipt}");
    }
}

/// The receipt without what a store may fill in later.
fn settled(mut receipt: Value) -> Value {
    for blob in receipt["blobs"].as_array_mut().unwrap() {
        blob["answer"] = Value::Null;
    }
    receipt["log_index"] = Value::Null;
    receipt
}

fn is_gone(client: &Client, id: &str, slug: &str) {
    for path in [format!("/v1/files/{id}"), Client::content(id)] {
        let problem = client.get(&path).problem(410, slug).json();
        let receipt = problem["receipt"].as_str().expect("the receipt's address");
        assert_eq!(receipt, format!("/v1/receipts/{id}"), "{problem}");
        client.ask("HEAD", &path).send().expect(410);
    }
    let receipt = client.get(format!("/v1/receipts/{id}")).expect(200).json();
    is_final(&receipt, id, slug);
    let patch = client.ask("PATCH", format!("/v1/files/{id}"));
    patch
        .header("Content-Type", "application/json")
        .body(b"{\"ttl\":\"5m\"}")
        .send()
        .problem(410, slug);
    let list = client.get("/v1/files").expect(200).json();
    let listed = list["files"].as_array().unwrap();
    assert!(listed.iter().all(|file| file["id"] != id), "{list}");
}

/// What a receipt commits to before there are segments (VAULT.md, "Receipts").
fn without_segments(receipt: &Value) -> String {
    let salt = HEXLOWER.decode(receipt["commitment_salt"].as_str().unwrap().as_bytes()).unwrap();
    let id = receipt["file"].as_str().unwrap().strip_prefix("file_").unwrap();
    let id = BASE32_NOPAD.decode(id.to_uppercase().as_bytes()).unwrap();
    let hash = Sha256::new().chain_update(b"dayfly/v1 receipt\0").chain_update(salt);
    HEXLOWER.encode(&hash.chain_update(id).chain_update([0; 4]).finalize())
}

#[test]
fn a_delete_answers_with_the_receipt_and_again_with_the_same() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    for size in [10, 2 << 20] {
        let id = client.upload("", &noise(size));
        let live = client.get(format!("/v1/receipts/{id}")).expect(200).json();
        assert_eq!((&live["state"], &live["reason"]), (&"live".into(), &Value::Null));
        assert_eq!(live["destroyed_at"], Value::Null);
        let first = client.delete(format!("/v1/files/{id}")).expect(200).json();
        is_final(&first, &id, "deleted");
        assert_eq!(live["commitment"], without_segments(&live), "at acceptance there are none");
        assert_ne!(first["commitment"], live["commitment"]);
        assert_eq!(first["commitment_salt"], live["commitment_salt"]);
        let second = client.delete(format!("/v1/files/{id}")).expect(200).json();
        assert_eq!(settled(second), settled(first.clone()));
        is_gone(&client, &id, "deleted");
        eventually("the store's answer is filled in", || {
            let receipt = client.get(format!("/v1/receipts/{id}")).expect(200).json();
            receipt["blobs"][0]["answer"].as_str().filter(|said| *said != "pending").map(|_| ())
        });
    }
    gateway.is_empty_again();
}

#[test]
fn a_life_ends_by_itself_without_anybody_asking() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let small = client.upload("?ttl=1s", b"short");
    let large = client.upload("?ttl=2s", &noise(2 << 20));
    let keeps = client.upload("?ttl=10m", b"long");
    gateway.comes_to("dayfly_live_files", 1.0);
    is_gone(&client, &small, "expired");
    is_gone(&client, &large, "expired");
    client.download(&keeps).expect(200).is_body(b"long");
    client.delete(format!("/v1/files/{small}")).problem(410, "expired");
    assert_eq!(gateway.metric("dayfly_overdue_deletions"), 0.0);
}

#[test]
fn an_expired_file_cannot_be_had_by_whoever_keeps_asking() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let made = client.post("/v1/files?ttl=1s", b"short").expect(201).json();
    let id = made["id"].as_str().unwrap();
    let end: jiff::Timestamp = made["expires_at"].as_str().unwrap().parse().unwrap();
    eventually("the file is gone", || {
        let asked = jiff::Timestamp::now();
        // At its very end an answer may be cut before its head.
        let got = client.ask("GET", Client::content(id)).try_send()?;
        assert!(got.status == 410 || !got.whole || asked < end, "it was had after its end");
        (got.status == 410).then_some(())
    });
}

#[test]
fn a_life_can_be_shortened_and_never_lengthened() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let id = client.upload("?ttl=20m", b"x");
    let before = client.get(format!("/v1/files/{id}")).expect(200).json();
    let patch = |body: &str| {
        let ask = client.ask("PATCH", format!("/v1/files/{id}"));
        ask.header("Content-Type", "application/json").body(body.as_bytes()).send()
    };
    let shorter = patch("{\"ttl\":\"10m\"}").expect(200).json();
    let end = |json: &Value| json["expires_at"].as_str().unwrap().to_owned();
    assert!(end(&shorter) < end(&before), "{shorter}");
    let same = patch("{\"ttl\":\"23h\"}");
    let after = client.get(format!("/v1/files/{id}")).expect(200).json();
    assert_eq!(end(&after), end(&shorter), "a longer life was answered with {}", same.status);
    patch("{\"ttl\":\"x\"}").problem(422, "bad-ttl");
    patch("{\"ttl\":\"0s\"}").problem(422, "bad-ttl");
    for bad in ["{\"ttl\":\"5m\",\"name\":\"x\"}", "{}", "[]", "{\"ttl\":5}", "{", ""] {
        patch(bad).expect(400);
    }
    assert_eq!(client.get(format!("/v1/files/{id}")).expect(200).json(), after);
    patch("{\"ttl\":\"1s\"}").expect(200);
    gateway.comes_to("dayfly_live_files", 0.0);
    is_gone(&client, &id, "expired");
}

#[test]
fn a_reader_caught_in_mid_download_is_cut_by_the_delete() {
    for store in ["local", "memory"] {
        let setup = Setup::new().set("vault", "store", &format!("\"{store}\""));
        let gateway = setup.start();
        let client = gateway.client();
        let bytes = noise(LONG);
        let id = client.upload("", &bytes);
        let mut reader = client.ask("GET", Client::content(&id)).begin_narrow();
        let head = reader.head();
        assert_eq!(head.status, 200);
        let mut got = reader.up_to(4096);
        client.delete(format!("/v1/files/{id}")).expect(200);
        let rest = reader.body(&head);
        got.extend_from_slice(&rest.bytes);
        assert!(got.len() < LONG, "{store}: the message came to its end after the delete");
        assert!(bytes.starts_with(&got), "{store}: what came was right as far as it came");
        gateway.is_empty_again();
    }
}

#[test]
fn a_reader_caught_by_the_deadline_is_cut_too() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let bytes = noise(LONG);
    let id = client.upload("?ttl=3s", &bytes);
    let mut reader = client.ask("GET", Client::content(&id)).begin_narrow();
    let head = reader.head();
    assert_eq!(head.status, 200);
    gateway.comes_to("dayfly_live_files", 0.0);
    let got = reader.body(&head);
    assert!(!got.whole && got.bytes.len() < LONG, "it came to its end after the deadline");
    gateway.is_empty_again();
}

#[test]
fn a_file_used_up_by_its_last_download_is_shredded() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let id = client.upload("?downloads=1", b"once");
    client.download(&id).expect(200).is_body(b"once");
    eventually("it is shredded", || (gateway.metric("dayfly_live_files") < 0.5).then_some(()));
    is_gone(&client, &id, "downloaded");
}

#[test]
fn a_receipt_is_forgotten_after_its_own_time() {
    let gateway = Setup::new().set("retention", "receipts", "\"1s\"").start();
    let client = gateway.client();
    let id = client.upload("", b"x");
    client.delete(format!("/v1/files/{id}")).expect(200);
    eventually("the receipt is forgotten", || {
        let got = client.get(format!("/v1/receipts/{id}"));
        (got.status == 404).then(|| got.problem(404, "not-found"))
    });
    client.get(format!("/v1/files/{id}")).problem(404, "not-found");
    client.delete(format!("/v1/files/{id}")).problem(404, "not-found");
}

#[test]
fn deleting_one_file_leaves_the_others_alone() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let bytes = noise(600_000);
    let ids: Vec<String> = (0..6).map(|_| client.upload("", &bytes)).collect();
    for id in ids.iter().step_by(2) {
        client.delete(format!("/v1/files/{id}")).expect(200);
    }
    for id in ids.iter().skip(1).step_by(2) {
        client.download(id).expect(200).is_body(&bytes);
    }
    assert_eq!(gateway.metric("dayfly_live_files"), 3.0);
    assert_eq!(gateway.metric("dayfly_live_bytes"), 1_800_000.0);
}

#[test]
fn a_dying_file_is_never_unknown() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let key = crate::harness::key_of("acme");
    // One connection each, so that they ask as often as they can.
    let ask_until_gone = |id: &str| {
        let mut wire = Wire::open(gateway.public);
        let head = format!(
            "GET /v1/files/{id} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n"
        );
        loop {
            wire.send(head.as_bytes()).unwrap();
            let head = wire.head();
            let _ = wire.body(&head);
            if head.status != 200 {
                return head.status;
            }
        }
    };
    for _ in 0..100 {
        let id = client.upload("", b"x");
        std::thread::scope(|scope| {
            let asking: Vec<_> = (0..3).map(|_| scope.spawn(|| ask_until_gone(&id))).collect();
            let receipts: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| client.delete(format!("/v1/files/{id}")).expect(200).json())
                })
                .collect();
            for receipt in receipts {
                is_final(&receipt.join().unwrap(), &id, "deleted");
            }
            for status in asking {
                assert_eq!(status.join().unwrap(), 410);
            }
        });
    }
}
