//! What goes wrong in practice, one by one: each ends in the right file or in the right problem.

use serde_json::{Value, json};

use super::Scene;
use crate::cloud::{
    Answer as Decision, Cloud, End, FOLDER, Framing, Kind, Node, Part, Reply, Tree, Trick,
    drive_error,
};
use crate::harness::{Events, eventually, noise};

const ONLINE: fn() -> Value = || json!({});
const OFFLINE: fn() -> Value = || json!({"offline": true});

/// The bytes that are fetched, for both services: `trick` is played on `times` requests.
#[track_caller]
fn right_file(times: usize, trick: &Trick) {
    let (scene, bytes) = (Scene::start(), noise(900_000));
    for kind in Kind::BOTH {
        let connection = scene.active(kind, &ONLINE());
        let id = scene.lay(kind, &bytes);
        scene.cloud(kind).order(Part::Content, times, trick.clone());
        assert!(scene.fetched(&connection, &id) == bytes, "{}", kind.name());
    }
}

#[track_caller]
fn right_problem(times: usize, trick: &Trick) {
    let (scene, bytes) = (Scene::start(), noise(900_000));
    for kind in Kind::BOTH {
        let connection = scene.active(kind, &ONLINE());
        let id = scene.lay(kind, &bytes);
        scene.cloud(kind).order(Part::Content, times, trick.clone());
        scene.refused(&connection, &id, 502, "upstream-failed");
    }
}

const STALLED: Trick = Trick::Alters(|reply| reply.end = End::Stall(300_000));
const CUT: Trick = Trick::Alters(|reply| reply.end = End::Cut(reply.body.len() / 3));

/// Orders a pull that stands still in its middle.
fn half_way(scene: &Scene, kind: Kind, connection: &str, bytes: &[u8]) -> String {
    let id = scene.lay(kind, bytes);
    scene.cloud(kind).order(Part::Content, 1, STALLED);
    let job = scene.order(connection, &id, &json!({}));
    eventually("some of it has come", || {
        let at = scene.gateway.client().get(format!("/v1/jobs/{job}")).expect(200).json();
        (at["progress"]["bytes_in"].as_u64() >= Some(200_000)).then_some(())
    });
    job
}

#[track_caller]
fn ends(scene: &Scene, job: &str, state: &str) -> Value {
    let ended = Events::follow(&scene.gateway.client(), job).last();
    assert_eq!(ended["state"], state, "{ended}");
    ended
}

#[test]
fn way_01_a_token_that_ends_while_its_bytes_stream_is_renewed_once_or_reported() {
    let (scene, bytes) = (Scene::start(), noise(900_000));
    for kind in Kind::BOTH {
        let cloud = scene.cloud(kind);
        let connection = scene.active(kind, &OFFLINE());
        let job = half_way(&scene, kind, &connection, &bytes);
        let before = cloud.count(Part::Token);
        cloud.expire();
        cloud.behave();
        let ended = ends(&scene, &job, "succeeded");
        assert_eq!(cloud.count(Part::Token), before + 1);
        let file = ended["outputs"][0]["id"].as_str().unwrap();
        scene.gateway.client().download(file).expect(200).is_body(&bytes);
        scene.gateway.client().delete(format!("/v1/files/{file}")).expect(200);

        let connection = scene.active(kind, &ONLINE());
        let job = half_way(&scene, kind, &connection, &bytes);
        cloud.expire();
        cloud.behave();
        let ended = ends(&scene, &job, "failed");
        assert_eq!(ended["problem"]["type"], "/problems/connection-revoked");
        assert_eq!(scene.state(&connection), "revoked");
    }
}

#[test]
fn way_02_an_answer_about_tokens_is_never_a_file() {
    let trick = Trick::Alters(|reply| {
        let said = json!({"access_token": "ya29.x", "expires_in": 3599, "token_type": "Bearer"});
        *reply = Reply::json(200, &said);
    });
    right_file(1, &trick);
    right_problem(9, &trick);
}

