//! A file that comes in pieces: each piece that is appended is a segment of its own, sealed under a
//! new salt, and what broke off keeps what came.
//!
//! Its keys stand in the nursery from the first moment, so its deadline ends it like a file's. It
//! may be kept between requests; whoever drops it has everything of it destroyed. When it is
//! complete it becomes a [`Sealed`] file, to be published like any other.

use std::ops::Range;

use futures_util::StreamExt;
use zeroize::Zeroizing;

use super::upload::{Joined, Unborn, expires_at};
use super::{Pipeline, PipelineError, Sealed};
use crate::body::{BodyError, ByteStream};
use crate::budget::Permit;
use crate::clock::{Now, within};
use crate::file::{Deadline, FileId, Reason, Role, TenantId};
use crate::intake::{Digester, HEAD_BYTES, Intake, Taken, media_type};
use crate::policy::Terms;
use crate::receipt::Acceptance;
use crate::table::{self, Era, Kind, Origin, Reservation, Segment};
use crate::vault::Record;

/// Segments whose places in the list are paid for at a time.
const LISTED_AT_ONCE: usize = 64;

/// A file on its way to being complete.
pub struct Growing {
    unborn: Unborn,
    era: Era,
    created: Now,
    terms: Terms,
    /// What was joined: its bytes come first.
    parts: Vec<Joined>,
    /// In which order parts come, where it is not each once.
    order: Vec<u32>,
    joined_bytes: u64,
    /// Whether it has a receipt already.
    accepted: bool,
    segments: Vec<Segment>,
    bytes: u64,
    /// Never the same twice in one file, whatever was undone or sealed anew.
    next_index: u32,
    reservation: Reservation,
    digester: Digester,
    /// Pay for this entry and its list.
    rents: Vec<Permit>,
}

/// The name a complete file gets, and what else its sender says of it.
#[derive(Default)]
pub struct Claimed {
    pub name: Option<String>,
    pub declared_type: Option<String>,
    pub downloads: Option<u64>,
}

impl Growing {
    /// The id it will have as a file.
    ///
    /// # Errors
    /// Never, before it is complete.
    pub fn id(&self) -> Result<FileId, BodyError> {
        Ok(self.origin()?.keys.file())
    }

    /// Plaintext bytes there are: where the next piece goes on.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.joined_bytes + self.bytes
    }

    /// When it ends, complete or not; `None` once its keys are destroyed.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        self.origin().ok()?.keys.deadline()
    }

    /// The hashing so far: whoever may [undo](Pipeline::undo) the next piece keeps a copy.
    #[must_use]
    pub fn digester(&self) -> Digester {
        self.digester.clone()
    }

    /// The era it began in: when that has ended, nothing can be appended any more.
    #[must_use]
    pub const fn era(&self) -> &Era {
        &self.era
    }

    /// How many segments it is in.
    #[must_use]
    pub const fn segments(&self) -> usize {
        self.segments.len()
    }

    /// Why it will not have been, should it be dropped.
    pub const fn blame(&mut self, reason: Reason) {
        self.unborn.reason = reason;
    }

    /// What its segments are sealed under.
    pub(super) fn origin(&self) -> Result<&Origin, BodyError> {
        self.unborn.origin()
    }

    pub(super) const fn created(&self) -> Now {
        self.created
    }

    /// Plaintext bytes of each of its own segments, in order.
    pub(super) fn lengths(&self) -> impl DoubleEndedIterator<Item = u64> + Clone {
        self.segments.iter().map(|segment| segment.plain_bytes)
    }

    fn list(&mut self, segment: Segment) {
        self.unborn.owns(&segment);
        self.bytes += segment.plain_bytes;
        self.segments.push(segment);
    }

    fn unlist(&mut self, from: usize) {
        for segment in self.segments.split_off(from) {
            self.bytes -= segment.plain_bytes;
            self.unborn.disown(&segment);
        }
    }
}

impl Pipeline {
    /// Begins a file that comes in pieces. Its deadline runs from now.
    ///
    /// # Errors
    /// When there are no keys or no memory for it, or the tenant is suspended.
    pub fn grow(
        &self,
        tenant: TenantId,
        terms: &Terms,
        digester: Digester,
    ) -> Result<Growing, PipelineError> {
        let created = self.clock.now();
        let unborn = self.conceive(tenant, terms, created)?;
        self.growing(tenant, (terms, created), unborn, digester)
    }

    /// As [`Pipeline::grow`], for a file whose deadline stands already.
    ///
    /// # Errors
    /// As there.
    pub fn grow_until(
        &self,
        tenant: TenantId,
        terms: &Terms,
        deadline: Deadline,
        digester: Digester,
    ) -> Result<Growing, PipelineError> {
        let unborn = self.cradle(tenant, terms.region, deadline)?;
        self.growing(tenant, (terms, self.clock.now()), unborn, digester)
    }

