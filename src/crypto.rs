//! The sealed segment: how bytes are held so that they can be forgotten (VAULT.md, "Key derivation
//! and sealed segment"; C2SP chunked-encryption with AEAD_AES_256_GCM).
//!
//! [`Sealer`] and [`SealStream`] turn plaintext into [`SealedRun`]s, the only bytes a store takes.
//! [`Opener`] turns stored bytes back, a chunk only after its tag verified. [`Layout`] knows where
//! a plaintext byte lies in a stored segment. Nothing here reads or writes anything but memory.

mod aead;
mod derive;
mod header;
mod layout;
mod open;
mod record;
mod row;
mod seal;
mod stream;

pub use aead::{CipherError, Implementation};
pub use derive::{InputKey, KeyError};
pub use header::{HEADER_BYTES, Header};
pub use layout::{
    CHUNK_BYTES, COMMITMENT_BYTES, Layout, PREFIX_BYTES, RUN_BYTES, RUN_CHUNKS, Run, Runs,
    SEALED_CHUNK_BYTES, TAG_BYTES, sealed_len,
};
pub use open::{Listed, OpenError, Opener};
pub use record::{SealedRecord, open_record, seal_record};
pub use row::{ROW_NONCE_BYTES, open_row, seal_row};
pub use seal::{SealError, SealedRun, Sealer, SegmentEnd};
pub use stream::SealStream;

#[cfg(test)]
mod tests;
