//! Jobs: asked for now, fetched later, and ended for exactly one reason.

use std::time::Instant;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{
    Client, Events, Frozen, Multipart, Setup, TestGateway, eventually, kill_workers, noise, pdf,
    tell,
};

/// Orders a job and returns its id.
#[track_caller]
fn order(client: &Client, order: &Value) -> String {
    client.post("/v1/jobs", order.to_string().as_bytes()).expect(202).text("id")
}

#[track_caller]
fn show(client: &Client, job: &str) -> Value {
    client.get(format!("/v1/jobs/{job}")).expect(200).json()
}

/// Waits for a job's end, as its events tell it.
#[track_caller]
fn ends(client: &Client, job: &str, state: &str) -> Value {
    let last = Events::follow(client, job).last();
    assert_eq!(last["state"], state, "{last}");
    last
}

fn on(file: &str, steps: &[&str]) -> Value {
    json!({ "source": { "file": file }, "steps": steps })
}

/// A text that compresses badly and is long enough to rest in the store.
fn long_text(bytes: usize) -> Vec<u8> {
    noise(bytes / 2).iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

#[test]
fn a_jobs_output_is_a_file_like_any_other() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let source = client.upload("?name=annual%20report.pdf&ttl=20m", &pdf(&["Out of a job"]));
    let asked = json!({ "source": { "file": source }, "steps": ["text"],
        "options": { "text": { "format": "markdown" } } });
    let answer = client.post("/v1/jobs", asked.to_string().as_bytes()).expect(202);
    let job = answer.text("id");
    assert!(job.starts_with("job_") && job.len() == 30, "{job}");
    assert_eq!(answer.header("location"), Some(&*format!("/v1/jobs/{job}")));
    let ended = ends(&client, &job, "succeeded");
    assert_eq!(ended, show(&client, &job));
    assert_eq!((&ended["progress"]["percent"], &ended["problem"]), (&json!(100), &Value::Null));
    assert_eq!(ended["sources"], json!([source]));
    let [output] = ended["outputs"].as_array().unwrap().as_slice() else { panic!("{ended}") };
    assert_eq!(output["name"], "annual report.md");
    assert_eq!(output["media_type"], "text/markdown; charset=utf-8");
    let file = client.get(format!("/v1/files/{source}")).expect(200).json();
    assert_eq!(output["expires_at"], file["expires_at"]);
    assert_eq!(ended["expires_at"], file["expires_at"]);
    let id = output["id"].as_str().unwrap();
    let listed = client.get("/v1/files").expect(200).json();
    assert_eq!(listed["files"].as_array().unwrap().len(), 2);
    assert_eq!(listed["files"][0]["id"], id);
    assert!(client.download(id).expect(200).body_text().contains("Out of a job"));
    for id in [&source, id] {
        let receipt = client.get(format!("/v1/receipts/{id}")).expect(200).json();
        assert_eq!((&receipt["state"], &receipt["handed_to"]), (&json!("live"), &json!(["text"])));
    }
    client.delete(format!("/v1/files/{id}")).expect(200);
    assert_eq!(show(&client, &job)["outputs"], json!([]), "what is gone is not shown");
    client.delete(format!("/v1/files/{source}")).expect(200);
    gateway.comes_to("dayfly_live_files", 0.0);
    assert_eq!(show(&client, &job)["state"], "succeeded");
}

