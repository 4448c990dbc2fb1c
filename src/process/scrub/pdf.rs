//! PDF, written anew from its live objects: no history, no attachment, no script, no author.

use std::collections::BTreeSet;

use lopdf::{Dictionary, Document, Object, ObjectId, Stream, StringFormat};

use super::super::frame::Fault;
use super::super::metadata::pdf::{
    MAX_NESTING, box_shapes_pixels, boxes, dictionary, entry, image, load, profile, strings,
};
use super::super::picture::icc;
use super::images;

pub(super) fn pdf(document: &[u8], password: Option<&str>) -> Result<Vec<u8>, Fault> {
    let mut document = load(document, password)?;
    // What was opened is written in the open; whoever has the password has the document.
    document.encryption_state = None;
    if document.catalog().is_err() {
        return Err(Fault::Damaged);
    }
    let mut cleaner = Cleaner { strings: strings(&document), gone: gone(&document) };
    for id in &cleaner.gone {
        document.objects.remove(id);
    }
    for object in document.objects.values_mut() {
        cleaner.object(object, 0)?;
    }
    let root = document.trailer.get(b"Root").map_err(|_| Fault::Damaged)?.clone();
    document.trailer = Dictionary::new();
    document.trailer.set("Root", root);
    document.prune_objects();
    document.renumber_objects();
    let id = Object::String(identifier(&document), StringFormat::Hexadecimal);
    document.trailer.set("ID", Object::Array(vec![id.clone(), id]));
    let mut bytes = Vec::new();
    document.save_to(&mut bytes).map_err(|_| Fault::Limit)?;
    Ok(bytes)
}

/// Objects that go as a whole.
fn gone(document: &Document) -> BTreeSet<ObjectId> {
    let tells = |object: &Object| match object {
        Object::Dictionary(found) => dictionary(found).is_some(),
        Object::Stream(stream) => dictionary(&stream.dict).is_some(),
        _ => false,
    };
    document.objects.iter().filter(|(_, object)| tells(object)).map(|(id, _)| *id).collect()
}

/// An identifier of this content, which says nothing of what it was before.
fn identifier(document: &Document) -> Vec<u8> {
    let mut hash = blake3::Hasher::new();
    for object in document.objects.values() {
        if let Object::Stream(stream) = object {
            hash.update(&stream.content);
        }
    }
    hash.finalize().as_bytes()[..16].to_vec()
}

struct Cleaner {
    strings: BTreeSet<ObjectId>,
    gone: BTreeSet<ObjectId>,
}

impl Cleaner {
    fn object(&mut self, object: &mut Object, depth: usize) -> Result<(), Fault> {
        if depth > MAX_NESTING {
            return Err(Fault::Complex);
        }
        match object {
            Object::Array(array) => {
                array.retain(|item| !self.goes(item));
                array.iter_mut().try_for_each(|item| self.object(item, depth + 1))
            }
            Object::Dictionary(dictionary) => self.dictionary(dictionary, depth),
            Object::Stream(found) => {
                stream(found)?;
                self.dictionary(&mut found.dict, depth)
            }
            _ => Ok(()),
        }
    }

    fn goes(&self, value: &Object) -> bool {
        match value {
            Object::Reference(id) => self.gone.contains(id),
            Object::Dictionary(found) => dictionary(found).is_some(),
            _ => false,
        }
    }

    fn dictionary(&mut self, found: &mut Dictionary, depth: usize) -> Result<(), Fault> {
        let telling: Vec<Vec<u8>> = found
            .iter()
            .filter(|(key, value)| {
                self.goes(value) || entry(found, key, value, &self.strings).is_some()
            })
            .map(|(key, _)| key.clone())
            .collect();
        for key in telling {
            found.remove(&key);
        }
        // Flags of a form whose signatures are gone.
        found.remove(b"SigFlags");
        found.iter_mut().try_for_each(|(_, value)| self.object(value, depth + 1))
    }
}

/// Images and colour profiles carry what such files carry.
fn stream(stream: &mut Stream) -> Result<(), Fault> {
    let kept = match image(stream) {
        Some(("DCTDecode", file)) if file.starts_with(b"\xff\xd8\xff") => {
            Some(("DCTDecode", images::jpeg(&file)?))
        }
        Some((filter, file)) => {
            let boxes = boxes(&file);
            let telling = boxes.iter().any(|(kind, _)| !box_shapes_pixels(*kind));
            let kept = boxes.iter().filter(|(kind, _)| box_shapes_pixels(*kind));
            telling.then(|| (filter, kept.flat_map(|(_, bytes)| bytes.iter().copied()).collect()))
        }
        None => None,
    };
    if let Some((filter, file)) = kept {
        if stream.filters().is_ok_and(|filters| filters.len() > 1) {
            stream.dict.remove(b"DecodeParms");
        }
        stream.dict.set("Filter", Object::Name(filter.as_bytes().to_vec()));
        stream.set_content(file);
    }
    if let Some(found) = profile(stream)
        && let Some(scrubbed) = icc::scrubbed(&found)
    {
        stream.dict.remove(b"Filter");
        stream.dict.remove(b"DecodeParms");
        stream.set_content(scrubbed);
        stream.compress().map_err(|_| Fault::Limit)?;
    }
    Ok(())
}
