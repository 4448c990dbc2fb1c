//! What every test stands on: a real gateway, a client with full control, and things to send.

#[expect(dead_code, reason = "the store's own tests use the rest")]
mod bucket;
mod client;
mod disk;
mod gateway;
mod marker;
mod moto;
mod sample;
mod setup;
mod wait;
mod wire;

pub use bucket::{Bucket as BadBucket, Call, Trap, Wrong};
pub use client::{Answer, Ask, Client};
pub use disk::Disk;
pub use gateway::{Ended, TestGateway, run};
pub use marker::{Found, Marker, search, search_memory};
pub use moto::Moto;
pub use sample::{Multipart, Plant, docx, noise, pdf, zip};
pub use setup::{HERE, Setup, key_of};
pub use wait::{eventually, is_long_tier, skip, tell};
pub use wire::Wire;
