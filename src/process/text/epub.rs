//! The text of an EPUB book (EPUB 3.3): its chapters in reading order, form feeds between them.

use std::collections::HashMap;

use quick_xml::events::BytesStart;

use super::super::frame::Fault;
use super::super::package::Package;
use super::html;
use super::ooxml::resolve;
use super::writer::Writer;
use super::xml::{Visitor, attribute, walk};

pub(super) fn text(document: &[u8], markdown: bool) -> Result<String, Fault> {
    let mut package = Package::open(document)?;
    let container = package.read("META-INF/container.xml")?.ok_or(Fault::Damaged)?;
    let mut root = Root::default();
    walk(&container, &mut root)?;
    let place = root.place.ok_or(Fault::Damaged)?;
    let mut book = Book::default();
    walk(&package.read(&place)?.ok_or(Fault::Damaged)?, &mut book)?;
    let locked = package.read("META-INF/encryption.xml")?.unwrap_or_default();
    let folder = place.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut writer = Writer::new(markdown);
    for (at, id) in book.spine.iter().enumerate() {
        let Some(name) = book.items.get(id).and_then(|target| resolve(folder, &decoded(target)))
        else {
            continue;
        };
        if locked.contains(&name) {
            return Err(Fault::Encrypted);
        }
        let Some(chapter) = package.bytes(&name)? else { continue };
        if at > 0 {
            writer.page_break();
        }
        writer = html::write(&chapter, writer)?;
        if writer.is_full() {
            return Err(Fault::Limit);
        }
    }
    Ok(writer.finish())
}

/// Where the book's description is.
#[derive(Default)]
struct Root {
    place: Option<String>,
}

impl Visitor for Root {
    fn enter(&mut self, name: &str, element: &BytesStart) {
        if name == "rootfile" && self.place.is_none() {
            self.place = attribute(element, "full-path");
        }
    }
}

/// The book's parts by id, and the order in which they are read.
#[derive(Default)]
struct Book {
    items: HashMap<String, String>,
    spine: Vec<String>,
}

impl Visitor for Book {
    fn enter(&mut self, name: &str, element: &BytesStart) {
        let value = |name| attribute(element, name).unwrap_or_default();
        match name {
            "item" => drop(self.items.insert(value("id"), value("href"))),
            "itemref" => self.spine.push(value("idref")),
            _ => {}
        }
    }
}

/// A reference as a name: percent signs decoded, the fragment cut off.
fn decoded(target: &str) -> String {
    let target = target.split('#').next().unwrap_or_default();
    percent_encoding::percent_decode_str(target).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::tests::package;
    use super::*;

    fn book(extra: &[(&str, &str)]) -> Vec<u8> {
        let container = "<container><rootfiles><rootfile full-path='O/c.opf'/></rootfiles>\
            </container>";
        let description = "<package><manifest><item id='a' href='one%20.xhtml'/>\
            <item id='b' href='../two.xhtml#x'/><item id='c' href='../../../etc/passwd'/></manifest>\
            <spine><itemref idref='b'/><itemref idref='c'/><itemref idref='a'/></spine></package>";
        let mut parts = vec![
            ("META-INF/container.xml", container),
            ("O/c.opf", description),
            ("O/one .xhtml", "<html><body><h1>One</h1><p>x</p></body></html>"),
            ("two.xhtml", "<html><body><p>Two</p></body></html>"),
        ];
        parts.extend(extra);
        package(&parts)
    }

    #[test]
    fn chapters_are_read_in_the_order_of_the_spine() {
        assert_eq!(text(&book(&[]), false).unwrap(), "Two\n\u{c}One\n\nx\n");
        assert_eq!(text(&book(&[]), true).unwrap(), "Two\n\u{c}# One\n\nx\n");
    }

    #[test]
    fn a_locked_chapter_says_so() {
        let locked = ("META-INF/encryption.xml", "<e><CipherReference URI='two.xhtml'/></e>");
        assert_eq!(text(&book(&[locked]), false), Err(Fault::Encrypted));
    }
}
