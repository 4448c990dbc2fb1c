//! The command line's client, run as somebody would run it.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::gateway::{Ended, folder, program};

/// A folder, and an environment that names a gateway and a key.
pub struct Shell {
    dir: TempDir,
    variables: Vec<(String, String)>,
}

/// A command that has ended, with what it wrote as bytes.
pub struct Said {
    pub ended: Ended,
    pub bytes: Vec<u8>,
}

impl Shell {
    pub fn new(url: &str, key: &str) -> Self {
        let variables = vec![("DAYFLY_URL".into(), url.into()), ("DAYFLY_KEY".into(), key.into())];
        Self { dir: folder(), variables }
    }

    /// Sets a variable besides.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// The names in the folder.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// `dayfly` with these arguments, not started yet.
    pub fn command(&self, arguments: &[impl AsRef<OsStr>]) -> Command {
        let mut command = program(None::<&Path>);
        command.args(arguments).current_dir(self.dir.path());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Said {
        self.fed(arguments, b"")
    }

    /// Runs it with these bytes on stdin.
    #[track_caller]
    pub fn fed(&self, arguments: &[&str], stdin: &[u8]) -> Said {
        let mut child = self.command(arguments).spawn().expect("dayfly starts");
        let mut input = child.stdin.take().unwrap();
        let output = std::thread::scope(|scope| {
            scope.spawn(move || {
                // A command that has refused reads no further.
                let _ = input.write_all(stdin);
            });
            child.wait_with_output().unwrap()
        });
        let ended = Ended {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        Said { ended, bytes: output.stdout }
    }

    /// Runs it and asserts its status; gives back stdout as text.
    #[track_caller]
    pub fn status(&self, status: i32, arguments: &[&str]) -> Ended {
        let ended = self.run(arguments).ended;
        assert_eq!(ended.code, Some(status), "{arguments:?}: {}{}", ended.stdout, ended.stderr);
        ended
    }
}
