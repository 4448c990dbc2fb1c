//! Every page is whole, safe to open, and says what it must.

use serde_json::json;

use super::*;

/// A small document with every part that the page shows, and some that are broken.
fn fixture() -> Value {
    serde_json::from_str(include_str!("fixture.json")).unwrap()
}

fn pages() -> Vec<String> {
    let mut pages: Vec<String> = Slug::ALL.iter().map(|slug| problem_page(*slug)).collect();
    pages.push(problems_page());
    pages.push(docs_page(&fixture()));
    pages.push(docs_page(&Value::Null));
    pages
}

/// What a browser shows of the text.
fn escaped(text: &str) -> String {
    let text = text.replace('&', "&#38;").replace('<', "&#60;").replace('>', "&#62;");
    text.replace('"', "&#34;").replace('\'', "&#39;")
}

#[test]
fn every_problem_has_a_page() {
    let all = problems_page();
    for slug in Slug::ALL {
        let page = problem_page(*slug);
        for text in [slug.as_str(), slug.title(), slug.advice(), &slug.status().to_string()] {
            assert!(page.contains(&escaped(text)), "{}: {text}", slug.as_str());
        }
        assert!(page.contains("href=\"/problems\"") && page.contains("href=\"/docs\""));
        assert!(all.contains(&format!("href=\"/problems/{}\"", slug.as_str())));
        assert!(all.contains(&escaped(slug.title())));
    }
}

#[test]
fn every_status_is_put_in_words() {
    let plain = happened(418);
    for slug in Slug::ALL {
        assert_ne!(happened(slug.status()), plain, "{}", slug.as_str());
    }
}

#[test]
fn pages_need_nothing_but_their_stylesheet() {
    let forbidden =
        ["<script", "style=", "<style", "http://", "https://", "<form", "<img", " onclick"];
    for page in pages() {
        for word in forbidden {
            assert!(!page.contains(word), "{word} in {page}");
        }
        for link in page.split("href=\"").skip(1) {
            let own = link.starts_with('#') || link.starts_with('/') || link.starts_with("data:,");
            assert!(own && !link.starts_with("//"), "{link}");
        }
        assert_eq!(page.matches("<link rel=\"stylesheet\"").count(), 1);
    }
    assert!(!STYLESHEET.contains("url(") && !STYLESHEET.contains("@import"));
}

#[test]
fn pages_can_be_walked_by_ear() {
    for page in pages() {
        for landmark in ["<html lang=\"en\">", "<header", "<nav", "<main id=\"main\"", "<footer"] {
            assert!(page.contains(landmark), "{landmark}");
        }
        assert_eq!(page.matches("<h1>").count(), 1);
        let ids: Vec<&str> = page.split(" id=\"").skip(1).map(to_quote).collect();
        for (at, id) in ids.iter().enumerate() {
            assert!(!ids[..at].contains(id), "{id} twice");
        }
        for target in page.split("href=\"#").skip(1).map(to_quote) {
            assert!(ids.contains(&target), "#{target} leads nowhere");
        }
    }
}

fn to_quote(text: &str) -> &str {
    text.split('"').next().unwrap()
}

#[test]
fn the_documentation_lists_every_operation() {
    let openapi = fixture();
    let page = docs_page(&openapi);
    let paths = openapi["paths"].as_object().unwrap();
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            let Some(summary) = operation["summary"].as_str() else { continue };
            let verb = method.to_uppercase();
            let heading = format!("{verb}</span> <code>{}</code></a></h3>", escaped(path));
            assert!(page.contains(&heading), "{heading}");
            assert!(page.contains(&escaped(summary)), "{summary}");
        }
    }
    for text in [
        "The life of the file",
        "<a href=\"#schema-file\">File</a>",
        "string (date-time) or null",
        "Default <code>1h</code>",
        "one of the roles client, owner",
        "No key needed",
        "digest.sha-256",
        "<a href=\"/problems/downloaded\"><code>downloaded</code></a>",
        "curl -T report.pdf",
    ] {
        assert!(page.contains(text), "{text}");
    }
}

#[test]
fn hostile_words_stay_words() {
    fn poison(node: &mut Value) {
        match node {
            Value::String(text) if !text.starts_with('#') => {
                text.push_str("\"'><script>alert(1)</script>");
            }
            Value::Array(nodes) => nodes.iter_mut().for_each(poison),
            Value::Object(map) => {
                let poisoned = map.iter().map(|(key, node)| {
                    let mut node = node.clone();
                    poison(&mut node);
                    (key.clone(), node)
                });
                let mut poisoned: serde_json::Map<String, Value> = poisoned.collect();
                poisoned.insert("<script>".to_owned(), json!({"type": "<script>"}));
                *map = poisoned;
            }
            _ => {}
        }
    }
    let mut openapi = fixture();
    poison(&mut openapi);
    let page = docs_page(&openapi);
    assert!(!page.contains("<script") && page.contains("&#60;script&#62;"));
    assert!(!page.contains("\"'>"));
}

#[test]
fn broken_and_circular_documents_still_make_a_page() {
    let circle = json!({"$ref": "#/components/schemas/A"});
    let openapi = json!({
        "tags": "none",
        "paths": {"/a": {"$ref": "#/paths/~1a"}, "/b": null, "/c": {"get": {
            "tags": [7], "parameters": [circle, {"$ref": "elsewhere.json"}, 4],
            "requestBody": {"$ref": "#/paths/~1c/get/requestBody"},
            "responses": {"200": {"content": {"a/b": {"schema": circle}}}, "x": []}}}},
        "components": {"schemas": {"A": circle, "B": {"allOf": [circle, {"$ref": "#/components"}],
            "properties": {"b": {"items": {"$ref": "#/components/schemas/B"}}}}, "": 3}},
    });
    let page = docs_page(&openapi);
    assert!(page.contains("<code>/c</code>") && page.ends_with("</html>"));
}

#[test]
fn no_part_of_a_document_is_needed() {
    let whole = fixture();
    let mut paths = Vec::new();
    pointers(&whole, "", &mut paths);
    for pointer in paths {
        let mut openapi = whole.clone();
        *openapi.pointer_mut(&pointer).unwrap() = Value::Null;
        assert!(docs_page(&openapi).ends_with("</html>"), "{pointer}");
    }
}

fn pointers(node: &Value, here: &str, found: &mut Vec<String>) {
    found.push(here.to_owned());
    match node {
        Value::Array(nodes) => {
            for (at, node) in nodes.iter().enumerate() {
                pointers(node, &format!("{here}/{at}"), found);
            }
        }
        Value::Object(map) => {
            for (key, node) in map {
                let key = key.replace('~', "~0").replace('/', "~1");
                pointers(node, &format!("{here}/{key}"), found);
            }
        }
        _ => {}
    }
}
