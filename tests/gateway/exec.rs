//! Programs of the operator's own: bytes pass through them, and nothing else does.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::harness::{Setup, TestGateway, docx, eventually, noise, run, skip};

/// A gateway whose tenant `acme` may use one program, under the name `own`.
fn with(command: &[&str], limits: &str) -> Option<TestGateway> {
    if !bubblewrap_runs() {
        return None;
    }
    Some(setup(command, limits).start())
}

fn setup(command: &[&str], limits: &str) -> Setup {
    Setup::new()
        .set("processors.own", "kind", "\"exec\"")
        .set("processors.own", "command", &format!("{command:?}"))
        .set("processors.own", "limits", limits)
        .set("processors.own", "media_type", "\"text/plain\"")
        .set("tenants.acme", "processors", "[\"own\", \"checksum\", \"text\"]")
}

/// Most containers forbid it, and then there are no programs.
fn bubblewrap_runs() -> bool {
    let checked = run(&["check"]).stdout;
    let line = checked.lines().find(|line| line.contains("programs")).expect("check tells");
    let runs = line.contains("run under bubblewrap");
    if !runs {
        skip(&format!("programs under bubblewrap: {line}"));
    }
    runs
}

#[test]
fn bytes_pass_through_a_program_and_the_receipt_names_it() {
    let Some(gateway) = with(&["tr", "a-z", "A-Z"], "{}") else { return };
    let client = gateway.client();
    let text = b"the quick brown fox. ".repeat(300_000);
    let answer = client.post("/v1/process/own", &text).expect(200);
    answer.is_body(&text.to_ascii_uppercase());
    assert_eq!(answer.header("content-type"), Some("text/plain"));
    let place = answer.header("dayfly-receipt").unwrap().to_owned();
    eventually("the receipt names the program", || {
        let receipt = client.get(&place).expect(200).json();
        let named = receipt["handed_to"] == serde_json::json!(["own"]);
        (named && receipt["state"] == "final").then_some(())
    });
    client.post("/v1/process/own", b"").expect(200).is_body(b"");
    let sums = client.post("/v1/process/own+checksum", b"abc").expect(200).json();
    let known = "b5d4045c3f466fa91fe2cc6abe79232a1a57cdf104f7a26e716e0a1e2789df78";
    assert_eq!(sums["checksums"]["sha-256"], known, "of ABC");
    client.post("/v1/process/own?x=1", b"").problem(422, "bad-option");
    let other = gateway.client_of("other");
    other.post("/v1/process/own", b"").problem(403, "not-permitted-by-policy");
    let names = client.get("/v1/processors").expect(200).json();
    let names = names["processors"].as_array().unwrap();
    assert!(names.iter().any(|one| one["name"] == "own" && one["options"].is_object()));
    gateway.is_empty_again();
}

#[test]
fn a_programs_output_flows_while_its_input_is_still_being_sent() {
    let Some(gateway) = with(&["cat"], "{}") else { return };
    let client = gateway.client();
    let mut wire = client.ask("POST", "/v1/process/own").chunked().begin(None);
    let bytes = noise(8 << 20);
    let mut sender = wire.sender();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for part in bytes.chunks(1 << 20) {
                let chunk = [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
                std::io::Write::write_all(&mut sender, &chunk).unwrap();
            }
        });
        assert_eq!(wire.head().status, 200);
        assert!(!wire.up_to(4 << 20).is_empty());
    });
    drop(sender);
    wire.reset();
    gateway.is_empty_again();
}

