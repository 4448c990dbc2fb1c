//! The house rules, held by a test: what a compiler does not see in a single crate.
//!
//! Every rule is a plain function from sources to complaints, so that each can be shown to fail
//! on a small bad snippet. The tests at the foot of this file run them all on the real tree.

mod imports;
mod measure;
mod source;
mod table;
mod words;

use std::fmt;
use std::path::Path;

use source::{Source, Tree};
use table::Table;

/// One broken rule: where, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub struct Complaint {
    pub path: String,
    pub line: usize,
    pub advice: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.advice)
    }
}

/// Shorthand for a complaint about one line.
pub fn complain(path: &str, line: usize, advice: impl Into<String>) -> Complaint {
    Complaint { path: path.to_owned(), line, advice: advice.into() }
}

fn tree() -> Tree {
    Tree::read(Path::new(env!("CARGO_MANIFEST_DIR")))
}

fn map(tree: &Tree) -> Table {
    Table::parse(tree.text_of("src/lib.rs").expect("src/lib.rs is there")).expect("a layer table")
}

fn hold(rule: &str, complaints: Vec<Complaint>) {
    let lines: Vec<String> = complaints.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{rule}\n{}\n", lines.join("\n"));
}

fn over(tree: &Tree, rule: impl Fn(&Source) -> Vec<Complaint>) -> Vec<Complaint> {
    tree.rust().iter().flat_map(rule).collect()
}

#[test]
fn imports_point_down_or_left() {
    let (tree, mut broken) = (tree(), Vec::new());
    let table = map(&tree);
    for source in tree.rust().iter().filter(|source| source.path.starts_with("src/")) {
        broken.extend(imports::check(&table, source));
    }
    hold("Imports point down, or left within a line; never up, never right.", broken);
}

#[test]
fn every_module_has_its_room() {
    let tree = tree();
    hold("A module at the top of src/ stands in lib.rs's table.", map(&tree).homeless(&tree));
}

#[test]
fn every_room_of_the_map_exists() {
    let tree = tree();
    hold("A room in lib.rs's table is a module of src/.", map(&tree).missing(&tree));
}

#[test]
fn every_file_is_declared() {
    hold("A file that no `mod` names is dead.", source::undeclared(tree().rust()));
}

#[test]
fn files_are_named_for_what_they_do() {
    hold("foo.rs beside foo/, and no grab-bags.", over(&tree(), words::file_name));
}

#[test]
fn functions_and_files_stay_readable() {
    let tree = tree();
    let tests = source::test_files(tree.rust());
    let mut broken = Vec::new();
    for source in tree.rust().iter().filter(|source| source.path.starts_with("src/")) {
        if !tests.contains(&source.path) {
            broken.extend(measure::functions(source));
            broken.extend(measure::code(source));
        }
    }
    hold("70 lines a function, 400 lines of code a file.", broken);
}

#[test]
fn lines_fit_on_a_screen() {
    hold("100 columns.", over(&tree(), measure::width));
}

#[test]
fn every_file_says_what_it_is() {
    hold("A file opens with `//!`.", over(&tree(), words::opening));
}

#[test]
fn nothing_is_left_unfinished() {
    let tree = tree();
    let mut broken = over(&tree, words::unfinished);
    broken.extend(tree.texts().iter().flat_map(|text| words::marks(&text.path, &text.text)));
    hold("No unfinished code and no switched-off test.", broken);
}

#[test]
fn no_test_sleeps() {
    let tree = tree();
    let tests = source::test_files(tree.rust());
    hold("A test is told, it does not wait.", over(&tree, |source| words::sleeps(source, &tests)));
}

#[test]
fn nothing_names_the_workplace() {
    let tree = tree();
    let broken = tree.texts().iter().flat_map(|text| words::workplace(&text.path, &text.text));
    hold("The project knows nothing of the machine it was written on.", broken.collect());
}