    fn growing(
        &self,
        tenant: TenantId,
        (terms, created): (&Terms, Now),
        unborn: Unborn,
        digester: Digester,
    ) -> Result<Growing, PipelineError> {
        Ok(Growing {
            unborn,
            era: self.enter(tenant)?,
            created,
            terms: *terms,
            parts: Vec::new(),
            order: Vec::new(),
            joined_bytes: 0,
            accepted: false,
            segments: Vec::new(),
            bytes: 0,
            next_index: 0,
            reservation: self.quotas.open(tenant),
            digester,
            rents: vec![self.vault.rent(0)?],
        })
    }

    /// Appends a stream as the next segment, `declared` bytes of it as a hint. Where it
    /// [breaks off](BodyError::breaks_off), what came before is kept and the break is returned: the
    /// next piece goes on at [`Growing::bytes`].
    ///
    /// # Errors
    /// Any other error of the stream, or that of keys, memory, quota or store: then not a byte of
    /// this piece is kept. Once the era or the deadline has ended, nothing can be appended.
    pub async fn append(
        &self,
        growing: &mut Growing,
        input: ByteStream,
        declared: Option<u64>,
    ) -> Result<Option<BodyError>, PipelineError> {
        self.pay_for_listing(growing)?;
        let now = self.clock.now();
        let Some(deadline) = growing.deadline().filter(|deadline| !deadline.is_due(now)) else {
            growing.blame(Reason::Expired);
            return Err(growing.era.blame(PipelineError::Expired));
        };
        let reservation = self.quotas.open(growing.origin()?.tenant);
        let (limits, digester) = (self.limits(&growing.terms), growing.digester.clone());
        let intake = Intake::new(input, &limits, reservation, digester, self.clock.clone());
        let mut intake = intake.after(growing.bytes());
        let at = (Role::Input, growing.next_index);
        growing.next_index = growing.next_index.checked_add(1).ok_or(BodyError::Quota)?;
        let era = growing.era.clone();
        let appending = self.vault.append(growing.origin()?, at, &mut intake, declared);
        let appended = match era.during(within(&*self.clock, deadline.left(now), appending)).await {
            Err(ended) => return Err(growing.unborn.ended(ended)),
            Ok(None) => {
                growing.blame(Reason::Expired);
                return Err(PipelineError::Expired);
            }
            Ok(Some(done)) => done.map_err(|error| era.blame(PipelineError::from(error)))?,
        };
        let Taken { reservation, digester, head, .. } = intake.into_taken();
        drop(Zeroizing::new(head));
        growing.reservation.absorb(reservation);
        growing.digester = digester;
        if let Some(segment) = appended.segment {
            growing.list(segment);
        }
        Ok(appended.broke)
    }

    /// A list of many short pieces is paid for as it grows.
    fn pay_for_listing(&self, growing: &mut Growing) -> Result<(), PipelineError> {
        if growing.segments.len() >= growing.rents.len() * LISTED_AT_ONCE {
            growing.rents.push(self.vault.rent(LISTED_AT_ONCE * size_of::<Segment>())?);
        }
        Ok(())
    }

    /// Drops the last segment: nothing opens its bytes any more. `digester` goes on from before it.
    pub fn undo(&self, growing: &mut Growing, digester: Digester) {
        let Some(last) = growing.segments.last() else { return };
        growing.reservation.shrink(last.plain_bytes);
        growing.unlist(growing.segments.len() - 1);
        growing.digester = digester;
    }

    /// Seals the segments from the `from`th on anew, as one under a new salt: many short pieces
    /// then cost what one does. Their bytes are the same.
    ///
    /// # Errors
    /// That of keys, memory or store; it then stays as it was.
    pub async fn gather(&self, growing: &mut Growing, from: usize) -> Result<(), PipelineError> {
        let few = growing.segments.get(from..).unwrap_or_default();
        if few.len() < 2 {
            return Ok(());
        }
        let bytes = few.iter().map(|segment| segment.plain_bytes).sum();
        let plain = self.vault.open(growing.origin()?, few, 0..bytes);
        let at = (Role::Input, growing.next_index);
        growing.next_index = growing.next_index.checked_add(1).ok_or(BodyError::Quota)?;
        let sealed = self.vault.seal(growing.origin()?, at, plain, Some(bytes)).await;
        let segment = sealed.map_err(|error| growing.era.blame(PipelineError::from(error)))?;
        growing.unlist(from);
        growing.list(segment);
        let paid = growing.segments.len().div_ceil(LISTED_AT_ONCE).max(1);
        growing.rents.truncate(paid);
        Ok(())
    }

