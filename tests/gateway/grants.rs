//! Grants: a small right, so many times, until it ends. To a browser, or for one file.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Answer, Client, HERE, Setup, TestGateway, eventually, noise};

const APP: &str = "https://app.example";

/// Whoever holds a grant made of this.
#[track_caller]
fn holder(client: &Client, ask: &Value) -> Client {
    let made = client.post("/v1/grants", ask.to_string().as_bytes()).expect(201);
    assert!(made.json()["expires_at"].as_str().unwrap().ends_with('Z'));
    client.with_key(Some(&made.text("grant")))
}

#[track_caller]
fn uploads(client: &Client, count: u64) -> Client {
    holder(client, &json!({"allow": "upload", "count": count, "ttl": "10m"}))
}

#[track_caller]
fn downloads(client: &Client, file: &str, count: u64) -> Client {
    holder(client, &json!({"allow": "download", "file": file, "count": count, "ttl": "10m"}))
}

/// Asks from so many threads at once.
fn at_once<T: Send>(count: usize, ask: impl Fn() -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..count).map(|_| scope.spawn(&ask)).collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

#[test]
fn a_browser_uploads_with_a_grant_from_a_listed_origin() {
    let gateway = Setup::new().set("listen", "cors_origins", &format!("[\"{APP}\"]")).start();
    let grant = uploads(&gateway.client(), 1);
    for headers in ["authorization,content-type", "authorization,idempotency-key"] {
        let ask = gateway.anonymous();
        let ask = ask.ask("OPTIONS", "/v1/files").header("Origin", APP);
        let ask = ask.header("Access-Control-Request-Method", "POST");
        let answer = ask.header("Access-Control-Request-Headers", headers).send();
        assert!(answer.status < 300);
        assert_eq!(answer.header("access-control-allow-origin"), Some(APP));
        let allowed = |name, wanted: &str| {
            answer.header(name).unwrap_or_default().to_ascii_lowercase().contains(wanted)
        };
        assert!(allowed("access-control-allow-methods", "post"));
        for wanted in headers.split(',') {
            assert!(allowed("access-control-allow-headers", wanted), "{wanted}");
        }
        assert_eq!(answer.header("access-control-allow-credentials"), None);
    }
    let ask = |path: &str| grant.ask("POST", path).header("Origin", APP).body(b"hello").send();
    let made = ask("/v1/files?name=a.txt").expect(201);
    assert_eq!(made.header("access-control-allow-origin"), Some(APP));
    gateway.client().download(&made.text("id")).expect(200).is_body(b"hello");
    // What went wrong can be read by the page, too.
    for (path, status, slug) in
        [("/v1/files", 401, "unauthenticated"), ("/v1/files?token=x", 400, "token-in-url")]
    {
        let refused = ask(path).problem(status, slug);
        assert_eq!(refused.header("access-control-allow-origin"), Some(APP), "{path}");
    }
    let plain = gateway.anonymous().ask("OPTIONS", "/v1/files?token=x").send();
    plain.problem(400, "token-in-url");
}

#[test]
fn n_and_k_parallel_uploads_of_n_are_exactly_n() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    for (n, senders) in [(1, 6), (3, 8)] {
        let grant = uploads(&client, n);
        // Nobody sends a byte before everybody has been asked for them, or was refused.
        let all_asked = std::sync::Barrier::new(senders);
        let answers = at_once(senders, || {
            let ask = grant.ask("POST", "/v1/files").header("Expect", "100-continue");
            let mut wire = ask.begin(Some(5));
            let asked = wire.head();
            all_asked.wait();
            if asked.status == 100 {
                wire.send(b"hello").unwrap();
                return (100, wire.head());
            }
            (0, asked)
        });
        let good = answers.iter().filter(|(asked, head)| (*asked, head.status) == (100, 201));
        assert_eq!(good.count() as u64, n, "of {senders} senders");
        for (_, refused) in answers.iter().filter(|(asked, _)| *asked == 0) {
            assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer")));
        }
    }
    assert_eq!(client.get("/v1/files").expect(200).json()["files"].as_array().unwrap().len(), 4);
}

