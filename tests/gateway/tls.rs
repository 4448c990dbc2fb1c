//! TLS: both protocols on one port, certificates that change under load, and hands that hesitate.

use std::io::{Read, Write};
use std::process::Command;

use rustix::process::Signal;

use crate::harness::{
    Pair, Setup, Shell, TestGateway, Wire, eventually, key_of, noise, run, status_over,
};

fn start(pair: &Pair) -> TestGateway {
    pair.on(Setup::new().set("limits", "header_timeout", "\"2s\"")).start()
}

fn shell(gateway: &TestGateway) -> Shell {
    Shell::new(&format!("https://{}", gateway.public), &key_of("acme"))
}

/// curl with the pair's certificate; what it wrote.
fn curl(pair: &Pair, arguments: &[&str]) -> (bool, Vec<u8>) {
    let mut curl = Command::new("curl");
    curl.env_clear().arg("-sS").arg("--cacert").arg(pair.cert());
    curl.arg("-H").arg(format!("Authorization: Bearer {}", key_of("acme")));
    let output = curl.args(arguments).output().expect("curl is installed");
    (output.status.success(), output.stdout)
}

#[test]
fn both_protocols_are_spoken_on_one_port() {
    let pair = Pair::new();
    let gateway = start(&pair);
    assert!(gateway.ready_line().starts_with("dayfly listening on https://127.0.0.1:"));
    let shell = shell(&gateway);
    let bytes = noise(3 << 20);
    shell.write("up", &bytes);
    let (up, files) = (shell.path("up"), format!("https://{}/v1/files", gateway.public));
    for (protocol, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let sent = format!("@{}", up.display());
        let (good, answer) = curl(&pair, &[protocol, "--data-binary", &sent, &files]);
        assert!(good, "{protocol}");
        let file: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        let content = format!("{files}/{}/content", file["id"].as_str().unwrap());
        let (good, back) = curl(&pair, &[protocol, &content]);
        assert!(good && back == bytes, "{protocol}");
        let said = curl(&pair, &[protocol, "-o", "/dev/null", "-w", "%{http_version}", &content]);
        assert_eq!(String::from_utf8_lossy(&said.1), version);
    }
    for (offered, chosen) in [(&["h2", "http/1.1"][..], "h2"), (&["http/1.1"], "http/1.1")] {
        let wire = pair.connect(gateway.public, offered).unwrap();
        assert_eq!(wire.conn.alpn_protocol(), Some(chosen.as_bytes()));
    }
}

#[test]
fn the_commands_trust_whom_the_machine_trusts_and_nobody_else() {
    let pair = Pair::new();
    let gateway = start(&pair);
    let bytes = noise(1 << 20);
    let trusting = shell(&gateway).with("SSL_CERT_FILE", pair.cert().to_str().unwrap());
    trusting.write("a", &bytes);
    let put = trusting.status(0, &["put", "a"]).stdout;
    trusting.status(0, &["get", put.split(' ').next().unwrap(), "b"]);
    assert!(trusting.read("b") == bytes);
    let stranger = Pair::new();
    let doubting = shell(&gateway).with("SSL_CERT_FILE", stranger.cert().to_str().unwrap());
    let refused = doubting.status(3, &["ls"]).stderr;
    assert!(refused.contains("certificate"), "{refused}");
}

#[test]
fn a_certificate_changes_while_connections_go_on() {
    let pair = Pair::new();
    let mut gateway = pair.on(Setup::new()).start();
    let mut first = pair.connect(gateway.public, &["http/1.1"]).unwrap();
    assert_eq!(status_over(&mut first, "/problems"), Some(200));
    pair.renew();
    gateway.signal(Signal::HUP);
    eventually("the new certificate is shown", || pair.connect(gateway.public, &["http/1.1"]).ok());
    assert_eq!(status_over(&mut first, "/problems"), Some(200), "the old connection goes on");
    // A pair that is none: the reload is refused as a whole, and the certificate stays.
    let good = std::fs::read_to_string(pair.key()).unwrap();
    pair.write_key(&std::fs::read_to_string(Pair::new().key()).unwrap());
    let more = pair.on(Setup::new()).key("late", "acme", &["client"]);
    gateway.rewrite(&more.clone().spool(&gateway.dir().join("spool")).toml());
    gateway.signal(Signal::HUP);
    eventually("the reload is refused", || {
        gateway.stderr().contains("the key is not the certificate's").then_some(())
    });
    let at = gateway.public;
    let shown = || pair.connect(at, &["http/1.1"]).is_ok();
    assert!(shown());
    let late = Shell::new(&format!("https://{}", gateway.public), &key_of("late"))
        .with("SSL_CERT_FILE", pair.cert().to_str().unwrap());
    late.status(1, &["ls"]);
    pair.write_key(&good);
    gateway.signal(Signal::HUP);
    eventually("the reload applies", || (late.run(&["ls"]).ended.code == Some(0)).then_some(()));
    assert!(shown());
}

