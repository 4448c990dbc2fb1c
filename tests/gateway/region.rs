//! Regions: where bytes may rest is decided before the first of them is read.

use crate::harness::{Answer, Client, HERE, TestGateway};

/// Sends a head alone, waiting for leave to send the body, and reads the answer.
#[track_caller]
fn refused(client: &Client, method: &'static str, path: &str) -> Answer {
    let ask = client.ask(method, path).header("Expect", "100-continue");
    let mut wire = ask.begin(Some(1_000_000));
    let answer = Answer::read(&mut wire, &format!("{method} {path}"));
    assert!(!answer.continued, "{path}: the body was asked for");
    answer
}

#[test]
fn a_region_that_cannot_be_used_is_refused_before_the_body() {
    let gateway = TestGateway::start();
    let home = gateway.client();
    let roamer = gateway.client_of("roamer");
    let abroad = gateway.client_of("abroad");
    for (method, path) in
        [("POST", "/v1/files"), ("PUT", "/v1/files/a.txt"), ("POST", "/v1/process/text")]
    {
        let asking = |region: &str| format!("{path}?region={region}");
        for unknown in ["mars-1", "", "EU-TEST-1", "a%20b", "much-too-long-for-a-region"] {
            refused(&home, method, &asking(unknown)).problem(422, "region-unavailable");
        }
        let denied = refused(&home, method, &asking("us-test-2"));
        denied.problem(403, "not-permitted-by-policy");
        let denied = refused(&abroad, method, &asking(HERE));
        denied.problem(403, "not-permitted-by-policy");
        for elsewhere in [
            refused(&roamer, method, &asking("us-test-2")),
            refused(&abroad, method, &asking("us-test-2")),
            refused(&abroad, method, path),
        ] {
            let elsewhere = elsewhere.problem(421, "wrong-region");
            let place = format!("https://us.example{path}");
            assert_eq!(elsewhere.header("location"), Some(place.as_str()));
        }
    }
    assert_eq!(gateway.metric("dayfly_files_accepted_total"), 0.0);
    gateway.is_empty_again();
}

#[test]
fn a_region_that_can_be_used_is_the_files_own() {
    let gateway = TestGateway::start();
    for client in [gateway.client(), gateway.client_of("roamer")] {
        for query in [String::new(), format!("?region={HERE}")] {
            let made = client.post(format!("/v1/files{query}"), b"x").expect(201);
            assert_eq!(made.header("dayfly-region"), Some(HERE));
            assert_eq!(made.json()["region"], HERE);
        }
    }
}

#[test]
fn an_accepted_body_is_asked_for() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let ask = client.ask("POST", "/v1/files").header("Expect", "100-continue");
    let mut wire = ask.begin(Some(5));
    assert_eq!(wire.head().status, 100);
    wire.send(b"hello").unwrap();
    assert_eq!(Answer::read(&mut wire, "POST /v1/files").expect(201).json()["size"], 5);
}

#[test]
fn the_regions_are_listed_for_every_role() {
    let gateway = TestGateway::start();
    for key in ["acme", "ops", "auditor", "owner"] {
        let list = gateway.client_of(key).get("/v1/regions").expect(200).json();
        let regions = list["regions"].as_array().unwrap();
        let named = |name: &str| regions.iter().find(|region| region["region"] == name);
        let here = named(HERE).or_else(|| regions.iter().find(|region| region["name"] == HERE));
        assert_eq!(here.expect("this region")["jurisdiction"], "EU", "{list}");
        assert!(list.to_string().contains("https://us.example"), "{list}");
    }
    gateway.anonymous().get("/v1/regions").problem(401, "unauthenticated");
}
