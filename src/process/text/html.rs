//! The text of an HTML page: what a reader sees of it, without scripts and styles.

use encoding_rs::Encoding;
use html5ever::tendril::{StrTendril, TendrilSink};
use html5ever::tree_builder::TreeBuilderOpts;
use html5ever::{ParseOpts, parse_document};

use super::super::frame::Fault;
use super::plain;
use super::writer::{Gap, Writer};

mod tree;
use tree::{Node, Sink, Tree};

/// Characters parsed before the tree is asked whether it has grown too deep or too large.
const SLICE: usize = 16 << 10;

/// Bytes in which a page declares its encoding (WHATWG HTML, 13.2.3.2).
const PRESCAN: usize = 1024;

pub(super) fn text(document: &[u8], markdown: bool) -> Result<String, Fault> {
    Ok(write(document, Writer::new(markdown))?.finish())
}

/// Writes a page to the end of a text.
pub(super) fn write(document: &[u8], writer: Writer) -> Result<Writer, Fault> {
    let html = decode(document);
    // Without scripting, the content of `noscript` is parsed like any other.
    let tree_builder = TreeBuilderOpts { scripting_enabled: false, ..TreeBuilderOpts::default() };
    let options = ParseOpts { tree_builder, ..ParseOpts::default() };
    let sink = Sink::default();
    let overgrown = sink.overgrown.clone();
    let mut parser = parse_document(sink, options);
    let mut rest = html.as_str();
    while !rest.is_empty() {
        let cut = rest.floor_char_boundary(SLICE.min(rest.len()));
        parser.process(StrTendril::from_slice(&rest[..cut]));
        rest = &rest[cut..];
        if overgrown.get() {
            return Err(Fault::Complex);
        }
    }
    let tree = parser.finish();
    if overgrown.get() {
        return Err(Fault::Complex);
    }
    Ok(render(&tree, writer))
}

/// Decodes by byte order mark, by the page's own word, or by likelihood.
fn decode(document: &[u8]) -> String {
    if Encoding::for_bom(document).is_some() || std::str::from_utf8(document).is_ok() {
        return plain::decode(document);
    }
    let encoding = declared(document).unwrap_or_else(|| plain::guess(document));
    encoding.decode_without_bom_handling(document).0.into_owned()
}

/// The encoding named by `charset=` in the first bytes.
fn declared(document: &[u8]) -> Option<&'static Encoding> {
    let start = document[..document.len().min(PRESCAN)].to_ascii_lowercase();
    let at = start.windows(8).position(|bytes| bytes == b"charset=")? + 8;
    let value = start[at..].trim_ascii_start();
    let value = value.strip_prefix(b"\"").or(value.strip_prefix(b"'")).unwrap_or(value);
    let end = value.iter().position(|b| b"\"' ;/>\t\r\n".contains(b)).unwrap_or(value.len());
    Encoding::for_label(&value[..end])
}

/// What the walk keeps in mind.
struct Walk<'t> {
    tree: &'t Tree,
    writer: Writer,
    /// The lists around this place: the next number of an ordered one.
    lists: Vec<Option<u64>>,
    /// How many `pre` elements are around this place.
    preformatted: usize,
}

fn render(tree: &Tree, writer: Writer) -> Writer {
    let mut walk = Walk { tree, writer, lists: Vec::new(), preformatted: 0 };
    // By hand instead of by recursion: the tree is as deep as its author liked.
    let mut at = tree.first_child(Tree::ROOT);
    while let Some(node) = at {
        let down = walk.enter(node).then(|| tree.first_child(node)).flatten();
        at = down.or_else(|| walk.climb(node));
    }
    walk.writer
}

