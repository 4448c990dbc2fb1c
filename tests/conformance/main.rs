//! What a server of resumable uploads must do, point by point, over the wire alone: tus 1.0.0, and
//! the IETF's draft (draft-ietf-httpbis-resumable-upload, interop versions 8 and 9).
//!
//! The points are those of the two specifications that can be seen from outside; each test is named
//! for one. They run against a Dayfly of their own, or against any server:
//!
//! ```text
//! CONFORMANCE_TUS_URL=http://127.0.0.1:1080/files/     where a tus upload is created
//! CONFORMANCE_DRAFT_URL=http://127.0.0.1:8080/upload   where an upload of the draft is begun
//! CONFORMANCE_AUTHORIZATION='Bearer …'                 sent with every request, if set
//! ```
//!
//! What another server does not announce is left out, and said.

#![expect(clippy::disallowed_methods, reason = "tests stand outside: they start the server")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where, and stops")]

mod draft;
mod server;
mod tus;
mod wire;
