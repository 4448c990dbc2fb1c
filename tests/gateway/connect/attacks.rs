//! What a stranger may try: links, cookies, states, codes and addresses that are not theirs.

use serde_json::{Value, json};

use super::{APP, Begun, Scene, query};
use crate::cloud::{Answer as Decision, Cloud, Form, Kind, Part, Person, Reply, Trick, forms};
use crate::harness::{Answer, eventually};

#[test]
fn a_page_opens_in_the_first_browser_alone() {
    let scene = Scene::start();
    let Begun { id, url } = scene.begin(Kind::Dropbox, &json!({}));
    let path = url.split_once("//").unwrap().1.split_once('/').unwrap().1;
    // Machines that look at links take nothing away.
    let nobody = scene.gateway.anonymous();
    nobody.ask("HEAD", format!("/{path}")).send().expect(405);
    let ahead = nobody.ask("GET", format!("/{path}")).header("Sec-Purpose", "prefetch;prerender");
    ahead.send().problem(400, "bad-request");
    let (mut first, mut second) = (scene.person(), scene.person());
    first.open(&url).expect(200);
    let told = second.open(&url).expect(410);
    assert!(told.header("content-type").unwrap().starts_with("text/html"));
    assert!(told.body_text().contains("belongs to another browser"));
    nobody.get(format!("/{path}")).problem(410, "connection-taken");
    // Its cookie is what makes a browser the first one, and no other cookie does.
    second.cookies = first.cookies.keys().map(|n| (n.clone(), "a".repeat(52))).collect();
    second.open(&url).expect(410);
    second.open(&format!("/{path}/account")).expect(410);
    first.open(&url).expect(200);
    nobody.get(format!("/connect/{}", "a".repeat(52))).problem(404, "not-found");
    assert_eq!(scene.state(&id), "pending");
}

