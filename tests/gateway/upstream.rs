//! Services of the operator's own: bytes flow through them, and whatever they do wrong never looks
//! right.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{Answer, Client, HERE, Setup, TestGateway, eventually, noise, run};

mod long;

/// A service on loopback: does the same with every connection, on its own thread.
struct Service {
    at: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Service {
    fn new(serve: impl Fn(Caller) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let (asked, serve) = (Arc::new(AtomicUsize::new(0)), Arc::new(serve));
        let count = asked.clone();
        // They end with the test program.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                let serve = serve.clone();
                std::thread::spawn(move || {
                    if let Some(caller) = Caller::new(stream) {
                        serve(caller);
                    }
                });
            }
        });
        Self { at, asked }
    }

    fn setup(&self) -> Setup {
        Setup::new()
            .set("", "allow_insecure_loopback", "true")
            .set("processors.own", "kind", "\"http\"")
            .set("processors.own", "url", &format!("\"http://{}/convert/it\"", self.at))
            .set("processors.own", "region", &format!("\"{HERE}\""))
            .set("processors.own", "media_type", "\"application/x-own\"")
            .set("processors.own", "limits", PATIENT)
            .set("tenants.acme", "processors", "[\"own\", \"checksum\"]")
    }

    fn gateway(&self) -> TestGateway {
        self.setup().start()
    }

    /// A gateway that waits a second for it.
    fn hurried(&self) -> TestGateway {
        let limits = "{ time = \"1s\", output = \"96MiB\" }";
        self.setup().set("processors.own", "limits", limits).start()
    }
}

/// Longer than a busy machine needs for anything here.
const PATIENT: &str = "{ time = \"25s\", output = \"96MiB\" }";

/// A request as the service gets it.
struct Caller {
    stream: TcpStream,
    head: String,
    ahead: Vec<u8>,
}

impl Caller {
    fn new(mut stream: TcpStream) -> Option<Self> {
        let mut ahead = Vec::new();
        let end = loop {
            if let Some(at) = ahead.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            let mut piece = [0; 4096];
            let read = stream.read(&mut piece).ok().filter(|read| *read > 0)?;
            ahead.extend_from_slice(&piece[..read]);
        };
        let head = String::from_utf8_lossy(&ahead[..end]).into_owned();
        Some(Self { stream, head, ahead: ahead.split_off(end) })
    }