#[test]
fn way_03_an_errors_words_never_become_bytes() {
    right_file(2, &Trick::Says(Reply::text(500, "text/html", "<h1>Internal Error</h1>")));
    right_file(2, &Trick::Says(Reply::text(503, "application/json", "{}")));
    right_problem(1, &Trick::Says(drive_error(403, "cannotDownloadAbusiveFile", "", "No")));
    right_problem(20, &Trick::Says(Reply::text(500, "text/html", "<h1>Internal Error</h1>")));
}

#[test]
fn way_04_the_second_and_third_resume_begin_where_the_one_before_ended() {
    right_file(3, &CUT);
    right_file(1, &Trick::Alters(|reply| reply.end = End::Cut(0)));
    right_file(1, &Trick::Alters(|reply| reply.end = End::Cut(reply.body.len() - 1)));
}

#[test]
fn way_05_a_server_that_ignores_or_mistakes_a_range_does_not_corrupt() {
    let (scene, bytes) = (Scene::start(), noise(900_000));
    let tricks = [
        Trick::Ignores("range"),
        Trick::Alters(|reply| reply.set("Content-Range", "bytes 5-899999/900000")),
        Trick::Alters(|reply| reply.set("Content-Range", "bytes 300000-899999/900001")),
        // Another range, of the right length, and it says so.
        Trick::Alters(|reply| {
            reply.body.insert(0, 7);
            reply.body.pop();
            reply.set("Content-Range", "bytes 299999-899998/900000");
        }),
        Trick::Alters(|reply| reply.set("Content-Range", "chunks 1-2")),
        Trick::Alters(|reply| reply.headers.retain(|(name, _)| name != "Content-Range")),
    ];
    for kind in Kind::BOTH {
        for (nth, trick) in tricks.iter().enumerate() {
            let connection = scene.active(kind, &ONLINE());
            let job = half_way(&scene, kind, &connection, &bytes);
            scene.cloud(kind).behave();
            scene.cloud(kind).order(Part::Content, 1, trick.clone());
            let ended = ends(&scene, &job, "succeeded");
            let file = ended["outputs"][0]["id"].as_str().unwrap();
            let body = scene.gateway.client().download(file).expect(200).body;
            assert!(body == bytes, "{} {nth}", kind.name());
        }
    }
    // A range that nobody asked for, from the beginning on.
    right_problem(
        9,
        &Trick::Alters(|reply| {
            reply.status = 206;
            reply.set("Content-Range", "bytes 0-899999/900000");
        }),
    );
}

#[test]
fn way_06_a_file_that_changes_between_two_parts_is_not_put_together_from_both() {
    let (scene, bytes) = (Scene::start(), noise(900_000));
    let connection = scene.active(Kind::GoogleDrive, &ONLINE());
    let job = half_way(&scene, Kind::GoogleDrive, &connection, &bytes);
    let mut other = Node::of(Kind::GoogleDrive, "thing1", "", "thing.bin", &bytes);
    other.version = 2;
    scene.google.plant(Tree::of(vec![other]));
    scene.google.behave();
    let ended = ends(&scene, &job, "failed");
    assert_eq!(ended["problem"]["type"], "/problems/upstream-failed");
    let connection = scene.active(Kind::Dropbox, &ONLINE());
    let job = half_way(&scene, Kind::Dropbox, &connection, &bytes);
    scene.dropbox.behave();
    scene.dropbox.order(
        Part::Content,
        1,
        Trick::Alters(|reply| {
            let said = "{\"rev\": \"fedcba9876543210\", \"size\": 900000}";
            reply.set("Dropbox-API-Result", said);
        }),
    );
    let ended = ends(&scene, &job, "failed");
    assert_eq!(ended["problem"]["type"], "/problems/upstream-failed");
    scene.gateway.comes_to("dayfly_live_files", 0.0);
    let asked = scene.dropbox.requests();
    let asked = asked.iter().filter(|request| request.path.ends_with("/download"));
    for request in asked {
        assert!(request.header("dropbox-api-arg").unwrap().contains("rev:"), "pinned");
    }
}

