//! `[processors.<name>]`: services, programs and the scanner that an operator adds.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::raw::{Raw, Size};
use super::typed::Complaints;
use crate::egress::Origin;
use crate::jail::{Proc, ProgramLimits};
use crate::process::{Command, Form, Method, Own, Scanner, Upstream, interned};

/// A processor of the operator's own. One of a built-in name replaces it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Processor {
    /// "http" or "exec". Absent for the virus scanner, [processors.scan].
    pub kind: Option<String>,
    /// http: where the service is.
    pub url: Option<String>,
    /// http: the region the service runs in. It must be this gateway's own.
    pub region: Option<String>,
    /// http: "POST" or "PUT".
    pub method: Option<String>,
    /// http: the field of a form that carries the file, where the service wants a form.
    pub form_field: Option<String>,
    /// http: the file's name in that form. Never the client's own.
    pub form_filename: Option<String>,
    /// exec: the program and its arguments.
    pub command: Option<Vec<String>>,
    /// exec: further files and folders the program may read.
    pub reads: Vec<PathBuf>,
    /// exec: whether its processes see themselves in /proc and may use unix sockets among each
    /// other, as large programs want.
    pub proc: bool,
    /// scan: the socket clamd listens on.
    pub socket: Option<PathBuf>,
    /// The media type of what it gives.
    pub media_type: Option<String>,
    /// The media types it reads, as clients are shown them.
    pub accepts: Vec<String>,
    pub limits: ProcessorLimits,
}

/// What a processor may use. Absent: its kind's own default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProcessorLimits {
    /// exec: address space of each of its processes.
    pub memory: Option<Size>,
    /// How long it may keep everybody waiting. exec: also the processor time of each process.
    pub time: Option<String>,
    /// http and exec: the longest answer.
    pub output: Option<Size>,
    /// exec: what it may write, in memory.
    pub scratch: Option<Size>,
    /// exec: processes and threads at a time.
    pub processes: Option<u64>,
    /// scan: the largest file. Not more than clamd's own MaxFileSize.
    pub input: Option<Size>,
}

/// Every processor of the operator's; complaints for those that cannot be.
pub(super) fn own(raw: &Raw, wrong: &mut Complaints) -> Vec<Own> {
    let mut own = Vec::new();
    for (name, table) in &raw.processors {
        let reader = Reader { raw, name, table, at: format!("processors.{name}") };
        own.extend(reader.read(wrong));
    }
    own
}

struct Reader<'a> {
    raw: &'a Raw,
    name: &'a str,
    table: &'a Processor,
    at: String,
}

