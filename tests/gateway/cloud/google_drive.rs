//! Google Drive, API v3: int64 as strings, masks of fields, reasons inside errors.

use serde_json::{Map, Value, json};

use super::tree::Node;
use super::{Part, Reply, Request, State};

const SCOPE: &str = "https://www.googleapis.com/auth/";

pub fn part(request: &Request) -> Option<Part> {
    Some(match request.path.as_str() {
        "/token" => Part::Token,
        "/revoke" => Part::Revoke,
        "/drive/v3/about" => Part::Account,
        path if path.starts_with("/upload/session/") => Part::Chunk,
        path if is_upload(path) => Part::Upload,
        path if path.starts_with("/exported/") || path.ends_with("/export") => Part::Content,
        _ if request.query("alt") == Some("media") => Part::Content,
        path if path.starts_with("/drive/v3/") => Part::List,
        _ => return None,
    })
}

/// Google's own client asks below the second.
pub fn is_upload(path: &str) -> bool {
    path.starts_with("/upload/") || path.starts_with("/resumable/upload/")
}

/// The general shape of an error.
pub fn error(status: u16, reason: &str, location: &str, words: &str) -> Reply {
    let mut first = json!({"message": words, "domain": "global", "reason": reason});
    if !location.is_empty() {
        first["location"] = location.into();
        first["locationType"] = "parameter".into();
    }
    let error = json!({"code": status, "message": words, "errors": [first]});
    Reply::json(status, &json!({"error": error}))
}

pub fn answer(state: &State, request: &Request) -> Reply {
    if request.path == "/revoke" {
        let token = request.form("token").or_else(|| request.query("token").map(str::to_owned));
        let mut grants = state.grants.lock().unwrap();
        return match grants.revoke_person(&token.unwrap_or_default()) {
            true => Reply::json(200, &json!({})),
            false => Reply::json(400, &json!({"error": "invalid_token"})),
        };
    }
    let challenge = "Bearer realm=\"https://accounts.google.com/\", error=\"invalid_token\"";
    let unauthorized = || {
        let words = "Request had invalid authentication credentials.";
        error(401, "authError", "Authorization", words).with("WWW-Authenticate", challenge)
    };
    let Some(bearer) = request.bearer() else {
        return error(403, "forbidden", "", "Method doesn't allow unregistered callers");
    };
    let scopes = {
        let grants = state.grants.lock().unwrap();
        match grants.token(bearer).filter(|token| !token.expired) {
            Some(token) => token.scope.replace(SCOPE, ""),
            None => return unauthorized(),
        }
    };
    let holds = |any: &[&str]| scopes.split(' ').any(|held| any.contains(&held));
    let little = || {
        let words = "Insufficient Permission: Request had insufficient authentication scopes.";
        error(403, "insufficientPermissions", "", words)
    };
    if matches!(part(request), Some(Part::Upload | Part::Chunk | Part::Content)) {
        let may_write = holds(&["drive", "drive.file"]);
        return super::content::google_drive(state, request, may_write);
    }
    let path = request.path.strip_prefix("/drive/v3").unwrap_or_default();
    match path {
        "/about" => about(state, request),
        "/drives" if !holds(&["drive", "drive.readonly"]) => little(),
        "/drives" => drives(state, request),
        "/files" => files(state, request, holds(&["drive", "drive.readonly"])),
        _ => match path.strip_prefix("/files/") {
            Some(id) => one(state, request, id),
            None => error(404, "notFound", "", "Not Found"),
        },
    }
}

fn about(state: &State, request: &Request) -> Reply {
    if request.query("fields").is_none() {
        let words = "The 'fields' parameter is required for this method.";
        return error(400, "required", "fields", words);
    }
    let account = state.account.lock().unwrap().clone();
    let user = json!({
        "kind": "drive#user", "displayName": account.name, "me": true,
        "permissionId": account.id, "emailAddress": account.email,
    });
    Reply::json(200, &json!({"user": user}))
}

/// A page of `all` from the request's token on, and the token of the next.
fn page<T>(
    all: &[T],
    request: &Request,
    most: usize,
) -> Result<(Vec<usize>, Option<String>), Reply> {
    let at = match request.query("pageToken") {
        None => 0,
        Some(token) => {
            let at = token.strip_prefix("~page").and_then(|at| at.parse().ok());
            at.ok_or_else(|| error(400, "invalid", "pageToken", "Invalid Value"))?
        }
    };
    let size = request.query("pageSize").and_then(|size| size.parse().ok()).unwrap_or(100);
    let end = all.len().min(at + size.min(most));
    let next = (end < all.len()).then(|| format!("~page{end}"));
    Ok(((at.min(end)..end).collect(), next))
}

/// Whether the mask lets the field through: without it the second page is lost.
fn masked(request: &Request, field: &str) -> bool {
    request.query("fields").is_none_or(|mask| mask.contains(field))
}

