//! JSON Schema in words: a type as a short phrase, an object as a list of fields.

use std::collections::BTreeMap;

use serde_json::Value;

use super::prose::{Block, blocks};

/// Schemas may hold themselves; nobody reads deeper than this.
const DEPTH_MAX: usize = 5;
const HOPS_MAX: usize = 8;

/// A piece of a type's phrase; `href` is empty where there is nothing to point at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub text: String,
    pub href: String,
}

/// A parameter, a header, or a property.
#[derive(Debug)]
pub struct Field {
    pub name: String,
    /// Where a parameter stands: query, path, header. Empty for properties.
    pub place: String,
    pub shape: Vec<Part>,
    pub required: bool,
    pub deprecated: bool,
    pub about: Vec<Block>,
    pub notes: Vec<Note>,
}

/// What else a schema says of its values: "Default `1h`".
#[derive(Debug)]
pub struct Note {
    pub label: &'static str,
    pub values: Vec<String>,
}

/// The whole document, for references into it.
pub struct Document<'a> {
    root: &'a Value,
    /// The anchor of each named schema.
    anchors: BTreeMap<&'a str, String>,
}

impl<'a> Document<'a> {
    pub const fn new(root: &'a Value, anchors: BTreeMap<&'a str, String>) -> Self {
        Self { root, anchors }
    }

    pub fn anchor(&self, schema: &str) -> &str {
        self.anchors.get(schema).map_or("", String::as_str)
    }

    /// What a node stands for; one that points nowhere, or at itself, stands for nothing.
    pub fn resolve(&self, node: &'a Value) -> &'a Value {
        let mut node = node;
        for _ in 0..HOPS_MAX {
            let Some(reference) = node["$ref"].as_str() else { return node };
            node = self.target(reference);
        }
        &Value::Null
    }

    fn target(&self, reference: &str) -> &'a Value {
        let pointer = reference.strip_prefix('#');
        pointer.and_then(|pointer| self.root.pointer(pointer)).unwrap_or(&Value::Null)
    }

    /// A node's description; words beside a `$ref` go before those of its target.
    pub fn words(&self, node: &'a Value) -> &'a str {
        let own = node["description"].as_str();
        own.or_else(|| self.resolve(node)["description"].as_str()).unwrap_or_default()
    }

    pub fn about(&self, node: &'a Value) -> Vec<Block> {
        blocks(self.words(node))
    }

    /// A type as a phrase.
    pub fn shape(&self, schema: &'a Value) -> Vec<Part> {
        self.shape_at(schema, 0)
    }

    fn shape_at(&self, schema: &'a Value, depth: usize) -> Vec<Part> {
        if depth > DEPTH_MAX {
            return words("…");
        }
        if let Some(reference) = schema["$ref"].as_str() {
            let name = reference.strip_prefix("#/components/schemas/").unwrap_or_default();
            let anchor = self.anchor(name);
            if !anchor.is_empty() {
                return vec![Part { text: name.to_owned(), href: format!("#{anchor}") }];
            }
            return self.shape_at(self.target(reference), depth + 1);
        }
        for (key, between) in [("oneOf", " or "), ("anyOf", " or "), ("allOf", " and ")] {
            if let Some(members) = schema[key].as_array() {
                return self.joined(members, between, depth);
            }
        }
        let mut names: Vec<&str> = match &schema["type"] {
            Value::String(name) => vec![name],
            Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
            _ => vec![implied(schema)],
        };
        names.sort_by_key(|name| *name == "null");
        let shapes = names.iter().map(|name| self.typed(schema, name, depth)).collect();
        join(shapes, " or ")
    }

    fn joined(&self, members: &'a [Value], between: &str, depth: usize) -> Vec<Part> {
        let mut shapes: Vec<_> = members.iter().map(|it| self.shape_at(it, depth + 1)).collect();
        shapes.sort_by_key(|shape| *shape == words("null"));
        let mut distinct = Vec::new();
        for shape in shapes {
            if !distinct.contains(&shape) {
                distinct.push(shape);
            }
        }
        join(distinct, between)
    }

    fn typed(&self, schema: &'a Value, name: &str, depth: usize) -> Vec<Part> {
        let format = schema["format"].as_str().unwrap_or_default();
        let (lead, inner) = match name {
            "array" => ("array of ", &schema["items"]),
            "object" if schema["properties"].is_null() => {
                ("map of ", &schema["additionalProperties"])
            }
            _ => ("", &Value::Null),
        };
        if inner.is_object() {
            let mut parts = words(lead);
            parts.extend(self.shape_at(inner, depth + 1));
            return parts;
        }
        match (name, format) {
            ("string", "binary") => words("bytes"),
            ("string", format) if !format.is_empty() => words(&format!("string ({format})")),
            _ => words(name),
        }
    }

    /// The fields of an object written in place: one list, or several where it takes several forms.
    /// A named schema has a place of its own, and is not written out again.
    pub fn variants(&self, schema: &'a Value) -> Vec<Vec<Field>> {
        let forms = ["oneOf", "anyOf"].iter().find_map(|key| schema[*key].as_array());
        let each = forms.map_or_else(|| vec![schema], |forms| forms.iter().collect());
        let lists = each.into_iter().map(|form| {
            let mut fields = Vec::new();
            self.collect(form, "", 0, &mut fields);
            fields
        });
        lists.filter(|fields| !fields.is_empty()).collect()
    }

    fn collect(&self, schema: &'a Value, prefix: &str, depth: usize, fields: &mut Vec<Field>) {
        if depth > DEPTH_MAX {
            return;
        }
        let required = |name: &str| {
            let list = schema["required"].as_array();
            list.is_some_and(|list| list.iter().any(|one| one.as_str() == Some(name)))
        };
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let full = format!("{prefix}{name}");
            if fields.iter().any(|field| field.name == full) {
                continue;
            }
            fields.push(self.field(&full, property, property, required(name)));
            self.collect(property, &format!("{full}."), depth + 1, fields);
            self.collect(&property["items"], &format!("{full}[]."), depth + 1, fields);
        }
        // What is put together of named parts has their fields, except as a property: there a link
        // will do. What takes several forms inside of something larger has the fields of each.
        for key in ["allOf", "oneOf", "anyOf"] {
            for part in schema[key].as_array().into_iter().flatten() {
                let part =
                    if key == "allOf" && prefix.is_empty() { self.resolve(part) } else { part };
                self.collect(part, prefix, depth + 1, fields);
            }
        }
    }

