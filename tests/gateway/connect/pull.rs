//! Items of a connection become files: the right bytes, or the right problem.

mod back;
mod regions;
mod ways;

use serde_json::{Value, json};

use super::Scene;
use crate::cloud::{End, Kind, Node, Part, Reply, Tree, Trick};
use crate::harness::{Answer, Events, Shell, eventually, is_long_tier, key_of, noise, tell};

impl Scene {
    /// Plants one file with these bytes; its id.
    fn lay(&self, kind: Kind, bytes: &[u8]) -> String {
        let node = Node::of(kind, "thing1", "", "thing.bin", bytes);
        let id = node.id.clone();
        self.cloud(kind).plant(Tree::of(vec![node]));
        id
    }

    fn try_pull(&self, connection: &str, item: &str, more: &Value) -> Answer {
        let mut order = json!({"source": {"connection": connection, "item": item}});
        for (name, value) in more.as_object().unwrap() {
            order[name] = value.clone();
        }
        self.gateway.client().post("/v1/jobs", order.to_string().as_bytes())
    }

    /// Orders a pull; the job's id.
    #[track_caller]
    fn order(&self, connection: &str, item: &str, more: &Value) -> String {
        self.try_pull(connection, item, more).expect(202).text("id")
    }

    /// Pulls an item; the job as it has ended.
    #[track_caller]
    fn pull(&self, connection: &str, item: &str) -> Value {
        let job = self.order(connection, item, &json!({}));
        Events::follow(&self.gateway.client(), &job).last()
    }

    /// Pulls an item that is one file, and reads it back.
    #[track_caller]
    fn fetched(&self, connection: &str, item: &str) -> Vec<u8> {
        let ended = self.pull(connection, item);
        assert_eq!(ended["state"], "succeeded", "{ended}");
        let [file] = ended["outputs"].as_array().unwrap().as_slice() else { panic!("{ended}") };
        let body = self.gateway.client().download(file["id"].as_str().unwrap()).expect(200).body;
        assert_eq!(file["size"], body.len());
        body
    }

    /// Pulls an item that cannot be had; nothing is left of it.
    #[track_caller]
    fn refused(&self, connection: &str, item: &str, status: u16, slug: &str) {
        let ended = self.pull(connection, item);
        assert_eq!(ended["state"], "failed", "{ended}");
        let problem = &ended["problem"];
        let named = problem["type"].as_str().unwrap().trim_start_matches("/problems/");
        assert_eq!((named, &problem["status"]), (slug, &json!(status)), "{ended}");
        self.gateway.comes_to("dayfly_live_files", 0.0);
    }

    /// Bytes of files that the service was asked for and gave, counted by the ranges asked.
    fn ranges(&self, kind: Kind) -> Vec<u64> {
        let asked = self.cloud(kind).requests();
        let asked = asked.iter().filter(|request| {
            request.path.ends_with("/download") || request.query("alt") == Some("media")
        });
        let from = |range: Option<&str>| {
            let from = range.and_then(|range| range.strip_prefix("bytes="));
            from.and_then(|range| range.strip_suffix('-')?.parse().ok()).unwrap_or(0)
        };
        asked.map(|request| from(request.header("range"))).collect()
    }
}

#[test]
fn a_pull_makes_a_file_like_any_other_and_steps_work_on_what_was_pulled() {
    let scene = Scene::start();
    let client = scene.gateway.client();
    for kind in Kind::BOTH {
        let connection = scene.active(kind, &json!({"subject": "user 7"}));
        let bytes = b"Pulled and read".repeat(20_000);
        let node = Node::of(kind, "text1", "", "notes.txt", &bytes);
        let node = Node { media_type: "text/plain".to_owned(), ..node };
        let id = node.id.clone();
        scene.cloud(kind).plant(Tree::of(vec![node]));
        scene.try_pull(&connection, &id, &json!({})).problem(404, "not-found");
        let subject = json!({"subject": "user 7", "ttl": "20m"});
        let job = scene.order(&connection, &id, &subject);
        let ended = Events::follow(&client, &job).last();
        assert_eq!(ended["state"], "succeeded", "{ended}");
        assert_eq!(ended["progress"]["bytes_in"], bytes.len());
        assert_eq!(ended["progress"]["bytes_total"], bytes.len());
        let file = &ended["outputs"][0];
        assert_eq!(
            (&file["name"], &file["expires_at"]),
            (&json!("notes.txt"), &ended["expires_at"])
        );
        let file = file["id"].as_str().unwrap();
        client.download(file).expect(200).is_body(&bytes);
        client.delete(format!("/v1/files/{file}")).expect(200);

        let steps = json!({"subject": "user 7", "steps": ["checksum"]});
        let job = scene.order(&connection, &id, &steps);
        let ended = Events::follow(&client, &job).last();
        assert_eq!(ended["state"], "succeeded", "{ended}");
        let output = ended["outputs"][0]["id"].as_str().unwrap();
        let sum = client.download(output).expect(200).json();
        let expected =
            data_encoding::HEXLOWER.encode(&<sha2::Sha256 as sha2::Digest>::digest(&bytes));
        assert_eq!(sum["checksums"]["sha-256"], expected);
        let listed = client.get("/v1/files").expect(200).json();
        assert_eq!(listed["files"].as_array().unwrap().len(), 1, "what was pulled is not kept");
        client.delete(format!("/v1/files/{output}")).expect(200);
        scene.gateway.comes_to("dayfly_live_files", 0.0);
        scene.delete(&connection).expect(200);
    }
}

