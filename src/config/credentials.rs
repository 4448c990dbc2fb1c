//! Secrets that the settings only point to: in a file of their own, or in the environment.

use std::path::Path;

use zeroize::Zeroizing;

use super::typed::Complaints;
use crate::disk;

/// A secret from `file`, else from the first of these variables that is set.
pub(super) fn secret(
    key: &str,
    file: Option<&Path>,
    variables: &[&str],
    wrong: &mut Complaints,
) -> Option<Zeroizing<String>> {
    if let Some(file) = file {
        let text = disk::read_text(file).map(Zeroizing::new);
        let text = match text {
            Ok(text) => Zeroizing::new(text.trim().to_owned()),
            Err(error) => {
                wrong.say(key, format!("the file cannot be read ({})", error.kind()));
                return None;
            }
        };
        return wrong.need(key, Some(text).filter(|text| !text.is_empty()), "the file is empty");
    }
    let found = variables.iter().find_map(|name| variable(name));
    wrong.need(key, found, &format!("name a file, or set {}", variables.join(" or ")))
}

#[expect(clippy::disallowed_methods, reason = "this is the seam that others must go through")]
fn variable(name: &str) -> Option<Zeroizing<String>> {
    std::env::var(name).ok().filter(|value| !value.is_empty()).map(Zeroizing::new)
}
