//! The walls around workers, as an operator meets them: tried at start, refused if missing.

use std::process::{Command, Stdio};

use crate::harness::{Setup, TestGateway, run, skip};

const WALLS: [&str; 3] = ["no_landlock", "no_seccomp", "no_namespaces"];

#[test]
fn check_says_which_walls_hold_here() {
    let said = run(&["check"]).stdout;
    for wall in WALLS {
        let line = said.lines().find(|line| line.contains(wall)).expect(wall);
        assert!(line.starts_with("ok ") || line.starts_with("accepted "), "{line}");
    }
}

#[test]
fn receipts_and_status_name_only_the_walls_that_are_missing() {
    let setup = WALLS.iter().fold(Setup::new(), |setup, wall| setup.set("accept", wall, "true"));
    let gateway = setup.start();
    let said = run(&["check"]).stdout;
    let missing =
        |wall: &str| said.lines().any(|line| line.contains(wall) && line.starts_with("accepted "));
    let status = gateway.client_of("ops").get("/v1/status").expect(200).json();
    let id = gateway.client().upload("", b"x");
    let receipt = gateway.client().get(format!("/v1/receipts/{id}")).expect(200).json();
    for wall in WALLS {
        for named in [&status["accepted_limits"], &receipt["accepted_limits"]] {
            let named = named.as_array().unwrap().iter().any(|limit| limit == wall);
            assert_eq!(named, missing(wall), "{wall}");
        }
    }
}

/// `dayfly <words>` where no user namespace can be made, as in most containers.
fn without_namespaces(words: &[&str]) -> Option<std::process::Output> {
    let mut command = Command::new("bwrap");
    command.args(["--dev-bind", "/", "/", "--unshare-user", "--disable-userns", "--"]);
    let command = command.arg(env!("CARGO_BIN_EXE_dayfly")).args(words);
    let ran = command.env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null()).output();
    match ran {
        Ok(ran) if !String::from_utf8_lossy(&ran.stderr).contains("bwrap:") => Some(ran),
        ran => {
            skip(&format!("a place without namespaces: {ran:?}"));
            None
        }
    }
}

#[test]
fn a_missing_wall_is_a_refusal_unless_it_is_accepted_by_name() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = dir.path().join("dayfly.toml");
    let config = ["check", "--config", path.to_str().unwrap()];
    let setup = || Setup::new().set("vault", "store", "\"memory\"").without("vault.local");
    std::fs::write(&path, setup().set("accept", "no_namespaces", "false").toml()).unwrap();
    let Some(refused) = without_namespaces(&config) else { return };
    let said = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert_eq!(refused.status.code(), Some(78), "{said}");
    let line = said.lines().find(|line| line.starts_with("REFUSED   no_namespaces")).expect(&said);
    assert!(line.contains("accept.no_namespaces"), "{line}");
    let served = without_namespaces(&["serve", config[1], config[2]]).unwrap();
    assert_eq!(served.status.code(), Some(78));
    std::fs::write(&path, setup().set("accept", "no_namespaces", "true").toml()).unwrap();
    let accepted = without_namespaces(&config).unwrap();
    let said = String::from_utf8_lossy(&accepted.stdout).into_owned();
    assert_eq!(accepted.status.code(), Some(0), "{said}");
    assert!(said.lines().any(|line| line.starts_with("accepted  no_namespaces")), "{said}");
    // Programs need namespaces: naming one here is a refusal, and the words say which.
    let exec = setup().set("accept", "no_namespaces", "true");
    let exec = exec.set("processors.own", "kind", "\"exec\"");
    let exec = exec.set("processors.own", "command", "[\"cat\"]");
    std::fs::write(&path, exec.toml()).unwrap();
    let refused = without_namespaces(&config).unwrap();
    let said = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert_eq!(refused.status.code(), Some(78), "{said}");
    assert!(said.contains("REFUSED   programs") && said.contains("processors.own"), "{said}");
}

#[test]
fn two_hundred_at_once_stay_inside_the_memory_budget() {
    let gateway = Setup::new().set("limits", "memory", "\"32MiB\"").start();
    let text = "some words of a document. ".repeat(2000).into_bytes();
    let over = std::sync::atomic::AtomicBool::new(false);
    let answers: Vec<u16> = std::thread::scope(|scope| {
        let ask = || gateway.client().post("/v1/process/text", &text).status;
        let asking: Vec<_> = (0..200).map(|_| scope.spawn(ask)).collect();
        while asking.iter().any(|asking| !asking.is_finished()) {
            let used = gateway.metric("dayfly_budget_used_bytes");
            over.fetch_or(used > f64::from(32 << 20), std::sync::atomic::Ordering::Relaxed);
        }
        asking.into_iter().map(|asking| asking.join().unwrap()).collect()
    });
    let count = |wanted: u16| answers.iter().filter(|status| **status == wanted).count();
    assert_eq!(count(200) + count(503), 200, "{answers:?}");
    assert!(count(200) > 0 && !over.into_inner(), "{answers:?}");
    crate::harness::tell(&format!(
        "200 documents at once: {} read, {} told to wait",
        count(200),
        count(503)
    ));
    gateway.is_empty_again();
}

#[test]
fn a_worker_is_gone_when_its_request_is_and_none_is_used_twice() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    for n in 0..20 {
        let text = client.post("/v1/process/text", format!("number {n}\n").as_bytes());
        assert_eq!(text.expect(200).body_text(), format!("number {n}\n"));
    }
    gateway.comes_to("dayfly_workers_running", 0.0);
    gateway.is_empty_again();
}
