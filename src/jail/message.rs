//! What the gateway and the zygote say to each other: four words and a few descriptors.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// A message without its descriptors.
pub(super) type Words = [u64; 4];

/// Start a worker; its stdin and stdout come along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub id: u64,
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
        [self.id, self.memory_bytes, self.stack_bytes, self.cpu_seconds]
    }

    pub(super) const fn from_words(words: Words) -> Self {
        let [id, memory_bytes, stack_bytes, cpu_seconds] = words;
        Self { id, memory_bytes, stack_bytes, cpu_seconds }
    }
}

impl Answer {
    pub(super) const fn words(&self) -> Words {
        [self.id, self.errno.unsigned_abs() as u64, 0, 0]
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
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
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
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
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
    let mut words = [0; 4];
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
        let order = Order { id: 7, memory_bytes: u64::MAX, stack_bytes: 3, cpu_seconds: 1 };
        send(ours.as_fd(), order.words(), &[ours.as_fd(), theirs.as_fd()]).unwrap();
        let (words, fds) = receive(theirs.as_fd()).unwrap().unwrap();
        assert_eq!((Order::from_words(words), fds.len()), (order, 2));
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
