//! The text of a PDF (ISO 32000-1): every glyph that is shown, in the order it is shown, with
//! spaces and line ends where the page has them.

use lopdf::{DecompressError, Dictionary, Document, Error, LoadOptions, Object, ObjectId};

use super::super::frame::Fault;

mod cmap;
mod font;
mod lines;
mod page;

/// Bytes any one stream may unpack to.
const MAX_STREAM: usize = 64 << 20;

/// Pages a document may have.
const MAX_PAGES: usize = 50_000;

/// Parents of a page that are asked for what the page itself does not say.
const MAX_PARENTS: usize = 64;

/// Pages are separated by form feeds.
pub(super) fn text(document: &[u8], password: Option<&str>) -> Result<String, Fault> {
    let document = load(document, password)?;
    let pages: Vec<ObjectId> = document.page_iter().take(MAX_PAGES + 1).collect();
    if pages.len() > MAX_PAGES {
        return Err(Fault::Complex);
    }
    if pages.is_empty() {
        return Err(Fault::Damaged);
    }
    let mut reader = page::Reader::new(&document);
    let mut text = String::new();
    for (index, page) in pages.into_iter().enumerate() {
        if index > 0 {
            text.push('\u{c}');
        }
        text.push_str(&reader.page(page)?);
    }
    Ok(text)
}

fn load(document: &[u8], password: Option<&str>) -> Result<Document, Fault> {
    let options = LoadOptions {
        password: password.map(str::to_owned),
        max_decompressed_size: Some(MAX_STREAM),
        ..LoadOptions::default()
    };
    let document = Document::load_mem_with_options(document, options).map_err(|e| fault(&e))?;
    if document.trailer.has(b"Encrypt") && !document.was_encrypted() {
        return Err(Fault::Encrypted);
    }
    Ok(document)
}

fn fault(error: &Error) -> Fault {
    match error {
        Error::InvalidPassword | Error::Decryption(_) | Error::UnsupportedSecurityHandler(_) => {
            Fault::Encrypted
        }
        Error::Decompress(DecompressError::MemoryLimitExceeded { .. }) => Fault::Bomb,
        Error::RecursionLimit | Error::ReferenceLimit => Fault::Complex,
        _ => Fault::Damaged,
    }
}

/// An entry of a dictionary, references followed.
fn entry<'d>(document: &'d Document, dictionary: &'d Dictionary, key: &[u8]) -> Option<&'d Object> {
    let object = dictionary.get(key).ok()?;
    document.dereference(object).ok().map(|(_, object)| object)
}

/// An entry that is a dictionary, or a stream with one.
fn dictionary<'d>(
    document: &'d Document,
    holder: &'d Dictionary,
    key: &[u8],
) -> Option<&'d Dictionary> {
    match entry(document, holder, key)? {
        Object::Dictionary(dictionary) => Some(dictionary),
        Object::Stream(stream) => Some(&stream.dict),
        _ => None,
    }
}

/// An entry that is an array of numbers.
fn numbers(document: &Document, holder: &Dictionary, key: &[u8]) -> Option<Vec<f64>> {
    let array = entry(document, holder, key)?.as_array().ok()?;
    array.iter().take(4096).map(|object| number(document, object)).collect()
}

fn number(document: &Document, object: &Object) -> Option<f64> {
    let (_, object) = document.dereference(object).ok()?;
    object.as_float().ok().map(f64::from).filter(|number| number.is_finite())
}

/// The page's resources, or the nearest parent's.
fn resources(document: &Document, page: ObjectId) -> Option<&Dictionary> {
    let mut node = document.get_dictionary(page).ok()?;
    for _ in 0..MAX_PARENTS {
        if let Some(resources) = dictionary(document, node, b"Resources") {
            return Some(resources);
        }
        node = dictionary(document, node, b"Parent")?;
    }
    None
}

#[cfg(test)]
mod tests {
    use lopdf::{Stream, dictionary};

    use super::*;