    /// A field that `node` describes and whose values `schema` describes.
    pub fn field(&self, name: &str, node: &'a Value, schema: &'a Value, required: bool) -> Field {
        let mut about = self.about(node);
        // A named schema is a link away; its own description needs no repeating.
        if node["description"].is_null() && node["$ref"].is_string() {
            about.clear();
        }
        let flag = |key: &str| [node, schema].iter().any(|it| it[key].as_bool() == Some(true));
        Field {
            name: name.to_owned(),
            place: String::new(),
            shape: self.shape(schema),
            required,
            deprecated: flag("deprecated"),
            about,
            notes: notes(schema),
        }
    }
}

/// What a schema says of its values beyond their type.
pub fn notes(schema: &Value) -> Vec<Note> {
    let labels = [
        ("enum", "One of"),
        ("const", "Always"),
        ("default", "Default"),
        ("minimum", "At least"),
        ("exclusiveMinimum", "More than"),
        ("maximum", "At most"),
        ("exclusiveMaximum", "Less than"),
        ("minLength", "Characters, at least"),
        ("maxLength", "Characters, at most"),
        ("minItems", "Items, at least"),
        ("maxItems", "Items, at most"),
        ("pattern", "Matches"),
        ("example", "For example"),
        ("examples", "For example"),
    ];
    let notes = labels.into_iter().filter_map(|(key, label)| {
        let values = match &schema[key] {
            Value::Null => Vec::new(),
            Value::Array(values) if key != "default" && key != "example" => {
                values.iter().map(literal).collect()
            }
            value => vec![literal(value)],
        };
        (!values.is_empty()).then_some(Note { label, values })
    });
    notes.collect()
}

/// A value as a reader would type it.
fn literal(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The type of a schema that does not name it.
fn implied(schema: &Value) -> &'static str {
    let sample = [&schema["const"], &schema["enum"][0]].into_iter().find(|it| !it.is_null());
    match sample {
        Some(Value::String(_)) => "string",
        Some(Value::Number(_)) => "number",
        Some(Value::Bool(_)) => "boolean",
        _ if schema["properties"].is_object() => "object",
        _ if schema["items"].is_object() => "array",
        _ => "any",
    }
}

fn words(text: &str) -> Vec<Part> {
    vec![Part { text: text.to_owned(), href: String::new() }]
}

fn join(shapes: Vec<Vec<Part>>, between: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    for shape in shapes {
        if !parts.is_empty() {
            parts.extend(words(between));
        }
        parts.extend(shape);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn phrase(schema: &Value) -> String {
        let root = json!({"components": {"schemas": {"File": {"type": "object"}}}});
        let anchors = BTreeMap::from([("File", "schema-file".to_owned())]);
        let parts = Document::new(&root, anchors).shape(schema);
        parts.iter().map(|part| part.text.as_str()).collect()
    }

    #[test]
    fn types_read_as_phrases() {
        let file = json!({"$ref": "#/components/schemas/File"});
        for (schema, expected) in [
            (json!({"type": "integer", "format": "int64"}), "integer"),
            (json!({"type": ["null", "string"]}), "string or null"),
            (json!({"type": "string", "format": "date-time"}), "string (date-time)"),
            (json!({"type": "string", "format": "binary"}), "bytes"),
            (json!({"oneOf": [{"type": "null"}, file]}), "File or null"),
            (json!({"type": "array", "items": file}), "array of File"),
            (json!({"type": "object", "additionalProperties": file}), "map of File"),
            (json!({"enum": ["a", "b"]}), "string"),
            (json!({"$ref": "#/nowhere"}), "any"),
            (json!(true), "any"),
            (json!({"type": []}), ""),
        ] {
            assert_eq!(phrase(&schema), expected, "{schema}");
        }
    }

    #[test]
    fn objects_in_place_are_written_out() {
        let schema = json!({"required": ["a"], "properties": {
            "a": {"properties": {"b": {"type": "string"}}},
            "c": {"type": "array", "items": {"properties": {"d": {"default": []}}}}}});
        let root = Value::Null;
        let variants = Document::new(&root, BTreeMap::new()).variants(&schema);
        let names: Vec<&str> = variants[0].iter().map(|field| field.name.as_str()).collect();
        assert_eq!(names, ["a", "a.b", "c", "c[].d"]);
        assert!(variants[0][0].required && !variants[0][1].required);
        assert_eq!(variants[0][3].notes[0].values, ["[]"]);
    }
}
