//! Dayfly takes files in, seals them, processes and delivers them, and forgets them on time.
//!
//! This page is the map. The path of a file is the table of contents:
//!
//! ```text
//!          upload, resumable                                 result, download
//!  client ──► http ──► intake ──► vault ──► process ──► vault ──► deliver ──► client
//!                        ▲          │ seal / open                    │
//!              policy decides       ▼                                ▼
//!              before byte one    store (memory, local, s3)        shred ──► receipt
//! ```
//!
//! # The rooms
//!
//! Imports point down, or left within a line; never up, never right. `tests/tidy` reads this table
//! and holds every import against it, so that the picture cannot rot.
//!
//! ```text
//! 7 root       app   config   main (loads the config, hands plain values to app)
//! 6 faces      wire (JSON shapes)   web (pages)   http (router, auth, files)   ops   cli
//! 5 flow       pipeline (the one place where the order of stages is written; the sweeper)
//! 4 stages     shred   connect (by consent)   intake   process (and its worker)   deliver
//! 3 keepers    policy   table (live files)   receipt (evidence)   vault (seal, open, placement)
//! 2 edges      egress (the one HTTP client)   store   provider (Dropbox, Google Drive)   jail
//! 1 substance  file   job   problem (slug, status, title)   crypto (segment format)   keyring
//! 0 words      clock   entropy   region   secret   metrics   tasks   disk   budget   body
//! ```
//!
//! `app` composes seams and plain options into a running gateway. `config` stands above it: each
//! room defines the options it wants, config produces them, and only `main` asks config.
//!
//! # What always holds
//!
//! - **Deletion is the destruction of keys.** Removing bytes is hygiene that follows. The order is
//!   keys, then the record, then the stored bytes, then the receipt; types make the steps follow
//!   one another.
//! - **No plaintext rests.** A store accepts sealed chunks alone, and only `crypto` makes them. No
//!   content, name, token or tenant's name stands in a log, a metric, an error text or a receipt.
//! - **A deadline only comes earlier.** It is fixed when the first byte arrives, and has no setter.
//!   The first of two clocks to reach it ends the file.
//! - **Policy answers before byte one.** A region that cannot be used is refused, never replaced.
//! - **Memory is a contract.** Every buffer carries its permit. When the budget is spent a request
//!   waits a moment, then gets 503.
//! - **The guard rides with the body.** What a stream holds is given back when its last byte has
//!   left, or when it is dropped.
//! - **One door each.** Time, randomness, spawning, file opens and new processes have one seam
//!   each; `clippy.toml` closes the others.

pub mod app;
pub mod body;
pub mod budget;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connect;
pub mod crypto;
pub mod deliver;
pub mod disk;
pub mod egress;
pub mod entropy;
pub mod file;
pub mod http;
pub mod intake;
pub mod jail;
pub mod job;
pub mod keyring;
pub mod metrics;
pub mod ops;
pub mod pipeline;
pub mod policy;
pub mod problem;
pub mod process;
pub mod provider;
pub mod receipt;
pub mod region;
pub mod secret;
pub mod shred;
pub mod store;
pub mod table;
pub mod tasks;
pub mod vault;
pub mod web;
pub mod wire;
