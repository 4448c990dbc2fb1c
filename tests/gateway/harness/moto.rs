//! A real S3 server for tests: moto, started once per test program and gone with it.
//!
//! Any other server can stand in by DAYFLY_S3_ENDPOINT, with DAYFLY_S3_REGION, DAYFLY_S3_BUCKET,
//! DAYFLY_S3_KEY_ID and DAYFLY_S3_SECRET: see CONTRIBUTING.md.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

/// Serves until nobody holds the other end of its input.
const PROGRAM: &str = r#"
import logging, sys
logging.getLogger("werkzeug").setLevel(logging.ERROR)
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"#;

/// The running server.
pub struct Moto {
    pub port: u16,
    /// Held for its input: the server ends when this process does.
    _child: Mutex<Child>,
}

/// Python with moto in it, where `tests/run` has put it.
fn python() -> Option<PathBuf> {
    let home = std::env::var_os("DAYFLY_PYTHON").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/python"),
        PathBuf::from,
    );
    let moto = home.join("bin/moto_server");
    moto.exists().then(|| home.join("bin/python"))
}

impl Moto {
    /// The server; `None` where moto is not installed.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Moto>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref()
    }

    fn start() -> Option<Self> {
        let mut command = Command::new(python()?);
        command.args(["-c", PROGRAM]).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("python starts");
        let mut line = String::new();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        said.read_line(&mut line).expect("moto says its port");
        let port = line.trim().parse().expect("a port");
        Some(Self { port, _child: Mutex::new(child) })
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A new bucket in `region`.
    pub fn bucket(&self, region: &str) -> String {
        self.bucket_with(region, "")
    }

    /// A new bucket, made with further header lines.
    pub fn bucket_with(&self, region: &str, headers: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bucket-{}-{next}", std::process::id());
        let place = format!("<LocationConstraint>{region}</LocationConstraint>");
        let xmlns = "http://s3.amazonaws.com/doc/2006-03-01/";
        let body = format!(
            "<CreateBucketConfiguration xmlns=\"{xmlns}\">{place}</CreateBucketConfiguration>"
        );
        let (status, said) = self.ask("PUT", &format!("/{name}"), headers, &body);
        assert_eq!(status, 200, "{said}");
        name
    }

    /// Switches versioning on (`Enabled`) or off again (`Suspended`).
    pub fn version(&self, bucket: &str, status: &str) {
        let xmlns = "http://s3.amazonaws.com/doc/2006-03-01/";
        let set = format!("<Status>{status}</Status>");
        let body =
            format!("<VersioningConfiguration xmlns=\"{xmlns}\">{set}</VersioningConfiguration>");
        let (status, said) = self.ask("PUT", &format!("/{bucket}?versioning"), "", &body);
        assert_eq!(status, 200, "{said}");
    }

    /// The names of all objects.
    pub fn objects(&self, bucket: &str) -> Vec<String> {
        let (status, said) = self.ask("GET", &format!("/{bucket}?list-type=2"), "", "");
        assert_eq!(status, 200, "{said}");
        texts(&said, "Key")
    }

    /// The ids of all uploads that are not complete.
    pub fn uploads(&self, bucket: &str) -> Vec<String> {
        let (status, said) = self.ask("GET", &format!("/{bucket}?uploads"), "", "");
        assert_eq!(status, 200, "{said}");
        texts(&said, "UploadId")
    }

    /// Everything that is left of every object, hidden versions included.
    pub fn versions(&self, bucket: &str) -> Vec<String> {
        let (status, said) = self.ask("GET", &format!("/{bucket}?versions"), "", "");
        assert_eq!(status, 200, "{said}");
        texts(&said, "VersionId")
    }

    /// Sends a request as the server's owner would; returns status and body.
    pub fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        let (status, bytes) = self.fetch(method, path, headers, body.as_bytes());
        (status, String::from_utf8_lossy(&bytes).into_owned())
    }

    /// As [`Moto::ask`], for bytes.
    pub fn fetch(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("moto listens");
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\
             Content-Length: {length}\r\n{headers}\r\n",
            self.port
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("moto answers");
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        (status.expect("a status"), answer.split_off(end + 4))
    }
}

/// What stands in every element of that name.
fn texts(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let each = xml.split(open.as_str()).skip(1);
    each.filter_map(|rest| Some(rest.split_once(close.as_str())?.0.to_owned())).collect()
}
