//! An S3 server that misbehaves on order, for what no real one does when asked.
//!
//! It keeps one bucket in memory and speaks as much of the protocol as a store needs.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use socket2::Socket;

/// Which requests a fault is meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Put,
    Begin,
    Part,
    Complete,
    Abort,
    Get,
    Delete,
    /// Everything else: lists, and questions about the bucket.
    Other,
}

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Wrong {
    /// An error of that status and code.
    Status(u16, &'static str),
    /// Status 200 and an error in the body.
    ErrorIn200(&'static str),
    /// The connection is reset in the middle of the request's body.
    Reset,
    /// Nothing is answered, and the connection stays open.
    Stall,
    /// Half of the body, then the end.
    Truncated,
    /// To somewhere else.
    Redirect(u16, SocketAddr),
    /// A part is called by another name than it is known by.
    OtherTag,
    /// It is done, but the answer is an error.
    Lost,
}

struct Plan {
    call: Call,
    times: u32,
    wrong: Wrong,
}

#[derive(Default)]
struct Upload {
    key: String,
    parts: BTreeMap<u32, (String, Vec<u8>)>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Vec<u8>>,
    uploads: BTreeMap<String, Upload>,
    plans: Vec<Plan>,
    calls: Vec<Call>,
    stalled: u32,
    next: u32,
    /// Answers about the bucket other than its own, by what is asked.
    pretences: Vec<(&'static str, String)>,
}

/// The server. It ends with the process.
pub struct Bucket {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    stalled: Condvar,
    /// Bodies are counted and thrown away: for measuring who sends them.
    discards: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

struct Request {
    method: String,
    path: String,
    query: String,
    range: Option<(usize, usize)>,
    length: usize,
}

impl Bucket {
    pub fn start() -> Self {
        Self::serve(Shared::default())
    }

    /// One that keeps no byte of what it is given.
    pub fn discarding() -> Self {
        Self::serve(Shared { discards: true, ..Shared::default() })
    }

    fn serve(shared: Shared) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let (addr, shared) = (listener.local_addr().unwrap(), Arc::new(shared));
        let served = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = served.clone();
                std::thread::spawn(move || {
                    let mut reader = BufReader::with_capacity(256 << 10, stream);
                    while answer(&shared, &mut reader).is_some() {}
                });
            }
        });
        Self { addr, shared }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Lets the next `times` such requests go wrong.
    pub fn spoil(&self, call: Call, times: u32, wrong: Wrong) {
        self.shared.state().plans.push(Plan { call, times, wrong });
    }

    /// Lets the server answer a question about the bucket (`replication`, say) with this.
    pub fn pretend(&self, question: &'static str, answer: &str) {
        self.shared.state().pretences.push((question, answer.to_owned()));
    }

    /// Lets everything go well from here on.
    pub fn mend(&self) {
        let mut state = self.shared.state();
        state.plans.clear();
        state.pretences.clear();
    }

    /// Names of objects, and of uploads that are not complete.
    pub fn left(&self) -> Vec<String> {
        let state = self.shared.state();
        let uploads = state.uploads.values().map(|upload| format!("upload {}", upload.key));
        state.objects.keys().cloned().chain(uploads).collect()
    }

    /// Puts an object there that nobody has asked for.
    pub fn plant(&self, key: &str) {
        self.shared.state().objects.insert(key.to_owned(), vec![0; 10]);
    }

    /// How often something was asked.
    pub fn count(&self, call: Call) -> usize {
        self.shared.state().calls.iter().filter(|seen| **seen == call).count()
    }

    /// Waits until so many requests stand still.
    pub fn until_stalled(&self, requests: u32) {
        let state = self.shared.state();
        let patience = Duration::from_secs(20);
        let stalled = |state: &mut State| state.stalled < requests;
        let (state, late) =
            self.shared.stalled.wait_timeout_while(state, patience, stalled).unwrap();
        assert!(!late.timed_out(), "only {} requests stood still", state.stalled);
    }
}

/// Somewhere a redirect may point to: nobody must ever say anything there.
pub struct Trap {
    pub addr: SocketAddr,
    bytes: Arc<AtomicU64>,
}

impl Trap {
    pub fn set() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let (addr, bytes) = (listener.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
        let seen = bytes.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                // A connection counts even if nothing is said on it.
                seen.fetch_add(1, Ordering::SeqCst);
                let mut piece = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut piece) {
                    seen.fetch_add(read as u64, Ordering::SeqCst);
                }
            }
        });
        Self { addr, bytes }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::SeqCst)
    }
}

