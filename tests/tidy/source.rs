//! The tree as text and tokens, and which parts of it are tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::{Complaint, complain};

/// Folders that are no part of the project's text.
const NOT_OURS: [&str; 2] = ["target", ".git"];

/// A text file of the project.
pub struct Text {
    pub path: String,
    pub text: String,
}

/// A Rust file: its text, its syntax, and the lines that only tests compile.
pub struct Source {
    pub path: String,
    pub text: String,
    pub file: syn::File,
    pub tokens: TokenStream,
    test_lines: Vec<(usize, usize)>,
}

/// A `mod name;` in a file.
struct Declared {
    path: String,
    test: bool,
}

/// All files of the project.
pub struct Tree {
    texts: Vec<Text>,
    rust: Vec<Source>,
}

impl Tree {
    #[expect(clippy::disallowed_methods, reason = "reads the project's own sources")]
    pub fn read(root: &Path) -> Self {
        let (mut texts, mut folders) = (Vec::new(), vec![root.to_path_buf()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("a readable folder") {
                let entry = entry.expect("a readable entry");
                let (path, name) = (entry.path(), entry.file_name());
                if path.is_dir() {
                    if !NOT_OURS.iter().any(|skip| name == *skip) {
                        folders.push(path);
                    }
                    continue;
                }
                // A file that is not UTF-8 is no text of ours.
                if let Ok(text) = fs::read_to_string(&path) {
                    let path = path.strip_prefix(root).expect("below the root");
                    texts.push(Text { path: path.to_string_lossy().into_owned(), text });
                }
            }
        }
        // In a linked worktree `.git` is a file.
        texts.retain(|text| text.path != ".git");
        texts.sort_by(|a, b| a.path.cmp(&b.path));
        let is_rust = |text: &&Text| text.path.ends_with(".rs");
        let rust = texts.iter().filter(is_rust).map(|text| Source::parse(&text.path, &text.text));
        Self { rust: rust.collect(), texts }
    }

    pub fn rust(&self) -> &[Source] {
        &self.rust
    }

    pub fn texts(&self) -> &[Text] {
        &self.texts
    }

    pub fn text_of(&self, path: &str) -> Option<&str> {
        self.texts.iter().find(|text| text.path == path).map(|text| text.text.as_str())
    }
}

impl Source {
    pub fn parse(path: &str, text: &str) -> Self {
        let file = syn::parse_file(text).unwrap_or_else(|error| panic!("{path}: {error}"));
        let tokens = text.parse().unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut tests = TestItems::default();
        tests.visit_file(&file);
        let (path, text) = (path.to_owned(), text.to_owned());
        Self { path, text, file, tokens, test_lines: tests.lines }
    }

    /// Whether a line belongs to an item under `#[cfg(test)]`.
    pub fn is_test(&self, line: usize) -> bool {
        self.test_lines.iter().any(|(from, to)| (*from..=*to).contains(&line))
    }

    /// The module this file is, from the crate's root: `src/store/local.rs` is `store::local`.
    pub fn module(&self) -> Vec<String> {
        let inside = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        let root = inside == "lib";
        inside.split('/').filter(|_| !root).map(str::to_owned).collect()
    }

    /// The files that this one's `mod name;` lines name.
    fn declares(&self) -> Vec<Declared> {
        let (beside, name) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        // A crate's root looks for its modules beside itself, any other file in its own folder.
        let crate_root =
            name == "main.rs" || self.path == "src/lib.rs" || matches!(beside, "tests" | "benches");
        let folder = if crate_root { beside } else { self.path.trim_end_matches(".rs") };
        let mut found = Vec::new();
        for item in &self.file.items {
            if let syn::Item::Mod(module) = item
                && module.content.is_none()
            {
                let path = match module.attrs.iter().find_map(given_path) {
                    Some(given) => format!("{beside}/{given}"),
                    None => format!("{folder}/{}.rs", module.ident),
                };
                found.push(Declared { path, test: module.attrs.iter().any(is_test_only) });
            }
        }
        found
    }
}

/// Files below src/ that only tests compile: `#[cfg(test)] mod name;`, and what those declare.
pub fn test_files(sources: &[Source]) -> BTreeSet<String> {
    let declared = |source: &Source| source.declares().into_iter();
    let marked = sources.iter().flat_map(declared).filter(|module| module.test);
    let mut found: BTreeSet<String> = marked.map(|module| module.path).collect();
    loop {
        let known = found.len();
        let inside: Vec<&Source> =
            sources.iter().filter(|source| found.contains(&source.path)).collect();
        found.extend(inside.into_iter().flat_map(declared).map(|module| module.path));
        if found.len() == known {
            return found;
        }
    }
}

/// Files below src/ and in folders of tests/ that no `mod` names: the compiler never sees them.
pub fn undeclared(sources: &[Source]) -> Vec<Complaint> {
    let declared: BTreeSet<String> =
        sources.iter().flat_map(Source::declares).map(|module| module.path).collect();
    let mut broken = Vec::new();
    for Source { path, .. } in sources {
        let root = path.ends_with("/main.rs") || path == "src/lib.rs";
        let in_folder = path.matches('/').count() > 1
            && ["tests/", "benches/"].iter().any(|folder| path.starts_with(folder));
        let ours = in_folder || path.starts_with("src/");
        if ours && !root && !declared.contains(path) {
            broken.push(complain(path, 1, "no `mod` names this file: declare it or remove it"));
        }
    }
    broken
}

/// The file of a `#[path = "…"]`.
fn given_path(attribute: &syn::Attribute) -> Option<String> {
    let named = attribute.meta.require_name_value().ok().filter(|meta| meta.path.is_ident("path"));
    match &named?.value {
        syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(path), .. }) => Some(path.value()),
        _ => None,
    }
}

