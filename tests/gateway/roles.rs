//! Who may do what: every route of the document, by every role, and by grants.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::harness::{Answer, Ask, Client, Setup, TestGateway};

const ROLES: [&str; 5] = ["client", "connector", "owner", "auditor", "ops"];

/// Every operation with the roles that may use it; `*` is every role, `-` needs no key. HEAD goes
/// with GET.
const MATRIX: &[(&str, &str, &str)] = &[
    ("get", "/v1/files", "client"),
    ("post", "/v1/files", "client"),
    ("put", "/v1/files/", "client"),
    ("put", "/v1/files/{id}", "client"),
    ("get", "/v1/files/{id}", "client"),
    ("patch", "/v1/files/{id}", "client"),
    ("delete", "/v1/files/{id}", "client"),
    ("get", "/v1/files/{id}/content", "client"),
    ("post", "/v1/tus", "client"),
    ("get", "/v1/tus/{id}", "client"),
    ("patch", "/v1/tus/{id}", "client"),
    ("delete", "/v1/tus/{id}", "client"),
    ("get", "/v1/uploads/{id}", "client"),
    ("patch", "/v1/uploads/{id}", "client"),
    ("delete", "/v1/uploads/{id}", "client"),
    ("post", "/v1/process/{steps}", "client"),
    ("post", "/v1/jobs", "client"),
    ("get", "/v1/jobs", "client"),
    ("get", "/v1/jobs/{id}", "client"),
    ("get", "/v1/jobs/{id}/events", "client"),
    ("delete", "/v1/jobs/{id}", "client"),
    ("post", "/v1/grants", "client"),
    ("post", "/v1/connections", "connector"),
    ("get", "/v1/connections", "connector"),
    ("get", "/v1/connections/{id}", "connector"),
    ("delete", "/v1/connections/{id}", "connector"),
    ("post", "/v1/connections/{id}/confirm", "connector"),
    ("get", "/v1/connections/{id}/items", "connector"),
    ("get", "/connect/{page}", "-"),
    ("post", "/connect/{page}/consent", "-"),
    ("post", "/connect/{page}/refuse", "-"),
    ("post", "/connect/{page}/disconnect", "-"),
    ("get", "/connect/{page}/account", "-"),
    ("get", "/oauth/callback/{service}", "-"),
    ("get", "/v1/receipts/{id}", "client owner auditor"),
    ("get", "/v1/receipts/{id}/proof", "client owner auditor"),
    ("get", "/log/checkpoint", "-"),
    ("get", "/log/key", "-"),
    ("get", "/log/policy", "-"),
    ("get", "/log/notes/{index}", "-"),
    ("get", "/log/tile/{tile}", "-"),
    ("get", "/v1/policy", "ops"),
    ("post", "/v1/policy/explain", "*"),
    ("get", "/v1/audit", "owner auditor"),
    ("delete", "/v1/tenants/{tenant}/data", "owner"),
    ("get", "/v1/tenants/{tenant}/export", "owner"),
    ("put", "/v1/tenants/{tenant}/suspension", "owner ops"),
    ("delete", "/v1/tenants/{tenant}/suspension", "owner ops"),
    ("get", "/v1/processors", "*"),
    ("get", "/v1/regions", "*"),
    ("get", "/v1/whoami", "*"),
    ("get", "/v1/status", "ops"),
    ("get", "/openapi.json", "-"),
    ("get", "/docs", "-"),
    ("get", "/problems", "-"),
    ("get", "/problems/{slug}", "-"),
    ("get", "/assets/dayfly.css", "-"),
];

fn keys_for_each_role() -> Setup {
    let setup = Setup::new();
    ROLES.iter().fold(setup, |setup, role| setup.key(&format!("only{role}"), "acme", &[role]))
}

/// Asks as somebody who means it: with what the operation needs to go through.
fn ask(client: &Client, method: &str, path: &str, object: &str) -> Answer {
    let method = match method {
        "get" => "GET",
        "head" => "HEAD",
        "post" => "POST",
        "put" => "PUT",
        "patch" => "PATCH",
        _ => "DELETE",
    };
    let name = if method == "PUT" { "name.txt" } else { object };
    let real = path
        .replace("{id}", name)
        .replace("{steps}", "checksum")
        .replace("{tenant}", "acme")
        .replace("{slug}", "expired")
        .replace("{page}", "none")
        .replace("{service}", "dropbox")
        .replace("{index}", "0")
        .replace("{tile}", "0/000.p/1");
    if path.starts_with("/v1/tus") || path.starts_with("/v1/uploads") {
        return resumed(client, method, &real);
    }
    let body = match (method, path) {
        ("PATCH", _) => json!({"ttl": "5m"}).to_string(),
        (_, "/v1/grants") => json!({"allow": "upload", "count": 1, "ttl": "5m"}).to_string(),
        ("POST", "/v1/jobs") => order(object),
        (_, "/v1/policy/explain") => json!({"tenant": "acme"}).to_string(),
        ("POST" | "PUT", _) => "bytes".to_owned(),
        _ => return client.ask(method, real).send(),
    };
    client.ask(method, real).body(body.as_bytes()).send()
}

