//! What a job is: an id, a life of six states, and its story, told to whoever asks.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;

use crate::entropy::{Entropy, EntropyError, random};

mod life;
mod story;

pub use life::{Board, Queued, Reporter, Running};
pub use story::{Event, Progress, Story, Topic};

/// An unguessable job id: 128 random bits, shown as `job_` and 26 base32 characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId([u8; 16]);

/// The text is not `job_` and 26 lower-case base32 characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a job id")]
pub struct JobIdError;

impl JobId {
    /// A new random id.
    ///
    /// # Errors
    /// When the random source fails.
    pub fn draw(entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        random(entropy).map(Self)
    }

    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job_{}", BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for JobId {
    type Err = JobIdError;

    fn from_str(text: &str) -> Result<Self, JobIdError> {
        let digits = text.strip_prefix("job_").ok_or(JobIdError)?;
        if digits.len() != 26 || digits.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(JobIdError);
        }
        let bytes =
            BASE32_NOPAD.decode(digits.to_ascii_uppercase().as_bytes()).map_err(|_| JobIdError)?;
        bytes.try_into().map(Self).map_err(|_| JobIdError)
    }
}

/// Where a job stands. The last four are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    Queued,
    Running,
    Succeeded,
    Failed,
    Cancelled,
    Expired,
}

impl State {
    pub const ALL: [Self; 6] = [
        Self::Queued,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
    ];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// Whether nothing comes after it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SeededEntropy;

    #[test]
    fn an_id_reads_back_and_nothing_else_does() {
        let id = JobId::draw(&SeededEntropy::new(7)).unwrap();
        let text = id.to_string();
        assert_eq!(text.len(), 30);
        assert_eq!(text.parse(), Ok(id));
        for wrong in [text.to_uppercase(), text.replace("job_", "file_"), text[..29].to_owned()] {
            assert_eq!(wrong.parse::<JobId>(), Err(JobIdError), "{wrong}");
        }
    }
}
