//! XMP (ISO 16684-1): every property of a packet by its qualified name.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::super::text::decode;
use super::{About, Report};

/// Elements nested deeper than this are not looked at.
const MAX_DEPTH: usize = 64;

/// Names the properties of a packet, or says that it is there.
pub(super) fn read(report: &mut Report, packet: &[u8]) {
    let before = report.told;
    let text = decode(packet);
    let mut reader = Reader::from_str(&text);
    let mut path: Vec<String> = Vec::new();
    let whole = loop {
        match reader.read_event() {
            Ok(Event::Start(element)) => {
                attributes(report, &element);
                path.push(element.name().into_inner().to_owned());
                if path.len() > MAX_DEPTH {
                    break false;
                }
            }
            Ok(Event::Empty(element)) => attributes(report, &element),
            Ok(Event::End(_)) => drop(path.pop()),
            Ok(Event::Text(text)) if !text.xml10_content().trim().is_empty() => {
                let named = path.iter().rev().find(|name| !name.starts_with("rdf:"));
                let named = named.map_or("packet", String::as_str);
                report.say_named(format!("xmp:{named}"), text.xml10_content());
            }
            Ok(Event::Eof) => break path.is_empty(),
            Ok(_) => {}
            Err(_) => break false,
        }
    };
    if !whole || report.told == before {
        report.say(About::Hidden, "xmp", format!("{} bytes", packet.len()));
    }
}

fn attributes(report: &mut Report, element: &BytesStart) {
    for attribute in element.attributes().flatten() {
        let name = attribute.key.into_inner();
        let value = &*attribute.value;
        let structural =
            name.starts_with("xmlns") || name.starts_with("rdf:") || name == "xml:lang";
        if !structural && !value.trim().is_empty() {
            report.say_named(format!("xmp:{name}"), value);
        }
    }
}
