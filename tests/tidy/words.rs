//! Words that do not belong: names of grab-bags, marks of unfinished work, sleeps in tests.

use std::collections::BTreeSet;

use proc_macro2::TokenTree;

use crate::source::{Source, each_run, is_mark, is_word, line_of};
use crate::{Complaint, complain};

/// Names that say nothing about what is in the file.
const GRAB_BAGS: [&str; 8] =
    ["util", "utils", "helper", "helpers", "common", "misc", "manager", "managers"];

/// Written apart, so that these files do not complain about themselves.
const MARKS: [&str; 2] = [concat!("FIX", "ME"), concat!("X", "XX")];
const WORKPLACES: [&str; 2] = [concat!("/wo", "rk"), concat!("/tmp/", "wt")];

/// `foo.rs` stands beside `foo/`, and every name says what is inside.
pub fn file_name(source: &Source) -> Vec<Complaint> {
    let mut broken = Vec::new();
    for part in source.path.trim_end_matches(".rs").split('/') {
        if GRAB_BAGS.contains(&part) {
            let advice = format!("`{part}` says nothing: name it for what it does");
            broken.push(complain(&source.path, 1, advice));
        }
    }
    if source.path.ends_with("/mod.rs") {
        broken.push(complain(&source.path, 1, "put it beside its folder, as foo.rs beside foo/"));
    }
    broken
}

/// The first line of a file says what the file is.
pub fn opening(source: &Source) -> Vec<Complaint> {
    if source.text.starts_with("//! ") {
        return Vec::new();
    }
    vec![complain(&source.path, 1, "open the file with a `//!` line that says what it is")]
}

/// Macros that stand for missing code, and tests that are switched off.
pub fn unfinished(source: &Source) -> Vec<Complaint> {
    let mut broken = Vec::new();
    each_run(source.tokens.clone(), &mut Vec::new(), &mut |run, _| {
        for (at, token) in run.iter().enumerate() {
            let missing = is_word(token, "todo") || is_word(token, "unimplemented");
            if missing && run.get(at + 1).is_some_and(|mark| is_mark(mark, '!')) {
                broken.push(complain(&source.path, line_of(token), "write the code"));
            }
            let attribute = at > 0 && is_mark(&run[at - 1], '#');
            if attribute && first_word(token).is_some_and(|word| is_word(&word, "ignore")) {
                broken.push(complain(
                    &source.path,
                    line_of(token),
                    "make the test run, or drop it",
                ));
            }
        }
    });
    broken
}

fn first_word(token: &TokenTree) -> Option<TokenTree> {
    let TokenTree::Group(group) = token else { return None };
    group.stream().into_iter().next()
}

/// Marks of work left for later, in any text of the project.
pub fn marks(path: &str, text: &str) -> Vec<Complaint> {
    let mut broken = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let letter = |letter: char| letter.is_alphanumeric() || letter == '_';
        if line.split(|sign| !letter(sign)).any(|word| MARKS.contains(&word)) {
            broken.push(complain(path, at + 1, "do it now, or open an issue for it"));
        }
    }
    broken
}

/// Calls of anything named `sleep` in a test: below tests/, or under `#[cfg(test)]`.
pub fn sleeps(source: &Source, test_files: &BTreeSet<String>) -> Vec<Complaint> {
    let all = source.path.starts_with("tests/") || test_files.contains(&source.path);
    let mut broken = Vec::new();
    each_run(source.tokens.clone(), &mut Vec::new(), &mut |run, _| {
        for (at, token) in run.iter().enumerate() {
            let named = is_word(token, "sleep") || is_word(token, "sleep_until");
            let defined = at > 0 && is_word(&run[at - 1], "fn");
            let called = matches!(run.get(at + 1), Some(TokenTree::Group(_)));
            let line = line_of(token);
            if named && called && !defined && (all || source.is_test(line)) {
                let advice = "wait for an event, or move a VirtualClock";
                broken.push(complain(&source.path, line, advice));
            }
        }
    });
    broken
}

