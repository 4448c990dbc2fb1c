//! A small HTTP/1.1 server: one request for each connection, and everything it saw is kept.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

/// A request, read whole.
#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    pub query: Vec<(String, String)>,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub framing: Framing,
    pub end: End,
}

/// How an answer's length is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    #[default]
    Length,
    Chunked,
    /// By the connection's end alone.
    Close,
}

/// How an answer ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    #[default]
    Clean,
    /// The connection breaks after so many bytes.
    Cut(usize),
    /// Nothing comes after so many bytes, until it is let go; then the connection breaks.
    Stall(usize),
    /// The same bytes again and again.
    Never,
}

impl Request {
    pub fn of(target: &str, body: &[u8]) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let path = path.to_owned();
        Self { path, query, headers: Vec::new(), body: body.to_vec() }
    }

    /// The first value of that name in the query: as Drive does.
    pub fn query(&self, name: &str) -> Option<&str> {
        let mut pairs = self.query.iter();
        pairs.find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter();
        all.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn form(&self, name: &str) -> Option<String> {
        let mut pairs = form_urlencoded::parse(&self.body);
        pairs.find(|(found, _)| found == name).map(|(_, value)| value.into_owned())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub fn bearer(&self) -> Option<&str> {
        self.header("authorization")?.strip_prefix("Bearer ")
    }
}

impl Reply {
    pub fn json(status: u16, body: &Value) -> Self {
        Self::text(status, "application/json; charset=UTF-8", &format!("{body:#}\n"))
    }

    pub fn text(status: u16, kind: &str, body: &str) -> Self {
        let headers = vec![("Content-Type".to_owned(), kind.to_owned())];
        Self { status, headers, body: body.as_bytes().to_vec(), ..Self::default() }
    }

    pub fn to(status: u16, place: &str) -> Self {
        let headers = vec![("Location".to_owned(), place.to_owned())];
        Self { status, headers, ..Self::default() }
    }

    pub fn bytes(status: u16, kind: &str, body: Vec<u8>) -> Self {
        let headers = vec![("Content-Type".to_owned(), kind.to_owned())];
        Self { status, headers, body, ..Self::default() }
    }

    /// The value of a header in place of the one it has.
    pub fn set(&mut self, name: &str, value: &str) {
        self.headers.retain(|(found, _)| !found.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    pub fn is_json(&self) -> bool {
        let kind = self.headers.first();
        kind.is_some_and(|(name, kind)| {
            name == "Content-Type" && kind.starts_with("application/json")
        })
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// Where an answer waits that is held back.
#[derive(Default)]
pub struct Held {
    /// Grows whenever what waits may go on.
    turn: Mutex<u64>,
    moved: Condvar,
}

impl Held {
    pub fn wait(&self) {
        let turn = self.turn.lock().unwrap();
        let now = *turn;
        drop(self.moved.wait_timeout_while(turn, PATIENCE, |turn| *turn == now).unwrap());
    }

    fn release(&self) {
        *self.turn.lock().unwrap() += 1;
        self.moved.notify_all();
    }
}

/// A server that runs until it is dropped.
pub struct Server {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Request>>,
    held: Held,
    stopped: AtomicBool,
}

impl Server {
    pub fn start(answer: impl Fn(&Request, &Held) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (addr, shared) = (listener.local_addr().unwrap(), Arc::new(Shared::default()));
        let (answer, inside) = (Arc::new(answer), shared.clone());
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if inside.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), answer, shared) = (stream, answer.clone(), inside.clone()) else {
                    continue;
                };
                std::thread::spawn(move || drop(serve(stream, &*answer, &shared)));
            }
        });
        Self { addr, shared, accepting: Some(accepting) }
    }

    pub fn seen(&self) -> Vec<Request> {
        self.shared.seen.lock().unwrap().clone()
    }

    pub fn let_go(&self) {
        self.shared.held.release();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.shared.held.release();
        drop(TcpStream::connect(self.addr));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn serve(
    stream: TcpStream,
    answer: &(impl Fn(&Request, &Held) -> Reply + ?Sized),
    shared: &Shared,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (Some(_), Some(target)) = (words.next(), words.next()) else { return Ok(()) };
    let mut request = Request::of(target, b"");
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        request.headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let length = request.header("content-length").and_then(|length| length.parse().ok());
    request.body.resize(length.unwrap_or(0), 0);
    reader.read_exact(&mut request.body)?;
    shared.seen.lock().unwrap().push(request.clone());
    let reply = answer(&request, &shared.held);
    let mut head = format!("HTTP/1.1 {} Answer\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    match reply.framing {
        Framing::Length => head += &format!("Content-Length: {}\r\n", reply.body.len()),
        Framing::Chunked => head += "Transfer-Encoding: chunked\r\n",
        Framing::Close => {}
    }
    let mut stream = stream;
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    let chunked = reply.framing == Framing::Chunked;
    let mut put = |bytes: &[u8]| -> std::io::Result<()> {
        for part in bytes.chunks(64 << 10) {
            if chunked {
                stream.write_all(format!("{:x}\r\n", part.len()).as_bytes())?;
            }
            stream.write_all(part)?;
            if chunked {
                stream.write_all(b"\r\n")?;
            }
        }
        stream.flush()
    };
    match reply.end {
        End::Clean => put(&reply.body)?,
        End::Cut(at) => return put(&reply.body[..at.min(reply.body.len())]),
        End::Stall(at) => {
            put(&reply.body[..at.min(reply.body.len())])?;
            shared.held.wait();
            return Ok(());
        }
        End::Never => loop {
            put(&reply.body)?;
        },
    }
    if chunked { stream.write_all(b"0\r\n\r\n") } else { Ok(()) }
}
