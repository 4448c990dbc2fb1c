//! Time stands still for a gateway's workers: what wants one waits until they are let go.

use rustix::process::{Pid, Signal, kill_process};

use super::gateway::TestGateway;

/// A gateway's zygote and workers, stopped. Dropped, they go on.
pub struct Frozen(Vec<u32>);

impl Frozen {
    /// Stops the process that starts workers, and those it has started already.
    pub fn freeze(gateway: &TestGateway) -> Self {
        let frozen = Self(descendants(gateway.process()));
        frozen.signal(Signal::STOP);
        frozen
    }

    fn signal(&self, signal: Signal) {
        for id in self.0.iter().filter_map(|id| Pid::from_raw(id.cast_signed())) {
            // One that has ended meanwhile needs no signal.
            let _ = kill_process(id, signal);
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.signal(Signal::CONT);
    }
}

/// Kills every worker there is now; whether there was one.
pub fn kill_workers(gateway: &TestGateway) -> bool {
    let name = |id: &u32| std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    let mut workers = descendants(gateway.process());
    workers.retain(|id| name(id).starts_with(b"dayfly-worker"));
    for id in workers.iter().filter_map(|id| Pid::from_raw(id.cast_signed())) {
        let _ = kill_process(id, Signal::KILL);
    }
    !workers.is_empty()
}

/// A process's children, and theirs.
pub fn descendants(process: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut next = vec![process];
    while let Some(process) = next.pop() {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else { continue };
        for thread in threads.flatten() {
            let children = std::fs::read_to_string(thread.path().join("children"));
            let children = children.unwrap_or_default();
            for child in children.split_whitespace().filter_map(|id| id.parse().ok()) {
                found.push(child);
                next.push(child);
            }
        }
    }
    found
}
