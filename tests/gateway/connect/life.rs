//! A connection's whole life, step by step, with both services.

use serde_json::json;

use super::{APP, Begun, Scene, query};
use crate::cloud::{Answer as Decision, Cloud, Kind, Part, forms, links};
use crate::harness::{eventually, key_of};

#[test]
fn from_the_question_to_the_end() {
    let scene = Scene::start();
    for kind in Kind::BOTH {
        // Under five minutes no deadline key is shared, so that the count below comes to zero.
        let Begun { id, url } = scene.begin(kind, &json!({"ttl": "4m"}));
        assert!(id.starts_with("conn_") && id.len() == 31, "{id}");
        assert_eq!(scene.state(&id), "pending");
        scene.items(&id, "").problem(409, "connection-not-active");

        let mut person = scene.person();
        let page = person.open(&url).expect(200);
        let text = page.body_text();
        let first = text.split("<main").nth(1).unwrap();
        assert!(
            first.find("Acme (app.acme.example)") < first.find("<h1>"),
            "who asks comes first: {first}"
        );
        let cookie = page.header("set-cookie").unwrap();
        for part in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age="] {
            assert!(cookie.contains(part), "{cookie}");
        }
        let forms = forms(&text);
        assert_eq!(forms.len(), 2, "agree, refuse");
        let sent = person.submit(&forms[0]).expect(303);
        let sent = sent.header("location").unwrap().to_owned();
        asks_for_the_least(&scene, kind, &sent);

        let back = scene.cloud(kind).decide(&sent, &Decision::allow());
        let clean = person.open(&back).expect(303);
        let clean = clean.header("location").unwrap().to_owned();
        assert!(!clean.contains('?') && !clean.contains(&query(&back)["code"]), "{clean}");
        assert_eq!(scene.state(&id), "consented");
        scene.items(&id, "").problem(409, "connection-not-active");
        assert!(scene.show(&id)["account"].is_null(), "not before it is confirmed");

        let text = person.open(&clean).expect(200).body_text();
        assert!(text.contains("Ada Example") && text.contains("ada@mail.example"), "{text}");
        assert!(super::forms(&text)[0].action.ends_with("/disconnect"));
        let onward = links(&text).into_iter().find(|link| link.starts_with(APP)).unwrap();
        assert!(onward.starts_with("https://app.acme.example/back?a=1&connection=conn_"));
        assert_eq!(query(&onward)["connection"], id);

        let code = query(&onward)["code"].clone();
        let confirmed = scene.confirm(&id, &json!({"code": code})).expect(200).json();
        assert_eq!(confirmed["state"], "active", "{confirmed}");
        assert_eq!(confirmed["account"], "Ada Example (ada@mail.example)");
        assert!(!scene.items(&id, "").expect(200).json()["items"].as_array().unwrap().is_empty());
        assert_eq!(scene.cloud(kind).tokens().len(), 1, "no refresh token");

        let ended = scene.delete(&id).expect(200).json();
        assert_eq!(ended["state"], "revoked");
        assert_eq!(ended["provider_revocation"], "done");
        assert_eq!(scene.cloud(kind).tokens(), [""; 0], "the token is dead there");
        assert_eq!(scene.delete(&id).expect(200).json(), ended, "again, the same");
        scene.items(&id, "").problem(410, "connection-revoked");
        assert_eq!(scene.state(&id), "revoked");
        person.open(&clean).expect(200);
    }
    scene.gateway.comes_to("dayfly_keyring_slots_used", 0.0);
}

