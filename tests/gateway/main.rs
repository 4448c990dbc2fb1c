//! The gateway's promises, held against the real program: a module per promise.
//!
//! Every test starts a gateway of its own ([`harness::TestGateway`]) and speaks to it over sockets.
//! What `Drop` asserts holds for all of them: nothing panicked, nothing was late, every key and
//! every byte is gone when the program ends.

#![expect(
    clippy::disallowed_methods,
    reason = "tests stand outside the gateway: they start it, and read what it leaves behind"
)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where, and stops")]

mod cloud;
mod harness;

mod archive;
mod audit;
mod auth;
mod commands;
mod config;
mod connect;
mod crash;
mod deliver;
mod documents;
mod drain;
mod events;
mod exec;
mod grants;
mod hostile;
mod jail;
mod jobs;
mod leaks;
mod limits;
mod many;
mod matrix;
mod memory;
mod memory_of_process;
mod ops;
mod overload;
mod policy;
mod process;
mod receipts;
mod region;
mod resume;
mod rights;
mod roles;
mod s3;
mod scan;
mod scrub;
mod shred;
mod shutdown;
mod tls;
mod upload;
mod upstream;
mod webhooks;
