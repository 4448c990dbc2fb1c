//! Fetching from a person's storage: streamed into the vault as it comes, resumed where it broke
//! off, and verified against the provider's own hash before it is a file.
//!
//! A pull knows no connections: it is lent a provider and a source of tokens. Each resume is a
//! segment of its own. Whatever cannot be the pinned file's bytes ends it; a break is waited out,
//! as the provider asks, within a bound.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::stream;

use super::growing::{Claimed, Growing};
use super::{Pipeline, PipelineError, Sealed};
use crate::body::{BodyError, ByteStream};
use crate::entropy::random;
use crate::file::{Deadline, TenantId};
use crate::intake::{Algorithm, Digester, foreign_name};
use crate::policy::Terms;
use crate::provider::{
    Access, Ask, Check, Content, Found, Hasher, Page, Pinned, Provider, ProviderError, TokenSource,
};
use crate::table::{Cut, Kind};

/// Files that one job takes out of folders.
pub const MOST_FILES: usize = 100;
/// Folders that are looked into for them.
const MOST_FOLDERS: usize = 200;
/// Pages of one folder.
const MOST_PAGES: usize = 100;
const PAGE: usize = 1000;

/// Failures in a row, without a byte in between.
const MOST_FAILURES: u32 = 8;
/// An answer that makes no sense may be a hiccup; several are not.
const MOST_NONSENSE: u32 = 3;
/// All waits of one transfer together.
const MOST_WAITING: Duration = Duration::from_mins(15);
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What the client's side of a connection may hold of an answer, about.
const READ_AHEAD: usize = 448 << 10;

/// A person's storage, lent for a transfer.
#[derive(Clone)]
pub struct Storage {
    pub provider: Arc<dyn Provider>,
    pub tokens: Arc<dyn TokenSource>,
    /// As [`Account::root`](crate::provider::Account::root).
    pub root: Option<String>,
    /// Fires when it may not be used any more: every transfer stops.
    pub cut: Cut,
}

/// An item that is to be fetched.
#[derive(Clone)]
pub struct Pull {
    pub storage: Storage,
    /// A file, or a folder whose files are meant.
    pub item: String,
}

/// Told how many bytes have come, and of how many.
pub(super) type Told = Arc<dyn Fn(u64, Option<u64>) + Send + Sync>;

/// What a transfer does when it fails: waits and tries again, for so long.
pub(super) struct Tries<'a> {
    pipeline: &'a Pipeline,
    failed: u32,
    waited: Duration,
}

impl<'a> Tries<'a> {
    pub fn new(pipeline: &'a Pipeline) -> Self {
        Self { pipeline, failed: 0, waited: Duration::ZERO }
    }

    /// Something came: what failed before counts no more, but for the time it took.
    pub const fn moved(&mut self) {
        self.failed = 0;
    }

    /// Waits before another try.
    ///
    /// # Errors
    /// The failure itself, when waiting does not help or has not helped for too long.
    pub async fn after(&mut self, error: ProviderError) -> Result<(), PipelineError> {
        let (asked, most) = match error {
            ProviderError::Busy { after } => (after.unwrap_or_default(), MOST_FAILURES),
            ProviderError::Unreachable | ProviderError::Timeout | ProviderError::Overloaded => {
                (Duration::ZERO, MOST_FAILURES)
            }
            ProviderError::Nonsense => (Duration::ZERO, MOST_NONSENSE),
            ProviderError::Revoked
            | ProviderError::Refused
            | ProviderError::NotFound
            | ProviderError::Restart
            | ProviderError::Changed
            | ProviderError::Damaged
            | ProviderError::TooMany => return Err(error.into()),
        };
        self.failed += 1;
        let doubled = FIRST_WAIT * 2_u32.pow(self.failed.min(10) - 1);
        let wait = self.jittered(doubled.min(LONGEST_WAIT)).max(asked);
        if self.failed >= most || self.waited + wait > MOST_WAITING {
            return Err(error.into());
        }
        self.waited += wait;
        self.pipeline.clock.sleep(wait).await;
        Ok(())
    }

    /// Between half of a wait and the whole: those who failed together do not come back together.
    fn jittered(&self, wait: Duration) -> Duration {
        let [byte] = random::<1>(&*self.pipeline.entropy).unwrap_or([128]);
        wait / 2 + wait / 512 * u32::from(byte)
    }
}

/// Everything that is the same for all files of a job.
pub(super) struct Fetcher<'a> {
    pub pipeline: &'a Pipeline,
    pub tenant: TenantId,
    pub terms: &'a Terms,
    /// The job's: what is fetched lives no longer.
    pub deadline: Deadline,
    pub kind: Kind,
    pub always_digest: bool,
    pub told: Told,
}