impl Walk<'_> {
    /// Leaves nodes until one has a next sibling, and goes there.
    fn climb(&mut self, mut node: usize) -> Option<usize> {
        loop {
            self.leave(node);
            if let Some(next) = self.tree.next_sibling(node) {
                return Some(next);
            }
            node = self.tree.parent(node).filter(|parent| *parent != Tree::ROOT)?;
        }
    }

    /// Begins a node; false to skip what is in it.
    fn enter(&mut self, node: usize) -> bool {
        let name = match self.tree.node(node) {
            Node::Text(text) if self.preformatted > 0 => {
                self.writer.exact(text);
                return false;
            }
            Node::Text(text) => {
                self.writer.flowing(text);
                return false;
            }
            Node::Element { hidden: true, .. } | Node::Other => return false,
            Node::Element { name, .. } => &**name,
        };
        match name {
            "head" | "script" | "style" | "template" | "iframe" | "object" | "svg" | "video"
            | "audio" | "canvas" | "noembed" | "noframes" | "datalist" => return false,
            "br" => self.writer.line_break(),
            "hr" => {
                self.writer.gap(Gap::Blank);
                if self.writer.is_markdown() {
                    self.writer.raw("---");
                    self.writer.gap(Gap::Blank);
                }
            }
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => {
                self.writer.heading(usize::from(name.as_bytes()[1] - b'0'));
            }
            "ul" | "menu" | "ol" => {
                self.writer.gap(if self.lists.is_empty() { Gap::Blank } else { Gap::Line });
                self.lists.push((name == "ol").then_some(1));
            }
            "li" => {
                let depth = self.lists.len();
                let number = self.lists.last_mut().and_then(Option::as_mut).map(|number| {
                    *number += 1;
                    *number - 1
                });
                self.writer.item(depth, number);
            }
            "table" => self.writer.begin_table(),
            "tr" => self.writer.begin_row(),
            "pre" => {
                self.preformatted += 1;
                self.writer.gap(Gap::Blank);
                if self.writer.is_markdown() {
                    self.writer.raw("```\n");
                }
            }
            name => self.writer.gap(gap_around(name)),
        }
        true
    }

    fn leave(&mut self, node: usize) {
        let Node::Element { name, hidden: false } = self.tree.node(node) else { return };
        match &**name {
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => self.writer.end_block(Gap::Blank),
            "ul" | "menu" | "ol" => {
                self.lists.pop();
                self.writer.gap(if self.lists.is_empty() { Gap::Blank } else { Gap::Line });
            }
            "li" => self.writer.end_block(Gap::Line),
            "table" => self.writer.end_table(),
            "td" | "th" => self.writer.end_cell(),
            "pre" => {
                self.preformatted -= 1;
                if self.writer.is_markdown() {
                    self.writer.gap(Gap::Line);
                    self.writer.raw("```");
                }
                self.writer.gap(Gap::Blank);
            }
            name => self.writer.gap(gap_around(name)),
        }
    }
}

/// The space that an element's default style puts around it.
fn gap_around(name: &str) -> Gap {
    match name {
        "p" | "blockquote" | "dl" | "figure" | "fieldset" => Gap::Blank,
        "div" | "section" | "article" | "header" | "footer" | "main" | "nav" | "aside" | "body"
        | "address" | "center" | "dt" | "dd" | "details" | "summary" | "figcaption" | "form"
        | "legend" | "option" | "caption" | "hgroup" | "search" | "textarea" => Gap::Line,
        _ => Gap::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain_text(html: &str) -> String {
        text(html.as_bytes(), false).unwrap()
    }

    #[test]
    fn a_page_reads_as_it_is_seen() {
        let html = "<!doctype html><title>t</title><style>p{}</style><h1>Big\n title</h1>\
            <p>One <b>bold</b> &amp; two<br>three<script>alert(1)</script></p>\
            <ul><li>a<li>b<ol><li>c</ol></ul><div hidden>no</div>\
            <table><tr><th>x<th>y<tr><td>1<td>2</table><pre>  a\n   b</pre>";
        let expected = "Big title\n\nOne bold & two\nthree\n\n- a\n- b\n  1. c\n\n\
            x\ty\n1\t2\n\n  a\n   b\n";
        assert_eq!(plain_text(html), expected);
        let markdown = text(html.as_bytes(), true).unwrap();
        assert!(markdown.starts_with("# Big title\n\nOne bold & two  \nthree\n"), "{markdown}");
        assert!(markdown.contains("| x | y |\n| --- | --- |\n| 1 | 2 |"), "{markdown}");
        assert!(markdown.ends_with("```\n  a\n   b\n```\n"), "{markdown}");
    }

    #[test]
    fn the_encoding_is_the_one_the_page_declares() {
        let page = b"<html><meta charset='iso-8859-2'><p>\xb1\xea</p>";
        assert_eq!(text(page, false).unwrap(), "ąę\n");
    }

    #[test]
    fn a_million_nested_elements_are_refused_and_overflow_nothing() {
        assert_eq!(text("<div>".repeat(1_000_000).as_bytes(), false), Err(Fault::Complex));
        assert_eq!(text("<table><td>".repeat(50_000).as_bytes(), false), Err(Fault::Complex));
        assert_eq!(plain_text(&format!("{}deep", "<i>".repeat(500))), "deep\n");
    }
}
