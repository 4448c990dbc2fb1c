//! What operators and integrators rely on: health, numbers, documentation, and plain manners.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::{Client, HERE, Setup, TestGateway, Wire};

#[test]
fn health_and_numbers_are_on_the_admin_address_alone() {
    let gateway = TestGateway::start();
    let operator = gateway.operator();
    for path in ["/livez", "/readyz", "/metrics"] {
        operator.get(path).expect(200);
        assert!(gateway.client().get(path).status >= 400, "{path} on the public address");
    }
    operator.get("/v1/files").expect(404);
    let page = operator.get("/metrics").expect(200).body_text();
    for name in [
        "dayfly_files_accepted_total",
        "dayfly_live_files",
        "dayfly_live_bytes",
        "dayfly_overdue_deletions",
        "dayfly_budget_bytes",
        "dayfly_budget_used_bytes",
        "dayfly_tasks_panicked_total",
        "dayfly_store_deletes_pending",
    ] {
        assert!(page.lines().any(|line| line.starts_with(name)), "{name} is there from the start");
        assert!(page.contains(&format!("# TYPE {name} ")), "{name}");
    }
}

#[test]
fn the_admin_address_answers_to_its_own_name_alone() {
    let gateway = TestGateway::start();
    let ask = |host: &str| {
        let mut wire = Wire::open(gateway.admin);
        let head = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        wire.send(head.as_bytes()).unwrap();
        let head = wire.head();
        let body = wire.body(&head);
        (head.status, String::from_utf8_lossy(&body.bytes).contains("dayfly_live_files"))
    };
    assert_eq!(ask(&gateway.admin.to_string()), (200, true));
    assert_eq!(ask(&format!("localhost:{}", gateway.admin.port())), (200, true));
    for foreign in ["evil.example", "evil.example:9464", "127.0.0.1.evil.example", ""] {
        let (status, shown) = ask(foreign);
        assert!(status >= 400 && !shown, "{foreign}: {status}");
    }
}

#[test]
fn the_numbers_follow_what_lives() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let id = client.upload("", &[b'x'; 1000]);
    client.upload("", &[b'y'; 500]);
    assert_eq!(gateway.metric("dayfly_files_accepted_total"), 2.0);
    assert_eq!(gateway.metric("dayfly_live_files"), 2.0);
    assert_eq!(gateway.metric("dayfly_live_bytes"), 1500.0);
    client.delete(format!("/v1/files/{id}")).expect(200);
    assert_eq!(gateway.metric("dayfly_live_files"), 1.0);
    assert_eq!(gateway.metric("dayfly_files_destroyed_total"), 1.0);
    let status = gateway.client_of("ops").get("/v1/status").expect(200).json();
    assert_eq!(status["region"], HERE, "{status}");
    assert_eq!((&status["keyring"], &status["store"]), (&"memory".into(), &"local".into()));
    assert_eq!(status["overdue_deletions"], 0);
    assert_eq!(status["counts"]["live_files"], 1, "{status}");
    assert!(status["version"].is_string() && status["build"].is_string(), "{status}");
    assert!(status["oldest_live_seconds"].is_u64() && status["accepted_limits"].is_array());
    assert!(status["policy_loaded_at"].as_str().unwrap().ends_with('Z'), "{status}");
}

