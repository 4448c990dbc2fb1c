//! A real clamd with a signature of our own: what it knows does not pass, and neither does anything
//! it has not seen.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::inotify;

use crate::harness::{Setup, TestGateway, eventually, noise, skip, zip};

/// What the signature finds.
const MARKED: &[u8] = b"dayfly marks this file for the scanner's test";

/// A scanner of the test's own. Its temporary folder is in memory.
struct Clamd {
    process: Child,
    dir: tempfile::TempDir,
    memory: tempfile::TempDir,
}

impl Clamd {
    /// `None` where it is not installed.
    fn start() -> Option<Self> {
        let program =
            ["/usr/sbin/clamd", "/usr/bin/clamd"].into_iter().find(|path| Path::new(path).exists());
        let (Some(program), true) = (program, Path::new("/dev/shm").exists()) else {
            skip("a real clamd: install Debian's clamav-daemon");
            return None;
        };
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let memory = tempfile::tempdir_in("/dev/shm").unwrap();
        let database = dir.path().join("database");
        std::fs::create_dir(&database).unwrap();
        let hex = data_encoding::HEXLOWER.encode(MARKED);
        std::fs::write(database.join("own.ndb"), format!("Dayfly.Marked:0:*:{hex}\n")).unwrap();
        let config = dir.path().join("clamd.conf");
        let lines = [
            format!("LocalSocket {}", dir.path().join("socket").display()),
            format!("DatabaseDirectory {}", database.display()),
            format!("TemporaryDirectory {}", memory.path().display()),
            "Foreground yes".to_owned(),
            "MaxThreads 2".to_owned(),
            "ConcurrentDatabaseReload no".to_owned(),
        ];
        std::fs::write(&config, lines.join("\n") + "\n").unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let process = Command::new(program)
            .arg("--config-file")
            .arg(&config)
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let this = Self { process, dir, memory };
        eventually("clamd listens", || {
            std::os::unix::net::UnixStream::connect(this.socket()).ok().map(drop)
        });
        Some(this)
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    fn gateway(&self) -> TestGateway {
        Setup::new()
            .set("processors.scan", "socket", &format!("{:?}", self.socket()))
            .set("processors.scan", "limits", "{ input = \"4MiB\", time = \"20s\" }")
            .set("pipelines", "intake", "[\"scan\", \"checksum\"]")
            .start()
    }

    fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Clamd {
    fn drop(&mut self) {
        self.stop();
    }
}

#[test]
fn what_the_scanner_knows_does_not_pass_and_what_it_cannot_see_does_not_either() {
    let Some(mut clamd) = Clamd::start() else { return };
    let gateway = clamd.gateway();
    let client = gateway.client();
    let clean = client.post("/v1/process/scan", b"nothing to see").expect(200);
    assert_eq!(clean.json(), serde_json::json!({ "verdict": "clean" }));
    client.post("/v1/process/scan", b"").expect(200);
    let within = [noise(300_000), MARKED.to_vec(), noise(300_000)].concat();
    let archive = zip(&[("a/letter.txt", MARKED), ("b.bin", &noise(1000))]);
    let nested = zip(&[("inner.zip", &archive)]);
    for document in [MARKED, &within, &archive, &nested] {
        client.post("/v1/process/scan", document).problem(422, "malware");
        // A step behind it never sees the file.
        client.post("/v1/process/scan+checksum", document).problem(422, "malware");
    }
    let sums = client.post("/v1/process/intake", b"abc").expect(200).json();
    let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(sums["checksums"]["sha-256"], known, "the file itself, not the verdict");
    client.post("/v1/process/scan", &noise(5 << 20)).problem(422, "processor-limit");
    clamd.stop();
    for steps in ["scan", "intake"] {
        let path = format!("/v1/process/{steps}");
        client.post(path, b"unseen").problem(503, "scanner-unavailable");
    }
    gateway.is_empty_again();
}

/// Tells which files, folders aside, are made in some folders.
struct Watch {
    events: OwnedFd,
}

impl Watch {
    fn new(folders: &[&Path]) -> Self {
        let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
        let events = inotify::init(flags).unwrap();
        for folder in folders {
            inotify::add_watch(&events, *folder, inotify::WatchFlags::CREATE).unwrap();
        }
        Self { events }
    }

    fn made(&self) -> Vec<String> {
        let mut room = [std::mem::MaybeUninit::uninit(); 8192];
        let (mut reader, mut made) = (inotify::Reader::new(&self.events, &mut room), Vec::new());
        while let Ok(event) = reader.next() {
            if event.events().contains(inotify::ReadFlags::ISDIR) {
                continue;
            }
            made.extend(event.file_name().map(|name| name.to_string_lossy().into_owned()));
        }
        made
    }
}

#[test]
fn the_scanner_makes_no_file_on_a_disk() {
    let Some(clamd) = Clamd::start() else { return };
    let gateway = clamd.gateway();
    let client = gateway.client();
    let home = gateway.dir().to_owned();
    let spool = home.join("spool");
    let disk = Watch::new(&[clamd.dir.path(), &home, &spool, Path::new("/var/tmp")]);
    // Others make files there too: only what looks like clamd's counts.
    let shared = Watch::new(&[&std::env::temp_dir()]);
    let memory = Watch::new(&[clamd.memory.path()]);
    let archive = zip(&[("letter.txt", MARKED)]);
    let plain = noise(1 << 20);
    client.post("/v1/process/scan", &plain).expect(200);
    // A folder for what it may unpack is made each time, in memory; the file itself is not copied.
    assert_eq!(memory.made(), [""; 0], "not even in memory");
    client.post("/v1/process/scan", &archive).problem(422, "malware");
    // The sealed input rests in the spool as a file without a name.
    assert_eq!(disk.made(), [""; 0]);
    let shared = shared.made();
    let clamds = shared.iter().filter(|name| name.contains("clamav") || name.contains("scan"));
    assert_eq!(clamds.count(), 0, "{shared:?}");
    // And this is what it would look like otherwise: streamed to it, clamd does write the file out.
    let mut stream = std::os::unix::net::UnixStream::connect(clamd.socket()).unwrap();
    let length = u32::try_from(plain.len()).unwrap().to_be_bytes();
    let said = [b"zINSTREAM\0", &length[..], &plain, &[0; 4]].concat();
    std::io::Write::write_all(&mut stream, &said).unwrap();
    let mut answer = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut answer).unwrap();
    assert!(!memory.made().is_empty(), "{}", answer.escape_ascii());
    gateway.is_empty_again();
}

#[test]
fn a_scanner_that_lies_or_hangs_passes_nothing() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let socket = dir.path().join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let limits = "{ time = \"1s\" }";
    let gateway = Setup::new()
        .set("processors.scan", "socket", &format!("{socket:?}"))
        .set("processors.scan", "limits", limits)
        .start();
    let client = gateway.client();
    for answer in [&b""[..], b"fd[10]: OK", b"OK\0", b"fd[10]: not found ERROR\0", b"hang"] {
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| client.post("/v1/process/scan", b"a document"));
            let (mut stream, _) = listener.accept().unwrap();
            let mut said = [0; 9];
            std::io::Read::read_exact(&mut stream, &mut said).unwrap();
            assert_eq!(&said, b"zFILDES\0\0");
            if answer != b"hang" {
                std::io::Write::write_all(&mut stream, answer).unwrap();
                drop(stream);
                asked.join().unwrap().problem(503, "scanner-unavailable");
            } else {
                asked.join().unwrap().problem(503, "scanner-unavailable");
                drop(stream);
            }
        });
    }
    gateway.is_empty_again();
}

#[test]
fn without_a_scanner_there_is_no_scan() {
    let gateway = TestGateway::start();
    gateway.client().post("/v1/process/scan", b"x").problem(422, "unknown-step");
}
