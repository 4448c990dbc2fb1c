//! An OpenAPI 3.1 document, sorted into what a page shows.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::prose::{Block, Span, blocks, refusal, spans};
use super::schema::{Document, Field, Note, Part, notes};

/// In the order in which a resource's operations are listed.
const METHODS: [&str; 8] = ["get", "head", "post", "put", "patch", "delete", "options", "trace"];
/// Where operations go that name no tag.
const UNTAGGED: &str = "Other";

#[derive(Debug)]
pub struct Reference {
    pub title: String,
    pub version: String,
    pub about: Vec<Block>,
    pub groups: Vec<Group>,
    pub schemas: Vec<Schema>,
}

/// The operations of one tag.
#[derive(Debug)]
pub struct Group {
    pub anchor: String,
    pub name: String,
    pub about: Vec<Block>,
    pub operations: Vec<Operation>,
}

#[derive(Debug)]
pub struct Operation {
    pub anchor: String,
    /// The method in lower case, for the style.
    pub verb: &'static str,
    pub method: String,
    pub path: String,
    pub summary: Vec<Span>,
    pub about: Vec<Block>,
    pub deprecated: bool,
    /// Who may call it, in words; empty where the document does not say.
    pub access: String,
    pub parameters: Vec<Field>,
    pub body: Option<Body>,
    pub responses: Vec<Response>,
}

#[derive(Debug)]
pub struct Body {
    pub required: bool,
    pub about: Vec<Block>,
    pub contents: Vec<Content>,
}

/// One media type of a body.
#[derive(Debug)]
pub struct Content {
    pub media_type: String,
    pub shape: Vec<Part>,
    pub variants: Vec<Vec<Field>>,
    pub example: String,
}

#[derive(Debug)]
pub struct Response {
    pub status: String,
    /// The status's first digit, for the style; 0 for `default`.
    pub class: u32,
    pub about: Vec<Block>,
    pub contents: Vec<Content>,
    pub headers: Vec<Field>,
}

#[derive(Debug)]
pub struct Schema {
    pub anchor: String,
    pub name: String,
    pub shape: Vec<Part>,
    pub about: Vec<Block>,
    pub notes: Vec<Note>,
    pub variants: Vec<Vec<Field>>,
}

impl Reference {
    pub fn read(openapi: &Value) -> Self {
        let mut anchors = Anchors::default();
        let named = openapi["components"]["schemas"].as_object();
        let links: BTreeMap<&str, String> = named
            .into_iter()
            .flatten()
            .map(|(name, _)| (name.as_str(), anchors.fresh("schema", name)))
            .collect();
        let document = Document::new(openapi, links);
        let schemas = named.into_iter().flatten().map(|(name, schema)| Schema {
            anchor: document.anchor(name).to_owned(),
            name: name.clone(),
            shape: document.shape(schema),
            about: document.about(schema),
            notes: notes(schema),
            variants: document.variants(schema),
        });
        let info = &openapi["info"];
        Self {
            title: info["title"].as_str().unwrap_or("Dayfly").to_owned(),
            version: text(info, "version"),
            about: blocks(info["description"].as_str().unwrap_or_default()),
            schemas: schemas.collect(),
            groups: groups(openapi, &document, &mut anchors),
        }
    }
}

/// Operations by tag: the document's own order first, then as the tags turn up.
fn groups(openapi: &Value, document: &Document<'_>, anchors: &mut Anchors) -> Vec<Group> {
    let mut groups = Vec::new();
    for tag in openapi["tags"].as_array().into_iter().flatten() {
        let description = tag["description"].as_str().unwrap_or_default();
        group(&mut groups, &text(tag, "name"), anchors).about = blocks(description);
    }
    for (path, item) in openapi["paths"].as_object().into_iter().flatten() {
        let item = document.resolve(item);
        for verb in METHODS {
            let node = &item[verb];
            // HEAD is GET without a body: the page's first lines say so for all of them.
            let same = verb == "head" && item["get"].is_object();
            if node.is_object() && !same {
                let tag = node["tags"][0].as_str().unwrap_or(UNTAGGED);
                let reader = Reader { openapi, document, item, node };
                let operation = reader.operation(verb, path, anchors);
                group(&mut groups, tag, anchors).operations.push(operation);
            }
        }
    }
    groups.retain(|group| !group.operations.is_empty());
    groups
}

fn group<'a>(groups: &'a mut Vec<Group>, name: &str, anchors: &mut Anchors) -> &'a mut Group {
    let at = groups.iter().position(|group| group.name == name).unwrap_or_else(|| {
        let anchor = anchors.fresh("tag", name);
        let (name, about, operations) = (name.to_owned(), Vec::new(), Vec::new());
        groups.push(Group { anchor, name, about, operations });
        groups.len() - 1
    });
    &mut groups[at]
}

/// One operation, with what it takes from around it.
struct Reader<'a> {
    openapi: &'a Value,
    document: &'a Document<'a>,
    item: &'a Value,
    node: &'a Value,
}

impl<'a> Reader<'a> {
    fn operation(&self, verb: &'static str, path: &str, anchors: &mut Anchors) -> Operation {
        let node = self.node;
        let fallback = format!("{verb} {path}");
        Operation {
            anchor: anchors.fresh("op", node["operationId"].as_str().unwrap_or(&fallback)),
            verb,
            method: verb.to_uppercase(),
            path: path.to_owned(),
            summary: spans(node["summary"].as_str().unwrap_or_default()),
            about: blocks(node["description"].as_str().unwrap_or_default()),
            deprecated: node["deprecated"].as_bool() == Some(true),
            access: self.access(),
            parameters: self.parameters(),
            body: self.body(),
            responses: self.responses(),
        }
    }

