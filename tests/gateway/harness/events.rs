//! A reader of server-sent events that takes one at a time, and can leave and come back.

use serde_json::Value;

use super::client::Client;
use super::wire::Wire;

/// One event, or a comment between two.
#[derive(Clone, Debug, PartialEq)]
pub enum Sent {
    Event { topic: String, id: u64, data: Value },
    Comment(String),
}

/// A stream of events.
pub struct Events {
    wire: Wire,
    text: String,
    over: bool,
}

impl Events {
    /// Follows a job from after the event `after`; `None` if there is nothing to come any more.
    #[track_caller]
    pub fn try_follow(client: &Client, job: &str, after: Option<u64>) -> Option<Self> {
        let mut ask = client.ask("GET", format!("/v1/jobs/{job}/events"));
        if let Some(after) = after {
            ask = ask.header("Last-Event-ID", after.to_string());
        }
        let mut wire = ask.begin(None);
        let head = wire.head();
        if head.status == 204 {
            return None;
        }
        assert_eq!(head.status, 200);
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        assert_eq!(head.header("cache-control"), Some("no-store"));
        Some(Self { wire, text: String::new(), over: false })
    }

    #[track_caller]
    pub fn follow(client: &Client, job: &str) -> Self {
        Self::try_follow(client, job, None).expect("there is something to tell")
    }

    /// The next event or comment; `None` at the stream's own end.
    #[track_caller]
    pub fn next_sent(&mut self) -> Option<Sent> {
        loop {
            if let Some(at) = self.text.find("\n\n") {
                let block: String = self.text.drain(..at + 2).collect();
                return Some(parse(block.trim_end()));
            }
            if self.over {
                assert!(self.text.is_empty(), "half an event: {:?}", self.text);
                return None;
            }
            match self.wire.chunk().expect("the stream comes to its own end") {
                chunk if chunk.is_empty() => self.over = true,
                chunk => self.text += std::str::from_utf8(&chunk).expect("UTF-8"),
            }
        }
    }

    /// The next event: its topic, its id, and the job.
    #[track_caller]
    pub fn next_event(&mut self) -> Option<(String, u64, Value)> {
        loop {
            match self.next_sent()? {
                Sent::Event { topic, id, data } => return Some((topic, id, data)),
                Sent::Comment(_) => {}
            }
        }
    }

    /// Reads until the job has entered `state`, and returns it as it was then.
    #[track_caller]
    pub fn reaches(&mut self, state: &str) -> Value {
        let mut last = Value::Null;
        while let Some((topic, _, data)) = self.next_event() {
            if topic == "state" && data["state"] == state {
                return data;
            }
            last = data;
        }
        panic!("the job never came to {state}; at last it was {last}");
    }

    /// Reads to the end, and returns the job as it was told last.
    #[track_caller]
    pub fn last(&mut self) -> Value {
        let mut last = None;
        while let Some((_, _, data)) = self.next_event() {
            last = Some(data);
        }
        last.expect("an event")
    }
}

#[track_caller]
fn parse(block: &str) -> Sent {
    if let Some(comment) = block.strip_prefix(':') {
        return Sent::Comment(comment.trim().to_owned());
    }
    let field = |name: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {block:?}")).trim().to_owned()
    };
    Sent::Event {
        topic: field("event:"),
        id: field("id:").parse().expect("a counter"),
        data: serde_json::from_str(&field("data:")).expect("the job"),
    }
}
