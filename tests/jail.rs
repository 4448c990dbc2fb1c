//! What a hostile document can do to the gateway: cost its own request, and nothing else.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails loudly")]

use std::io::{Cursor, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::num::NonZeroUsize;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dayfly::body::{BodyError, Pool};
use dayfly::budget::{Budget, PATIENCE};
use dayfly::clock::{Clock, SystemClock, VirtualClock, Wall};
use dayfly::entropy::{SystemEntropy, random};
use dayfly::jail::{Jail, JailError, Limits, Walls, Zygote};
use dayfly::problem::Slug;
use dayfly::process::{
    Act, DocumentRoom, Output, Password, Plan, ProcessError, Registry, Step, StepStream, masked,
    selftest,
};
use dayfly::tasks::Tasks;
use futures_util::{FutureExt, StreamExt, future, stream};
use rustix::fs;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::{Value, json};

#[path = "jail/alone.rs"]
mod alone;

const PROGRAM: &str = env!("CARGO_BIN_EXE_dayfly");

/// A clock that stands still: nobody runs out of patience, no timer fires.
fn still() -> VirtualClock {
    VirtualClock::at(Wall::from_unix(Duration::from_secs(1_800_000_000)))
}

fn jail(workers: usize, clock: Arc<dyn Clock>) -> (Jail, Pid) {
    behind(None, workers, clock)
}

/// A jail with these walls, or with all that hold here.
fn behind(walls: Option<Walls>, workers: usize, clock: Arc<dyn Clock>) -> (Jail, Pid) {
    let zygote = Zygote::start(Path::new(PROGRAM)).unwrap();
    let pid = zygote.pid();
    let workers = NonZeroUsize::new(workers).unwrap();
    let walls = walls.unwrap_or_else(|| zygote.examine().unwrap().walls);
    (Jail::new(zygote, workers, walls, Tasks::default(), clock).unwrap(), pid)
}

fn room(workers: usize, limits: Limits, clock: Arc<dyn Clock>) -> DocumentRoom {
    let (jail, _) = jail(workers, clock.clone());
    room_of(jail, limits, clock)
}

fn room_of(jail: Jail, limits: Limits, clock: Arc<dyn Clock>) -> DocumentRoom {
    let pool = Pool::new(Budget::of(64 << 20), 256 << 10);
    DocumentRoom { jail: Arc::new(jail), pool, clock, limits, max_document: 64 << 20 }
}

fn short() -> Limits {
    let wall = Duration::from_millis(300);
    Limits { wall, memory_bytes: 256 << 20, output_bytes: 1 << 20, ..Limits::default() }
}

fn input(bytes: impl Into<Bytes>) -> StepStream {
    Box::pin(stream::iter([Ok(bytes.into())]))
}

async fn collect(output: Output) -> Result<Vec<u8>, ProcessError> {
    let (mut body, mut all) = (output.body, Vec::new());
    while let Some(bytes) = body.next().await {
        all.extend_from_slice(&bytes?);
    }
    Ok(all)
}

/// The steps of a plan, each on the output of the one before.
async fn run(plan: Plan, input: StepStream) -> Result<Output, ProcessError> {
    let mut steps = plan.into_steps().into_iter();
    let mut output = steps.next().expect("a plan has a step").run(input).await?;
    for step in steps {
        output = step.run(output.body).await?;
    }
    Ok(output)
}

async fn take(step: Box<dyn Step>, input: StepStream) -> Result<Vec<u8>, ProcessError> {
    collect(step.run(input).await?).await
}

fn slug(result: &Result<Vec<u8>, ProcessError>) -> Option<Slug> {
    match result {
        Err(ProcessError::Refused { slug, .. }) => Some(*slug),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_sees_nothing_of_the_gateway() {
    let room = room(1, Limits::default(), Arc::new(SystemClock));
    let answer = take(selftest(room, Act::LookAround).unwrap(), input("x")).await.unwrap();
    let seen: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(seen["environment"], 0);
    assert_eq!(seen["arguments"], 2, "its name, and the walls it is to put up");
    assert_eq!(seen["descriptors"], json!([0, 1, 2]));
    assert_eq!(seen["files"], 3);
    assert_eq!(seen["dumpable"], false);
    assert_eq!(seen["new_privileges"], false);
    assert_eq!((&seen["memory"], &seen["stack"]), (&json!(512 << 20), &json!(64 << 20)));
    assert_eq!(seen["seconds"], 30);
    for none in ["file_size", "core", "processes", "locked", "queues"] {
        assert_eq!(seen[none], 0, "{none}");
    }
}

/// Planted before the zygote and after it, in memory, in a descriptor that is left open, and in the
/// kernel; and in the document of another request.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_searches_itself_finds_nothing_of_the_gateway() {
    let draw = || random::<32>(&SystemEntropy).unwrap();
    let (early, name, token, key, other, own) = (draw(), draw(), draw(), draw(), draw(), draw());
    let planted = (vec![early; 100], fs::memfd_create("planted", fs::MemfdFlags::empty()).unwrap());
    rustix::io::write(&planted.1, &name).unwrap();
    // No wall stands around this one, or it could not search: there must be nothing to find.
    let clock = Arc::new(SystemClock);
    let (jail, _) = behind(Some(Walls::NONE), 1, clock.clone());
    let room = room_of(jail, Limits::default(), clock);
    let late = (vec![token; 100], vec![key; 100]);
    let serial = kernel_key(&key);
    let passed = selftest(room.clone(), Act::LookAround).unwrap();
    take(passed, input(other.to_vec())).await.unwrap();

    let needles = [early, name, token, key, other, own].map(|needle| masked(&needle));
    let mut document = format!("{serial}\n{}\n\n", needles.join("\n")).into_bytes();
    document.extend_from_slice(&own);
    let answer = take(selftest(room, Act::Search).unwrap(), input(document)).await.unwrap();
    let seen: Value = serde_json::from_slice(&answer).unwrap();
    println!("{seen}");
    let found: Vec<u64> = serde_json::from_value(seen["found"].clone()).unwrap();
    assert_eq!(found[..5], [0; 5], "early, name, token, key, another request's bytes");
    assert!(found[5] > 0, "its own document it does find");
    assert!(seen["bytes"].as_u64().unwrap() > 256 << 10, "heap, stack and data: {seen}");
    assert_eq!(seen["descriptors"], json!(["pipe", "pipe", "device"]));
    assert_eq!(seen["keyring"], libc::ENOKEY, "it has no process keyring");
    let refused = [libc::EACCES, libc::ENOKEY, libc::ENOSYS, libc::EPERM].map(Value::from);
    assert!(refused.contains(&seen["key"]), "{seen}");
    drop((planted, late));
}

/// A key in this thread's process keyring; 0 where there is none.
fn kernel_key(payload: &[u8; 32]) -> libc::c_long {
    let (kind, name) = (c"user".as_ptr(), c"dayfly test".as_ptr());
    // SAFETY: two strings that end in NUL, and 32 bytes to be read.
    unsafe { libc::syscall(libc::SYS_add_key, kind, name, payload.as_ptr(), 32, -2) }.max(0)
}

/// Somebody to be attacked: listens by TCP, UDP and an abstract unix socket, and is a process.
struct Victim {
    tcp: TcpListener,
    udp: UdpSocket,
    unix: UnixListener,
    name: String,
}

impl Victim {
    fn new() -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind(tcp.local_addr().unwrap()).unwrap();
        let name = format!("dayfly test {}", tcp.local_addr().unwrap().port());
        let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let unix = UnixListener::bind_addr(&address).unwrap();
        for socket in [tcp.set_nonblocking(true), udp.set_nonblocking(true)] {
            socket.unwrap();
        }
        unix.set_nonblocking(true).unwrap();
        Self { tcp, udp, unix, name }
    }

    fn target(&self, sibling: i32) -> Vec<u8> {
        let targets = json!({
            "processes": [rustix::process::getpid().as_raw_nonzero().get(), sibling],
            "file": PROGRAM,
            "port": self.tcp.local_addr().unwrap().port(),
            "socket": self.name,
        });
        targets.to_string().into_bytes()
    }

    /// Whether anybody came by.
    fn was_reached(&self) -> bool {
        self.tcp.accept().is_ok()
            || self.unix.accept().is_ok()
            || self.udp.recv(&mut [0; 8]).is_ok()
    }
}

/// A process beside the workers, of the same user as this one.
struct Sibling(std::process::Child);

impl Sibling {
    #[expect(clippy::disallowed_methods, reason = "a test starts its own bystander")]
    fn new() -> Self {
        let mut quiet = std::process::Command::new("sleep");
        quiet.arg("60").stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        Self(quiet.spawn().unwrap())
    }

    fn is_unharmed(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Sibling {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The filter ends a worker at its first word off the list, whatever else stands.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_taken_over_dies_of_its_first_try() {
    let (victim, mut sibling) = (Victim::new(), Sibling::new());
    let room = room(1, Limits::default(), Arc::new(SystemClock));
    let bystander = room.clone();
    let target = victim.target(sibling.0.id().cast_signed());
    for act in Act::ATTACKS {
        let result = take(selftest(room.clone(), *act).unwrap(), input(target.clone())).await;
        assert_eq!(slug(&result), Some(Slug::ProcessorLimit), "{act:?}: {result:?}");
        assert!(!victim.was_reached(), "{act:?}");
    }
    let result = take(selftest(bystander, Act::LookAround).unwrap(), input("x")).await;
    assert!(result.is_ok() && sibling.is_unharmed(), "others do not notice: {result:?}");
    assert_eq!(room.pool.budget().used(), 0);
}

/// Were the filter to fail, the other walls keep a worker from everything outside of it.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_filter_the_other_walls_hold() {
    let (victim, mut sibling) = (Victim::new(), Sibling::new());
    let clock = Arc::new(SystemClock);
    let (jail, _) = behind(Some(Walls { seccomp: false, ..Walls::ALL }), 1, clock.clone());
    let room = room_of(jail, Limits::default(), clock);
    let target = victim.target(sibling.0.id().cast_signed());
    for act in Act::ATTACKS {
        if [Act::Unshare, Act::MemfdSecret, Act::MakeCode, Act::Keyctl].contains(act) {
            // These reach nothing outside; the filter alone knows them.
            continue;
        }
        let result = take(selftest(room.clone(), *act).unwrap(), input(target.clone())).await;
        let said: Value = serde_json::from_slice(&result.unwrap()).unwrap();
        let errors = said["errno"].as_array().unwrap();
        println!("{act:?}: {errors:?}");
        assert!(errors.iter().all(|error| *error != 0), "{act:?}: {said}");
        assert!(!victim.was_reached(), "{act:?}");
    }
    assert!(sibling.is_unharmed());
}

/// What the two tests above forbid can be done where no wall stands, so they show something.
#[tokio::test(flavor = "multi_thread")]
async fn without_walls_the_attacks_work() {
    let (victim, sibling) = (Victim::new(), Sibling::new());
    let clock = Arc::new(SystemClock);
    let (jail, _) = behind(Some(Walls::NONE), 1, clock.clone());
    let room = room_of(jail, Limits::default(), clock);
    let target = victim.target(sibling.0.id().cast_signed());
    let mut worked = Vec::new();
    for act in Act::ATTACKS {
        let result = take(selftest(room.clone(), *act).unwrap(), input(target.clone())).await;
        let said = result.map(|said| serde_json::from_slice::<Value>(&said).unwrap());
        println!("{act:?}: {said:?}");
        if said.is_ok_and(|said| said["errno"][0] == 0) {
            worked.push(*act);
        }
    }
    for act in [Act::OpenFile, Act::ListProcesses, Act::Keyctl, Act::MakeCode] {
        assert!(worked.contains(&act), "{act:?}");
    }
}

#[test]
fn every_wall_holds_here_or_is_told_to_be_missing() {
    let holds = Zygote::start(Path::new(PROGRAM)).unwrap().examine().unwrap();
    println!("{holds:?}");
    // The kernel of this test has both; namespaces may be forbidden to a whole container.
    assert!(holds.walls.landlock && holds.walls.seccomp, "{holds:?}");
}

/// One place for all: the next act starts only when the last one's process has ended.
#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_misbehave_costs_one_request() {
    let room = room(1, short(), Arc::new(SystemClock));
    for act in Act::ALL {
        let expected = match act {
            Act::LookAround | Act::Hurry | Act::Search | Act::Namespaces | Act::Call => continue,
            act if Act::ATTACKS.contains(act) => continue,
            Act::Panic => Slug::DocumentDamaged,
            _ => Slug::ProcessorLimit,
        };
        let mut slot = room.clone();
        if *act == Act::Allocate {
            // The memory limit is to end it, not the timer.
            slot.limits.wall = Duration::from_secs(30);
        }
        let result = take(selftest(slot, *act).unwrap(), input(vec![0; 100_000])).await;
        assert_eq!(slug(&result), Some(expected), "{act:?}: {result:?}");
    }
    let result = take(selftest(room.clone(), Act::LookAround).unwrap(), input("x")).await;
    assert!(result.is_ok(), "the jail still works: {result:?}");
    assert_eq!(room.pool.budget().used(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kill_timer_runs_by_the_clock_and_only_once_the_input_has_ended() {
    let clock = still();
    let (jail, _) = jail(1, Arc::new(clock.clone()));
    let mut worker = jail.spawn(&short()).await.unwrap();
    clock.advance(Duration::from_secs(3600));
    assert!(worker.leash.ended().now_or_never().is_none(), "it waits for its input, unharmed");
    worker.leash.start_timer();
    while worker.leash.ended().now_or_never().is_none() {
        // The task that holds the timer may not have begun to wait yet.
        clock.advance(short().wall);
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_does_not_deadlock_and_the_input_is_still_read_to_its_end() {
    let room = room(1, Limits::default(), Arc::new(SystemClock));
    let read = Arc::new(AtomicU64::new(0));
    let counter = read.clone();
    let pieces = stream::iter(0..512).map(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(Bytes::from(vec![0; 64 << 10]))
    });
    let answer = take(selftest(room, Act::Hurry).unwrap(), Box::pin(pieces)).await.unwrap();
    assert_eq!((answer.as_slice(), read.load(Ordering::Relaxed)), (&b"{}"[..], 512));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_that_breaks_wins_over_the_worker() {
    let room = room(1, Limits::default(), Arc::new(SystemClock));
    for act in [Act::LookAround, Act::Hurry] {
        for error in [BodyError::Truncated, BodyError::DigestMismatch] {
            let items = vec![Ok(Bytes::from_static(b"half")), Err(error.into())];
            let step = selftest(room.clone(), act).unwrap();
            let result = take(step, Box::pin(stream::iter(items))).await;
            assert_eq!(result, Err(ProcessError::Body(error)), "{act:?}");
        }
    }
    let mut small = room;
    small.max_document = 1000;
    let result = take(selftest(small, Act::LookAround).unwrap(), input(vec![0; 1001])).await;
    assert_eq!(result, Err(ProcessError::Body(BodyError::TooLarge { limit: 1000 })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_jail_refuses_after_its_patience_before_it_polls_the_input() {
    let clock = still();
    let room = room(1, Limits::default(), Arc::new(clock.clone()));
    let held = room.jail.spawn(&room.limits).await.unwrap();
    let untouched = stream::poll_fn(|_| panic!("the input was polled"));
    let mut second = selftest(room.clone(), Act::Hurry).unwrap().run(Box::pin(untouched));
    assert!(futures_util::poll!(&mut second).is_pending());
    clock.advance(PATIENCE);
    assert!(matches!(second.await, Err(ProcessError::Overloaded)));
    drop(held);
    let answer = take(selftest(room, Act::Hurry).unwrap(), input("x")).await;
    assert_eq!(answer.unwrap(), b"{}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_survives_the_gateways_end_of_the_socket() {
    let (jail, pid) = jail(2, Arc::new(SystemClock));
    let zygote = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    let (one, two) = (jail.spawn(&short()).await.unwrap(), jail.spawn(&short()).await.unwrap());
    // All that a kill -9 of the gateway does to the zygote is this.
    drop(jail);
    future::join(one.leash.ended(), two.leash.ended()).await;
    let mut gone = [rustix::event::PollFd::new(&zygote, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut gone, None).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_die_with_a_killed_zygote_and_the_gateway_is_told() {
    let (jail, pid) = jail(2, Arc::new(SystemClock));
    let zygote = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    let worker = jail.spawn(&short()).await.unwrap();
    // A service manager's SIGTERM is for the gateway: the zygote stays until it is killed.
    pidfd_send_signal(&zygote, Signal::TERM).unwrap();
    drop(jail.spawn(&short()).await.unwrap());
    pidfd_send_signal(&zygote, Signal::KILL).unwrap();
    worker.leash.ended().await;
    while !matches!(jail.spawn(&short()).await, Err(JailError::Gone)) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_spawn_leaves_no_worker_behind() {
    let (jail, _) = jail(3, Arc::new(still()));
    for _ in 0..20 {
        // Polled once: the order has left, its answer is not awaited.
        let _ = jail.spawn(&short()).now_or_never();
    }
    let workers = [
        jail.spawn(&short()).await.unwrap(),
        jail.spawn(&short()).await.unwrap(),
        jail.spawn(&short()).await.unwrap(),
    ];
    assert_eq!(jail.idle(), 0);
    drop(workers);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_at_once_share_the_workers_there_are() {
    // Under a clock that stands still nobody loses patience, however slow the machine.
    let room = room(4, Limits::default(), Arc::new(still()));
    let registry = Registry::built_in(&room);
    let jobs = (0..100).map(|n| {
        let plan = registry.parse("text").unwrap().prepare(&[], None).unwrap();
        async move { collect(run(plan, input(format!("text {n}"))).await?).await }
    });
    for (n, text) in future::join_all(jobs).await.into_iter().enumerate() {
        assert_eq!(text.unwrap(), format!("text {n}").into_bytes());
    }
}

fn pdf(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    pdf_document(text).save_to(&mut bytes).unwrap();
    bytes
}

fn pdf_document(text: &str) -> lopdf::Document {
    use lopdf::{Document, Object, Stream, dictionary};
    let mut document = Document::with_version("1.5");
    let pages = document.new_object_id();
    let font = document.add_object(dictionary! {
        "Type" => "Font", "Subtype" => "Type1", "BaseFont" => "Helvetica",
    });
    let content = format!("BT /F1 12 Tf 72 700 Td ({text}) Tj ET").into_bytes();
    let content = document.add_object(Stream::new(dictionary! {}, content));
    let page = document.add_object(dictionary! {
        "Type" => "Page", "Parent" => pages, "Contents" => content,
        "Resources" => dictionary! { "Font" => dictionary! { "F1" => font } },
    });
    let kids: Vec<Object> = vec![page.into(), page.into()];
    let tree = dictionary! { "Type" => "Pages", "Kids" => kids, "Count" => 2 };
    document.objects.insert(pages, tree.into());
    let catalog = document.add_object(dictionary! { "Type" => "Catalog", "Pages" => pages });
    document.trailer.set("Root", catalog);
    document
}

fn docx(text: &str) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let body = format!(
        "<w:document><w:body><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:body></w:document>"
    );
    for (name, content) in [("[Content_Types].xml", "<Types/>"), ("word/document.xml", &body)] {
        writer.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(content.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_become_text_from_end_to_end() {
    let registry = Registry::built_in(&room(2, Limits::default(), Arc::new(SystemClock)));
    let cases = [
        (pdf("Hello"), "Hello\n\u{c}Hello\n", "application/pdf"),
        (
            docx("Hello"),
            "Hello\n",
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        ),
        (b"<html><p>Hello".to_vec(), "Hello\n", "text/html"),
        (b"Hello\r\n".to_vec(), "Hello\n", "text/plain"),
    ];
    for (document, text, media_type) in cases {
        let ask = async |steps: &str| {
            let plan = registry.parse(steps).unwrap().prepare(&[], None).unwrap();
            let output = run(plan, input(document.clone())).await.unwrap();
            (output.media_type, collect(output).await.unwrap())
        };
        let plain = ("text/plain; charset=utf-8", text.as_bytes().to_vec());
        assert_eq!(ask("text").await, plain);
        let (json, found) = ask("detect").await;
        let found: Value = serde_json::from_slice(&found).unwrap();
        assert_eq!((json, &found["media_type"]), ("application/json", &json!(media_type)));

        let (gzip, packed) = ask("text+compress").await;
        let mut unpacked = String::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut unpacked).unwrap();
        assert_eq!((gzip, unpacked.as_str()), ("application/gzip", text));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_travels_to_the_worker_beside_the_options() {
    let mut document = pdf_document("Secret");
    let id = lopdf::Object::string_literal(b"0123456789abcdef".to_vec());
    document.trailer.set("ID", lopdf::Object::Array(vec![id.clone(), id]));
    let version = lopdf::EncryptionVersion::V2 {
        document: &document,
        owner_password: "owner",
        user_password: "open sesame",
        key_length: 128,
        permissions: lopdf::Permissions::all(),
    };
    let state = lopdf::EncryptionState::try_from(version).unwrap();
    document.encrypt(&state).unwrap();
    let mut bytes = Vec::new();
    document.save_to(&mut bytes).unwrap();

    let registry = Registry::built_in(&room(1, Limits::default(), Arc::new(SystemClock)));
    let ask = async |password: Option<&str>| {
        let password = password.map(|password| Password::new(password.to_owned()));
        let plan = registry.parse("text").unwrap().prepare(&[], password.as_ref()).unwrap();
        match run(plan, input(bytes.clone())).await {
            Ok(output) => collect(output).await,
            Err(error) => Err(error),
        }
    };
    assert_eq!(slug(&ask(None).await), Some(Slug::DocumentEncrypted));
    assert_eq!(slug(&ask(Some("wrong")).await), Some(Slug::DocumentEncrypted));
    assert_eq!(ask(Some("open sesame")).await.unwrap(), b"Secret\n\x0cSecret\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_name_what_is_wrong_before_the_body_is_read() {
    let mut registry = Registry::built_in(&room(1, Limits::default(), Arc::new(SystemClock)));
    let pipeline = vec!["text".to_owned(), "compress".to_owned()];
    registry.name_pipeline("squeeze".to_owned(), pipeline).unwrap();
    assert!(registry.name_pipeline("twice".to_owned(), vec!["squeeze".to_owned()]).is_err());

    let prepare = |steps: &str, query: &[(&str, &str)]| {
        let query: Vec<_> = query.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let password = Password::new("secret".to_owned());
        match registry.parse(steps).and_then(|steps| steps.prepare(&query, Some(&password))) {
            Ok(plan) => Ok(plan.streams()),
            Err(ProcessError::Refused { slug, .. }) => Err(slug),
            Err(error) => panic!("{error:?}"),
        }
    };
    assert_eq!(prepare("text", &[("format", "markdown")]), Ok(false));
    assert_eq!(prepare("text", &[("text.format", "markdown")]), Ok(false));
    assert_eq!(prepare("squeeze", &[("compress.level", "9")]), Ok(false));
    assert_eq!(prepare("compress+checksum", &[("checksum.alg", "blake3")]), Ok(true));
    assert_eq!(prepare("squeeze", &[("level", "9")]), Err(Slug::BadOption));
    assert_eq!(prepare("text", &[("format", "rtf")]), Err(Slug::BadOption));
    assert_eq!(prepare("text", &[("password", "x")]), Err(Slug::SecretInUrl));
    assert_eq!(prepare("squeeze", &[("text.password", "x")]), Err(Slug::SecretInUrl));
    for unknown in [
        "",
        "text+",
        "nothing",
        "squeeze+nothing",
        "selftest",
        "text+text+text+text+text+text+text+text+text",
    ] {
        assert_eq!(prepare(unknown, &[]), Err(Slug::UnknownStep), "{unknown}");
    }
    let names: Vec<String> =
        registry.parse("squeeze+detect").unwrap().names().map(str::to_owned).collect();
    assert_eq!(names, ["text", "compress", "detect"]);
    let described: Vec<&str> = registry.describe().map(|d| d.name.as_str()).collect();
    let built_in = ["archive", "checksum", "compress", "detect", "metadata", "scrub", "text"];
    assert_eq!(described, built_in);
}

/// Each must end, as text or as a clean problem; which is which is asserted for a few.
#[tokio::test(flavor = "multi_thread")]
async fn no_document_of_the_corpus_brings_anything_down() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus/documents"));
    let Ok(documents) = std::fs::read_dir(folder) else {
        println!("SKIPPED: no corpus at {}", folder.display());
        return;
    };
    let registry = Registry::built_in(&room(2, Limits::default(), Arc::new(SystemClock)));
    let mut seen = 0;
    for document in documents {
        let path = document.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        #[expect(clippy::disallowed_methods, reason = "a test reads its own inputs")]
        let bytes = Bytes::from(std::fs::read(&path).unwrap());
        for steps in ["detect", "text"] {
            let plan = registry.parse(steps).unwrap().prepare(&[], None).unwrap();
            let result = match run(plan, input(bytes.clone())).await {
                Ok(output) => collect(output).await,
                Err(error) => Err(error),
            };
            println!(
                "{name} {steps}: {}",
                match &result {
                    Ok(answer) if steps == "detect" => String::from_utf8_lossy(answer).into_owned(),
                    Ok(answer) => format!("{} bytes", answer.len()),
                    Err(error) => format!("{error}"),
                }
            );
            match result {
                Ok(answer) => drop(String::from_utf8(answer).unwrap()),
                Err(ProcessError::Refused { slug, .. }) => {
                    assert_eq!(steps, "text", "{name}: anything can be detected");
                    assert_ne!(slug, Slug::ProcessorLimit, "{name}");
                }
                Err(error) => panic!("{name}: {error:?}"),
            }
        }
        seen += 1;
    }
    assert!(seen > 0);
}

/// The second worker's verdict is heard, whatever the first one wrote.
#[tokio::test(flavor = "multi_thread")]
async fn what_still_tells_of_somebody_is_not_approved() {
    let registry = Registry::built_in(&room(2, Limits::default(), Arc::new(SystemClock)));
    let gif = |comment: &str| {
        let mut image = b"GIF89a\x01\0\x01\0\0\0\0".to_vec();
        if !comment.is_empty() {
            image.extend_from_slice(b"!\xfe");
            image.push(u8::try_from(comment.len()).unwrap());
            image.extend_from_slice(comment.as_bytes());
            image.push(0);
        }
        image.extend_from_slice(b",\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;");
        image
    };
    let approve = async |image: Vec<u8>| {
        let plan = registry.parse("scrub").unwrap().prepare(&[], None).unwrap();
        let step = plan.into_steps().pop().unwrap();
        let approval = step.approval().expect("scrub is approved of by another worker");
        match approval.run(input(image)).await {
            Ok(output) => collect(output).await.map(drop),
            Err(error) => Err(error),
        }
    };
    assert!(approve(gif("")).await.is_ok());
    let refused = approve(gif("by Jane")).await.unwrap_err();
    assert!(
        matches!(
            refused,
            ProcessError::Refused { slug: Slug::DocumentTooComplex, detail: Some(_) }
        ),
        "{refused:?}"
    );
}
