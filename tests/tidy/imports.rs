//! The direction of imports: down, or left within a line.

use proc_macro2::{Delimiter, TokenTree};

use crate::source::{Source, each_run, is_mark, is_word, line_of};
use crate::table::Table;
use crate::{Complaint, complain};

/// Every room that this file names must lie below its own, or to the left on the same line.
pub fn check(table: &Table, source: &Source) -> Vec<Complaint> {
    let module = source.module();
    // lib.rs declares the rooms and lives in none.
    let Some(own) = module.first() else { return Vec::new() };
    let Some(here) = table.place(own) else { return Vec::new() };
    let mut broken = Vec::new();
    for (room, line) in rooms_named(source) {
        if room == "*" {
            broken.push(complain(&source.path, line, "name the rooms: `*` would bring them all"));
        }
        let Some(there) = table.place(&room) else { continue };
        if !here.may_import(there) {
            let advice = format!(
                "`{own}` must not know `{room}`: move what it needs down, or hand it in as a value"
            );
            broken.push(complain(&source.path, line, advice));
        }
    }
    broken
}

/// The top-level modules that a file's paths begin with, by `crate::`, `dayfly::` or `super::`.
fn rooms_named(source: &Source) -> Vec<(String, usize)> {
    let (mut found, module) = (Vec::new(), source.module());
    each_run(source.tokens.clone(), &mut Vec::new(), &mut |run, inside| {
        let mut at = 0;
        while at < run.len() {
            let depth = module.len() + inside.len();
            let (next, at_root) = root(run, at, depth);
            if at_root {
                first_segments(&run[next..], &mut found);
            }
            at = next.max(at + 1);
        }
    });
    found
}

/// Reads a path's beginning at `at`; tells where its rest starts, and whether that is the root.
fn root(run: &[TokenTree], at: usize, depth: usize) -> (usize, bool) {
    let separated = |at: usize| {
        run.get(at + 1).is_some_and(|mark| is_mark(mark, ':'))
            && run.get(at + 2).is_some_and(|mark| is_mark(mark, ':'))
    };
    if (is_word(&run[at], "crate") || is_word(&run[at], "dayfly")) && separated(at) {
        return (at + 3, true);
    }
    let (mut next, mut climbed) = (at, 0);
    while next < run.len() && separated(next) {
        match &run[next] {
            word if is_word(word, "super") => climbed += 1,
            word if is_word(word, "self") => {}
            _ => break,
        }
        next += 3;
    }
    (next, climbed > 0 && climbed >= depth)
}

/// The first segments of a path, or of each path in a braced list.
fn first_segments(rest: &[TokenTree], found: &mut Vec<(String, usize)>) {
    match rest.first() {
        Some(TokenTree::Ident(room)) => {
            let line = room.span().start().line;
            found.push((room.to_string(), line));
        }
        Some(TokenTree::Group(list)) if list.delimiter() == Delimiter::Brace => {
            let list: Vec<TokenTree> = list.stream().into_iter().collect();
            for path in list.split(|token| is_mark(token, ',')) {
                first_segments(path, found);
            }
        }
        Some(star) if is_mark(star, '*') => found.push(("*".to_owned(), line_of(star))),
        _ => {}
    }
}

#[cfg(test)]
fn lines(path: &str, text: &str) -> Vec<usize> {
    let table = Table::parse(crate::table::SMALL).unwrap();
    check(&table, &Source::parse(path, text)).iter().map(|complaint| complaint.line).collect()
}

#[test]
fn down_and_left_are_allowed() {
    let text =
        "use crate::body::Body;\nuse crate::shred;\nuse crate::intake::part;\nuse super::clock;";
    assert_eq!(lines("src/intake.rs", text), [0usize; 0]);
}

#[test]
fn up_and_right_are_refused() {
    assert_eq!(lines("src/intake.rs", "use crate::pipeline::Flow;"), [1], "up");
    assert_eq!(lines("src/intake.rs", "use crate::deliver::send;"), [1], "right");
    assert_eq!(lines("src/clock/simulated.rs", "\nuse crate::body;"), [2], "a file in a folder");
    assert_eq!(lines("src/clock.rs", "use dayfly::shred::*;"), [1], "by the crate's own name");
}

#[test]
fn braces_bodies_macros_and_visibilities_are_seen() {
    let listed = "use crate::{\n    clock::Clock,\n    pipeline::{Flow, step},\n};";
    assert_eq!(lines("src/shred.rs", listed), [3]);
    assert_eq!(lines("src/shred.rs", "fn a() {\n    crate::deliver::send();\n}"), [2]);
    assert_eq!(lines("src/shred.rs", "m! {\n    $crate::intake::take() }"), [2]);
    assert_eq!(lines("src/shred.rs", "pub(in crate::pipeline) fn a() {}"), [1]);
}

#[test]
fn a_star_at_the_root_is_no_way_around() {
    assert_eq!(lines("src/shred.rs", "use crate::*;"), [1]);
    assert_eq!(lines("src/shred.rs", "use super::*;"), [1]);
    assert_eq!(lines("src/shred.rs", "mod tests {\n    use super::*;\n}"), [0usize; 0]);
}

#[test]
fn climbing_by_super_is_no_way_around() {
    assert_eq!(lines("src/shred.rs", "use super::pipeline::Flow;"), [1]);
    assert_eq!(lines("src/shred/queue.rs", "use super::super::pipeline::Flow;"), [1]);
    assert_eq!(lines("src/shred/queue.rs", "use super::pipeline;"), [0usize; 0], "its own child");
    let nested = "mod tests {\n    use super::super::pipeline;\n    use super::pipeline;\n}";
    assert_eq!(lines("src/shred.rs", nested), [2]);
}
