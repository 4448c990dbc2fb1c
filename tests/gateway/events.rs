//! Events: every state of every job, in order, however often a reader leaves and comes back.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::{Client, Events, Frozen, Receiver, Sent, Setup, TestGateway, tell};

#[track_caller]
fn order(client: &Client, order: &Value) -> String {
    client.post("/v1/jobs", order.to_string().as_bytes()).expect(202).text("id")
}

/// Follows a job to its end, leaving after every event and coming back; the states, in order.
fn states_across_reconnects(client: &Client, job: &str) -> Vec<String> {
    let (mut states, mut last) = (Vec::new(), None);
    while let Some(mut events) = Events::try_follow(client, job, last) {
        let (topic, id, data) = events.next_event().expect("a stream that begins has an event");
        assert!(last < Some(id), "event {id} came after {last:?}");
        assert_eq!(data["id"], job);
        last = Some(id);
        if topic == "state" {
            states.push(data["state"].as_str().unwrap().to_owned());
        } else {
            assert_eq!((topic.as_str(), &data["state"]), ("progress", &json!("running")));
        }
    }
    states
}

#[test]
fn every_state_of_five_hundred_jobs_is_seen_in_order_across_reconnects() {
    let gateway = Setup::new().with_webhooks().start();
    let client = gateway.client();
    let receiver = Receiver::start();
    let good = client.upload("", b"a text\n");
    let bad = client.upload("", &[0; 500]);
    let frozen = Frozen::freeze(&gateway);
    let asked = |at: usize| {
        let file = if at.is_multiple_of(5) { &bad } else { &good };
        let mut order = json!({ "source": { "file": file }, "steps": ["text", "checksum"] });
        if let Some(receiver) = &receiver {
            order["webhook"] = json!({ "url": receiver.url("/ok") });
        }
        order
    };
    let jobs: Vec<String> = (0..500).map(|at| order(&client, &asked(at))).collect();
    // Some never get their turn.
    for job in jobs.iter().skip(10).step_by(10) {
        client.delete(format!("/v1/jobs/{job}")).expect(200);
    }
    drop(frozen);
    let seen: BTreeMap<&str, Vec<String>> = std::thread::scope(|scope| {
        let readers: Vec<_> = jobs
            .chunks(63)
            .map(|part| {
                let client = client.clone();
                let follow = move |job: &'_ String| states_across_reconnects(&client, job.as_str());
                scope.spawn(move || {
                    part.iter().map(|job| (job.as_str(), follow(job))).collect::<Vec<_>>()
                })
            })
            .collect();
        readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect()
    });
    let mut ends = BTreeMap::<&str, usize>::new();
    for (at, job) in jobs.iter().enumerate() {
        let cancelled = at >= 10 && at.is_multiple_of(10);
        let end = match at {
            _ if cancelled => "cancelled",
            _ if at.is_multiple_of(5) => "failed",
            _ => "succeeded",
        };
        let due: &[&str] =
            if cancelled { &["queued", "cancelled"] } else { &["queued", "running", end] };
        assert_eq!(seen[job.as_str()], due, "job {at}");
        *ends.entry(end).or_default() += 1;
        if let Some(receiver) = &receiver {
            let heard = receiver.hears_of(job, 1);
            assert_eq!(heard.len(), 1, "once heard, not told again");
            assert_eq!(heard[0]["verified"], true, "{}", heard[0]);
            assert_eq!(heard[0]["body"]["type"], format!("job.{end}"));
        }
    }
    tell(&format!("500 jobs, each reader gone after every event: {ends:?}"));
}

#[test]
fn a_late_reader_is_told_everything_and_one_who_has_read_it_all_nothing() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let file = client.upload("", b"a text\n");
    let job = order(&client, &json!({ "source": { "file": file }, "steps": ["text"] }));
    let mut events = Events::follow(&client, &job);
    let mut all = Vec::new();
    while let Some(event) = events.next_event() {
        all.push(event);
    }
    let ids: Vec<u64> = all.iter().map(|(_, id, _)| *id).collect();
    assert_eq!(ids, (1..=ids.len() as u64).collect::<Vec<_>>(), "a counter");
    assert_eq!(all.last().unwrap().2["outputs"].as_array().unwrap().len(), 1);
    let mut again = Events::follow(&client, &job);
    for event in &all {
        assert_eq!(again.next_event().as_ref(), Some(event));
    }
    assert_eq!(again.next_event(), None);
    let mut rest = Events::try_follow(&client, &job, Some(2)).unwrap();
    assert_eq!(rest.next_event().as_ref(), Some(&all[2]));
    for after in [ids.len() as u64, 1 << 40] {
        assert!(Events::try_follow(&client, &job, Some(after)).is_none(), "204");
    }
    let wrong = client.ask("GET", format!("/v1/jobs/{job}/events"));
    wrong.header("Last-Event-ID", "-1").send().problem(400, "bad-request");
}

#[test]
fn a_quiet_job_is_shown_to_be_alive() {
    let gateway = Setup::new().set("limits", "workers", "1").start();
    let client = gateway.client();
    let file = client.upload("", b"a text\n");
    let frozen = Frozen::freeze(&gateway);
    let job = order(&client, &json!({ "source": { "file": file }, "steps": ["text"] }));
    let mut events = Events::follow(&client, &job);
    events.reaches("running");
    // A heartbeat is due after 15 s of silence, whatever was said before.
    let comment = std::iter::from_fn(|| events.next_sent()).find_map(|sent| match sent {
        Sent::Comment(text) => Some(text),
        Sent::Event { .. } => None,
    });
    assert_eq!(comment.as_deref(), Some("alive"));
    drop(frozen);
    assert_eq!(events.last()["state"], "succeeded");
}

#[test]
fn a_reader_that_does_not_read_delays_nobody() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let file = client.upload("", b"a text\n");
    let frozen = Frozen::freeze(&gateway);
    let job = order(&client, &json!({ "source": { "file": file }, "steps": ["text"] }));
    let asked = || client.ask("GET", format!("/v1/jobs/{job}/events"));
    let mut idle: Vec<_> = (0..50).map(|_| asked().begin_narrow()).collect();
    for reader in &mut idle {
        assert_eq!(reader.head().status, 200);
    }
    drop(frozen);
    assert_eq!(Events::follow(&client, &job).last()["state"], "succeeded");
    client.delete(format!("/v1/jobs/{job}")).expect(200);
    client.delete(format!("/v1/files/{file}")).expect(200);
    gateway.comes_to("dayfly_live_files", 0.0);
}
