//! Requests in one line each. What the contract says of every answer is asserted on every answer.

use std::io::Write;
use std::net::SocketAddr;

use serde_json::Value;

use super::wire::{Body, Head, Wire};

/// Somebody who asks: an address, and a key or none.
#[derive(Clone)]
pub struct Client {
    pub addr: SocketAddr,
    key: Option<String>,
    /// Whether this is the public address, whose answers all keep the contract's conventions.
    public: bool,
}

/// A request in the making.
pub struct Ask<'a> {
    client: &'a Client,
    method: &'a str,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<&'a [u8]>,
    chunked: bool,
}

/// What came back.
pub struct Answer {
    pub status: u16,
    head: Head,
    pub body: Vec<u8>,
    /// Whether the message came to its own end.
    pub whole: bool,
    /// Whether `100 Continue` came first.
    pub continued: bool,
    asked: String,
}

impl Client {
    pub const fn new(addr: SocketAddr, key: Option<String>) -> Self {
        Self { addr, key, public: true }
    }

    /// The operator, at the admin address.
    pub const fn operator(addr: SocketAddr) -> Self {
        Self { addr, key: None, public: false }
    }

    /// The same address with another credential, or none.
    pub fn with_key(&self, key: Option<&str>) -> Self {
        Self { addr: self.addr, key: key.map(str::to_owned), public: self.public }
    }

    pub fn ask<'a>(&'a self, method: &'a str, path: impl Into<String>) -> Ask<'a> {
        let (path, headers) = (path.into(), Vec::new());
        Ask { client: self, method, path, headers, body: None, chunked: false }
    }

    #[track_caller]
    pub fn get(&self, path: impl Into<String>) -> Answer {
        self.ask("GET", path).send()
    }

    #[track_caller]
    pub fn delete(&self, path: impl Into<String>) -> Answer {
        self.ask("DELETE", path).send()
    }

    #[track_caller]
    pub fn post(&self, path: impl Into<String>, body: &[u8]) -> Answer {
        self.ask("POST", path).body(body).send()
    }

    #[track_caller]
    pub fn put(&self, path: impl Into<String>, body: &[u8]) -> Answer {
        self.ask("PUT", path).body(body).send()
    }

    /// Uploads and gives back the file's id.
    #[track_caller]
    pub fn upload(&self, query: &str, body: &[u8]) -> String {
        self.post(format!("/v1/files{query}"), body).expect(201).text("id")
    }

    /// The content's path of a file.
    pub fn content(id: &str) -> String {
        format!("/v1/files/{id}/content")
    }

    #[track_caller]
    pub fn download(&self, id: &str) -> Answer {
        self.get(Self::content(id))
    }
}

impl<'a> Ask<'a> {
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub const fn body(mut self, body: &'a [u8]) -> Self {
        self.body = Some(body);
        self
    }

    /// Sends the body without saying its length beforehand.
    pub const fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    fn head(&self, length: Option<u64>) -> String {
        let mut head =
            format!("{} {} HTTP/1.1\r\nHost: {}\r\n", self.method, self.path, self.client.addr);
        if let Some(key) = &self.client.key {
            head += &format!("Authorization: Bearer {key}\r\n");
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        match length {
            Some(length) => head += &format!("Content-Length: {length}\r\n"),
            None if self.chunked => head += "Transfer-Encoding: chunked\r\n",
            None => {}
        }
        head + "\r\n"
    }

    /// Sends the head alone, declaring `length` bytes (or chunks), and leaves the rest to the test.
    #[track_caller]
    pub fn begin(self, length: Option<u64>) -> Wire {
        let mut wire = Wire::open(self.client.addr);
        wire.send(self.head(length).as_bytes()).expect("the head is taken");
        wire
    }

    /// Sends a request without a body to a reader that can stop reading.
    #[track_caller]
    pub fn begin_narrow(self) -> Wire {
        let mut wire = Wire::open_narrow(self.client.addr);
        wire.send(self.head(None).as_bytes()).expect("the head is taken");
        wire
    }

    /// Sends it all and reads the answer; asserts what holds for every answer.
    #[track_caller]
    pub fn send(self) -> Answer {
        let asked = format!("{} {}", self.method, self.path);
        self.try_send().unwrap_or_else(|| panic!("{asked}: closed without an answer"))
    }

    /// As [`Ask::send`], for an answer that may be cut before its head.
    #[track_caller]
    pub fn try_send(self) -> Option<Answer> {
        let mut wire = Wire::open(self.client.addr);
        let length = self.body.filter(|_| !self.chunked).map(|body| body.len() as u64);
        let mut message = self.head(length).into_bytes();
        let body = self.body.unwrap_or_default();
        let asked = format!("{} {}", self.method, self.path);
        let sender = wire.sender();
        let answer = std::thread::scope(|scope| {
            scope.spawn(|| {
                // A gateway that has refused may close before all is sent: its answer counts.
                let mut sender = sender;
                if !self.chunked {
                    if body.len() < 32 * 1024 {
                        message.extend_from_slice(body);
                        let _ = sender.write_all(&message);
                    } else {
                        let _ = sender.write_all(&message).and_then(|()| sender.write_all(body));
                    }
                    return;
                }
                let _ = sender.write_all(&message);
                for part in body.chunks(8000) {
                    let mut chunk = format!("{:x}\r\n", part.len()).into_bytes();
                    chunk.extend_from_slice(part);
                    chunk.extend_from_slice(b"\r\n");
                    if sender.write_all(&chunk).is_err() {
                        return;
                    }
                }
                let _ = sender.write_all(b"0\r\n\r\n");
            });
            Answer::try_read(&mut wire, &asked)
        });
        if self.client.public {
            answer.as_ref().inspect(|answer| answer.keeps_conventions());
        }
        answer
    }
}

impl Answer {
    /// Reads the answer to `asked` (method and path).
    #[track_caller]
    pub fn read(wire: &mut Wire, asked: &str) -> Self {
        let answer = Self::try_read(wire, asked);
        answer.unwrap_or_else(|| panic!("{asked}: closed without an answer"))
    }

