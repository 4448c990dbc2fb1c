//! Keys that sign: the long-lived one of the log, and one per run that is forgotten with it.

use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};
use ed25519_dalek::{Sha512, SigningKey, VerifyingKey};
use signed_note::{Signature, key_id, new_ed25519_verifier_key};

use super::EvidenceError;
use crate::entropy::Entropy;
use crate::secret::{Locked, Secret, Slab, Slot};

/// The signature type byte of Ed25519 (C2SP signed-note).
pub(super) const ED25519: u8 = 0x01;

/// An Ed25519 key in locked memory, zeroed when it is dropped. Signed-note names it.
pub(super) struct Pen {
    seed: Seed,
    public: VerifyingKey,
    name: String,
    id: u32,
}

enum Seed {
    /// The log key's, which outlives the process anyway.
    Apart(Locked<Secret<32>>),
    /// A run's own lies among the secrets of files, and is wiped with them.
    Slot(Slot),
}

impl Seed {
    fn secret(&self) -> Secret<32> {
        match self {
            Self::Apart(seed) => Secret::clone(seed),
            Self::Slot(slot) => slot.secret(),
        }
    }
}

impl Pen {
    /// A new key. Its name may depend on its public half.
    pub(super) fn draw(
        entropy: &dyn Entropy,
        name: impl FnOnce(&[u8; 32]) -> String,
    ) -> Result<Self, EvidenceError> {
        let mut seed = Locked::<Secret<32>>::zeroed().ok_or(EvidenceError::Unlocked)?;
        entropy.fill(seed.expose_mut())?;
        Self::from_seed(Seed::Apart(seed), name)
    }

    /// A new key in the slab.
    pub(super) fn draw_in(
        slab: &Slab,
        entropy: &dyn Entropy,
        name: String,
    ) -> Result<Self, EvidenceError> {
        let mut seed = Secret::<32>::zero();
        entropy.fill(seed.expose_mut())?;
        let slot = slab.put_aside(&seed).ok_or(EvidenceError::Unlocked)?;
        Self::from_seed(Seed::Slot(slot), |_| name)
    }

    /// A key that was read.
    pub(super) fn read(seed: Locked<Secret<32>>, name: &str) -> Result<Self, EvidenceError> {
        Self::from_seed(Seed::Apart(seed), |_| name.to_owned())
    }

    fn from_seed(
        seed: Seed,
        name: impl FnOnce(&[u8; 32]) -> String,
    ) -> Result<Self, EvidenceError> {
        let secret = seed.secret();
        if secret.is_zero() {
            return Err(EvidenceError::Entropy(crate::entropy::EntropyError));
        }
        let public = SigningKey::from_bytes(secret.expose()).verifying_key();
        let name = name(public.as_bytes());
        let id = key_id(&name, &[&[ED25519], &public.as_bytes()[..]].concat());
        Ok(Self { seed, public, name, id })
    }

    /// Whether it was wiped with all other secrets: it signs no more.
    pub(super) fn is_wiped(&self) -> bool {
        self.seed.secret().is_zero()
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn seed(&self) -> Secret<32> {
        self.seed.secret()
    }

    /// The public half as a line, `name+id+key` (C2SP signed-note's verifier key).
    pub(super) fn verifier(&self) -> String {
        new_ed25519_verifier_key(&self.name, &self.public)
    }

    /// The bare signature over a note's text; `None` once it was wiped.
    pub(super) fn sign(&self, text: &str) -> Option<[u8; 64]> {
        let seed = Some(self.seed.secret()).filter(|seed| !seed.is_zero())?;
        let key = ExpandedSecretKey::from(seed.expose());
        Some(raw_sign::<Sha512>(&key, text.as_bytes(), &self.public).to_bytes())
    }

    /// `text`, and the line that says who signed it.
    pub(super) fn sign_note(&self, text: &str) -> Option<String> {
        let line = signature_line(&self.name, self.id, &self.sign(text)?);
        Some(format!("{text}\n{line}"))
    }
}

/// A signature as the last line of a note.
fn signature_line(name: &str, id: u32, signature: &[u8; 64]) -> String {
    let signature = Signature::new(name.to_owned(), id, signature.to_vec());
    let line = signature.map(|signature| signature.to_bytes()).unwrap_or_default();
    String::from_utf8(line).unwrap_or_default()
}

/// A note whose signature was kept apart from its text; `verifier` is the signer's line.
pub(super) fn join(text: &str, verifier: &str, signature: &[u8; 64]) -> Option<String> {
    let mut parts = verifier.split('+');
    let name = parts.next()?;
    let id = u32::from_str_radix(parts.next()?, 16).ok()?;
    Some(format!("{text}\n{}", signature_line(name, id, signature)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SeededEntropy;

    #[test]
    fn a_note_verifies_by_the_crate_that_reads_such_notes() {
        let pen = Pen::draw(&SeededEntropy::new(1), |_| "dayfly/eu/pen".to_owned()).unwrap();
        let note = pen.sign_note("a text\n").unwrap();
        let verifier = signed_note::StandardVerifier::new(&pen.verifier()).unwrap();
        let known = signed_note::VerifierList::new(vec![Box::new(verifier)]);
        let read = signed_note::Note::from_bytes(note.as_bytes()).unwrap();
        assert_eq!(read.verify(&known).unwrap().0.len(), 1);
        let apart = join("a text\n", &pen.verifier(), &pen.sign("a text\n").unwrap());
        assert_eq!(apart.unwrap(), note, "signatures are the same every time");
    }

    #[test]
    fn a_pen_in_the_slab_signs_until_the_slab_is_wiped() {
        let slab = Slab::lock_at_most(64 << 10).unwrap();
        let pen = Pen::draw_in(&slab, &SeededEntropy::new(1), "pen".to_owned()).unwrap();
        assert!(pen.sign("a text\n").is_some() && !pen.is_wiped());
        slab.wipe();
        assert!(pen.sign("a text\n").is_none() && pen.is_wiped());
    }
}