#[test]
fn way_07_content_that_lies_about_its_length_encoding_or_bytes_is_found_out() {
    // Short, with an end that looks clean: the rest is asked for.
    right_file(
        2,
        &Trick::Alters(|reply| {
            reply.framing = Framing::Chunked;
            reply.body.truncate(reply.body.len() / 2);
        }),
    );
    right_file(1, &Trick::Alters(|reply| reply.framing = Framing::Chunked));
    right_file(1, &Trick::Alters(|reply| reply.framing = Framing::Close));
    right_problem(
        1,
        &Trick::Alters(|reply| {
            reply.framing = Framing::Chunked;
            reply.body.push(0);
        }),
    );
    right_problem(1, &Trick::Alters(|reply| reply.body[600_000] ^= 1));
    right_problem(9, &Trick::Alters(|reply| reply.body.truncate(1000)));
    right_problem(9, &Trick::Alters(|reply| reply.set("Content-Encoding", "gzip")));
    right_problem(
        1,
        &Trick::Alters(|reply| {
            (reply.framing, reply.end) = (Framing::Chunked, End::Never);
        }),
    );
    right_file(1, &STALLED);
}

#[test]
fn way_08_documents_of_no_known_size_are_exported_and_capped() {
    let scene = Scene::with(|setup| setup.set("tenants.acme", "max_file", "\"2MiB\""));
    let kind = "application/vnd.google-apps.document";
    let made = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
    let plant = |bytes: &[u8]| {
        let node = Node::document(Kind::GoogleDrive, "doc1", kind, made, bytes);
        scene.google.plant(Tree::of(vec![node]));
    };
    let bytes = noise(1 << 20);
    plant(&bytes);
    let connection = scene.active(Kind::GoogleDrive, &ONLINE());
    let ended = scene.pull(&connection, "doc1");
    assert_eq!(ended["outputs"][0]["name"], "A document.docx", "{ended}");
    let file = ended["outputs"][0]["id"].as_str().unwrap();
    scene.gateway.client().download(file).expect(200).is_body(&bytes);
    scene.gateway.client().delete(format!("/v1/files/{file}")).expect(200);
    // Made anew after a cut, and never taken for whole without an end of its own.
    scene.google.order(Part::Content, 1, CUT);
    let body = scene.fetched(&connection, "doc1");
    assert!(body == bytes);
    scene.delete_all();
    scene.google.order(Part::Content, 9, Trick::Alters(|reply| reply.framing = Framing::Close));
    scene.refused(&connection, "doc1", 502, "upstream-failed");
    scene.google.behave();
    plant(&noise((2 << 20) + 1));
    scene.refused(&connection, "doc1", 413, "too-large");

    let node = Node::document(Kind::Dropbox, "paper1", "text/x", "docx", b"paper");
    scene.dropbox.plant(Tree::of(vec![node]));
    let connection = scene.active(Kind::Dropbox, &ONLINE());
    assert_eq!(scene.fetched(&connection, "id:paper1"), b"paper");
}

#[test]
fn way_09_what_is_too_large_for_an_export_comes_by_its_link() {
    let scene = Scene::start();
    let kind = "application/vnd.google-apps.spreadsheet";
    let made = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";
    let bytes = noise((10 << 20) + 5);
    let node = Node::document(Kind::GoogleDrive, "sheet1", kind, made, &bytes);
    scene.google.plant(Tree::of(vec![node]));
    let connection = scene.active(Kind::GoogleDrive, &ONLINE());
    assert!(scene.fetched(&connection, "sheet1") == bytes);
    scene.delete_all();
    // Some are refused with a 500 instead.
    let trick = Trick::Says(drive_error(500, "internalError", "", "Internal Error"));
    scene.google.order(Part::Content, 1, trick);
    assert!(scene.fetched(&connection, "sheet1") == bytes);
}

