//! Programs that are not ours, under bubblewrap: what they see, and what they may use.
//!
//! A program sees `/usr`, what the loader and fonts need, and the files its command names, all
//! read-only; one tmpfs of bounded size to write to; no process, network or user but its own; no
//! environment but what stands here.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};

use super::filter;

/// What one program may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramLimits {
    /// Address space of each of its processes, bytes.
    pub memory_bytes: u64,
    /// Processor time of each of its processes, and the longest that anybody waits for it.
    pub time: Duration,
    /// Bytes it may answer with.
    pub output_bytes: u64,
    /// What it may write, into memory, bytes.
    pub scratch_bytes: u64,
    /// Its processes and threads at a time.
    pub processes: u64,
}

impl Default for ProgramLimits {
    /// 1 GiB for each of 32 processes, 60 s, 1 GiB of output, 64 MiB to write.
    fn default() -> Self {
        Self {
            memory_bytes: 1 << 30,
            time: Duration::from_mins(1),
            output_bytes: 1 << 30,
            scratch_bytes: 64 << 20,
            processes: 32,
        }
    }
}

/// bubblewrap, where it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bubblewrap(PathBuf);

/// What a program sees of `/proc`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proc {
    #[default]
    Nothing,
    /// Its own processes, which may also speak to each other by unix sockets: what large programs
    /// will not start without.
    Own,
}

/// A command with its place to run in.
#[derive(Clone, Debug)]
pub struct Sandbox {
    arguments: Vec<u8>,
    filter: Vec<u8>,
    pub(super) limits: ProgramLimits,
}

/// Folders of the system, and what may be a link into `/usr`.
const SYSTEM: [&str; 5] = ["/bin", "/sbin", "/lib", "/lib32", "/lib64"];

/// Files and folders that a program needs beside them, where they are.
const EXTRAS: [&str; 4] =
    ["/etc/ld.so.cache", "/etc/alternatives", "/etc/fonts", "/etc/libreoffice"];

/// Sets limits from the inside, where a limit on processes counts nobody else's.
const PRLIMIT: &str = "/usr/bin/prlimit";

impl Bubblewrap {
    /// Looks where the system keeps its programs.
    #[must_use]
    pub fn find() -> Option<Self> {
        let places = ["/usr/bin/bwrap", "/bin/bwrap", "/usr/local/bin/bwrap"];
        let found = places.into_iter().map(PathBuf::from).find(|place| place.exists());
        found.filter(|_| Path::new(PRLIMIT).exists()).map(Self)
    }

    /// A place for `command` to run in, which also sees `reads`. `None` where this architecture
    /// has no filter, or a word holds a zero byte.
    #[must_use]
    pub fn sandbox(
        &self,
        command: &[String],
        reads: &[PathBuf],
        proc: Proc,
        limits: ProgramLimits,
    ) -> Option<Sandbox> {
        let mut words = Words::default();
        words.add(self.0.as_os_str());
        words.all(&["--unshare-all", "--die-with-parent", "--new-session", "--clearenv"]);
        words.all(&["--cap-drop", "ALL", "--json-status-fd", "3", "--seccomp", "4"]);
        words.all(&["--ro-bind", "/usr", "/usr"]);
        for folder in SYSTEM {
            match std::fs::read_link(folder) {
                Ok(target) => {
                    words.add("--symlink");
                    words.add(&target);
                    words.add(folder);
                }
                Err(_) => words.all(&["--ro-bind-try", folder, folder]),
            }
        }
        for extra in EXTRAS {
            words.all(&["--ro-bind-try", extra, extra]);
        }
        words.all(&["--dev", "/dev", "--remount-ro", "/dev"]);
        if proc == Proc::Own {
            words.all(&["--proc", "/proc"]);
        }
        words.all(&["--size", &limits.scratch_bytes.to_string(), "--tmpfs", "/tmp"]);
        // After the tmpfs: what is asked for may stand below it.
        for path in command.iter().map(Path::new).chain(reads.iter().map(PathBuf::as_path)) {
            if path.is_absolute() && !path.starts_with("/usr") && path.exists() {
                words.add("--ro-bind");
                words.add(path);
                words.add(path);
            }
        }
        words.all(&["--remount-ro", "/", "--chdir", "/tmp"]);
        for (name, value) in [
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
            ("HOME", "/tmp"),
            ("TMPDIR", "/tmp"),
            ("LANG", "C.UTF-8"),
        ] {
            words.all(&["--setenv", name, value]);
        }
        words.all(&["--", PRLIMIT]);
        words.add(&*format!("--nproc={}", limits.processes));
        words.add(&*format!("--as={}", limits.memory_bytes));
        words.add(&*format!("--fsize={}", limits.scratch_bytes));
        words.all(&["--nofile=256", "--"]);
        for word in command {
            words.add(word);
        }
        let (arguments, filter) = (words.finished()?, filter::program(proc == Proc::Own)?);
        Some(Sandbox { arguments, filter, limits })
    }
}