#[test]
fn ten_cuts_cost_nothing_but_time_and_memory_stays_flat() {
    let scene = Scene::start();
    let bytes = noise(if is_long_tier() { 1 << 30 } else { 64 << 20 });
    for kind in Kind::BOTH {
        let connection = scene.active(kind, &json!({}));
        let id = scene.lay(kind, &bytes);
        scene.cloud(kind).order(
            Part::Content,
            10,
            Trick::Alters(|reply| reply.end = End::Cut(reply.body.len() / 6)),
        );
        let before = scene.gateway.resident_bytes();
        let ended = scene.pull(&connection, &id);
        assert_eq!(ended["state"], "succeeded", "{ended}");
        let grown = scene.gateway.resident_bytes().saturating_sub(before);
        let ranges = scene.ranges(kind);
        assert_eq!(ranges.len(), 11);
        // The service's own cuts tell how much it gave before each.
        let mut given = 0;
        for (nth, from) in ranges.iter().enumerate() {
            let left = bytes.len() as u64 - from;
            given += if nth < 10 { left / 6 } else { left };
        }
        let twice = given - bytes.len() as u64;
        tell(&format!("{}: {twice} bytes fetched twice, {} MiB grown", kind.name(), grown >> 20));
        assert!(twice * 100 <= bytes.len() as u64, "{twice}");
        assert!(grown < 96 << 20, "{grown}");
        let file = ended["outputs"][0]["id"].as_str().unwrap();
        let receipt = scene.gateway.client().get(format!("/v1/receipts/{file}")).expect(200).json();
        assert_eq!(receipt["blobs"].as_array().unwrap().len(), 11, "a segment for each part");
        scene.gateway.client().download(file).expect(200).is_body(&bytes);
        scene.gateway.client().delete(format!("/v1/files/{file}")).expect(200);
    }
}

#[test]
fn folders_become_several_files_with_a_cap() {
    let scene = Scene::start();
    let connection = scene.active(Kind::GoogleDrive, &json!({}));
    let kind = Kind::GoogleDrive;
    let mut nodes = vec![
        Node::folder(kind, "top1", "", "Top"),
        Node::folder(kind, "deep1", "top1", "Deep"),
        Node::of(kind, "one1", "top1", "same.txt", b"one"),
        Node::of(kind, "two1", "deep1", "same.txt", b"two"),
        // Leads back to where it lies: a loop.
        Node::shortcut("loop1", "deep1", "top1", crate::cloud::FOLDER),
        Node::shortcut("gone1", "deep1", "nothing1", "application/pdf"),
    ];
    let form = "application/vnd.google-apps.form".to_owned();
    nodes.push(Node { media_type: form, ..Node::file(kind, "form1", "top1", "A form") });
    scene.google.plant(Tree::of(nodes.clone()));
    let ended = scene.pull(&connection, "top1");
    assert_eq!(ended["state"], "succeeded", "{ended}");
    let outputs = ended["outputs"].as_array().unwrap();
    let bodies = outputs.iter().map(|file| {
        scene.gateway.client().download(file["id"].as_str().unwrap()).expect(200).body_text()
    });
    assert_eq!(bodies.collect::<Vec<_>>(), ["one", "two"]);
    for file in outputs {
        let id = file["id"].as_str().unwrap();
        scene.gateway.client().delete(format!("/v1/files/{id}")).expect(200);
    }
    let many = (0..101).map(|nth| Node::of(kind, &format!("many{nth}"), "top1", "many", b"x"));
    nodes.extend(many);
    scene.google.plant(Tree::of(nodes));
    scene.refused(&connection, "top1", 413, "too-large");
}

