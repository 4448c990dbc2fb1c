//! On which line each setting stands.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use crate::policy::Places;

/// Reads the lines of every key in a text that is TOML.
pub(super) fn places(text: &str, file: &str) -> Places {
    let mut lines = BTreeMap::new();
    if let Ok(table) = DeTable::parse(text) {
        let starts: Vec<usize> =
            std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let line = |at: usize| starts.partition_point(|start| *start <= at);
        note(table.get_ref(), "", &line, &mut lines);
    }
    Places { file: file.to_owned(), lines }
}

fn note(
    table: &DeTable<'_>,
    above: &str,
    line: &impl Fn(usize) -> usize,
    lines: &mut BTreeMap<String, usize>,
) {
    for (name, value) in table {
        let key = match above {
            "" => name.get_ref().to_string(),
            above => format!("{above}.{}", name.get_ref()),
        };
        lines.insert(key.clone(), line(name.span().start));
        match value.get_ref() {
            DeValue::Table(inner) => note(inner, &key, line, lines),
            DeValue::Array(entries) => {
                for entry in entries.iter() {
                    let DeValue::Table(inner) = entry.get_ref() else { continue };
                    let id = inner.iter().find(|(name, _)| name.get_ref() == "id");
                    let Some(DeValue::String(id)) = id.map(|(_, id)| id.get_ref()) else {
                        continue;
                    };
                    let key = format!("{key}.{id}");
                    lines.insert(key.clone(), line(entry.span().start));
                    note(inner, &key, line, lines);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_its_line_and_a_missing_one_that_of_its_table() {
        let text = "region = \"eu\"\n\n[tenants.acme]\nregions = [\"eu\"]\nmax_ttl = \"1h\"\n\
                    [[keys]]\nid = \"k1\"\ntenant = \"acme\"\n";
        let places = places(text, "day.toml");
        assert_eq!(places.of("region"), "day.toml:1");
        assert_eq!(places.of("tenants.acme.max_ttl"), "day.toml:5");
        assert_eq!(places.of("tenants.acme.max_file"), "default");
        assert_eq!(places.nearest("tenants.acme.max_file"), Some(3));
        assert_eq!(places.nearest("keys.k1"), Some(6));
        assert_eq!(places.nearest("keys.k1.tenant"), Some(8));
        assert_eq!(places.nearest("limits.memory"), None);
    }
}
