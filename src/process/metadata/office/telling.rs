//! What in an Office or OpenDocument package tells of people, machines and times: parts, relations,
//! elements and attributes. `metadata` names them, `scrub` takes them out.

use quick_xml::events::BytesStart;

use super::super::About;

/// A part that does nothing but tell, by where such parts always are.
pub(in crate::process) fn part(name: &str) -> Option<About> {
    let name = name.to_ascii_lowercase();
    let (folder, file) = name.rsplit_once('/').unwrap_or(("", &name));
    let below = |start: &str| name.starts_with(start);
    let inside = |folder_name: &str| folder.rsplit('/').any(|part| part == folder_name);
    if below("docprops/") {
        return Some(if file.starts_with("thumbnail") { About::Hidden } else { About::Other });
    }
    let hidden = below("customxml/")
        || below("_xmlsignatures/")
        || below("[trash]/")
        || below("thumbnails/")
        || (below("meta-inf/") && file.contains("signatures"))
        || matches!(&*name, "manifest.rdf" | "layout-cache")
        || inside("printersettings");
    if hidden {
        return Some(About::Hidden);
    }
    let is_comments = file.starts_with("comments") && file.ends_with(".xml");
    let people = is_comments
        || inside("comments")
        || inside("threadedcomments")
        || inside("persons")
        || inside("revisions")
        || inside("changesinfos")
        || matches!(file, "commentauthors.xml" | "authors.xml" | "revisioninfo.xml")
        || matches!(&*name, "word/people.xml");
    if people {
        return Some(About::Author);
    }
    (file == "meta.xml").then_some(About::Other)
}

/// A relation to such a part, by the last word of its type.
pub(in crate::process) fn relation(kind: &str) -> bool {
    let word = kind.rsplit('/').next().unwrap_or_default();
    matches!(
        word,
        "core-properties"
            | "extended-properties"
            | "custom-properties"
            | "thumbnail"
            | "comments"
            | "commentsExtended"
            | "commentsIds"
            | "commentsExtensible"
            | "people"
            | "commentAuthors"
            | "authors"
            | "threadedComment"
            | "person"
            | "printerSettings"
            | "attachedTemplate"
            | "customXml"
            | "customXmlProps"
            | "origin"
            | "signature"
            | "revisionInfo"
            | "changesInfo"
            | "revisionHeaders"
            | "usernames"
            | "mailMergeSource"
            | "mailMergeHeaderSource"
            | "recipientData"
    )
}

/// An element of a part that tells, with all that is in it.
pub(in crate::process) fn element(part: &str, element: &BytesStart) -> Option<About> {
    let qualified = element.name().into_inner();
    let local = element.local_name().into_inner();
    let about = match (qualified, local) {
        ("office:annotation" | "office:annotation-end", _)
        | (_, "commentRangeStart" | "commentRangeEnd" | "commentReference" | "annotationRef") => {
            About::Text
        }
        ("dc:creator" | "dc:date" | "meta:creator-initials" | "meta:date-string", _)
        | (_, "fileSharing" | "customWorkbookViews" | "customSheetViews") => About::Author,
        (_, "attachedTemplate" | "absPath" | "mailMerge") => About::Device,
        (_, "rsids" | "rsid" | "rsidRoot" | "docVars" | "docId" | "revisionPtr" | "proofState") => {
            About::Hidden
        }
        // A workbook has metadata too, and cannot be read without it.
        ("svg:metadata" | "metadata", _) if part.ends_with(".svg") => About::Hidden,
        (_, "config-item") => {
            const ITEMS: [&str; 9] = [
                "PrinterName",
                "PrinterSetup",
                "PrinterIndependentLayout",
                "Rsid",
                "RsidRoot",
                "CurrentDatabaseDataSource",
                "CurrentDatabaseCommand",
                "DocumentTimeStamp",
                "RedlineProtectionKey",
            ];
            let name = |a: &quick_xml::events::attributes::Attribute| {
                a.key.local_name().into_inner() == "name" && ITEMS.contains(&&*a.value)
            };
            return element.attributes().flatten().any(|a| name(&a)).then_some(About::Device);
        }
        _ => return None,
    };
    Some(about)
}

/// An attribute that tells.
pub(in crate::process) fn attribute(qualified: &str) -> Option<About> {
    let (prefix, local) = qualified.split_once(':').unwrap_or(("", qualified));
    match (prefix, local) {
        ("w", "author" | "initials" | "ed") | (_, "userName") => Some(About::Author),
        ("w", "date") | (_, "dateUtc") => Some(About::Time),
        ("w14" | "w16cid", "paraId" | "textId") => Some(About::Hidden),
        (prefix, "uid") if prefix.starts_with("xr") => Some(About::Hidden),
        (_, local) if local.starts_with("rsid") || local.ends_with("-rsid") => Some(About::Hidden),
        _ => None,
    }
}

/// The name that stands where a format demands one.
pub(in crate::process) const NOBODY: &str = "Author";

/// Whether an attribute must be there, under whatever name.
pub(in crate::process) fn is_demanded(qualified: &str) -> bool {
    qualified == "w:author"
}

/// Whether an attribute names a relation that goes.
pub(in crate::process) fn dangles(element: &str, qualified: &str) -> bool {
    element == "pageSetup" && qualified == "r:id"
}
