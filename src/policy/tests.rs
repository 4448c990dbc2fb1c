//! Policy: every rule has its refusal.

use super::*;
use crate::clock::Wall;
use crate::file::MAX_TTL;

fn policy() -> Policy {
    let region = |gateway: Option<&str>| RegionPolicy {
        jurisdiction: None,
        gateway: gateway.map(str::to_owned),
    };
    let regions = BTreeMap::from([
        ("eu".parse().unwrap(), region(None)),
        ("us".parse().unwrap(), region(Some("https://us.example"))),
        ("ap".parse().unwrap(), region(Some("https://ap.example"))),
    ]);
    Policy {
        here: "eu".parse().unwrap(),
        regions,
        tenants: BTreeMap::new(),
        keys: vec![key("k1", "secret one"), key("k2", "secret two")],
        pipelines: BTreeMap::new(),
        processors: BTreeMap::new(),
        providers: BTreeMap::new(),
        provider_regions: BTreeMap::new(),
        places: Places::default(),
        default_ttl: Duration::from_secs(3600),
        max_ttl: MAX_TTL,
        max_file_bytes: 1000,
        requests_per_second: 0,
    }
}

/// A key whose secret is `seed`, padded to the 52 characters a secret has.
fn key(id: &str, seed: &str) -> Key {
    use sha2::{Digest, Sha256};
    let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(padded(seed).as_bytes()));
    Key::new(id, "acme", Roles::EVERY, &hash, None).unwrap()
}

fn padded(seed: &str) -> String {
    format!("{seed:x<52}")
}

fn tenant(regions: &[&str]) -> TenantPolicy {
    TenantPolicy {
        id: TenantId::of("acme"),
        display_name: None,
        regions: regions.iter().map(|name| name.parse().unwrap()).collect(),
        processors: Some(vec!["text".to_owned()]),
        webhook_regions: BTreeMap::new(),
        max_ttl: Duration::from_secs(1800),
        max_file_bytes: 500,
        max_live_bytes: 5000,
        always_digest: false,
        providers: Vec::new(),
        return_to: Vec::new(),
        webhooks: Vec::new(),
        webhook_secret: None,
    }
}

#[test]
fn every_region_rule_has_its_refusal() {
    let policy = policy();
    let decide = |regions: &[&str], asked: Option<&'static str>| {
        let decided = policy.decide(&tenant(regions), &Ask { region: asked, ..Ask::default() });
        decided.map(|terms| terms.region.to_string())
    };
    assert_eq!(decide(&["eu"], None), Ok("eu".to_owned()));
    assert_eq!(decide(&["us", "eu"], Some("eu")), Ok("eu".to_owned()));
    for nonsense in ["mars", "", "EU", "a name much longer than sixteen"] {
        assert_eq!(decide(&["eu"], Some(nonsense)), Err(Refusal::RegionUnavailable));
    }
    assert_eq!(decide(&["eu"], Some("us")), Err(Refusal::RegionNotPermitted));
    let us = Refusal::WrongRegion { gateway: Some("https://us.example".to_owned()) };
    assert_eq!(decide(&["eu", "us"], Some("us")), Err(us.clone()));
    assert_eq!(decide(&["us", "ap"], None), Err(us));
}

#[test]
fn the_smaller_of_default_and_maximum_is_granted_and_more_is_refused() {
    let (policy, tenant) = (policy(), tenant(&["eu"]));
    let terms = policy.decide(&tenant, &Ask::default()).unwrap();
    assert_eq!((terms.ttl, terms.max_bytes), (Duration::from_secs(1800), 500));
    let longer = Ask { ttl: Some(Duration::from_secs(1801)), ..Ask::default() };
    assert_eq!(policy.decide(&tenant, &longer), Err(Refusal::TtlNotPermitted));
    let larger = Ask { declared_bytes: Some(501), ..Ask::default() };
    assert_eq!(policy.decide(&tenant, &larger), Err(Refusal::TooLarge { limit: 500 }));
}

#[test]
fn a_step_outside_the_tenants_list_is_refused() {
    let (policy, tenant) = (policy(), tenant(&["eu"]));
    let steps = ["text".to_owned(), "compress".to_owned()];
    let ask = |steps| policy.decide(&tenant, &Ask { steps, ..Ask::default() });
    assert!(ask(&steps[..1]).is_ok());
    assert_eq!(ask(&steps), Err(Refusal::StepNotPermitted));
}

#[test]
fn only_the_right_secret_of_the_right_id_is_let_in_until_its_end() {
    let mut policy = policy();
    let now = Wall::from_unix(Duration::from_secs(1_800_000_000));
    let ask = |policy: &Policy, id: &str, seed: &str| {
        let text = format!("dfk_{id}_{}", padded(seed));
        let principal = policy.authenticate(&Presented::parse(&text).unwrap(), now);
        principal.map(|principal| principal.key_id().to_owned())
    };
    assert_eq!(ask(&policy, "k2", "secret two"), Some("k2".to_owned()));
    assert_eq!(ask(&policy, "k1", "secret two"), None);
    assert_eq!(ask(&policy, "k3", "secret two"), None);
    policy.keys[1].end(now);
    assert_eq!(ask(&policy, "k2", "secret two"), None);
    for text in ["", "dfk_", "dfk_k1", "dfk_k1_short", "dfg_k1_x", "Bearer"] {
        assert!(Presented::parse(text).is_none(), "{text}");
    }
}
