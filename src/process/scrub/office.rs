//! Office and OpenDocument packages, written anew: what is reachable, without what tells.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Write};

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::super::detect::sniff;
use super::super::frame::{Fault, MediaType};
use super::super::metadata::office::{MAX_MEMBERS, MAX_UNPACKED, OLE, is_markup, telling};
use super::super::text::decode;
use super::super::zipped::Directory;
use super::markup::{Fate, rewritten};
use super::scrubbed;

/// A package's parts in their order.
struct Parts {
    order: Vec<String>,
    bytes: BTreeMap<String, Vec<u8>>,
}

impl Parts {
    fn read(document: &[u8]) -> Result<Self, Fault> {
        let directory = Directory::read(document, MAX_MEMBERS)?;
        let mut parts = Self { order: Vec::new(), bytes: BTreeMap::new() };
        let mut left = MAX_UNPACKED;
        for member in directory.members.iter().filter(|member| !member.is_directory()) {
            let bytes = member.bytes(left)?;
            left -= bytes.len() as u64;
            parts.order.push(member.name.clone());
            if parts.bytes.insert(member.name.clone(), bytes).is_some() {
                // Two parts of one name: programs disagree about which one counts.
                return Err(Fault::Damaged);
            }
        }
        Ok(parts)
    }
}

/// A document, workbook or presentation of Office Open XML (ECMA-376).
pub(super) fn ooxml(document: &[u8], depth: usize) -> Result<Vec<u8>, Fault> {
    let parts = Parts::read(document)?;
    let kept = reachable(&parts)?;
    let mut made = Package::new();
    for name in parts.order.iter().filter(|name| kept.contains(name.as_str())) {
        let bytes = &parts.bytes[name];
        if name == TYPES {
            let named = |element: &BytesStart| {
                let part = value(element, "PartName").unwrap_or_default();
                let gone = part.strip_prefix('/').is_some_and(|part| !kept.contains(part));
                if gone { Fate::Goes } else { Fate::Stays }
            };
            made.add(name, &rewritten(name, &decode(bytes), named)?, true)?;
        } else if name.ends_with(".rels") {
            let base = base(name);
            let gone = |element: &BytesStart| {
                let relation = Relation::of(element, &base);
                let goes = relation.is_some_and(|relation| !relation.stays(&kept));
                if goes { Fate::Goes } else { Fate::Stays }
            };
            made.add(name, &rewritten(name, &decode(bytes), gone)?, true)?;
        } else {
            made.add(name, &part(name, bytes, depth)?, true)?;
        }
    }
    made.finish()
}

const TYPES: &str = "[Content_Types].xml";

/// One line of a part's relations.
struct Relation {
    kind: String,
    /// The part it leads to; none for what lies outside.
    target: Option<String>,
}

impl Relation {
    fn of(element: &BytesStart, base: &str) -> Option<Self> {
        if element.local_name().into_inner() != "Relationship" {
            return None;
        }
        let outside = value(element, "TargetMode").is_some_and(|mode| mode == "External");
        let target = value(element, "Target").unwrap_or_default();
        let target = (!outside).then(|| resolved(base, &target));
        Some(Self { kind: value(element, "Type").unwrap_or_default(), target })
    }

    fn stays(&self, kept: &BTreeSet<String>) -> bool {
        let leads = self.target.as_ref().is_none_or(|target| kept.contains(target.as_str()));
        !telling::relation(&self.kind) && leads
    }
}

/// What is left when nothing that tells is followed: parts that nobody names are history.
fn reachable(parts: &Parts) -> Result<BTreeSet<String>, Fault> {
    if !parts.bytes.contains_key(TYPES) {
        return Err(Fault::Damaged);
    }
    let mut kept: BTreeSet<String> = [TYPES.to_owned()].into();
    let mut waiting = vec![String::new()];
    while let Some(part) = waiting.pop() {
        let relations = relations_of(&part);
        let Some(bytes) = parts.bytes.get(&relations) else { continue };
        kept.insert(relations);
        for relation in relations_in(&decode(bytes), folder(&part))? {
            let Some(target) = relation.target.filter(|_| !telling::relation(&relation.kind))
            else {
                continue;
            };
            let known = parts.bytes.contains_key(&target) && telling::part(&target).is_none();
            if known && kept.insert(target.clone()) {
                waiting.push(target);
            }
        }
    }
    Ok(kept)
}

fn relations_in(xml: &str, base: &str) -> Result<Vec<Relation>, Fault> {
    let mut reader = Reader::from_str(xml);
    let mut found = Vec::new();
    loop {
        match reader.read_event().map_err(|_| Fault::Damaged)? {
            Event::Start(element) | Event::Empty(element) => {
                found.extend(Relation::of(&element, base));
            }
            Event::Eof => return Ok(found),
            _ => {}
        }
    }
}

