//! Words of the operator's that last as long as the process.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

static WORDS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// The same word for ever: media types that the settings name travel with every answer. A reload
/// that repeats a word adds nothing. Never for a word of a request.
#[must_use]
pub fn interned(word: &str) -> &'static str {
    let mut words = WORDS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = words.get(word) {
        return known;
    }
    let word: &'static str = Box::leak(word.into());
    words.insert(word);
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_kept_once() {
        let (one, two) = (interned("text/x-test"), interned(&String::from("text/x-test")));
        assert!(std::ptr::eq(one, two));
    }
}
