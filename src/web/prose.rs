//! The little of Markdown that API descriptions use: paragraphs, lists, code, emphasis, links.

use crate::problem::Slug;

/// A piece of running text.
#[derive(Debug, PartialEq, Eq)]
pub enum Span {
    Text(String),
    Code(String),
    Strong(String),
    Emphasis(String),
    /// A slug, and so a page.
    Problem(&'static str),
    /// Leads to this gateway alone; what leads elsewhere stays text.
    Link {
        text: String,
        href: String,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub enum Block {
    Heading(Vec<Span>),
    Paragraph(Vec<Span>),
    List(Vec<Vec<Span>>),
    Code(String),
}

/// Reads a description.
pub fn blocks(text: &str) -> Vec<Block> {
    let (mut done, mut open) = (Vec::new(), Open::Nothing);
    for line in text.lines() {
        let trimmed = line.trim();
        if let Open::Code(code) = &mut open {
            if trimmed.starts_with("```") {
                close(&mut open, &mut done);
            } else {
                code.push(line.to_owned());
            }
            continue;
        }
        let heading = trimmed.trim_start_matches('#');
        if trimmed.starts_with("```") {
            close(&mut open, &mut done);
            open = Open::Code(Vec::new());
        } else if trimmed.is_empty() {
            close(&mut open, &mut done);
        } else if heading.len() < trimmed.len() && heading.starts_with(' ') {
            close(&mut open, &mut done);
            done.push(Block::Heading(spans(heading.trim())));
        } else if let Some(item) = item(trimmed) {
            if !matches!(open, Open::List(_)) {
                close(&mut open, &mut done);
                open = Open::List(Vec::new());
            }
            if let Open::List(items) = &mut open {
                items.push(item.to_owned());
            }
        } else {
            carry_on(&mut open, trimmed);
        }
    }
    close(&mut open, &mut done);
    done
}

/// Reads what is said of a refusal: slugs in it lead to their pages.
pub fn refusal(text: &str) -> Vec<Block> {
    let mut read = blocks(text);
    for block in &mut read {
        match block {
            Block::Heading(line) | Block::Paragraph(line) => link_slugs(line),
            Block::List(items) => items.iter_mut().for_each(|line| link_slugs(line)),
            Block::Code(_) => {}
        }
    }
    read
}

fn link_slugs(line: &mut [Span]) {
    for span in line {
        let Span::Code(code) = &*span else { continue };
        if let Some(slug) = Slug::parse(code) {
            *span = Span::Problem(slug.as_str());
        }
    }
}

/// The block that is being read.
enum Open {
    Nothing,
    Paragraph(String),
    List(Vec<String>),
    Code(Vec<String>),
}

fn item(line: &str) -> Option<&str> {
    line.strip_prefix("- ").or_else(|| line.strip_prefix("* "))
}

/// A line that begins nothing belongs to what is open.
fn carry_on(open: &mut Open, line: &str) {
    let text = match open {
        Open::Paragraph(text) => Some(text),
        Open::List(items) => items.last_mut(),
        Open::Nothing | Open::Code(_) => None,
    };
    if let Some(text) = text {
        text.push(' ');
        text.push_str(line);
    } else {
        *open = Open::Paragraph(line.to_owned());
    }
}

fn close(open: &mut Open, done: &mut Vec<Block>) {
    match std::mem::replace(open, Open::Nothing) {
        Open::Nothing => {}
        Open::Paragraph(text) => done.push(Block::Paragraph(spans(&text))),
        Open::List(items) => done.push(Block::List(items.iter().map(|i| spans(i)).collect())),
        Open::Code(lines) => done.push(Block::Code(lines.join("\n"))),
    }
}

/// Reads running text.
pub fn spans(text: &str) -> Vec<Span> {
    let (mut found, mut plain, mut rest) = (Vec::new(), String::new(), text);
    while let Some(first) = rest.chars().next() {
        if let Some((span, after)) = marked(rest) {
            flush(&mut plain, &mut found);
            found.push(span);
            rest = after;
        } else {
            plain.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    flush(&mut plain, &mut found);
    found
}

fn flush(plain: &mut String, found: &mut Vec<Span>) {
    if !plain.is_empty() {
        found.push(Span::Text(std::mem::take(plain)));
    }
}

/// The span that begins here by a mark, and what follows it.
fn marked(rest: &str) -> Option<(Span, &str)> {
    if let Some(inner) = rest.strip_prefix('`') {
        let (code, after) = inner.split_once('`').filter(|(code, _)| !code.is_empty())?;
        return Some((Span::Code(code.to_owned()), after));
    }
    if let Some(inner) = rest.strip_prefix("**") {
        let (strong, after) = inner.split_once("**").filter(|(strong, _)| !strong.is_empty())?;
        return Some((Span::Strong(strong.replace('`', "")), after));
    }
    if let Some(inner) = rest.strip_prefix('*') {
        let whole = |text: &str| !text.is_empty() && text.trim() == text;
        let (text, after) = inner.split_once('*').filter(|(text, _)| whole(text))?;
        return Some((Span::Emphasis(text.to_owned()), after));
    }
    let (text, after) = rest.strip_prefix('[')?.split_once("](")?;
    let (href, after) = after.split_once(')')?;
    if text.contains(['[', ']']) {
        return None;
    }
    let text = text.replace('`', "");
    let ours =
        href.starts_with('#') || (href.starts_with('/') && !href[1..].starts_with(['/', '\\']));
    let span = if ours { Span::Link { text, href: href.to_owned() } } else { Span::Text(text) };
    Some((span, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Span {
        Span::Text(text.to_owned())
    }

    #[test]
    fn blocks_are_told_apart() {
        let read = blocks("One\ntwo.\n\n# Three\n- four\n  five\n- six\n\n```sh\na\n\n b\n```\nc");
        let expected = vec![
            Block::Paragraph(vec![text("One two.")]),
            Block::Heading(vec![text("Three")]),
            Block::List(vec![vec![text("four five")], vec![text("six")]]),
            Block::Code("a\n\n b".to_owned()),
            Block::Paragraph(vec![text("c")]),
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn spans_are_told_apart() {
        let read = spans("a `b` **c** [d](/e) *g* 2 * 3 `f");
        let expected = vec![
            text("a "),
            Span::Code("b".to_owned()),
            text(" "),
            Span::Strong("c".to_owned()),
            text(" "),
            Span::Link { text: "d".to_owned(), href: "/e".to_owned() },
            text(" "),
            Span::Emphasis("g".to_owned()),
            text(" 2 * 3 `f"),
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn no_link_leads_elsewhere() {
        for href in ["https://a.example", "//a.example", "/\\a.example", "javascript:a", "a"] {
            assert_eq!(spans(&format!("[a]({href})")), [text("a")], "{href}");
        }
    }

    #[test]
    fn unfinished_marks_are_text() {
        for odd in ["`", "**", "****", "``", "[", "[a](", "[a]", "é`", "```"] {
            let _ = blocks(odd);
            assert_eq!(spans(odd), [text(odd)], "{odd}");
        }
    }
}
