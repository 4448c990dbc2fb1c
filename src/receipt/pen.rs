//! Keys that sign: the long-lived one of the log, and one per run that is forgotten with it.

use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};
use ed25519_dalek::{Sha512, SigningKey, VerifyingKey};
use signed_note::{Signature, key_id, new_ed25519_verifier_key};

use super::EvidenceError;
use crate::entropy::Entropy;
use crate::secret::{Locked, Secret};

/// The signature type byte of Ed25519 (C2SP signed-note).
pub(super) const ED25519: u8 = 0x01;

/// An Ed25519 key in locked memory, zeroed when it is dropped. Signed-note names it.
pub(super) struct Pen {
    seed: Locked<Secret<32>>,
    public: VerifyingKey,
    name: String,
    id: u32,
}

impl Pen {
    /// A new key. Its name may depend on its public half.
    pub(super) fn draw(
        entropy: &dyn Entropy,
        name: impl FnOnce(&[u8; 32]) -> String,
    ) -> Result<Self, EvidenceError> {
        let mut seed = Locked::<Secret<32>>::zeroed().ok_or(EvidenceError::Unlocked)?;
        entropy.fill(seed.expose_mut())?;
        if seed.is_zero() {
            return Err(EvidenceError::Entropy(crate::entropy::EntropyError));
        }
        Ok(Self::from_seed(seed, name))
    }

    pub(super) fn from_seed(
        seed: Locked<Secret<32>>,
        name: impl FnOnce(&[u8; 32]) -> String,
    ) -> Self {
        let public = SigningKey::from_bytes(seed.expose()).verifying_key();
        let name = name(public.as_bytes());
        let id = key_id(&name, &[&[ED25519], &public.as_bytes()[..]].concat());
        Self { seed, public, name, id }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn seed(&self) -> &[u8; 32] {
        self.seed.expose()
    }

    /// The public half as a line, `name+id+key` (C2SP signed-note's verifier key).
    pub(super) fn verifier(&self) -> String {
        new_ed25519_verifier_key(&self.name, &self.public)
    }

    /// The bare signature over a note's text.
    pub(super) fn sign(&self, text: &str) -> [u8; 64] {
        let key = ExpandedSecretKey::from(self.seed.expose());
        raw_sign::<Sha512>(&key, text.as_bytes(), &self.public).to_bytes()
    }

    /// `text`, and the line that says who signed it.
    pub(super) fn sign_note(&self, text: &str) -> String {
        let line = signature_line(&self.name, self.id, &self.sign(text));
        format!("{text}\n{line}")
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
        let note = pen.sign_note("a text\n");
        let verifier = signed_note::StandardVerifier::new(&pen.verifier()).unwrap();
        let known = signed_note::VerifierList::new(vec![Box::new(verifier)]);
        let read = signed_note::Note::from_bytes(note.as_bytes()).unwrap();
        assert_eq!(read.verify(&known).unwrap().0.len(), 1);
        let apart = join("a text\n", &pen.verifier(), &pen.sign("a text\n"));
        assert_eq!(apart.unwrap(), note, "signatures are the same every time");
    }
}