#[test]
fn steps_can_be_asked_for_along_with_an_upload() {
    let setup = Setup::new().set("pipelines", "small", "[\"text\", \"compress\"]");
    let gateway = setup.start();
    let client = gateway.client();
    let made = client.post("/v1/files?steps=text&ttl=10m", b"by POST\n").expect(201).json();
    let ended = ends(&client, made["job"].as_str().unwrap(), "succeeded");
    assert_eq!(ended["sources"], json!([made["id"]]));
    let made = client.put("/v1/files/a.txt?steps=text%2Bchecksum", b"by PUT\n").expect(201).json();
    let ended = ends(&client, made["job"].as_str().unwrap(), "succeeded");
    assert_eq!(ended["steps"], json!(["text", "checksum"]));
    assert_eq!(ended["outputs"][0]["name"], "a.json");
    let made = client.put("/v1/files/?steps=text+checksum", b"by PUT\n").expect(201).json();
    assert_eq!(ends(&client, made["job"].as_str().unwrap(), "succeeded")["steps"], ended["steps"]);
    let form = Multipart::new().file("a.txt", b"one\n").file("b.txt", b"two\n").finish();
    let ask = client.ask("POST", "/v1/files?steps=small").body(&form);
    let made = ask.header("Content-Type", Multipart::CONTENT_TYPE).send().expect(201).json();
    let ended = ends(&client, made["job"].as_str().unwrap(), "succeeded");
    let names: Vec<&Value> =
        ended["outputs"].as_array().unwrap().iter().map(|file| &file["name"]).collect();
    assert_eq!(names, ["a.txt.gz", "b.txt.gz"]);
    let plain = client.post("/v1/files", b"no steps").expect(201).json();
    assert!(plain.get("job").is_none(), "{plain}");
    for (query, status, slug) in [
        ("?steps=nothing", 422, "unknown-step"),
        ("?steps=", 422, "unknown-step"),
        ("?steps=text&downloads=1", 422, "bad-downloads"),
    ] {
        client.post(format!("/v1/files{query}"), b"x").problem(status, slug);
    }
}

#[test]
fn a_repeated_order_is_the_same_job() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let source = client.upload("", b"once\n");
    let (first, other) = (on(&source, &["text"]), on(&source, &["checksum"]));
    let send = |order: &Value| {
        let order = order.to_string();
        let ask = client.ask("POST", "/v1/jobs").header("Idempotency-Key", "k1");
        ask.body(order.as_bytes()).send()
    };
    let job = send(&first).expect(202).text("id");
    ends(&client, &job, "succeeded");
    let again = send(&first).expect(202).json();
    assert_eq!((&again["id"], &again["state"]), (&json!(job), &json!("succeeded")));
    send(&other).problem(422, "idempotency-mismatch");
    assert_eq!(client.get("/v1/jobs").expect(200).json()["jobs"].as_array().unwrap().len(), 1);
    let upload = |body: &'static [u8]| {
        let ask = client.ask("POST", "/v1/files?steps=text").header("Idempotency-Key", "k2");
        ask.body(body).send()
    };
    let made = upload(b"twice\n").expect(201).json();
    assert_eq!(upload(b"twice\n").expect(201).json(), made);
    upload(b"other\n").problem(422, "idempotency-mismatch");
    // A refused order is no order: its key is free again.
    let ask = || client.ask("POST", "/v1/jobs").header("Idempotency-Key", "k3");
    ask().body(b"{}").send().problem(400, "bad-request");
    ask().body(first.to_string().as_bytes()).send().expect(202);
}

