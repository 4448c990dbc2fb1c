//! What of this machine would break the promise: found, and refused unless accepted by name.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::path::Path;

use crate::disk;

/// What is looked at, and what the operator has accepted.
pub struct Facts {
    pub public: SocketAddr,
    /// Whether the public listener speaks TLS.
    pub tls: bool,
    pub admin: SocketAddr,
    pub accept_swap: bool,
    pub accept_kdump: bool,
    pub accept_plain_http: bool,
}

/// How a finding stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Fine,
    /// A limit of the machine, accepted by name: every receipt repeats it.
    Accepted,
    /// A limit of the machine: the gateway does not start.
    Refused,
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub struct Finding {
    /// As in the table `[accept]`.
    pub name: &'static str,
    pub standing: Standing,
    pub words: Cow<'static, str>,
}

impl Finding {
    /// Something that is as it should be.
    #[must_use]
    pub fn fine(name: &'static str, words: impl Into<Cow<'static, str>>) -> Self {
        Self { name, standing: Standing::Fine, words: words.into() }
    }

    /// Something that keeps the gateway from starting, and what to do about it.
    #[must_use]
    pub fn refused(name: &'static str, words: impl Into<Cow<'static, str>>) -> Self {
        Self { name, standing: Standing::Refused, words: words.into() }
    }
}

/// Looks at the machine.
#[must_use]
pub fn examine(facts: &Facts) -> Vec<Finding> {
    let swap = read("/proc/swaps").is_some_and(|table| table.lines().count() > 1);
    let kdump = read("/sys/kernel/kexec_crash_loaded").is_some_and(|flag| flag.trim() == "1");
    let loopback = |at: SocketAddr| at.ip().is_loopback();
    let plain_http = (!facts.tls && !loopback(facts.public)) || !loopback(facts.admin);
    let mut found = vec![
        finding(
            "swap",
            swap,
            facts.accept_swap,
            "no swap: memory never reaches a disk",
            "swap is on, so plaintext in memory may reach a disk: turn it off (swapoff -a), limit \
             the unit (MemorySwapMax=0), or set accept.swap = true",
        ),
        finding(
            "kdump",
            kdump,
            facts.accept_kdump,
            "no crash kernel: memory is not written out when the kernel crashes",
            "a crash kernel is loaded and writes memory to a disk when the kernel crashes: disable \
             kdump, or set accept.kdump = true",
        ),
        finding(
            "plain_http",
            plain_http,
            facts.accept_plain_http,
            "plain HTTP is spoken on loopback alone",
            "listen.public or listen.admin is reached beyond loopback without TLS: set listen.tls \
             for the first, keep the second on loopback, or set accept.plain_http = true where \
             the way to it is yours",
        ),
    ];
    found.extend(WALLS.map(|(name, words)| Finding {
        name,
        standing: Standing::Accepted,
        words: words.into(),
    }));
    found
}

/// What workers of this version lack on every machine. Nobody can refuse it, so nobody is asked;
/// receipts name it all the same.
const WALLS: [(&str, &str); 3] = [
    ("no_landlock", "this version does not confine workers with landlock"),
    ("no_seccomp", "this version does not filter what workers may ask of the kernel"),
    ("no_namespaces", "this version starts workers in the gateway's own namespaces"),
];

fn finding(
    name: &'static str,
    found: bool,
    accepted: bool,
    fine: &'static str,
    bad: &'static str,
) -> Finding {
    match (found, accepted) {
        (false, _) => Finding::fine(name, fine),
        (true, true) => Finding { name, standing: Standing::Accepted, words: bad.into() },
        (true, false) => Finding::refused(name, bad),
    }
}

/// A machine that does not show a fact has none of it: these files stand on every Linux that has
/// the feature.
fn read(path: &str) -> Option<String> {
    disk::read_text(Path::new(path)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain_http(public: &str, tls: bool, accept_plain_http: bool) -> Standing {
        let public = public.parse().unwrap();
        let admin = "127.0.0.1:0".parse().unwrap();
        let facts =
            Facts { public, tls, admin, accept_swap: true, accept_kdump: true, accept_plain_http };
        let found = examine(&facts);
        found.iter().find(|finding| finding.name == "plain_http").unwrap().standing
    }

    #[test]
    fn plain_http_beyond_loopback_is_refused_unless_accepted_by_name() {
        assert_eq!(plain_http("127.0.0.1:0", false, false), Standing::Fine);
        assert_eq!(plain_http("[::1]:0", false, false), Standing::Fine);
        assert_eq!(plain_http("0.0.0.0:0", false, false), Standing::Refused);
        assert_eq!(plain_http("0.0.0.0:0", false, true), Standing::Accepted);
        assert_eq!(plain_http("0.0.0.0:0", true, false), Standing::Fine);
    }
}
