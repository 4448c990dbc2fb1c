//! What the gateway and the zygote say to each other: six words and a few descriptors.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// A message without its descriptors.
pub(super) type Words = [u64; 6];

/// The most descriptors a message carries.
const MOST_FDS: usize = 5;

/// What is to be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Kind {
    /// A worker; its stdin and stdout come along.
    Worker = 0,
    /// A worker that tries the walls instead of working; the same descriptors.
    Probe = 1,
    /// A program in bubblewrap: stdin, stdout, where its end is told, the filter, the arguments.
    Program = 2,
}

/// Start something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub id: u64,
    pub kind: Kind,
    /// The walls a worker is to put up around itself, as bits; 0 for a program.
    pub walls: u8,
    pub memory_bytes: u64,
    pub stack_bytes: u64,
    pub cpu_seconds: u64,
}

/// What became of an order; the worker's pidfd comes along if it was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub id: u64,
    pub errno: i32,
}

impl Order {
    pub(super) const fn words(&self) -> Words {
        let (kind, walls) = (self.kind as u64, self.walls as u64);
        [self.id, kind, walls, self.memory_bytes, self.stack_bytes, self.cpu_seconds]
    }

    pub(super) fn from_words(words: Words) -> Option<Self> {
        let [id, kind, walls, memory_bytes, stack_bytes, cpu_seconds] = words;
        let kind = match kind {
            0 => Kind::Worker,
            1 => Kind::Probe,
            2 => Kind::Program,
            _ => return None,
        };
        let walls = u8::try_from(walls).ok()?;
        Some(Self { id, kind, walls, memory_bytes, stack_bytes, cpu_seconds })
    }
}

impl Answer {
    pub(super) const fn words(&self) -> Words {
        [self.id, self.errno.unsigned_abs() as u64, 0, 0, 0, 0]
    }

    pub(super) fn from_words([id, errno, ..]: Words) -> Self {
        Self { id, errno: i32::try_from(errno).unwrap_or(0) }
    }

    pub(super) fn error(&self) -> io::Error {
        io::Error::from_raw_os_error(self.errno)
    }
}

/// Sends one message, whole.
pub(super) fn send(socket: BorrowedFd, words: Words, fds: &[BorrowedFd]) -> io::Result<()> {
    let mut bytes = [0; size_of::<Words>()];
    for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one message; `None` when the other end is closed.
pub(super) fn receive(socket: BorrowedFd) -> io::Result<Option<(Words, Vec<OwnedFd>)>> {
    let mut bytes = [0; size_of::<Words>()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(socket, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    if received.bytes != bytes.len() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut words = [0; 6];
    for (word, place) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_le_bytes(*place);
    }
    Ok(Some((words, fds)))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_message_arrives_whole_with_its_descriptors_and_an_end_is_told() {
        let (ours, theirs) = super::super::pair().unwrap();
        let order = Order {
            id: 7,
            kind: Kind::Program,
            walls: 5,
            memory_bytes: u64::MAX,
            stack_bytes: 3,
            cpu_seconds: 1,
        };
        send(ours.as_fd(), order.words(), &[ours.as_fd(); MOST_FDS]).unwrap();
        let (words, fds) = receive(theirs.as_fd()).unwrap().unwrap();
        assert_eq!((Order::from_words(words), fds.len()), (Some(order), MOST_FDS));
        assert_eq!(Order::from_words([7, 3, 0, 0, 0, 0]), None);
        drop((ours, fds));
        assert!(receive(theirs.as_fd()).unwrap().is_none());
    }

    #[test]
    fn an_answer_keeps_its_error() {
        let answer = Answer { id: 1, errno: 11 };
        assert_eq!(Answer::from_words(answer.words()), answer);
        assert_eq!(answer.error().raw_os_error(), Some(11));
    }
}