/// What is known of a file while its bytes go by.
#[derive(Clone, Default)]
struct Watch(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    check: Option<Check>,
    hasher: Option<Hasher>,
    total: Option<u64>,
    /// Why the answer ended before its time.
    cause: Option<ProviderError>,
}

impl Watch {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An answer begins, whose first byte here is the file's `from`th.
    fn over(&self, content: Content, pinned: &Pinned, from: u64, told: Told) -> ByteStream {
        let mut seen = self.seen();
        (seen.total, seen.cause) = (content.total, None);
        if from == 0 {
            seen.check = content.check.or(pinned.check);
            seen.hasher = seen.check.as_ref().map(Hasher::like);
        }
        drop(seen);
        let state = (content, self.clone(), from, told);
        Box::pin(stream::unfold(state, |(mut content, watch, mut at, told)| async move {
            let item = match content.next().await {
                Ok(Some(bytes)) => {
                    if let Some(hasher) = &mut watch.seen().hasher {
                        hasher.update(&bytes);
                    }
                    at += bytes.len() as u64;
                    told(at, content.total);
                    Ok(bytes)
                }
                Ok(None) => return None,
                Err(error) => {
                    watch.seen().cause = Some(error);
                    // Only what can be continued is kept.
                    let whole = error == ProviderError::Nonsense;
                    Err(if whole { BodyError::Damaged } else { BodyError::Truncated })
                }
            };
            Some((item, (content, watch, at, told)))
        }))
    }

    fn is_whole(&self, bytes: u64) -> bool {
        self.seen().total == Some(bytes)
    }

    /// Whether the bytes are the provider's, as far as it has said.
    fn verdict(&self) -> Result<(), ProviderError> {
        let mut seen = self.seen();
        match (seen.check, seen.hasher.take().map(Hasher::finish)) {
            (Some(due), Some(found)) if due != found => Err(ProviderError::Damaged),
            _ => Ok(()),
        }
    }
}

/// Whether an item of a folder is passed over: it is gone, or was never a file.
const fn has_no_bytes(error: PipelineError) -> bool {
    matches!(error, PipelineError::Provider(ProviderError::Refused | ProviderError::NotFound))
}

