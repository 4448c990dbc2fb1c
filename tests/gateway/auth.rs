//! Who may ask: a key or nothing, its tenant's things alone, and no key in an address.

use serde_json::Value;

use crate::harness::{Answer, Client, Setup, TestGateway, key_of};

/// An id that nobody was ever given.
const NOBODY: &str = "file_aaaaaaaaaaaaaaaaaaaaaaaaaa";

#[test]
fn nothing_but_a_valid_key_opens_anything() {
    let setup = Setup::new()
        .key_with("ended", "acme", &["client"], &["not_after = \"2020-01-01T00:00:00Z\""])
        .key_with("lasts", "acme", &["client"], &["not_after = \"2090-01-01T00:00:00Z\""]);
    let gateway = setup.start();
    let client = gateway.client();
    let id = client.upload("", b"mine");
    let good = key_of("acme");
    let swapped = format!("dfk_acme2_{}", &good[9..]);
    let mut wrong = good.clone();
    wrong.pop();
    wrong.push(if good.ends_with('a') { 'b' } else { 'a' });
    let missing = gateway.anonymous();
    for key in [
        "",
        "x",
        "dfk_",
        "dfk_acme_",
        &good[..good.len() - 1],
        &wrong,
        &swapped,
        &format!("{good}a"),
        &good.to_uppercase(),
        &key_of("nobody"),
        &key_of("ended"),
    ] {
        let refused = client.with_key(Some(key)).get(format!("/v1/files/{id}"));
        let refused = refused.problem(401, "unauthenticated");
        assert!(refused.header("www-authenticate").is_some_and(|how| how.starts_with("Bearer")));
    }
    for (method, path) in [
        ("GET", "/v1/files".to_owned()),
        ("POST", "/v1/files".to_owned()),
        ("PUT", "/v1/files/a".to_owned()),
        ("GET", format!("/v1/files/{id}")),
        ("GET", Client::content(&id)),
        ("DELETE", format!("/v1/files/{id}")),
        ("GET", format!("/v1/receipts/{id}")),
        ("POST", "/v1/process/text".to_owned()),
        ("GET", "/v1/whoami".to_owned()),
        ("GET", "/v1/status".to_owned()),
        ("GET", "/v1/nothing".to_owned()),
    ] {
        missing.ask(method, path).send().problem(401, "unauthenticated");
    }
    let basic = missing.ask("GET", "/v1/whoami").header("Authorization", "Basic YTpi");
    basic.send().problem(401, "unauthenticated");
    gateway.client_of("lasts").get(format!("/v1/files/{id}")).expect(200);
    gateway.client_of("acme2").download(&id).expect(200).is_body(b"mine");
}

#[test]
fn an_unauthenticated_body_is_not_asked_for() {
    let gateway = TestGateway::start();
    let anonymous = gateway.anonymous();
    let ask = anonymous.ask("POST", "/v1/files").header("Expect", "100-continue");
    let mut wire = ask.begin(Some(1 << 30));
    let answer = Answer::read(&mut wire, "POST /v1/files");
    assert!(!answer.continued);
    answer.problem(401, "unauthenticated");
}

#[test]
fn a_role_that_is_too_small_is_forbidden() {
    let gateway = TestGateway::start();
    let id = gateway.client().upload("", b"mine");
    for (key, method, path) in [
        ("ops", "GET", format!("/v1/files/{id}")),
        ("ops", "GET", Client::content(&id)),
        ("ops", "POST", "/v1/files".to_owned()),
        ("ops", "POST", "/v1/process/text".to_owned()),
        ("ops", "GET", "/v1/files".to_owned()),
        ("auditor", "GET", Client::content(&id)),
        ("auditor", "DELETE", format!("/v1/files/{id}")),
        ("owner", "GET", Client::content(&id)),
        ("owner", "POST", "/v1/files".to_owned()),
        ("acme", "GET", "/v1/status".to_owned()),
        ("auditor", "GET", "/v1/status".to_owned()),
    ] {
        gateway.client_of(key).ask(method, path).send().problem(403, "forbidden");
    }
    for key in ["auditor", "owner", "acme"] {
        let receipt = gateway.client_of(key).get(format!("/v1/receipts/{id}")).expect(200).json();
        let salted = receipt["commitment_salt"].is_string();
        assert_eq!(salted, key != "auditor", "the salt is for client and owner: {receipt}");
    }
    gateway.client_of("ops").get("/v1/status").expect(200);
}

