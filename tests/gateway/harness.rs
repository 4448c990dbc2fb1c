//! What every test stands on: a real gateway, a client with full control, and things to send.

mod client;
mod disk;
mod events;
mod frozen;
mod gateway;
mod marker;
mod pair;
mod peer;
mod sample;
mod setup;
mod shell;
pub mod two;
mod wait;
mod wire;

pub use client::{Answer, Ask, Client};
pub use disk::Disk;
pub use events::{Events, Sent};
pub use frozen::{Frozen, descendants, kill_workers};
pub use gateway::{Ended, TestGateway, run};
pub use marker::{Found, Marker, search, search_memory};
pub use pair::{Pair, status_over};
pub use peer::Receiver;
pub use sample::{Multipart, Plant, docx, noise, pdf, zip};
pub use setup::{HERE, Setup, key_of};
pub use shell::Shell;
pub use wait::{eventually, is_long_tier, skip, tell};
pub use wire::{Head, Wire};
