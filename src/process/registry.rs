//! The processors there are, by name, and the pipelines named after several of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::archive::Archive;
use super::checksum::Checksum;
use super::compress::Compress;
use super::document::{DocumentProcessor, DocumentRoom};
use super::own::{Means, Own, Unequipped};
use super::plan::Steps;
use super::scrub::Scrub;
use super::{Description, ProcessError, Processor, convert, detect, metadata, text};
use crate::problem::Slug;

/// The processors every gateway of this version has.
pub const BUILT_IN: [&str; 7] =
    ["archive", "checksum", "compress", "detect", "metadata", "scrub", "text"];

/// The most steps one request may ask for.
pub const MAX_STEPS: usize = 8;

/// Every processor, and every named pipeline.
#[derive(Default)]
pub struct Registry {
    processors: BTreeMap<String, Arc<dyn Processor>>,
    pipelines: BTreeMap<String, Vec<String>>,
}

impl Registry {
    /// The built-in processors; document steps run as `room` says.
    #[must_use]
    pub fn built_in(room: &DocumentRoom) -> Self {
        let mut registry = Self::default();
        registry.add(Arc::new(Archive::new(room.clone())));
        registry.add(Arc::new(Checksum::default()));
        registry.add(Arc::new(Compress::new(room.pool.clone(), room.clock.clone())));
        registry.add(Arc::new(DocumentProcessor::new(room.clone(), &detect::KIND)));
        registry.add(Arc::new(DocumentProcessor::new(room.clone(), &metadata::KIND)));
        registry.add(Arc::new(Scrub::new(room.clone())));
        registry.add(Arc::new(DocumentProcessor::new(room.clone(), &text::KIND)));
        registry
    }

    /// The built-in processors, those that this machine adds, and the operator's own.
    ///
    /// # Errors
    /// When one of the operator's cannot run here.
    pub fn equipped(means: &Means, own: &[Own]) -> Result<Self, Unequipped> {
        let mut registry = Self::built_in(&means.room);
        if let Ok(bubblewrap) = &means.programs
            && let Some(convert) = convert::processor(&means.room, bubblewrap)
        {
            registry.add(convert);
        }
        for own in own {
            registry.add(own.processor(means)?);
        }
        Ok(registry)
    }

    /// Adds a processor; one of the same name is replaced.
    pub fn add(&mut self, processor: Arc<dyn Processor>) {
        self.processors.insert(processor.describe().name.clone(), processor);
    }

    /// Names a pipeline. Its steps are processors, never pipelines, so that it cannot be circular.
    ///
    /// # Errors
    /// `unknown-step` when it is empty, too long, or names something that is no processor.
    pub fn name_pipeline(&mut self, name: String, steps: Vec<String>) -> Result<(), ProcessError> {
        let known = steps.iter().all(|step| self.processors.contains_key(step));
        if steps.is_empty() || steps.len() > MAX_STEPS || !known {
            return Err(ProcessError::refused(Slug::UnknownStep));
        }
        self.pipelines.insert(name, steps);
        Ok(())
    }

    /// What `GET /v1/processors` shows, by name.
    pub fn describe(&self) -> impl Iterator<Item = &Description> {
        self.processors.values().map(|processor| processor.describe())
    }

    /// Reads `text`, `text+compress`, or the name of a pipeline.
    ///
    /// # Errors
    /// `unknown-step` for a name that is neither, or for more than eight steps.
    pub fn parse(&self, steps: &str) -> Result<Steps, ProcessError> {
        let mut found: Vec<(String, Arc<dyn Processor>)> = Vec::new();
        for name in steps.split('+') {
            let expanded = self
                .pipelines
                .get(name)
                .map_or(vec![name], |steps| steps.iter().map(String::as_str).collect());
            for name in expanded {
                let known = self.processors.get_key_value(name);
                let (name, processor) = known.ok_or(ProcessError::refused(Slug::UnknownStep))?;
                if found.len() == MAX_STEPS {
                    let detail = "a request takes at most 8 steps";
                    return Err(ProcessError::because(Slug::UnknownStep, detail));
                }
                found.push((name.clone(), processor.clone()));
            }
        }
        Ok(Steps::new(found))
    }
}