#[test]
fn a_pull_is_held_against_the_policy_and_the_quotas_like_an_upload() {
    let scene = Scene::with(|setup| {
        setup.set("tenants.acme", "max_file", "\"200KiB\"").set(
            "tenants.acme",
            "max_live_bytes",
            "\"300KiB\"",
        )
    });
    let connection = scene.active(Kind::Dropbox, &json!({}));
    let id = scene.lay(Kind::Dropbox, &noise(200 << 10));
    scene.fetched(&connection, &id);
    let ended = scene.pull(&connection, &id);
    assert_eq!(ended["problem"]["type"], "/problems/quota-exceeded", "{ended}");
    let id = scene.lay(Kind::Dropbox, &noise((200 << 10) + 1));
    let ended = scene.pull(&connection, &id);
    assert_eq!(ended["problem"]["type"], "/problems/too-large", "{ended}");
    assert_eq!(scene.dropbox.count(Part::Content), 2, "what is too large is not asked for");
    scene.try_pull(&connection, &id, &json!({"region": "moon"})).problem(422, "region-unavailable");
    scene.try_pull(&connection, &id, &json!({"ttl": "99h"})).problem(422, "bad-ttl");
    let foreign = json!({"source": {"connection": connection, "item": id}}).to_string();
    let other = scene.gateway.client_of("other");
    other.post("/v1/jobs", foreign.as_bytes()).problem(404, "not-found");
}

/// Something that ends a job on a connection.
type Ending = fn(&Scene, &str, &str);

#[test]
fn cancel_suspension_and_revocation_stop_a_transfer_at_once() {
    let scene = Scene::start();
    let client = scene.gateway.client();
    let endings: [(&str, Ending); 3] = [
        ("cancelled", |scene, job, _| {
            scene.gateway.client().delete(format!("/v1/jobs/{job}")).expect(200);
        }),
        ("cancelled", |scene, _, _| {
            let owner = scene.gateway.client_of("owner");
            owner.put("/v1/tenants/acme/suspension", b"").expect(204);
        }),
        ("failed", |scene, _, connection| {
            scene.delete(connection).expect(200);
        }),
    ];
    for (nth, (state, end)) in endings.into_iter().enumerate() {
        let connection = scene.active(Kind::GoogleDrive, &json!({}));
        let id = scene.lay(Kind::GoogleDrive, &noise(4 << 20));
        scene.google.order(
            Part::Content,
            1,
            Trick::Alters(|reply| reply.end = End::Stall(1 << 20)),
        );
        let job = scene.order(&connection, &id, &json!({}));
        eventually("some of it has come", || {
            let at = client.get(format!("/v1/jobs/{job}")).expect(200).json();
            (at["progress"]["bytes_in"].as_u64() >= Some(1 << 20)).then_some(())
        });
        end(&scene, &job, &connection);
        let ended = eventually("it ends", || {
            if nth == 1 {
                let owner = scene.gateway.client_of("owner");
                owner.delete("/v1/tenants/acme/suspension").expect(204);
            }
            let at = client.get(format!("/v1/jobs/{job}")).expect(200).json();
            (at["state"] != "running").then_some(at)
        });
        assert_eq!(ended["state"], state, "{ended}");
        if state == "failed" {
            assert_eq!(ended["problem"]["type"], "/problems/connection-revoked", "{ended}");
        }
        for name in ["dayfly_live_files", "dayfly_live_bytes"] {
            scene.gateway.comes_to(name, 0.0);
        }
        scene.google.behave();
    }
}

#[test]
fn the_command_pulls_and_says_what_came_of_it() {
    let scene = Scene::start();
    let shell = Shell::new(&format!("http://{}", scene.gateway.public), &key_of("acme"));
    let connection = scene.active(Kind::Dropbox, &json!({}));
    let id = scene.lay(Kind::Dropbox, &noise(300_000));
    let said = shell.status(0, &["pull", &connection, &id]).stdout;
    assert!(said.starts_with("file_") && said.contains("300000 bytes  thing.bin"), "{said}");
    let said = shell.status(0, &["pull", "--json", "--steps", "checksum", &connection, &id]).stdout;
    let file: Value = serde_json::from_str(said.trim()).unwrap();
    assert_eq!(file["media_type"], "application/json");
    let gone = shell.status(1, &["pull", &connection, "id:nothing"]).stderr;
    assert!(gone.contains("status 404"), "{gone}");
}

#[test]
fn what_a_service_says_of_an_item_is_not_a_reason_to_say_it() {
    let scene = Scene::start();
    let connection = scene.active(Kind::Dropbox, &json!({}));
    scene.refused(&connection, "id:nothing", 404, "item-not-found");
    scene.refused(&connection, "/Papers/a secret.pdf", 404, "item-not-found");
    let id = scene.lay(Kind::Dropbox, b"bytes");
    let noise = Reply::text(404, "text/plain", "MARKER-OF-THE-SERVICE");
    scene.dropbox.order(Part::Content, 9, Trick::Says(noise));
    scene.refused(&connection, &id, 502, "upstream-failed");
    assert!(!scene.gateway.stderr().contains("MARKER"));
}
