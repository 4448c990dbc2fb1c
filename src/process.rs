//! What is done to a file on its way: one file per processor, all behind one trait.
//!
//! A processor that only passes bytes on (`checksum`, `compress`) runs in the gateway and streams
//! from end to end. One that parses untrusted content (`text`, `detect`) runs in a worker process
//! (`jail`); its head is sent when its output is complete, so that a failure has a status. The
//! operator's own are other services (`http`), programs under bubblewrap (`exec`) and a virus
//! scanner (`scan`).

use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;

use crate::body::BodyError;
use crate::jail::JailError;
use crate::problem::Slug;

mod archive;
mod checksum;
mod compress;
mod convert;
mod detect;
mod document;
mod feed;
mod frame;
mod interned;
mod metadata;
mod options;
mod own;
mod package;
mod picture;
mod plan;
mod program;
mod registry;
mod scan;
mod scrub;
mod selftest;
mod text;
mod upstream;
mod worker;
mod zipped;

pub use convert::is_installed as converter_is_installed;
pub use document::{DocumentRoom, MAX_DOCUMENT};
pub use interned::interned;
pub use options::{Options, Password};
pub use own::{Means, Own, Unequipped};
pub use plan::{Plan, Recipe, Steps};
pub use program::Command;
pub use registry::{BUILT_IN, MAX_STEPS, Registry};
pub use scan::Scanner;
pub use selftest::{Act, masked, selftest};
pub use upstream::{Form, Method, Upstream};
pub use worker::{unjailed, worker_main};

/// Bytes between steps. An item that is an error is the last one.
pub type StepStream = Pin<Box<dyn Stream<Item = Result<Bytes, ProcessError>> + Send>>;

/// Why a step gave no result. No variant can hold a byte of the document or of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProcessError {
    /// The input ended badly; this wins over whatever the step made of it.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The request or the document is refused.
    #[error("{}", slug.title())]
    Refused { slug: Slug, detail: Option<&'static str> },
    /// All workers stayed busy, or the memory budget spent.
    #[error("all workers are busy")]
    Overloaded,
    /// No worker can be started.
    #[error("no worker can be started")]
    Failed,
}

impl ProcessError {
    pub(crate) const fn refused(slug: Slug) -> Self {
        Self::Refused { slug, detail: None }
    }

    pub(crate) const fn because(slug: Slug, detail: &'static str) -> Self {
        Self::Refused { slug, detail: Some(detail) }
    }
}

impl From<JailError> for ProcessError {
    fn from(error: JailError) -> Self {
        match error {
            JailError::Busy => Self::Overloaded,
            JailError::Gone | JailError::Unconfined | JailError::Start(_) => Self::Failed,
        }
    }
}

/// How a processor is shown under `GET /v1/processors`.
#[derive(Clone, Debug)]
pub struct Description {
    pub name: String,
    /// The media types it reads; `*/*` for any.
    pub media_types: Vec<&'static str>,
    /// Its options as a JSON Schema.
    pub options: serde_json::Value,
}

/// A kind of step, under one name.
pub trait Processor: Send + Sync {
    fn describe(&self) -> &Description;

    /// Checks the options, before anything of the body is read.
    ///
    /// # Errors
    /// `bad-option` for one that is unknown or out of its bounds.
    fn prepare(&self, options: &Options) -> Result<Box<dyn Step>, ProcessError>;
}

/// One step of one request.
#[async_trait]
pub trait Step: Send {
    /// Whether its output may leave before its input has ended. If not, the caller collects the
    /// output before it sends a head.
    fn streams(&self) -> bool;

    /// Whether it only judges: a step behind it gets what it got, not what it said.
    fn judges(&self) -> bool {
        false
    }

    /// A step of its own that must approve of this one's output before anybody gets it. Its own
    /// output is only read to its end.
    fn approval(&self) -> Option<Box<dyn Step>> {
        None
    }

    /// Runs it. A step that needs a worker takes one before it polls its input, so that a busy
    /// gateway refuses before the body is read.
    ///
    /// # Errors
    /// When the input ends badly or the step refuses it; later errors end `Output::body`.
    async fn run(self: Box<Self>, input: StepStream) -> Result<Output, ProcessError>;
}

/// What a step gives.
pub struct Output {
    pub media_type: &'static str,
    pub body: StepStream,
}
