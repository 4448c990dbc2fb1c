//! Looking into an account: page by page, safe names, and a provider that answers badly.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::Scene;
use crate::cloud::{
    Account, Answer as Decision, Kind, Node, Part, Reply, Tree, Trick, drive_error,
};

impl Scene {
    /// Every item of a folder, page by page.
    #[track_caller]
    fn all(&self, id: &str, query: &str) -> Vec<Value> {
        let (mut items, mut cursor) = (Vec::new(), String::new());
        for _ in 0..100 {
            let sign = if query.is_empty() { "?" } else { "&" };
            let page = self.items(id, &format!("{query}{sign}limit=2{cursor}")).expect(200).json();
            items.extend(page["items"].as_array().unwrap().clone());
            let Some(next) = page["cursor"].as_str() else { return items };
            cursor = format!("&cursor={next}");
        }
        panic!("the listing does not end");
    }
}

fn names(items: &[Value]) -> Vec<&str> {
    items.iter().map(|item| item["name"].as_str().unwrap()).collect()
}

#[test]
fn folders_are_listed_page_by_page_with_names_made_safe() {
    let scene = Scene::start();
    for kind in Kind::BOTH {
        let id = scene.active(kind, &json!({}));
        let root = scene.all(&id, "");
        let names = names(&root);
        assert!(names.contains(&"Invoice 1_2 \u{1f600}.pdf"), "{names:?}");
        assert_eq!(names.iter().filter(|name| **name == "twin.pdf").count(), 2);
        assert!(names.contains(&"_") && !names.contains(&".."), "{names:?}");
        let papers = root.iter().find(|item| item["name"] == "Papers").unwrap();
        assert_eq!((&papers["kind"], &papers["size"]), (&json!("folder"), &Value::Null));
        let folder = papers["id"].as_str().unwrap();
        let inside = scene.all(&id, &format!("?folder={folder}"));
        assert_eq!(inside.len(), 2);
        let file = &inside[0];
        assert_eq!((&file["kind"], &file["size"]), (&json!("file"), &json!(1234)));
        assert_eq!(inside[1]["size"], 0, "empty is not unknown");
        assert!(file["modified_at"].as_str().unwrap().starts_with("2026-01-02T03:04:05"));
        let algorithm = match kind {
            Kind::Dropbox => "dropbox-content-hash",
            Kind::GoogleDrive => "sha-256",
        };
        assert!(file["digest"][algorithm].is_string(), "{file}");
        scene.delete(&id).expect(200);
    }
}

#[test]
fn drive_shows_shared_drives_shortcuts_and_documents_for_what_they_are() {
    let scene = Scene::start();
    let id = scene.active(Kind::GoogleDrive, &json!({}));
    let root = scene.all(&id, "");
    let find = |items: &[Value], name: &str| {
        items.iter().find(|item| item["name"] == name).unwrap_or_else(|| panic!("{name}")).clone()
    };
    let document = find(&root, "A document");
    assert_eq!(document["size"], Value::Null, "what it is exported to has another size");
    let shortcut = find(&root, "To the papers");
    assert_eq!((&shortcut["kind"], &shortcut["id"]), (&json!("folder"), &json!("folder1")));
    let drive = find(&root, "Team drive");
    let plans =
        find(&scene.all(&id, &format!("?folder={}", drive["id"].as_str().unwrap())), "Plans");
    let inside = scene.all(&id, &format!("?folder={}", plans["id"].as_str().unwrap()));
    assert_eq!(names(&inside), ["plan.txt"]);
}

#[test]
fn a_teams_space_is_looked_at_from_its_own_root() {
    let scene = Scene::start();
    scene.dropbox.log_in(Account { team_root: true, ..scene.dropbox.account() });
    let id = scene.active(Kind::Dropbox, &json!({}));
    scene.items(&id, "").expect(200);
    let listed = scene.dropbox.requests();
    let listed = listed.iter().find(|request| request.path.contains("list_folder")).unwrap();
    let root = listed.header("dropbox-api-path-root").unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(root).unwrap(),
        json!({".tag": "root", "root": "7777"})
    );
}