#[test]
fn a_program_that_fails_never_gives_a_whole_answer() {
    for (script, status, slug) in [
        ("exit 3", 502, "upstream-failed"),
        ("kill -SEGV $$", 422, "processor-limit"),
        ("head -c 1000000 >/dev/null; exit 1", 502, "upstream-failed"),
        ("no-such-program", 502, "upstream-failed"),
        ("while :; do :; done", 422, "processor-limit"),
        ("exec sleep 600", 422, "processor-limit"),
        ("exec >&-; exec sleep 600", 422, "processor-limit"),
    ] {
        // A busy machine takes its time with those that end by themselves.
        let endless = script.contains("sleep") || script.contains("while");
        let limits = if endless { "{ time = \"1s\" }" } else { "{}" };
        let Some(gateway) = with(&["sh", "-c", script], limits) else { return };
        let answer = gateway.client().post("/v1/process/own", &noise(100_000));
        assert_eq!(answer.status, status, "{script}: {}", answer.body_text());
        answer.problem(status, slug);
        gateway.is_empty_again();
    }
    for script in ["head -c 300000; exit 3", "cat; kill -KILL $$", "head -c 300000; sleep 600"] {
        let Some(gateway) = with(&["sh", "-c", script], "{ time = \"1s\" }") else { return };
        let client = gateway.client();
        let answer = client.ask("POST", "/v1/process/own").body(&noise(400_000)).try_send();
        if let Some(answer) = answer {
            assert!(!answer.whole || answer.status >= 400, "{script}: complete, and wrong");
        }
        gateway.is_empty_again();
    }
    let limits = "{ output = \"100KiB\" }";
    let Some(gateway) = with(&["sh", "-c", "cat /dev/zero"], limits) else { return };
    let answer = gateway.client().ask("POST", "/v1/process/own").body(b"x").try_send();
    assert!(answer.is_none_or(|answer| !answer.whole || answer.status >= 400));
    gateway.is_empty_again();
}

#[test]
fn a_program_may_stop_reading_but_the_input_must_still_be_good() {
    let Some(gateway) = with(&["head", "-c", "3"], "{}") else { return };
    let client = gateway.client();
    client.post("/v1/process/own", &b"abc".repeat(500_000)).expect(200).is_body(b"abc");
    let digest = "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:";
    let ask = client.ask("POST", "/v1/process/own").header("Content-Digest", digest);
    let body = b"abc".repeat(500_000);
    let answer = ask.body(&body).try_send();
    assert!(answer.is_none_or(|answer| !answer.whole || answer.status == 400));
    gateway.is_empty_again();
}

/// The program's source, compiled into the gateway's test folder.
fn hostile(dir: &Path) -> Option<PathBuf> {
    let (source, program) = (dir.join("hostile.c"), dir.join("hostile"));
    std::fs::write(&source, include_str!("exec/hostile.c")).unwrap();
    let made = Command::new("cc").arg("-O1").arg("-o").arg(&program).arg(&source).output();
    let Ok(made) = made else {
        skip("a hostile program: there is no cc to compile it");
        return None;
    };
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Some(program)
}

/// A process beside the program, of the same user as the gateway.
struct Sibling(Child);

impl Sibling {
    fn new() -> Self {
        let quiet =
            Command::new("sleep").arg("60").stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self(quiet.unwrap())
    }
}