/// Reads one request and answers it; `None` when the connection is over.
fn answer(shared: &Shared, reader: &mut BufReader<TcpStream>) -> Option<()> {
    let request = read_head(reader)?;
    let call = request.call();
    let wrong = {
        let mut state = shared.state();
        state.calls.push(call);
        let plan = state.plans.iter_mut().find(|plan| plan.call == call && plan.times > 0);
        plan.map(|plan| {
            plan.times -= 1;
            plan.wrong.clone()
        })
    };
    if let Some(Wrong::Reset) = wrong {
        let mut half = vec![0; request.length / 2];
        reader.read_exact(&mut half).ok()?;
        let socket = Socket::from(reader.get_ref().try_clone().ok()?);
        socket.set_linger(Some(Duration::ZERO)).ok()?;
        // Both handles must go for the reset to be sent.
        socket.shutdown(std::net::Shutdown::Both).ok()?;
        return None;
    }
    let mut body = Vec::new();
    if shared.discards && request.length > 64 << 10 {
        let taken = std::io::copy(&mut reader.take(request.length as u64), &mut std::io::sink());
        (taken.ok()? == request.length as u64).then_some(())?;
    } else {
        body.resize(request.length, 0);
        reader.read_exact(&mut body).ok()?;
    }
    let stream = reader.get_mut();
    match wrong {
        None => {
            let (status, headers, out) = perform(shared, &request, call, body, false);
            send(stream, &request, status, &headers, &out)
        }
        Some(Wrong::Status(status, code)) => {
            send(stream, &request, status, "", error(code).as_bytes())
        }
        Some(Wrong::ErrorIn200(code)) => send(stream, &request, 200, "", error(code).as_bytes()),
        Some(Wrong::Stall) => {
            shared.state().stalled += 1;
            shared.stalled.notify_all();
            // Until the other side has had enough.
            let _ = stream.read(&mut [0; 1]);
            None
        }
        Some(Wrong::Truncated) => {
            let (status, headers, out) = perform(shared, &request, call, body, false);
            let head = head(status, &headers, out.len());
            stream.write_all(head.as_bytes()).ok()?;
            stream.write_all(&out[..out.len() / 2]).ok()?;
            None
        }
        Some(Wrong::Redirect(status, to)) => {
            let place = format!("Location: http://{to}{}\r\n", request.path);
            send(stream, &request, status, &place, error("PermanentRedirect").as_bytes())
        }
        Some(Wrong::OtherTag) => {
            let (status, headers, out) = perform(shared, &request, call, body, true);
            send(stream, &request, status, &headers, &out)
        }
        Some(Wrong::Lost) => {
            let _ = perform(shared, &request, call, body, false);
            send(stream, &request, 500, "", error("InternalError").as_bytes())
        }
        Some(Wrong::Reset) => None,
    }
}

fn read_head(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    (reader.read_line(&mut line).ok()? > 0).then_some(())?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    let (mut range, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok()?,
            "range" => {
                let (from, to) = value.trim().strip_prefix("bytes=")?.split_once('-')?;
                range = Some((from.parse().ok()?, to.parse().ok()?));
            }
            _ => {}
        }
    }
    Some(Request { method, path, query, range, length })
}

impl Request {
    fn call(&self) -> Call {
        let in_parts = self.query.contains("uploadId=");
        let object = !self.key().is_empty();
        match self.method.as_str() {
            "PUT" if in_parts => Call::Part,
            "PUT" if object => Call::Put,
            "POST" if in_parts => Call::Complete,
            "POST" => Call::Begin,
            "DELETE" if in_parts => Call::Abort,
            "DELETE" => Call::Delete,
            "GET" if object => Call::Get,
            _ => Call::Other,
        }
    }

    fn key(&self) -> String {
        self.path.splitn(3, '/').nth(2).unwrap_or_default().to_owned()
    }

    fn parameter(&self, name: &str) -> String {
        let pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        let found = pairs.into_iter().find(|(key, _)| *key == name);
        found.map_or_else(String::new, |(_, value)| value.replace("%2F", "/"))
    }
}

fn error(code: &str) -> String {
    format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>no</Message></Error>")
}

fn head(status: u16, headers: &str, length: usize) -> String {
    format!("HTTP/1.1 {status} -\r\nContent-Length: {length}\r\n{headers}\r\n")
}

fn send(
    stream: &mut TcpStream,
    request: &Request,
    status: u16,
    headers: &str,
    body: &[u8],
) -> Option<()> {
    let bare = request.method == "HEAD" || status == 204;
    if request.method == "HEAD" && headers.contains("X-Length") {
        let real = headers.split("X-Length: ").nth(1)?.trim().to_owned();
        let head = format!("HTTP/1.1 {status} -\r\nContent-Length: {real}\r\n\r\n");
        return stream.write_all(head.as_bytes()).ok();
    }
    let body = if bare { &[][..] } else { body };
    let mut whole = head(status, headers, body.len()).into_bytes();
    whole.extend_from_slice(body);
    stream.write_all(&whole).ok()
}

type Performed = (u16, String, Vec<u8>);