#[test]
fn a_pair_that_cannot_be_used_is_refused_with_its_reason() {
    let pair = Pair::new();
    let setup = pair.on(Setup::new().set("vault", "store", "\"memory\"").without("vault.local"));
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let config = dir.path().join("dayfly.toml");
    std::fs::write(&config, setup.toml()).unwrap();
    let refused = |why: &str| {
        for command in ["check", "serve"] {
            let ended = run(&[command, "--config", config.to_str().unwrap()]);
            assert_eq!(ended.code, Some(78), "{command}: {}{}", ended.stdout, ended.stderr);
            let said = ended.stdout + &ended.stderr;
            assert!(said.contains(why), "{command}: {said}");
        }
    };
    assert_eq!(run(&["check", "--config", config.to_str().unwrap()]).code, Some(0));
    let good = std::fs::read_to_string(pair.key()).unwrap();
    pair.write_key(&std::fs::read_to_string(Pair::new().key()).unwrap());
    refused("the key is not the certificate's");
    pair.write_key("nothing");
    refused("there is no private key in it");
    pair.write_key(&good);
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(pair.key(), open).unwrap();
    refused("chmod 0600");
    pair.write_key(&good);
    std::fs::write(pair.cert(), "nothing").unwrap();
    refused("there is no certificate in it");
    std::fs::remove_file(pair.cert()).unwrap();
    refused("listen.tls.cert_file");
}

#[test]
fn whoever_hesitates_at_the_handshake_is_let_go_and_holds_up_nobody() {
    let pair = Pair::new();
    let gateway = start(&pair);
    let mut slow: Vec<Wire> = (0..50).map(|_| Wire::open(gateway.public)).collect();
    for (at, wire) in slow.iter_mut().enumerate() {
        // Silence, the start of a ClientHello, and plain HTTP.
        let said: &[u8] = [&b""[..], b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n"][at % 3];
        wire.send(said).unwrap();
    }
    let mut good = pair.connect(gateway.public, &["http/1.1"]).unwrap();
    assert_eq!(status_over(&mut good, "/problems"), Some(200));
    for wire in &mut slow {
        assert!(wire.try_head().is_none());
    }
    gateway.comes_to("dayfly_connections_refused_total", 50.0);
    gateway.comes_to("dayfly_connections", 1.0);
}

#[test]
fn a_file_that_dies_in_mid_download_is_cut_under_tls_too() {
    let pair = Pair::new();
    let gateway = start(&pair);
    let trusting = shell(&gateway).with("SSL_CERT_FILE", pair.cert().to_str().unwrap());
    trusting.write("a", &noise(48 << 20));
    let put = trusting.status(0, &["put", "a"]).stdout;
    let id = put.split(' ').next().unwrap();
    let mut wire = pair.connect(gateway.public, &["http/1.1"]).unwrap();
    let ask = format!(
        "GET /v1/files/{id}/content HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
        key_of("acme")
    );
    wire.write_all(ask.as_bytes()).unwrap();
    let mut first = [0; 1000];
    wire.read_exact(&mut first).unwrap();
    trusting.status(0, &["rm", id]);
    let mut rest = Vec::new();
    let ended = wire.read_to_end(&mut rest);
    assert!(rest.len() < 48 << 20, "it came whole");
    assert!(ended.is_err(), "an orderly end would look like one");
}