#[test]
fn what_cannot_be_ordered_is_refused_with_its_reason() {
    let setup = Setup::new().set("tenants.other", "processors", "[\"checksum\"]");
    let gateway = setup.with_webhooks().start();
    let (client, other) = (gateway.client(), gateway.client_of("other"));
    let file = client.upload("", b"x");
    let theirs = other.upload("", b"x");
    let counted = client.upload("?downloads=2", b"x");
    let gone = client.upload("", b"x");
    client.delete(format!("/v1/files/{gone}")).expect(200);
    let random = "file_aaaaaaaaaaaaaaaaaaaaaaaaaa";
    let with = |key: &str, value: Value| {
        let mut order = on(&file, &["text"]);
        order[key] = value;
        order
    };
    for (order, status, slug) in [
        (json!([]), 400, "bad-request"),
        (json!({ "steps": ["text"] }), 400, "bad-request"),
        (with("sources", json!([{ "file": file }])), 400, "bad-request"),
        (json!({ "sources": [], "steps": ["text"] }), 400, "bad-request"),
        (
            json!({ "sources": [{ "file": file }, { "file": file }], "steps": ["text"] }),
            400,
            "bad-request",
        ),
        (with("wat", json!(1)), 400, "bad-request"),
        (json!({ "source": {}, "steps": ["text"] }), 400, "bad-request"),
        (on(&file, &[]), 422, "unknown-step"),
        (on(&file, &["nothing"]), 422, "unknown-step"),
        (on(&file, &["text"; 9]), 422, "unknown-step"),
        (with("options", json!({ "text": { "wat": 1 } })), 422, "bad-option"),
        (with("options", json!({ "compress": { "level": 1 } })), 422, "bad-option"),
        (with("options", json!({ "text": { "format": [] } })), 422, "bad-option"),
        (with("ttl", json!("soon")), 422, "bad-ttl"),
        (with("ttl", json!("24h")), 422, "bad-ttl"),
        (with("region", json!("nowhere")), 422, "region-unavailable"),
        (with("region", json!("us-test-2")), 403, "not-permitted-by-policy"),
        (with("deliver", json!({ "connection": "conn_x" })), 404, "not-found"),
        (
            json!({ "source": { "connection": "conn_x", "item": "1" }, "steps": [] }),
            404,
            "not-found",
        ),
        (
            with("webhook", json!({ "url": "https://hooks.example/" })),
            403,
            "not-permitted-by-policy",
        ),
        (
            with("webhook", json!({ "url": "https://127.0.0.1.evil.example/" })),
            403,
            "not-permitted-by-policy",
        ),
        (with("webhook", json!({ "url": "http://localhost/" })), 403, "not-permitted-by-policy"),
        (with("webhook", json!({ "url": "https://a@127.0.0.1/" })), 400, "bad-request"),
        (with("webhook", json!({ "url": "ftp://127.0.0.1/" })), 400, "bad-request"),
        (on(random, &["text"]), 404, "not-found"),
        (on("report.pdf", &["text"]), 404, "not-found"),
        (on(&theirs, &["text"]), 404, "not-found"),
        (on(&gone, &["text"]), 410, "deleted"),
        (on(&counted, &["text"]), 422, "bad-downloads"),
    ] {
        client.post("/v1/jobs", order.to_string().as_bytes()).problem(status, slug);
    }
    assert_eq!(client.get("/v1/jobs").expect(200).json()["jobs"], json!([]));
    let denied = |order: &Value| other.post("/v1/jobs", order.to_string().as_bytes());
    denied(&on(&theirs, &["text"])).problem(403, "not-permitted-by-policy");
    let mut told = on(&theirs, &["checksum"]);
    told["webhook"] = json!({ "url": "http://127.0.0.1:1/" });
    denied(&told).problem(403, "not-permitted-by-policy");
    client.ask("POST", "/v1/jobs?steps=text").body(b"{}").send().problem(400, "unknown-parameter");
    for role in ["ops", "auditor", "owner"] {
        let asked = on(&file, &["text"]).to_string();
        gateway.client_of(role).post("/v1/jobs", asked.as_bytes()).problem(403, "forbidden");
    }
    let job = order(&client, &on(&file, &["text"]));
    for path in [format!("/v1/jobs/{job}"), format!("/v1/jobs/{job}/events")] {
        other.get(&path).problem(404, "not-found");
    }
    other.delete(format!("/v1/jobs/{job}")).problem(404, "not-found");
    client.get("/v1/jobs/job_aaaaaaaaaaaaaaaaaaaaaaaaaa").problem(404, "not-found");
}

#[test]
fn a_document_that_cannot_be_read_fails_its_job_with_the_reason() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let source = client.upload("", &noise(5000));
    let job = order(&client, &on(&source, &["text", "compress"]));
    let ended = ends(&client, &job, "failed");
    let problem = &ended["problem"];
    assert_eq!(problem["type"], "/problems/unsupported-media-type");
    assert_eq!((&problem["status"], &ended["outputs"]), (&json!(415), &json!([])));
    assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
    client.delete(format!("/v1/files/{source}")).expect(200);
    gateway.comes_to("dayfly_live_files", 0.0);
}

#[test]
fn several_steps_rest_sealed_between_them_and_leave_their_output_alone() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let text = long_text(3 << 20);
    let source = client.upload("?name=long.txt", &text);
    let mut asked = on(&source, &["text", "detect"]);
    let job = order(&client, &asked);
    assert_eq!(ends(&client, &job, "succeeded")["outputs"][0]["name"], "long.json");
    asked["steps"] = json!(["text", "text", "compress"]);
    asked["options"] = json!({ "compress": { "format": "zstd", "level": 1 } });
    let job = order(&client, &asked);
    let ended = ends(&client, &job, "succeeded");
    let output = &ended["outputs"][0];
    assert_eq!(output["name"], "long.txt.zst");
    let packed = client.download(output["id"].as_str().unwrap()).expect(200);
    let back = zstd::stream::decode_all(&packed.body[..]).unwrap();
    assert!(back.trim_ascii_end() == text.trim_ascii_end(), "{} bytes", back.len());
    // The source and two outputs; what rested between the steps is gone.
    gateway.comes_to("dayfly_live_files", 3.0);
    let status = || gateway.client_of("ops").get("/v1/status").expect(200).json();
    eventually("nothing else is stored", || (status()["counts"]["blobs"] == 3).then_some(()));
}

