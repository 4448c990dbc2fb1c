//! Lengths: of functions, of files, of lines.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::source::{Source, is_mark, is_word};
use crate::{Complaint, complain};

const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 400;
const LINE_COLUMNS_MAX: usize = 100;

/// Functions outside tests that are too long, from `fn` to the closing brace.
pub fn functions(source: &Source) -> Vec<Complaint> {
    let mut reader = Functions { source, broken: Vec::new() };
    reader.visit_file(&source.file);
    reader.broken
}

struct Functions<'a> {
    source: &'a Source,
    broken: Vec<Complaint>,
}

impl Functions<'_> {
    fn measure(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let first = signature.fn_token.span().start().line;
        let lines = block.span().end().line - first + 1;
        if lines > FUNCTION_LINES_MAX && !self.source.is_test(first) {
            let name = &signature.ident;
            let advice = format!(
                "`{name}` is {lines} lines long: give its parts names ({FUNCTION_LINES_MAX})"
            );
            self.broken.push(complain(&self.source.path, first, advice));
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.measure(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.measure(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.measure(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }
}

/// A file with too many lines of code: tests, comments and blank lines do not count.
pub fn code(source: &Source) -> Vec<Complaint> {
    let mut lines = BTreeSet::new();
    code_lines(source.tokens.clone(), &mut lines);
    let count = lines.iter().filter(|line| !source.is_test(**line)).count();
    if count <= FILE_LINES_MAX {
        return Vec::new();
    }
    let advice =
        format!("{count} lines of code: this room wants a door (at most {FILE_LINES_MAX})");
    vec![complain(&source.path, 1, advice)]
}

fn code_lines(tokens: TokenStream, lines: &mut BTreeSet<usize>) {
    let run: Vec<TokenTree> = tokens.into_iter().collect();
    for (at, token) in run.iter().enumerate() {
        let TokenTree::Group(group) = token else {
            // A doc comment reaches us as `#[doc = "…"]`, or `#![doc = "…"]`.
            let docs = run[at + 1..].iter().take(2).find_map(|next| match next {
                TokenTree::Group(group) => group.stream().into_iter().next(),
                _ => None,
            });
            let comment = docs.is_some_and(|word| is_word(&word, "doc"))
                && (is_mark(token, '#') || is_mark(token, '!'));
            if !comment {
                lines.extend(token.span().start().line..=token.span().end().line);
            }
            continue;
        };
        let docs = group.stream().into_iter().next().is_some_and(|word| is_word(&word, "doc"));
        let attribute = at > 0 && (is_mark(&run[at - 1], '#') || is_mark(&run[at - 1], '!'));
        if !(docs && attribute) {
            lines.insert(group.span_open().start().line);
            lines.insert(group.span_close().end().line);
            code_lines(group.stream(), lines);
        }
    }
}

/// Lines that are too long for reasons other than a string or an address that cannot wrap.
pub fn width(source: &Source) -> Vec<Complaint> {
    let mut broken = Vec::new();
    for (at, line) in source.text.lines().enumerate() {
        let columns = line.chars().count();
        if columns > LINE_COLUMNS_MAX && !line.contains("://") {
            let strings = string_columns(source.tokens.clone(), at + 1);
            if columns - strings.min(columns) > LINE_COLUMNS_MAX || strings == 0 {
                let advice = format!("{columns} columns: wrap it at {LINE_COLUMNS_MAX}");
                broken.push(complain(&source.path, at + 1, advice));
            }
        }
    }
    broken
}

/// How many columns of a line lie in string literals.
fn string_columns(tokens: TokenStream, line: usize) -> usize {
    let mut columns = 0;
    let mut after_doc = false;
    for token in tokens {
        match &token {
            TokenTree::Group(group) => columns += string_columns(group.stream(), line),
            TokenTree::Literal(literal) if literal.to_string().contains('"') && !after_doc => {
                let (start, end) = (literal.span().start(), literal.span().end());
                if start.line < line && line < end.line {
                    return usize::MAX / 2;
                }
                if start.line <= line && line <= end.line {
                    let from = if start.line == line { start.column } else { 0 };
                    let to = if end.line == line { end.column } else { usize::MAX / 4 };
                    columns += to - from;
                }
            }
            _ => {}
        }
        // Doc comments are literals to the compiler, but prose can wrap.
        after_doc = is_word(&token, "doc") || (after_doc && is_mark(&token, '='));
    }
    columns
}

#[test]
fn a_long_function_is_found_and_a_long_test_is_not() {
    let body = "    let _ = 1;\n".repeat(69);
    let long = format!("/// Doc.\nfn long() {{\n{body}}}\n");
    let broken = functions(&Source::parse("src/a.rs", &long));
    assert_eq!((broken.len(), broken[0].line), (1, 2), "71 lines");
    let method = format!("struct A;\nimpl A {{\nfn long() {{\n{body}}}\n}}\n");
    assert_eq!(functions(&Source::parse("src/a.rs", &method)).len(), 1);
    let fits = long.replacen("    let _ = 1;\n", "", 1);
    assert_eq!(functions(&Source::parse("src/a.rs", &fits)), [], "70 lines");
    let test = format!("#[cfg(test)]\nmod tests {{\n{long}}}\n");
    assert_eq!(functions(&Source::parse("src/a.rs", &test)), []);
}

#[test]
fn a_large_file_is_found_by_its_code_alone() {
    let large = "const _: () = ();\n".repeat(401);
    assert_eq!(code(&Source::parse("src/a.rs", &large)).len(), 1);
    let fits = "const _: () = ();\n".repeat(400);
    let padded = format!("//! A.\n\n// B.\n/// C.\n{fits}#[cfg(test)]\nmod tests {{\n{fits}}}\n");
    assert_eq!(code(&Source::parse("src/a.rs", &padded)), []);
}

#[test]
fn a_long_line_is_found_unless_a_string_makes_it_long() {
    let wide = |text: &str| width(&Source::parse("src/a.rs", text)).len();
    let long = "x".repeat(101);
    assert_eq!(wide(&format!("fn {long}() {{}}")), 1);
    assert_eq!(wide(&format!("// {long}")), 1, "a comment can wrap");
    assert_eq!(wide(&format!("/// {long}\nfn a() {{}}")), 1, "and so can a doc comment");
    assert_eq!(wide(&format!("const A: &str = \"{long}\";")), 0);
    assert_eq!(wide(&format!("fn {long}() {{ a(\"b\") }}")), 1, "a short string excuses nothing");
    assert_eq!(wide(&format!("// https://example.org/{long}")), 0, "an address cannot wrap");
}
