//! The audit trail: which key did what to which id, and when. No name, content or address.

use std::fmt;
use std::sync::Arc;

use data_encoding::BASE32_NOPAD;

use super::bytes::{Reader, Writer};
use super::{Evidence, EvidenceError};
use crate::clock::Wall;
use crate::file::{FileId, TenantId};
use crate::job::JobId;
use crate::policy::{GrantId, Who};

macro_rules! actions {
    ($($variant:ident $text:literal;)*) => {
        /// What was done.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Action { $(
            #[doc = $text]
            $variant,
        )* }

        impl Action {
            /// In the order of their numbers on disk: a new one comes last.
            const ALL: &[Self] = &[$(Self::$variant,)*];

            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

actions! {
    FileCreate "file.create";
    FileRead "file.read";
    FileShorten "file.shorten";
    FileDelete "file.delete";
    Process "process.run";
    JobCreate "job.create";
    JobCancel "job.cancel";
    GrantCreate "grant.create";
    ConnectionCreate "connection.create";
    ConnectionConfirm "connection.confirm";
    ConnectionRevoke "connection.revoke";
    TenantErase "tenant.erase";
    TenantSuspend "tenant.suspend";
    TenantResume "tenant.resume";
    TenantExport "tenant.export";
}

impl Action {
    /// What is done to a tenant as a whole is written down before it is answered; of the rest a
    /// kill may lose the last second.
    const fn is_grave(self) -> bool {
        matches!(
            self,
            Self::TenantErase | Self::TenantSuspend | Self::TenantResume | Self::TenantExport
        )
    }
}

/// Kinds of objects, in the order of their numbers on disk.
const KINDS: [&str; 5] = ["file", "job", "grant", "conn", "upl"];

/// The id of what it was done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object {
    kind: &'static str,
    id: [u8; 16],
}

impl Object {
    /// An id that is shown as `kind_` and 26 base32 characters.
    #[must_use]
    pub const fn new(kind: &'static str, id: [u8; 16]) -> Self {
        Self { kind, id }
    }

    #[cfg(test)]
    pub(super) const fn id(&self) -> &[u8; 16] {
        &self.id
    }
}

impl From<FileId> for Object {
    fn from(file: FileId) -> Self {
        Self::new("file", *file.as_bytes())
    }
}

impl From<JobId> for Object {
    fn from(job: JobId) -> Self {
        Self::new("job", *job.as_bytes())
    }
}

impl From<GrantId> for Object {
    fn from(grant: GrantId) -> Self {
        Self::new("grant", *grant.as_bytes())
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.kind, BASE32_NOPAD.encode(&self.id).to_ascii_lowercase())
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub at: Wall,
    pub who: Who,
    pub action: Action,
    /// `None` where it was done to the tenant as a whole.
    pub object: Option<Object>,
}

impl Line {
    pub(super) fn encode(&self, out: &mut Writer<'_>) {
        out.time(self.at);
        out.0.push(self.action as u8);
        out.text(&self.who.key);
        out.0.push(u8::from(self.who.grant.is_some()));
        if let Some(grant) = &self.who.grant {
            out.bytes(grant.as_bytes());
        }
        let kind = |object: &Object| KINDS.iter().position(|kind| *kind == object.kind);
        // 0 is no object; one of a kind that is not in the list cannot be told from none.
        out.0.push(self.object.as_ref().and_then(kind).map_or(0, |kind| kind as u8 + 1));
        if let Some(object) = self.object.as_ref().filter(|object| kind(object).is_some()) {
            out.bytes(&object.id);
        }
    }

    pub(super) fn decode(from: &mut Reader<'_>) -> Option<Self> {
        let (at, action) = (from.time()?, *Action::ALL.get(usize::from(from.byte()?))?);
        let key = from.text()?;
        let grant = if from.flag()? { Some(GrantId::from_bytes(from.array()?)) } else { None };
        let object = match from.byte()? {
            0 => None,
            kind => {
                let kind = KINDS.get(usize::from(kind) - 1)?;
                Some(Object { kind, id: from.array()? })
            }
        };
        Some(Self { at, who: Who { key, grant }, action, object })
    }
}

/// The trails of all tenants: a part of the evidence.
pub struct Audit {
    evidence: Arc<Evidence>,
}

impl Audit {
    #[must_use]
    pub const fn new(evidence: Arc<Evidence>) -> Self {
        Self { evidence }
    }

    /// Writes a line into a tenant's trail.
    pub fn note(&self, tenant: TenantId, who: Who, action: Action, object: Option<Object>) {
        self.evidence.note_down(tenant, who, action, object);
        if action.is_grave() {
            self.evidence.write_trails();
        }
    }

    /// A page of a tenant's lines, newest first, from the one after `cursor` on; and the cursor of
    /// the next page, if there is one.
    ///
    /// # Errors
    /// When the archive cannot be read.
    pub fn list(
        &self,
        tenant: TenantId,
        cursor: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<Line>, Option<u64>), EvidenceError> {
        self.evidence.lines(tenant, cursor, limit)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_line_reads_back_as_it_was() {
        let grant = GrantId::from_bytes([7; 16]);
        for (kind, action) in KINDS.into_iter().zip(Action::ALL) {
            for (grant, object) in [(None, Some(Object::new(kind, [3; 16]))), (Some(grant), None)] {
                let who = Who { key: "k1".to_owned(), grant };
                let at = Wall::from_unix(Duration::from_millis(1_800_000_000_123));
                let line = Line { at, who, action: *action, object };
                let mut bytes = Vec::new();
                line.encode(&mut Writer(&mut bytes));
                let mut from = Reader(&bytes);
                assert_eq!(Line::decode(&mut from), Some(line));
                assert!(from.0.is_empty());
            }
        }
    }
}