/// Does what is asked, and says so.
fn perform(
    shared: &Shared,
    request: &Request,
    call: Call,
    body: Vec<u8>,
    wrong_tag: bool,
) -> Performed {
    let mut state = shared.state();
    let (key, upload) = (request.key(), request.parameter("uploadId"));
    let ok = |headers: String, body: String| (200, headers, body.into_bytes());
    let missing = |code: &str| (404, String::new(), error(code).into_bytes());
    match call {
        Call::Put => {
            if !shared.discards {
                state.objects.insert(key, body);
            }
            ok("ETag: \"put\"\r\n".to_owned(), String::new())
        }
        Call::Begin => {
            state.next += 1;
            let id = format!("upload-{}", state.next);
            state.uploads.insert(id.clone(), Upload { key, ..Upload::default() });
            let said = format!("<UploadId>{id}</UploadId>");
            let said =
                format!("<InitiateMultipartUploadResult>{said}</InitiateMultipartUploadResult>");
            ok(String::new(), said)
        }
        Call::Part => {
            let number = request.parameter("partNumber").parse().unwrap_or_default();
            let Some(upload) = state.uploads.get_mut(&upload) else {
                return missing("NoSuchUpload");
            };
            let tag = format!("\"part-{number}\"");
            upload.parts.insert(number, (tag.clone(), body));
            let said = if wrong_tag { "\"other\"".to_owned() } else { tag };
            ok(format!("ETag: {said}\r\n"), String::new())
        }
        Call::Complete => {
            let Some(whole) = state.uploads.get(&upload) else { return missing("NoSuchUpload") };
            let list = String::from_utf8_lossy(&body).replace("&quot;", "\"");
            let named = |(tag, _): &(String, Vec<u8>)| list.contains(tag.as_str());
            if !whole.parts.values().all(named) || !shared.discards && too_small(whole) {
                return (400, String::new(), error("InvalidPart").into_bytes());
            }
            let whole = state.uploads.remove(&upload).unwrap();
            if !shared.discards {
                let bytes = whole.parts.into_values().flat_map(|(_, bytes)| bytes).collect();
                state.objects.insert(whole.key, bytes);
            }
            let said = "<CompleteMultipartUploadResult><ETag>\"whole\"</ETag>\
                        </CompleteMultipartUploadResult>";
            ok(String::new(), said.to_owned())
        }
        Call::Abort => match state.uploads.remove(&upload) {
            Some(_) => (204, String::new(), Vec::new()),
            None => missing("NoSuchUpload"),
        },
        Call::Get => {
            let Some(object) = state.objects.get(&key) else { return missing("NoSuchKey") };
            let (from, to) = request.range.unwrap_or((0, object.len().saturating_sub(1)));
            let Some(stretch) = object.get(from..=to.min(object.len().saturating_sub(1))) else {
                return (416, String::new(), error("InvalidRange").into_bytes());
            };
            let told = format!("Content-Range: bytes {from}-{to}/{}\r\n", object.len());
            (206, told, stretch.to_vec())
        }
        Call::Delete => {
            state.objects.remove(&key);
            (204, String::new(), Vec::new())
        }
        Call::Other => about(&state, request),
    }
}

/// S3 takes no part under 5 MiB but the last.
fn too_small(upload: &Upload) -> bool {
    let sizes: Vec<usize> = upload.parts.values().map(|(_, bytes)| bytes.len()).collect();
    sizes.iter().rev().skip(1).any(|bytes| *bytes < 5 << 20)
}

/// Lists, and what the bucket is.
fn about(state: &State, request: &Request) -> Performed {
    let prefix = request.parameter("prefix");
    let query = request.query.as_str();
    let time = "2026-01-01T00:00:00.000Z";
    let ok = |body: String| (200, String::new(), body.into_bytes());
    let asked =
        |(question, _): &&(&str, String)| query.split(['&', '=']).any(|one| one == *question);
    if let Some((_, answer)) = state.pretences.iter().find(asked) {
        return ok(answer.clone());
    }
    if request.method == "HEAD" && !request.key().is_empty() {
        return match state.objects.get(&request.key()) {
            Some(object) => (200, format!("X-Length: {}\r\n", object.len()), Vec::new()),
            None => (404, String::new(), Vec::new()),
        };
    }
    if query.contains("uploads") {
        let mut list = String::new();
        for (id, upload) in state.uploads.iter().filter(|(_, up)| up.key.starts_with(&prefix)) {
            let key = &upload.key;
            list += &format!(
                "<Upload><Key>{key}</Key><UploadId>{id}</UploadId><Initiated>{time}</Initiated>\
                 </Upload>"
            );
        }
        return ok(format!("<ListMultipartUploadsResult>{list}</ListMultipartUploadsResult>"));
    }
    if query.contains("list-type") {
        let mut list = String::new();
        for key in state.objects.keys().filter(|key| key.starts_with(&prefix)) {
            list += &format!(
                "<Contents><Key>{key}</Key><LastModified>{time}</LastModified></Contents>"
            );
        }
        return ok(format!("<ListBucketResult>{list}</ListBucketResult>"));
    }
    if query.contains("location") {
        return ok("<LocationConstraint>eu-central-1</LocationConstraint>".to_owned());
    }
    if query.contains("versioning") {
        return ok("<VersioningConfiguration></VersioningConfiguration>".to_owned());
    }
    // Like a small server that has never heard of locks, copies and the public.
    (501, String::new(), error("NotImplemented").into_bytes())
}