    fn say(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Hands the chunked body on as it comes, framing and all, and keeps what it was.
    fn each(&mut self, mut with: impl FnMut(&mut TcpStream, &[u8]) -> bool) {
        let (mut piece, mut tail) = (vec![0; 1 << 16], Vec::new());
        let mut read = std::mem::take(&mut self.ahead);
        loop {
            tail.extend_from_slice(&read);
            tail.drain(..tail.len().saturating_sub(5));
            if !with(&mut self.stream, &read) || tail == b"0\r\n\r\n" {
                return;
            }
            match self.stream.read(&mut piece) {
                Ok(count) if count > 0 => read = piece[..count].to_vec(),
                _ => return,
            }
        }
    }

    fn read_it_all(&mut self) {
        self.each(|_, _| true);
    }
}

/// Chunk by chunk what comes in, while it comes.
fn echo(mut caller: Caller) {
    caller.say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    caller.each(|stream, bytes| stream.write_all(bytes).is_ok());
}

#[test]
fn a_service_gets_the_bytes_and_the_receipt_names_it() {
    let heads = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = heads.clone();
    let service = Service::new(move |caller| {
        seen.lock().unwrap().push(caller.head.clone());
        echo(caller);
    });
    let gateway = service.gateway();
    let client = gateway.client();
    for size in [0, 1, 100_000, 8 << 20] {
        let bytes = noise(size);
        let answer = client.ask("POST", "/v1/process/own").chunked().body(&bytes).send();
        let answer = answer.expect(200);
        answer.is_body(&bytes);
        assert_eq!(answer.header("content-type"), Some("application/x-own"));
        let place = answer.header("dayfly-receipt").unwrap().to_owned();
        eventually("the receipt names the service", || {
            let receipt = client.get(&place).expect(200).json();
            (receipt["handed_to"] == serde_json::json!(["own"])).then_some(())
        });
    }
    let head = heads.lock().unwrap()[0].to_ascii_lowercase();
    assert!(head.starts_with("post /convert/it http/1.1\r\n"), "{head}");
    for never in ["authorization", "dfk_", "x-forwarded", "cookie"] {
        assert!(!head.contains(never), "{head}");
    }
    let sums = client.post("/v1/process/own+checksum", b"abc").expect(200).json();
    let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(sums["checksums"]["sha-256"], known);
    let other = gateway.client_of("other");
    other.post("/v1/process/own", b"").problem(403, "not-permitted-by-policy");
    gateway.is_empty_again();
}

#[test]
fn a_service_that_wants_a_form_gets_one() {
    let service = Service::new(|mut caller| {
        let mut body = Vec::new();
        caller.each(|_, bytes| {
            body.extend_from_slice(bytes);
            true
        });
        let said = [caller.head.as_bytes(), &body].concat();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", said.len());
        caller.say(&[head.as_bytes(), &said].concat());
    });
    let gateway = service
        .setup()
        .set("processors.own", "method", "\"PUT\"")
        .set("processors.own", "form_field", "\"files\"")
        .set("processors.own", "form_filename", "\"document.docx\"")
        .start();
    let body = b"the document's bytes";
    let said = gateway.client().post("/v1/process/own", body).expect(200).body_text();
    assert!(said.starts_with("PUT /convert/it HTTP/1.1\r\n"), "{said}");
    let mark = said.split("boundary=").nth(1).and_then(|rest| rest.split("\r\n").next()).unwrap();
    assert_eq!(mark.len(), 32, "{said}");
    assert!(said.contains("name=\"files\"; filename=\"document.docx\""), "{said}");
    assert!(said.contains("the document's bytes") && said.contains(&format!("--{mark}--")));
    gateway.is_empty_again();
}

#[test]
fn bytes_go_on_while_they_come_in_in_constant_memory() {
    let gateway = Service::new(echo).gateway();
    let client = gateway.client();
    let length = 64usize << 20;
    let piece = noise(1 << 20);
    let mut wire = client.ask("POST", "/v1/process/own").begin(Some(length as u64));
    let mut sender = wire.sender();
    std::thread::scope(|scope| {
        let piece = &piece;
        scope.spawn(move || {
            for _ in 0..length / piece.len() - 1 {
                sender.write_all(piece).unwrap();
            }
            // The last one is kept back until most has come back.
            sender.write_all(piece).unwrap();
        });
        let head = wire.head();
        assert_eq!(head.status, 200);
        let used = gateway.metric("dayfly_budget_used_bytes");
        assert!(used <= f64::from(8 << 20), "{used} bytes of the budget");
        let body = wire.body(&head);
        assert!(body.whole && body.bytes.len() == length);
        assert!(body.bytes.chunks(piece.len()).all(|part| part == *piece));
    });
    assert_eq!(gateway.metric("dayfly_live_bytes").to_bits(), 0, "nothing is stored");
    gateway.is_empty_again();
}

/// The client's answer: nothing, a problem, or a message that was cut. Never a whole one.
#[track_caller]
fn failed(client: &Client, body: &[u8], what: &str) -> Option<Answer> {
    let answer = client.ask("POST", "/v1/process/own").body(body).try_send();
    if let Some(answer) = &answer {
        let whole = answer.whole && answer.status < 400;
        assert!(!whole, "{what}: {} and whole: {:?}", answer.status, answer.body.len());
    }
    answer
}

#[test]
fn before_the_head_a_failure_is_a_problem() {
    let nowhere = Service::new(|_| {});
    let to = format!("HTTP/1.1 302 Found\r\nlocation: http://{}/\r\n\r\n", nowhere.at);
    type Serve = Box<dyn Fn(Caller) + Send + Sync>;
    let says = |bytes: &'static [u8]| -> Serve {
        Box::new(move |mut caller: Caller| {
            caller.read_it_all();
            caller.say(bytes);
        })
    };
    let slow: Serve = Box::new(|mut caller| {
        caller.read_it_all();
        // Until the gateway loses patience and closes.
        let _ = caller.stream.read(&mut [0; 1]);
    });
    let deaf: Serve = Box::new(|caller| {
        // Reads nothing of the body, and keeps the connection.
        while !gone(&caller.stream) {
            std::thread::park_timeout(std::time::Duration::from_millis(20));
        }
    });
    let redirect: Serve = Box::new(move |mut caller| {
        caller.read_it_all();
        caller.say(to.as_bytes());
    });
    let body = noise(8 << 20);
    for (what, serve, status, slug) in [
        (
            "500",
            says(b"HTTP/1.1 500 Oh\r\ncontent-length: 6\r\n\r\nSECRET"),
            502,
            "upstream-failed",
        ),
        ("404", says(b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n"), 502, "upstream-failed"),
        ("204", says(b"HTTP/1.1 204 No\r\n\r\n"), 502, "upstream-failed"),
        (
            "a type",
            says(b"HTTP/1.1 415 No\r\ncontent-length: 0\r\n\r\n"),
            415,
            "unsupported-media-type",
        ),
        ("garbage", says(b"SSH-2.0-nothing to see\r\n"), 502, "upstream-failed"),
        ("nothing", says(b""), 502, "upstream-failed"),
        (
            "packed",
            says(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 1\r\n\r\nx"),
            502,
            "upstream-failed",
        ),
        ("a redirect", redirect, 502, "upstream-failed"),
        ("slow", slow, 504, "upstream-timeout"),
        ("deaf", deaf, 504, "upstream-timeout"),
    ] {
        let service = Service::new(serve);
        let hurry = status == 504;
        let gateway = if hurry { service.hurried() } else { service.gateway() };
        let answer = failed(&gateway.client(), &body, what).expect(what);
        assert_eq!(answer.status, status, "{what}: {}", answer.body_text());
        assert!(!answer.body_text().contains("SECRET"));
        answer.problem(status, slug);
        gateway.is_empty_again();
    }
    assert_eq!(nowhere.asked.load(Ordering::SeqCst), 0, "nobody followed the redirect");
    let closed = Service::new(|_| {}).setup();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("\"http://127.0.0.1:{port}/\"");
    let gateway = closed.set("processors.own", "url", &url).start();
    gateway.client().post("/v1/process/own", b"x").problem(502, "upstream-failed");
    gateway.is_empty_again();
}

/// Whether the other side has closed.
fn gone(stream: &TcpStream) -> bool {
    let error = stream.take_error();
    error.is_err() || error.is_ok_and(|error| error.is_some()) || {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut watched = [PollFd::new(stream, PollFlags::RDHUP)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut watched, Some(&now)).is_ok_and(|ready| ready > 0)
    }
}

#[test]
fn after_the_head_a_failure_cuts_the_message() {
    type Serve = Box<dyn Fn(Caller) + Send + Sync>;
    let cut: Serve = Box::new(|mut caller| {
        caller.read_it_all();
        caller.say(b"HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n");
        caller.say(&[b'x'; 200_000]);
    });
    let chunk: Serve = Box::new(|mut caller| {
        caller.read_it_all();
        caller.say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
    });
    let stall: Serve = Box::new(|mut caller| {
        caller.read_it_all();
        caller.say(b"HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n");
        caller.say(&[b'x'; 200_000]);
        let _ = caller.stream.read(&mut [0; 1]);
    });
    let endless: Serve = Box::new(|mut caller| {
        caller.read_it_all();
        caller.say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
        while caller.say(&chunk) {}
    });
    let early: Serve = Box::new(|mut caller| {
        // A whole answer, before it has read what it was asked about.
        caller.say(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        caller.read_it_all();
    });
    let body = noise(64 << 20);
    for (what, serve) in [
        ("cut", cut),
        ("a chunk short", chunk),
        ("stalled", stall),
        ("endless", endless),
        ("early", early),
    ] {
        let service = Service::new(serve);
        let gateway = if what == "stalled" { service.hurried() } else { service.gateway() };
        let long = if what == "early" { &body[..] } else { b"a document" };
        failed(&gateway.client(), long, what);
        gateway.is_empty_again();
    }
}

#[test]
fn an_input_that_breaks_is_never_a_whole_answer() {
    let gateway = Service::new(echo).gateway();
    let client = gateway.client();
    let digest = "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:";
    let ask = client.ask("POST", "/v1/process/own").header("Content-Digest", digest);
    let body = noise(2 << 20);
    let answer = ask.body(&body).try_send();
    assert!(answer.is_none_or(|answer| !answer.whole || answer.status == 400));
    let mut wire = client.ask("POST", "/v1/process/own").begin(Some(1 << 20));
    wire.send(&body[..1 << 19]).unwrap();
    wire.end_sending();
    if let Some(head) = wire.try_head() {
        let body = wire.body(&head);
        assert!(head.status == 400 || !body.whole, "{} and whole", head.status);
    }
    gateway.is_empty_again();
}

/// A client that sends slowly, or reads slowly, is not the service's fault.
#[test]
fn a_slow_client_is_not_a_slow_service() {
    let gateway = Service::new(echo).hurried();
    let client = gateway.client();
    let mut wire = client.ask("POST", "/v1/process/own").chunked().begin(None);
    wire.send(b"5\r\nhello\r\n").unwrap();
    assert_eq!(wire.head().status, 200);
    // Longer than the service's whole patience.
    let started = std::time::Instant::now();
    eventually("the service's patience would have run out", || {
        (started.elapsed() > std::time::Duration::from_millis(1500)).then_some(())
    });
    wire.send(b"5\r\nagain\r\n0\r\n\r\n").unwrap();
    let said = wire.up_to(25);
    assert!(String::from_utf8_lossy(&said).contains("again"), "{}", said.escape_ascii());
    drop(wire);
    gateway.is_empty_again();
}

#[test]
fn a_service_elsewhere_or_in_the_clear_is_refused_when_the_settings_are_read() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let good = Service::new(echo).setup().spool(dir.path());
    for (setup, named) in [
        (good.clone().set("processors.own", "region", "\"us-test-2\""), "own.region"),
        (good.clone().set("processors.own", "url", "\"http://tika.example/\""), "own.url"),
        (good.clone().set("", "allow_insecure_loopback", "false"), "own.url"),
        (good.clone().set("processors.own", "url", "\"https://u:p@tika.example/\""), "own.url"),
        (good.clone().set("processors.own", "url", "\"https://tika.example/?key=1\""), "own.url"),
        (good.clone().set("processors.own", "method", "\"GET\""), "own.method"),
        (good.clone().set("processors.own", "form_field", "\"a\\\"b\""), "own.form_field"),
        (good.clone().set("processors.own", "command", "[\"cat\"]"), "own.command"),
        (good.clone().set("processors.own", "limits", "{ time = \"0s\" }"), "own.limits.time"),
    ] {
        let path = dir.path().join("dayfly.toml");
        std::fs::write(&path, setup.toml()).unwrap();
        let ended = run(&["check", "--config", path.to_str().unwrap()]);
        assert_eq!(ended.code, Some(78), "{named}: {}", ended.stdout);
        assert!(ended.stderr.contains(named), "{named}: {}", ended.stderr);
    }
}