impl Reader<'_> {
    fn read(&self, wrong: &mut Complaints) -> Option<Own> {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if !(1..=32).contains(&self.name.len()) || !self.name.bytes().all(fits) {
            wrong.say(&self.at, "a processor's name is 1 to 32 of a-z, 0-9 and \"-\"");
        }
        match self.table.kind.as_deref() {
            Some("http") => self.http(wrong),
            Some("exec") => self.exec(wrong),
            None if self.name == "scan" => self.scan(wrong),
            _ => {
                wrong.say(&self.key("kind"), "\"http\" or \"exec\"; [processors.scan] has none");
                None
            }
        }
    }

    fn key(&self, part: &str) -> String {
        format!("{}.{part}", self.at)
    }

    /// Keys that mean something for another kind alone.
    fn foreign(&self, wrong: &mut Complaints, kind: &str, present: &[(&str, bool)]) {
        for (part, _) in present.iter().filter(|(_, present)| *present) {
            wrong.say(&self.key(part), format!("a processor of kind {kind} has no such key"));
        }
    }

    fn http(&self, wrong: &mut Complaints) -> Option<Own> {
        let (table, limits) = (self.table, &self.table.limits);
        self.foreign(
            wrong,
            "http",
            &[
                ("command", table.command.is_some()),
                ("reads", !table.reads.is_empty()),
                ("proc", table.proc),
                ("socket", table.socket.is_some()),
                ("limits.memory", limits.memory.is_some()),
                ("limits.scratch", limits.scratch.is_some()),
                ("limits.processes", limits.processes.is_some()),
                ("limits.input", limits.input.is_some()),
            ],
        );
        match &table.region {
            Some(region) if *region == self.raw.region => {}
            Some(_) => wrong.say(
                &self.key("region"),
                "it is not this gateway's: plaintext would leave the region",
            ),
            None => {
                let fix =
                    format!("missing: say where it runs, as region = \"{}\"", self.raw.region);
                wrong.say(&self.key("region"), fix);
            }
        }
        let url = wrong.need(&self.key("url"), table.url.as_deref(), "missing")?;
        let (origin, path) = match Origin::parse(url, self.raw.allow_insecure_loopback) {
            Ok(parsed) => parsed,
            Err(error) => {
                wrong.say(&self.key("url"), error);
                return None;
            }
        };
        if path.contains('?') {
            wrong.say(&self.key("url"), "without a query: what stands there ends up in logs");
        }
        let method = match table.method.as_deref() {
            None | Some("POST") => Method::Post,
            Some("PUT") => Method::Put,
            Some(_) => {
                wrong.say(&self.key("method"), "\"POST\" or \"PUT\"");
                Method::Post
            }
        };
        let form = self.form(wrong);
        let (media_type, accepts) = self.types(wrong);
        let stall = self.span(wrong, limits.time.as_ref(), Duration::from_mins(1));
        let output_bytes = self.size(wrong, "limits.output", limits.output.as_ref(), 5 << 30);
        let name = self.name.to_owned();
        Some(Own::Http(Upstream {
            name,
            origin,
            path,
            method,
            form,
            media_type,
            accepts,
            stall,
            output_bytes,
        }))
    }

    /// Both go into a header's quoted string.
    fn form(&self, wrong: &mut Complaints) -> Option<Form> {
        let plain = |word: &String| {
            let good = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
            (1..=64).contains(&word.len()) && word.bytes().all(good)
        };
        let (field, filename) = (&self.table.form_field, &self.table.form_filename);
        for (part, word) in [("form_field", field), ("form_filename", filename)] {
            if word.as_ref().is_some_and(|word| !plain(word)) {
                wrong.say(&self.key(part), "1 to 64 of letters, digits, \".\", \"_\" and \"-\"");
            }
        }
        if field.is_none() && filename.is_some() {
            wrong.say(&self.key("form_filename"), "it stands in a form: name form_field too");
        }
        let filename = filename.clone().unwrap_or_else(|| "document".to_owned());
        field.clone().map(|field| Form { field, filename })
    }

    fn exec(&self, wrong: &mut Complaints) -> Option<Own> {
        let (table, limits) = (self.table, &self.table.limits);
        self.foreign(
            wrong,
            "exec",
            &[
                ("url", table.url.is_some()),
                ("region", table.region.is_some()),
                ("method", table.method.is_some()),
                ("form_field", table.form_field.is_some()),
                ("form_filename", table.form_filename.is_some()),
                ("socket", table.socket.is_some()),
                ("limits.input", limits.input.is_some()),
            ],
        );
        let words = table.command.clone().filter(|words| !words.is_empty());
        let complaint = "missing: the program and its arguments, like [\"/usr/bin/tesseract\", \
                         \"stdin\", \"stdout\"]";
        let words = wrong.need(&self.key("command"), words, complaint)?;
        if words.iter().any(|word| word.contains('\0')) {
            wrong.say(&self.key("command"), "a word holds a zero byte");
        }
        let program = &words[0];
        if program.starts_with('/') && !std::path::Path::new(program).exists() {
            wrong.say(&self.key("command"), "there is no such program");
        }
        for path in &table.reads {
            if !path.is_absolute() || !path.exists() {
                wrong.say(&self.key("reads"), "each is an absolute path of what is there");
            }
        }
        let usual = ProgramLimits::default();
        let sized = |wrong: &mut Complaints, part: &str, size: Option<&Size>, usual| {
            self.size(wrong, part, size, usual)
        };
        let limits = ProgramLimits {
            memory_bytes: sized(wrong, "limits.memory", limits.memory.as_ref(), usual.memory_bytes),
            time: self.span(wrong, limits.time.as_ref(), usual.time),
            output_bytes: sized(wrong, "limits.output", limits.output.as_ref(), usual.output_bytes),
            scratch_bytes: sized(
                wrong,
                "limits.scratch",
                limits.scratch.as_ref(),
                usual.scratch_bytes,
            ),
            processes: limits.processes.unwrap_or(usual.processes),
        };
        if limits.processes < 3 {
            wrong.say(&self.key("limits.processes"), "at least 3: two are the sandbox's own");
        }
        let (media_type, accepts) = self.types(wrong);
        let (name, reads) = (self.name.to_owned(), table.reads.clone());
        let proc = if table.proc { Proc::Own } else { Proc::Nothing };
        Some(Own::Exec(Command { name, words, reads, proc, limits, media_type, accepts }))
    }

    fn scan(&self, wrong: &mut Complaints) -> Option<Own> {
        let (table, limits) = (self.table, &self.table.limits);
        self.foreign(
            wrong,
            "scan",
            &[
                ("url", table.url.is_some()),
                ("region", table.region.is_some()),
                ("method", table.method.is_some()),
                ("form_field", table.form_field.is_some()),
                ("form_filename", table.form_filename.is_some()),
                ("command", table.command.is_some()),
                ("reads", !table.reads.is_empty()),
                ("proc", table.proc),
                ("media_type", table.media_type.is_some()),
                ("accepts", !table.accepts.is_empty()),
                ("limits.memory", limits.memory.is_some()),
                ("limits.output", limits.output.is_some()),
                ("limits.scratch", limits.scratch.is_some()),
                ("limits.processes", limits.processes.is_some()),
            ],
        );
        let socket = table.socket.clone().filter(|path| path.is_absolute());
        let complaint = "the absolute path of clamd's LocalSocket";
        let socket = wrong.need(&self.key("socket"), socket, complaint)?;
        let max_bytes = self.size(wrong, "limits.input", limits.input.as_ref(), 100 << 20);
        let time = self.span(wrong, limits.time.as_ref(), Duration::from_mins(1));
        Some(Own::Scan(Scanner { socket, max_bytes, time }))
    }

    fn types(&self, wrong: &mut Complaints) -> (&'static str, Vec<&'static str>) {
        let mut read = |part: &str, word: &str| {
            let word = word.trim();
            let good = |b: u8| b.is_ascii_graphic() || b == b' ';
            let slash = word.split_once('/').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty());
            if !slash || word.len() > 128 || !word.bytes().all(good) {
                wrong.say(&self.key(part), "a media type is like application/pdf");
                return "application/octet-stream";
            }
            interned(word)
        };
        let given = self.table.media_type.as_deref().unwrap_or("application/octet-stream");
        let media_type = read("media_type", given);
        (media_type, self.table.accepts.iter().map(|word| read("accepts", word)).collect())
    }

    fn size(&self, wrong: &mut Complaints, part: &str, size: Option<&Size>, usual: u64) -> u64 {
        let Some(size) = size else { return usual };
        let bytes = wrong.size(&self.key(part), size);
        if bytes == 0 {
            wrong.say(&self.key(part), "more than nothing");
        }
        bytes
    }

    fn span(&self, wrong: &mut Complaints, text: Option<&String>, usual: Duration) -> Duration {
        let Some(text) = text else { return usual };
        let span = wrong.span(&self.key("limits.time"), text);
        if span.is_zero() {
            wrong.say(&self.key("limits.time"), "at least 1s");
        }
        span
    }
}
