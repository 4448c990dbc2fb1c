//! No plaintext rests: not in a log, a number, an error, on a disk or in its freed blocks.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::harness::{
    Client, Disk, Events, Multipart, Plant, Setup, TestGateway, docx, eventually, key_of, pdf, run,
    skip,
};

/// Whether a text shows 16 bytes of a marker anywhere.
fn shows(text: &str, marker: &str) -> bool {
    let windows = marker.as_bytes().windows(16.min(marker.len()));
    windows.into_iter().any(|window| text.contains(std::str::from_utf8(window).unwrap()))
}

#[test]
fn markers_reach_no_log_no_number_and_no_error() {
    for format in ["text", "json"] {
        let setup = Setup::new().with_webhooks();
        let gateway = setup.set("log", "format", &format!("\"{format}\"")).start();
        let client = gateway.client();
        let marker =
            |what: &str| format!("{what}marker{}", &blake3::hash(what.as_bytes()).to_hex()[..24]);
        let (name, content, query) = (marker("name"), marker("content"), marker("query"));
        let (header, wrong, password) = (marker("header"), marker("wrongkey"), marker("password"));
        let body = content.as_bytes();
        let mut said = String::new();
        let mut hear = |answer: crate::harness::Answer| {
            if answer.status >= 400 {
                said += &String::from_utf8_lossy(&answer.body);
            }
            answer
        };
        let put = client.ask("PUT", format!("/v1/files/{name}")).header("X-Custom", &header);
        let id = hear(put.header("Content-Type", format!("text/{header}")).body(body).send())
            .expect(201);
        let id = id.text("id");
        hear(client.download(&id)).expect(200).is_body(body);
        let form = Multipart::new().file(&name, body).field(&name, body).unfinished();
        let ask = client.ask("POST", "/v1/files").header("Content-Type", Multipart::CONTENT_TYPE);
        hear(ask.body(&form).send());
        for path in [
            format!("/v1/files?name={name}&{query}={query}"),
            format!("/v1/files?ttl={query}"),
            format!("/v1/files?region={query}"),
            format!("/v1/files?key={query}"),
            format!("/v1/files?name={}", name.repeat(200)),
            format!("/v1/process/{query}"),
            format!("/v1/process/text?{query}={query}"),
            format!("/v1/process/text?password={query}"),
            format!("/v1/{query}"),
        ] {
            hear(client.post(path, body));
        }
        let file = client.upload("", body);
        for order in [
            format!("{{\"source\":{{\"file\":\"{file}\"}},\"steps\":[\"{query}\"]}}"),
            format!(
                "{{\"source\":{{\"file\":\"{file}\"}},\"steps\":[\"text\"],\
                 \"options\":{{\"text\":{{\"password\":\"{password}\"}}}},\
                 \"webhook\":{{\"url\":\"https://127.0.0.1:1/{query}\"}}}}"
            ),
            format!("{{\"{query}\":\"{content}\"}}"),
        ] {
            hear(client.post("/v1/jobs", order.as_bytes()));
        }
        gateway.comes_to("dayfly_jobs", 0.0);
        hear(client.post("/v1/process/text", body)).expect(200);
        hear(client.post("/v1/process/text", &[b"%PDF-1.4\n", body].concat()));
        hear(client.post("/v1/process/text", &[b"PK\x03\x04", body].concat()));
        let secret = client.ask("POST", "/v1/process/text").header("Dayfly-Password", &password);
        hear(secret.body(&pdf(&[&content])).send());
        hear(client.with_key(Some(&format!("dfk_acme_{wrong}"))).get("/v1/files"));
        hear(client.get(format!("/v1/files/{query}")));
        let patch = client.ask("PATCH", format!("/v1/files/{id}"));
        hear(patch.body(format!("{{\"{query}\":\"{content}\"}}").as_bytes()).send());
        let mut garbage = crate::harness::Wire::open(gateway.public);
        let _ = garbage.send(format!("GET /{query}\0 HTTP/1.1\r\n{header}\r\n\r\n").as_bytes());
        let _ = garbage.try_head();
        hear(client.delete(format!("/v1/files/{id}"))).expect(200);
        let numbers = gateway.operator().get("/metrics").expect(200).body_text();
        let status = gateway.client_of("ops").get("/v1/status").expect(200).body_text();
        let all = said + &numbers + &status + &gateway.stdout() + &gateway.stderr();
        for marker in
            [name, content, query, header, wrong, password, key_of("acme")[9..].to_owned()]
        {
            assert!(!shows(&all, &marker), "{format}: {marker} was shown");
        }
        assert!(!gateway.stderr().contains("acme"), "the tenant's name is in the log");
        assert!(!numbers.contains("acme") && !numbers.contains(&id), "a number tells who");
    }
}