/// A request of one of the protocols of resumable uploads, with what it has to say.
fn resumed(client: &Client, method: &str, path: &str) -> Answer {
    let ask = client.ask(method, path).header("Tus-Resumable", "1.0.0");
    let tus = path.starts_with("/v1/tus");
    match method {
        "POST" => ask.header("Upload-Length", "9").send(),
        "PATCH" => {
            let kind = if tus { "offset+octet-stream" } else { "partial-upload" };
            let ask = ask.header("Content-Type", format!("application/{kind}"));
            let ask = ask.header("Upload-Offset", "0").header("Upload-Complete", "?0");
            ask.body(b"bytes").send()
        }
        _ => ask.send(),
    }
}

/// A job on a file.
fn order(file: &str) -> String {
    json!({"source": {"file": file}, "steps": ["checksum"]}).to_string()
}

/// Something of the tenant's own that a route can be asked for.
fn object(owner: &Client, path: &str) -> String {
    let file = owner.upload("", b"mine");
    if path.starts_with("/v1/jobs/") {
        return owner.post("/v1/jobs", order(&file).as_bytes()).expect(202).text("id");
    }
    let begun = |ask: Ask<'_>| {
        let place = ask.send().expect(201).header("location").unwrap().to_owned();
        place.rsplit('/').next().unwrap().to_owned()
    };
    if path.starts_with("/v1/tus/") {
        let ask = owner.ask("POST", "/v1/tus").header("Tus-Resumable", "1.0.0");
        return begun(ask.header("Upload-Length", "9"));
    }
    if path.starts_with("/v1/uploads/") {
        return begun(owner.ask("POST", "/v1/files").header("Upload-Complete", "?0"));
    }
    file
}

/// Whether what a route is asked for exists here: connections want a provider, proofs a minute.
fn has_an_object(path: &str) -> bool {
    let wants_more = ["/v1/connections", "/connect/", "/oauth/", "/log/tile/"];
    !wants_more.iter().any(|start| path.starts_with(start)) && !path.ends_with("/proof")
}

#[test]
fn every_route_opens_to_its_roles_and_to_no_other() {
    let gateway = keys_for_each_role().start();
    let document = gateway.anonymous().get("/openapi.json").expect(200).json();
    let mut described = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap().iter().filter(|(_, it)| it.is_object())
        {
            described.insert((method.clone(), path.clone()));
            assert_eq!(method == "head", operation["description"] == "As GET, without a body.");
        }
    }
    let mut listed: BTreeSet<(String, String)> = BTreeSet::new();
    for (method, path, _) in MATRIX {
        listed.insert(((*method).to_owned(), (*path).to_owned()));
        if *method == "get" {
            listed.insert(("head".to_owned(), (*path).to_owned()));
        }
    }
    assert_eq!(described, listed, "the document and this test's matrix");
    let owner = gateway.client_of("onlyclient");
    for (method, path) in &described {
        let get = if method == "head" { "get" } else { method };
        let row = MATRIX.iter().find(|row| row.0 == get && row.1 == path).unwrap();
        for role in ROLES {
            let object = object(&owner, path);
            let client = gateway.client_of(&format!("only{role}"));
            let answer = ask(&client, method, path, &object);
            let may = row.2 == "*" || row.2 == "-" || row.2.split(' ').any(|one| one == role);
            if may {
                let through = match has_an_object(path) {
                    true => (200..300).contains(&answer.status),
                    false => !matches!(answer.status, 401 | 403),
                };
                assert!(through, "{role} {method} {path}: {}", answer.status);
            } else if method == "head" {
                assert_eq!(answer.status, 403, "{role} {method} {path}");
            } else {
                answer.problem(403, "forbidden");
            }
            gateway.client_of("onlyops").delete("/v1/tenants/acme/suspension").expect(204);
        }
        let nobody = ask(&gateway.anonymous(), method, path, "file_a");
        assert_eq!(nobody.status == 401, row.2 != "-", "{method} {path}: {}", nobody.status);
    }
}

