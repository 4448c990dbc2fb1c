//! The options of one step: checked against a table that is also their public schema.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::ProcessError;
use crate::problem::Slug;

/// A document's password. Wiped on drop, never printed, never part of a URL.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    #[must_use]
    pub fn new(password: String) -> Self {
        Self(Zeroizing::new(password))
    }

    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// What a request said to one step.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Name and value, without the step's prefix.
    pub pairs: Vec<(String, String)>,
    pub password: Option<Password>,
}

/// One option a step takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub name: &'static str,
    pub kind: Kind,
    /// What it does, and what holds without it: for the schema.
    pub about: &'static str,
    /// The refusal of a value out of its bounds, in our own words.
    pub refusal: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    OneOf(&'static [&'static str]),
    /// Several, joined by commas.
    SomeOf(&'static [&'static str]),
    Whole {
        min: u32,
        max: u32,
    },
    /// Any text of at most so many bytes.
    Text {
        max: usize,
    },
    /// Without parameters (RFC 6838, 4.2).
    MediaType,
}

/// A media type's characters; a plus sign may have come as a space.
const MEDIA_TYPE: &str = "^[A-Za-z0-9][A-Za-z0-9!#$&^_.+ -]*/[A-Za-z0-9][A-Za-z0-9!#$&^_.+ -]*$";

/// The longest media type there can be.
const MEDIA_TYPE_MAX: usize = 255;

/// Options that were found good, by name.
pub(super) type Chosen = BTreeMap<&'static str, String>;

impl Options {
    /// Checks every option against `settings`.
    pub(super) fn read(&self, settings: &[Setting]) -> Result<Chosen, ProcessError> {
        let mut chosen = Chosen::new();
        for (name, value) in &self.pairs {
            let Some(setting) = settings.iter().find(|setting| setting.name == name) else {
                return Err(bad("the step has no option of this name"));
            };
            if !setting.kind.admits(value) {
                return Err(bad(setting.refusal));
            }
            if chosen.insert(setting.name, value.clone()).is_some() {
                return Err(bad("an option is given twice"));
            }
        }
        Ok(chosen)
    }
}

pub(super) const fn bad(detail: &'static str) -> ProcessError {
    ProcessError::because(Slug::BadOption, detail)
}

impl Kind {
    fn admits(self, value: &str) -> bool {
        match self {
            Self::OneOf(words) => words.contains(&value),
            Self::SomeOf(words) => value.split(',').all(|word| words.contains(&word)),
            Self::Whole { min, max } => {
                let digits = value.bytes().all(|byte| byte.is_ascii_digit());
                digits && value.parse().is_ok_and(|number: u32| (min..=max).contains(&number))
            }
            Self::Text { max } => !value.is_empty() && value.len() <= max,
            Self::MediaType => {
                let good = |part: &str| {
                    let rest = part
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+ -".contains(&b));
                    rest && part.starts_with(|c: char| c.is_ascii_alphanumeric())
                };
                let parts = value.split_once('/').filter(|_| value.len() <= MEDIA_TYPE_MAX);
                parts.is_some_and(|(kind, subtype)| good(kind) && good(subtype))
            }
        }
    }

    fn schema(self) -> Value {
        match self {
            Self::OneOf(words) => json!({ "type": "string", "enum": words }),
            Self::SomeOf(words) => {
                let word = words.join("|");
                json!({ "type": "string", "pattern": format!("^({word})(,({word}))*$") })
            }
            Self::Whole { min, max } => {
                json!({ "type": "integer", "minimum": min, "maximum": max })
            }
            Self::Text { max } => json!({ "type": "string", "minLength": 1, "maxLength": max }),
            Self::MediaType => json!({ "type": "string", "pattern": MEDIA_TYPE }),
        }
    }
}

/// The JSON Schema of a step's options.
pub(super) fn schema(settings: &[Setting]) -> Value {
    let mut properties = Map::new();
    for setting in settings {
        let mut property = setting.kind.schema();
        property["description"] = json!(setting.about);
        properties.insert(setting.name.to_owned(), property);
    }
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: &[Setting] = &[
        Setting {
            name: "level",
            kind: Kind::Whole { min: 1, max: 9 },
            about: "How hard.",
            refusal: "level is 1 to 9",
        },
        Setting {
            name: "alg",
            kind: Kind::SomeOf(&["a", "b"]),
            about: "Which.",
            refusal: "alg is a or b",
        },
    ];

    fn read(pairs: &[(&str, &str)]) -> Result<Chosen, ProcessError> {
        let pairs = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Options { pairs, password: None }.read(SETTINGS)
    }

    #[test]
    fn options_are_held_against_the_table() {
        assert_eq!(read(&[("level", "9"), ("alg", "b,a")]).unwrap()["alg"], "b,a");
        assert_eq!(read(&[("level", "10")]), Err(bad("level is 1 to 9")));
        assert_eq!(read(&[("level", "+9")]), Err(bad("level is 1 to 9")));
        assert_eq!(read(&[("alg", "a,")]), Err(bad("alg is a or b")));
        assert_eq!(read(&[("wat", "1")]), Err(bad("the step has no option of this name")));
        assert_eq!(read(&[("level", "1"), ("level", "1")]), Err(bad("an option is given twice")));
    }

    #[test]
    fn the_schema_names_each_option_and_no_other() {
        let schema = schema(SETTINGS);
        assert_eq!(schema["properties"]["level"]["maximum"], 9);
        assert_eq!(schema["properties"]["alg"]["pattern"], "^(a|b)(,(a|b))*$");
        assert_eq!(schema["additionalProperties"], false);
    }
}