#[test]
fn files_are_listed_newest_first_and_page_by_page() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let ids: Vec<String> = (0..7).map(|_| client.upload("", b"x")).collect();
    gateway.client_of("other").upload("", b"theirs");
    let mut seen = Vec::new();
    let mut path = "/v1/files?limit=3".to_owned();
    loop {
        let page = client.get(&path).expect(200).json();
        let files = page["files"].as_array().unwrap();
        assert!(files.len() <= 3, "{page}");
        seen.extend(files.iter().map(|file| file["id"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["cursor"].as_str() else { break };
        path = format!("/v1/files?limit=3&cursor={cursor}");
    }
    assert_eq!(seen, ids.iter().rev().cloned().collect::<Vec<_>>());
    for bad in ["limit=0", "limit=1001", "limit=x", "limit=", "cursor=!"] {
        client.get(format!("/v1/files?{bad}")).problem(400, "bad-request");
    }
    client.get("/v1/files?limit=1000").expect(200);
}

#[test]
fn the_processors_are_described() {
    let gateway = TestGateway::start();
    let list = gateway.client_of("ops").get("/v1/processors").expect(200).json();
    let names: BTreeSet<&str> = list["processors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|processor| processor["name"].as_str().unwrap())
        .collect();
    assert!(["detect", "text", "checksum", "compress"].iter().all(|name| names.contains(name)));
    for processor in list["processors"].as_array().unwrap() {
        assert!(processor["media_types"].is_array() && processor["options"].is_object());
    }
}

/// Every path and method of this version.
const ROUTES: [(&str, &str); 19] = [
    ("post", "/v1/files"),
    ("get", "/v1/files"),
    ("put", "/v1/files/{name}"),
    ("get", "/v1/files/{id}"),
    ("patch", "/v1/files/{id}"),
    ("delete", "/v1/files/{id}"),
    ("get", "/v1/files/{id}/content"),
    ("get", "/v1/receipts/{id}"),
    ("post", "/v1/process/{steps}"),
    ("post", "/v1/jobs"),
    ("get", "/v1/jobs"),
    ("get", "/v1/jobs/{id}"),
    ("delete", "/v1/jobs/{id}"),
    ("get", "/v1/jobs/{id}/events"),
    ("get", "/v1/processors"),
    ("get", "/v1/regions"),
    ("get", "/v1/whoami"),
    ("get", "/v1/status"),
    ("get", "/openapi.json"),
];

/// A path with all its parameters written alike.
fn shape(path: &str) -> String {
    let parts = path.split('/');
    let parts = parts.map(|part| if part.starts_with('{') { "{}" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

#[test]
fn the_openapi_document_describes_every_route() {
    let gateway = TestGateway::start();
    let answer = gateway.anonymous().get("/openapi.json").expect(200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let document = answer.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    assert!(document["info"]["title"].is_string() && document["info"]["version"].is_string());
    let mut found = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if !["get", "put", "post", "patch", "delete", "head"].contains(&method.as_str()) {
                continue;
            }
            found.insert((method.clone(), shape(path)));
            let answers = operation["responses"].as_object().unwrap();
            assert!(!answers.is_empty(), "{method} {path} has no answer");
        }
    }
    for (method, path) in ROUTES {
        // The document need not describe itself.
        let known = found.contains(&(method.to_owned(), shape(path)));
        assert!(known || path == "/openapi.json", "{method} {path} is not described");
    }
    references_resolve(&document, &document);
}

/// Every `$ref` leads somewhere.
fn references_resolve(part: &Value, document: &Value) {
    match part {
        Value::Object(members) => {
            if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                let place = reference.strip_prefix('#').expect("a reference within");
                assert!(document.pointer(place).is_some(), "{reference} leads nowhere");
            }
            members.values().for_each(|member| references_resolve(member, document));
        }
        Value::Array(items) => items.iter().for_each(|item| references_resolve(item, document)),
        _ => {}
    }
}

#[test]
fn every_problem_has_its_page_and_the_documentation_is_open() {
    let gateway = TestGateway::start();
    let anybody = gateway.anonymous();
    for slug in dayfly::problem::Slug::ALL {
        let page = anybody.get(format!("/problems/{}", slug.as_str())).expect(200);
        assert!(page.header("content-type").unwrap().starts_with("text/html"));
        let text = page.body_text().replace("&#39;", "'").replace("&#x27;", "'");
        assert!(text.contains(slug.title()), "{}: {text}", slug.as_str());
    }
    anybody.get("/problems/no-such-problem").problem(404, "not-found");
    let docs = anybody.get("/docs").expect(200);
    assert!(docs.header("content-type").unwrap().starts_with("text/html"));
    assert!(docs.body_text().contains("/v1/files"));
    let index = anybody.get("/problems").expect(200);
    assert!(index.body_text().contains("token-in-url"));
}

#[test]
fn what_is_not_there_is_said_in_the_same_form() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    for path in ["/", "/v1", "/v1/nothing", "/v1/files/a/b/c", "/%2e%2e/etc/passwd", "//"] {
        client.get(path).problem(404, "not-found");
    }
    for (method, path) in [
        ("DELETE", "/v1/files"),
        ("PATCH", "/v1/files"),
        ("POST", "/v1/files/file_aaaaaaaaaaaaaaaaaaaaaaaaaa/content"),
        ("PUT", "/v1/whoami"),
        ("DELETE", "/v1/receipts/file_aaaaaaaaaaaaaaaaaaaaaaaaaa"),
        ("GET", "/v1/process/text"),
        ("BREW", "/v1/files"),
    ] {
        let refused = client.ask(method, path).send().problem(405, "method-not-allowed");
        assert!(refused.header("allow").is_some_and(|allow| !allow.is_empty()), "{method} {path}");
    }
    for path in [
        "/v1/files?wat=1",
        "/v1/whoami?wat=1",
        "/v1/regions?wat=1",
        "/v1/processors?x=",
        "/v1/files/file_aaaaaaaaaaaaaaaaaaaaaaaaaa?wat=1",
        "/v1/receipts/file_aaaaaaaaaaaaaaaaaaaaaaaaaa?wat=1",
    ] {
        client.get(path).problem(400, "unknown-parameter");
    }
    client.post("/v1/files?wat=1", b"x").problem(400, "unknown-parameter");
}

#[test]
fn a_request_id_is_ours_and_a_detail_says_nothing_of_the_request() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let marker = "mallory-was-here";
    let mut ids = BTreeSet::new();
    for path in [
        format!("/v1/{marker}"),
        format!("/v1/files?{marker}=1"),
        format!("/v1/files?limit={marker}"),
        format!("/v1/files/{marker}"),
    ] {
        let ask = client.ask("GET", path).header("X-Request-Id", marker);
        let answer = ask.header("User-Agent", marker).send();
        let id = answer.header("x-request-id").unwrap().to_owned();
        assert!(!answer.body_text().contains(marker) && id != marker);
        assert!(ids.insert(id), "a request id came twice");
    }
    for path in [
        format!("/v1/files?ttl={marker}"),
        format!("/v1/files?region={marker}"),
        format!("/v1/files?downloads={marker}"),
        format!("/v1/process/{marker}"),
        format!("/v1/process/text?format={marker}"),
    ] {
        let answer = client.post(path, b"x");
        assert!(answer.status >= 400 && !answer.body_text().contains(marker));
    }
}

#[test]
fn only_listed_origins_may_read_from_a_browser() {
    let setup = Setup::new().set("listen", "cors_origins", "[\"https://app.example\"]");
    let gateway = setup.start();
    let preflight = |origin: &str, path: &str| {
        let anybody = gateway.anonymous();
        let ask = anybody.ask("OPTIONS", path).header("Origin", origin);
        let ask = ask.header("Access-Control-Request-Method", "PUT");
        let answer = ask.header("Access-Control-Request-Headers", "authorization").send();
        assert!(answer.status < 300, "OPTIONS needs no key: {}", answer.status);
        answer.header("access-control-allow-origin").map(str::to_owned)
    };
    for path in ["/v1/files", "/v1/files/a.txt"] {
        let allowed = preflight("https://app.example", path);
        assert_eq!(allowed.as_deref(), Some("https://app.example"));
        assert_eq!(preflight("https://evil.example", path), None);
        assert_eq!(preflight("null", path), None);
    }
    let client = gateway.client();
    let get = |origin: &str| client.ask("GET", "/v1/files").header("Origin", origin).send();
    let answer = get("https://app.example").expect(200);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
    let shown = answer.header("access-control-expose-headers").unwrap_or_default().to_lowercase();
    assert!(shown.contains("dayfly-claim") && shown.contains("x-request-id"), "{shown}");
    assert_eq!(get("https://evil.example").header("access-control-allow-origin"), None);
}

#[test]
fn a_connection_is_kept_for_the_next_request() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let id = client.upload("", b"hello");
    let mut wire = Wire::open(gateway.public);
    let key = crate::harness::key_of("acme");
    for _ in 0..3 {
        let head = format!(
            "GET {} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n",
            Client::content(&id)
        );
        wire.send(head.as_bytes()).unwrap();
        let head = wire.head();
        assert_eq!((head.status, wire.body(&head).bytes), (200, b"hello".to_vec()));
    }
}

#[test]
fn whoever_closes_its_half_after_asking_still_gets_the_answer() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let bytes = crate::harness::noise(3 << 20);
    let id = client.upload("?downloads=1", &bytes);
    let mut wire = client.ask("GET", Client::content(&id)).begin(None);
    wire.end_sending();
    let head = wire.head();
    assert_eq!(head.status, 200);
    assert!(wire.body(&head).bytes == bytes, "the whole file arrives");
    for path in ["/v1/files", "/v1/process/checksum+compress", "/v1/process/text"] {
        let ask = client.ask("POST", path).header("Content-Type", "text/plain");
        let mut wire = ask.begin(Some(5));
        wire.send(b"hello").unwrap();
        wire.end_sending();
        assert!(wire.head().status < 300, "{path}");
    }
}

#[test]
fn the_admin_listener_says_no_in_problems_too() {
    let gateway = TestGateway::start();
    let nothing = gateway.operator().get("/nothing").problem(404, "not-found");
    assert_eq!(nothing.header("content-type"), Some("application/problem+json"));
    let problem = nothing.json();
    assert!(problem["request_id"].as_str().unwrap().starts_with("req_"), "{problem}");
    let post = gateway.operator().post("/metrics", b"").problem(405, "method-not-allowed");
    assert!(post.header("allow").is_some_and(|methods| methods.contains("GET")));
}

#[test]
fn pages_take_no_parameters() {
    let gateway = TestGateway::start();
    for path in ["/docs", "/openapi.json", "/problems", "/problems/expired", "/assets/dayfly.css"] {
        gateway.anonymous().get(path).expect(200);
        gateway.anonymous().get(format!("{path}?theme=dark")).problem(400, "unknown-parameter");
    }
}
