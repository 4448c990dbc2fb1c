//! What of this machine would break the promise: found, and refused unless accepted by name.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::path::Path;

use crate::disk;
use crate::jail::Walls;

/// What is looked at, and what the operator has accepted.
pub struct Facts {
    pub public: SocketAddr,
    /// Whether the public listener speaks TLS.
    pub tls: bool,
    pub admin: SocketAddr,
    pub accept_swap: bool,
    pub accept_kdump: bool,
    pub accept_plain_http: bool,
    /// What confines workers here, as a worker found by trying.
    pub walls: Walls,
    /// Walls that may be missing.
    pub accept_without: Walls,
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

/// Where the machine may write memory to.
struct Seen {
    swap: bool,
    kdump: bool,
}

impl Seen {
    fn look() -> Self {
        let crash = read("/sys/kernel/kexec_crash_loaded");
        Self {
            swap: read("/proc/swaps").is_some_and(|table| lists_swap(&table)) && !has_no_swap(),
            kdump: crash.is_some_and(|flag| flag.trim() == "1"),
        }
    }
}

/// Whether there is any below the heading.
fn lists_swap(table: &str) -> bool {
    table.lines().count() > 1
}

/// Whether this process's control group, or one above it, may swap nothing out.
fn has_no_swap() -> bool {
    let groups = read("/proc/self/cgroup").unwrap_or_default();
    let Some(group) = own_group(&groups) else { return false };
    let limit = |group: &Path| read(&format!("/sys/fs/cgroup{}/memory.swap.max", group.display()));
    Path::new(group)
        .ancestors()
        .filter(|above| above.parent().is_some())
        .any(|group| limit(group).is_some_and(|most| most.trim() == "0"))
}

/// The group in the one hierarchy of cgroup v2; a path that leads out of what is mounted here is
/// none of ours to judge.
fn own_group(groups: &str) -> Option<&str> {
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    (group.starts_with('/') && !group.contains("..")).then_some(group)
}

/// Looks at the machine.
#[must_use]
pub fn examine(facts: &Facts) -> Vec<Finding> {
    judge(facts, &Seen::look())
}

fn judge(facts: &Facts, seen: &Seen) -> Vec<Finding> {
    let loopback = |at: SocketAddr| at.ip().is_loopback();
    let plain_http = (!facts.tls && !loopback(facts.public)) || !loopback(facts.admin);
    let mut found = vec![
        finding(
            "swap",
            seen.swap,
            facts.accept_swap,
            "no swap: memory never reaches a disk",
            "swap is on, so plaintext in memory may reach a disk: turn it off (swapoff -a), limit \
             the unit (MemorySwapMax=0), or set accept.swap = true",
        ),
        finding(
            "kdump",
            seen.kdump,
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
    found.extend(walls(facts));
    found
}

/// What keeps a worker that was taken over from reaching anything.
fn walls(facts: &Facts) -> [Finding; 3] {
    let (walls, accepted) = (facts.walls, facts.accept_without);
    [
        finding(
            "no_landlock",
            !walls.landlock,
            accepted.landlock,
            "workers open no file and no port (landlock, tried)",
            "this kernel has no landlock, or it is switched off (lsm= on its command line): \
             workers could open files as the gateway's user. Use Linux 5.13 or later, or set \
             accept.no_landlock = true",
        ),
        finding(
            "no_seccomp",
            !walls.seccomp,
            accepted.seccomp,
            "workers ask the kernel for nothing off their list (seccomp, tried)",
            "no filter of system calls can be set here: workers could use sockets and start \
             processes. Use a kernel with CONFIG_SECCOMP_FILTER, or set accept.no_seccomp = true",
        ),
        finding(
            "no_namespaces",
            !walls.namespaces,
            accepted.namespaces,
            "workers have namespaces of their own: users, processes, network, mounts (tried)",
            "workers get no namespaces of their own here, as in most containers: allow user \
             namespaces (user.max_user_namespaces, the container's seccomp profile, AppArmor), or \
             set accept.no_namespaces = true",
        ),
    ]
}

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
        let facts = Facts { public, tls, admin, accept_plain_http, ..good() };
        standing(&facts, "plain_http")
    }

    fn good() -> Facts {
        let loopback = "127.0.0.1:0".parse().unwrap();
        Facts {
            public: loopback,
            tls: false,
            admin: loopback,
            accept_swap: true,
            accept_kdump: true,
            accept_plain_http: false,
            walls: Walls::ALL,
            accept_without: Walls::NONE,
        }
    }

    fn standing(facts: &Facts, name: &str) -> Standing {
        standing_on(&Seen { swap: false, kdump: false }, facts, name)
    }

    fn standing_on(seen: &Seen, facts: &Facts, name: &str) -> Standing {
        judge(facts, seen).iter().find(|finding| finding.name == name).unwrap().standing
    }

    #[test]
    fn where_memory_may_be_written_out_the_gateway_does_not_start_unless_that_is_accepted() {
        let accepts = [("swap", true, false), ("kdump", false, true)];
        for (name, swap, kdump) in accepts {
            let (seen, none) = (Seen { swap, kdump }, Facts { accept_swap: false, ..good() });
            let none = Facts { accept_kdump: false, ..none };
            assert_eq!(standing_on(&seen, &none, name), Standing::Refused);
            let other = Facts { accept_swap: kdump, accept_kdump: swap, ..good() };
            assert_eq!(standing_on(&seen, &other, name), Standing::Refused, "not by another name");
            assert_eq!(standing_on(&seen, &good(), name), Standing::Accepted);
            assert_eq!(standing(&none, name), Standing::Fine);
        }
    }

    #[test]
    fn swap_is_a_line_below_the_heading_and_the_group_is_our_own() {
        let heading = "Filename\tType\tSize\tUsed\tPriority\n";
        assert!(!lists_swap(heading) && !lists_swap(""));
        assert!(lists_swap(&format!("{heading}/dev/sda2 partition 1 0 -2\n")));
        assert_eq!(
            own_group("1:cpu:/x\n0::/system.slice/d.service\n"),
            Some("/system.slice/d.service")
        );
        assert_eq!((own_group("0::/../other\n"), own_group("1:cpu:/x\n")), (None, None));
    }

    #[test]
    fn a_missing_wall_is_refused_unless_accepted_by_its_own_name() {
        assert_eq!(standing(&good(), "no_seccomp"), Standing::Fine);
        let walls = Walls { seccomp: false, ..Walls::ALL };
        let others = Walls { seccomp: false, ..Walls::ALL };
        let facts = Facts { walls, accept_without: others, ..good() };
        assert_eq!(standing(&facts, "no_seccomp"), Standing::Refused);
        assert_eq!(standing(&facts, "no_landlock"), Standing::Fine);
        let facts = Facts { walls, accept_without: Walls::ALL, ..good() };
        assert_eq!(standing(&facts, "no_seccomp"), Standing::Accepted);
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