#[test]
fn a_grant_opens_what_it_names_and_nothing_else() {
    let gateway = keys_for_each_role().start();
    let owner = gateway.client();
    let (file, another) = (owner.upload("", b"mine"), owner.upload("", b"mine too"));
    let granted = |ask: &Value| {
        let made = owner.post("/v1/grants", ask.to_string().as_bytes()).expect(201).text("grant");
        owner.with_key(Some(&made))
    };
    let upload = granted(&json!({"allow": "upload", "count": 10, "ttl": "5m"}));
    let download = granted(&json!({"allow": "download", "file": file, "count": 10, "ttl": "5m"}));
    for (method, path, roles) in MATRIX.iter().filter(|row| row.2 != "-") {
        for (grant, opens) in [
            (
                &upload,
                (*path == "/v1/files" || *path == "/v1/tus") && *method == "post"
                    || *method == "put" && path.starts_with("/v1/files"),
            ),
            (&download, *path == "/v1/files/{id}/content"),
        ] {
            let answer = ask(grant, method, path, &file);
            if path.starts_with("/v1/tus/") || path.starts_with("/v1/uploads/") {
                // An upload of nobody's: a grant for uploads may ask, and there is none.
                let refused = if std::ptr::eq(grant, &upload) { 404 } else { 403 };
                assert_eq!(answer.status, refused, "{method} {path}");
            } else if opens {
                assert!((200..300).contains(&answer.status), "{method} {path}: {}", answer.status);
            } else {
                assert_eq!(answer.status, 403, "{method} {path} ({roles})");
                answer.problem(403, "forbidden");
            }
        }
    }
    for id in [another.as_str(), "file_aaaaaaaaaaaaaaaaaaaaaaaaaa", "x"] {
        download.download(id).problem(404, "not-found");
    }
}

#[test]
fn operators_never_see_content_whatever_else_their_tenant_has() {
    let gateway = keys_for_each_role().start();
    let file = gateway.client().upload("?name=private.txt", b"private");
    let ops = gateway.client_of("onlyops");
    for path in [
        format!("/v1/files/{file}"),
        Client::content(&file),
        "/v1/files".to_owned(),
        format!("/v1/receipts/{file}"),
        "/v1/audit".to_owned(),
        "/v1/tenants/acme/export".to_owned(),
    ] {
        ops.get(&path).problem(403, "forbidden");
    }
    ops.delete("/v1/tenants/acme/data").problem(403, "forbidden");
    ops.ask("PUT", "/v1/tenants/other/suspension").send().expect(204);
    gateway.client_of("other").get("/v1/files").problem(403, "suspended");
    ops.delete("/v1/tenants/other/suspension").expect(204);
    ops.ask("PUT", "/v1/tenants/nobody/suspension").send().problem(404, "not-found");
}

#[test]
fn another_tenants_name_and_an_unknown_one_look_the_same_to_an_owner() {
    let gateway = TestGateway::start();
    let owner = gateway.client_of("owner");
    for (method, path) in [
        ("DELETE", "/v1/tenants/NAME/data"),
        ("GET", "/v1/tenants/NAME/export"),
        ("PUT", "/v1/tenants/NAME/suspension"),
        ("DELETE", "/v1/tenants/NAME/suspension"),
    ] {
        let ask = |name: &str| {
            let mut problem = owner
                .ask(method, path.replace("NAME", name))
                .send()
                .problem(404, "not-found")
                .json();
            problem["request_id"] = Value::Null;
            problem
        };
        assert_eq!(ask("other"), ask("nobody"), "{method} {path}");
    }
    gateway.client_of("other").get("/v1/files").expect(200);
}

#[test]
fn every_operation_names_the_refusals_it_can_meet() {
    let gateway = TestGateway::start();
    let document = gateway.anonymous().get("/openapi.json").expect(200).json();
    let mut seen = BTreeMap::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap().iter().filter(|(_, it)| it.is_object())
        {
            let names = |status: &str| operation["responses"][status].is_object();
            assert!(names("400") && names("405"), "{method} {path}");
            let keyed = operation["security"].is_array();
            assert_eq!(keyed, !crate::roles::is_public(path), "{method} {path}");
            for status in ["401", "403", "429"] {
                assert_eq!(names(status), keyed, "{method} {path}: {status}");
            }
            assert!(names("404") || !path.contains('{'), "{method} {path}");
            *seen.entry(method.clone()).or_insert(0) += 1;
        }
    }
    assert_eq!(seen["get"], seen["head"], "HEAD goes with GET");
}

fn is_public(path: &str) -> bool {
    MATRIX.iter().any(|row| row.1 == path && row.2 == "-")
}