#[test]
fn a_source_is_consumed_by_success_and_by_nothing_else() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    for (body, state) in [(&b"a text\n"[..], "succeeded"), (&noise(5000), "failed")] {
        let source = client.upload("?downloads=1", body);
        let mut asked = on(&source, &["text"]);
        asked["consume"] = json!(true);
        let job = order(&client, &asked);
        ends(&client, &job, state);
        if state == "succeeded" {
            let gone = client.get(format!("/v1/files/{source}")).problem(410, "consumed").json();
            let receipt = client.get(gone["receipt"].as_str().unwrap()).expect(200).json();
            assert_eq!(receipt["reason"], "consumed");
            assert_eq!(receipt["handed_to"], json!(["text"]));
        } else {
            client.download(&source).expect(200).is_body(body);
        }
    }
}

#[test]
fn a_job_is_cancelled_in_every_state() {
    let gateway = Setup::new().set("limits", "workers", "1").start();
    let client = gateway.client();
    let source = client.upload("", &long_text(1 << 20));
    let frozen = Frozen::freeze(&gateway);
    let asked = on(&source, &["text", "checksum"]);
    let jobs = [0; 3].map(|_| order(&client, &asked));
    Events::follow(&client, &jobs[0]).reaches("running");
    let states = || jobs.each_ref().map(|job| show(&client, job)["state"].clone());
    assert_eq!(states(), ["running", "queued", "queued"]);
    let cancel = |job: &str| client.delete(format!("/v1/jobs/{job}")).expect(200).json();
    assert_eq!(cancel(&jobs[1])["state"], "cancelled");
    assert_eq!(cancel(&jobs[0])["state"], "cancelled");
    Events::follow(&client, &jobs[2]).reaches("running");
    drop(frozen);
    let ended = ends(&client, &jobs[2], "succeeded");
    let output = ended["outputs"][0]["id"].as_str().unwrap();
    for _ in 0..2 {
        let job = cancel(&jobs[2]);
        assert_eq!((&job["state"], &job["outputs"]), (&json!("succeeded"), &json!([])));
    }
    client.get(format!("/v1/files/{output}")).problem(410, "deleted");
    assert_eq!(states(), ["cancelled", "cancelled", "succeeded"]);
    gateway.comes_to("dayfly_live_files", 1.0);
    let listed = client.get("/v1/jobs?limit=2").expect(200).json();
    let ids = |page: &Value| -> Vec<String> {
        let jobs = page["jobs"].as_array().unwrap().iter();
        jobs.map(|job| job["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&listed), [jobs[2].clone(), jobs[1].clone()]);
    let cursor = listed["cursor"].as_str().unwrap();
    let rest = client.get(format!("/v1/jobs?limit=2&cursor={cursor}")).expect(200).json();
    assert_eq!((ids(&rest), &rest["cursor"]), (vec![jobs[0].clone()], &Value::Null));
    client.delete(format!("/v1/files/{source}")).expect(200);
}

#[test]
fn a_job_ends_with_its_source() {
    let gateway = Setup::new().set("limits", "workers", "1").start();
    let client = gateway.client();
    let (deleted, expiring) = (client.upload("", b"a\n"), client.upload("?ttl=2s", b"b\n"));
    let _frozen = Frozen::freeze(&gateway);
    let running = order(&client, &on(&deleted, &["text"]));
    Events::follow(&client, &running).reaches("running");
    let queued = order(&client, &on(&deleted, &["text"]));
    let expires = order(&client, &on(&expiring, &["text"]));
    client.delete(format!("/v1/files/{deleted}")).expect(200);
    for job in [running, queued] {
        let ended = ends(&client, &job, "failed");
        assert_eq!(ended["problem"]["type"], "/problems/deleted");
        assert_eq!(ended["problem"]["receipt"], format!("/v1/receipts/{deleted}"));
    }
    let ended = ends(&client, &expires, "expired");
    assert_eq!(ended["problem"], Value::Null);
    assert_eq!(show(&client, &expires)["state"], "expired", "it can still be asked for");
}

#[test]
fn a_worker_that_is_killed_fails_one_job() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let source = client.upload("", &long_text(48 << 20));
    let small = client.upload("", b"small\n");
    let job = order(&client, &on(&source, &["text"]));
    Events::follow(&client, &job).reaches("running");
    eventually("its worker reads", || {
        let seen = show(&client, &job)["progress"]["bytes_in"].as_u64();
        seen.filter(|seen| *seen > 0)
    });
    eventually("a worker is there to be killed", || kill_workers(&gateway).then_some(()));
    let ended = ends(&client, &job, "failed");
    assert_eq!(ended["problem"]["type"], "/problems/processor-limit");
    let next = order(&client, &on(&small, &["text"]));
    ends(&client, &next, "succeeded");
    client.delete(format!("/v1/files/{source}")).expect(200);
    gateway.comes_to("dayfly_live_files", 2.0);
}

#[test]
fn two_hundred_small_jobs_at_once_stay_inside_the_budget() {
    let gateway = Setup::new().set("limits", "memory", "\"16MiB\"").start();
    let client = gateway.client();
    let sources: Vec<String> =
        (0..200).map(|at| client.upload("", format!("number {at}\n").as_bytes())).collect();
    let before = gateway.metric("dayfly_budget_used_bytes");
    let begun = Instant::now();
    let jobs: Vec<String> = std::thread::scope(|scope| {
        let orders: Vec<_> = sources
            .chunks(25)
            .map(|part| {
                let client = client.clone();
                let ordered = move |file: &String| order(&client, &on(file, &["text", "checksum"]));
                scope.spawn(move || part.iter().map(ordered).collect::<Vec<_>>())
            })
            .collect();
        orders.into_iter().flat_map(|part| part.join().unwrap()).collect()
    });
    let mut most = before;
    eventually_within_budget(&gateway, &mut most);
    for job in &jobs {
        assert_eq!(show(&client, job)["state"], "succeeded");
    }
    assert!(most <= f64::from(16 << 20), "{most}");
    let took = begun.elapsed().as_millis();
    tell(&format!("200 jobs of two steps: {took} ms, {} KiB of 16 MiB", most as u64 >> 10));
}

/// Waits until no job waits or runs, looking at the budget all the while.
fn eventually_within_budget(gateway: &TestGateway, most: &mut f64) {
    let mut last = f64::MAX;
    while last > 0.0 {
        // Each round waits for some of them to end.
        let round = last;
        last = eventually("jobs end", || {
            *most = most.max(gateway.metric("dayfly_budget_used_bytes"));
            let left = gateway.metric("dayfly_jobs");
            (left < round).then_some(left)
        });
    }
}

#[test]
fn a_thousand_jobs_of_one_tenant_hardly_delay_anothers() {
    let gateway = Setup::new().set("limits", "workers", "1").start();
    let (many, one) = (gateway.client(), gateway.client_of("other"));
    let (theirs, own) = (many.upload("", b"many\n"), one.upload("", b"one\n"));
    let frozen = Frozen::freeze(&gateway);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..125 {
                    order(&many, &on(&theirs, &["text"]));
                }
            });
        }
    });
    let job = order(&one, &on(&own, &["text"]));
    drop(frozen);
    ends(&one, &job, "succeeded");
    let listed = many.get("/v1/jobs?limit=1000").expect(200).json();
    let jobs = listed["jobs"].as_array().unwrap();
    let ended = jobs.iter().filter(|job| job["state"] == "succeeded").count();
    tell(&format!("one tenant's single job came after {ended} of another's 1000 had ended"));
    assert_eq!(jobs.len(), 1000);
    // One was at work; the rest is what ended between the other's end and this look.
    assert!(ended < 50, "{ended} of 1000 came first");
    many.delete(format!("/v1/files/{theirs}")).expect(200);
    gateway.comes_to("dayfly_jobs", 0.0);
    assert_eq!(many.get("/v1/jobs?limit=1").expect(200).json()["jobs"][0]["state"], "failed");
}

