//! Where each setting stands: file and line, for complaints and explanations.

use std::collections::BTreeMap;

/// Lines by the settings' dotted keys; an entry of `[[keys]]` counts as `keys.<id>`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    pub file: String,
    pub lines: BTreeMap<String, usize>,
}

impl Places {
    /// `file:line` of a setting; `default` for one that was not written.
    #[must_use]
    pub fn of(&self, key: &str) -> String {
        self.lines
            .get(key)
            .map_or_else(|| "default".to_owned(), |line| format!("{}:{line}", self.file))
    }

    /// The line of a setting, or of the table it would stand in.
    #[must_use]
    pub fn nearest(&self, key: &str) -> Option<usize> {
        let mut key = key;
        loop {
            if let Some(line) = self.lines.get(key) {
                return Some(*line);
            }
            key = key.rsplit_once('.')?.0;
        }
    }
}