#[test]
fn of_browsers_that_race_one_wins() {
    let scene = Scene::start();
    for _ in 0..20 {
        let Begun { url, .. } = scene.begin(Kind::Dropbox, &json!({}));
        let opened = std::thread::scope(|scope| {
            let open = || scene.person().open(&url).status;
            let racers: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(opened.iter().filter(|status| **status == 200).count(), 1, "{opened:?}");
        assert_eq!(opened.iter().filter(|status| **status == 410).count(), 3, "{opened:?}");
    }
}

/// A person who has agreed and is at the service.
struct Away {
    id: String,
    person: Person,
    sent: String,
}

impl Scene {
    #[track_caller]
    fn away(&self, kind: Kind) -> Away {
        let Begun { id, url } = self.begin(kind, &json!({}));
        let mut person = self.person();
        let sent = self.agree(&mut person, &url);
        Away { id, person, sent }
    }
}

#[track_caller]
fn is_no_way_back(answer: Answer) {
    let answer = answer.expect(400);
    assert!(answer.header("content-type").unwrap().starts_with("text/html"));
    assert!(answer.body_text().contains("cannot be followed"), "{}", answer.body_text());
}

#[test]
fn a_state_is_its_browsers_own_and_good_once() {
    let scene = Scene::start();
    for kind in Kind::BOTH {
        let Away { id, mut person, sent } = scene.away(kind);
        let back = scene.cloud(kind).decide(&sent, &Decision::allow());
        let callback = format!("/oauth/callback/{}", kind.name());
        let before = scene.token_requests();
        // Missing, empty, made up, twice.
        for query in
            ["", "?code=x", "?code=x&state=", "?code=x&state=aaaa", "?state=a&state=b&code=x"]
        {
            is_no_way_back(person.open(&format!("{callback}{query}")));
        }
        let twice = format!("{back}&code=another");
        is_no_way_back(person.open(&twice));
        // A stranger's browser: with no cookie, and with a cookie of its own connection.
        is_no_way_back(scene.person().open(&back));
        // That has used the state up, for everybody.
        is_no_way_back(person.open(&back));
        assert_eq!(scene.token_requests(), before, "no code was sent");
        assert_eq!(scene.state(&id), "pending", "the person may agree again");
        let nobody = scene.gateway.anonymous();
        nobody.get(format!("{callback}?code=x&state=y")).problem(400, "oauth-state");
    }
}

#[test]
fn a_foreign_state_does_not_join_two_browsers() {
    let scene = Scene::start();
    let (mut mallory, mut victim) = (scene.away(Kind::Dropbox), scene.away(Kind::Dropbox));
    // Mallory's own way back, opened by the victim: the victim would use Mallory's account.
    let back = scene.dropbox.decide(&mallory.sent, &Decision::allow());
    is_no_way_back(victim.person.open(&back));
    is_no_way_back(mallory.person.open(&back));
    assert_eq!(scene.token_requests(), 0);
    let back = scene.dropbox.decide(&victim.sent, &Decision::allow());
    victim.person.open(&back).expect(303);
    assert_eq!(scene.state(&victim.id), "consented");
    assert_eq!(scene.state(&mallory.id), "pending");
}

#[test]
fn a_way_back_is_good_once() {
    let scene = Scene::start();
    for kind in Kind::BOTH {
        let Away { id, mut person, sent } = scene.away(kind);
        let back = scene.cloud(kind).decide(&sent, &Decision::allow());
        person.open(&back).expect(303);
        for _ in 0..3 {
            is_no_way_back(person.open(&back));
        }
        assert_eq!(scene.cloud(kind).count(Part::Token), 1);
        assert_eq!(scene.state(&id), "consented");
        // A code that was used already, under a fresh state, is the service's to refuse.
        let mut again = scene.away(kind);
        let forged = Decision::allow().with("code", &query(&back)["code"]);
        let forged = scene.cloud(kind).decide(&again.sent, &forged);
        again.person.open(&forged).expect(303);
        assert_eq!(scene.failure(&again.id), "upstream-failed");
        assert_eq!(scene.cloud(kind).count(Part::Token), 2, "asked once, not again");
    }
}

#[test]
fn one_services_code_never_reaches_the_other() {
    let scene = Scene::start();
    for (kind, other) in [(Kind::Dropbox, Kind::GoogleDrive), (Kind::GoogleDrive, Kind::Dropbox)] {
        let Away { id, mut person, sent } = scene.away(kind);
        let back = scene.cloud(kind).decide(&sent, &Decision::allow());
        let mixed = back.replace(kind.name(), other.name());
        let before = scene.token_requests();
        is_no_way_back(person.open(&mixed));
        is_no_way_back(person.open(&back));
        assert_eq!(scene.token_requests(), before);
        assert_eq!(scene.state(&id), "pending");
    }
    scene.gateway.anonymous().get("/oauth/callback/box?code=a&state=b").problem(404, "not-found");
}

#[test]
fn an_issuer_that_is_sent_is_the_providers() {
    let scene = Scene::start();
    for (kind, issuer, good) in [
        (Kind::GoogleDrive, Some("https://accounts.google.com"), true),
        (Kind::GoogleDrive, Some("https://accounts.google.com/"), false),
        (Kind::GoogleDrive, Some("https://evil.example"), false),
        (Kind::GoogleDrive, Some(""), false),
        (Kind::Dropbox, None, true),
        (Kind::Dropbox, Some("https://accounts.google.com"), false),
    ] {
        for deny in [false, true] {
            let Away { id, mut person, sent } = scene.away(kind);
            let mut decision = if deny { Decision::deny() } else { Decision::allow() };
            if let Some(issuer) = issuer {
                decision = decision.with("iss", issuer);
            }
            let back = scene.cloud(kind).decide(&sent, &decision);
            let before = scene.token_requests();
            if good {
                person.open(&back).expect(303);
                assert_eq!(scene.token_requests() - before, usize::from(!deny));
            } else {
                is_no_way_back(person.open(&back));
                assert_eq!(scene.token_requests(), before, "{issuer:?}");
                assert_eq!(scene.failure(&id), "oauth-state");
            }
        }
    }
    let Away { mut person, sent, .. } = scene.away(Kind::GoogleDrive);
    let back = scene.google.decide(&sent, &Decision::allow());
    is_no_way_back(person.open(&format!("{back}&iss=https://accounts.google.com")));
}

#[test]
fn a_denial_and_a_refusal_end_it() {
    let scene = Scene::start();
    for kind in Kind::BOTH {
        let denied = scene.consent(kind, &json!({}), &Decision::deny());
        assert_eq!(scene.failure(&denied.id), "access-denied");
        assert!(denied.page.contains("You said no"), "{}", denied.page);
        let Begun { id, url } = scene.begin(kind, &json!({}));
        let mut person = scene.person();
        let page = person.open(&url).expect(200).body_text();
        let place = person.submit(&forms(&page)[1]).expect(303);
        let page = person.open(place.header("location").unwrap()).expect(200).body_text();
        assert!(page.contains("You said no"));
        assert_eq!(scene.failure(&id), "access-denied");
    }
    assert_eq!(scene.token_requests(), 0);
}

#[test]
fn less_or_more_than_was_agreed_to_is_taken_back() {
    let scene = Scene::start();
    let drive = "https://www.googleapis.com/auth/drive";
    for (kind, scope) in [
        (Kind::Dropbox, "account_info.read files.metadata.read".to_owned()),
        (
            Kind::Dropbox,
            "account_info.read files.content.read files.content.write files.metadata.read"
                .to_owned(),
        ),
        (Kind::GoogleDrive, format!("{drive}.metadata.readonly")),
        (Kind::GoogleDrive, format!("{drive}.readonly {drive}")),
    ] {
        let ended =
            scene.consent(kind, &json!({"offline": true}), &Decision::allow().scope(&scope));
        assert_eq!(scene.failure(&ended.id), "scope-mismatch", "{scope}");
        eventually("the token is revoked", || scene.cloud(kind).tokens().is_empty().then_some(()));
        assert!(ended.page.contains("something else"), "{}", ended.page);
    }
    // The same scopes in another order are the same.
    let scope = "files.metadata.read files.content.read account_info.read";
    let fine = scene.consent(Kind::Dropbox, &json!({}), &Decision::allow().scope(scope));
    assert_eq!(scene.state(&fine.id), "consented");
}

#[test]
fn a_form_that_the_page_did_not_make_does_nothing() {
    let scene = Scene::start();
    let Begun { id, url } = scene.begin(Kind::Dropbox, &json!({}));
    let mut person = scene.person();
    let mine = forms(&person.open(&url).expect(200).body_text());
    let mut stranger = scene.person();
    let theirs = stranger.open(&scene.begin(Kind::Dropbox, &json!({})).url).expect(200).body_text();
    let theirs = forms(&theirs);
    for (form, theirs) in mine.iter().zip(&theirs) {
        let mut crossed = form.clone();
        crossed.fields.clone_from(&theirs.fields);
        for forged in [form.forged(""), form.forged("x"), crossed] {
            person.submit(&forged).expect(400);
        }
        let none = Form { fields: Vec::new(), ..form.clone() };
        person.submit(&none).expect(400);
        // The right form from a browser that is not the page's.
        stranger.submit(form).expect(410);
        // A page elsewhere that sends the right form, where the browser says so.
        let cookies: Vec<String> =
            person.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let nobody = scene.gateway.anonymous();
        let ask = nobody.ask("POST", &form.action).header("Sec-Fetch-Site", "cross-site");
        let body = form.body();
        ask.header("Cookie", cookies.join("; "))
            .body(body.as_bytes())
            .send()
            .problem(400, "bad-request");
    }
    assert_eq!(scene.state(&id), "pending");
    let consented = scene.consent(Kind::Dropbox, &json!({}), &Decision::allow());
    let disconnect = &forms(&consented.page)[0];
    let mut person = consented.person.clone();
    person.submit(&disconnect.forged("x")).expect(400);
    stranger.submit(disconnect).expect(410);
    assert_eq!(scene.state(&consented.id), "consented");
    person.submit(disconnect).expect(303);
    assert_eq!(scene.state(&consented.id), "revoked");
    assert_eq!(scene.dropbox.tokens(), [""; 0]);
}

#[test]
fn a_person_is_sent_back_to_the_tenants_addresses_alone() {
    let scene = Scene::with(|setup| {
        setup.set(
            "tenants.acme",
            "return_to",
            &format!("[\"{APP}\", \"https://one.example/done\"]"),
        )
    });
    let ask = |to: &str| scene.asking(Kind::Dropbox, &json!({"return_to": to}));
    for to in [
        "https://evil.example/",
        "http://app.acme.example/",
        "https://app.acme.example.evil.example/",
        "https://app.acme.example@evil.example/",
        "https://app.acme.example:444/",
        "https://evil.example\\@app.acme.example/",
        "https://app.acme.example\t/x",
        "//evil.example/",
        "/path",
        "https:app.acme.example",
        "javascript:alert(1)",
        "data:text/html,x",
        "https://app.acme.example/#fragment",
        "https://one.example/",
        "https://one.example/done/more",
        "https://one.example/done%2f..",
        &format!("{APP}/{}", "a".repeat(3000)),
    ] {
        ask(to).problem(403, "not-permitted-by-policy");
    }
    for to in [
        APP,
        "https://app.acme.example/a/b?c=d",
        "https://APP.acme.example/",
        "https://one.example/done?x=y",
    ] {
        ask(to).expect(201);
    }
}

#[test]
fn a_wrong_code_costs_the_token() {
    let scene = Scene::start();
    for kind in Kind::BOTH {
        let consented = scene.consent(kind, &json!({}), &Decision::allow());
        assert_eq!(scene.cloud(kind).tokens().len(), 1);
        let wrong = "a".repeat(16);
        scene.confirm(&consented.id, &json!({"code": wrong})).problem(400, "bad-code");
        assert_eq!(scene.failure(&consented.id), "bad-code");
        assert_eq!(scene.cloud(kind).tokens(), [""; 0]);
        // The right one comes too late now.
        let code = consented.code();
        scene.confirm(&consented.id, &json!({"code": code})).problem(410, "connection-revoked");
        // Nobody has consented: there is nothing to confirm, and nothing to lose.
        let Begun { id, .. } = scene.begin(kind, &json!({}));
        scene.confirm(&id, &json!({"code": wrong})).problem(409, "connection-not-active");
        // One connection's code is not another's.
        let (one, two) = (
            scene.consent(kind, &json!({}), &Decision::allow()),
            scene.consent(kind, &json!({}), &Decision::allow()),
        );
        scene.confirm(&one.id, &json!({"code": two.code()})).problem(400, "bad-code");
        scene.confirm(&two.id, &json!({"code": two.code()})).expect(200);
        scene.delete(&two.id).expect(200);
    }
}

#[test]
fn pages_cannot_be_framed_kept_or_followed() {
    let scene = Scene::start();
    let Begun { url, .. } = scene.begin(Kind::GoogleDrive, &json!({}));
    let mut person = scene.person();
    let page = person.open(&url).expect(200);
    let policy = page.header("content-security-policy").unwrap().to_owned();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
    let origin = scene.google.url();
    assert!(policy.contains(&format!("form-action 'self' {origin};")), "{policy}");
    let sent = person.submit(&forms(&page.body_text())[0]).expect(303);
    let back = scene.google.decide(sent.header("location").unwrap(), &Decision::allow());
    let clean = person.open(&back).expect(303);
    let account = person.open(clean.header("location").unwrap()).expect(200);
    let lost = person.open("/oauth/callback/google_drive?state=x&code=y").expect(400);
    for answer in [&page, &sent, &clean, &account, &lost] {
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    for answer in [&page, &account, &lost] {
        assert_eq!(answer.header("x-frame-options"), Some("DENY"));
        assert!(!answer.body_text().contains("<script"));
    }
}

#[test]
fn no_address_is_made_from_what_a_request_says() {
    let scene = Scene::start();
    let app = scene.app();
    let body = json!({"provider": "dropbox", "access": "browse"}).to_string();
    let ask = app.ask("POST", "/v1/connections").body(body.as_bytes());
    let ask = ask.header("X-Forwarded-Host", "evil.example").header("X-Forwarded-Proto", "https");
    let url = ask.header("Forwarded", "host=evil.example").send().expect(201).text("authorize_url");
    assert!(url.starts_with(&format!("http://{}/connect/", scene.gateway.public)), "{url}");
    let mut person = scene.person();
    let sent = scene.agree(&mut person, &url);
    assert!(query(&sent)["redirect_uri"].starts_with(&format!("http://{}/", scene.gateway.public)));
}

/// What a token endpoint may answer other than a good token.
#[test]
fn a_token_answer_is_believed_only_when_it_is_one() {
    let scene = Scene::start();
    let elsewhere = Cloud::start(Kind::Dropbox);
    let away = format!("{}/oauth2/token", elsewhere.url());
    let token = r#"{"access_token":"sl.x","token_type":"bearer","expires_in":9,"scope":"a"}"#;
    type Edit = fn(&mut Value);
    let edits: [(Edit, &str); 6] = [
        (|json| drop(json.as_object_mut().unwrap().remove("expires_in")), "upstream-failed"),
        (|json| json["expires_in"] = 0.into(), "upstream-failed"),
        (|json| json["token_type"] = "mac".into(), "upstream-failed"),
        (|json| drop(json.as_object_mut().unwrap().remove("scope")), "scope-mismatch"),
        (|json| json["access_token"] = "a b\r\nX: y".into(), "upstream-failed"),
        (|json| drop(json.as_object_mut().unwrap().remove("access_token")), "upstream-failed"),
    ];
    let edits = edits.map(|(edit, slug)| (Trick::Edits(edit), slug));
    let says = [
        Reply::to(307, &away),
        Reply::to(302, &away),
        Reply::text(200, "text/html", token),
        Reply::text(200, "text/html", "<html>Sign in"),
        Reply::text(200, "application/json", "{\"access_token\":"),
        Reply::text(500, "text/html", "<h1>500</h1>"),
        Reply::text(200, "application/json", &" ".repeat(1 << 20)),
        Reply::text(400, "application/json", "{\"error\":\"invalid_grant\"}"),
    ];
    let says = says.map(|reply| (Trick::Says(reply), "upstream-failed"));
    for kind in Kind::BOTH {
        for (trick, slug) in edits.iter().chain(&says) {
            let cloud = scene.cloud(kind);
            let before = cloud.count(Part::Token);
            cloud.order(Part::Token, 1, trick.clone());
            let ended = scene.consent(kind, &json!({}), &Decision::allow());
            assert_eq!(scene.failure(&ended.id), *slug);
            assert_eq!(cloud.count(Part::Token) - before, 1, "a code is sent once");
            cloud.withdraw();
        }
        scene.cloud(kind).order(Part::Account, 9, Trick::Says(Reply::text(500, "text/plain", "")));
        let ended = scene.consent(kind, &json!({}), &Decision::allow());
        assert_eq!(scene.failure(&ended.id), "upstream-failed");
        eventually("revoked", || scene.cloud(kind).tokens().is_empty().then_some(()));
        scene.cloud(kind).behave();
    }
    assert!(elsewhere.requests().is_empty(), "a code or a secret went elsewhere");
}