#[test]
fn way_10_what_is_flagged_as_abusive_is_not_asked_for_again_by_other_means() {
    let scene = Scene::start();
    let connection = scene.active(Kind::GoogleDrive, &ONLINE());
    let id = scene.lay(Kind::GoogleDrive, b"malware");
    let no = drive_error(403, "cannotDownloadAbusiveFile", "", "identified as malware");
    scene.google.order(Part::Content, 9, Trick::Says(no));
    scene.refused(&connection, &id, 502, "upstream-failed");
    assert_eq!(scene.google.count(Part::Content), 1);
    for request in scene.google.requests() {
        assert_eq!(request.query("acknowledgeAbuse"), None);
    }
}

#[test]
fn way_11_a_403_is_waited_out_or_final_by_its_reason() {
    let scene = Scene::start();
    let connection = scene.active(Kind::GoogleDrive, &ONLINE());
    let id = scene.lay(Kind::GoogleDrive, b"bytes");
    for reason in ["rateLimitExceeded", "userRateLimitExceeded"] {
        let wait = Trick::Says(drive_error(403, reason, "", "Rate Limit Exceeded"));
        scene.google.order(Part::Content, 2, wait);
        assert_eq!(scene.fetched(&connection, &id), b"bytes");
        scene.delete_all();
    }
    for reason in ["downloadQuotaExceeded", "dailyLimitExceeded", "insufficientFilePermissions"] {
        let before = scene.google.count(Part::Content);
        scene.google.order(Part::Content, 9, Trick::Says(drive_error(403, reason, "", "No")));
        scene.refused(&connection, &id, 502, "upstream-failed");
        assert_eq!(scene.google.count(Part::Content), before + 1, "{reason}");
        scene.google.behave();
    }
}

#[test]
fn way_12_a_redirect_takes_the_token_nowhere_else() {
    let (scene, elsewhere) = (Scene::start(), Cloud::start(Kind::GoogleDrive));
    let connection = scene.active(Kind::GoogleDrive, &ONLINE());
    let id = scene.lay(Kind::GoogleDrive, b"bytes");
    let away = [
        format!("{}/drive/v3/files/{id}?alt=media", elsewhere.url()),
        "https://127.0.0.1:1/x".to_owned(),
        "https://evil.example/googleusercontent.com".to_owned(),
        "http://169.254.169.254/".to_owned(),
        "//x".to_owned(),
    ];
    for place in &away {
        for status in [301, 302, 303, 307, 308] {
            scene.google.order(Part::Content, 9, Trick::Says(Reply::to(status, place)));
            scene.refused(&connection, &id, 502, "upstream-failed");
            scene.google.behave();
        }
    }
    assert!(elsewhere.requests().is_empty(), "nobody else was asked for anything");
    let here = format!("{}/drive/v3/files/{id}?alt=media&again=1", scene.google.url());
    scene.google.order(Part::Content, 1, Trick::Says(Reply::to(302, &here)));
    assert_eq!(scene.fetched(&connection, &id), b"bytes");
    scene.delete_all();
    scene.google.order(Part::Content, 99, Trick::Says(Reply::to(302, &here)));
    scene.refused(&connection, &id, 502, "upstream-failed");
}

#[test]
fn way_13_shortcuts_are_followed_a_few_steps_with_their_keys_and_not_in_circles() {
    let (scene, kind) = (Scene::start(), Kind::GoogleDrive);
    let locked = Node::of(kind, "locked1", "", "locked.bin", b"opened");
    scene.google.plant(Tree::of(vec![
        Node { key: Some("0-key".to_owned()), ..locked },
        Node::shortcut("short1", "", "locked1", "application/pdf"),
        Node::shortcut("gone1", "", "nothing1", "application/pdf"),
        Node::shortcut("ring1", "", "ring2", "application/pdf"),
        Node::shortcut("ring2", "", "ring1", "application/pdf"),
        Node::shortcut("stale1", "", "folder1", "application/pdf"),
        Node::folder(kind, "folder1", "", "Folder"),
        Node::shortcut("back1", "folder1", "folder1", FOLDER),
        Node::of(kind, "inside1", "folder1", "inside.bin", b"inside"),
    ]));
    let connection = scene.active(kind, &ONLINE());
    scene.refused(&connection, "locked1", 404, "item-not-found");
    scene.refused(&connection, "gone1", 404, "item-not-found");
    scene.refused(&connection, "ring1", 404, "item-not-found");
    assert_eq!(scene.fetched(&connection, "short1"), b"opened");
    scene.delete_all();
    assert_eq!(scene.fetched(&connection, "stale1"), b"inside", "what it was is not what it is");
}

