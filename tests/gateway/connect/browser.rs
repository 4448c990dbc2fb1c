//! A real browser goes all the way: agrees, refuses, is told off, confirms, disconnects.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{Begun, Scene};
use crate::cloud::Kind;
use crate::harness::{skip, tell};

/// What the browser's script needs: Node, its library, and a Chromium.
fn tools() -> Option<(String, String)> {
    let root = env!("CARGO_MANIFEST_DIR");
    let library = std::env::var("DAYFLY_PLAYWRIGHT")
        .unwrap_or_else(|_| format!("{root}/target/browser/node_modules/playwright-core"));
    let chromium = std::env::var("DAYFLY_CHROMIUM").unwrap_or_else(|_| "chromium".to_owned());
    let runs = |program: &str| {
        let asked = Command::new(program).arg("--version").output();
        asked.is_ok_and(|asked| asked.status.success())
    };
    if !Path::new(&library).exists() || !runs("node") || !runs(&chromium) {
        skip("the browser's way to a connection: tests/run installs Chromium and playwright-core");
        return None;
    }
    Some((library, chromium))
}

/// The script, which does one thing for each line that it is given.
struct Browser {
    child: std::process::Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Browser {
    fn start((library, chromium): &(String, String)) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gateway/connect/browser.mjs");
        let mut child = Command::new("node")
            .arg(script)
            .env("DAYFLY_PLAYWRIGHT", library)
            .env("DAYFLY_CHROMIUM", chromium)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self { child, answers }
    }

    /// One step; what the browser then sees.
    #[track_caller]
    fn does(&mut self, step: &Value) -> Value {
        let pipe = self.child.stdin.as_mut().unwrap();
        writeln!(pipe, "{step}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let seen: Value = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("{step}: the browser ended: {line}"));
        assert_eq!(seen["error"], Value::Null, "{step}: {seen}");
        seen
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn has(seen: &Value, words: &str) -> bool {
    seen["text"].as_str().unwrap_or_default().contains(words)
}

/// Where pictures of the pages go, if somebody wants to look at them.
fn picture(name: &str) -> Value {
    match std::env::var("DAYFLY_PICTURES") {
        Ok(place) => json!(format!("{place}/{name}")),
        Err(_) => Value::Null,
    }
}

#[test]
fn a_browser_goes_through_consent_with_both_services() {
    let Some(tools) = tools() else { return };
    // Nobody answers there; the browser's own error page is as good as the app.
    let app = "http://127.0.0.1:9/back";
    let scene =
        Scene::with(|setup| setup.set("tenants.acme", "return_to", "[\"http://127.0.0.1:9\"]"));
    let mut browser = Browser::start(&tools);
    let start = std::time::Instant::now();
    for kind in Kind::BOTH {
        let name = kind.name();
        let more = json!({"return_to": app});
        // Refuses.
        let refused = scene.begin(kind, &more);
        browser.does(&json!({"open": refused.url, "picture": picture(&format!("{name}-ask"))}));
        let seen = browser.does(&json!({"press": "No, do not connect"}));
        assert!(has(&seen, "You said no"), "{seen}");
        assert_eq!(scene.failure(&refused.id), "access-denied");
        // Refuses at the service.
        let denied = scene.begin(kind, &more);
        browser.does(&json!({"open": denied.url}));
        browser.does(&json!({"press": "Agree and go to"}));
        let seen =
            browser.does(&json!({"press": "Deny", "picture": picture(&format!("{name}-denied"))}));
        assert!(has(&seen, "You said no"), "{seen}");
        assert_eq!(scene.failure(&denied.id), "access-denied");
        // Agrees, confirms.
        let Begun { id, url } = scene.begin(kind, &more);
        let seen = browser.does(&json!({"open": url}));
        assert!(has(&seen, "Acme") && seen["errors"] == json!([]), "{seen}");
        let seen = browser.does(&json!({"press": "Agree and go to"}));
        assert!(seen["url"].as_str().unwrap().starts_with(&scene.cloud(kind).url()), "{seen}");
        let seen = browser
            .does(&json!({"press": "Allow", "picture": picture(&format!("{name}-account"))}));
        assert!(has(&seen, "ada@mail.example"), "{seen}");
        let at = seen["url"].as_str().unwrap();
        assert!(at.ends_with("/account") && !at.contains('?'), "{at}");
        let code = super::query(seen["onward"].as_str().unwrap())["code"].clone();
        scene.confirm(&id, &json!({"code": code})).expect(200);
        scene.items(&id, "").expect(200);
        let seen =
            browser.does(&json!({"again": true, "picture": picture(&format!("{name}-done"))}));
        assert!(has(&seen, "Connected"), "{seen}");
        // A stranger's link, in a browser that is not the first.
        let seen = browser.does(&json!({
            "stranger": url, "picture": picture(&format!("{name}-stranger"))
        }));
        assert!(has(&seen, "belongs to another browser") && seen["status"] == 410, "{seen}");
        // Not them after all: disconnects.
        let mine = scene.begin(kind, &json!({"return_to": null}));
        browser.does(&json!({"open": mine.url}));
        browser.does(&json!({"press": "Agree and go to"}));
        let seen =
            browser.does(&json!({"press": "Allow", "picture": picture(&format!("{name}-code"))}));
        assert!(has(&seen, "Not you?"), "{seen}");
        let seen = browser
            .does(&json!({"press": "Disconnect", "picture": picture(&format!("{name}-ended"))}));
        assert!(has(&seen, "Disconnected"), "{seen}");
        assert_eq!(scene.state(&mine.id), "revoked");
        scene.delete(&id).expect(200);
    }
    let seen = browser.does(&json!({"open": format!("http://{}/oauth/callback/dropbox?state=a&code=b", scene.gateway.public), "picture": picture("lost")}));
    assert!(has(&seen, "cannot be followed"), "{seen}");
    for kind in Kind::BOTH {
        let own = scene.cloud(kind).url();
        let requests = scene.cloud(kind).requests();
        let from = requests.iter().filter_map(|request| request.header("referer"));
        let ours: Vec<_> = from.filter(|from| !from.starts_with(&own)).collect();
        assert!(ours.is_empty(), "a page's address went along: {ours:?}");
    }
    tell(&format!("a browser's two ways to a connection took {:?}", start.elapsed()));
}