#[test]
fn a_use_is_claimed_before_the_upload_and_given_back_by_one_that_fails() {
    // A life without a deadline key: every slot in use is an upload's own secret.
    let gateway = Setup::new().set("retention", "default_ttl", "\"4m\"").start();
    let grant = uploads(&gateway.client(), 1);
    let mut slow = grant.ask("POST", "/v1/files").begin(Some(1000));
    slow.send(b"some of it").unwrap();
    gateway.comes_to("dayfly_keyring_slots_used", 1.0);
    grant.post("/v1/files", b"x").problem(401, "unauthenticated");
    slow.reset();
    gateway.comes_to("dayfly_keyring_slots_used", 0.0);
    for (path, slug) in
        [("/v1/files?ttl=1d", "bad-ttl"), ("/v1/files?downloads=0", "bad-downloads")]
    {
        grant.post(path, b"x").problem(422, slug);
    }
    let digest = grant.ask("POST", "/v1/files").header("Repr-Digest", "sha-256=:AAAA:");
    assert_eq!(digest.body(b"x").send().status, 400);
    grant.post("/v1/files", b"x").expect(201);
    grant.post("/v1/files", b"x").problem(401, "unauthenticated");
}

#[test]
fn every_file_of_a_form_is_a_use() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let form = |count: usize| {
        let part = |at: usize| {
            format!("--b\r\nContent-Disposition: form-data; name=f; filename={at}\r\n\r\nx\r\n")
        };
        (0..count).map(part).collect::<String>() + "--b--\r\n"
    };
    let send = |grant: &Client, count: usize| {
        let ask = grant.ask("POST", "/v1/files");
        let ask = ask.header("Content-Type", "multipart/form-data; boundary=b");
        ask.body(form(count).as_bytes()).send()
    };
    let grant = uploads(&client, 3);
    send(&grant, 4).problem(401, "unauthenticated");
    assert_eq!(client.get("/v1/files").expect(200).json()["files"], json!([]), "all or nothing");
    send(&grant, 2).expect(201);
    send(&grant, 2).problem(401, "unauthenticated");
    send(&grant, 1).expect(201);
    send(&grant, 1).problem(401, "unauthenticated");
}

#[test]
fn size_and_region_are_those_of_the_grant() {
    let gateway = TestGateway::start();
    let client = gateway.client_of("roamer");
    let mut ask = json!({"allow": "upload", "max_size": 1000, "count": 1, "ttl": "10m"});
    ask["region"] = json!(HERE);
    let grant = holder(&client, &ask);
    grant.post("/v1/files", &noise(1001)).problem(413, "too-large");
    let ask = grant.ask("POST", "/v1/files").chunked();
    ask.body(&noise(1001)).send().problem(413, "too-large");
    grant.post("/v1/files?region=us-test-2", b"x").problem(421, "wrong-region");
    let mut head =
        grant.ask("POST", "/v1/files").header("Expect", "100-continue").begin(Some(1001));
    let refused = Answer::read(&mut head, "POST /v1/files");
    assert!(!refused.continued);
    refused.problem(413, "too-large");
    gateway.comes_to("dayfly_live_bytes", 0.0);
    let made = grant.post("/v1/files", &noise(1000)).expect(201);
    assert_eq!(made.header("dayfly-region"), Some(HERE));
}

