//! XML written as it was read, but for what is taken out of it.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::super::frame::Fault;
use super::super::metadata::office::{MAX_NESTING, telling};

/// What becomes of an element.
pub(super) enum Fate {
    Stays,
    /// It goes with all that is in it.
    Goes,
    /// The nearest element of this name around it goes.
    TakesAlong(&'static str),
}

/// A part without what tells, and without what `fate` adds to that. Comments go too: nobody sees
/// them who reads the document.
pub(super) fn rewritten(
    part: &str,
    xml: &str,
    mut fate: impl FnMut(&BytesStart) -> Fate,
) -> Result<Vec<u8>, Fault> {
    let mut reader = Reader::from_str(xml);
    let mut made = String::with_capacity(xml.len());
    // Open elements: the local name, and where they began.
    let mut open: Vec<(String, usize)> = Vec::new();
    // Elements still open inside of what goes.
    let mut skipped = 0usize;
    loop {
        let event = reader.read_event().map_err(|_| Fault::Damaged)?;
        if skipped > 0 {
            match event {
                Event::Start(_) => skipped += 1,
                Event::End(_) => skipped -= 1,
                Event::Eof => return Err(Fault::Damaged),
                _ => {}
            }
            continue;
        }
        match event {
            Event::Start(element) => {
                if open.len() == MAX_NESTING {
                    return Err(Fault::Complex);
                }
                match judged(part, &element, &mut fate) {
                    Fate::Stays => {
                        open.push((element.local_name().into_inner().to_owned(), made.len()));
                        tag(&mut made, &element, ">")?;
                    }
                    Fate::Goes => skipped = 1,
                    Fate::TakesAlong(name) => skipped = 1 + taken(&mut open, &mut made, name),
                }
            }
            Event::Empty(element) => match judged(part, &element, &mut fate) {
                Fate::Stays => tag(&mut made, &element, "/>")?,
                Fate::Goes => {}
                Fate::TakesAlong(name) => skipped = taken(&mut open, &mut made, name),
            },
            Event::End(element) => {
                open.pop().ok_or(Fault::Damaged)?;
                made.push_str("</");
                made.push_str(element.name().into_inner());
                made.push('>');
            }
            Event::Text(text) => made.push_str(&text),
            Event::CData(text) => {
                made.push_str("<![CDATA[");
                made.push_str(&text);
                made.push_str("]]>");
            }
            Event::GeneralRef(entity) => {
                made.push('&');
                made.push_str(&entity);
                made.push(';');
            }
            Event::Decl(_) => {
                made.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>");
            }
            Event::Comment(_) | Event::PI(_) | Event::DocType(_) => {}
            Event::Eof if open.is_empty() => return Ok(made.into_bytes()),
            Event::Eof => return Err(Fault::Damaged),
        }
    }
}

fn judged(part: &str, element: &BytesStart, fate: &mut impl FnMut(&BytesStart) -> Fate) -> Fate {
    if telling::element(part, element).is_some() { Fate::Goes } else { fate(element) }
}

/// Takes back all that was written since the nearest element of this name began. How many open
/// elements went; none if there is no such element.
fn taken(open: &mut Vec<(String, usize)>, made: &mut String, name: &str) -> usize {
    let Some(at) = open.iter().rposition(|(known, _)| known == name) else { return 0 };
    made.truncate(open[at].1);
    let count = open.len() - at;
    open.truncate(at);
    count
}

fn tag(made: &mut String, element: &BytesStart, end: &str) -> Result<(), Fault> {
    made.push('<');
    made.push_str(element.name().into_inner());
    for attribute in element.attributes() {
        let attribute = attribute.map_err(|_| Fault::Damaged)?;
        let key = attribute.key.into_inner();
        if telling::dangles(element.local_name().into_inner(), key) {
            continue;
        }
        let value = match telling::attribute(key) {
            Some(_) if telling::is_demanded(key) => telling::NOBODY,
            Some(_) => continue,
            None => &attribute.value,
        };
        made.push(' ');
        made.push_str(key);
        made.push_str("=\"");
        made.push_str(&value.replace('"', "&quot;"));
        made.push('"');
    }
    made.push_str(end);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(xml: &str) -> String {
        let fate = |element: &BytesStart| match element.local_name().into_inner() {
            "note" => Fate::TakesAlong("shape"),
            "gone" => Fate::Goes,
            _ => Fate::Stays,
        };
        String::from_utf8(rewritten("x.xml", xml, fate).unwrap()).unwrap()
    }

    #[test]
    fn what_tells_goes_and_the_rest_stays_as_it_was() {
        let xml = "<w:p w:rsidR='1' a='\"x\" &amp; y'><w:ins w:author=\"Jane\" w:date=\"2020\"/>\
            <w:rsids><w:rsid/></w:rsids><!-- Jane -->t &lt; u<![CDATA[<]]></w:p>";
        let expected = "<w:p a=\"&quot;x&quot; &amp; y\"><w:ins w:author=\"Author\"/>\
            t &lt; u<![CDATA[<]]></w:p>";
        assert_eq!(made(xml), expected);
        assert_eq!(made("<a><gone>x<b/></gone>y</a>"), "<a>y</a>");
    }

    #[test]
    fn an_element_may_take_the_one_around_it_along() {
        assert_eq!(made("<a><shape><b>x<note>y</note>z</b></shape>w</a>"), "<a>w</a>");
        assert_eq!(made("<a><shape><b>x<note/>z</b></shape>w</a>"), "<a>w</a>");
        assert_eq!(made("<a><note>y</note>w</a>"), "<a>w</a>");
    }

    #[test]
    fn what_does_not_nest_is_damage_and_what_nests_too_deep_too_complex() {
        let fate = |_: &BytesStart| Fate::Stays;
        assert_eq!(rewritten("x", "<a><b></a>", fate), Err(Fault::Damaged));
        assert_eq!(rewritten("x", "<a>", fate), Err(Fault::Damaged));
        assert_eq!(rewritten("x", &"<a>".repeat(1000), fate), Err(Fault::Complex));
    }
}
