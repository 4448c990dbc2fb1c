//! Interim answers (RFC 9110, section 15.2) over HTTP/1.1: hyper writes none but 100.
//!
//! What a handler wants to say before its answer waits here, and the connection's socket slips it
//! in between two writes of hyper's: never into the middle of a message.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::Context;

use futures_util::task::AtomicWaker;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// What waits to be said on one connection.
#[derive(Clone, Default)]
pub(super) struct Interim(Arc<Inner>);

#[derive(Default)]
struct Inner {
    waiting: Mutex<Vec<u8>>,
    waker: AtomicWaker,
}

impl Interim {
    /// Says `status` with these fields, as soon as the connection can.
    pub fn say(&self, status: (StatusCode, &str), fields: &HeaderMap) {
        let mut head = format!("HTTP/1.1 {} {}\r\n", status.0.as_u16(), status.1).into_bytes();
        for (name, value) in fields {
            line(&mut head, name, value);
        }
        head.extend_from_slice(b"\r\n");
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&head);
        self.0.waker.wake();
    }

    /// Has the socket's task woken when there is something to be said.
    pub fn listen(&self, cx: &Context<'_>) {
        self.0.waker.register(cx.waker());
    }

    /// Takes what waits, if anything does.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A field as it is written; its value cannot end the line (RFC 9110, section 5.5, as checked by
/// the type).
fn line(head: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
        head.extend_from_slice(part);
    }
}