#[test]
fn a_processing_request_takes_turns_with_the_jobs_of_others() {
    let gateway = Setup::new().set("limits", "workers", "1").start();
    let (many, one) = (gateway.client(), gateway.client_of("other"));
    let theirs = many.upload("", b"many\n");
    let frozen = Frozen::freeze(&gateway);
    let first = order(&many, &on(&theirs, &["text"]));
    Events::follow(&many, &first).reaches("running");
    for _ in 0..200 {
        order(&many, &on(&theirs, &["text"]));
    }
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| one.post("/v1/process/text", b"now\n").expect(200).body_text());
        // Its body rests, sealed: it stands in line.
        gateway.comes_to("dayfly_live_bytes", 5.0);
        let status = || gateway.client_of("ops").get("/v1/status").expect(200).json();
        eventually("its body has come", || (status()["counts"]["blobs"] == 2).then_some(()));
        drop(frozen);
        assert!(asked.join().unwrap().contains("now"));
    });
    let listed = many.get("/v1/jobs?limit=1000").expect(200).json();
    let jobs = listed["jobs"].as_array().unwrap();
    let ended = jobs.iter().filter(|job| job["state"] == "succeeded").count();
    assert!(ended < 50, "{ended} of 200 came first");
    many.delete(format!("/v1/files/{theirs}")).expect(200);
}

