//! PDF (ISO 32000-2): the information dictionary, XMP wherever it hangs, and what else tells.

use std::collections::BTreeSet;

use lopdf::{DecompressError, Dictionary, Document, Error, LoadOptions, Object, ObjectId, Stream};

use super::super::frame::Fault;
use super::super::picture::icc;
use super::super::text::decode;
use super::{About, Report, images, xmp};

/// Bytes any one stream may unpack to.
pub(in crate::process) const MAX_STREAM: usize = 64 << 20;

/// Objects nested deeper than this inside of one another are refused.
pub(in crate::process) const MAX_NESTING: usize = 128;

pub(in crate::process) fn load(document: &[u8], password: Option<&str>) -> Result<Document, Fault> {
    let options = LoadOptions {
        password: password.map(str::to_owned),
        max_decompressed_size: Some(MAX_STREAM),
        ..LoadOptions::default()
    };
    let document =
        Document::load_mem_with_options(document, options).map_err(|error| match error {
            Error::InvalidPassword
            | Error::Decryption(_)
            | Error::UnsupportedSecurityHandler(_) => Fault::Encrypted,
            Error::Decompress(DecompressError::MemoryLimitExceeded { .. }) => Fault::Bomb,
            Error::RecursionLimit | Error::ReferenceLimit => Fault::Complex,
            _ => Fault::Damaged,
        })?;
    if document.trailer.has(b"Encrypt") && !document.was_encrypted() {
        return Err(Fault::Encrypted);
    }
    Ok(document)
}

/// Objects that are strings, for entries that only point at one.
pub(in crate::process) fn strings(document: &Document) -> BTreeSet<ObjectId> {
    let text = |object: &Object| matches!(object, Object::String(..));
    document.objects.iter().filter(|(_, object)| text(object)).map(|(id, _)| *id).collect()
}

/// What an entry of a dictionary tells of, whatever the dictionary is for.
pub(in crate::process) fn entry(
    holder: &Dictionary,
    key: &[u8],
    value: &Object,
    strings: &BTreeSet<ObjectId>,
) -> Option<About> {
    let is_text = match value {
        Object::Null => return None,
        Object::String(..) => true,
        Object::Reference(id) => strings.contains(id),
        _ => false,
    };
    let subtype = holder.get(b"Subtype").and_then(Object::as_name).unwrap_or_default();
    let is_annotation = holder.has(b"Rect") && !subtype.is_empty();
    match key {
        b"Metadata" | b"PieceInfo" | b"AF" | b"EF" | b"Collection" | b"XFA" | b"JS"
        | b"JavaScript" | b"EmbeddedFiles" | b"AA" | b"Perms" | b"DSS" | b"Legal"
        | b"SpiderInfo" | b"IDS" | b"URLS" | b"CreatorInfo" => Some(About::Hidden),
        b"LastModified" | b"CreationDate" | b"ModDate" => Some(About::Time),
        b"M" | b"SourceModified" if is_text => Some(About::Time),
        b"Author" if is_text => Some(About::Author),
        b"Producer" | b"Creator" if is_text => Some(About::Software),
        b"NM" if is_annotation => Some(About::Other),
        b"T" if is_annotation && subtype != b"Widget" => Some(About::Author),
        _ => None,
    }
}

/// A dictionary that does nothing but tell, run or attach: what it is.
pub(in crate::process) fn dictionary(dictionary: &Dictionary) -> Option<&'static str> {
    let name = |key: &[u8]| dictionary.get(key).and_then(Object::as_name).unwrap_or_default();
    match name(b"Type") {
        b"Metadata" => return Some("XMP"),
        b"EmbeddedFile" => return Some("an attachment"),
        b"Sig" | b"DocTimeStamp" => return Some("a signature"),
        _ => {}
    }
    if dictionary.has(b"ByteRange") && dictionary.has(b"Contents") {
        return Some("a signature");
    }
    match name(b"S") {
        b"JavaScript" | b"RichMediaExecute" => return Some("a script"),
        b"Launch" | b"ImportData" if dictionary.has(b"F") || dictionary.has(b"Win") => {
            return Some("a command");
        }
        _ => {}
    }
    let is_attachment = matches!(name(b"Subtype"), b"FileAttachment" | b"RichMedia");
    (is_attachment && dictionary.has(b"Rect")).then_some("an attachment")
}

/// The image file that a stream's last filter decodes: that filter, and the file, out of the
/// filters in front of it. Empty where those cannot be undone.
pub(in crate::process) fn image(stream: &Stream) -> Option<(&'static str, Vec<u8>)> {
    let filters = stream.filters().ok()?;
    let (last, before) = filters.split_last()?;
    let last = match *last {
        b"DCTDecode" => "DCTDecode",
        b"JPXDecode" => "JPXDecode",
        _ => return None,
    };
    if before.is_empty() {
        return Some((last, stream.content.clone()));
    }
    let before = before.iter().map(|name| Object::Name(name.to_vec())).collect();
    let mut packed = Stream::new(Dictionary::new(), stream.content.clone());
    packed.dict.set("Filter", Object::Array(before));
    Some((last, packed.get_plain_content_with_limit(MAX_STREAM).unwrap_or_default()))
}

/// The colour profile that a stream holds.
pub(in crate::process) fn profile(stream: &Stream) -> Option<Vec<u8>> {
    stream.dict.get(b"N").ok()?.as_i64().ok()?;
    let plain = stream.get_plain_content_with_limit(icc::MAX_BYTES).ok()?;
    (plain.get(36..40) == Some(b"acsp")).then_some(plain)
}