fn drives(state: &State, request: &Request) -> Reply {
    let tree = state.tree.lock().unwrap();
    let (page, next) = match page(&tree.drives, request, 100) {
        Ok(page) => page,
        Err(reply) => return reply,
    };
    let drive = |at: &usize| {
        let (id, name) = &tree.drives[*at];
        json!({"kind": "drive#drive", "id": id, "name": name})
    };
    let mut answer = json!({"kind": "drive#driveList"});
    answer["drives"] = page.iter().map(drive).collect();
    if let Some(next) = next.filter(|_| masked(request, "nextPageToken")) {
        answer["nextPageToken"] = next.into();
    }
    Reply::json(200, &answer)
}

fn files(state: &State, request: &Request, all_files: bool) -> Reply {
    let within = request.query("q").unwrap_or_default();
    let parent = within.strip_prefix('\'').and_then(|q| q.split_once("' in parents"));
    let Some((parent, rest)) = parent else { return error(400, "invalid", "q", "Invalid Value") };
    if !rest.contains("trashed=false") {
        return error(400, "invalid", "q", "Invalid Value");
    }
    if request.query("includeItemsFromAllDrives") == Some("true")
        && request.query("supportsAllDrives") != Some("true")
    {
        let words = "The supportsAllDrives parameter was not set to true.";
        return error(403, "supportsTeamDrivesRequired", "", words);
    }
    let (corpora, drive) = (request.query("corpora"), request.query("driveId"));
    if (corpora == Some("drive")) != drive.is_some() {
        return error(400, "invalid", "driveId", "Invalid Value");
    }
    let tree = state.tree.lock().unwrap();
    let parent = if parent == "root" { "" } else { parent };
    // A shared drive is only looked into when it is asked for.
    let seen = |node: &&Node| all_files && node.drive.as_deref() == drive;
    let children: Vec<&Node> = tree.children(parent).into_iter().filter(seen).collect();
    let known = parent.is_empty()
        || tree.get(parent).is_some()
        || tree.drives.iter().any(|(id, _)| id == parent);
    if !known {
        return error(404, "notFound", "fileId", &format!("File not found: {parent}."));
    }
    let (page, next) = match page(&children, request, 1000) {
        Ok(page) => page,
        Err(reply) => return reply,
    };
    let mut answer = json!({"kind": "drive#fileList", "incompleteSearch": false});
    answer["files"] = page.iter().map(|at| file(children[*at])).collect();
    if let Some(next) = next.filter(|_| masked(request, "nextPageToken")) {
        answer["nextPageToken"] = next.into();
    }
    Reply::json(200, &answer)
}

fn one(state: &State, request: &Request, id: &str) -> Reply {
    let tree = state.tree.lock().unwrap();
    let node = tree.get(id);
    let shared = request.query("supportsAllDrives") == Some("true");
    let keys = request.header("x-goog-drive-resource-keys").unwrap_or_default();
    let opened = |node: &&Node| {
        let key = node.key.as_ref().map(|key| format!("{id}/{key}"));
        key.is_none_or(|key| keys.split(',').any(|held| held == key))
    };
    match node.filter(|node| node.drive.is_none() || shared).filter(opened) {
        Some(node) => {
            let mut file = file(node);
            if let Some((kind, _)) = &node.made {
                let host = request.header("host").unwrap_or_default();
                let link = format!("http://{host}/exported/{id}?as=file");
                file["exportLinks"] = json!({kind: link});
            }
            let target = node.target.as_ref().and_then(|(id, _)| tree.get(id));
            if let Some(key) = target.and_then(|target| target.key.as_ref()) {
                file["shortcutDetails"]["targetResourceKey"] = key.clone().into();
            }
            Reply::json(200, &file)
        }
        None => error(404, "notFound", "fileId", &format!("File not found: {id}.")),
    }
}

fn file(node: &Node) -> Value {
    let mut file = Map::new();
    let mut put = |name: &str, value: Value| drop(file.insert(name.to_owned(), value));
    put("kind", "drive#file".into());
    put("id", node.id.clone().into());
    put("name", node.name.clone().into());
    put("mimeType", node.media_type.clone().into());
    put("modifiedTime", "2026-01-02T03:04:05.678Z".into());
    put("trashed", false.into());
    if let Some(drive) = &node.drive {
        put("driveId", drive.clone().into());
    }
    if let Some((id, kind)) = &node.target {
        put("shortcutDetails", json!({"targetId": id, "targetMimeType": kind}));
    } else if !node.folder {
        put("size", node.bytes.to_string().into());
        if !node.media_type.starts_with("application/vnd.google-apps.") {
            let content = node.content();
            put("sha256Checksum", content.sha256.clone().into());
            put("md5Checksum", content.md5.clone().into());
            put("headRevisionId", node.rev().into());
        }
    }
    Value::Object(file)
}