impl Drop for Sibling {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_hostile_program_reaches_nothing() {
    a_hostile_program(false);
}

/// Large programs want to see themselves in /proc, and sockets among their own processes.
#[test]
fn a_hostile_program_that_is_shown_itself_reaches_nothing_either() {
    a_hostile_program(true);
}

/// Calls that the list of system calls refuses by itself, whatever else stands.
const FILTERED: [&str; 15] = [
    "ptrace",
    "limit-others",
    "read-memory",
    "open-process",
    "io-uring",
    "keyctl",
    "add-key",
    "bpf",
    "unshare",
    "new-namespace",
    "mount",
    "memfd",
    "type-ahead",
    "connect-tcp",
    "send-udp",
];

/// What a program is told of its limits, and what it may be.
const LIMITS: [(&str, i64); 7] = [
    ("limit-memory", 1 << 30),
    ("limit-file", 8 << 20),
    ("limit-processes", 16),
    ("limit-files", 256),
    ("limit-seconds", 60),
    ("limit-locked", 0),
    ("limit-queues", 0),
];

fn a_hostile_program(shown: bool) {
    if !bubblewrap_runs() {
        return;
    }
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    // A gateway that runs as root runs its programs as nobody, who has to be let in.
    std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let Some(program) = hostile(dir.path()) else { return };
    let secret = dir.path().join("secret");
    std::fs::write(&secret, b"not for programs").unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port();
    let udp = UdpSocket::bind(tcp.local_addr().unwrap()).unwrap();
    let name = format!("dayfly exec {port}");
    let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
    let unix = UnixListener::bind_addr(&address).unwrap();
    let path = dir.path().join("socket");
    let by_path = UnixListener::bind(&path).unwrap();
    let mut sibling = Sibling::new();
    let (us, other) = (std::process::id(), sibling.0.id());
    // Shown to the program are files its command names: a path inside a word names none.
    let script = format!(
        "exec {} {us} {other} {} {port} '{name}' {}",
        program.display(),
        secret.display(),
        path.display()
    );
    let reads = format!("[{:?}]", program.display().to_string());
    let gateway = setup(&["sh", "-c", &script], "{ scratch = \"8MiB\", processes = 16 }")
        .set("processors.own", "reads", &reads)
        .set("processors.own", "proc", if shown { "true" } else { "false" })
        .start();
    let said = gateway.client().post("/v1/process/own", b"a document").expect(200).body_text();
    let found: BTreeMap<&str, i64> = said
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, number)| (name, number.parse().unwrap()))
        .collect();
    let told = ["filled", "children", "variables", "descriptors", "core", "session"];
    let nothing = ["capabilities", "privileges"];
    // Of itself, and of bubblewrap, which is the first process there.
    let own = if shown { &["list-proc", "read-environment"][..] } else { &[] };
    for (name, errno) in &found {
        let number = told.contains(name) || name.starts_with("limit-") && *name != "limit-others";
        let allowed = *errno == 0 && !nothing.contains(name) && !own.contains(name);
        assert!(number || !allowed, "{name} was allowed:\n{said}");
    }
    for name in FILTERED {
        assert_eq!(found[name], i64::from(libc::ENOSYS), "{name} met another wall:\n{said}");
    }
    for (name, most) in LIMITS {
        assert_eq!(found[name], most, "{name}:\n{said}");
    }
    assert_eq!((found["capabilities"], found["privileges"], found["session"]), (0, 0, 1), "{said}");
    assert_eq!(found.len(), 43, "{said}");
    assert!(found["filled"] <= 8 << 20, "{said}");
    assert!(found["children"] < 16, "{said}");
    // PATH, HOME, TMPDIR, LANG, and what a shell adds: PWD, OLDPWD, SHLVL, _.
    assert!(found["variables"] <= 8, "{said}");
    let descriptors = if shown { 7 } else { 3 };
    let what = "0 to 2, and what it was shown of itself";
    assert_eq!(found["descriptors"], descriptors, "{what}: {said}");
    assert!(found["core"] <= 1, "{said}");
    for listener in [tcp.set_nonblocking(true), udp.set_nonblocking(true)] {
        listener.unwrap();
    }
    unix.set_nonblocking(true).unwrap();
    by_path.set_nonblocking(true).unwrap();
    assert!(tcp.accept().is_err() && udp.recv(&mut [0; 8]).is_err());
    assert!(unix.accept().is_err() && by_path.accept().is_err());
    assert!(sibling.0.try_wait().unwrap().is_none(), "the bystander lives");
    let text = gateway.client().post("/v1/process/text", b"others do not notice\n").expect(200);
    assert!(text.body_text().contains("others do not notice"));
    gateway.is_empty_again();
}

/// Whether a process with this word in its command line runs anywhere on the machine.
fn runs(word: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let commands = processes.filter_map(|each| std::fs::read(each.path().join("cmdline")).ok());
    commands.map(|command| String::from_utf8_lossy(&command).into_owned()).any(|command| {
        // Words stand between zero bytes; the gateway's own settings are in a file.
        command.split('\0').any(|each| each == word)
    })
}