pub(super) fn read(
    report: &mut Report,
    document: &[u8],
    password: Option<&str>,
) -> Result<(), Fault> {
    revisions(report, document);
    let document = load(document, password)?;
    let information = document.trailer.get(b"Info").ok();
    let information = information.and_then(|info| document.dereference(info).ok());
    if let Some((id, Object::Dictionary(information))) = information {
        for (key, value) in information.iter() {
            let field = format!("info:{}", decode(key));
            let value = document.dereference(value).map_or(value, |(_, value)| value);
            report.say_named(field, shown(value));
        }
        let mut reader = Reader { report, strings: strings(&document), skip: id };
        return reader.all(&document);
    }
    let mut reader = Reader { report, strings: strings(&document), skip: None };
    reader.all(&document)
}

/// Earlier states of a document stay in it when it is saved by appending.
fn revisions(report: &mut Report, document: &[u8]) {
    let ends = document.windows(9).filter(|bytes| *bytes == b"startxref").count();
    let is_linear = document[..document.len().min(2048)].windows(11).any(|b| b == b"/Linearized");
    if ends > 1 + usize::from(is_linear) {
        report.say(About::Hidden, "pdf:earlier versions", (ends - 1).to_string());
    }
    let end = document.windows(5).rposition(|bytes| bytes == b"%%EOF");
    let tail = end.map_or(0, |end| document[end + 5..].trim_ascii().len());
    if tail > 0 {
        report.say(About::Hidden, "pdf:trailer", format!("{tail} bytes"));
    }
}

struct Reader<'r> {
    report: &'r mut Report,
    strings: BTreeSet<ObjectId>,
    /// The information dictionary, which was read.
    skip: Option<ObjectId>,
}

impl Reader<'_> {
    fn all(&mut self, document: &Document) -> Result<(), Fault> {
        for (id, object) in &document.objects {
            if Some(*id) != self.skip {
                self.object(object, 0)?;
            }
        }
        Ok(())
    }

    fn object(&mut self, object: &Object, depth: usize) -> Result<(), Fault> {
        if depth > MAX_NESTING {
            return Err(Fault::Complex);
        }
        match object {
            Object::Array(array) => array.iter().try_for_each(|item| self.object(item, depth + 1)),
            Object::Dictionary(dictionary) => self.dictionary(dictionary, depth),
            Object::Stream(stream) => {
                self.stream(stream);
                self.dictionary(&stream.dict, depth)
            }
            _ => Ok(()),
        }
    }

    fn dictionary(&mut self, found: &Dictionary, depth: usize) -> Result<(), Fault> {
        // XMP is told property by property.
        if let Some(what) = dictionary(found).filter(|what| *what != "XMP") {
            self.report.say(About::Hidden, "pdf", what);
        }
        for (key, value) in found.iter() {
            if let Some(about) = entry(found, key, value, &self.strings) {
                let is_packet = key == b"Metadata" && matches!(value, Object::Reference(_));
                if !is_packet {
                    self.report.say(about, format!("pdf:{}", decode(key)), shown(value));
                }
            }
            self.object(value, depth + 1)?;
        }
        Ok(())
    }

    fn stream(&mut self, stream: &Stream) {
        if stream.dict.has_type(b"Metadata") {
            match stream.get_plain_content_with_limit(MAX_STREAM) {
                Ok(packet) => xmp::read(self.report, &packet),
                Err(_) => self.report.say(About::Hidden, "xmp", "cannot be read"),
            }
        }
        match image(stream) {
            Some((_, file)) if file.is_empty() => {
                self.report.say(About::Hidden, "pdf:image", "cannot be read");
            }
            Some(("DCTDecode", file)) if file.starts_with(b"\xff\xd8\xff") => {
                self.report.enter("image", &file);
            }
            Some(("JPXDecode", file)) => {
                let telling = telling_boxes(&file);
                if telling > 0 {
                    let boxes = format!("{telling} boxes");
                    self.report.say(About::Hidden, "pdf:image:jpeg 2000", boxes);
                }
            }
            _ => {}
        }
        if let Some(found) = profile(stream) {
            images::profile(self.report, &found);
        }
    }
}

fn shown(value: &Object) -> String {
    match value {
        Object::String(bytes, _) => match bytes.as_slice() {
            [0xfe, 0xff, ..] | [0xff, 0xfe, ..] => decode(bytes),
            bytes => bytes.iter().map(|byte| char::from(*byte)).collect(),
        },
        Object::Name(name) => decode(name),
        Object::Integer(number) => number.to_string(),
        _ => String::new(),
    }
}

/// The boxes of a JPEG 2000 file one by one: kind and bytes; empty for a bare codestream.
pub(in crate::process) fn boxes(bytes: &[u8]) -> Vec<([u8; 4], &[u8])> {
    let (mut boxes, mut rest) = (Vec::new(), bytes);
    if bytes.get(4..8) != Some(b"jP  ") {
        return boxes;
    }
    while let Some(head) = rest.first_chunk::<8>() {
        let short = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let length = match short {
            0 => rest.len() as u64,
            1 => match rest.get(8..16).and_then(|wide| wide.first_chunk()) {
                Some(wide) => u64::from_be_bytes(*wide),
                None => break,
            },
            short => short.into(),
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(rest.len());
        if length < 8 || boxes.len() > 4096 {
            break;
        }
        boxes.push(([head[4], head[5], head[6], head[7]], &rest[..length]));
        rest = &rest[length..];
    }
    boxes
}

/// Boxes that shape pixels.
pub(in crate::process) fn box_shapes_pixels(kind: [u8; 4]) -> bool {
    [b"jP  ", b"ftyp", b"rreq", b"jp2h", b"jpch", b"jplh", b"jp2c"].contains(&&kind)
}

fn telling_boxes(bytes: &[u8]) -> usize {
    boxes(bytes).iter().filter(|(kind, _)| !box_shapes_pixels(*kind)).count()
}