/// Code, PKCE by S256, a state of its own, an exact address, and no more than is needed.
#[track_caller]
fn asks_for_the_least(scene: &Scene, kind: Kind, sent: &str) {
    let asked = Cloud::asked(sent);
    let public = scene.gateway.public;
    assert_eq!(asked["response_type"], "code");
    assert_eq!(asked["code_challenge_method"], "S256");
    assert_eq!(asked["code_challenge"].len(), 43);
    assert!(asked["state"].len() >= 26 && asked["state"].len() <= 500);
    let callback = format!("http://{public}/oauth/callback/{}", kind.name());
    assert_eq!(asked["redirect_uri"], callback);
    assert!(!asked.contains_key("include_granted_scopes"));
    match kind {
        Kind::Dropbox => {
            assert_eq!(asked["scope"], "account_info.read files.content.read files.metadata.read");
            assert_eq!(asked["token_access_type"], "online");
            assert_eq!(asked["force_reapprove"], "true");
        }
        Kind::GoogleDrive => {
            assert_eq!(asked["scope"], "https://www.googleapis.com/auth/drive.readonly");
            assert_eq!(asked["access_type"], "online");
            assert_eq!(asked["prompt"], "consent");
        }
    }
}

#[test]
fn without_an_address_to_return_to_the_code_is_shown() {
    let scene = Scene::start();
    let consented = scene.consent(Kind::Dropbox, &json!({"return_to": null}), &Decision::allow());
    assert!(links(&consented.page).is_empty(), "nothing leads away: {}", consented.page);
    scene.confirm(&consented.id, &json!({"code": consented.code()})).expect(200);
    assert_eq!(scene.state(&consented.id), "active");
}

#[test]
fn a_page_that_is_loaded_again_shows_a_fresh_code_and_the_earlier_one_still_holds() {
    let scene = Scene::start();
    let mut consented = scene.consent(Kind::Dropbox, &json!({}), &Decision::allow());
    let first = consented.code();
    consented.page = consented.person.open(&consented.place).expect(200).body_text();
    assert_ne!(consented.code(), first);
    scene.confirm(&consented.id, &json!({"code": first})).expect(200);
    scene.confirm(&consented.id, &json!({"code": first})).problem(400, "bad-code");
    assert_eq!(scene.state(&consented.id), "active", "a repetition ends nothing");
}

#[test]
fn one_subjects_connection_is_not_anothers() {
    let scene = Scene::start();
    let consented = scene.consent(Kind::Dropbox, &json!({"subject": "user-1"}), &Decision::allow());
    let (id, code) = (&consented.id, consented.code());
    scene.confirm(id, &json!({"code": code})).problem(404, "not-found");
    scene.confirm(id, &json!({"code": code, "subject": "user-2"})).problem(404, "not-found");
    scene.confirm(id, &json!({"code": code, "subject": "user-1"})).expect(200);
    scene.items(id, "").problem(404, "not-found");
    scene.items(id, "?subject=user-2").problem(404, "not-found");
    scene.items(id, "?subject=user-1").expect(200);
    // Nor another tenant's; and a random id gives the very same answer.
    let other = scene.gateway.client_of("app2");
    for id in [id.as_str(), "conn_aaaaaaaaaaaaaaaaaaaaaaaaaa", "file_aaaaaaaaaaaaaaaaaaaaaaaaaa"] {
        other.get(format!("/v1/connections/{id}")).problem(404, "not-found");
        other.delete(format!("/v1/connections/{id}")).problem(404, "not-found");
        other.get(format!("/v1/connections/{id}/items?subject=user-1")).problem(404, "not-found");
        let confirm = other.post(format!("/v1/connections/{id}/confirm"), b"{\"code\":\"a\"}");
        confirm.problem(404, "not-found");
    }
    assert_eq!(scene.state(id), "active");
}

