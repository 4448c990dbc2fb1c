//! What would hold if the gateway started now, on this machine, with these settings.

use super::{Place, Settings};
use crate::disk::{Spool, private_dir};
use crate::secret::Slab;
use crate::ops::{self, Facts, Finding};

/// Looks at everything a start depends on, without starting.
#[must_use]
pub fn examine(settings: &Settings) -> Vec<Finding> {
    let (accept, all) = (settings.accept, settings.accept_all);
    let mut findings = vec![regions(settings), keyring(), store(settings)];
    if let Some(dir) = &settings.state_dir {
        findings.push(match private_dir(dir) {
            Ok(()) => Finding::fine("state", "the state folder is ours alone"),
            Err(error) => Finding::refused("state", format!("state.dir: {error}")),
        });
    }
    findings.push(Finding::fine(
        "jail",
        "workers: executed afresh, no environment, no descriptors, limits on memory, time and \
         output; no seccomp, landlock or namespaces in this version",
    ));
    findings.extend(ops::examine(&Facts {
        public: settings.public,
        accept_swap: accept.swap || all,
        accept_kdump: accept.kdump || all,
        accept_plain_http: accept.plain_http,
    }));
    findings
}

fn regions(settings: &Settings) -> Finding {
    let policy = &settings.policy;
    let others = policy.regions.keys().filter(|region| **region != policy.here);
    let others: Vec<String> = others.map(ToString::to_string).collect();
    let elsewhere = if others.is_empty() { "none".to_owned() } else { others.join(", ") };
    let words = format!("bytes rest in {} alone; other gateways hold: {elsewhere}", policy.here);
    Finding::fine("regions", words)
}

fn keyring() -> Finding {
    match Slab::lock() {
        Ok(slab) => Finding::fine(
            "keyring",
            format!(
                "memory: {} secrets fit in locked pages ({}); they die with the process",
                slab.capacity(),
                slab.kind().as_str()
            ),
        ),
        Err(error) => Finding::refused("keyring", error.to_string()),
    }
}

fn store(settings: &Settings) -> Finding {
    match &settings.store {
        Place::Memory => Finding::fine("store", "memory: sealed, within half of limits.memory"),
        Place::Local { dir, max_bytes } => match Spool::open(dir) {
            Ok(_) => Finding::fine(
                "store",
                format!("local: nameless sealed files, at most {max_bytes} bytes"),
            ),
            Err(error) => Finding::refused("store", format!("vault.local.dir: {error}")),
        },
    }
}