fn value(element: &BytesStart, name: &str) -> Option<String> {
    let found = element.attributes().flatten().find(|a| a.key.into_inner() == name)?;
    Some(found.value.replace("&amp;", "&"))
}

fn folder(part: &str) -> &str {
    part.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// `word/document.xml` has its relations in `word/_rels/document.xml.rels`.
fn relations_of(part: &str) -> String {
    let (folder, file) = part.rsplit_once('/').unwrap_or(("", part));
    let slash = if folder.is_empty() { "" } else { "/" };
    format!("{folder}{slash}_rels/{file}.rels")
}

/// The folder that targets in these relations are told from.
fn base(relations: &str) -> String {
    folder(relations).strip_suffix("_rels").unwrap_or_default().trim_end_matches('/').to_owned()
}

fn resolved(base: &str, target: &str) -> String {
    let mut path: Vec<&str> = match target.strip_prefix('/') {
        Some(_) => Vec::new(),
        None => base.split('/').filter(|part| !part.is_empty()).collect(),
    };
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(path.pop()),
            part => path.push(part),
        }
    }
    path.join("/")
}

/// A text, workbook or presentation of OpenDocument (ISO 26300).
pub(super) fn open_document(document: &[u8], depth: usize) -> Result<Vec<u8>, Fault> {
    let parts = Parts::read(document)?;
    let stays = |name: &str| telling::part(name).is_none();
    let mut made = Package::new();
    // What a document is stands first and unpacked.
    let kind = parts.bytes.get("mimetype").ok_or(Fault::Damaged)?;
    made.add("mimetype", kind.trim_ascii(), false)?;
    for name in parts.order.iter().filter(|name| *name != "mimetype" && stays(name)) {
        let bytes = &parts.bytes[name];
        if name != "META-INF/manifest.xml" {
            made.add(name, &part(name, bytes, depth)?, true)?;
            continue;
        }
        let manifest = decode(bytes);
        if manifest.contains("encryption-data") {
            return Err(Fault::Encrypted);
        }
        let gone = |element: &BytesStart| {
            let path = value(element, "manifest:full-path").unwrap_or_default();
            let there = path.ends_with('/') || parts.bytes.contains_key(&path);
            if path.is_empty() || (there && stays(&path)) { Fate::Stays } else { Fate::Goes }
        };
        made.add(name, &rewritten(name, &manifest, gone)?, true)?;
    }
    made.finish()
}

/// A part that is no relation: markup, an image, another document, or bytes.
fn part(name: &str, bytes: &[u8], depth: usize) -> Result<Vec<u8>, Fault> {
    if bytes.starts_with(OLE) {
        // Macros and old objects have authors of their own, in a format that is not taken apart.
        return Err(Fault::Unsupported);
    }
    let media_type = sniff(bytes, true).media_type;
    if let Some(kind) = MediaType::parse(media_type.as_bytes())
        && !matches!(kind, MediaType::Json | MediaType::Bytes)
    {
        return scrubbed(kind, bytes, None, depth + 1);
    }
    if media_type.starts_with("application/vnd.openxml") || media_type == "application/zip" {
        return Err(Fault::Unsupported);
    }
    if !is_markup(name, bytes) {
        return Ok(bytes.to_vec());
    }
    // The shape that shows a comment goes with the comment; so do links to settings of printers.
    let fate = |element: &BytesStart| match element.local_name().into_inner() {
        "ClientData" if value(element, "ObjectType").is_some_and(|kind| kind == "Note") => {
            Fate::TakesAlong("shape")
        }
        _ => Fate::Stays,
    };
    rewritten(name, &decode(bytes), fate)
}

/// A zip that says nothing beside its members: no times, no owners.
struct Package(ZipWriter<Cursor<Vec<u8>>>);

impl Package {
    fn new() -> Self {
        Self(ZipWriter::new(Cursor::new(Vec::new())))
    }

    fn add(&mut self, name: &str, bytes: &[u8], packed: bool) -> Result<(), Fault> {
        let method = if packed { CompressionMethod::Deflated } else { CompressionMethod::Stored };
        let options = SimpleFileOptions::default().compression_method(method);
        self.0.start_file(name, options).map_err(|_| Fault::Damaged)?;
        self.0.write_all(bytes).map_err(|_| Fault::Limit)
    }

    fn finish(self) -> Result<Vec<u8>, Fault> {
        Ok(self.0.finish().map_err(|_| Fault::Limit)?.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_told_from_where_their_relations_stand() {
        assert_eq!(base("_rels/.rels"), "");
        assert_eq!(base("word/_rels/document.xml.rels"), "word");
        assert_eq!(relations_of(""), "_rels/.rels");
        assert_eq!(relations_of("word/document.xml"), "word/_rels/document.xml.rels");
        assert_eq!(resolved("xl/worksheets", "../media/a.png"), "xl/media/a.png");
        assert_eq!(resolved("word", "/word/styles.xml"), "word/styles.xml");
    }
}
