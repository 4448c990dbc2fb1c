//! The layer table in `src/lib.rs`, and whether it still describes the folder.

use std::collections::BTreeSet;

use crate::source::Tree;
use crate::{Complaint, complain};

const LIB: &str = "src/lib.rs";

/// The layers and their rooms, as drawn.
#[derive(Debug)]
pub struct Table {
    rooms: Vec<Room>,
}

#[derive(Debug)]
struct Room {
    name: String,
    place: Place,
    line: usize,
}

/// Where a room stands: its layer, and its place in the line from the left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    layer: u32,
    column: usize,
}

impl Place {
    /// Whether a room here may import one that stands at `other`.
    pub fn may_import(self, other: Self) -> bool {
        other.layer < self.layer || (other.layer == self.layer && other.column <= self.column)
    }
}

impl Table {
    /// Reads the fenced lines like `4 stages   shred   intake   process (a note)   deliver`.
    pub fn parse(lib: &str) -> Result<Self, String> {
        let (mut rooms, mut fenced) = (Vec::<Room>::new(), false);
        for (at, line) in lib.lines().enumerate() {
            let Some(text) = line.strip_prefix("//!") else { continue };
            if text.trim_start().starts_with("```") {
                fenced = !fenced;
                continue;
            }
            let plain = without_notes(text);
            let mut words = plain.split_whitespace();
            let Some(Ok(layer)) = words.next().map(str::parse).filter(|_| fenced) else { continue };
            // The second word is the layer's own name.
            for (column, name) in words.skip(1).enumerate() {
                if rooms.iter().any(|room| room.name == name) {
                    return Err(format!("{LIB}:{}: `{name}` stands in the table twice", at + 1));
                }
                let place = Place { layer, column };
                rooms.push(Room { name: name.to_owned(), place, line: at + 1 });
            }
        }
        if rooms.is_empty() {
            return Err(format!("{LIB}:1: draw the layer table in the module's doc comment"));
        }
        Ok(Self { rooms })
    }

    pub fn place(&self, room: &str) -> Option<Place> {
        self.rooms.iter().find(|known| known.name == room).map(|known| known.place)
    }

    /// Modules at the top of src/ that have no room.
    pub fn homeless(&self, tree: &Tree) -> Vec<Complaint> {
        self.without_room(&top_level(tree))
    }

    /// Rooms that have no module.
    pub fn missing(&self, tree: &Tree) -> Vec<Complaint> {
        self.without_module(&top_level(tree))
    }

    fn without_room(&self, modules: &BTreeSet<String>) -> Vec<Complaint> {
        let homeless = modules.iter().filter(|name| self.place(name).is_none());
        let advice = "give this module a room in the table of src/lib.rs, or move it into one";
        homeless.map(|name| complain(&format!("src/{name}.rs"), 1, advice)).collect()
    }

    fn without_module(&self, modules: &BTreeSet<String>) -> Vec<Complaint> {
        let missing = self.rooms.iter().filter(|room| !modules.contains(&room.name));
        let advice = |name| {
            format!("there is no src/{name}.rs: write it, or take `{name}` out of the table")
        };
        missing.map(|room| complain(LIB, room.line, advice(&room.name))).collect()
    }
}

/// The modules at the top of src/, by their files and folders.
fn top_level(tree: &Tree) -> BTreeSet<String> {
    let paths = tree.rust().iter().filter_map(|source| source.path.strip_prefix("src/"));
    let first = paths.filter_map(|path| path.trim_end_matches(".rs").split('/').next());
    first.filter(|name| *name != "lib").map(str::to_owned).collect()
}

fn without_notes(line: &str) -> String {
    let mut depth = 0;
    let outside = line.chars().filter(|letter| {
        depth += i32::from(*letter == '(');
        let keep = depth == 0;
        depth -= i32::from(*letter == ')');
        keep
    });
    outside.collect()
}

#[cfg(test)]
pub const SMALL: &str = "//! ```text\n//! 2 flow    pipeline\n\
    //! 1 stages  shred   intake (a note, in words)   deliver\n\
    //! 0 words   clock   body\n//! ```\n";

#[test]
fn the_table_is_read_with_its_notes_left_out() {
    let table = Table::parse(SMALL).unwrap();
    let names: Vec<&str> = table.rooms.iter().map(|room| room.name.as_str()).collect();
    assert_eq!(names, ["pipeline", "shred", "intake", "deliver", "clock", "body"]);
    assert_eq!(table.place("deliver"), Some(Place { layer: 1, column: 2 }));
    assert_eq!(table.place("stages"), None);
}

#[test]
fn a_lib_without_a_table_or_with_a_room_twice_is_refused() {
    assert!(Table::parse("//! No table.\n//! 1 in prose does not count\n").is_err());
    assert!(Table::parse("//! ```text\n//! 1 a x\n//! 0 b x\n//! ```\n").is_err());
}

#[test]
fn a_module_without_a_room_and_a_room_without_a_module_are_found() {
    let table = Table::parse(SMALL).unwrap();
    let names = ["pipeline", "shred", "intake", "deliver", "clock", "attic"];
    let modules = names.map(str::to_owned).into();
    assert_eq!(table.without_room(&modules)[0].path, "src/attic.rs");
    let missing = table.without_module(&modules);
    assert_eq!((missing.len(), missing[0].line), (1, 4));
    assert!(missing[0].advice.contains("`body`"), "{missing:?}");
}
