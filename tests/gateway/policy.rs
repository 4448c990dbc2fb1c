//! Policy: what is decided is what is explained, rule by rule, and nothing is read before.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::harness::{HERE, Setup, TestGateway, run};

/// Three regions, and three tenants at home in one, two and another of them.
pub fn world() -> Setup {
    Setup::new()
        .set("regions.ap-test-3", "gateway", "\"https://ap.example\"")
        .set("tenants.acme", "max_ttl", "\"1h\"")
        .set("tenants.acme", "processors", "[\"text\", \"checksum\"]")
        .set("tenants.acme", "providers", "[\"dropbox\"]")
        .set("tenants.acme", "webhooks", "[\"hooks.example\", \"far.example\"]")
        .set("tenants.acme", "webhook_regions", "{ \"far.example\" = \"us-test-2\" }")
        .set("providers.dropbox", "client_id", "\"app\"")
        .set("providers.dropbox", "region", "\"us-test-2\"")
}

pub const REGIONS: [Option<&str>; 5] =
    [None, Some(HERE), Some("us-test-2"), Some("ap-test-3"), Some("mars-1")];
pub const TENANTS: [&str; 3] = ["acme", "roamer", "abroad"];

#[track_caller]
pub fn explain(gateway: &TestGateway, key: &str, asked: &Value) -> Value {
    let answer = gateway.client_of(key).post("/v1/policy/explain", asked.to_string().as_bytes());
    answer.expect(200).json()
}

#[test]
fn every_rule_has_its_word_and_its_place() {
    let gateway = world().start();
    let decided = |asked: Value| explain(&gateway, "ops", &asked);
    for (asked, rule, result) in [
        (json!({"tenant": "acme", "region": "mars-1"}), "region-known", "deny"),
        (json!({"tenant": "acme", "region": "us-test-2"}), "region-of-tenant", "deny"),
        (json!({"tenant": "abroad"}), "region-held-here", "redirect"),
        (json!({"tenant": "acme", "ttl": "2h"}), "life", "deny"),
        (json!({"tenant": "acme", "steps": ["compress"]}), "step", "deny"),
        (json!({"tenant": "acme", "steps": ["text", "checksum"]}), "step", "allow"),
        (json!({"tenant": "acme", "source": "google_drive"}), "source", "deny"),
        (json!({"tenant": "acme", "source": "dropbox"}), "source", "allow"),
        (json!({"tenant": "acme", "deliver": "dropbox"}), "delivery-region", "deny"),
        (json!({"tenant": "other", "deliver": "dropbox"}), "delivery", "deny"),
        (json!({"tenant": "acme", "webhook": "hooks.example"}), "webhook", "allow"),
        (json!({"tenant": "acme", "webhook": "evil.example"}), "webhook", "deny"),
        (json!({"tenant": "acme", "webhook": "far.example"}), "webhook-region", "deny"),
        (json!({"tenant": "acme", "size": 1u64 << 60}), "size", "deny"),
    ] {
        let said = decided(asked.clone());
        let reasons = said["reasons"].as_array().unwrap();
        let reason = reasons.iter().find(|reason| reason["rule"] == rule);
        let reason = reason.unwrap_or_else(|| panic!("{asked}: no {rule} in {said}"));
        assert_eq!(reason["result"], result, "{asked}: {said}");
        let decision = if result == "allow" { "allow" } else { result };
        assert_eq!(said["decision"], decision, "{asked}: {said}");
    }
    // The place is the line of the file that was read.
    let toml = std::fs::read_to_string(gateway.config()).unwrap();
    let section = toml.lines().position(|line| line == "[tenants.acme]").unwrap();
    let within = toml.lines().skip(section).position(|line| line.starts_with("regions")).unwrap();
    let said = decided(json!({"tenant": "acme", "region": "us-test-2"}));
    let reasons = said["reasons"].as_array().unwrap();
    let place = &reasons.iter().find(|one| one["rule"] == "region-of-tenant").unwrap()["from"];
    let expected = format!("{}:{}", gateway.config().display(), section + within + 1);
    assert_eq!(*place, expected.as_str(), "{said}");
}

