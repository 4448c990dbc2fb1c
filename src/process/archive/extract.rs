//! One member of an archive, given while the archive is still read.

use std::io::Write;

use super::super::frame::{Fault, Kind as FrameKind, MAX_PAYLOAD, MediaType};
use super::super::worker::write_frame;
use super::walk::{Entry, Kind, Visitor};

pub(super) struct Extract<'r, W> {
    member: &'r str,
    output: &'r mut W,
    found: bool,
}

impl<'r, W: Write> Extract<'r, W> {
    pub(super) const fn new(member: &'r str, output: &'r mut W) -> Self {
        Self { member, output, found: false }
    }

    /// The end of the member, told when the whole archive was found good.
    pub(super) fn finish(self) -> Result<(), Fault> {
        if !self.found {
            return Err(Fault::NoMember);
        }
        write_frame(self.output, FrameKind::End, b"").map_err(|_| Fault::Limit)
    }
}

impl<W: Write> Visitor for Extract<'_, W> {
    fn entry(&mut self, entry: Entry) -> Result<bool, Fault> {
        if entry.path != self.member {
            return Ok(false);
        }
        // Twice the same name: nobody knows which one is meant.
        if self.found || entry.kind != Kind::File {
            return Err(Fault::NoMember);
        }
        if entry.encrypted {
            return Err(Fault::Encrypted);
        }
        self.found = true;
        let media_type = MediaType::Bytes.as_str().as_bytes();
        write_frame(self.output, FrameKind::Head, media_type).map_err(|_| Fault::Limit)?;
        Ok(true)
    }

    fn content(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        for piece in bytes.chunks(MAX_PAYLOAD) {
            write_frame(self.output, FrameKind::Data, piece).map_err(|_| Fault::Limit)?;
        }
        Ok(())
    }

    fn ended(&mut self, _bytes: u64) {}

    fn descends(&self, path: &str) -> bool {
        self.member.strip_prefix(path).is_some_and(|rest| rest.starts_with("!/"))
    }
}