#[test]
fn way_14_names_are_made_safe_and_never_used_to_find_anything() {
    let scene = Scene::start();
    for kind in Kind::BOTH {
        let connection = scene.active(kind, &ONLINE());
        for (name, safe) in [
            ("Invoice 1/2 \u{1f600}\n.pdf", json!("Invoice 1_2 \u{1f600}.pdf")),
            ("..", Value::Null),
            ("a\\b\u{202e}c", json!("a_bc")),
            ("trailing ", json!("trailing ")),
        ] {
            scene.cloud(kind).plant(Tree::of(vec![Node::of(kind, "odd1", "", name, b"odd")]));
            let id = scene.cloud(kind).tree().nodes[0].id.clone();
            let ended = scene.pull(&connection, &id);
            assert_eq!(ended["outputs"][0]["name"], safe, "{ended}");
        }
    }
}

#[test]
fn way_15_folders_of_many_pages_are_walked_and_endless_ones_given_up() {
    let (scene, kind) = (Scene::start(), Kind::Dropbox);
    let mut nodes = vec![Node::folder(kind, "top1", "", "Top")];
    let files = (0..30).map(|nth| Node::of(kind, &format!("file{nth}"), "top1", "f", b"x"));
    nodes.extend(files);
    scene.dropbox.plant(Tree::of(nodes));
    let connection = scene.active(kind, &ONLINE());
    // An empty page with more to come.
    scene.dropbox.order(
        Part::List,
        2,
        Trick::Edits(|page| {
            if page["entries"].is_array() {
                page["entries"] = json!([]);
                page["cursor"] = "0|1000|id:top1".into();
                page["has_more"] = true.into();
            }
        }),
    );
    let ended = scene.pull(&connection, "id:top1");
    assert_eq!(ended["outputs"].as_array().map(Vec::len), Some(30), "{ended}");
    scene.delete_all();
    scene.dropbox.order(
        Part::List,
        9999,
        Trick::Edits(|page| {
            if page["entries"].is_array() {
                page["has_more"] = true.into();
            }
        }),
    );
    scene.refused(&connection, "id:top1", 502, "upstream-failed");
    assert!(scene.dropbox.count(Part::List) < 300);
}

#[test]
fn way_16_empty_files_are_asked_for_without_a_range() {
    let scene = Scene::start();
    for kind in Kind::BOTH {
        let connection = scene.active(kind, &ONLINE());
        let id = scene.lay(kind, b"");
        assert!(scene.fetched(&connection, &id).is_empty());
        scene.cloud(kind).order(Part::Content, 1, Trick::Says(Reply::text(502, "text/html", "")));
        assert!(scene.fetched(&connection, &id).is_empty());
        for request in scene.cloud(kind).requests() {
            assert_eq!(request.header("range"), None);
        }
    }
}

#[test]
fn way_17_a_busy_service_is_left_alone_as_long_as_it_asks() {
    let scene = Scene::start();
    for kind in Kind::BOTH {
        let connection = scene.active(kind, &ONLINE());
        let id = scene.lay(kind, b"bytes");
        let busy = Reply::text(429, "text/plain", "slow down").with("Retry-After", "1");
        scene.cloud(kind).order(Part::Content, 2, Trick::Says(busy));
        let began = std::time::Instant::now();
        assert_eq!(scene.fetched(&connection, &id), b"bytes");
        assert!(began.elapsed().as_millis() >= 2000, "it asked for a second, twice");
        scene.delete_all();
        let long = Reply::text(429, "application/json", "{}").with("Retry-After", "86400");
        scene.cloud(kind).order(Part::Content, 1, Trick::Says(long));
        scene.refused(&connection, &id, 502, "upstream-failed");
    }
}