    /// A document with a page for each content stream, and Helvetica as `F1`.
    pub(super) fn document(contents: &[&str]) -> Document {
        let mut document = Document::with_version("1.5");
        let pages = document.new_object_id();
        let font = document.add_object(dictionary! {
            "Type" => "Font", "Subtype" => "Type1", "BaseFont" => "Helvetica",
            "Encoding" => "WinAnsiEncoding",
        });
        let resources = dictionary! { "Font" => dictionary! { "F1" => font } };
        let mut kids: Vec<Object> = Vec::new();
        for content in contents {
            let stream = Stream::new(dictionary! {}, content.as_bytes().to_vec());
            let content = document.add_object(stream);
            let page = dictionary! { "Type" => "Page", "Parent" => pages, "Contents" => content };
            kids.push(document.add_object(page).into());
        }
        let count = i64::try_from(kids.len()).unwrap();
        let tree = dictionary! {
            "Type" => "Pages", "Kids" => kids, "Count" => count, "Resources" => resources,
        };
        document.objects.insert(pages, tree.into());
        let catalog = document.add_object(dictionary! { "Type" => "Catalog", "Pages" => pages });
        document.trailer.set("Root", catalog);
        document
    }

    pub(super) fn bytes(mut document: Document) -> Vec<u8> {
        let mut bytes = Vec::new();
        document.save_to(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn words_lines_and_pages_are_told_apart() {
        let first = "BT /F1 12 Tf 72 700 Td (Hello) Tj 40 0 Td (world) Tj 0 -14 Td [(Ke) 80 (rn)\
            -400 (ed)] TJ 14 TL T* (line \\374) Tj ET";
        let document = document(&[first, "BT /F1 9 Tf 1 0 0 1 10 10 Tm (Two) Tj ET"]);
        let text = text(&bytes(document), None).unwrap();
        assert_eq!(text, "Hello world\nKern ed\nline ü\n\u{c}Two\n");
    }

    #[test]
    fn a_word_broken_at_a_lines_end_becomes_whole_but_a_name_does_not() {
        let content =
            "BT /F1 12 Tf 14 TL 72 700 Td (a syl-) Tj T* (lable of Jean-) Tj T* (Paul) Tj ET";
        let text = text(&bytes(document(&[content])), None).unwrap();
        assert_eq!(text, "a syllable of Jean-\nPaul\n");
    }

    #[test]
    fn a_password_opens_and_its_lack_is_told() {
        let mut document = document(&["BT /F1 12 Tf (Secret) Tj ET"]);
        let id = Object::string_literal(b"0123456789abcdef".to_vec());
        document.trailer.set("ID", Object::Array(vec![id.clone(), id]));
        let version = lopdf::EncryptionVersion::V2 {
            document: &document,
            owner_password: "owner",
            user_password: "user",
            key_length: 128,
            permissions: lopdf::Permissions::all(),
        };
        let state = lopdf::EncryptionState::try_from(version).unwrap();
        document.encrypt(&state).unwrap();
        let bytes = bytes(document);
        assert_eq!(text(&bytes, None), Err(Fault::Encrypted));
        assert_eq!(text(&bytes, Some("wrong")), Err(Fault::Encrypted));
        assert_eq!(text(&bytes, Some("user")).unwrap(), "Secret\n");
    }

    #[test]
    fn a_form_that_draws_itself_ends() {
        let mut document = document(&["/F Do"]);
        let form = document.new_object_id();
        let fields = dictionary! { "Type" => "XObject", "Subtype" => "Form" };
        let stream = Stream::new(fields, b"/F Do /F Do /F Do".to_vec());
        document.objects.insert(form, stream.into());
        let page = document.page_iter().next().unwrap();
        let resources = dictionary! { "XObject" => dictionary! { "F" => form } };
        document.get_object_mut(page).unwrap().as_dict_mut().unwrap().set("Resources", resources);
        assert_eq!(text(&bytes(document), None), Err(Fault::Complex));
    }

    #[test]
    fn a_page_that_unpacks_to_too_much_is_a_bomb_and_nonsense_is_damage() {
        let mut document = document(&[&" ".repeat(MAX_STREAM + 1)]);
        document.compress();
        let bytes = bytes(document);
        assert!(bytes.len() < 1 << 20);
        assert_eq!(text(&bytes, None), Err(Fault::Bomb));
        assert_eq!(text(b"%PDF-1.4 nonsense", None), Err(Fault::Damaged));
    }
}
