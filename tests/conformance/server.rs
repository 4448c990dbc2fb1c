//! The server under test: one that was named, or a Dayfly started for the test.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::wire::{Ask, Url};

const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// Somewhere to upload to.
pub struct Server {
    pub url: Url,
    authorization: Option<String>,
    /// Ours, to be ended.
    child: Option<(Child, JoinHandle<String>)>,
}

/// Says what was left out. Past the capture of passing tests.
pub fn skip(what: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}");
}

/// Asks until `condition` gives something.
#[track_caller]
pub fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "this never came true: {what}");
        std::thread::park_timeout(PAUSE);
    }
}

/// The first word of what a program says that begins like this.
fn word(from: &mut impl BufRead, start: &str) -> String {
    loop {
        let mut line = String::new();
        assert!(from.read_line(&mut line).unwrap() > 0, "no word that begins with {start}");
        let mut words = line.split(|c: char| c.is_whitespace() || "'\"".contains(c));
        if let Some(found) = words.find(|word| word.starts_with(start)) {
            return found.to_owned();
        }
    }
}

impl Server {
    pub fn of_tus() -> Self {
        Self::named("CONFORMANCE_TUS_URL", "/v1/tus")
    }

    pub fn of_draft() -> Self {
        Self::named("CONFORMANCE_DRAFT_URL", "/v1/files")
    }

    fn named(variable: &str, own: &str) -> Self {
        match std::env::var(variable) {
            Ok(url) => {
                let authorization = std::env::var("CONFORMANCE_AUTHORIZATION").ok();
                Self { url: Url::parse(&url), authorization, child: None }
            }
            Err(_) => Self::started(own),
        }
    }

    /// Dayfly's embedded default, which prints its address and its key.
    fn started(path: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_dayfly"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("dayfly starts");
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let base = word(&mut stdout, "http://");
        let key = word(&mut stdout, "dfk_");
        // Kept open: a program that nobody listens to any more may end.
        child.stdout = Some(stdout.into_inner());
        let mut stderr = child.stderr.take().unwrap();
        let last_words = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let url = Url::parse(&format!("{base}{path}"));
        let authorization = Some(format!("Bearer {key}"));
        Self { url, authorization, child: Some((child, last_words)) }
    }

    /// Whether it is one of ours, which does all there is.
    pub const fn is_ours(&self) -> bool {
        self.child.is_some()
    }

    /// A request to `url`, by somebody who may.
    pub fn ask(&self, method: &str, url: &Url) -> Ask {
        let ask = Ask::new(method, url);
        match &self.authorization {
            Some(value) => ask.header("Authorization", value),
            None => ask,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some((mut child, last_words)) = self.child.take() else { return };
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let stderr = last_words.join().unwrap_or_default();
        let status = child.wait().unwrap();
        if !std::thread::panicking() {
            assert!(status.success(), "{status}: {stderr}");
            assert!(stderr.contains("keys=0 blobs=0 budget_used=0 panicked=0"), "{stderr}");
        }
    }
}
