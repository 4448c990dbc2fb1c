//! Webhooks: signed, to exact hosts, tried again until they are heard or the deadline comes.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::harness::{Client, Events, Frozen, Receiver, Setup, eventually};

/// Orders a job that tells of its end.
#[track_caller]
fn order(client: &Client, file: &str, url: &str, ttl: Option<&str>) -> String {
    let mut order = json!({ "source": { "file": file }, "steps": ["text"],
        "webhook": { "url": url } });
    if let Some(ttl) = ttl {
        order["ttl"] = json!(ttl);
    }
    client.post("/v1/jobs", order.to_string().as_bytes()).expect(202).text("id")
}

#[test]
fn every_end_is_told_with_a_signature_that_applications_verify() {
    let Some(receiver) = Receiver::start() else { return };
    let gateway = Setup::new().with_webhooks().set("limits", "workers", "1").start();
    let client = gateway.client();
    let (good, bad) = (client.upload("", b"a text\n"), client.upload("", &[0; 500]));
    let url = receiver.url("/ok/path/?with=query&and=more");
    let succeeded = order(&client, &good, &url, None);
    let failed = order(&client, &bad, &url, None);
    for job in [&succeeded, &failed] {
        Events::follow(&client, job).last();
    }
    let frozen = Frozen::freeze(&gateway);
    let cancelled = order(&client, &good, &url, None);
    let expired = order(&client, &good, &url, Some("2s"));
    Events::follow(&client, &cancelled).reaches("running");
    assert_eq!(Events::follow(&client, &expired).last()["state"], "expired");
    client.delete(format!("/v1/jobs/{cancelled}")).expect(200);
    let ends = [
        (succeeded, "succeeded"),
        (failed, "failed"),
        (cancelled, "cancelled"),
        (expired, "expired"),
    ];
    for (job, state) in ends {
        let heard = receiver.hears_of(&job, 1);
        let [one] = heard.as_slice() else { panic!("{heard:?}") };
        assert_eq!(one["verified"], true, "{one}");
        assert_eq!(
            (&one["type"], one["path"].as_str()),
            (&json!("application/json"), url.get(url.find("/ok").unwrap()..))
        );
        let body = &one["body"];
        assert_eq!(body["type"], format!("job.{state}"));
        assert_eq!(body["data"], json!({ "id": job, "state": state }));
        assert!(body["timestamp"].as_str().unwrap().ends_with('Z'), "{body}");
        assert_eq!(body.as_object().unwrap().len(), 3, "nothing else is told: {body}");
        assert!(one["id"].as_str().unwrap().starts_with("msg_"), "{one}");
    }
    drop(frozen);
    gateway.comes_to("dayfly_webhooks_total", 4.0);
}

#[test]
fn a_receiver_that_is_busy_is_told_again_under_the_same_id() {
    let Some(receiver) = Receiver::start() else { return };
    let gateway = Setup::new().with_webhooks().start();
    let client = gateway.client();
    let file = client.upload("", b"a text\n");
    let job = order(&client, &file, &receiver.url("/busy"), None);
    let heard = receiver.hears_of(&job, 3);
    assert_eq!(heard.len(), 3, "503, 503, 204");
    assert!(heard.iter().all(|one| one["verified"] == true && one["id"] == heard[0]["id"]));
    assert!(heard.iter().all(|one| one["body"] == heard[0]["body"]));
    let at = |one: &Value| one["timestamp"].as_str().unwrap().parse::<u64>().unwrap();
    assert!(at(&heard[2]) > at(&heard[0]), "each try has its own time");
    let page = gateway.operator().get("/metrics").expect(200).body_text();
    assert!(page.contains("dayfly_webhooks_total{outcome=\"failed\"} 2"), "{page}");
}

#[test]
fn tries_end_with_the_deadline_and_where_nothing_is_wanted() {
    let Some(receiver) = Receiver::start() else { return };
    let gateway = Setup::new().with_webhooks().start();
    let client = gateway.client();
    let file = client.upload("", b"a text\n");
    let never = order(&client, &file, &receiver.url("/never"), Some("3s"));
    let gone = order(&client, &file, &receiver.url("/gone"), None);
    let moved = order(&client, &file, &receiver.url("/moved"), Some("3s"));
    let abandoned = || {
        let page = gateway.operator().get("/metrics").expect(200).body_text();
        page.contains("dayfly_webhooks_total{outcome=\"abandoned\"} 2").then_some(())
    };
    eventually("two messages are given up", abandoned);
    assert!(receiver.heard_of(&never).len() >= 2);
    assert_eq!(receiver.heard_of(&gone).len(), 1, "410 means that no more are wanted");
    let heard = receiver.heard_of(&moved);
    assert!(heard.len() >= 2 && heard.iter().all(|one| one["path"] == "/moved"), "{heard:?}");
}

#[test]
fn a_name_that_leads_inside_is_not_connected_to() {
    let gateway = Setup::new().with_webhooks().start();
    let client = gateway.client();
    let inside = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = inside.local_addr().unwrap().port();
    let file = client.upload("", b"a text\n");
    order(&client, &file, &format!("https://localhost:{port}/"), Some("2s"));
    let abandoned = || {
        let page = gateway.operator().get("/metrics").expect(200).body_text();
        page.contains("dayfly_webhooks_total{outcome=\"abandoned\"} 1").then_some(())
    };
    eventually("the message is given up", abandoned);
    inside.set_nonblocking(true).unwrap();
    assert!(inside.accept().is_err(), "somebody knocked on a private address");
}

#[test]
fn a_stop_does_not_wait_for_a_receiver_that_never_hears() {
    let Some(receiver) = Receiver::start() else { return };
    let gateway = Setup::new().with_webhooks().start();
    let client = gateway.client();
    let file = client.upload("", b"a text\n");
    let job = order(&client, &file, &receiver.url("/never"), None);
    receiver.hears_of(&job, 1);
    let start = std::time::Instant::now();
    drop(gateway);
    assert!(start.elapsed().as_secs() < 15, "{:?} to stop", start.elapsed());
}