#[test]
fn what_cannot_be_granted_is_refused() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let file = client.upload("", b"mine");
    let gone = client.upload("", b"gone");
    client.delete(format!("/v1/files/{gone}")).expect(200);
    let theirs = gateway.client_of("other").upload("", b"theirs");
    let upload = |name: &str, value: Value| {
        let mut ask = json!({"allow": "upload", "count": 1, "ttl": "10m"});
        ask[name] = value;
        ask
    };
    let download = |file: &str| json!({"allow": "download", "file": file, "count": 1, "ttl": "1m"});
    for (ask, status, slug) in [
        (upload("count", json!(0)), 400, "bad-request"),
        (upload("count", json!(-1)), 400, "bad-request"),
        (upload("count", json!(10_001)), 400, "bad-request"),
        (upload("count", Value::Null), 400, "bad-request"),
        (upload("allow", json!("everything")), 400, "bad-request"),
        (upload("file", json!(file)), 400, "bad-request"),
        (upload("name", json!("x")), 400, "bad-request"),
        (upload("max_size", json!("1KiB")), 400, "bad-request"),
        (upload("ttl", json!("24h")), 422, "bad-ttl"),
        (upload("ttl", json!("0s")), 422, "bad-ttl"),
        (upload("ttl", json!("")), 422, "bad-ttl"),
        (upload("region", json!("mars-1")), 422, "region-unavailable"),
        (upload("region", json!("us-test-2")), 403, "not-permitted-by-policy"),
        (download("file_aaaaaaaaaaaaaaaaaaaaaaaaaa"), 404, "not-found"),
        (download("x"), 404, "not-found"),
        (download(&theirs), 404, "not-found"),
        (download(&gone), 410, "deleted"),
        (json!([]), 400, "bad-request"),
        (json!({}), 400, "bad-request"),
    ] {
        client.post("/v1/grants", ask.to_string().as_bytes()).problem(status, slug);
    }
    let keyed = client.ask("POST", "/v1/grants").header("Idempotency-Key", "a");
    keyed.body(b"{}").send().problem(400, "idempotency-unsupported");
    let grant = uploads(&client, 1);
    grant
        .post("/v1/grants", upload("count", json!(1)).to_string().as_bytes())
        .problem(403, "forbidden");
}

#[test]
fn n_and_k_parallel_downloads_of_n_are_exactly_n() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let bytes = noise(300_000);
    let file = client.upload("", &bytes);
    for (n, readers) in [(1, 6), (3, 8)] {
        let grant = downloads(&client, &file, n);
        let answers = at_once(readers, || grant.download(&file));
        let (good, bad): (Vec<_>, Vec<_>) = answers.into_iter().partition(|one| one.status == 200);
        assert_eq!(good.len() as u64, n, "of {readers} readers");
        good.iter().for_each(|one| one.is_body(&bytes));
        for refused in bad {
            refused.problem(401, "unauthenticated");
        }
        grant.ask("HEAD", Client::content(&file)).send().expect(401);
    }
    client.download(&file).expect(200).is_body(&bytes);
}

#[test]
fn a_broken_download_goes_on_under_its_claim_and_nothing_else_does() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let bytes = noise(24 << 20);
    // A file that anybody may have, and one that is gone after one download: both are counted by
    // the grant, the second by itself, too.
    for query in ["", "?downloads=1"] {
        let file = client.upload(query, &bytes);
        let grant = downloads(&client, &file, 1);
        for _ in 0..3 {
            grant.ask("HEAD", Client::content(&file)).send().expect(200);
            let ask = grant.ask("GET", Client::content(&file)).header("Range", "bytes=99999999-");
            ask.send().problem(416, "range-not-satisfiable");
        }
        let mut broken = grant.ask("GET", Client::content(&file)).begin_narrow();
        let head = broken.head();
        let claim = head.header("dayfly-claim").expect("a claim").to_owned();
        assert!(broken.up_to(1000) == bytes[..1000]);
        broken.reset();
        let from = |claim: Option<&str>| {
            let ask = grant.ask("GET", Client::content(&file)).header("Range", "bytes=1000-");
            match claim {
                Some(claim) => ask.header("Dayfly-Claim", claim).send(),
                None => ask.send(),
            }
        };
        from(None).problem(401, "unauthenticated");
        from(Some("aaaaaaaaaaaaaaaaaaaaaaaaaa")).problem(401, "unauthenticated");
        from(Some(&claim)).expect(206).is_body(&bytes[1000..]);
        eventually("the claim is over", || (from(Some(&claim)).status == 401).then_some(()));
        if query.is_empty() {
            client.download(&file).expect(200);
        } else {
            eventually("it was downloaded", || {
                (client.download(&file).status == 410).then_some(())
            });
        }
    }
}