#[test]
fn what_was_picked_is_all_there_is() {
    let scene = Scene::start();
    let asking = json!({"access": "picked"});
    let begun = scene.begin(Kind::GoogleDrive, &asking);
    let mut person = scene.person();
    let sent = scene.agree(&mut person, &begun.url);
    let asked = super::query(&sent);
    assert_eq!(asked["trigger_onepick"], "true");
    assert_eq!(asked["prompt"], "consent");
    assert_eq!(asked["scope"], "https://www.googleapis.com/auth/drive.file");
    let many: Vec<String> = (0..45).map(|n| format!("many{n}")).collect();
    let nodes = many.iter().map(|id| Node::file(Kind::GoogleDrive, id, "", id));
    scene.google.plant(Tree::of(nodes.collect()));
    let picks = format!("{},gone1", many.join(","));
    let consented = scene.consent(Kind::GoogleDrive, &asking, &Decision::allow().picking(&picks));
    scene.confirm(&consented.id, &json!({"code": consented.code()})).expect(200);
    let items = scene.all(&consented.id, "");
    assert_eq!(items.len(), 45, "one was deleted since");
    scene.items(&consented.id, "?folder=many1").problem(404, "item-not-found");
    for picks in ["", ",", "a/b", "a'b", &vec!["x"; 101].join(",")] {
        let none = scene.consent(Kind::GoogleDrive, &asking, &Decision::allow().picking(picks));
        assert_eq!(scene.failure(&none.id), "upstream-failed", "{picks}");
    }
    let none = scene.consent(Kind::GoogleDrive, &asking, &Decision::allow());
    assert_eq!(scene.failure(&none.id), "upstream-failed", "nothing was picked");
}

#[test]
fn a_folders_name_is_an_id_and_a_cursor_belongs_to_its_listing() {
    let scene = Scene::start();
    for kind in Kind::BOTH {
        let id = scene.active(kind, &json!({}));
        for folder in [
            "nothing",
            "id:nothing",
            "/Papers",
            "..",
            "x%27%20or%20name%20contains%20%27a",
            "a@b@c",
            "%00",
        ] {
            scene.items(&id, &format!("?folder={folder}")).problem(404, "item-not-found");
        }
        let page = scene.items(&id, "?limit=2").expect(200).json();
        let cursor = page["cursor"].as_str().unwrap().to_owned();
        scene.items(&id, &format!("?limit=2&cursor={cursor}")).expect(200);
        let mut forged = cursor.clone();
        forged.replace_range(5..6, if &cursor[5..6] == "A" { "B" } else { "A" });
        let other = scene.active(kind, &json!({}));
        for (id, cursor) in [(&id, forged.as_str()), (&id, "x"), (&id, ""), (&other, &cursor)] {
            scene.items(id, &format!("?cursor={cursor}")).problem(400, "bad-request");
        }
        scene.items(&id, "?limit=0").problem(400, "bad-request");
        scene.items(&id, "?depth=2").problem(400, "unknown-parameter");
    }
}

#[test]
fn a_busy_provider_is_asked_again_as_it_wishes_and_not_for_ever() {
    let scene = Scene::start();
    let busy = Reply::text(429, "text/plain", "slow down").with("Retry-After", "1");
    let quota = drive_error(403, "rateLimitExceeded", "", "Rate Limit Exceeded");
    let hiccup = Reply::text(502, "text/html", "<h1>502</h1>");
    for (kind, reply) in [
        (Kind::Dropbox, &busy),
        (Kind::GoogleDrive, &busy),
        (Kind::GoogleDrive, &quota),
        (Kind::Dropbox, &hiccup),
        (Kind::GoogleDrive, &hiccup),
    ] {
        let id = scene.active(kind, &json!({}));
        scene.cloud(kind).order(Part::List, 2, Trick::Says(reply.clone()));
        scene.items(&id, "").expect(200);
        scene.delete(&id).expect(200);
    }
    let id = scene.active(Kind::Dropbox, &json!({}));
    let long = Reply::text(429, "application/json", "{}").with("Retry-After", "300");
    scene.dropbox.order(Part::List, 1, Trick::Says(long));
    let later = scene.items(&id, "").problem(502, "upstream-failed");
    assert_eq!(later.header("retry-after"), Some("300"));
    let before = scene.dropbox.count(Part::List);
    scene.dropbox.order(Part::List, 99, Trick::Says(Reply::text(500, "text/html", "")));
    scene.items(&id, "").problem(502, "upstream-failed");
    assert_eq!(scene.dropbox.count(Part::List) - before, 4);
}

