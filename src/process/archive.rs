//! `archive`: what is in a zip, tar or gzip, and one member of it.
//!
//! A worker takes the archive apart and its output leaves meanwhile, at the reader's pace. A tar
//! flows through; a zip, whose directory stands at its end, is read whole first, and all that the
//! directory says is judged before anything is answered. Archives inside of archives are looked
//! into, to a depth of [`MAX_DEPTH`]: `outer.zip` may hold `inner.tgz` with `a.txt`, which is named
//! `inner.tgz!/a.txt`.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::document::{DocumentRoom, DocumentStep};
use super::frame::{Fault, Request};
use super::options::{Kind, Setting, bad, schema};
use super::{Description, Options, ProcessError, Processor, Step};

mod extract;
mod list;
mod path;
mod source;
mod tar;
mod walk;

pub(super) const NAME: &str = "archive";

/// Archives inside of one another, the outermost included. A gzip and the tar in it count as one.
const MAX_DEPTH: usize = 3;

/// Members of all of them together.
const MAX_MEMBERS: u64 = 100_000;

/// Bytes all of them together may unpack to.
const MAX_UNPACKED: u64 = 8 << 30;

/// Bytes of an archive inside of another that must be read whole.
const MAX_INNER: u64 = 64 << 20;

/// How long a stream may take: its sender and its reader must keep the least rate, and end with
/// the deadline of the request, which is earlier.
const WALL: Duration = Duration::from_hours(24);

const SETTINGS: &[Setting] = &[
    Setting {
        name: "op",
        kind: Kind::OneOf(&["list", "extract"]),
        about: "list tells the members, extract gives one of them; list by default.",
        refusal: "op is list or extract",
    },
    Setting {
        name: "member",
        kind: Kind::Text { max: 16 << 10 },
        about: "The member to extract, as list names it; inner.zip!/a.txt for one inside of another.",
        refusal: "member is the name of a member, as list tells it",
    },
];

/// The `archive` processor.
pub(super) struct Archive {
    room: DocumentRoom,
    /// Half of the workers: streams go at other people's pace, and must leave some to documents.
    places: Arc<Semaphore>,
    description: Description,
}

impl Archive {
    pub(super) fn new(mut room: DocumentRoom) -> Self {
        let workers = room.jail.idle() + room.jail.busy();
        room.limits.wall = WALL;
        room.limits.output_bytes = MAX_UNPACKED;
        let media_types = vec!["application/zip", "application/x-tar", "application/gzip"];
        let options = schema(SETTINGS);
        let description = Description { name: NAME.to_owned(), media_types, options };
        Self { room, places: Arc::new(Semaphore::new((workers / 2).max(1))), description }
    }
}

impl Processor for Archive {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn prepare(&self, options: &Options) -> Result<Box<dyn Step>, ProcessError> {
        let chosen = options.read(SETTINGS)?;
        let extracts = chosen.get("op").is_some_and(|op| op == "extract");
        if extracts != chosen.contains_key("member") {
            return Err(bad("op=extract and member belong together"));
        }
        let options = chosen.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let request = Request { step: NAME.to_owned(), options, ..Request::default() };
        Ok(Box::new(DocumentStep::streaming(self.room.clone(), request, self.places.clone())?))
    }
}

/// The worker's side: reads the archive as it comes, and writes frames.
pub(super) fn serve(
    request: &Request,
    input: impl Read,
    output: &mut impl Write,
) -> Result<(), Fault> {
    let mut input = std::io::BufReader::with_capacity(256 << 10, input);
    match request.options.get("member") {
        Some(member) => {
            let mut wanted = extract::Extract::new(member, output);
            walk::walk(&mut input, request.max_document, &mut wanted)?;
            wanted.finish()
        }
        None => {
            let mut list = list::List::default();
            let format = walk::walk(&mut input, request.max_document, &mut list)?;
            list.write(format, request.max_output, output)
        }
    }
}

#[cfg(test)]
mod tests;
