//! What all Office Open XML packages share (ECMA-376, part 2): parts find each other by relations.

use std::collections::HashMap;

use quick_xml::events::BytesStart;

use super::super::frame::Fault;
use super::super::package::Package;
use super::xml::{Visitor, attribute, walk};

/// A relation of one part to another of the same package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Relation {
    pub id: String,
    /// The last word of the relation's type, such as `comments`.
    pub kind: String,
    /// The other part's name in the package.
    pub part: String,
}

/// The relations of one part. What lies outside of the package is not among them.
#[derive(Default)]
pub(super) struct Relations {
    known: Vec<Relation>,
    by_id: HashMap<String, usize>,
    folder: String,
}

impl Relations {
    /// Those of `part`; of the package itself for an empty name.
    pub(super) fn of(package: &mut Package, part: &str) -> Result<Self, Fault> {
        let (folder, name) = part.rsplit_once('/').unwrap_or(("", part));
        let slash = if folder.is_empty() { "" } else { "/" };
        let mut relations = Self { folder: folder.to_owned(), ..Self::default() };
        if let Some(xml) = package.read(&format!("{folder}{slash}_rels/{name}.rels"))? {
            walk(&xml, &mut relations)?;
        }
        Ok(relations)
    }

    /// The part that is meant by an id.
    pub(super) fn get(&self, id: &str) -> Option<&Relation> {
        self.by_id.get(id).and_then(|at| self.known.get(*at))
    }

    /// The parts of one kind, in the order they are written.
    pub(super) fn of_kind(&self, kind: &str) -> impl Iterator<Item = &str> {
        self.known
            .iter()
            .filter(move |relation| relation.kind == kind)
            .map(|relation| relation.part.as_str())
    }
}

impl Visitor for Relations {
    fn enter(&mut self, name: &str, element: &BytesStart) {
        if name != "Relationship" || attribute(element, "TargetMode").as_deref() == Some("External")
        {
            return;
        }
        let value = |name| attribute(element, name).unwrap_or_default();
        let (kind, id) = (value("Type"), value("Id"));
        let kind = kind.rsplit('/').next().unwrap_or_default().to_owned();
        let Some(part) = resolve(&self.folder, &value("Target")) else { return };
        self.by_id.insert(id.clone(), self.known.len());
        self.known.push(Relation { id, kind, part });
    }
}

/// A target as a part's name; `None` for one that leaves the package.
pub(super) fn resolve(folder: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = match target.strip_prefix('/') {
        Some(_) => Vec::new(),
        None => folder.split('/').filter(|part| !part.is_empty()).collect(),
    };
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The package's main part, or `usual` where the package does not say.
pub(super) fn main_part(package: &mut Package, usual: &str) -> Result<String, Fault> {
    let relations = Relations::of(package, "")?;
    let named = relations.of_kind("officeDocument").next();
    Ok(named.unwrap_or(usual).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_stay_within_the_package() {
        assert_eq!(resolve("xl/worksheets", "../comments1.xml").unwrap(), "xl/comments1.xml");
        assert_eq!(resolve("xl", "/ppt/./a.xml").unwrap(), "ppt/a.xml");
        assert_eq!(resolve("xl", "../../../etc/passwd"), None);
    }

    #[test]
    fn what_lies_outside_is_no_relation() {
        let mut relations = Relations { folder: "word".into(), ..Relations::default() };
        let xml = "<Relationships>\
            <Relationship Id='a' Type='http://x/header' Target='header1.xml'/>\
            <Relationship Id='b' Type='http://x/image' Target='http://x/' TargetMode='External'/>\
            </Relationships>";
        walk(xml, &mut relations).unwrap();
        assert_eq!(relations.of_kind("header").collect::<Vec<_>>(), ["word/header1.xml"]);
        assert!(relations.get("b").is_none());
    }
}