#[test]
fn ranges_of_a_granted_file_are_uses() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let file = client.upload("", &noise(1000));
    let grant = downloads(&client, &file, 2);
    let statuses: Vec<u16> = (0..6)
        .map(|at| {
            let ask = grant.ask("GET", Client::content(&file));
            ask.header("Range", format!("bytes={at}-{at}")).send().status
        })
        .collect();
    assert_eq!(statuses, [206, 206, 401, 401, 401, 401]);
}

#[test]
fn a_grant_ends_with_its_time_its_file_its_key_and_an_erasure() {
    const MANY: u64 = 100;
    let mut gateway = TestGateway::start();
    let (client, owner) = (gateway.client(), gateway.client_of("owner"));
    let file = client.upload("", b"mine");
    // Asked in ways that spend no use.
    let closed = |grant: &Client| grant.post("/v1/files?ttl=0s", b"x").status == 401;
    let ended = |grant: &Client| {
        closed(grant) && grant.ask("HEAD", Client::content(&file)).send().status == 401
    };
    let short = holder(&client, &json!({"allow": "upload", "count": MANY, "ttl": "1s"}));
    eventually("its time is over", || ended(&short).then_some(()));
    let short =
        holder(&client, &json!({"allow": "download", "file": file, "count": MANY, "ttl": "1s"}));
    eventually("its time is over", || ended(&short).then_some(()));

    let grant = downloads(&client, &file, MANY);
    grant.download(&file).expect(200);
    client.delete(format!("/v1/files/{file}")).expect(200);
    grant.download(&file).problem(401, "unauthenticated");
    let file = client.upload("?ttl=90s", b"mine");
    let long = json!({"allow": "download", "file": file, "count": MANY, "ttl": "10m"});
    let made =
        client.post("/v1/grants", long.to_string().as_bytes()).expect(201).text("expires_at");
    let end = client.get(format!("/v1/files/{file}")).expect(200).text("expires_at");
    assert_eq!(made, end, "never longer than the file");

    let (mine, others) = (uploads(&client, MANY), uploads(&gateway.client_of("other"), MANY));
    owner.delete("/v1/tenants/acme/data").expect(200);
    mine.post("/v1/files", b"x").problem(401, "unauthenticated");
    others.post("/v1/files", b"x").expect(201);

    let (kept, removed) = (uploads(&client, MANY), uploads(&gateway.client_of("acme2"), MANY));
    removed.post("/v1/files", b"x").expect(201);
    let without = gateway.setup.clone().without_key("acme2");
    gateway.rewrite(&without.toml());
    gateway.signal(Signal::HUP);
    eventually("its key is gone", || closed(&removed).then_some(()));
    kept.post("/v1/files", b"x").expect(201);
    // A key that comes back brings nothing back.
    gateway.rewrite(&gateway.setup.toml());
    gateway.signal(Signal::HUP);
    let back = gateway.client_of("acme2");
    eventually("the key is back", || (back.get("/v1/whoami").status == 200).then_some(()));
    removed.post("/v1/files", b"x").problem(401, "unauthenticated");
}

#[test]
fn only_the_whole_secret_opens_and_it_is_written_nowhere() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let file = client.upload("", b"mine");
    let ask = json!({"allow": "download", "file": file, "count": 99, "ttl": "10m"}).to_string();
    let one = client.post("/v1/grants", ask.as_bytes()).expect(201).text("grant");
    let two = client.post("/v1/grants", ask.as_bytes()).expect(201).text("grant");
    assert!(one.starts_with("dfg_") && one != two);
    let crossed = format!("{}{}", &one[..31], &two[31..]);
    for bad in ["dfg_", &one[..one.len() - 1], &crossed, &one.to_uppercase(), &one[4..]] {
        client.with_key(Some(bad)).download(&file).problem(401, "unauthenticated");
    }
    client.with_key(Some(&one)).download(&file).expect(200).is_body(b"mine");
    client.get(format!("/v1/files?cursor={one}")).problem(400, "token-in-url");
    let written = gateway.stdout() + &gateway.stderr();
    assert!(!written.contains(&one[31..]) && !written.contains(&two[31..]));
}