impl Fetcher<'_> {
    /// Every file that an item leads to, at most `room`: itself, or those in and below a folder.
    pub async fn fetch(&self, pull: &Pull, room: usize) -> Result<Vec<Sealed>, PipelineError> {
        let storage = &pull.storage;
        let work = Box::pin(self.all(pull, room));
        let fetched = match select(work, Box::pin(storage.cut.fired())).await {
            Either::Left((fetched, _)) => fetched,
            Either::Right(_) => return Err(ProviderError::Revoked.into()),
        };
        if matches!(fetched, Err(PipelineError::Provider(ProviderError::Revoked))) {
            storage.tokens.lost();
        }
        fetched
    }

    async fn all(&self, pull: &Pull, room: usize) -> Result<Vec<Sealed>, PipelineError> {
        let storage = &pull.storage;
        let folder = match self.pin(storage, &pull.item).await? {
            Found::File(_) if room == 0 => return Err(ProviderError::TooMany.into()),
            Found::File(pinned) => return Ok(vec![self.one(storage, &pinned).await?]),
            Found::Folder(folder) => folder,
        };
        let mut sealed = Vec::new();
        for item in self.walk(storage, folder, room).await? {
            match self.pin(storage, &item).await {
                Ok(Found::File(pinned)) => sealed.push(self.one(storage, &pinned).await?),
                // A form, a map, a shortcut that leads nowhere or round: nothing with bytes.
                Ok(Found::Folder(_)) => {}
                Err(error) if has_no_bytes(error) => {}
                Err(error) => return Err(error),
            }
        }
        if sealed.is_empty() { Err(ProviderError::NotFound.into()) } else { Ok(sealed) }
    }

    async fn pin(&self, storage: &Storage, item: &str) -> Result<Found, PipelineError> {
        let (tokens, root) = (&*storage.tokens, storage.root.as_deref());
        let mut tries = Tries::new(self.pipeline);
        loop {
            match storage.provider.pin(tokens, item, root).await {
                Ok(found) => return Ok(found),
                Err(error) => tries.after(error).await?,
            }
        }
    }

    /// The files in and below a folder, each once, however often shortcuts lead there.
    async fn walk(
        &self,
        storage: &Storage,
        folder: String,
        room: usize,
    ) -> Result<Vec<String>, PipelineError> {
        let (mut seen, mut files) = (HashSet::from([folder.clone()]), Vec::new());
        let mut waiting = VecDeque::from([folder]);
        while let Some(folder) = waiting.pop_front() {
            let mut cursor = None;
            for page in 0.. {
                let Page { items, cursor: next } = self.page(storage, &folder, &cursor).await?;
                for item in items.into_iter().filter(|item| seen.insert(item.id.clone())) {
                    if item.folder {
                        waiting.push_back(item.id);
                    } else {
                        files.push(item.id);
                    }
                }
                if files.len() > room || seen.len() - files.len() > MOST_FOLDERS {
                    return Err(ProviderError::TooMany.into());
                }
                if next.is_none() {
                    break;
                }
                if next == cursor || page >= MOST_PAGES {
                    return Err(ProviderError::Nonsense.into());
                }
                cursor = next;
            }
        }
        Ok(files)
    }

    async fn page(
        &self,
        storage: &Storage,
        folder: &str,
        cursor: &Option<String>,
    ) -> Result<Page, PipelineError> {
        let ask = Ask {
            folder: Some(folder),
            cursor: cursor.as_deref(),
            limit: PAGE,
            access: Access::Browse,
            root: storage.root.as_deref(),
        };
        let mut tries = Tries::new(self.pipeline);
        loop {
            match storage.provider.list(&*storage.tokens, &ask).await {
                Ok(page) => return Ok(page),
                Err(error) => tries.after(error).await?,
            }
        }
    }

    /// One pinned file, whole and verified.
    async fn one(&self, storage: &Storage, pinned: &Pinned) -> Result<Sealed, PipelineError> {
        let limit = self.terms.max_bytes;
        if pinned.bytes.is_some_and(|bytes| bytes > limit) {
            return Err(BodyError::TooLarge { limit }.into());
        }
        let mut tries = Tries::new(self.pipeline);
        let _room = self.room(pinned.bytes, &mut tries).await?;
        let (mut growing, mut watch) = (self.begin()?, Watch::default());
        loop {
            let before = growing.bytes();
            let error = match self.part(storage, pinned, &mut growing, &watch).await? {
                Ok(()) => break,
                Err(error) => error,
            };
            if growing.bytes() > before {
                tries.moved();
            }
            tries.after(error).await?;
            if pinned.export.is_some() {
                // No two of these need be the same: what came before is worth nothing.
                (growing, watch) = (self.begin()?, Watch::default());
            }
        }
        watch.verdict()?;
        let name = foreign_name(&pinned.name);
        let declared_type = pinned.media_type.clone();
        let claimed = Claimed { name, declared_type, downloads: None };
        let sealed = self.pipeline.complete(growing, claimed).await?;
        Ok(Sealed { kind: self.kind, ..sealed })
    }

    /// Memory for a file on its way, and for what the connection holds of it.
    async fn room(
        &self,
        bytes: Option<u64>,
        tries: &mut Tries<'_>,
    ) -> Result<impl Sized + use<>, PipelineError> {
        loop {
            let turn = self.pipeline.admit(bytes).await;
            match (turn, self.pipeline.vault.rent(READ_AHEAD)) {
                (Ok(turn), Ok(rent)) => return Ok((turn, rent)),
                (Err(PipelineError::Body(BodyError::Overloaded)) | Ok(_), Err(_))
                | (Err(PipelineError::Body(BodyError::Overloaded)), Ok(_)) => {
                    tries.after(ProviderError::Overloaded).await?;
                }
                (Err(error), _) => return Err(error),
            }
        }
    }

    fn begin(&self) -> Result<Growing, PipelineError> {
        let mut digester = Digester::default();
        if self.always_digest {
            digester.compute(Algorithm::Sha256);
        }
        self.pipeline.grow_until(self.tenant, self.terms, self.deadline, digester)
    }

    /// Asks for what is missing and seals what comes as one segment. A failure that can be waited
    /// out comes as the inner error, with all that had come kept.
    async fn part(
        &self,
        storage: &Storage,
        pinned: &Pinned,
        growing: &mut Growing,
        watch: &Watch,
    ) -> Result<Result<(), ProviderError>, PipelineError> {
        let (from, root) = (growing.bytes(), storage.root.as_deref());
        let content = match storage.provider.open(&*storage.tokens, pinned, from, root).await {
            Ok(content) => content,
            Err(error) => return Ok(Err(error)),
        };
        let left = content.total.map(|total| total.saturating_sub(from));
        let stream = watch.over(content, pinned, from, self.told.clone());
        let appended = self.pipeline.append(growing, stream, left).await;
        let cause = watch.seen().cause;
        match appended {
            // More than there can be, or another file's: nothing of it is worth keeping.
            Err(PipelineError::Body(BodyError::Damaged)) => {
                Err(cause.unwrap_or(ProviderError::Nonsense).into())
            }
            Err(error) => Err(error),
            Ok(_) if watch.is_whole(growing.bytes()) => Ok(Ok(())),
            Ok(None) if watch.seen().total.is_none() => Ok(Ok(())),
            Ok(None) => Ok(Err(ProviderError::Unreachable)),
            Ok(Some(_)) => Ok(Err(cause.unwrap_or(ProviderError::Timeout))),
        }
    }
}
