//! What a Word document's styles and numbering say of its paragraphs.

use std::collections::HashMap;

use quick_xml::events::BytesStart;

use super::super::super::frame::Fault;
use super::super::xml::{Visitor, attribute, walk};

/// A paragraph style, as far as text goes.
#[derive(Clone, Debug, Default)]
pub(super) struct Style {
    /// Heading level, from 0.
    pub outline: Option<usize>,
    pub list: Option<u64>,
    based_on: Option<String>,
}

/// The styles, by id.
#[derive(Default)]
pub(super) struct Styles {
    known: HashMap<String, Style>,
    current: Option<(String, Style)>,
}

/// A style may be based on another, and so on; chains longer than this are cut.
const MAX_BASES: usize = 16;

impl Styles {
    pub(super) fn read(xml: &str) -> Result<Self, Fault> {
        let mut styles = Self::default();
        walk(xml, &mut styles)?;
        Ok(styles)
    }

    /// The style of that id, what it is based on included.
    pub(super) fn get(&self, id: &str) -> Option<Style> {
        let mut style = self.known.get(id)?.clone();
        for _ in 0..MAX_BASES {
            let base = style.based_on.take().and_then(|id| self.known.get(&id).cloned());
            let Some(base) = base else { break };
            style.outline = style.outline.or(base.outline);
            style.list = style.list.or(base.list);
            style.based_on = base.based_on;
        }
        Some(style)
    }
}

impl Visitor for Styles {
    fn enter(&mut self, name: &str, element: &BytesStart) {
        if name == "style" {
            let id = attribute(element, "styleId").unwrap_or_default();
            self.current = Some((id, Style::default()));
        }
        let Some((_, style)) = &mut self.current else { return };
        let value = || attribute(element, "val");
        match name {
            "name" => {
                // The built-in names are English in every language.
                let name = value().unwrap_or_default().to_ascii_lowercase();
                let level = name.strip_prefix("heading ").and_then(|level| level.parse().ok());
                let level: Option<usize> = if name == "title" { Some(1) } else { level };
                style.outline = level.filter(|level| (1..=9).contains(level)).map(|n| n - 1);
            }
            "outlineLvl" => {
                let level = value().and_then(|level| level.parse().ok());
                style.outline = level.filter(|level| *level < 9).or(style.outline);
            }
            "numId" => style.list = value().and_then(|id| id.parse().ok()),
            "basedOn" => style.based_on = value(),
            _ => {}
        }
    }

    fn leave(&mut self, name: &str) {
        if name == "style"
            && let Some((id, style)) = self.current.take()
        {
            self.known.insert(id, style);
        }
    }
}

/// Which lists are numbered, and how far they have counted.
#[derive(Default)]
pub(super) struct Numbering {
    /// Levels with numbers, by abstract list.
    numbered: HashMap<(u64, usize), bool>,
    abstract_of: HashMap<u64, u64>,
    counts: HashMap<(u64, usize), u64>,
    current_abstract: Option<u64>,
    current_list: Option<u64>,
    current_level: usize,
}

/// Word's lists have nine levels.
const LEVELS: usize = 9;

impl Numbering {
    pub(super) fn read(xml: &str) -> Result<Self, Fault> {
        let mut numbering = Self::default();
        walk(xml, &mut numbering)?;
        Ok(numbering)
    }

    /// The number of the next item at `level` of `list`; `None` for a bullet.
    pub(super) fn next(&mut self, list: u64, level: usize) -> Option<u64> {
        let known = self.abstract_of.get(&list)?;
        if !self.numbered.get(&(*known, level)).is_some_and(|numbered| *numbered) {
            return None;
        }
        for deeper in level + 1..LEVELS {
            self.counts.remove(&(*known, deeper));
        }
        let count = self.counts.entry((*known, level)).or_default();
        *count += 1;
        Some(*count)
    }
}

impl Visitor for Numbering {
    fn enter(&mut self, name: &str, element: &BytesStart) {
        let number = |name| attribute(element, name).and_then(|value| value.parse::<u64>().ok());
        match name {
            "abstractNum" => self.current_abstract = number("abstractNumId"),
            "lvl" => {
                let level = number("ilvl").and_then(|level| usize::try_from(level).ok());
                self.current_level = level.unwrap_or(0);
            }
            "numFmt" => {
                if let Some(list) = self.current_abstract {
                    let format = attribute(element, "val").unwrap_or_default();
                    let numbered = !matches!(format.as_str(), "bullet" | "none");
                    self.numbered.insert((list, self.current_level), numbered);
                }
            }
            "num" => self.current_list = number("numId"),
            "abstractNumId" => {
                if let (Some(list), Some(known)) = (self.current_list, number("val")) {
                    self.abstract_of.insert(list, known);
                }
            }
            _ => {}
        }
    }

    fn leave(&mut self, name: &str) {
        match name {
            "abstractNum" => self.current_abstract = None,
            "num" => self.current_list = None,
            _ => {}
        }
    }
}