    /// An answer whose head was read already.
    pub fn from_parts(head: Head, body: Body, continued: bool, asked: &str) -> Self {
        let (status, asked) = (head.status, asked.to_owned());
        Self { status, head, body: body.bytes, whole: body.whole, continued, asked }
    }

    fn try_read(wire: &mut Wire, asked: &str) -> Option<Self> {
        let mut continued = false;
        let head = loop {
            let head = wire.try_head()?;
            if head.status >= 200 {
                break head;
            }
            continued |= head.status == 100;
        };
        let body = if asked.starts_with("HEAD ") {
            Body { bytes: Vec::new(), whole: true }
        } else {
            wire.body(&head)
        };
        Some(Self::from_parts(head, body, continued, asked))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// Every header of that name.
    pub fn headers(&self, name: &str) -> Vec<&str> {
        let all = self.head.headers.iter();
        let same = all.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value.as_str()).collect()
    }

    /// What the contract says of every routed response.
    #[track_caller]
    fn keeps_conventions(&self) {
        let asked = &self.asked;
        let id = self.header("x-request-id");
        assert!(id.is_some_and(|id| !id.is_empty()), "{asked}: X-Request-Id is missing");
        assert_eq!(self.header("x-content-type-options"), Some("nosniff"), "{asked}");
        if !asked.contains(" /assets/") {
            assert_eq!(self.header("cache-control"), Some("no-store"), "{asked}");
        }
        let page = asked.contains(" /connect/") || asked.contains(" /oauth/callback/");
        if page && self.header("content-type").is_some_and(|kind| kind.starts_with("text/html")) {
            return;
        }
        if self.status >= 400 && !asked.starts_with("HEAD ") {
            assert_eq!(self.header("content-type"), Some("application/problem+json"), "{asked}");
            let problem = self.json();
            let slug = problem["type"].as_str().unwrap_or_default();
            assert!(slug.starts_with("/problems/"), "{asked}: {problem}");
            assert_eq!(problem["status"], self.status, "{asked}: {problem}");
            assert_eq!(problem["request_id"].as_str(), id, "{asked}: {problem}");
            assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
        }
    }

    /// Asserts the status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(2000)]);
        assert_eq!(self.status, status, "{}: {body}", self.asked);
        assert!(self.whole, "{}: the message was cut", self.asked);
        self
    }

    /// Asserts a problem of that status and slug.
    #[track_caller]
    pub fn problem(self, status: u16, slug: &str) -> Self {
        let answer = self.expect(status);
        assert_eq!(answer.json()["type"], format!("/problems/{slug}"), "{}", answer.asked);
        answer
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        let json = serde_json::from_slice(&self.body);
        json.unwrap_or_else(|error| {
            panic!("{}: {error}: {:?}", self.asked, String::from_utf8_lossy(&self.body))
        })
    }

    /// A member of the JSON object that is a string.
    #[track_caller]
    pub fn text(&self, member: &str) -> String {
        let json = self.json();
        let text = json[member].as_str();
        text.unwrap_or_else(|| panic!("{}: no {member} in {json}", self.asked)).to_owned()
    }

    /// The body as text.
    #[track_caller]
    pub fn body_text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("text")
    }

    /// Asserts the body without printing megabytes when it differs.
    #[track_caller]
    pub fn is_body(&self, expected: &[u8]) {
        let same = self.body.iter().zip(expected);
        if self.body != expected {
            let at = same.take_while(|(one, other)| one == other).count();
            let (got, due) = (self.body.len(), expected.len());
            panic!("{}: {got} bytes for {due}; they differ from byte {at} on", self.asked);
        }
    }
}
