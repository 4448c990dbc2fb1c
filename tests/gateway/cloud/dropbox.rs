//! Dropbox, API v2: RPC calls by POST, unions by `.tag`, errors as 409 with a summary nobody may
//! rely on.

use serde_json::{Value, json};

use super::tree::Node;
use super::{Part, Reply, Request, State};

pub fn part(request: &Request) -> Option<Part> {
    Some(match request.path.as_str() {
        "/oauth2/token" => Part::Token,
        "/2/users/get_current_account" => Part::Account,
        "/2/files/list_folder" | "/2/files/list_folder/continue" | "/2/files/get_metadata" => {
            Part::List
        }
        "/2/auth/token/revoke" => Part::Revoke,
        "/2/files/download" | "/2/files/export" => Part::Content,
        "/2/files/upload_session/start" => Part::Upload,
        path if path.starts_with("/2/files/upload_session/") => Part::Chunk,
        _ => return None,
    })
}

pub fn answer(state: &State, request: &Request) -> Reply {
    let reply = match authorized(state, request) {
        Ok(scope) => called(state, request, &scope),
        Err(reply) => reply,
    };
    reply.with("X-Dropbox-Request-Id", "0123456789abcdef0123456789abcdef")
}

fn auth_error(tag: &str) -> Reply {
    let error = json!({"error_summary": format!("{tag}/.."), "error": {".tag": tag}});
    Reply::json(401, &error)
}

fn authorized(state: &State, request: &Request) -> Result<String, Reply> {
    let words = "Error in call to API function: Invalid authorization value in HTTP header \
                 \"Authorization\". Expecting \"Bearer <oauth2-access-token>\".";
    let bearer = request.bearer().ok_or_else(|| Reply::text(400, "text/plain", words))?;
    let grants = state.grants.lock().unwrap();
    match grants.token(bearer) {
        None => Err(auth_error("invalid_access_token")),
        Some(token) if token.expired => Err(auth_error("expired_access_token")),
        Some(token) => Ok(token.scope.clone()),
    }
}

fn called(state: &State, request: &Request, scope: &str) -> Reply {
    let argument = request.json();
    let need = match part(request) {
        Some(Part::Account) => "account_info.read",
        Some(Part::List) => "files.metadata.read",
        Some(Part::Content) => "files.content.read",
        Some(Part::Upload | Part::Chunk) => "files.content.write",
        _ => "",
    };
    if !need.is_empty() && !scope.split(' ').any(|held| held == need) {
        let error = json!({".tag": "missing_scope", "required_scope": need});
        return Reply::json(401, &json!({"error_summary": "missing_scope/..", "error": error}));
    }
    match request.path.as_str() {
        "/2/users/get_current_account" => account(state),
        "/2/files/list_folder" => {
            let path = argument["path"].as_str().unwrap_or("/").to_owned();
            let limit = argument["limit"].as_u64().unwrap_or(2000) as usize;
            list(state, &path, 0, limit.max(1))
        }
        "/2/files/list_folder/continue" => {
            let cursor = argument["cursor"].as_str().unwrap_or_default();
            let mut parts = cursor.splitn(3, '|');
            let mut number = || parts.next().and_then(|part| part.parse().ok());
            let (Some(at), Some(limit)) = (number(), number()) else {
                return Reply::text(400, "text/plain", "Error in call: cursor: did not match");
            };
            list(state, cursor.splitn(3, '|').nth(2).unwrap_or_default(), at, limit)
        }
        "/2/files/get_metadata" => {
            let path = argument["path"].as_str().unwrap_or_default();
            match state.tree.lock().unwrap().get(path) {
                Some(node) => Reply::json(200, &entry(node)),
                None => failed("path/not_found/..", &json!({".tag": "not_found"})),
            }
        }
        "/2/auth/token/revoke" => {
            let bearer = request.bearer().unwrap_or_default();
            state.grants.lock().unwrap().revoke_token(bearer);
            Reply::text(200, "application/json", "null")
        }
        _ => super::content::dropbox(state, request),
    }
}

pub fn failed(summary: &str, path: &Value) -> Reply {
    let error = json!({".tag": "path", "path": path});
    Reply::json(409, &json!({"error_summary": summary, "error": error}))
}

fn account(state: &State) -> Reply {
    let account = state.account.lock().unwrap().clone();
    let root = if account.team_root { "7777" } else { "3235641" };
    let name = json!({
        "given_name": account.name, "surname": "", "familiar_name": account.name,
        "display_name": account.name, "abbreviated_name": "AE",
    });
    let kind = if account.team_root { "team" } else { "user" };
    Reply::json(
        200,
        &json!({
            "account_id": account.id, "name": name, "email": account.email,
            "email_verified": true, "disabled": false, "locale": "en",
            "referral_link": "https://db.tt/x", "is_paired": false,
            "account_type": {".tag": "basic"},
            "root_info": {
                ".tag": kind, "root_namespace_id": root, "home_namespace_id": "3235641",
                "home_path": "/Ada",
            },
        }),
    )
}

fn list(state: &State, path: &str, at: usize, limit: usize) -> Reply {
    let tree = state.tree.lock().unwrap();
    let known = path.is_empty() || tree.get(path).is_some_and(|node| node.folder);
    if !known {
        let tag = if tree.get(path).is_some() { "not_folder" } else { "not_found" };
        return failed(&format!("path/{tag}/..."), &json!({".tag": tag}));
    }
    let all = tree.children(path);
    let end = all.len().min(at + limit);
    let entries: Vec<Value> = all[at.min(end)..end].iter().map(|node| entry(node)).collect();
    let cursor = format!("{end}|{limit}|{path}");
    Reply::json(200, &json!({"entries": entries, "cursor": cursor, "has_more": end < all.len()}))
}

pub fn entry(node: &Node) -> Value {
    let mut entry = json!({
        ".tag": if node.folder { "folder" } else { "file" },
        "name": node.name, "id": node.id,
        "path_lower": format!("/{}", node.name.to_lowercase()),
        "path_display": format!("/{}", node.name),
    });
    if !node.folder {
        let file = json!({
            "client_modified": "2026-01-02T03:04:05Z", "server_modified": "2026-01-02T03:04:05Z",
            "rev": node.rev(), "size": node.bytes, "is_downloadable": node.made.is_none(),
            "content_hash": node.content().blocks,
        });
        entry.as_object_mut().unwrap().extend(file.as_object().unwrap().clone());
        if let Some((kind, _)) = &node.made {
            entry["export_info"] = json!({"export_as": kind});
        }
    }
    entry
}