/// Words with a zero byte behind each.
#[derive(Default)]
struct Words {
    bytes: Vec<u8>,
    broken: bool,
}

impl Words {
    fn add<S: AsRef<OsStr> + ?Sized>(&mut self, word: &S) {
        let word = word.as_ref().as_bytes();
        self.broken |= word.contains(&0);
        self.bytes.extend_from_slice(word);
        self.bytes.push(0);
    }

    fn all(&mut self, words: &[&str]) {
        for word in words {
            self.add(*word);
        }
    }

    fn finished(self) -> Option<Vec<u8>> {
        (!self.broken).then_some(self.bytes)
    }
}

impl Sandbox {
    /// The filter and the arguments as descriptors: fresh ones for each program, since a reader
    /// moves the place it reads from.
    pub(super) fn descriptors(&self) -> io::Result<[OwnedFd; 2]> {
        Ok([sheet(c"filter", &self.filter)?, sheet(c"arguments", &self.arguments)?])
    }
}

/// A file in memory, to be read from its beginning.
fn sheet(name: &std::ffi::CStr, bytes: &[u8]) -> io::Result<OwnedFd> {
    let file = memfd_create(name, MemfdFlags::CLOEXEC)?;
    // One short write into memory is whole or fails.
    let written = rustix::io::pwrite(&file, bytes, 0)?;
    if written == bytes.len() { Ok(file) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// The zygote's side of [`sheet`].
pub(super) fn read_arguments(sheet: &OwnedFd) -> io::Result<Vec<CString>> {
    let size = rustix::fs::fstat(sheet)?.st_size;
    let mut bytes = vec![0; usize::try_from(size).map_err(|_| io::ErrorKind::InvalidInput)?];
    let read = rustix::io::pread(sheet, &mut bytes, 0)?;
    bytes.truncate(read);
    let words = bytes.split_inclusive(|byte| *byte == 0);
    let words = words.map(|word| CString::from_vec_with_nul(word.to_vec()));
    words.collect::<Result<_, _>>().map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// How bubblewrap tells that its program has ended: one JSON document a line. `None` if it never
/// said.
#[must_use]
pub fn exit_code(status: &[u8]) -> Option<u8> {
    let lines = status.split(|byte| *byte == b'\n');
    let ends = lines.filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok());
    let code = ends.filter_map(|said| said.get("exit-code")?.as_u64()).next_back()?;
    u8::try_from(code).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_arrive_as_they_were_written() {
        let mut words = Words::default();
        words.all(&["bwrap", "", "two words"]);
        let sheet = sheet(c"test", &words.finished().unwrap()).unwrap();
        let read = read_arguments(&sheet).unwrap();
        assert_eq!(read, [c"bwrap", c"", c"two words"].map(CString::from));
        let mut broken = Words::default();
        broken.add("a\0b");
        assert_eq!(broken.finished(), None);
    }

    /// The zygote has no environment, no rights and namespaces of its own, so that nothing a
    /// program tries would show that one of these is missing.
    #[test]
    fn walls_that_stand_behind_others_are_asked_for_too() {
        let bubblewrap = Bubblewrap(PathBuf::from("/usr/bin/bwrap"));
        for proc in [Proc::Nothing, Proc::Own] {
            let command = ["/usr/bin/true".to_owned()];
            let sandbox = bubblewrap.sandbox(&command, &[], proc, ProgramLimits::default());
            let arguments = sandbox.unwrap().arguments;
            let words: Vec<&[u8]> = arguments.split(|byte| *byte == 0).collect();
            let has = |asked: &[&str]| {
                words
                    .windows(asked.len())
                    .any(|some| some.iter().zip(asked).all(|(a, b)| *a == b.as_bytes()))
            };
            for asked in [
                &["--unshare-all"][..],
                &["--die-with-parent"],
                &["--new-session"],
                &["--clearenv"],
                &["--cap-drop", "ALL"],
                &["--seccomp", "4"],
                &["--remount-ro", "/"],
            ] {
                assert!(has(asked), "{asked:?}");
            }
            assert!(!has(&["--share-net"]), "no network but its own");
        }
    }

    #[test]
    fn an_end_is_only_one_if_it_is_told() {
        assert_eq!(exit_code(b"{ \"child-pid\": 7 }\n{ \"exit-code\": 0 }\n"), Some(0));
        assert_eq!(exit_code(b"{ \"child-pid\": 7 }\n{ \"exit-code\": 137 }\n"), Some(137));
        assert_eq!(exit_code(b"{ \"child-pid\": 7 }\n"), None);
        assert_eq!(exit_code(b""), None);
    }
}