#[test]
fn only_ops_see_places_and_other_tenants() {
    let gateway = world().start();
    let ask = |key: &str, tenant: &str| {
        let body = json!({"tenant": tenant, "region": "us-test-2"}).to_string();
        gateway.client_of(key).post("/v1/policy/explain", body.as_bytes())
    };
    for key in ["acme", "auditor", "owner"] {
        let said = ask(key, "acme").expect(200).json();
        assert_eq!(said["decision"], "deny");
        assert!(!said.to_string().contains("from"), "{said}");
        for stranger in ["roamer", "nobody", ""] {
            ask(key, stranger).problem(404, "not-found");
        }
        gateway.client_of(key).get("/v1/policy").problem(403, "forbidden");
    }
    assert!(ask("ops", "roamer").expect(200).json().to_string().contains("dayfly.toml:"));
    ask("ops", "nobody").problem(404, "not-found");
    let unknown = json!({"tenant": "acme", "colour": "red"}).to_string();
    gateway
        .client_of("ops")
        .post("/v1/policy/explain", unknown.as_bytes())
        .problem(400, "bad-request");
    let steps = json!({"tenant": "acme", "steps": ["fly"]}).to_string();
    gateway
        .client_of("ops")
        .post("/v1/policy/explain", steps.as_bytes())
        .problem(422, "unknown-step");
    let policy = gateway.client_of("ops").get("/v1/policy").expect(200);
    for secret in gateway.setup.secrets() {
        assert!(!policy.body_text().contains(secret));
    }
    let policy = policy.json();
    assert_eq!(policy["region"], HERE);
    let tenants = policy["tenants"].as_array().unwrap();
    let acme = tenants.iter().find(|tenant| tenant["name"] == "acme").unwrap();
    assert_eq!(acme["max_ttl_seconds"], 3600);
    assert_eq!(acme["webhooks"]["far.example"], "us-test-2");
}

#[test]
fn the_command_line_explains_as_the_gateway_does() {
    let gateway = world().start();
    let path = gateway.config();
    let path = path.to_str().unwrap();
    for tenant in TENANTS {
        for region in REGIONS.into_iter().flatten() {
            let asked = json!({"tenant": tenant, "region": region, "steps": ["text"], "size": 5});
            let over_http = explain(&gateway, "ops", &asked);
            let told = run(&[
                "explain", "--config", path, "--tenant", tenant, "--region", region, "--steps",
                "text", "--size", "5", "--json",
            ]);
            assert_eq!(told.code, Some(0), "{}", told.stderr);
            let told: Value = serde_json::from_str(&told.stdout).unwrap();
            assert_eq!(told, over_http);
        }
    }
    let words = run(&["explain", "--config", path, "--tenant", "abroad"]);
    assert!(words.stdout.starts_with("redirect (us-test-2)\n"), "{}", words.stdout);
    assert_ne!(run(&["explain", "--config", path, "--tenant", "nobody"]).code, Some(0));
}

#[test]
fn what_would_leave_the_region_on_every_use_is_refused_at_load_with_its_line() {
    let mut wrong = String::new();
    let tika = |setup: Setup| {
        setup.set("processors.tika", "kind", "\"http\"").set(
            "processors.tika",
            "url",
            "\"https://tika.example\"",
        )
    };
    let far = tika(world()).set("processors.tika", "region", "\"us-test-2\"");
    for (setup, key) in [
        (far.clone().set("pipelines", "read", "[\"tika\"]"), "pipelines.read"),
        (far.set("tenants.acme", "processors", "[\"tika\"]"), "tenants.acme.processors"),
        (tika(world()).set("processors.tika", "region", "\"mars-1\""), "processors.tika.region"),
        // None at all: the complaint stands at the table, and says what to write.
        (tika(world()), "processors.tika.region"),
        (world().set("providers.dropbox", "region", "\"mars-1\""), "providers.dropbox.region"),
        (
            world().set("tenants.other", "webhook_regions", "{ \"x.example\" = \"us-test-2\" }"),
            "tenants.other.webhook_regions",
        ),
        (world().set("tenants.acme", "regions", "[\"mars-1\"]"), "tenants.acme.regions"),
    ] {
        let setup = setup.set("vault", "store", "\"memory\"").without("vault.local");
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = dir.path().join("dayfly.toml");
        std::fs::write(&path, setup.toml()).unwrap();
        let checked = run(&["check", "--config", path.to_str().unwrap()]);
        let (name, section) = {
            let (section, name) = key.rsplit_once('.').unwrap();
            (name, section)
        };
        let toml = setup.toml();
        let start = toml.lines().position(|line| line == format!("[{section}]")).unwrap();
        let section = toml.lines().skip(start).take_while(|line| !line.is_empty());
        let within = section.into_iter().position(|line| line.starts_with(name)).unwrap_or(0);
        let line = format!("line {}: {key}: ", start + within + 1);
        if checked.code != Some(78) || !checked.stderr.contains(&line) {
            let _ = writeln!(wrong, "{key}: {:?} {}", checked.code, checked.stderr);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
