//! Containers that many formats share: zip archives by their members, OLE files by their streams.

use std::io::Read;

use super::super::package;
use super::{Format, format};

/// The member names looked at; formats name themselves early.
const MEMBERS: usize = 4096;

const OPEN_DOCUMENT: &str = "application/vnd.oasis.opendocument.";

/// The beginnings of a zip (APPNOTE, 4.3.7, 4.3.16, 8.5.3, 8.5.4): a member, the end of an empty
/// one, and the marks of one that is or was meant to be cut into several files.
const BEGINNINGS: [&[u8]; 4] = [b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08", b"PK00PK\x03\x04"];

/// What a zip archive is; `None` if it is none.
pub(super) fn zip(document: &[u8], whole: bool) -> Option<Format> {
    if !BEGINNINGS.iter().any(|mark| document.starts_with(mark)) {
        return None;
    }
    let archive = whole.then(|| package::archive(document).ok()).flatten();
    let (names, mimetype) = match archive {
        Some(mut archive) => {
            let names = archive.file_names_raw().take(MEMBERS).map(<[u8]>::to_vec).collect();
            let mut mimetype = Vec::new();
            if let Ok(member) = archive.by_name("mimetype") {
                // A failed read leaves what it is: not a mimetype.
                let _ = member.take(128).read_to_end(&mut mimetype);
            }
            (names, mimetype)
        }
        None => first_members(document),
    };
    let known = open_document(&mimetype).or_else(|| office(&names));
    Some(known.unwrap_or(format("application/zip", "zip")))
}

/// Whether a zip's directory ends where the document does, whatever it begins with.
pub(super) fn ends_as_zip(document: &[u8]) -> bool {
    let last = document.len().saturating_sub(22 + usize::from(u16::MAX));
    let tail = &document[last..];
    let Some(end) = memchr::memmem::rfind(tail, b"PK\x05\x06").and_then(|at| tail.get(at..)) else {
        return false;
    };
    let Some(record) = end.first_chunk::<22>() else { return false };
    let comment = usize::from(u16::from_le_bytes([record[20], record[21]]));
    let size = u32::from_le_bytes([record[12], record[13], record[14], record[15]]);
    let directory = usize::try_from(size).ok().and_then(|size| {
        let begin = (document.len() - end.len()).checked_sub(size)?;
        document.get(begin..)
    });
    end.len() == 22 + comment && directory.is_some_and(|at| at.starts_with(b"PK\x01\x02"))
}

/// OpenDocument and EPUB say what they are in a member called `mimetype`.
fn open_document(mimetype: &[u8]) -> Option<Format> {
    let named = mimetype.trim_ascii();
    if named == b"application/epub+zip" {
        return Some(format("application/epub+zip", "epub"));
    }
    let kind = std::str::from_utf8(named).ok()?.strip_prefix(OPEN_DOCUMENT)?;
    Some(match kind {
        "text" => format("application/vnd.oasis.opendocument.text", "odt"),
        "text-template" => format("application/vnd.oasis.opendocument.text-template", "ott"),
        "spreadsheet" => format("application/vnd.oasis.opendocument.spreadsheet", "ods"),
        "presentation" => format("application/vnd.oasis.opendocument.presentation", "odp"),
        "graphics" => format("application/vnd.oasis.opendocument.graphics", "odg"),
        "formula" => format("application/vnd.oasis.opendocument.formula", "odf"),
        _ => return None,
    })
}

fn office(names: &[Vec<u8>]) -> Option<Format> {
    let has = |wanted: &str| {
        let same = |name: &Vec<u8>| {
            let head = name.get(..wanted.len()).unwrap_or_default();
            head.eq_ignore_ascii_case(wanted.as_bytes())
        };
        names.iter().any(same)
    };
    if has("[Content_Types].xml") || has("_rels/.rels") {
        return if has("word/vbaProject") {
            Some(format("application/vnd.ms-word.document.macroEnabled.12", "docm"))
        } else if has("word/") {
            Some(format(
                "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
                "docx",
            ))
        } else if has("xl/workbook.bin") {
            Some(format("application/vnd.ms-excel.sheet.binary.macroEnabled.12", "xlsb"))
        } else if has("xl/vbaProject") {
            Some(format("application/vnd.ms-excel.sheet.macroEnabled.12", "xlsm"))
        } else if has("xl/") {
            Some(format(
                "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
                "xlsx",
            ))
        } else if has("ppt/vbaProject") {
            Some(format("application/vnd.ms-powerpoint.presentation.macroEnabled.12", "pptm"))
        } else if has("ppt/") {
            Some(format(
                "application/vnd.openxmlformats-officedocument.presentationml.presentation",
                "pptx",
            ))
        } else if has("visio/") {
            Some(format("application/vnd.ms-visio.drawing", "vsdx"))
        } else {
            None
        };
    }
    if has("AndroidManifest.xml") {
        return Some(format("application/vnd.android.package-archive", "apk"));
    }
    has("META-INF/MANIFEST.MF").then_some(format("application/java-archive", "jar"))
}

/// Names, and the content of a stored `mimetype`, out of the local headers: for an archive whose
/// directory is cut off.
fn first_members(document: &[u8]) -> (Vec<Vec<u8>>, Vec<u8>) {
    let (mut names, mut mimetype, mut rest) = (Vec::new(), Vec::new(), document);
    while names.len() < MEMBERS && rest.starts_with(b"PK\x03\x04") {
        let Some(header) = rest.first_chunk::<30>() else { break };
        let short = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
        let size = u32::from_le_bytes([header[18], header[19], header[20], header[21]]);
        let (name_end, flags) = (30 + short(26), short(6));
        let data = name_end + short(28);
        let Some(name) = rest.get(30..name_end) else { break };
        let end = data.saturating_add(usize::try_from(size).unwrap_or(usize::MAX));
        if name == b"mimetype" && short(8) == 0 {
            mimetype = rest.get(data..end.min(data + 128)).unwrap_or_default().to_vec();
        }
        names.push(name.to_vec());
        rest = if flags & 8 == 0 {
            rest.get(end..).unwrap_or_default()
        } else {
            // Its size follows its data: the next header is wherever its signature is.
            let next = rest[data.min(rest.len())..].windows(4).position(|b| b == b"PK\x03\x04");
            next.map_or(&[], |at| &rest[data + at..])
        };
    }
    (names, mimetype)
}

/// What an OLE file is, by the names of its streams. Directory entries are 128 bytes long and
/// begin with the name in UTF-16, so they are found without following the allocation table.
pub(super) fn ole(document: &[u8]) -> Format {
    let entries = || document.chunks_exact(128);
    let has = |wanted: &str| {
        let name: Vec<u8> = wanted.encode_utf16().flat_map(u16::to_le_bytes).collect();
        entries().any(|entry| entry[..name.len()].eq_ignore_ascii_case(&name))
    };
    // The root's class comes first: an embedded document brings its own streams along.
    let root: Vec<u8> = "Root Entry\0".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let root = entries().find(|entry| entry.starts_with(&root));
    let class = root.map_or(0, |root| u32::from_le_bytes([root[80], root[81], root[82], root[83]]));
    if has("EncryptedPackage") {
        ENCRYPTED_OFFICE
    } else if matches!(class, 0x20810 | 0x20820) {
        format("application/vnd.ms-excel", "xls")
    } else if class == 0x6481_8d10 {
        format("application/vnd.ms-powerpoint", "ppt")
    } else if class == 0x20906 || has("WordDocument") {
        format("application/msword", "doc")
    } else if has("Workbook") || has("Book\0") {
        format("application/vnd.ms-excel", "xls")
    } else if has("PowerPoint Document") {
        format("application/vnd.ms-powerpoint", "ppt")
    } else if has("__properties_version1") {
        format("application/vnd.ms-outlook", "msg")
    } else {
        format("application/x-ole-storage", "ole")
    }
}

/// An Office document behind a password.
pub(in crate::process) const ENCRYPTED_OFFICE: Format =
    format("application/x-ooxml-protected", "ooxml");

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use super::*;

    fn archive(members: &[(&str, &str)]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let stored = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored);
        for (name, content) in members {
            writer.start_file(*name, stored).unwrap();
            writer.write_all(content.as_bytes()).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn members_tell_what_a_zip_is_even_when_its_directory_is_cut_off() {
        let cases: &[(&[(&str, &str)], &str)] = &[
            (&[("[Content_Types].xml", ""), ("word/document.xml", "")], "docx"),
            (&[("[Content_Types].xml", ""), ("xl/workbook.xml", "")], "xlsx"),
            (&[("mimetype", "application/vnd.oasis.opendocument.text"), ("x", "")], "odt"),
            (&[("mimetype", "application/epub+zip"), ("x", "")], "epub"),
            (&[("META-INF/MANIFEST.MF", "")], "jar"),
            (&[("report.docx", "word/")], "zip"),
        ];
        for (members, extension) in cases {
            let bytes = archive(members);
            assert_eq!(zip(&bytes, true).unwrap().extension, *extension);
            assert_eq!(zip(&bytes[..bytes.len() - 22], true).unwrap().extension, *extension);
            assert_eq!(zip(&bytes, false).unwrap().extension, *extension);
        }
    }

    #[test]
    fn a_header_of_nonsense_is_still_a_zip() {
        let mut bytes = b"PK\x03\x04".to_vec();
        bytes.extend([0xff; 40]);
        assert_eq!(zip(&bytes, true).unwrap().extension, "zip");
    }
}
