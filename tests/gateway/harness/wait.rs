//! Waiting for what a test cannot be told, and saying loudly what it had to leave out.

use std::io::Write;
use std::time::{Duration, Instant};

/// Longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(5);

/// Asks until `condition` gives something; fails with `what` when it never does.
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

/// Says that a test, or part of one, could not run here. Past the capture of passing tests.
pub fn skip(what: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}");
}

/// Whether what wants minutes is asked for.
pub fn is_long_tier() -> bool {
    std::env::var("DAYFLY_TIER").as_deref() == Ok("long")
}

/// Says what a test has measured. Past the capture of passing tests, too.
pub fn tell(what: &str) {
    let _ = writeln!(std::io::stderr(), "MEASURED: {what}");
}