#[test]
fn a_bad_answer_is_no_listing() {
    let scene = Scene::start();
    let forbidden = drive_error(403, "insufficientPermissions", "", "Insufficient Permission");
    let missing = json!({
        "error_summary": "missing_scope/..",
        "error": {".tag": "missing_scope", "required_scope": "files.metadata.read"},
    });
    let reset = json!({"error_summary": "reset/..", "error": {".tag": "reset"}});
    let stale = drive_error(400, "invalid", "pageToken", "Invalid Value");
    let missing = Reply::json(401, &missing);
    for (kind, reply, status, slug) in [
        (
            Kind::Dropbox,
            Reply::text(200, "text/html", "<html>Sign in</html>"),
            502,
            "upstream-failed",
        ),
        (Kind::GoogleDrive, Reply::text(200, "text/html", "<html>"), 502, "upstream-failed"),
        (
            Kind::Dropbox,
            Reply::text(200, "application/json", "{\"entries\":"),
            502,
            "upstream-failed",
        ),
        (Kind::GoogleDrive, Reply::json(200, &json!({"files": 1})), 502, "upstream-failed"),
        (
            Kind::Dropbox,
            Reply::text(200, "application/json", &"x".repeat(3 << 20)),
            502,
            "upstream-failed",
        ),
        (Kind::Dropbox, Reply::to(302, "https://evil.example/"), 502, "upstream-failed"),
        (Kind::Dropbox, Reply::text(400, "text/plain", "Error in call"), 502, "upstream-failed"),
        (Kind::Dropbox, missing, 502, "upstream-failed"),
        (Kind::Dropbox, Reply::json(409, &reset), 400, "bad-request"),
        (Kind::GoogleDrive, stale, 400, "bad-request"),
    ] {
        let id = scene.active(kind, &json!({}));
        scene.cloud(kind).order(Part::List, 1, Trick::Says(reply.clone()));
        scene.items(&id, "").problem(status, slug);
        assert_eq!(scene.state(&id), "active", "{reply:?}");
        scene.delete(&id).expect(200);
    }
    // Drives that may not be listed leave the files.
    let id = scene.active(Kind::GoogleDrive, &json!({}));
    scene.google.order(Part::List, 1, Trick::Says(forbidden));
    assert!(!scene.items(&id, "").expect(200).json()["items"].as_array().unwrap().is_empty());
}

#[test]
fn pages_without_end_end() {
    let scene = Scene::start();
    let id = scene.active(Kind::Dropbox, &json!({}));
    let same = json!({"entries": [], "cursor": "again", "has_more": true});
    scene.dropbox.order(Part::List, 99, Trick::Says(Reply::json(200, &same)));
    scene.items(&id, "").problem(502, "upstream-failed");
    scene.dropbox.behave();
    scene.dropbox.order(
        Part::List,
        99,
        Trick::Edits(|json| {
            json["entries"] = json!([]);
            json["has_more"] = true.into();
            // Another one each time, and the emulator understands each.
            static TURN: AtomicUsize = AtomicUsize::new(100);
            json["cursor"] = format!("0|{}|", TURN.fetch_add(1, Ordering::SeqCst)).into();
        }),
    );
    let before = scene.dropbox.count(Part::List);
    let page = scene.items(&id, "").expect(200).json();
    assert!(page["items"] == json!([]) && page["cursor"].is_string(), "{page}");
    assert_eq!(scene.dropbox.count(Part::List) - before, 5, "so many empty pages, and no more");
}
