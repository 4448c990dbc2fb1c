//! The command line's client: files in and out, whole or not at all, and a status for each failure.

use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::Value;

use crate::harness::{Setup, Shell, TestGateway, key_of, noise};

fn shell(gateway: &TestGateway) -> Shell {
    Shell::new(&format!("http://{}", gateway.public), &key_of("acme"))
}

fn json(line: &str) -> Value {
    serde_json::from_str(line.trim()).unwrap_or_else(|error| panic!("{error}: {line:?}"))
}

/// The id in `dayfly put`'s line.
fn id_in(line: &str) -> String {
    line.split(' ').next().unwrap().to_owned()
}

#[test]
fn a_file_goes_in_is_listed_comes_back_and_is_removed() {
    let gateway = TestGateway::start();
    let shell = shell(&gateway);
    let bytes = noise(3 << 20);
    shell.write("Bericht März.pdf", &bytes);
    let put = shell.status(0, &["put", "--ttl", "15m", "Bericht März.pdf"]);
    let id = id_in(&put.stdout);
    assert!(put.stdout.contains("Bericht März.pdf"), "{}", put.stdout);
    let listed = shell.status(0, &["ls"]).stdout;
    assert!(listed.contains(&id) && listed.contains("3145728"), "{listed}");
    shell.status(0, &["get", &id, "back"]);
    assert!(shell.read("back") == bytes);
    assert!(shell.run(&["get", &id, "-"]).bytes == bytes);
    // Without a place it has its own name; what is there already is not replaced unasked.
    shell.status(4, &["get", &id]);
    std::fs::remove_file(shell.path("Bericht März.pdf")).unwrap();
    shell.status(0, &["get", &id]);
    assert!(shell.read("Bericht März.pdf") == bytes);
    let removed = shell.status(0, &["rm", &id]).stdout;
    assert!(removed.starts_with(&id), "{removed}");
    shell.status(1, &["get", &id, "again"]);
    assert_eq!(shell.names(), ["Bericht März.pdf", "back"]);
    assert_eq!(shell.status(0, &["ls"]).stdout, "");
}

#[test]
fn programs_are_spoken_to_in_json() {
    let gateway = TestGateway::start();
    let shell = shell(&gateway);
    shell.write("a", b"one");
    shell.write("b", b"two, a little longer");
    let put = shell.status(0, &["put", "--json", "--downloads", "2", "a", "b"]).stdout;
    let files: Vec<Value> = put.lines().map(json).collect();
    assert_eq!(files.len(), 2);
    assert_eq!((&files[1]["name"], &files[1]["size"]), (&"b".into(), &20.into()));
    assert_eq!(files[0]["downloads_left"], 2);
    let id = files[0]["id"].as_str().unwrap();
    let got = json(&shell.status(0, &["get", "--json", id, "c"]).stdout);
    assert_eq!((&got["path"], &got["size"]), (&"c".into(), &3.into()));
    let listed = shell.status(0, &["ls", "--json"]).stdout;
    assert!(listed.lines().map(json).any(|file| file["id"] == id), "{listed}");
    let receipt = json(&shell.status(0, &["rm", "--json", id]).stdout);
    assert_eq!((&receipt["state"], &receipt["reason"]), (&"final".into(), &"deleted".into()));
    let refused = shell.status(1, &["get", "--json", id, "d"]).stderr;
    assert_eq!(json(&refused)["type"], "/problems/deleted");
}

#[test]
fn a_receipt_is_shown_and_can_be_verified() {
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let state = format!("\"{}\"", home.path().join("state").display());
    let start = || Setup::new().set("state", "dir", &state).start();
    let mut gateway = start();
    let id = gateway.client().upload("", b"x");
    let key = gateway.anonymous().get("/log/key").expect(200).body;
    let live = shell(&gateway).status(0, &["receipt", &id]).stdout;
    assert!(live.starts_with(&id) && live.contains("live  until "), "{live}");
    gateway.client().delete(format!("/v1/files/{id}")).expect(200);
    gateway.signal(rustix::process::Signal::TERM);
    gateway.ends_well();
    let gateway = start();
    let shell = shell(&gateway);
    let words = shell.status(0, &["receipt", &id]).stdout;
    assert!(words.contains("final  destroyed ") && words.contains("deleted"), "{words}");
    let document = json(&shell.status(0, &["receipt", "--json", &id]).stdout);
    assert_eq!((&document["id"], &document["state"]), (&id.as_str().into(), &"final".into()));
    shell.write("key", &key);
    for (kind, status) in [("--note", 3), ("--proof", 0)] {
        shell.write("paper", &shell.run(&["receipt", kind, &id]).bytes);
        shell.status(status, &["verify", "--log-key", "key", "paper"]);
    }
    shell.status(1, &["receipt", "file_nothing"]);
    shell.status(2, &["receipt", "--note", "--proof", &id]);
}

