//! XML parts of documents, read as a stream of elements: nothing is expanded, nothing is fetched.

use quick_xml::Reader;
use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};

use super::super::frame::Fault;

/// Elements nested deeper than this are refused; office programs stay below 100.
const MAX_DEPTH: usize = 512;

/// What is done with the elements of a part. Names are local: prefixes are the writer's choice.
pub(super) trait Visitor {
    fn enter(&mut self, name: &str, element: &BytesStart);
    fn leave(&mut self, _name: &str) {}
    fn text(&mut self, _text: &str) {}

    /// Whether there is too much of it already.
    fn is_full(&self) -> bool {
        false
    }
}

/// Reads a part from its first to its last element, which need not nest shallowly but must nest.
pub(super) fn walk(xml: &str, visitor: &mut impl Visitor) -> Result<(), Fault> {
    let mut reader = Reader::from_str(xml);
    let mut depth = 0;
    loop {
        match reader.read_event().map_err(|_| Fault::Damaged)? {
            Event::Start(element) => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(Fault::Complex);
                }
                visitor.enter(element.local_name().into_inner(), &element);
                if visitor.is_full() {
                    return Err(Fault::Limit);
                }
            }
            Event::Empty(element) => {
                visitor.enter(element.local_name().into_inner(), &element);
                visitor.leave(element.local_name().into_inner());
            }
            Event::End(element) => {
                depth -= 1;
                visitor.leave(element.local_name().into_inner());
            }
            Event::Text(text) => visitor.text(&text.xml10_content()),
            Event::CData(text) => visitor.text(&text.xml10_content()),
            Event::GeneralRef(entity) => {
                let character = entity.resolve_char_ref().map_err(|_| Fault::Damaged)?;
                match (character, &*entity.xml10_content()) {
                    (Some(character), _) => visitor.text(character.encode_utf8(&mut [0; 4])),
                    (None, "amp") => visitor.text("&"),
                    (None, "lt") => visitor.text("<"),
                    (None, "gt") => visitor.text(">"),
                    (None, "quot") => visitor.text("\""),
                    (None, "apos") => visitor.text("'"),
                    // Entities of a document's own are never expanded: that is how bombs are made.
                    (None, _) => {}
                }
            }
            Event::Eof if depth > 0 => return Err(Fault::Damaged),
            Event::Eof => return Ok(()),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
}

/// The value of an attribute, by its local name.
pub(super) fn attribute(element: &BytesStart, name: &str) -> Option<String> {
    // Without the check for doubles, which takes the square of their number.
    let mut attributes = element.attributes();
    let mut attributes = attributes.with_checks(false).filter_map(Result::ok);
    let found = attributes.find(|attribute| attribute.key.local_name().into_inner() == name)?;
    let value = found.normalized_value(XmlVersion::Implicit1_0);
    Some(value.map_or_else(|_| found.value.to_string(), std::borrow::Cow::into_owned))
}

/// An attribute that is a number.
pub(super) fn count(element: &BytesStart, name: &str) -> Option<usize> {
    attribute(element, name)?.parse().ok()
}

/// Collects the text of the elements called `inside`, one line for each called `line`.
pub(super) struct Lines<'n> {
    inside: &'n [&'n str],
    line: &'n str,
    /// How many of `inside` are around this place.
    within: usize,
    pub out: String,
}

impl<'n> Lines<'n> {
    /// All of them in a part.
    pub(super) fn of(xml: &str, inside: &'n [&'n str], line: &'n str) -> Result<String, Fault> {
        let mut lines = Self { inside, line, within: 0, out: String::new() };
        walk(xml, &mut lines)?;
        Ok(lines.out)
    }
}

impl Visitor for Lines<'_> {
    fn enter(&mut self, name: &str, _element: &BytesStart) {
        self.within += usize::from(self.inside.contains(&name));
    }

    fn leave(&mut self, name: &str) {
        self.within -= usize::from(self.inside.contains(&name));
        if name == self.line && !self.out.is_empty() && !self.out.ends_with('\n') {
            self.out.push('\n');
        }
    }

    fn text(&mut self, text: &str) {
        if self.within > 0 {
            self.out.push_str(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_unescaped_and_a_flood_of_them_takes_linear_time() {
        struct Value(Option<String>);
        impl Visitor for Value {
            fn enter(&mut self, _name: &str, element: &BytesStart) {
                self.0 = attribute(element, "v");
            }
        }
        let mut value = Value(None);
        walk("<a x:v='1 &amp;&#x32; &own;'/>", &mut value).unwrap();
        assert_eq!(value.0.as_deref(), Some("1 &amp;&#x32; &own;"));
        walk("<a x:v='1 &amp;&#x32;'/>", &mut value).unwrap();
        assert_eq!(value.0.as_deref(), Some("1 &2"));
        let flood: String = (0..500_000).map(|n| format!("a{n}='' ")).collect();
        walk(&format!("<a {flood} v='end'/>"), &mut value).unwrap();
        assert_eq!(value.0.as_deref(), Some("end"));
    }

    #[test]
    fn lines_are_the_text_of_what_was_asked_for() {
        let xml = "<c><p><t>a</t><x>no</x><t>b &lt;</t></p><p><t>c</t></p></c>";
        assert_eq!(Lines::of(xml, &["t"], "p").unwrap(), "ab <\nc\n");
    }
}
