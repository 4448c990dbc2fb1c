//! Real clients, through a proxy that cuts: what was sent arrives, and little is sent twice.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::proxy::Proxy;
use crate::harness::{Client, Setup, Shell, TestGateway, is_long_tier, key_of, skip, tell};

const CUTS: u64 = 20;

fn size() -> usize {
    if is_long_tier() { 256 << 20 } else { 64 << 20 }
}

/// The bytes that the scripts make, too.
fn content(size: usize) -> Vec<u8> {
    (0..size as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().to_owned()
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/resume").join(name)
}

/// The JavaScript client, waiting to be told what to do.
struct Script {
    child: std::process::Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    origin: String,
}

impl Script {
    fn start() -> Option<Self> {
        let library = target().join("tus");
        let runs = |program: &str| Command::new(program).arg("--version").output().is_ok();
        if !library.join("node_modules/tus-js-client").exists() || !runs("node") {
            skip("tus-js-client: tests/run installs it");
            return None;
        }
        let playwright = target().join("browser/node_modules/playwright-core");
        let chromium = std::env::var("DAYFLY_CHROMIUM").unwrap_or_else(|_| "chromium".to_owned());
        let mut child = Command::new("node")
            .arg(script("client.mjs"))
            .env("DAYFLY_TUS", library)
            .env("DAYFLY_PLAYWRIGHT", playwright)
            .env("DAYFLY_CHROMIUM", chromium)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        let origin = first["origin"].as_str().unwrap().to_owned();
        Some(Self { child, lines, origin })
    }

    #[track_caller]
    fn does(mut self, asked: &Value) -> Value {
        writeln!(self.child.stdin.as_mut().unwrap(), "{asked}").unwrap();
        let told = self.lines.next().expect("it says how it went").unwrap();
        let told: Value = serde_json::from_str(&told).unwrap();
        assert!(self.child.wait().unwrap().success());
        assert_eq!(told["error"], Value::Null, "{told}");
        told
    }
}

/// The one file there is.
#[track_caller]
fn the_file(client: &Client) -> Value {
    let list = client.get("/v1/files").expect(200).json();
    let files = list["files"].as_array().unwrap();
    assert_eq!(files.len(), 1, "{list}");
    files[0].clone()
}

/// Asserts that it came whole, and that little was sent twice.
#[track_caller]
fn is_whole(gateway: &TestGateway, proxy: &Proxy, size: usize, who: &str) {
    let client = gateway.client();
    let file = the_file(&client);
    assert_eq!(file["size"], size);
    client.download(file["id"].as_str().unwrap()).expect(200).is_body(&content(size));
    assert_eq!(proxy.cuts(), CUTS, "{who} was cut so often");
    let more = proxy.sent() as f64 / size as f64 - 1.0;
    tell(&format!("{who}: {:.2} % sent twice, over {CUTS} cuts", more * 100.0));
    assert!(more <= 0.02, "{who} has sent {:.2} % twice", more * 100.0);
}

#[test]
fn tus_js_client_goes_on_after_every_cut() {
    let Some(script) = Script::start() else { return };
    let (gateway, size) = (TestGateway::start(), size());
    let proxy = Proxy::start(gateway.public, size as u64, CUTS, "tus-js-client");
    let endpoint = format!("http://{}/v1/tus", proxy.addr);
    let token = key_of("acme");
    script.does(&json!({"where": "node", "endpoint": endpoint, "token": token, "size": size}));
    is_whole(&gateway, &proxy, size, "tus-js-client");
}

#[test]
fn tuspy_goes_on_after_every_cut() {
    let python = target().join("judges/bin/python");
    let has = Command::new(&python).args(["-c", "import tusclient"]).output();
    if !has.is_ok_and(|ran| ran.status.success()) {
        return skip("tuspy: tests/run installs it");
    }
    let (gateway, size) = (TestGateway::start(), size());
    let proxy = Proxy::start(gateway.public, size as u64, CUTS, "tuspy");
    let path = gateway.dir().join("big.bin");
    std::fs::write(&path, content(size)).unwrap();
    let ran = Command::new(&python)
        .arg(script("client.py"))
        .args([format!("http://{}/v1/tus", proxy.addr), key_of("acme")])
        .arg(&path)
        .arg((16 << 20).to_string())
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    is_whole(&gateway, &proxy, size, "tuspy");
}

#[test]
fn dayfly_put_goes_on_after_every_cut() {
    let (gateway, size) = (TestGateway::start(), size());
    let proxy = Proxy::start(gateway.public, size as u64, CUTS, "dayfly put");
    let shell = Shell::new(&format!("http://{}", proxy.addr), &key_of("acme"));
    shell.write("big.bin", &content(size));
    let put = shell.status(0, &["put", "--ttl", "15m", "big.bin"]);
    assert!(put.stdout.contains("big.bin"), "{}", put.stdout);
    is_whole(&gateway, &proxy, size, "dayfly put");
    assert_eq!(the_file(&gateway.client())["name"], "big.bin");
}

#[test]
fn parallel_parts_become_one_file_and_a_grant_counts_them_as_one() {
    let Some(script) = Script::start() else { return };
    let (gateway, size) = (TestGateway::start(), 16 << 20);
    let client = gateway.client();
    let grant = json!({"allow": "upload", "count": 1, "ttl": "5m"}).to_string();
    let grant = client.post("/v1/grants", grant.as_bytes()).expect(201).text("grant");
    let endpoint = format!("http://{}/v1/tus", gateway.public);
    script.does(&json!({
        "where": "node", "endpoint": endpoint, "token": grant, "size": size, "parallel": 4
    }));
    let file = the_file(&client);
    client.download(file["id"].as_str().unwrap()).expect(200).is_body(&content(size));
    let spent = client.with_key(Some(&grant)).post("/v1/files", b"more");
    spent.problem(401, "unauthenticated");
}

#[test]
fn a_page_of_another_origin_uploads_with_a_grant() {
    let Some(script) = Script::start() else { return };
    if !target().join("browser/node_modules/playwright-core").exists() {
        return skip("tus-js-client in Chromium: tests/run installs playwright-core");
    }
    let origins = format!("[\"{}\"]", script.origin);
    let gateway = Setup::new().set("listen", "cors_origins", &origins).start();
    let client = gateway.client();
    let grant = json!({"allow": "upload", "count": 1, "ttl": "5m"}).to_string();
    let grant = client.post("/v1/grants", grant.as_bytes()).expect(201).text("grant");
    let size = 8 << 20;
    let endpoint = format!("http://{}/v1/tus", gateway.public);
    let told = script.does(&json!({
        "where": "browser", "endpoint": endpoint, "token": grant, "size": size
    }));
    assert!(told["url"].as_str().unwrap().contains("/v1/tus/upl_"), "{told}");
    let file = the_file(&client);
    assert_eq!(file["name"], "big.bin");
    client.download(file["id"].as_str().unwrap()).expect(200).is_body(&content(size));
}
