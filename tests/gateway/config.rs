//! Configuration: strict when it is read, all or nothing when it is read again.

use rustix::process::Signal;

use crate::harness::{Ended, Setup, TestGateway, eventually, key_of, run};

/// Runs `dayfly <command> --config` on a text.
fn with_config(command: &str, toml: &str) -> Ended {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = dir.path().join("dayfly.toml");
    std::fs::write(&path, toml).unwrap();
    run(&[command, "--config", path.to_str().unwrap()])
}

fn good() -> Setup {
    Setup::new().set("vault", "store", "\"memory\"").without("vault.local")
}

#[test]
fn a_good_configuration_is_shown_without_its_secrets() {
    let checked = with_config("check", &good().toml());
    assert_eq!(checked.code, Some(0), "{}{}", checked.stdout, checked.stderr);
    let said = checked.stdout + &checked.stderr;
    assert!(said.contains("eu-test-1"), "{said}");
    for secret in good().secrets() {
        assert!(!said.contains(secret));
    }
}

#[test]
fn a_configuration_that_cannot_be_met_is_refused_with_its_reason() {
    let key = "[[keys]]\nid = \"x\"\ntenant = \"acme\"\nroles = [\"client\"]\nsha256 = \"00\"\n";
    let mut wrong = Vec::new();
    for (setup, named) in [
        (good().set("limits", "max_flie", "1"), "max_flie"),
        (good().set("", "regoin", "\"x\""), "regoin"),
        (good().set("vualt", "store", "\"memory\""), "vualt"),
        (good().set("tenants.acme", "max_tll", "\"1h\""), "max_tll"),
        (good().set("retention", "max_ttl", "\"25h\""), "max_ttl"),
        (good().set("retention", "max_ttl", "\"soon\""), "max_ttl"),
        (good().set("limits", "memory", "\"lots\""), "memory"),
        (good().set("vault", "store", "\"cloud\""), "store"),
        (good().set("vault", "store", "\"local\""), "vault.local"),
        (good().set("vault", "keyring", "\"none\""), "keyring"),
        (good().set("tenants.acme", "regions", "[]"), "regions"),
        (good().set("tenants.acme", "regions", "[\"mars-1\"]"), "mars-1"),
        (good().set("tenants.acme", "processors", "[\"fly\"]"), "fly"),
        (good().set("", "region", "\"Not A Region\""), "region"),
        (good().set("", "region", "\"elsewhere\""), "elsewhere"),
        (good().set("regions.us-test-2", "gateway", "\"ftp://x\""), "gateway"),
        (good().set("listen", "public", "\"nowhere\""), "public"),
        (good().set("pipelines", "p", "[\"fly\"]"), "fly"),
        (good().key("acme", "acme", &["client"]), "acme"),
        (good().key("k1", "nobody", &["client"]), "nobody"),
        (good().key("k1", "acme", &["emperor"]), "a role is"),
        (good().key("K1", "acme", &["client"]), "id"),
    ] {
        for command in ["check", "serve"] {
            let Ended { code, stdout, stderr } = with_config(command, &setup.toml());
            if code != Some(78) || !stderr.contains(named) || stdout.contains("listening") {
                wrong.push(format!("{command}, {named}: {code:?} {stdout}{stderr}"));
                // What `check` takes, `serve` would run for ever.
                break;
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let refused = with_config("check", &(good().toml() + key));
    assert_eq!(refused.code, Some(78));
    assert!(refused.stderr.contains("sha256"), "{}", refused.stderr);
    assert_eq!(with_config("check", "no toml [").code, Some(78));
    assert_eq!(run(&["check", "--config", "/nonexistent/dayfly.toml"]).code, Some(78));
}

#[test]
fn a_new_key_works_when_its_block_is_pasted() {
    let made = run(&["key", "new", "--tenant", "acme", "--role", "client"]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let all = &made.stdout;
    let key = all.split_whitespace().find(|word| word.starts_with("dfk_")).expect("a key");
    assert_eq!(all.matches(key).count(), 1, "the key is shown once: {all}");
    let secret = key.rsplit('_').next().unwrap();
    assert_eq!(secret.len(), 52);
    let block = &all[all.find("[[keys]]").expect("a block to paste")..];
    assert!(!block.contains(secret), "{block}");
    let mut gateway = good().start();
    let toml = gateway.setup.toml() + "\n" + block;
    gateway.rewrite(&toml);
    gateway.signal(Signal::HUP);
    let fresh = gateway.anonymous().with_key(Some(key));
    eventually("the key works", || (fresh.get("/v1/whoami").status == 200).then_some(()));
    fresh.upload("", b"x");
    let again = run(&["key", "new", "--tenant", "acme", "--role", "client"]);
    assert_ne!(again.stdout, made.stdout);
    assert_ne!(run(&["key", "new", "--tenant", "acme", "--role", "emperor"]).code, Some(0));
}

#[test]
fn a_reload_brings_keys_and_tenants_in_and_out() {
    let mut gateway = good().start();
    let id = gateway.client().upload("", b"kept");
    let setup = gateway.setup.clone();
    let setup = setup.without_key("acme2").key("newcomer", "fresh", &["client"]);
    let setup = setup.set("tenants.fresh", "regions", "[\"eu-test-1\"]");
    let setup = setup.set("tenants.acme", "max_ttl", "\"5m\"");
    gateway.rewrite(&setup.toml());
    gateway.signal(Signal::HUP);
    let newcomer = gateway.client_of("newcomer");
    eventually("the new key works", || (newcomer.get("/v1/whoami").status == 200).then_some(()));
    gateway.client_of("acme2").get("/v1/whoami").problem(401, "unauthenticated");
    let client = gateway.client();
    client.post("/v1/files?ttl=10m", b"x").problem(403, "not-permitted-by-policy");
    client.download(&id).expect(200).is_body(b"kept");
}

#[test]
fn a_bad_reload_changes_nothing() {
    let mut gateway = good().start();
    let newer = |setup: Setup| setup.key("newcomer", "acme", &["client"]);
    let base = gateway.setup.clone();
    for toml in [
        "no toml [".to_owned(),
        newer(base.clone()).set("limits", "max_flie", "1").toml(),
        newer(base.clone()).set("tenants.acme", "regions", "[\"mars-1\"]").toml(),
        newer(base.clone()).set("limits", "max_file", "\"1KiB\"").toml(),
        newer(base.clone()).set("listen", "public", "\"127.0.0.1:1\"").toml(),
        newer(base.clone()).set("vault", "keyring", "\"auto\"").toml(),
    ] {
        let before = gateway.stderr().len();
        gateway.rewrite(&toml);
        gateway.signal(Signal::HUP);
        eventually("the refusal is logged", || {
            let said = gateway.stderr();
            let said = &said[before..];
            said.lines().any(|line| line.contains("reload")).then_some(())
        });
        assert_eq!(gateway.client().get("/v1/whoami").status, 200);
        gateway.client_of("newcomer").get("/v1/whoami").problem(401, "unauthenticated");
    }
    gateway.rewrite(&newer(base).toml());
    gateway.signal(Signal::HUP);
    let newcomer = gateway.client_of("newcomer");
    eventually("a good one applies", || (newcomer.get("/v1/whoami").status == 200).then_some(()));
}

#[test]
fn the_ready_line_is_the_first_and_names_both_addresses() {
    let gateway = TestGateway::start();
    let expected =
        format!("dayfly listening on http://{} admin http://{}\n", gateway.public, gateway.admin);
    assert_eq!(gateway.ready_line(), expected);
    assert!(gateway.public.ip().is_loopback() && gateway.admin.ip().is_loopback());
    assert!(gateway.stdout().starts_with(&expected));
    let _ = key_of("acme");
}

#[test]
fn plain_http_beyond_loopback_must_be_accepted_by_name() {
    let open = good().set("listen", "public", "\"0.0.0.0:0\"");
    let refused = with_config("serve", &open.toml());
    assert_eq!(refused.code, Some(78), "{}", refused.stderr);
    assert!(refused.stderr.contains("plain_http"), "{}", refused.stderr);
}