/// Does with planted text what a day brings: uploads, downloads, processing, deletes, broken ones.
fn a_day(client: &Client, plant: &Plant) {
    let long = plant.text(3 << 20);
    let name = String::from_utf8(plant.text(48)).unwrap().replace(' ', "%20");
    for size in [100, 20_000, 300_000, 3 << 20] {
        let kept = client.upload("", &long[..size]);
        client.download(&kept).expect(200);
        let gone = client.put(format!("/v1/files/{name}"), &long[..size]).expect(201);
        // The scan must be able to see this name, or finding none of it would say nothing.
        assert!(
            plant.is_in(gone.text("name").as_bytes()),
            "the planted name is one the scan finds"
        );
        client.delete(format!("/v1/files/{}", gone.text("id"))).expect(200);
    }
    let words = String::from_utf8(plant.text(4000)).unwrap();
    for document in
        [pdf(&[words.as_str(); 50]), docx(&[words.as_str(); 300]), long[..1 << 20].to_vec()]
    {
        let text = client.post("/v1/process/text", &document).expect(200);
        assert!(plant.is_in(&text.body), "the step saw the text");
    }
    client.post("/v1/process/compress?format=gzip&level=1", &long).expect(200);
    client.post("/v1/process/text+compress?compress.format=zstd", &long[..1 << 20]).expect(200);
    let made = client.post("/v1/files?steps=text%2Btext%2Bcompress", &long).expect(201);
    let job = made.text("job");
    let ended = Events::follow(client, &job).last();
    assert_eq!(ended["state"], "succeeded", "{ended}");
    let mut broken = client.ask("POST", "/v1/files").begin(Some(10 << 20));
    broken.send(&long).unwrap();
    broken.reset();
    let mut reader = client.ask("GET", Client::content(&client.upload("", &long))).begin_narrow();
    reader.up_to(1000);
    reader.reset();
}

/// The files a process holds open on the file system of `dir`, deleted ones too.
fn open_files(process: u32, dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{process}/fd")) else { return Vec::new() };
    let links = entries.flatten().map(|entry| entry.path());
    let inside = |link: &PathBuf| std::fs::read_link(link).is_ok_and(|to| to.starts_with(dir));
    links.filter(inside).collect()
}

#[test]
fn the_spool_and_its_nameless_files_hold_no_planted_text() {
    let gateway = TestGateway::start();
    let plant = Plant::new("spool");
    a_day(&gateway.client(), &plant);
    let spool = gateway.dir().join("spool");
    let named: Vec<_> = std::fs::read_dir(&spool).unwrap().flatten().collect();
    assert!(named.is_empty(), "the spool shows names: {named:?}");
    let open = open_files(gateway.process(), &spool);
    if open.is_empty() && !rustix::process::geteuid().is_root() {
        skip("the gateway's open files: only root reads them");
        return;
    }
    assert!(!open.is_empty(), "files of 300 KB and more rest in the spool");
    let (mut stored, mut read) = (0, Vec::new());
    for file in open {
        read.clear();
        File::open(file).unwrap().read_to_end(&mut read).unwrap();
        assert!(!plant.is_in(&read), "planted text rests in the spool");
        stored += read.len();
    }
    assert!(stored > 3 << 20, "only {stored} bytes were looked at");
}

#[test]
fn a_stolen_disk_holds_no_planted_text_after_a_kill() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut disk = match Disk::new(dir.path(), 96 << 20) {
        Ok(disk) => disk,
        Err(why) => return skip(&format!("the raw device (root and loop devices needed): {why}")),
    };
    let plant = Plant::new("disk");
    let spool = disk.place().join("spool");
    let setup = Setup::new().set("vault.local", "max", "\"64MiB\"").spool(&spool);
    let mut gateway = setup.start();
    a_day(&gateway.client(), &plant);
    let mid = disk.settled();
    assert!(mid.windows(4).any(|window| window == b"DAY1"), "sealed segments rest on the device");
    assert!(!plant.is_in(&mid), "planted text rests on the device of a running gateway");
    gateway.kill();
    assert!(!plant.is_in(&disk.raw()), "planted text rests on the device after a kill");
    // The search is no better than what it can find: a file that was written and deleted.
    disk.mount().unwrap();
    let control = disk.place().join("control");
    std::fs::write(&control, plant.text(100_000)).unwrap();
    disk.settled();
    std::fs::remove_file(&control).unwrap();
    assert!(plant.is_in(&disk.raw()), "a deleted plaintext file would have been found");
}

#[test]
fn a_key_of_the_embedded_default_is_printed_once_and_nothing_else_is() {
    let gateway = TestGateway::embedded();
    let key = eventually("a key is printed", || {
        let all = gateway.stdout() + &gateway.stderr();
        let start = all.find("dfk_")?;
        let end = all[start..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
        Some(all[start..start + end].to_owned())
    });
    let client = gateway.anonymous().with_key(Some(&key));
    let printed = (gateway.stdout() + &gateway.stderr()).matches(&key).count();
    for _ in 0..5 {
        client.get("/v1/whoami").expect(200);
        client.get(format!("/v1/files?name={key}")).problem(400, "token-in-url");
    }
    let later = (gateway.stdout() + &gateway.stderr()).matches(&key).count();
    assert_eq!(printed, later, "the key was printed again");
}

#[test]
fn no_core_dump_and_no_debugger_of_the_same_user() {
    let mut gateway = TestGateway::start();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", gateway.process())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let numbers: Vec<&str> = core.split_whitespace().filter(|word| *word == "0").collect();
    assert_eq!(numbers.len(), 2, "{core}");
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.process())).unwrap();
    assert!(status.contains("\nVmLck:"), "{status}");
    // A process that is not dumpable belongs to root in /proc, whoever runs it.
    let owner = std::fs::metadata(format!("/proc/{}/mem", gateway.process())).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&owner), 0);
    gateway.signal(Signal::TERM);
    gateway.ends_well();
    assert_eq!(run(&["--version"]).code, Some(0));
}
