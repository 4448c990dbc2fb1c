//! What every test stands on: a real gateway, a client with full control, and things to send.

mod client;
mod gateway;
mod sample;
mod setup;
mod wait;
mod wire;

pub use client::{Answer, Client};
pub use gateway::{Ended, TestGateway, run};
pub use sample::{Multipart, Plant, docx, noise, pdf, zip};
pub use setup::{HERE, Setup, key_of};
pub use wait::{eventually, skip};
pub use wire::Wire;
