//! What really holds on this machine: tried by a worker and a program that do nothing else.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};

use super::message::{self, Answer, Kind, Order};
use super::sandbox::{Bubblewrap, ProgramLimits, exit_code};
use super::{JailError, Limits, Walls, Zygote};

/// What was tried, and how it went.
#[derive(Clone, Debug)]
pub struct Holds {
    pub walls: Walls,
    /// The way to run programs that are not ours, or why there is none.
    pub programs: Result<Bubblewrap, NoPrograms>,
}

/// Why no program of the operator's can run here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPrograms {
    #[error("bubblewrap or prlimit is not installed (Debian: bubblewrap, util-linux)")]
    Missing,
    #[error("bubblewrap cannot make its namespaces here, as in most containers")]
    Refused,
}

/// For each thing a probe says. The first start reads the program from the disk.
const PATIENCE: Timespec = Timespec { tv_sec: 20, tv_nsec: 0 };

impl Zygote {
    /// Tries every wall, and a program under bubblewrap. Call it before the jail is made.
    ///
    /// # Errors
    /// When no worker can be started at all.
    pub fn examine(&self) -> Result<Holds, JailError> {
        Ok(Holds { walls: self.try_walls()?, programs: self.try_program() })
    }

    fn try_walls(&self) -> Result<Walls, JailError> {
        let (stdin, _ours) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
        let (said, stdout) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
        let _pidfd = self.order(Kind::Probe, &Limits::default(), vec![stdin, stdout])?;
        let bits =
            read_byte(&said)?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        let mut walls = Walls::from_bits(bits);
        // A filter that stands ends the probe when it asks for a socket.
        walls.seccomp &= read_byte(&said)?.is_none();
        Ok(walls)
    }

    fn try_program(&self) -> Result<Bubblewrap, NoPrograms> {
        let bubblewrap = Bubblewrap::find().ok_or(NoPrograms::Missing)?;
        let attempt = || -> Result<Option<u8>, JailError> {
            let command = ["/usr/bin/true".to_owned()];
            let sandbox = bubblewrap.sandbox(&command, &[], ProgramLimits::default());
            let sandbox = sandbox.ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))?;
            let (stdin, _ours) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
            let (_out, stdout) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
            let (told, status) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
            let [filter, arguments] = sandbox.descriptors()?;
            let fds = vec![stdin, stdout, status, filter, arguments];
            let _pidfd = self.order(Kind::Program, &Limits::default(), fds)?;
            let mut status = Vec::new();
            while let Some(byte) = read_byte(&told)? {
                status.push(byte);
            }
            Ok(exit_code(&status))
        };
        match attempt() {
            Ok(Some(0)) => Ok(bubblewrap),
            Ok(_) | Err(_) => Err(NoPrograms::Refused),
        }
    }

    fn order(&self, kind: Kind, limits: &Limits, fds: Vec<OwnedFd>) -> Result<OwnedFd, JailError> {
        let order = Order {
            id: 0,
            kind,
            walls: Walls::ALL.bits(),
            memory_bytes: limits.memory_bytes,
            stack_bytes: limits.stack_bytes,
            cpu_seconds: limits.cpu.as_secs(),
        };
        let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        message::send(self.socket(), order.words(), &borrowed).map_err(|_| JailError::Gone)?;
        drop(borrowed);
        // The reader of a pipe learns of its end only when nobody here holds the other one.
        drop(fds);
        wait(self.socket())?;
        let answer = message::receive(self.socket()).map_err(|_| JailError::Gone)?;
        let (words, mut fds) = answer.ok_or(JailError::Gone)?;
        fds.pop().ok_or_else(|| JailError::Start(Answer::from_words(words).error()))
    }
}

/// The next byte; `None` when there will be none.
fn read_byte(from: &OwnedFd) -> io::Result<Option<u8>> {
    wait(from.as_fd())?;
    let mut byte = [0];
    let read = rustix::io::read(from, &mut byte)?;
    Ok((read == 1).then_some(byte[0]))
}

fn wait(fd: std::os::fd::BorrowedFd) -> io::Result<()> {
    let mut watched = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    if poll(&mut watched, Some(&PATIENCE))? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(())
}
