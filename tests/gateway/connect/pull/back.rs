//! Results go back into a person's storage: whole, checked, and beside what is there.

use serde_json::{Value, json};

use super::Scene;
use crate::cloud::{Kind, Node, Part, Reply, Tree, Trick};
use crate::harness::{Events, noise};

const WRITE: fn() -> Value = || json!({"access": "browse+write"});

impl Scene {
    /// Puts a file of ours into a folder there; the job as it has ended.
    #[track_caller]
    fn put_back(&self, connection: &str, folder: Option<&str>, bytes: &[u8]) -> (String, Value) {
        let client = self.gateway.client();
        let file = client.upload("?name=r%C3%A9sum%C3%A9%20%F0%9F%98%80.txt", bytes);
        let order = json!({
            "source": {"file": file}, "deliver": {"connection": connection, "folder": folder},
        });
        let job = client.post("/v1/jobs", order.to_string().as_bytes()).expect(202).text("id");
        (file, Events::follow(&client, &job).last())
    }
}

#[test]
fn results_are_put_into_a_folder_and_nothing_there_is_replaced() {
    let scene = Scene::start();
    for kind in Kind::BOTH {
        let cloud = scene.cloud(kind);
        let folder = Node::folder(kind, "out1", "", "Out");
        let place = folder.id.clone();
        cloud.plant(Tree::of(vec![folder]));
        let connection = scene.active(kind, &WRITE());
        for (nth, bytes) in [noise(9 << 20), Vec::new(), noise(8 << 20)].into_iter().enumerate() {
            let (file, ended) = scene.put_back(&connection, Some(&place), &bytes);
            assert_eq!(ended["state"], "succeeded", "{ended}");
            let there = cloud.tree();
            let there = there.children(&place);
            assert_eq!(there.len(), nth + 1);
            assert!(there[nth].content().bytes == bytes, "{} {nth}", kind.name());
            assert!(
                there[0].name.starts_with("r\u{e9}sum\u{e9} \u{1f600}.txt"),
                "{}",
                there[0].name
            );
            let receipt =
                scene.gateway.client().get(format!("/v1/receipts/{file}")).expect(200).json();
            assert_eq!(receipt["handed_to"], json!([kind.name()]));
        }
    }
}

#[test]
fn an_upload_goes_on_from_where_the_service_says_it_has_come_to() {
    let (scene, bytes) = (Scene::start(), noise(20 << 20));
    for kind in Kind::BOTH {
        let cloud = scene.cloud(kind);
        cloud.plant(Tree::default());
        let connection = scene.active(kind, &WRITE());
        for trick in [
            // Taken, and the answer was lost; not taken at all.
            Trick::Alters(|reply| *reply = Reply::text(502, "text/html", "")),
            Trick::Says(Reply::text(503, "text/html", "")),
            Trick::Says(Reply::text(429, "application/json", "{}").with("Retry-After", "1")),
        ] {
            cloud.plant(Tree::default());
            cloud.order(Part::Chunk, 2, trick);
            let (_, ended) = scene.put_back(&connection, None, &bytes);
            assert_eq!(ended["state"], "succeeded", "{} {ended}", kind.name());
            assert!(cloud.tree().nodes[0].content().bytes == bytes);
        }
    }
}

#[test]
fn what_arrived_wrong_is_not_left_there() {
    let scene = Scene::start();
    let connection = scene.active(Kind::Dropbox, &WRITE());
    scene.dropbox.plant(Tree::default());
    scene.dropbox.order(
        Part::Chunk,
        9,
        Trick::Edits(|said| {
            if said["content_hash"].is_string() {
                said["content_hash"] = "0".repeat(64).into();
            }
        }),
    );
    let (_, ended) = scene.put_back(&connection, None, b"some bytes");
    assert_eq!(ended["problem"]["type"], "/problems/upstream-failed", "{ended}");
    assert!(scene.dropbox.tree().nodes.is_empty());
}

#[test]
fn only_who_agreed_to_writing_is_written_to() {
    let scene = Scene::start();
    let client = scene.gateway.client();
    for kind in Kind::BOTH {
        let connection = scene.active(kind, &json!({}));
        let file = client.upload("", b"bytes");
        let order = json!({"source": {"file": file}, "deliver": {"connection": connection}});
        let order = order.to_string();
        client.post("/v1/jobs", order.as_bytes()).problem(403, "not-permitted-by-policy");
        assert_eq!(scene.cloud(kind).count(Part::Upload), 0);
        let connection = scene.active(kind, &WRITE());
        let (_, ended) = scene.put_back(&connection, Some("nothing"), b"bytes");
        assert_eq!(ended["problem"]["type"], "/problems/item-not-found", "{ended}");
    }
}

#[test]
fn what_was_fetched_and_worked_on_goes_back_in_one_job() {
    let scene = Scene::start();
    let client = scene.gateway.client();
    let connection = scene.active(Kind::Dropbox, &WRITE());
    let id = scene.lay(Kind::Dropbox, &b"to be packed ".repeat(1000));
    let more = json!({"steps": ["compress"], "deliver": {"connection": connection}});
    let job = scene.order(&connection, &id, &more);
    let ended = Events::follow(&client, &job).last();
    assert_eq!(ended["state"], "succeeded", "{ended}");
    let tree = scene.dropbox.tree();
    let put = tree.nodes.last().unwrap();
    let output = ended["outputs"][0]["id"].as_str().unwrap();
    client.download(output).expect(200).is_body(&put.content().bytes);
    assert_eq!(put.name, "thing.bin.gz");
}
