//! The members of an archive as JSON.

use std::io::Write;

use serde_json::{Map, Value, json};

use super::super::frame::{Fault, Kind as FrameKind, MAX_PAYLOAD, MediaType};
use super::super::worker::write_frame;
use super::walk::{Entry, Format, Kind, Visitor};

/// Bytes of all names together.
const MAX_NAMES: usize = 16 << 20;

#[derive(Default)]
pub(super) struct List {
    members: Vec<Value>,
    names: usize,
}

impl Visitor for List {
    fn entry(&mut self, entry: Entry) -> Result<bool, Fault> {
        let (kind, target) = match entry.kind {
            Kind::File => ("file", None),
            Kind::Directory => ("directory", None),
            Kind::Symlink(target) => ("symlink", Some(target)),
            Kind::Hardlink(target) => ("hardlink", Some(target)),
        };
        self.names += entry.path.len() + target.as_ref().map_or(0, String::len);
        if self.names > MAX_NAMES {
            return Err(Fault::Complex);
        }
        let modified = entry.modified.and_then(|time| jiff::Timestamp::from_second(time).ok());
        let mut member = Map::new();
        member.insert("name".to_owned(), entry.path.into());
        member.insert("kind".to_owned(), kind.into());
        member.insert("size".to_owned(), json!(entry.size));
        member.insert("packed_size".to_owned(), json!(entry.packed));
        member.insert("modified_at".to_owned(), json!(modified.map(|time| time.to_string())));
        member.insert("encrypted".to_owned(), entry.encrypted.into());
        if let Some(target) = target {
            member.insert("target".to_owned(), target.into());
        }
        self.members.push(Value::Object(member));
        Ok(false)
    }

    fn content(&mut self, _bytes: &[u8]) -> Result<(), Fault> {
        Ok(())
    }

    fn ended(&mut self, bytes: u64) {
        // A stream's length is known when it has ended; nothing is listed inside of it.
        if let Some(member) = self.members.iter_mut().rev().find(|member| member["size"].is_null())
        {
            member["size"] = bytes.into();
        }
    }

    fn descends(&self, _path: &str) -> bool {
        true
    }
}

impl List {
    pub(super) fn write(
        self,
        format: Format,
        most: u64,
        output: &mut impl Write,
    ) -> Result<(), Fault> {
        let json = json!({ "format": format.as_str(), "members": self.members });
        let bytes = json.to_string().into_bytes();
        if bytes.len() as u64 > most {
            return Err(Fault::Limit);
        }
        let write = |output: &mut _| {
            write_frame(output, FrameKind::Head, MediaType::Json.as_str().as_bytes())?;
            for piece in bytes.chunks(MAX_PAYLOAD) {
                write_frame(output, FrameKind::Data, piece)?;
            }
            write_frame(output, FrameKind::End, b"")
        };
        write(output).map_err(|_| Fault::Limit)
    }
}
