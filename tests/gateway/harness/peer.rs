//! Programs that stand at the other end: a receiver of webhooks, as applications run one.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::wait::{eventually, skip};

/// The secret that test tenants sign with.
pub const WEBHOOK_SECRET: &str = "whsec_dGVzdCBzZWNyZXQgb2YgdGhlIHRlbmFudCBhY21lISEh";

/// Receives webhooks and verifies them with the package that applications use.
pub struct Receiver {
    child: Child,
    stdin: Option<ChildStdin>,
    pub port: u16,
    heard: Arc<Mutex<Vec<Value>>>,
}

/// The Python that `tests/run` has made, with the packages the peers need.
fn python() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?.join("python/bin/python");
    path.exists().then_some(path)
}

impl Receiver {
    /// `None`, said loudly, where `tests/run` has not made ready for it.
    pub fn start() -> Option<Self> {
        let Some(python) = python() else {
            skip("webhooks: tests/run makes the Python they are checked with");
            return None;
        };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/peers/webhook.py");
        let mut command = Command::new(python);
        command.arg(script).arg(WEBHOOK_SECRET).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the receiver starts");
        let stdin = child.stdin.take();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.next().expect("its port").unwrap().parse().unwrap();
        let heard = Arc::<Mutex<Vec<Value>>>::default();
        let into = heard.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                into.lock().unwrap().push(serde_json::from_str(&line).expect("a JSON line"));
            }
        });
        Some(Self { child, stdin, port, heard })
    }

    /// An address there.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Every request so far.
    pub fn heard(&self) -> Vec<Value> {
        self.heard.lock().unwrap().clone()
    }

    /// Every request that spoke of a job.
    pub fn heard_of(&self, job: &str) -> Vec<Value> {
        let mut heard = self.heard();
        heard.retain(|one| one["body"]["data"]["id"] == job);
        heard
    }

    /// Waits until it was told of a job `times` times.
    #[track_caller]
    pub fn hears_of(&self, job: &str, times: usize) -> Vec<Value> {
        eventually(&format!("the webhook came {times} times"), || {
            Some(self.heard_of(job)).filter(|heard| heard.len() >= times)
        })
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}