/// Whether an attribute is `#[cfg(test)]`.
fn is_test_only(attribute: &syn::Attribute) -> bool {
    let Ok(list) = attribute.meta.require_list() else { return false };
    attribute.path().is_ident("cfg") && list.tokens.to_string() == "test"
}

#[derive(Default)]
struct TestItems {
    lines: Vec<(usize, usize)>,
}

impl TestItems {
    fn note(&mut self, attributes: &[syn::Attribute], whole: proc_macro2::Span) -> bool {
        let test = attributes.iter().any(is_test_only);
        if test {
            self.lines.push((whole.start().line, whole.end().line));
        }
        test
    }
}

impl<'ast> Visit<'ast> for TestItems {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes = match item {
            syn::Item::Mod(inner) => &inner.attrs,
            syn::Item::Fn(inner) => &inner.attrs,
            syn::Item::Impl(inner) => &inner.attrs,
            syn::Item::Struct(inner) => &inner.attrs,
            syn::Item::Enum(inner) => &inner.attrs,
            syn::Item::Use(inner) => &inner.attrs,
            syn::Item::Const(inner) => &inner.attrs,
            syn::Item::Macro(inner) => &inner.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !self.note(attributes, item.span()) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !self.note(&item.attrs, item.span()) {
            visit::visit_impl_item_fn(self, item);
        }
    }
}

/// Calls `see` on every run of tokens, outermost first, with the inline modules it lies in.
pub fn each_run(
    tokens: TokenStream,
    inside: &mut Vec<String>,
    see: &mut dyn FnMut(&[TokenTree], &[String]),
) {
    let run: Vec<TokenTree> = tokens.into_iter().collect();
    see(&run, inside);
    for (at, token) in run.iter().enumerate() {
        if let TokenTree::Group(group) = token {
            let module = at.checked_sub(2).is_some_and(|before| is_word(&run[before], "mod"));
            if module {
                inside.push(run[at - 1].to_string());
            }
            each_run(group.stream(), inside, see);
            if module {
                inside.pop();
            }
        }
    }
}

pub fn is_word(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == word)
}

pub fn is_mark(token: &TokenTree, mark: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == mark)
}

pub fn line_of(token: &TokenTree) -> usize {
    token.span().start().line
}

#[test]
fn a_file_that_no_mod_names_is_found() {
    let tree = [
        Source::parse("src/lib.rs", "pub mod file;\n#[cfg(test)]\nmod trial;"),
        Source::parse("src/main.rs", "fn main() {}"),
        Source::parse("src/file.rs", "mod deadline;"),
        Source::parse("src/file/deadline.rs", ""),
        Source::parse("src/file/left_over.rs", ""),
        Source::parse("src/trial.rs", "mod deep;"),
        Source::parse("src/trial/deep.rs", ""),
        Source::parse("tests/tidy.rs", ""),
    ];
    let broken = undeclared(&tree);
    assert_eq!(broken.len(), 1, "{broken:?}");
    assert_eq!(broken[0].path, "src/file/left_over.rs");
    let tests: Vec<String> = test_files(&tree).into_iter().collect();
    assert_eq!(tests, ["src/trial.rs", "src/trial/deep.rs"]);
}

#[test]
fn lines_under_cfg_test_are_known() {
    let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n";
    let source = Source::parse("src/a.rs", text);
    let tests: Vec<usize> = (1..=6).filter(|line| source.is_test(*line)).collect();
    assert_eq!(tests, [2, 3, 4, 5]);
}
