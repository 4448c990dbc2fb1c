//! The bytes of both services: downloads with ranges, documents that are made, uploads in sessions.

use serde_json::{Value, json};

use super::tree::{Content, Node};
use super::{Kind, Reply, Request, State, dropbox, google_drive};

/// The bytes that were asked for: all, or those from `Range` on.
fn ranged(request: &Request, kind: &str, content: &Content) -> Option<Reply> {
    let (bytes, total) = (&content.bytes, content.bytes.len());
    let Some(range) = request.header("range") else {
        return Some(Reply::bytes(200, kind, bytes.clone()));
    };
    let (from, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let from: usize = from.parse().ok()?;
    let end = last.parse().map_or(total, |last: usize| total.min(last + 1));
    // Both services fail on a range of nothing.
    let part = bytes.get(from..end).filter(|part| !part.is_empty())?;
    let reply = Reply::bytes(206, kind, part.to_vec());
    Some(reply.with("Content-Range", &format!("bytes {from}-{}/{total}", end - 1)))
}

fn argument(request: &Request) -> Value {
    let text = request.header("dropbox-api-arg").unwrap_or_default();
    assert!(text.is_ascii(), "a header is ASCII");
    serde_json::from_str(text).unwrap_or(Value::Null)
}

pub fn dropbox(state: &State, request: &Request) -> Reply {
    let asked = argument(request);
    let path = asked["path"].as_str().unwrap_or_default();
    match request.path.as_str() {
        "/2/files/download" if !request.body.is_empty() => {
            Reply::text(400, "text/plain", "The request body is supposed to be empty, but isn't")
        }
        "/2/files/download" => download(state, request, path),
        "/2/files/export" => {
            let tree = state.tree.lock().unwrap();
            let made = tree.get(path).and_then(|node| node.made.as_ref());
            let Some((_, content)) = made else {
                return dropbox::failed("non_exportable/..", &json!({".tag": "non_exportable"}));
            };
            let (size, hash) = (content.bytes.len(), &content.blocks);
            let said = json!({"export_metadata": {"name": "x", "size": size, "export_hash": hash}});
            let reply = Reply::bytes(200, "application/octet-stream", content.bytes.clone());
            reply.with("Dropbox-API-Result", &said.to_string())
        }
        "/2/files/delete_v2" => {
            let path = request.json()["path"].as_str().unwrap_or_default().to_owned();
            state.tree.lock().unwrap().nodes.retain(|node| node.id != path);
            Reply::json(200, &json!({"metadata": {".tag": "file"}}))
        }
        path if path.starts_with("/2/files/upload_session/") => session(state, request, &asked),
        _ => Reply::text(400, "text/plain", "Unknown API function"),
    }
}

fn download(state: &State, request: &Request, path: &str) -> Reply {
    let tree = state.tree.lock().unwrap();
    let rev = path.strip_prefix("rev:");
    let node = tree.nodes.iter().find(|node| node.id == path || Some(&*node.rev()) == rev);
    let Some(node) = node.filter(|node| !node.folder) else {
        return dropbox::failed("path/not_found/..", &json!({".tag": "not_found"}));
    };
    if node.made.is_some() {
        return dropbox::failed("unsupported_file/..", &json!({".tag": "unsupported_file"}));
    }
    let mut said = dropbox::entry(node);
    said.as_object_mut().unwrap().remove(".tag");
    said["name"] = "x".into();
    said["path_lower"] = "/x".into();
    said["path_display"] = "/x".into();
    match ranged(request, "application/octet-stream", &node.content()) {
        Some(reply) => reply.with("Dropbox-API-Result", &said.to_string()),
        None => dropbox::failed("range/not_satisfiable", &json!({".tag": "other"})),
    }
}

fn session(state: &State, request: &Request, asked: &Value) -> Reply {
    let mut uploads = state.uploads.lock().unwrap();
    if request.path.ends_with("/start") {
        let id = format!("session-{}", uploads.len());
        uploads.insert(id.clone(), (String::new(), String::new(), request.body.clone()));
        return Reply::json(200, &json!({"session_id": id}));
    }
    let id = asked["cursor"]["session_id"].as_str().unwrap_or_default();
    let Some((_, _, bytes)) = uploads.get_mut(id) else {
        let error = json!({"error_summary": "not_found/..", "error": {".tag": "not_found"}});
        return Reply::json(409, &error);
    };
    if asked["cursor"]["offset"].as_u64() != Some(bytes.len() as u64) {
        let wrong = json!({".tag": "incorrect_offset", "correct_offset": bytes.len()});
        let finish = request.path.ends_with("/finish");
        let error = match finish {
            true => json!({".tag": "lookup_failed", "lookup_failed": wrong}),
            false => wrong,
        };
        return Reply::json(409, &json!({"error_summary": "incorrect_offset/..", "error": error}));
    }
    bytes.extend_from_slice(&request.body);
    if request.path.ends_with("/append_v2") {
        return Reply::text(200, "application/json", "null");
    }
    let bytes = std::mem::take(bytes);
    let commit = &asked["commit"];
    let path = commit["path"].as_str().unwrap_or_default();
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let mut tree = state.tree.lock().unwrap();
    if !folder.is_empty() && !tree.get(folder).is_some_and(|node| node.folder) {
        return dropbox::failed("path/not_found/..", &json!({".tag": "not_found"}));
    }
    let taken = |name: &str| tree.children(folder).iter().any(|node| node.name == name);
    let free = (0..).map(|nth| if nth == 0 { name.to_owned() } else { format!("{name} ({nth})") });
    let name = match (commit["mode"].as_str(), commit["autorename"].as_bool()) {
        (Some("add"), Some(true)) => free.clone().find(|name| !taken(name)).unwrap(),
        _ => name.to_owned(),
    };
    let id = format!("put{}", tree.nodes.len());
    let mut node = Node::of(Kind::Dropbox, &id, "", &name, &bytes);
    node.parent = folder.to_owned();
    let mut said = dropbox::entry(&node);
    said["name"] = "x".into();
    tree.nodes.push(node);
    Reply::json(200, &said)
}

pub fn google_drive(state: &State, request: &Request, may_write: bool) -> Reply {
    if google_drive::is_upload(&request.path) {
        return upload(state, request, may_write);
    }
    let id = request.path.trim_start_matches("/drive/v3/files/").trim_start_matches("/exported/");
    let id = id.trim_end_matches("/export");
    if request.query("access_token").is_some() {
        return google_drive::error(400, "badRequest", "", "OAuth token was passed in the query");
    }
    let tree = state.tree.lock().unwrap();
    let Some(node) = tree.get(id) else {
        return google_drive::error(404, "notFound", "fileId", "File not found.");
    };
    match &node.made {
        Some((kind, content)) if request.path.starts_with("/exported/") => {
            Reply::bytes(200, kind, content.bytes.clone())
        }
        Some((kind, _)) if request.query("mimeType") != Some(kind) => {
            google_drive::error(400, "badRequest", "convertTo", "not supported")
        }
        Some((_, content)) if content.bytes.len() > 10 << 20 => {
            let words = "This file is too large to be exported.";
            google_drive::error(403, "exportSizeLimitExceeded", "", words)
        }
        Some((kind, content)) if request.path.ends_with("/export") => {
            let mut reply = Reply::bytes(200, kind, content.bytes.clone());
            reply.framing = super::Framing::Chunked;
            reply
        }
        Some(_) => google_drive::error(403, "fileNotDownloadable", "alt", "Use Export"),
        None if node.folder => google_drive::error(403, "fileNotDownloadable", "alt", "A folder"),
        None => ranged(request, &node.media_type, &node.content()).unwrap_or_else(|| {
            google_drive::error(416, "requestedRangeNotSatisfiable", "", "Range")
        }),
    }
}

fn upload(state: &State, request: &Request, may_write: bool) -> Reply {
    let mut uploads = state.uploads.lock().unwrap();
    if let Some(id) = request.path.strip_prefix("/upload/session/") {
        return go_on(state, request, uploads.get_mut(id));
    }
    if !may_write {
        return google_drive::error(403, "insufficientPermissions", "", "Insufficient Permission");
    }
    let asked = request.json();
    let folder = asked["parents"][0].as_str().unwrap_or_default().to_owned();
    let tree = state.tree.lock().unwrap();
    if folder != "root" && !tree.get(&folder).is_some_and(|node| node.folder) {
        return google_drive::error(404, "notFound", "fileId", "File not found.");
    }
    let name = asked["name"].as_str().unwrap_or_default().to_owned();
    let id = format!("s{}", uploads.len());
    let folder = if folder == "root" { String::new() } else { folder };
    uploads.insert(id.clone(), (folder, name, Vec::new()));
    let host = request.header("host").unwrap_or_default();
    Reply::json(200, &json!({})).with("Location", &format!("http://{host}/upload/session/{id}?u=1"))
}

fn go_on(
    state: &State,
    request: &Request,
    upload: Option<&mut (String, String, Vec<u8>)>,
) -> Reply {
    let Some((folder, name, bytes)) = upload else {
        return google_drive::error(404, "notFound", "", "No such upload");
    };
    let range = request.header("content-range").unwrap_or_default().to_owned();
    let (part, total) = range.trim_start_matches("bytes ").split_once('/').unwrap_or_default();
    let total: usize = total.parse().unwrap_or(usize::MAX);
    if let Some((first, _)) = part.split_once('-')
        && first.parse() == Ok(bytes.len())
    {
        bytes.extend_from_slice(&request.body);
    }
    if bytes.len() < total {
        let reply = Reply { status: 308, ..Reply::default() };
        return match bytes.len() {
            0 => reply,
            length => reply.with("Range", &format!("bytes=0-{}", length - 1)),
        };
    }
    let mut tree = state.tree.lock().unwrap();
    let id = format!("put{}", tree.nodes.len());
    let mut node = Node::of(Kind::GoogleDrive, &id, "", name, bytes);
    node.parent.clone_from(folder);
    let content = node.content();
    tree.nodes.push(node);
    let (size, md5) = (bytes.len().to_string(), &content.md5);
    Reply::json(
        200,
        &json!({"id": id, "size": size, "md5Checksum": md5, "sha256Checksum": content.sha256}),
    )
}
