//! Regions: every way in, for every tenant, into every region. Decided as the policy says, and
//! explained the same; of what is denied nothing is read that did not have to be.
//!
//! A way in is a row of [`WAYS`]; a new one belongs there. What wants a connected account has its
//! rows in `connect::pull::regions`.

use std::collections::BTreeMap;
use std::net::TcpListener;

use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::harness::{Answer, HERE, Multipart, Setup, TestGateway, key_of};
use crate::policy::{REGIONS, TENANTS, explain, world};

/// What a way in needs to be there already.
struct Scene {
    gateway: TestGateway,
    /// A file of each tenant that can have one here.
    files: BTreeMap<&'static str, String>,
    /// A grant to upload, likewise.
    grants: BTreeMap<&'static str, String>,
}

/// A request in full.
struct Sent {
    method: &'static str,
    path: String,
    kind: Option<&'static str>,
    body: Vec<u8>,
    /// Another credential than the tenant's key.
    key: Option<String>,
    more: Vec<(&'static str, String)>,
}

/// One way for bytes, or for work on them, to come in.
struct Way {
    name: &'static str,
    /// What an explanation is asked for besides tenant and region.
    steps: &'static [&'static str],
    webhook: Option<&'static str>,
    /// Whether the region stands in the body, which therefore has to be read: an order in JSON.
    order: bool,
    /// Bytes of content it brings.
    content: u64,
    /// `None` where the tenant cannot come this way at all.
    sent: fn(&Scene, &'static str, Option<&str>) -> Option<Sent>,
}

const TEXT: &[u8] = b"a text";

const WAYS: &[Way] = &[
    Way { sent: |_, _, region| bytes("POST", "/v1/files", region), ..CONTENT },
    Way { name: "PUT", sent: |_, _, region| bytes("PUT", "/v1/files/", region), ..CONTENT },
    Way { name: "named", sent: |_, _, region| bytes("PUT", "/v1/files/a.txt", region), ..CONTENT },
    Way { name: "multipart", sent: |_, _, region| form("/v1/files", region), ..CONTENT },
    Way {
        name: "steps",
        steps: &["text"],
        sent: |_, _, region| bytes("POST", "/v1/files?steps=text", region),
        ..CONTENT
    },
    Way {
        name: "multipart with steps",
        steps: &["text"],
        sent: |_, _, region| form("/v1/files?steps=text", region),
        ..CONTENT
    },
    Way {
        name: "process",
        steps: &["text"],
        sent: |_, _, region| bytes("POST", "/v1/process/text", region),
        ..CONTENT
    },
    Way {
        name: "process, as a form",
        steps: &["text"],
        sent: |_, _, region| form("/v1/process/text", region),
        ..CONTENT
    },
    Way { name: "tus", sent: |_, _, region| tus(region), ..CONTENT },
    Way { name: "resumable", sent: |_, _, region| resumable(region), ..CONTENT },
    Way { name: "by grant", sent: by_grant, ..CONTENT },
    Way { name: "grant", sent: grant, ..ORDER },
    Way {
        name: "job",
        steps: &["text"],
        sent: |scene, who, to| job(scene, who, to, None),
        ..ORDER
    },
    Way {
        name: "job with a webhook",
        steps: &["text"],
        webhook: Some("127.0.0.1"),
        sent: |scene, who, to| job(scene, who, to, Some("http://127.0.0.1:9/")),
        ..ORDER
    },
];

const CONTENT: Way = Way {
    name: "POST",
    steps: &[],
    webhook: None,
    order: false,
    content: TEXT.len() as u64,
    sent: |_, _, _| None,
};

const ORDER: Way = Way { order: true, content: 0, ..CONTENT };

fn asking(path: &str, region: Option<&str>) -> String {
    let mark = if path.contains('?') { '&' } else { '?' };
    region.map_or_else(|| path.to_owned(), |region| format!("{path}{mark}region={region}"))
}

#[expect(clippy::unnecessary_wraps, reason = "some ways are not open to everybody")]
fn bytes(method: &'static str, path: &str, region: Option<&str>) -> Option<Sent> {
    let path = asking(path, region);
    Some(Sent { method, path, kind: None, body: TEXT.to_vec(), key: None, more: Vec::new() })
}

fn form(path: &str, region: Option<&str>) -> Option<Sent> {
    let sent = bytes("POST", path, region)?;
    let body = Multipart::new().file("a.txt", TEXT).finish();
    Some(Sent { kind: Some(Multipart::CONTENT_TYPE), body, ..sent })
}

/// Creation with upload (tus 1.0.0); the region stands in the metadata.
fn tus(region: Option<&str>) -> Option<Sent> {
    let sent = bytes("POST", "/v1/tus", None)?;
    let mut more =
        vec![("Tus-Resumable", "1.0.0".to_owned()), ("Upload-Length", TEXT.len().to_string())];
    if let Some(region) = region {
        more.push(("Upload-Metadata", format!("region {}", BASE64.encode(region.as_bytes()))));
    }
    Some(Sent { kind: Some("application/offset+octet-stream"), more, ..sent })
}

/// The IETF protocol, with all bytes in the first request.
fn resumable(region: Option<&str>) -> Option<Sent> {
    let more = vec![("Upload-Complete", "?1".to_owned())];
    Some(Sent { more, ..bytes("POST", "/v1/files", region)? })
}

fn by_grant(scene: &Scene, tenant: &'static str, region: Option<&str>) -> Option<Sent> {
    let key = scene.grants.get(tenant)?.clone();
    Some(Sent { key: Some(key), ..bytes("POST", "/v1/files", region)? })
}

#[expect(clippy::unnecessary_wraps, reason = "some ways are not open to everybody")]
fn order(path: &str, order: &Value) -> Option<Sent> {
    let (path, body) = (path.to_owned(), order.to_string().into_bytes());
    let kind = Some("application/json");
    Some(Sent { method: "POST", path, kind, body, key: None, more: Vec::new() })
}

fn grant(_: &Scene, _: &'static str, region: Option<&str>) -> Option<Sent> {
    let mut asked = json!({ "allow": "upload", "count": 1, "ttl": "5m" });
    if let Some(region) = region {
        asked["region"] = json!(region);
    }
    order("/v1/grants", &asked)
}

fn job(
    scene: &Scene,
    tenant: &'static str,
    region: Option<&str>,
    webhook: Option<&str>,
) -> Option<Sent> {
    // Who can have no file here names one that is nobody's: the region is judged before.
    let nobodys = "file_aaaaaaaaaaaaaaaaaaaaaaaaaa".to_owned();
    let file = scene.files.get(tenant).unwrap_or(&nobodys);
    let mut asked = json!({ "source": { "file": file }, "steps": ["text"] });
    if let Some(region) = region {
        asked["region"] = json!(region);
    }
    if let Some(url) = webhook {
        asked["webhook"] = json!({ "url": url });
    }
    order("/v1/jobs", &asked)
}

/// Status where it is denied, decision, and the region it is about.
fn expected(
    tenant: &str,
    region: Option<&'static str>,
) -> (Option<u16>, &'static str, Option<&'static str>) {
    match (tenant, region) {
        ("acme" | "roamer", None | Some(HERE)) => (None, "allow", Some(HERE)),
        (_, Some("mars-1")) => (Some(422), "deny", None),
        ("roamer" | "abroad", Some("us-test-2")) | ("abroad", None) => {
            (Some(421), "redirect", Some("us-test-2"))
        }
        (_, region) => (Some(403), "deny", region),
    }
}

fn scene() -> Scene {
    let mut setup = world().with_webhooks().set("", "allow_insecure_loopback", "true");
    let secret =
        format!("{:?}", std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("webhook-secret"));
    for tenant in TENANTS {
        let section = format!("tenants.{tenant}");
        setup = setup.set(&section, "webhooks", "[\"127.0.0.1\"]").set(
            &section,
            "webhook_secret_file",
            &secret,
        );
    }
    let setup =
        setup.set("tenants.acme", "webhook_regions", &format!("{{ \"127.0.0.1\" = {HERE:?} }}"));
    let gateway = setup.start();
    let (mut files, mut grants) = (BTreeMap::new(), BTreeMap::new());
    for tenant in ["acme", "roamer"] {
        let client = gateway.client_of(tenant);
        files.insert(tenant, client.upload("", TEXT));
        let asked = json!({ "allow": "upload", "count": 100, "ttl": "1h" }).to_string();
        let made = client.post("/v1/grants", asked.as_bytes()).expect(201);
        grants.insert(tenant, made.text("grant"));
    }
    Scene { gateway, files, grants }
}

/// Asks as a careful client does, who sends its body when it is told to.
fn ask(scene: &Scene, way: &Way, tenant: &'static str, sent: &Sent) -> Answer {
    let key = sent.key.clone().unwrap_or_else(|| key_of(tenant));
    let client = scene.gateway.anonymous().with_key(Some(&key));
    let mut ask = client.ask(sent.method, &sent.path).header("Expect", "100-continue");
    if let Some(kind) = sent.kind {
        ask = ask.header("Content-Type", kind);
    }
    for (name, value) in &sent.more {
        ask = ask.header(name, value);
    }
    let mut wire = ask.begin(Some(sent.body.len() as u64));
    let head = wire.head();
    if head.status != 100 {
        let body = wire.body(&head);
        return Answer::from_parts(head, body, false, way.name);
    }
    wire.send(&sent.body).unwrap();
    let mut answer = Answer::read(&mut wire, way.name);
    answer.continued = true;
    answer
}

#[test]
fn every_way_in_is_decided_as_it_is_explained() {
    let scene = scene();
    let gateway = &scene.gateway;
    let mut content = gateway.metric("dayfly_upload_bytes_total") as u64;
    let mut asked = 0;
    for tenant in TENANTS {
        for region in REGIONS {
            for way in WAYS {
                let Some(sent) = (way.sent)(&scene, tenant, region) else { continue };
                let (status, decision, within) = expected(tenant, region);
                let what = format!("{tenant}, {region:?}, {}", way.name);
                let question = json!({ "tenant": tenant, "region": region, "steps": way.steps,
                    "webhook": way.webhook });
                let said = explain(gateway, "ops", &question);
                assert_eq!(said["decision"], decision, "{what}: {said}");
                assert_eq!(said["region"], json!(within), "{what}: {said}");
                let mut reasons = said["reasons"].as_array().unwrap().iter();
                let first = reasons.find(|reason| reason["result"] != "allow");
                let first = first.map_or("allow", |reason| reason["result"].as_str().unwrap());
                assert_eq!(first, decision, "{what}: {said}");
                let answer = ask(&scene, way, tenant, &sent);
                match status {
                    None => {
                        assert!(
                            answer.continued && answer.status < 300,
                            "{what}: {}",
                            answer.status
                        );
                        content += way.content;
                    }
                    Some(status) => {
                        assert_eq!(answer.status, status, "{what}");
                        assert_eq!(answer.continued, way.order, "{what}: its body was asked for");
                    }
                }
                if status == Some(421) {
                    let path = sent.path.split('?').next().unwrap();
                    let place = format!("https://us.example{path}");
                    assert_eq!(answer.header("location"), Some(place.as_str()), "{what}");
                }
                asked += 1;
            }
        }
    }
    assert_eq!(asked, WAYS.len() * TENANTS.len() * REGIONS.len() - REGIONS.len());
    let read = gateway.metric("dayfly_upload_bytes_total") as u64;
    assert_eq!(read, content, "a refused byte was read");
    gateway.comes_to("dayfly_jobs", 0.0);
    for tenant in TENANTS {
        let jobs = gateway.client_of(tenant).get("/v1/jobs?limit=1000").expect(200).json();
        // Four ways make one, in the two regions (none named, and this one) that are open.
        let due = if tenant == "abroad" { 0 } else { 4 * 2 };
        assert_eq!(jobs["jobs"].as_array().unwrap().len(), due, "{tenant}");
    }
}

/// The receiver declares another region: nothing is ordered, and nobody is told.
#[test]
fn what_would_be_told_beyond_the_region_is_not_ordered() {
    let receiver = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", receiver.local_addr().unwrap());
    let setup: Setup = world().with_webhooks().set(
        "tenants.acme",
        "webhook_regions",
        "{ \"127.0.0.1\" = \"us-test-2\" }",
    );
    let gateway = setup.start();
    let client = gateway.client();
    let file = client.upload("", TEXT);
    let asked = json!({ "source": { "file": file }, "steps": ["text"], "webhook": { "url": url } });
    let denied = client.post("/v1/jobs", asked.to_string().as_bytes());
    denied.problem(403, "not-permitted-by-policy");
    let question = json!({ "tenant": "acme", "steps": ["text"], "webhook": "127.0.0.1" });
    let said = explain(&gateway, "ops", &question);
    assert_eq!((&said["decision"], &said["region"]), (&json!("deny"), &json!(HERE)), "{said}");
    let reasons = said["reasons"].as_array().unwrap();
    let word = reasons.iter().find(|reason| reason["rule"] == "webhook-region").unwrap();
    assert_eq!(word["result"], "deny");
    let jobs = client.get("/v1/jobs").expect(200).json();
    assert_eq!(jobs["jobs"], json!([]));
    receiver.set_nonblocking(true).unwrap();
    assert!(receiver.accept().is_err(), "somebody knocked there");
}
