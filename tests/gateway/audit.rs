//! The audit trail: who did what to which id, and nothing about what it was.

use serde_json::Value;

use crate::harness::{Client, Setup, TestGateway, eventually};

fn trail(client: &Client) -> Vec<Value> {
    client.get("/v1/audit?limit=1000").expect(200).json()["audit"].as_array().unwrap().clone()
}

/// Action, key and id of each line, the oldest first.
fn said(lines: &[Value]) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let line = |line: &Value| (text(&line["action"]), text(&line["key"]), text(&line["id"]));
    lines.iter().rev().map(line).collect()
}

#[test]
fn every_change_and_every_read_of_content_writes_one_line() {
    let gateway = TestGateway::start();
    let (client, owner) = (gateway.client(), gateway.client_of("owner"));
    let auditor = gateway.client_of("auditor");
    let id = client.upload("?name=a-name-nobody-logs.txt", b"content");
    client.get(format!("/v1/files/{id}")).expect(200);
    client.get("/v1/files").expect(200);
    gateway.client_of("acme2").download(&id).expect(200);
    client.ask("HEAD", Client::content(&id)).send().expect(200);
    let patch = client.ask("PATCH", format!("/v1/files/{id}")).body(b"{\"ttl\":\"5m\"}");
    patch.send().expect(200);
    let ran = client.post("/v1/process/checksum", b"x").expect(200);
    let run = ran.header("dayfly-receipt").unwrap().rsplit('/').next().unwrap().to_owned();
    let ask = format!("{{\"allow\":\"download\",\"file\":\"{id}\",\"count\":1,\"ttl\":\"5m\"}}");
    let grant = client.post("/v1/grants", ask.as_bytes()).expect(201).text("grant");
    client.with_key(Some(&grant)).download(&id).expect(200);
    client.delete(format!("/v1/files/{id}")).expect(200);
    client.delete(format!("/v1/files/{id}")).expect(200);
    client.download(&id).problem(410, "deleted");
    owner.get("/v1/tenants/acme/export").expect(200);
    for _ in 0..2 {
        gateway.client_of("ops").ask("PUT", "/v1/tenants/acme/suspension").send().expect(204);
    }
    owner.delete("/v1/tenants/acme/suspension").expect(204);
    owner.delete("/v1/tenants/acme/data").expect(200);
    let lines = trail(&auditor);
    let grant = format!("grant_{}", &grant[4..30]);
    let expected = [
        ("file.create", "acme", id.as_str()),
        ("file.read", "acme2", &id),
        ("file.shorten", "acme", &id),
        ("process.run", "acme", &run),
        ("grant.create", "acme", &grant),
        ("file.read", "acme", &id),
        ("file.delete", "acme", &id),
        ("tenant.export", "owner", "-"),
        ("tenant.suspend", "ops", "-"),
        ("tenant.resume", "owner", "-"),
        ("tenant.erase", "owner", "-"),
    ];
    let expected: Vec<_> = expected
        .iter()
        .map(|(action, key, id)| ((*action).to_owned(), (*key).to_owned(), (*id).to_owned()))
        .collect();
    assert_eq!(said(&lines), expected);
    assert_eq!(lines[5]["grant"], grant.as_str(), "it was the grant that read");
    assert_eq!(lines[6]["grant"], Value::Null);
    assert_eq!(trail(&owner), lines);
    for line in &lines {
        line["at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        let mut members: Vec<&String> = line.as_object().unwrap().keys().collect();
        members.sort();
        assert_eq!(members, ["action", "at", "grant", "id", "key"]);
    }
    let all = serde_json::to_string(&lines).unwrap();
    for secret in ["a-name-nobody", "content", "text/", "127.0.0.1"] {
        assert!(!all.contains(secret), "{secret} in {all}");
    }
}

#[test]
fn a_trail_is_read_in_pages_and_is_its_tenants_own() {
    let setup = Setup::new().key("otherowner", "other", &["owner"]);
    let gateway = setup.start();
    let client = gateway.client();
    let mut ids: Vec<String> = (0..7).map(|_| client.upload("", b"x")).collect();
    gateway.client_of("other").upload("", b"x");
    ids.reverse();
    let auditor = gateway.client_of("auditor");
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = auditor.get(format!("/v1/audit?limit=3{cursor}")).expect(200).json();
        let lines = page["audit"].as_array().unwrap();
        assert!(lines.len() <= 3);
        found.extend(lines.iter().map(|line| line["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(found, ids);
    assert_eq!(trail(&gateway.client_of("otherowner")).len(), 1);
    for bad in ["limit=0", "limit=1001", "limit=x", "cursor=x"] {
        auditor.get(format!("/v1/audit?{bad}")).problem(400, "bad-request");
    }
    auditor.get("/v1/audit?since=today").problem(400, "unknown-parameter");
}

#[test]
fn lines_are_kept_as_long_as_receipts() {
    let gateway = Setup::new().set("retention", "receipts", "\"1s\"").start();
    gateway.client().upload("", b"x");
    let auditor = gateway.client_of("auditor");
    eventually("the line is forgotten", || trail(&auditor).is_empty().then_some(()));
}