    /// Gives it a receipt before its bytes are there: what it commits to is said when they are.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn accept_early(&self, growing: &mut Growing) -> Result<(), PipelineError> {
        let origin = growing.origin()?;
        self.evidence.accept(Acceptance {
            file: origin.keys.file(),
            tenant: origin.tenant,
            region: origin.region,
            accepted_at: growing.created.wall,
            expires_at: expires_at(origin),
            epoch: origin.deadline.epoch(),
            keyring: origin.keys.keeper(),
            commitments: Vec::new(),
            blobs: Vec::new(),
            handed_to: Vec::new(),
        })?;
        growing.accepted = true;
        Ok(())
    }

    /// Joins what has grown into one file without copying: it takes their segments with their own
    /// keys, and ends with the earliest of them. `order` tells in which order they come, by their
    /// places in `parts`, any of them more than once; empty: each once.
    ///
    /// # Errors
    /// When one of them has ended, or there are no keys or no memory for one more.
    pub fn join(
        &self,
        tenant: TenantId,
        terms: &Terms,
        parts: Vec<Growing>,
        order: &[usize],
    ) -> Result<Growing, PipelineError> {
        let now = self.clock.now();
        let lengths: Vec<u64> = parts.iter().map(Growing::bytes).collect();
        let ends = parts.iter().map(|part| part.deadline().ok_or(PipelineError::Expired));
        let ends = ends.collect::<Result<Vec<_>, _>>()?;
        let earliest = ends.into_iter().min_by_key(|end| end.left(now));
        let mut whole = match earliest {
            Some(end) => self.grow_until(tenant, terms, end, Digester::default())?,
            None => self.grow(tenant, terms, Digester::default())?,
        };
        let left = whole.deadline().ok_or(PipelineError::Expired)?.left(now);
        for part in parts {
            let shortened = part.origin()?.keys.shorten(now, left);
            shortened.map_err(|_| PipelineError::Expired)?;
            whole.reservation.absorb(part.reservation);
            whole.rents.extend(part.rents);
            whole.parts.extend(part.parts);
            let (unborn, segments, accepted) = (part.unborn, part.segments, part.accepted);
            whole.parts.push(Joined { unborn, segments, accepted });
        }
        let once: Vec<usize> = (0..lengths.len()).collect();
        let places = if order.is_empty() { &once } else { order };
        whole.joined_bytes = places.iter().filter_map(|place| lengths.get(*place)).sum();
        whole.order = order.iter().filter_map(|place| u32::try_from(*place).ok()).collect();
        Ok(whole)
    }

    /// It has all its bytes: to be published, or dropped without a trace.
    ///
    /// # Errors
    /// When the bytes do not match a digest that was sent, or its keys, memory or store fail.
    pub async fn complete(
        &self,
        mut growing: Growing,
        claimed: Claimed,
    ) -> Result<Sealed, PipelineError> {
        if growing.segments.is_empty() && growing.parts.is_empty() {
            // A file without bytes is one segment with one empty chunk (VAULT.md).
            let nothing: ByteStream = Box::pin(futures_util::stream::empty());
            let at = (Role::Input, growing.next_index);
            let segment = self.vault.seal(growing.origin()?, at, nothing, Some(0)).await?;
            growing.list(segment);
        }
        growing.digester.check()?;
        let head = self.head(&growing).await.map_err(|error| growing.era.blame(error))?;
        let record = Record {
            name: claimed.name,
            media_type: media_type(&head, claimed.declared_type.as_deref()),
            declared_media_type: claimed.declared_type,
            digests: growing.digester.found(),
        };
        let bytes = growing.bytes();
        let Growing { unborn, era, created, parts, order, segments, accepted, .. } = growing;
        let (reservation, digester) = (growing.reservation, growing.digester);
        let taken = Taken { bytes, head: Vec::new(), reservation, digester };
        let (downloads, handed_to) = (claimed.downloads, Vec::new());
        let kind = Kind::File;
        Ok(Sealed {
            kind,
            unborn,
            era,
            created,
            parts,
            order,
            segments,
            record,
            downloads,
            taken,
            handed_to,
            accepted,
        })
    }

    /// Reads what was joined once more, for a digest of the whole.
    ///
    /// # Errors
    /// That of keys, memory or store.
    pub async fn digest(
        &self,
        growing: &mut Growing,
        mut digester: Digester,
    ) -> Result<(), PipelineError> {
        if !digester.is_idle() {
            let mut plain = self.plain(growing, 0..growing.bytes())?;
            while let Some(frame) = plain.next().await.transpose()? {
                digester.update(&frame);
            }
        }
        growing.digester = digester;
        Ok(())
    }

    /// The bytes in `range`, opened.
    fn plain(&self, growing: &Growing, range: Range<u64>) -> Result<ByteStream, BodyError> {
        let order = table::places(&growing.order, growing.parts.len());
        let mut pieces = Vec::new();
        for part in order.filter_map(|place| growing.parts.get(place)) {
            pieces.push((part.unborn.origin()?, &part.segments[..]));
        }
        pieces.push((growing.origin()?, &growing.segments[..]));
        Ok(self.vault.open_pieces(pieces.into_iter(), range))
    }

    /// The bytes its type is told by, opened for that: nothing plain was kept meanwhile.
    async fn head(&self, growing: &Growing) -> Result<Zeroizing<Vec<u8>>, PipelineError> {
        let wanted = 0..growing.bytes().min(HEAD_BYTES as u64);
        let mut opened = self.plain(growing, wanted)?;
        let mut head = Zeroizing::new(Vec::with_capacity(HEAD_BYTES));
        while let Some(frame) = opened.next().await.transpose()? {
            head.extend_from_slice(&frame);
        }
        Ok(head)
    }
}
