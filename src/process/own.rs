//! The operator's own processors: what each is, and what they all need to run.

use std::sync::Arc;

use super::document::DocumentRoom;
use super::program::{Command, ProgramProcessor};
use super::scan::{ScanProcessor, Scanner};
use super::upstream::{Upstream, UpstreamProcessor};
use super::{Description, Processor, options};
use crate::egress::Egress;
use crate::entropy::Entropy;
use crate::jail::{Bubblewrap, NoPrograms};

/// One processor of the operator's, as the settings say it.
#[derive(Clone, Debug, PartialEq)]
pub enum Own {
    Http(Upstream),
    Exec(Command),
    Scan(Scanner),
}

/// What processors work with.
#[derive(Clone)]
pub struct Means {
    pub room: DocumentRoom,
    pub egress: Egress,
    pub entropy: Arc<dyn Entropy>,
    /// The way to run programs that are not ours, or why there is none.
    pub programs: Result<Bubblewrap, NoPrograms>,
}

/// Why a processor of the operator's cannot run on this machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unequipped {
    #[error("processors.{name}: exec programs cannot run here: {why}")]
    NoPrograms { name: String, why: NoPrograms },
    #[error("processors.{name}.command: it cannot be run like that")]
    Command { name: String },
}

impl Own {
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Http(upstream) => &upstream.name,
            Self::Exec(command) => &command.name,
            Self::Scan(_) => "scan",
        }
    }

    pub(super) fn processor(&self, means: &Means) -> Result<Arc<dyn Processor>, Unequipped> {
        Ok(match self {
            Self::Http(upstream) => Arc::new(UpstreamProcessor::new(upstream.clone(), means)),
            Self::Scan(scanner) => Arc::new(ScanProcessor::new(scanner.clone(), &means.room)),
            Self::Exec(command) => {
                let name = command.name.clone();
                let bubblewrap = means.programs.as_ref();
                let bubblewrap = bubblewrap
                    .map_err(|why| Unequipped::NoPrograms { name: name.clone(), why: *why })?;
                let made = ProgramProcessor::new(command, bubblewrap, &means.room);
                Arc::new(made.ok_or(Unequipped::Command { name })?)
            }
        })
    }
}

/// A processor without options.
pub(super) fn plain(name: &str, media_types: &[&'static str]) -> Description {
    let media_types = if media_types.is_empty() { vec!["*/*"] } else { media_types.to_vec() };
    Description { name: name.to_owned(), media_types, options: options::schema(&[]) }
}
