//! kill −9 under load: what was answered is known, and the log only ever grows.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Log, State, judged, proof};
use crate::harness::{TestGateway, Wire, eventually, is_long_tier, key_of, skip};

/// What was answered before the kill.
#[derive(Default)]
struct Answered {
    accepted: Vec<String>,
    deleted: Vec<String>,
}

/// Uploads and deletes until the gateway is gone; tells only what was answered.
fn work(gateway: &TestGateway, answered: &Mutex<Answered>, stop: &AtomicBool) {
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        let Some(id) = ask(gateway, "POST", "/v1/files?ttl=1h", "\"id\":\"") else { return };
        answered.lock().unwrap().accepted.push(id.clone());
        if round % 2 == 0 {
            let path = format!("/v1/files/{id}");
            let Some(_) = ask(gateway, "DELETE", &path, "\"id\":\"") else { return };
            answered.lock().unwrap().deleted.push(id);
        }
    }
}

/// The id in an answer that came whole.
fn ask(gateway: &TestGateway, method: &str, path: &str, before: &str) -> Option<String> {
    let mut wire = Wire::try_open(gateway.public).ok()?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Content-Length: 1\r\n\r\nx",
        key_of("acme")
    );
    wire.send(head.as_bytes()).ok()?;
    let head = wire.try_head().filter(|head| head.status < 300)?;
    let body = wire.body(&head);
    let text = String::from_utf8(body.bytes).ok().filter(|_| body.whole)?;
    let id = text.split(before).nth(1)?.split('"').next()?;
    Some(id.to_owned())
}

#[test]
fn a_kill_under_load_loses_no_answer_and_forks_no_log() {
    let kills = if is_long_tier() { 40 } else { 4 };
    let state = State::new();
    let mut gateway = state.setup().start();
    let mut logs = vec![Log::read(&gateway.client())];
    let mut ended: Vec<(String, &str)> = Vec::new();
    for kill in 0..kills {
        let (answered, stop) = (Mutex::new(Answered::default()), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| work(&gateway, &answered, &stop));
            }
            // Each time somewhat further on.
            let enough = 5 + kill * 7;
            eventually("there is something to lose", || {
                (answered.lock().unwrap().accepted.len() >= enough).then_some(())
            });
            let pid = rustix::process::Pid::from_raw(gateway.process() as i32).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            stop.store(true, Ordering::Relaxed);
        });
        gateway.kill();
        gateway = state.setup().start();
        let client = gateway.client();
        let Answered { accepted, deleted } = answered.into_inner().unwrap();
        for id in &accepted {
            // A delete that was not answered may have happened all the same.
            let gone = client.get(format!("/v1/files/{id}")).expect(410).json();
            let slug = gone["type"].as_str().unwrap().rsplit('/').next().unwrap();
            if deleted.contains(id) {
                assert_eq!(slug, "deleted", "{id} was answered");
            }
            assert!(slug == "deleted" || slug == "key-lost", "{slug}");
            ended.push((id.clone(), if slug == "deleted" { "deleted" } else { "key-lost" }));
        }
        logs.push(Log::read(&client));
    }
    // Asked in the end, when everything is logged.
    gateway.signal(rustix::process::Signal::TERM);
    gateway.ends_well();
    let gateway = state.setup().start();
    let client = gateway.client();
    let last = Log::read(&client);
    for log in &logs {
        assert!(log.size <= last.size && last.root_at(log.size) == log.root, "the log forked");
    }
    assert_eq!(gateway.metric("dayfly_overdue_deletions"), 0.0);
    let (accepted, destroyed) = (last.kinds()[1], last.kinds()[2] + last.kinds()[4]);
    assert_eq!(accepted, destroyed, "every acceptance has its destruction");
    assert!(accepted >= ended.len());
    let key = state.paper("key", client.get("/log/key").expect(200).body_text().as_bytes());
    for (id, reason) in ended.iter().step_by(ended.len().div_ceil(20)) {
        let receipt = client.get(format!("/v1/receipts/{id}")).expect(200).json();
        assert_eq!(receipt["reason"], *reason, "{receipt}");
        assert_eq!(receipt["last_seen_alive"].is_string(), *reason == "key-lost");
        let paper = state.paper("proof", proof(&client, id).as_bytes());
        assert_eq!(judged(&paper, Some(&key)), 0, "{id}");
    }
    if kills < 40 {
        skip(&format!("{kills} of 40 kills under load; all of them: DAYFLY_TIER=long"));
    }
}