    /// The path's parameters, and the operation's, which go before them.
    fn parameters(&self) -> Vec<Field> {
        let lists = [&self.node["parameters"], &self.item["parameters"]];
        let mut fields: Vec<Field> = Vec::new();
        for node in lists.into_iter().filter_map(Value::as_array).flatten() {
            let node = self.document.resolve(node);
            let Some(name) = node["name"].as_str() else { continue };
            let place = text(node, "in");
            if fields.iter().any(|known| known.name == name && known.place == place) {
                continue;
            }
            let required = node["required"].as_bool() == Some(true);
            let mut field = self.document.field(name, node, schema_of(node), required);
            // A parameter that may be absent is not sent as null.
            if field.shape.len() > 2 && field.shape.last().is_some_and(|it| it.text == "null") {
                field.shape.truncate(field.shape.len() - 2);
            }
            fields.push(Field { place, ..field });
        }
        fields
    }

    fn body(&self) -> Option<Body> {
        let node = self.document.resolve(&self.node["requestBody"]);
        node.is_object().then(|| Body {
            required: node["required"].as_bool() == Some(true),
            about: self.document.about(&self.node["requestBody"]),
            contents: self.contents(node),
        })
    }

    fn contents(&self, node: &'a Value) -> Vec<Content> {
        let document = self.document;
        let contents = node["content"].as_object().into_iter().flatten();
        let read = contents.map(|(media_type, content)| Content {
            media_type: media_type.clone(),
            shape: shape_of(document, &content["schema"]),
            variants: document.variants(&content["schema"]),
            example: example(content),
        });
        read.collect()
    }

    fn responses(&self) -> Vec<Response> {
        let listed = self.node["responses"].as_object().into_iter().flatten();
        let read = listed.map(|(status, node)| {
            let target = self.document.resolve(node);
            let headers = target["headers"].as_object().into_iter().flatten();
            let class = status.chars().next().and_then(|digit| digit.to_digit(10)).unwrap_or(0);
            let words = self.document.words(node);
            let mut contents = self.contents(target);
            // All refusals are problems; the page says so once.
            contents.retain(|content| content.media_type != "application/problem+json");
            Response {
                status: status.clone(),
                class,
                about: if class < 4 { blocks(words) } else { refusal(words) },
                contents,
                headers: headers.map(|(name, header)| self.header(name, header)).collect(),
            }
        });
        read.collect()
    }

    fn header(&self, name: &str, node: &'a Value) -> Field {
        let node = self.document.resolve(node);
        let field = self.document.field(name, node, &node["schema"], false);
        Field { place: "header".to_owned(), ..field }
    }

    /// Who may call: OpenAPI 3.1 lets a scheme that has no scopes list roles in their place.
    fn access(&self) -> String {
        let own = self.node["security"].as_array();
        let Some(choices) = own.or_else(|| self.openapi["security"].as_array()) else {
            return String::new();
        };
        let open = |choice: &Value| choice.as_object().is_some_and(serde_json::Map::is_empty);
        if choices.is_empty() || choices.iter().all(open) {
            return "No key needed".to_owned();
        }
        let mut roles = BTreeSet::new();
        for choice in choices.iter().filter_map(Value::as_object) {
            for named in choice.values().filter_map(Value::as_array) {
                roles.extend(named.iter().filter_map(Value::as_str));
            }
        }
        let roles: Vec<&str> = roles.into_iter().collect();
        let key = match roles.as_slice() {
            [] => "Any key".to_owned(),
            [role] => format!("A key with the role {role}"),
            roles => format!("A key with one of the roles {}", roles.join(", ")),
        };
        if choices.iter().any(open) { format!("{key}, or no key") } else { key }
    }
}

/// A parameter's schema stands beside it, or below its one media type.
fn schema_of(parameter: &Value) -> &Value {
    let content = parameter["content"].as_object().and_then(|content| content.values().next());
    content.map_or(&parameter["schema"], |content| &content["schema"])
}

/// Bytes of any kind have no schema, and no phrase.
fn shape_of<'a>(document: &Document<'a>, schema: &'a Value) -> Vec<Part> {
    if schema.is_null() { Vec::new() } else { document.shape(schema) }
}

fn example(content: &Value) -> String {
    let named = content["examples"].as_object().and_then(|named| named.values().next());
    let example = named.map_or(&content["example"], |named| &named["value"]);
    match example {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        value => format!("{value:#}"),
    }
}

fn text(node: &Value, key: &str) -> String {
    node[key].as_str().unwrap_or_default().to_owned()
}

/// The ids given out so far; no two parts of the page share one.
#[derive(Default)]
struct Anchors {
    taken: BTreeSet<String>,
}

impl Anchors {
    fn fresh(&mut self, kind: &str, name: &str) -> String {
        let mut anchor = kind.to_owned();
        for word in name.split(|sign: char| !sign.is_ascii_alphanumeric()) {
            if !word.is_empty() {
                anchor.push('-');
                anchor.push_str(&word.to_ascii_lowercase());
            }
        }
        let numbered = (2..).map(|number| format!("{anchor}-{number}"));
        let free = std::iter::once(anchor.clone()).chain(numbered);
        let found = free.into_iter().find(|anchor| !self.taken.contains(anchor));
        let found = found.unwrap_or(anchor);
        self.taken.insert(found.clone());
        found
    }
}
