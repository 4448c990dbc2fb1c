//! Several steps, one behind the other.

use std::sync::Arc;

use super::{Options, Password, ProcessError, Processor, Step};
use crate::problem::Slug;
use crate::process::options::bad;

/// The steps a request names, pipelines expanded; not yet told their options.
pub struct Steps(Vec<(String, Arc<dyn Processor>)>);

/// Steps with what a request said to them: enough to prepare them for every file, and every try.
pub struct Recipe {
    steps: Steps,
    options: Vec<(String, String)>,
    password: Option<Password>,
}

impl Recipe {
    /// As [`Steps::prepare`], to be done again later.
    ///
    /// # Errors
    /// Those of [`Steps::prepare`].
    pub fn new(
        steps: Steps,
        options: Vec<(String, String)>,
        password: Option<Password>,
    ) -> Result<Self, ProcessError> {
        steps.prepare(&options, password.as_ref())?;
        Ok(Self { steps, options, password })
    }

    /// No steps at all: for a job that only moves files.
    #[must_use]
    pub const fn nothing() -> Self {
        Self { steps: Steps(Vec::new()), options: Vec::new(), password: None }
    }

    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        self.steps.0.is_empty()
    }

    /// The steps' names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.steps.names()
    }

    /// Prepares the steps.
    ///
    /// # Errors
    /// Those of [`Steps::prepare`], which said yes before.
    pub fn plan(&self) -> Result<Plan, ProcessError> {
        self.steps.prepare(&self.options, self.password.as_ref())
    }
}

/// Steps that are ready to run.
pub struct Plan(Vec<Box<dyn Step>>);

impl Steps {
    pub(super) fn new(steps: Vec<(String, Arc<dyn Processor>)>) -> Self {
        Self(steps)
    }

    /// The names, for the tenant's policy to judge.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Hands each step its options out of the query's pairs: plain keys for a single step,
    /// `step.key` for several. A document's password comes apart from them.
    ///
    /// # Errors
    /// `secret-in-url` for a password among the pairs, `bad-option` for a key no step takes.
    pub fn prepare(
        &self,
        query: &[(String, String)],
        password: Option<&Password>,
    ) -> Result<Plan, ProcessError> {
        let is_secret = |key: &str| key.rsplit('.').next() == Some("password");
        if query.iter().any(|(key, _)| is_secret(key)) {
            return Err(ProcessError::refused(Slug::SecretInUrl));
        }
        let single = self.0.len() == 1;
        let meant_for = |key: &str, step: &str| -> Option<String> {
            let prefixed = key.strip_prefix(step).and_then(|rest| rest.strip_prefix('.'));
            prefixed.or(single.then_some(key)).map(str::to_owned)
        };
        let taken = |key: &str| self.names().any(|step| meant_for(key, step).is_some());
        if !query.iter().all(|(key, _)| taken(key)) {
            return Err(bad("with several steps an option is written step.option"));
        }
        let prepare = |(name, processor): &(String, Arc<dyn Processor>)| {
            let pair = |(key, value): &(String, String)| {
                meant_for(key, name).map(|key| (key, value.clone()))
            };
            let pairs = query.iter().filter_map(pair).collect();
            processor.prepare(&Options { pairs, password: password.cloned() })
        };
        Ok(Plan(self.0.iter().map(prepare).collect::<Result<_, _>>()?))
    }
}

impl Plan {
    /// Whether the head may be sent before the output is complete. If not, one of the steps can
    /// still refuse, and the caller collects its output first.
    #[must_use]
    pub fn streams(&self) -> bool {
        self.0.iter().all(|step| step.streams())
    }

    /// The steps in order, each to run on the output of the one before.
    #[must_use]
    pub fn into_steps(self) -> Vec<Box<dyn Step>> {
        self.0
    }
}
