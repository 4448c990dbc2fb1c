//! Regions: what is fetched from a storage, and what is put back there, for every tenant and into
//! every region. The rows of `matrix` that want a connected account.

use serde_json::{Value, json};

use super::Scene;
use crate::cloud::{Kind, Part};
use crate::harness::HERE;
use crate::policy::{REGIONS, explain};

/// What is ordered besides the region, given a connection, an item and a file; and what an
/// explanation is asked for.
type Way = (fn(&str, &str, &str) -> Value, fn() -> Value);

const WAYS: [Way; 3] = [
    (
        |connection, item, _| json!({"source": {"connection": connection, "item": item}}),
        || json!({"source": "dropbox"}),
    ),
    (
        |connection, item, _| {
            json!({"source": {"connection": connection, "item": item},
                "deliver": {"connection": connection}, "steps": ["checksum"]})
        },
        || json!({"source": "dropbox", "deliver": "dropbox", "steps": ["checksum"]}),
    ),
    (
        |connection, _, file| {
            let deliver = json!({"connection": connection});
            json!({"source": {"file": file}, "deliver": deliver})
        },
        || json!({"deliver": "dropbox"}),
    ),
];

/// Status and decision for a tenant of this region, and for one that has another, too.
fn expected(roams: bool, region: Option<&str>) -> (u16, &'static str) {
    match region {
        None | Some(HERE) => (202, "allow"),
        Some("mars-1") => (422, "deny"),
        Some("us-test-2") if roams => (421, "redirect"),
        Some(_) => (403, "deny"),
    }
}

#[test]
fn a_pull_and_a_delivery_are_decided_as_they_are_explained() {
    for roams in [false, true] {
        let regions =
            if roams { format!("[{HERE:?}, \"us-test-2\"]") } else { format!("[{HERE:?}]") };
        let scene = Scene::with(|setup| {
            let setup = setup.set("regions.ap-test-3", "gateway", "\"https://ap.example\"");
            setup.set("tenants.acme", "regions", &regions)
        });
        let client = scene.gateway.client();
        let item = scene.lay(Kind::Dropbox, b"some bytes");
        let connection = scene.active(Kind::Dropbox, &json!({"access": "browse+write"}));
        let file = client.upload("", b"some bytes");
        let (mut ordered, mut fetches) = (0, 0);
        for region in REGIONS {
            for (nth, (order, question)) in WAYS.iter().enumerate() {
                let (mut order, mut question) = (order(&connection, &item, &file), question());
                let (status, decision) = expected(roams, region);
                let what = format!("{region:?}, way {nth}, roams: {roams}");
                question["tenant"] = json!("acme");
                if let Some(region) = region {
                    order["region"] = json!(region);
                    question["region"] = json!(region);
                }
                let said = explain(&scene.gateway, "ops", &question);
                assert_eq!(said["decision"], decision, "{what}: {said}");
                let answer = client.post("/v1/jobs", order.to_string().as_bytes());
                assert_eq!(answer.status, status, "{what}");
                if status == 421 {
                    let there = answer.header("location");
                    assert_eq!(there, Some("https://us.example/v1/jobs"), "{what}");
                }
                ordered += usize::from(status == 202);
                fetches += usize::from(status == 202 && nth < 2);
            }
        }
        scene.gateway.comes_to("dayfly_jobs", 0.0);
        let jobs = client.get("/v1/jobs?limit=1000").expect(200).json();
        assert_eq!(jobs["jobs"].as_array().unwrap().len(), ordered);
        assert_eq!(scene.dropbox.count(Part::Content), fetches, "what is denied is not asked for");
    }
}

/// The storage is said to lie elsewhere: nothing goes there, and nothing comes from there.
#[test]
fn a_storage_that_lies_in_another_region_gets_nothing() {
    let scene = Scene::with(|setup| setup.set("providers.dropbox", "region", "\"us-test-2\""));
    let client = scene.gateway.client();
    let connection = scene.active(Kind::Dropbox, &json!({"access": "browse+write"}));
    let file = client.upload("", b"some bytes");
    let order = json!({"source": {"file": file}, "deliver": {"connection": connection}});
    let denied = client.post("/v1/jobs", order.to_string().as_bytes());
    denied.problem(403, "not-permitted-by-policy");
    let said = explain(&scene.gateway, "ops", &json!({"tenant": "acme", "deliver": "dropbox"}));
    assert_eq!(said["decision"], "deny", "{said}");
    assert_eq!(scene.dropbox.count(Part::Chunk), 0);
}

#[test]
fn a_tenant_of_another_gateway_connects_there() {
    let scene = Scene::with(|setup| setup.set("tenants.acme", "regions", "[\"us-test-2\"]"));
    let sent = scene.asking(Kind::Dropbox, &json!({}));
    assert_eq!(sent.status, 421);
    assert_eq!(sent.header("location"), Some("https://us.example/v1/connections"));
    let said = explain(&scene.gateway, "ops", &json!({"tenant": "acme", "source": "dropbox"}));
    assert_eq!(said["decision"], "redirect", "{said}");
}
