//! The settings file: read strictly, checked as a whole, handed on as plain values.
//!
//! Raw text becomes typed values or a list of complaints, each naming the key and the way out.
//! Nothing is replaced by a default that the operator did not ask for: what cannot be met is a
//! refusal.

use std::path::Path;

use crate::app::Settings;
use crate::disk;

mod access;
mod credentials;
mod embedded;
mod environment;
mod places;
mod processors;
mod providers;
mod raw;
mod rules;
mod typed;
mod units;

pub use access::access;
pub use embedded::{Embedded, embedded};
pub use environment::{Caller, caller};
pub use raw::Raw;

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the settings cannot be read: {0}")]
    Unreadable(std::io::ErrorKind),
    /// It is no TOML, or has a key that is not known.
    #[error("{0}")]
    Syntax(String),
    /// It asks for what cannot be met; one complaint for each.
    #[error("{}", .0.join("\n"))]
    Refused(Vec<String>),
}

/// Settings, and what they were read from.
pub struct Loaded {
    pub settings: Settings,
    /// What was read, for `check` to show and for a reload to compare.
    pub raw: Raw,
    /// What is read but has no effect in this version.
    pub notes: Vec<String>,
}

/// Reads and checks a settings file.
///
/// # Errors
/// When it cannot be read or understood, or asks for what cannot be met.
pub fn load(path: &Path) -> Result<Loaded, ConfigError> {
    let text = disk::read_text(path).map_err(|error| ConfigError::Unreadable(error.kind()))?;
    parse_named(&text, &path.display().to_string())
}

/// Checks settings given as text.
///
/// # Errors
/// When they cannot be understood, or ask for what cannot be met.
pub fn parse(text: &str) -> Result<Loaded, ConfigError> {
    parse_named(text, "settings")
}

fn parse_named(text: &str, file: &str) -> Result<Loaded, ConfigError> {
    let raw: Raw = toml::from_str(text).map_err(|error| ConfigError::Syntax(error.to_string()))?;
    let places = places::places(text, file);
    let settings = typed::settings(&raw);
    let (mut settings, notes) = settings.map_err(|complaints| {
        let complaints = complaints.into_iter().map(|complaint| {
            // A complaint begins with its key.
            let key = complaint.split(':').next().unwrap_or_default();
            let line = places.nearest(key).map(|line| format!("line {line}: "));
            line.unwrap_or_default() + &complaint
        });
        ConfigError::Refused(complaints.collect())
    })?;
    settings.policy.places = places;
    Ok(Loaded { settings, raw, notes })
}

/// The JSON Schema of the settings file.
#[must_use]
pub fn schema() -> String {
    let schema = schemars::schema_for!(Raw);
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests;