#[test]
fn way_18_a_source_that_always_ends_early_is_never_taken_for_whole() {
    right_problem(
        9999,
        &Trick::Alters(|reply| {
            reply.framing = Framing::Chunked;
            reply.body.clear();
        }),
    );
    let scene = Scene::with(|setup| setup.set("limits", "drain", "\"2s\""));
    let (mut scene, bytes) = (scene, noise(900_000));
    let connection = scene.active(Kind::Dropbox, &ONLINE());
    let job = half_way(&scene, Kind::Dropbox, &connection, &bytes);
    scene.dropbox.order(Part::Content, 99, Trick::Alters(|reply| reply.end = End::Stall(0)));
    let mut events = Events::follow(&scene.gateway.client(), &job);
    scene.gateway.signal(rustix::process::Signal::TERM);
    let last = events.last();
    assert_ne!(last["state"], "succeeded", "{last}");
    scene.gateway.ends_well();
}

#[test]
fn way_19_a_token_that_may_not_read_content_is_a_refusal() {
    let scene = Scene::start();
    let missing = json!({
        "error_summary": "missing_scope/..",
        "error": {".tag": "missing_scope", "required_scope": "files.content.read"},
    });
    let little = drive_error(403, "insufficientPermissions", "", "Insufficient Permission");
    for (kind, reply) in [(Kind::Dropbox, Reply::json(401, &missing)), (Kind::GoogleDrive, little)]
    {
        let connection = scene.active(kind, &ONLINE());
        let id = scene.lay(kind, b"bytes");
        scene.cloud(kind).order(Part::Content, 9, Trick::Says(reply));
        scene.refused(&connection, &id, 502, "upstream-failed");
        assert_eq!(scene.state(&connection), "active");
    }
}

#[test]
fn way_20_a_permission_that_is_withdrawn_in_the_middle_ends_the_connection() {
    let (scene, bytes) = (Scene::start(), noise(900_000));
    for kind in Kind::BOTH {
        let connection = scene.active(kind, &OFFLINE());
        let job = half_way(&scene, kind, &connection, &bytes);
        scene.cloud(kind).withdraw();
        scene.cloud(kind).behave();
        let ended = ends(&scene, &job, "failed");
        assert_eq!(ended["problem"]["type"], "/problems/connection-revoked");
        assert_eq!(scene.state(&connection), "revoked");
        scene.try_pull(&connection, "x", &json!({})).problem(410, "connection-revoked");
        scene.delete(&connection).expect(200);
    }
    let pending = scene.begin(Kind::Dropbox, &ONLINE());
    scene.try_pull(&pending.id, "x", &json!({})).problem(409, "connection-not-active");
    let consented = scene.consent(Kind::Dropbox, &ONLINE(), &Decision::allow());
    scene.try_pull(&consented.id, "x", &json!({})).problem(409, "connection-not-active");
}

#[test]
fn way_21_tokens_travel_in_headers_to_the_service_alone() {
    let (scene, bytes) = (Scene::start(), noise(900_000));
    for kind in Kind::BOTH {
        let connection = scene.active(kind, &OFFLINE());
        let id = scene.lay(kind, &bytes);
        scene.cloud(kind).order(Part::Content, 2, CUT);
        let ended = scene.pull(&connection, &id);
        let said = ended.to_string() + &scene.gateway.stdout() + &scene.gateway.stderr();
        for secret in scene.cloud(kind).secrets() {
            assert!(!said.contains(&secret));
            for request in scene.cloud(kind).requests() {
                let url = format!("{} {:?}", request.path, request.query);
                assert!(!url.contains(&secret), "{url}");
            }
        }
    }
}

impl Scene {
    fn delete_all(&self) {
        let client = self.gateway.client();
        let listed = client.get("/v1/files").expect(200).json();
        for file in listed["files"].as_array().unwrap() {
            let id = file["id"].as_str().unwrap();
            client.delete(format!("/v1/files/{id}")).expect(200);
        }
    }
}
