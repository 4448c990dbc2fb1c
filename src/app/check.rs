//! What would hold if the gateway started now, on this machine, with these settings.

use super::{Keeper, Place, Settings};
use crate::disk::{Spool, private_dir};
use crate::http::Pair;
use crate::jail::{Holds, Walls};
use crate::keyring::{ProcessKeyring, Unusable};
use crate::ops::{self, Facts, Finding};
use crate::process::{Own, converter_is_installed};
use crate::secret::Slab;

/// Looks at everything a start depends on, without starting.
#[must_use]
pub fn examine(
    settings: &Settings,
    kernel: Result<ProcessKeyring, Unusable>,
    holds: &Holds,
) -> Vec<Finding> {
    let (accept, all) = (settings.accept, settings.accept_all);
    let mut findings = vec![regions(settings), keyring(settings.keyring, kernel), store(settings)];
    if let Some(dir) = &settings.state_dir {
        findings.push(match private_dir(dir) {
            Ok(()) => Finding::fine("state", "the state folder is ours alone"),
            Err(error) => Finding::refused("state", format!("state.dir: {error}")),
        });
    }
    if let Some(files) = &settings.tls {
        findings.push(match Pair::read(files) {
            Ok(_) => Finding::fine("tls", "the certificate and its key are a pair"),
            Err(error) => Finding::refused("tls", error.to_string()),
        });
    }
    findings.push(Finding::fine(
        "jail",
        "workers: executed afresh, no environment, no descriptors, limits on memory, time and \
         output",
    ));
    findings.push(programs(settings, holds));
    findings.extend(ops::examine(&Facts {
        public: settings.public,
        tls: settings.tls.is_some(),
        admin: settings.admin,
        accept_swap: accept.swap || all,
        accept_kdump: accept.kdump || all,
        accept_plain_http: accept.plain_http,
        walls: holds.walls,
        accept_without: if all { Walls::ALL } else { accept.without },
    }));
    findings
}

/// Whether programs that are not ours can run, and whether any must.
fn programs(settings: &Settings, holds: &Holds) -> Finding {
    let named = settings.own.iter().find(|own| matches!(own, Own::Exec(_))).map(Own::name);
    let why = match &holds.programs {
        Ok(_) => {
            let convert = if converter_is_installed() { "" } else { "; convert: no LibreOffice" };
            let words = format!("programs run under bubblewrap (tried){convert}");
            return Finding::fine("programs", words);
        }
        Err(why) => why,
    };
    match named {
        Some(name) => Finding::refused(
            "programs",
            format!("processors.{name}: {why}: allow it, or take the table out"),
        ),
        None => Finding::fine("programs", format!("exec and convert are off: {why}")),
    }
}

fn regions(settings: &Settings) -> Finding {
    let policy = &settings.policy;
    let others = policy.regions.keys().filter(|region| **region != policy.here);
    let others: Vec<String> = others.map(ToString::to_string).collect();
    let elsewhere = if others.is_empty() { "none".to_owned() } else { others.join(", ") };
    let words = format!("bytes rest in {} alone; other gateways hold: {elsewhere}", policy.here);
    Finding::fine("regions", words)
}

/// Who would keep the deadline keys, and why; and where the files' own secrets would lie.
fn keyring(keeper: Keeper, kernel: Result<ProcessKeyring, Unusable>) -> Finding {
    let slab = match Slab::lock() {
        Ok(slab) => slab,
        Err(error) => return Finding::refused("keyring", error.to_string()),
    };
    let (room, pages) = (slab.capacity(), slab.kind().as_str());
    let secrets = format!("{room} secrets fit in locked pages ({pages})");
    let words = match (keeper, kernel) {
        (Keeper::Auto | Keeper::Kernel, Ok(_)) => format!(
            "kernel: it ends deadline keys on time even if the process hangs (tried: added, timed, \
             shielded, read, ended); {secrets}"
        ),
        (Keeper::Kernel, Err(why)) => {
            let words = format!("vault.keyring: the kernel cannot keep keys here: {why}");
            return Finding::refused("keyring", words);
        }
        (Keeper::Auto, Err(why)) => format!(
            "memory, because the kernel cannot keep keys here: {why}. Keys of a process that hangs \
             stay until it goes on or ends; {secrets}"
        ),
        (Keeper::Memory, _) => format!("memory, as asked: {secrets}; they die with the process"),
    };
    Finding::fine("keyring", words)
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