#[test]
fn a_credential_in_an_address_is_refused_first_of_all() {
    let gateway = TestGateway::start();
    let (client, anonymous) = (gateway.client(), gateway.anonymous());
    let key = key_of("acme");
    for query in [
        "key=x",
        "token=x",
        "api_key=x",
        "access_token=x",
        "%6bey=x",
        "name=dfk_a_b",
        "region=dfg_abc",
        "name=%64fk_a_b",
        &format!("name=a&other={key}"),
    ] {
        for path in ["/v1/files", "/v1/whoami", "/v1/nothing", "/nothing", "/openapi.json"] {
            for client in [&client, &anonymous] {
                client.get(format!("{path}?{query}")).problem(400, "token-in-url");
            }
        }
        client.post(format!("/v1/files?{query}"), b"x").problem(400, "token-in-url");
    }
    let ask = anonymous.ask("POST", "/v1/files?token=x").header("Expect", "100-continue");
    let mut wire = ask.begin(Some(1 << 30));
    let answer = Answer::read(&mut wire, "POST /v1/files");
    assert!(!answer.continued);
    answer.problem(400, "token-in-url");
}

/// An answer without what differs between any two requests.
fn without_its_id(answer: &Answer) -> (u16, String, Option<String>) {
    let mut json = answer.json();
    json["request_id"] = Value::Null;
    let kind = answer.header("content-type").map(str::to_owned);
    (answer.status, json.to_string(), kind)
}

#[test]
fn another_tenants_file_and_no_file_look_the_same() {
    let gateway = TestGateway::start();
    let id = gateway.client().upload("", b"mine");
    let gone = gateway.client().upload("", b"was mine");
    gateway.client().delete(format!("/v1/files/{gone}")).expect(200);
    let other = gateway.client_of("other");
    let patch = |id: &str| {
        let ask = other.ask("PATCH", format!("/v1/files/{id}"));
        ask.header("Content-Type", "application/json").body(b"{\"ttl\":\"5m\"}").send()
    };
    for theirs in [&id, &gone] {
        for (method, path) in [
            ("GET", "/v1/files/ID"),
            ("HEAD", "/v1/files/ID"),
            ("DELETE", "/v1/files/ID"),
            ("GET", "/v1/files/ID/content"),
            ("GET", "/v1/receipts/ID"),
        ] {
            let ask = |id: &str| other.ask(method, path.replace("ID", id)).send();
            let (theirs, none) = (ask(theirs), ask(NOBODY));
            assert_eq!(theirs.status, 404, "{method} {path}");
            if method == "HEAD" {
                assert_eq!(none.status, 404);
                continue;
            }
            assert_eq!(without_its_id(&theirs), without_its_id(&none), "{method} {path}");
            theirs.problem(404, "not-found");
        }
        assert_eq!(without_its_id(&patch(theirs)), without_its_id(&patch(NOBODY)));
    }
    for bad in ["file_", "x", "file_AAAAAAAAAAAAAAAAAAAAAAAAAA", "..%2f..", "%00"] {
        other.get(format!("/v1/files/{bad}")).problem(404, "not-found");
    }
    let list = other.get("/v1/files").expect(200).json();
    assert_eq!(list["files"], serde_json::json!([]));
    gateway.client().download(&id).expect(200).is_body(b"mine");
}

#[test]
fn whoever_asks_is_told_who_they_are() {
    let gateway = TestGateway::start();
    for (key, role) in [("acme", "client"), ("ops", "ops"), ("auditor", "auditor")] {
        let me = gateway.client_of(key).get("/v1/whoami").expect(200).json();
        assert_eq!(me["tenant"], "acme", "{me}");
        assert!(me["roles"].as_array().unwrap().contains(&role.into()), "{me}");
        assert!(!me.to_string().contains(&key_of(key)[10..]), "{me}");
    }
}

#[test]
fn an_address_that_keeps_guessing_is_slowed_down() {
    let gateway = TestGateway::start();
    let guess = gateway.anonymous().with_key(Some("dfk_acme_x"));
    let slowed = (0..2000).find_map(|_| {
        let answer = guess.get("/v1/whoami");
        (answer.status != 401).then_some(answer)
    });
    let slowed = slowed.expect("two thousand guesses pass").problem(429, "rate-limited");
    assert!(slowed.header("retry-after").is_some());
}
