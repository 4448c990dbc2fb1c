//! The zip of an export, written as it is read: one file's bytes at a time, never more in memory.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;

use super::Describe;
use crate::body::{BodyError, ByteStream};
use crate::budget::Permit;
use crate::deliver::{Archive, Directory, MEMBER_BYTES, Place};
use crate::file::{FileId, TenantId};
use crate::pipeline::Pipeline;
use crate::table::LiveFile;

/// Files looked up at a time.
const PAGE: usize = 100;
/// Members whose directory entries are paid for at a time.
const PAID: usize = 1024;

/// An export in the middle of its way.
pub(super) struct Writing {
    pipeline: Pipeline,
    tenant: TenantId,
    describe: Describe,
    archive: Archive,
    /// Pays for the directory to come.
    permits: Vec<Permit>,
    /// Ready to be sent.
    ready: VecDeque<Bytes>,
    /// The file whose bytes are being sent.
    content: Option<ByteStream>,
    /// The rest of the page, and where the next one begins. Ids, so that no file is kept by it.
    page: VecDeque<FileId>,
    next: Next,
}

enum Next {
    Page(Option<u64>),
    /// The page at hand is the last one.
    LastPage,
    Directory(Directory),
}

impl Writing {
    pub fn new(pipeline: Pipeline, tenant: TenantId, describe: Describe) -> Self {
        Self {
            pipeline,
            tenant,
            describe,
            archive: Archive::default(),
            permits: Vec::new(),
            ready: VecDeque::new(),
            content: None,
            page: VecDeque::new(),
            next: Next::Page(None),
        }
    }

    /// The next bytes of the zip.
    pub async fn next(mut self) -> Result<Option<(Bytes, Self)>, BodyError> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Ok(Some((bytes, self)));
            }
            if let Some(content) = &mut self.content {
                match content.next().await.transpose()? {
                    Some(bytes) => {
                        self.archive.add(&bytes);
                        self.ready.push_back(bytes);
                    }
                    None => {
                        self.content = None;
                        self.ready.push_back(self.archive.end());
                    }
                }
            } else if let Some(id) = self.page.pop_front() {
                if let Some(file) = self.pipeline.find(id, self.tenant) {
                    self.begin(&file).await?;
                }
            } else if !self.turn_page() {
                return Ok(None);
            }
        }
    }

    /// A file's record, and the first of its bytes. One that is gone by then is left out.
    async fn begin(&mut self, file: &Arc<LiveFile>) -> Result<(), BodyError> {
        self.pay()?;
        let size = file.size();
        // To read a counted file is to spend one of its downloads: its record alone is exported.
        let mut content = file.claims.is_none().then(|| {
            let pipeline = &self.pipeline;
            pipeline.vault.open_file(file, 0..size)
        });
        let first = match &mut content {
            Some(content) => match content.next().await.transpose() {
                Err(BodyError::Gone) => return Ok(()),
                first => first?,
            },
            None => None,
        };
        let Some(record) = (self.describe)(file) else { return Ok(()) };
        self.ready.push_back(self.archive.begin(Place::Record(file.id), record.len() as u64));
        self.archive.add(&record);
        self.ready.push_back(record.into());
        self.ready.push_back(self.archive.end());
        if content.is_some() {
            self.ready.push_back(self.archive.begin(Place::Content(file.id), size));
            if let Some(first) = first {
                self.archive.add(&first);
                self.ready.push_back(first);
            }
        }
        self.content = content;
        Ok(())
    }

    /// Memory for the directory entries of another file.
    fn pay(&mut self) -> Result<(), BodyError> {
        if self.archive.members() + 2 > self.permits.len() * PAID {
            self.permits.push(self.pipeline.vault.rent(PAID * MEMBER_BYTES)?);
        }
        Ok(())
    }

    /// The next page of files, or the directory; false when all was said.
    fn turn_page(&mut self) -> bool {
        match self.next {
            Next::Page(cursor) => {
                let (files, next) = self.pipeline.list(self.tenant, cursor, PAGE);
                self.page.extend(files.iter().map(|file| file.id));
                self.next = match next {
                    Some(cursor) => Next::Page(Some(cursor)),
                    None => Next::LastPage,
                };
                true
            }
            Next::LastPage => {
                let directory = std::mem::take(&mut self.archive).finish();
                self.next = Next::Directory(directory);
                true
            }
            Next::Directory(ref mut directory) => {
                let piece = directory.next();
                let more = piece.is_some();
                self.ready.extend(piece);
                more
            }
        }
    }
}