/// Paths of the machine this was written on.
pub fn workplace(path: &str, text: &str) -> Vec<Complaint> {
    let mut broken = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if WORKPLACES.iter().any(|place| names_path(line, place)) {
            broken.push(complain(path, at + 1, "take this machine's path out"));
        }
    }
    broken
}

/// Whether `place` stands in the line as the beginning of a path, not inside a longer word.
fn names_path(line: &str, place: &str) -> bool {
    let inner = |letter: char| letter.is_alphanumeric() || "_-.}".contains(letter);
    line.match_indices(place).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + place.len()..].chars().next();
        !before.is_some_and(inner) && !after.is_some_and(|letter| letter != '.' && inner(letter))
    })
}

#[cfg(test)]
fn parse(path: &str, text: &str) -> Source {
    Source::parse(path, text)
}

#[test]
fn grab_bags_and_mod_rs_are_refused() {
    for path in ["src/utils.rs", "src/http/common.rs", "src/misc/a.rs", "tests/helpers.rs"] {
        assert_eq!(file_name(&parse(path, "")).len(), 1, "{path}");
    }
    assert_eq!(file_name(&parse("src/http/mod.rs", "")).len(), 1);
    assert_eq!(file_name(&parse("src/http/model.rs", "")), []);
}

#[test]
fn a_file_without_an_opening_line_is_refused() {
    assert_eq!(opening(&parse("src/a.rs", "use std::fmt;\n")).len(), 1);
    assert_eq!(opening(&parse("src/a.rs", "//! What it is.\n")), []);
}

#[test]
fn unfinished_code_is_refused() {
    let text = "fn a() {\n    todo!()\n}\nfn b() { m!(unimplemented!(\"x\")) }";
    let lines: Vec<usize> = unfinished(&parse("src/a.rs", text)).iter().map(|c| c.line).collect();
    assert_eq!(lines, [2, 4]);
    assert_eq!(unfinished(&parse("src/a.rs", "// A todo!() in prose.\nfn todo() {}")), []);
}

#[test]
fn a_test_that_is_switched_off_is_refused() {
    for text in ["#[ignore]\nfn a() {}", "#[ignore = \"slow\"]\nfn a() {}"] {
        assert_eq!(unfinished(&parse("tests/a.rs", text)).len(), 1, "{text}");
    }
}

#[test]
fn marks_are_refused_as_whole_words() {
    for mark in MARKS {
        assert_eq!(marks("a.md", &format!("fine\n{mark}: later"))[0].line, 2);
        assert_eq!(marks("a.md", &format!("a{mark}b {mark}Y")), []);
    }
}

#[test]
fn a_test_that_sleeps_is_refused() {
    let none = BTreeSet::new();
    let text = "fn a() { std::thread::sleep(b) }\nfn c() { clock.sleep(b) }";
    assert_eq!(sleeps(&parse("tests/a.rs", text), &none).len(), 2);
    assert_eq!(sleeps(&parse("src/a.rs", text), &none), [], "code may wait, by its clock");
    assert_eq!(sleeps(&parse("src/a.rs", text), &["src/a.rs".to_owned()].into()).len(), 2);
    let inline = format!("#[cfg(test)]\nmod tests {{\n{text}\n}}");
    assert_eq!(sleeps(&parse("src/a.rs", &inline), &none).len(), 2);
    assert_eq!(sleeps(&parse("tests/a.rs", "fn sleep() {}"), &none), []);
}

#[test]
fn paths_of_the_workplace_are_refused() {
    for place in WORKPLACES {
        for text in [format!("see {place}/a"), format!("\"{place}\""), format!("cd {place}.")] {
            assert_eq!(workplace("a.md", &text).len(), 1, "{text}");
        }
        assert_eq!(workplace("a.md", &format!("https://example.org{place}s")), []);
    }
}
