//! One request on one HTTP/1.1 connection, interim answers, trailers and cuts included.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// A place on a server.
#[derive(Clone, Debug)]
pub struct Url {
    pub authority: String,
    pub path: String,
}

impl Url {
    pub fn parse(text: &str) -> Self {
        let rest = text.strip_prefix("http://").expect("an http:// address");
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        Self { authority: authority.to_owned(), path: format!("/{path}") }
    }

    /// The place a `Location` names, seen from here.
    pub fn at(&self, location: &str) -> Self {
        if location.starts_with("http://") {
            return Self::parse(location);
        }
        let folder = self.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let path = if location.starts_with('/') {
            location.to_owned()
        } else {
            format!("{folder}/{location}")
        };
        Self { authority: self.authority.clone(), path }
    }
}

/// A request in the making.
#[derive(Clone)]
pub struct Ask {
    method: String,
    url: Url,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Chunked, with these trailers.
    trailers: Option<Vec<(String, String)>>,
    /// Bytes of the body that are declared and never sent.
    missing: usize,
}

/// A head: status and fields.
#[derive(Clone, Debug)]
pub struct Head {
    pub status: u16,
    headers: Vec<(String, String)>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub head: Head,
    /// Interim answers that came first, 100 included.
    pub interim: Vec<Head>,
    pub body: Vec<u8>,
}

impl Head {
    pub fn header(&self, name: &str) -> Option<&str> {
        let same = |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
        self.headers.iter().find(same).map(|(_, value)| value.as_str())
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        self.header(name)?.parse().ok()
    }
}

impl Answer {
    pub const fn status(&self) -> u16 {
        self.head.status
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        self.head.number(name)
    }

    /// Asserts the status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        let said = String::from_utf8_lossy(&self.body).into_owned();
        assert_eq!(self.head.status, status, "{said}");
        self
    }

    /// Asserts one of several statuses.
    #[track_caller]
    pub fn expect_any(self, statuses: &[u16]) -> Self {
        let said = String::from_utf8_lossy(&self.body).into_owned();
        assert!(statuses.contains(&self.head.status), "{}: {said}", self.head.status);
        self
    }
}

impl Ask {
    pub fn new(method: &str, url: &Url) -> Self {
        let (method, url) = (method.to_owned(), url.clone());
        Self { method, url, headers: Vec::new(), body: Vec::new(), trailers: None, missing: 0 }
    }

    pub fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// Takes a field out again.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        self
    }

    pub fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    /// Sends the body in chunks, with no trailer or this one.
    pub fn chunked(mut self, trailer: Option<(&str, &str)>) -> Self {
        if let Some((name, _)) = trailer {
            self = self.header("Trailer", name);
        }
        let own = trailer.map(|(name, value)| (name.to_owned(), value.to_owned()));
        self.trailers = Some(own.into_iter().collect());
        self
    }

    /// Declares more bytes than are sent.
    pub const fn missing(mut self, bytes: usize) -> Self {
        self.missing = bytes;
        self
    }

    fn message(&self) -> (Vec<u8>, Vec<u8>) {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\n",
            self.method, self.url.path, self.url.authority
        );
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        let mut body = Vec::new();
        match &self.trailers {
            None => {
                if self.body.len() + self.missing > 0 || self.method != "HEAD" {
                    head += &format!("Content-Length: {}\r\n", self.body.len() + self.missing);
                }
                body.extend_from_slice(&self.body);
            }
            Some(trailers) => {
                head += "Transfer-Encoding: chunked\r\n";
                for part in self.body.chunks(1000) {
                    body.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
                    body.extend_from_slice(part);
                    body.extend_from_slice(b"\r\n");
                }
                body.extend_from_slice(b"0\r\n");
                for (name, value) in trailers {
                    body.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
                }
                body.extend_from_slice(b"\r\n");
            }
        }
        (format!("{head}\r\n").into_bytes(), body)
    }

    /// Sends it all, and reads the answer.
    #[track_caller]
    pub fn send(&self) -> Answer {
        let mut wire = self.begin();
        wire.answer(&self.method).expect("an answer")
    }

    /// Sends what there is of it, and leaves the connection open.
    pub fn begin(&self) -> Wire {
        let stream = TcpStream::connect(&self.url.authority).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut wire = Wire { stream, ahead: Vec::new() };
        let (head, body) = self.message();
        // A server that refuses may close before all is sent: its answer counts.
        let _ = wire.stream.write_all(&head).and_then(|()| wire.stream.write_all(&body));
        wire
    }
}

/// An open connection.
pub struct Wire {
    stream: TcpStream,
    ahead: Vec<u8>,
}

impl Wire {
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    fn more(&mut self) -> bool {
        let mut piece = [0; 16 << 10];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return false,
                Ok(read) => {
                    self.ahead.extend_from_slice(&piece[..read]);
                    return true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    let silent = error.kind() == ErrorKind::WouldBlock;
                    assert!(!silent, "the server keeps silent");
                    return false;
                }
            }
        }
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.ahead.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.ahead.drain(..at + 2).collect();
                return Some(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            if !self.more() {
                return None;
            }
        }
    }

    /// The next head, interim ones included.
    pub fn head(&mut self) -> Option<Head> {
        let status = self.line()?.split(' ').nth(1)?.parse().ok()?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        Some(Head { status, headers })
    }

    /// The answer to a request of this method.
    pub fn answer(&mut self, method: &str) -> Option<Answer> {
        let mut interim = Vec::new();
        let head = loop {
            let head = self.head()?;
            if head.status >= 200 {
                break head;
            }
            interim.push(head);
        };
        let mut body = Vec::new();
        let bodiless = method == "HEAD" || matches!(head.status, 204 | 304);
        if head.header("transfer-encoding").is_some() && !bodiless {
            while let Some(size) = self.line() {
                let size = usize::from_str_radix(size.trim(), 16).ok()?;
                body.extend(self.exactly(size));
                self.line();
                if size == 0 {
                    break;
                }
            }
        } else if !bodiless {
            body = self.exactly(head.number("content-length").unwrap_or(0) as usize);
        }
        Some(Answer { head, interim, body })
    }

    fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.ahead.len() < count && self.more() {}
        self.ahead.drain(..count.min(self.ahead.len())).collect()
    }
}