#[test]
fn the_policy_decides_who_may_ask_for_what() {
    let scene = Scene::with(|setup| {
        setup
            .set("tenants.other", "providers", "[\"dropbox\"]")
            .set("tenants.acme", "max_ttl", "\"2h\"")
            .set("tenants.roamer", "display_name", "\"Roamer\"")
            .key("roamerapp", "roamer", &["connector"])
    });
    let ask = |key: &str, body: &serde_json::Value| {
        scene.gateway.client_of(key).post("/v1/connections", body.to_string().as_bytes())
    };
    let good = json!({"provider": "dropbox", "access": "browse"});
    for key in ["acme", "ops", "auditor", "owner"] {
        ask(key, &good).problem(403, "forbidden");
        scene.gateway.client_of(key).get("/v1/connections").problem(403, "forbidden");
    }
    ask("app2", &good).problem(403, "not-permitted-by-policy");
    ask("roamerapp", &good).problem(403, "not-permitted-by-policy");
    for (more, status, slug) in [
        (json!({"provider": "box"}), 422, "not-offered"),
        (json!({"access": "picked"}), 422, "not-offered"),
        (json!({"access": "everything"}), 400, "bad-request"),
        (json!({"ttl": "soon"}), 422, "bad-ttl"),
        (json!({"ttl": "24h"}), 422, "bad-ttl"),
        (json!({"ttl": "3h"}), 403, "not-permitted-by-policy"),
        (json!({"subject": ""}), 400, "bad-request"),
        (json!({"scope": "all"}), 400, "bad-request"),
    ] {
        scene.asking(Kind::Dropbox, &more).problem(status, slug);
    }
    scene.app().post("/v1/connections?x=1", b"{}").problem(400, "unknown-parameter");
}

#[test]
fn a_repeated_request_gets_the_same_connection() {
    let scene = Scene::start();
    let ask = |key: &str, body: &str| {
        let app = scene.app();
        app.ask("POST", "/v1/connections")
            .header("Idempotency-Key", key)
            .body(body.as_bytes())
            .send()
    };
    let body = json!({"provider": "dropbox", "access": "browse"}).to_string();
    let first = ask("one", &body).expect(201).json();
    assert_eq!(ask("one", &body).expect(201).json(), first);
    assert_ne!(ask("two", &body).expect(201).text("id"), first["id"].as_str().unwrap());
    let other = json!({"provider": "google_drive", "access": "browse"}).to_string();
    ask("one", &other).problem(422, "idempotency-mismatch");
    scene.delete(first["id"].as_str().unwrap()).expect(200);
    ask("one", &body).problem(410, "connection-revoked");
}

#[test]
fn connections_are_listed_newest_first_and_by_their_tenant_alone() {
    let scene = Scene::start();
    let ids: Vec<String> = (0..5).map(|_| scene.begin(Kind::Dropbox, &json!({})).id).collect();
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/connections?limit=2{cursor}");
        let page = scene.app().get(path).expect(200).json();
        let page_ids = page["connections"].as_array().unwrap().iter();
        seen.extend(page_ids.map(|one| one["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    seen.reverse();
    assert_eq!(seen, ids);
    let others = scene.gateway.client_of("app2").get("/v1/connections").expect(200).json();
    assert_eq!(others["connections"], json!([]));
}

#[test]
fn a_life_ends_by_itself_and_the_provider_hears_of_it() {
    let scene = Scene::start();
    for kind in Kind::BOTH {
        let id = scene.active(kind, &json!({"ttl": "3s"}));
        assert_eq!(scene.cloud(kind).tokens().len(), 1);
        eventually("it expires", || (scene.state(&id) == "expired").then_some(()));
        scene.items(&id, "").problem(410, "connection-revoked");
        eventually("the provider is told", || scene.cloud(kind).tokens().is_empty().then_some(()));
        assert!(scene.show(&id)["account"].is_null());
    }
    scene.gateway.comes_to("dayfly_keyring_slots_used", 0.0);
}

#[test]
fn without_offline_a_connection_ends_with_its_token_and_keeps_nothing_that_outlives_it() {
    let scene = Scene::start();
    let ends = |id: &str| {
        let text = scene.show(id)["expires_at"].as_str().unwrap().to_owned();
        text.parse::<jiff::Timestamp>().unwrap().as_second() - jiff::Timestamp::now().as_second()
    };
    for kind in Kind::BOTH {
        scene.cloud(kind).token_life(600);
        let online = scene.active(kind, &json!({"ttl": "4h"}));
        assert!((400..=600).contains(&ends(&online)), "{}", ends(&online));
        let consented =
            scene.consent(kind, &json!({"ttl": "4h", "offline": true}), &Decision::allow());
        let sent = query(
            &scene
                .cloud(kind)
                .requests()
                .iter()
                .rev()
                .find_map(|request| {
                    (request.path.contains("token"))
                        .then(|| String::from_utf8(request.body.clone()).unwrap())
                })
                .map(|body| format!("?{body}"))
                .unwrap(),
        );
        assert!(sent.contains_key("code_verifier") && sent.contains_key("client_secret"));
        scene.confirm(&consented.id, &json!({"code": consented.code()})).expect(200);
        assert!(ends(&consented.id) > 3 * 3600, "{}", ends(&consented.id));
        scene.delete(&online).expect(200);
        scene.delete(&consented.id).expect(200);
        assert_eq!(scene.cloud(kind).tokens(), [""; 0]);
    }
}

#[test]
fn a_token_that_runs_out_is_refreshed_once_however_many_ask() {
    let scene = Scene::start();
    for kind in Kind::BOTH {
        let id = scene.active(kind, &json!({"offline": true}));
        let cloud = scene.cloud(kind);
        cloud.expire();
        let before = cloud.count(Part::Token);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| scene.items(&id, "").expect(200));
            }
        });
        assert_eq!(cloud.count(Part::Token) - before, 1, "one refresh for all");
        cloud.withdraw();
        scene.items(&id, "").problem(410, "connection-revoked");
        assert_eq!(scene.state(&id), "revoked");
    }
}