/// Whatever it has started, in whatever session: gone with the client, and with the gateway.
#[test]
fn a_program_that_was_given_up_is_gone_with_all_it_has_started() {
    let seconds = format!("{}", 900_000 + std::process::id());
    let script = format!("setsid sleep {seconds} & nohup sleep {seconds} & exec sleep {seconds}");
    let Some(mut gateway) = with(&["sh", "-c", &script], "{}") else { return };
    let begin = || {
        let client = gateway.client();
        let mut wire = client.ask("POST", "/v1/process/own").chunked().begin(None);
        wire.send(b"5\r\nhello\r\n").unwrap();
        eventually("it runs", || runs(&seconds).then_some(()));
        wire
    };
    begin().reset();
    eventually("it is gone with its client", || (!runs(&seconds)).then_some(()));
    let held = begin();
    gateway.kill();
    eventually("it is gone with the gateway", || (!runs(&seconds)).then_some(()));
    drop(held);
}

/// A crash of a program that holds a document must not put the document anywhere. A relative
/// pattern would leave the dump where the program stands, which the shell around it can list.
#[test]
fn a_program_that_crashes_leaves_no_dump() {
    let script = "cat >/tmp/document; sh -c 'kill -SEGV $$'; echo code $?; ls /tmp; ulimit -Hc";
    let Some(gateway) = with(&["sh", "-c", script], "{}") else { return };
    let said = gateway.client().post("/v1/process/own", &noise(100_000)).expect(200).body_text();
    // At 0 nothing is written to a file; at 1 nothing to a pipe either.
    assert!(
        ["0", "1"].map(|most| format!("code 139\ndocument\n{most}\n")).contains(&said),
        "{said}"
    );
    gateway.is_empty_again();
}

#[test]
fn a_program_that_is_not_there_is_a_refusal() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for (line, value, named) in [
        ("command", "[]", "command"),
        ("command", "[\"/nonexistent/program\"]", "command"),
        ("reads", "[\"relative\"]", "reads"),
        ("url", "\"https://x\"", "url"),
        ("limits", "{ memory = \"lots\" }", "limits.memory"),
        ("limits", "{ processes = 1 }", "limits.processes"),
        ("media_type", "\"nonsense\"", "media_type"),
        ("kind", "\"magic\"", "kind"),
    ] {
        let path = dir.path().join("dayfly.toml");
        let toml = setup(&["cat"], "{}").spool(dir.path()).set("processors.own", line, value);
        std::fs::write(&path, toml.toml()).unwrap();
        let ended = run(&["check", "--config", path.to_str().unwrap()]);
        assert_eq!(ended.code, Some(78), "{line} = {value}: {}", ended.stderr);
        let named = format!("processors.own.{named}");
        assert!(ended.stderr.contains(&named), "{line}: {}", ended.stderr);
    }
}

#[test]
fn an_office_document_becomes_a_pdf() {
    let office = ["/usr/bin/soffice", "/usr/local/bin/soffice"];
    if !office.iter().any(|path| Path::new(path).exists()) {
        skip("convert: install LibreOffice (Debian: libreoffice-writer-nogui)");
        return;
    }
    if !bubblewrap_runs() {
        return;
    }
    let gateway = TestGateway::start();
    let client = gateway.client();
    let document = docx(&["Converted behind bars", "second paragraph"]);
    let answer = client.post("/v1/process/convert", &document).expect(200);
    assert_eq!(answer.header("content-type"), Some("application/pdf"));
    assert!(answer.body.starts_with(b"%PDF-"), "{} bytes", answer.body.len());
    let text = client.post("/v1/process/convert+text", &document).expect(200).body_text();
    assert!(text.contains("Converted behind bars"), "{text:?}");
    gateway.is_empty_again();
}