#[test]
fn jobs_are_cancelled_when_the_gateway_stops_and_its_drain_is_over() {
    let setup = Setup::new().set("limits", "workers", "1").set("limits", "drain", "\"2s\"");
    let mut gateway = setup.start();
    let client = gateway.client();
    let source = client.upload("", b"x\n");
    let frozen = Frozen::freeze(&gateway);
    let jobs = [0; 2].map(|_| order(&client, &on(&source, &["text"])));
    let mut events = jobs.each_ref().map(|job| Events::follow(&client, job));
    events[0].reaches("running");
    gateway.signal(Signal::TERM);
    for events in &mut events {
        assert_eq!(events.last()["state"], "cancelled");
    }
    gateway.ends_well();
    drop(frozen);
}

#[test]
fn a_stop_lets_running_jobs_end() {
    let mut gateway = Setup::new().set("limits", "workers", "1").start();
    let client = gateway.client();
    let source = client.upload("", b"x\n");
    let frozen = Frozen::freeze(&gateway);
    let job = order(&client, &on(&source, &["text"]));
    let mut events = Events::follow(&client, &job);
    events.reaches("running");
    let start = Instant::now();
    gateway.signal(Signal::TERM);
    drop(frozen);
    assert_eq!(events.last()["state"], "succeeded");
    gateway.ends_well();
    assert!(start.elapsed().as_secs() < 20, "{:?} of a drain of 30 s", start.elapsed());
}

#[test]
fn a_draining_gateway_takes_no_job_and_waits_for_those_it_has() {
    let mut gateway = Setup::new().set("limits", "workers", "1").start();
    let client = gateway.client();
    let source = client.upload("?ttl=1h", b"x\n");
    let frozen = Frozen::freeze(&gateway);
    let mut asked = on(&source, &["text"]);
    asked["consume"] = json!(true);
    let job = order(&client, &asked);
    let mut events = Events::follow(&client, &job);
    events.reaches("running");
    gateway.signal(Signal::USR1);
    let refused = || client.post("/v1/jobs", asked.to_string().as_bytes());
    eventually("no job is taken any more", || (refused().status == 503).then_some(()));
    drop(frozen);
    let ended = events.last();
    assert_eq!(ended["state"], "succeeded");
    let output = ended["outputs"][0]["id"].as_str().unwrap();
    client.delete(format!("/v1/files/{output}")).expect(200);
    gateway.ends_well();
}

#[test]
fn numbers_of_jobs_are_there_from_the_start() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let page = gateway.operator().get("/metrics").expect(200).body_text();
    for line in [
        "dayfly_jobs{state=\"queued\"} 0",
        "dayfly_jobs{state=\"running\"} 0",
        "dayfly_jobs_ended_total{state=\"succeeded\"} 0",
        "dayfly_jobs_ended_total{state=\"failed\"} 0",
        "dayfly_jobs_ended_total{state=\"cancelled\"} 0",
        "dayfly_jobs_ended_total{state=\"expired\"} 0",
        "dayfly_webhooks_total{outcome=\"delivered\"} 0",
        "dayfly_webhooks_total{outcome=\"failed\"} 0",
    ] {
        assert!(page.contains(line), "{line} in\n{page}");
    }
    let source = client.upload("", b"x\n");
    let job = order(&client, &on(&source, &["text"]));
    ends(&client, &job, "succeeded");
    gateway.comes_to("dayfly_jobs_ended_total", 1.0);
    gateway.comes_to("dayfly_jobs", 0.0);
}