#[test]
fn a_reload_takes_a_provider_away_from_new_connections_and_bad_ones_are_refused() {
    let scene = Scene::start();
    let id = scene.active(Kind::Dropbox, &json!({}));
    let fewer = scene.gateway.setup.clone().set("tenants.acme", "providers", "[\"google_drive\"]");
    let fewer = fewer.spool(&scene.gateway.dir().join("spool"));
    scene.gateway.rewrite(&fewer.toml());
    let process = rustix::process::Pid::from_raw(scene.gateway.process().cast_signed()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::HUP).unwrap();
    eventually("the reload applies", || {
        (scene.asking(Kind::Dropbox, &json!({})).status == 403).then_some(())
    });
    scene.items(&id, "").expect(200);
    let whoami = scene.app().get("/v1/whoami").expect(200).text("key");
    assert!(key_of("app").contains(&whoami));
}

#[test]
fn the_command_line_connects_with_a_code_that_is_read() {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::process::{Command, Stdio};
    let scene = Scene::start();
    let mut child = Command::new(env!("CARGO_BIN_EXE_dayfly"))
        .args(["connect", "dropbox", "--ttl", "30m", "--subject", "me", "--json"])
        .env_clear()
        .env("DAYFLY_URL", format!("http://{}", scene.gateway.public))
        .env("DAYFLY_KEY", key_of("app"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let url =
        said.find_map(|line| Some(line.ok()?.trim().to_owned()).filter(|l| l.contains("://")));
    let mut person = scene.person();
    let sent = scene.agree(&mut person, &url.unwrap());
    let back = scene.dropbox.decide(&sent, &Decision::allow());
    let place = person.open(&back).expect(303).header("location").unwrap().to_owned();
    let page = person.open(&place).expect(200).body_text();
    let consented = super::Consented { id: String::new(), person, page, place };
    writeln!(child.stdin.take().unwrap(), "{}", consented.code()).unwrap();
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert!(child.wait().unwrap().success());
    let active: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(active["state"], "active", "{active}");
    scene.items(active["id"].as_str().unwrap(), "?subject=me").expect(200);
    let refused = Command::new(env!("CARGO_BIN_EXE_dayfly"))
        .args(["connect", "dropbox"])
        .env_clear()
        .env("DAYFLY_URL", format!("http://{}", scene.gateway.public))
        .env("DAYFLY_KEY", key_of("acme"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(!refused.status.success());
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(words.contains("403") && !words.contains("dfk_"), "{words}");
}