#[test]
fn stdin_is_taken_and_steps_are_run() {
    let gateway = TestGateway::start();
    let shell = shell(&gateway);
    let bytes = noise(700_000);
    let put = shell.fed(&["put", "--name", "from afar", "-"], &bytes).ended;
    assert_eq!(put.code, Some(0), "{}", put.stderr);
    gateway.client().download(&id_in(&put.stdout)).expect(200).is_body(&bytes);
    let page = b"<h1>Title</h1><p>Words</p>".as_slice();
    shell.write("page.html", page);
    let text = shell.status(0, &["process", "text", "page.html", "-o", "format=markdown"]);
    assert!(text.stdout.contains("# Title"), "{}", text.stdout);
    let packed = shell.fed(&["process", "compress", "-", "small.gz"], &bytes).ended;
    assert_eq!(packed.code, Some(0), "{}", packed.stderr);
    assert_eq!(shell.read("small.gz")[..2], [0x1f, 0x8b]);
    let refused = shell.status(1, &["process", "fly", "page.html", "never"]);
    assert!(refused.stderr.contains("422"), "{}", refused.stderr);
    assert!(!shell.path("never").exists());
}

#[test]
fn each_way_to_fail_has_its_status() {
    let gateway = Setup::new().set("limits", "max_file", "\"1MiB\"").start();
    let shell = shell(&gateway);
    shell.write("large", &noise(2 << 20));
    let refused = shell.status(1, &["put", "large"]).stderr;
    assert!(refused.contains("413") && refused.contains("req_"), "{refused}");
    shell.status(1, &["rm", "file_nothing"]);
    shell.status(2, &["put"]);
    shell.status(2, &["get"]);
    shell.status(4, &["put", "missing"]);
    let url = format!("http://{}", gateway.public);
    let wrong = Shell::new(&url, &key_of("nobody"));
    assert!(wrong.status(1, &["ls"]).stderr.contains("401"));
    Shell::new(&url, "").status(2, &["ls"]);
    // A key is never sent in the clear beyond this machine.
    let afar = Shell::new("http://gateway.example", &key_of("acme"));
    assert!(afar.status(2, &["ls"]).stderr.contains("https://"));
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = nobody.local_addr().unwrap();
    drop(nobody);
    Shell::new(&format!("http://{at}"), &key_of("acme")).status(3, &["ls"]);
    gateway.is_empty_again();
}

#[test]
fn one_file_that_is_gone_keeps_no_other_alive() {
    let gateway = TestGateway::start();
    let shell = shell(&gateway);
    let (one, two) = (gateway.client().upload("", b"1"), gateway.client().upload("", b"2"));
    shell.status(1, &["rm", &one, "file_nothing", &two]);
    gateway.is_empty_again();
    assert_eq!(gateway.client().get(format!("/v1/files/{two}")).status, 410);
}

/// A gateway of lies: it answers the first request with `head` and `body`, and closes.
fn answering(head: String, body: Vec<u8>) -> (String, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = [0; 4096];
        let _ = stream.read(&mut asked);
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
    });
    (format!("http://{at}"), serving)
}

#[test]
fn a_download_that_breaks_off_never_looks_whole() {
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n".to_owned(),
    ] {
        let (url, serving) = answering(head, noise(700_000));
        let shell = Shell::new(&url, &key_of("acme"));
        shell.write("there", b"what was there before");
        shell.status(3, &["get", "file_a", "there"]);
        assert_eq!(shell.read("there"), b"what was there before");
        assert_eq!(shell.names(), ["there"], "no part of it stays either");
        serving.join().unwrap();
    }
}

#[test]
fn a_redirect_is_not_followed_with_a_key_in_hand() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let to = elsewhere.local_addr().unwrap();
    let head = format!("HTTP/1.1 307 X\r\nLocation: http://{to}/\r\nContent-Length: 0\r\n\r\n");
    let (url, serving) = answering(head, Vec::new());
    Shell::new(&url, &key_of("acme")).status(1, &["ls"]);
    serving.join().unwrap();
    assert!(elsewhere.accept().is_err(), "somebody called there");
}

#[test]
fn the_key_stands_in_no_output() {
    let gateway = TestGateway::start();
    let shell = shell(&gateway);
    let id = gateway.client().upload("", b"x");
    for arguments in [vec!["ls"], vec!["get", &id, "-"], vec!["rm", &id, "x"], vec!["rm", "--json"]]
    {
        let said = shell.run(&arguments).ended;
        let all = said.stdout + &said.stderr;
        assert!(!all.contains(&key_of("acme")), "{all}");
    }
}
