//! Bytes that are wiped when they are let go, and a process that nobody may dump.

use std::fmt;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use zeroize::{Zeroize, ZeroizeOnDrop};

mod locked;
mod pages;
mod slab;
mod wiping;

pub use locked::{AllZero, Locked};
pub use pages::SlabKind;
pub use slab::{Slab, SlabError, Slot};
pub use wiping::Wiping;

/// `N` secret bytes on their short way through the stack: zeroed on drop, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret<const N: usize>([u8; N]);

impl<const N: usize> Secret<N> {
    #[must_use]
    pub const fn zero() -> Self {
        Self([0; N])
    }

    #[must_use]
    pub const fn expose(&self) -> &[u8; N] {
        &self.0
    }

    /// For filling in place, so that no second copy is made.
    pub const fn expose_mut(&mut self) -> &mut [u8; N] {
        &mut self.0
    }

    /// An all-zero secret is a broken random source, and refused (VAULT.md, rule 6).
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0.iter().fold(0, |seen, byte| seen | byte) == 0
    }
}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Makes this process undumpable and its core limit zero. Call it before the first thread.
///
/// Both are needed: a core limit of 0 alone is ignored where core_pattern is a pipe.
///
/// # Errors
/// When the kernel refuses either; the caller must then not take files in.
pub fn forbid_dumps() -> Result<(), rustix::io::Errno> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
}
