//! Connections to people's storage: which exist, how far each has come, and whose it is.
//!
//! One lock over all of them, held for a few lookups: every step from one state to the next is
//! decided under it, so that of two browsers, two callbacks or two confirmations exactly one wins.
//! What a step needs is moved out of the state before, and cannot be used again.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::budget::Permit;
use crate::clock::{Boot, Now, Wall};
use crate::file::TenantId;
use crate::problem::Slug;
use crate::provider::{Access, Provider, Service};

mod id;
mod permission;
mod stage;

pub use id::ConnectionId;
pub use permission::{Permission, PermissionParts};
pub use stage::{Asked, Browser, Ending, Exchange, Mark, Opened, Revocation, Stage, Standing};

use stage::Consented;

/// From its creation, a connection's page can be opened and consent given for so long.
pub const PAGE_WITHIN: Duration = Duration::from_mins(10);
/// From consent on, it can be confirmed for so long.
pub const CONFIRM_WITHIN: Duration = Duration::from_mins(10);
/// A code that was shown is good for so long.
pub const CODE_WITHIN: Duration = Duration::from_secs(60);
/// A connection that is over is remembered for so long.
pub const REMEMBERED: Duration = Duration::from_hours(1);
/// Connections of one tenant, those that are over included.
const MOST: usize = 5000;

/// A moment on both clocks; the first to reach it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Until {
    pub wall: Wall,
    pub boot: Boot,
}

impl Until {
    #[must_use]
    pub fn after(now: Now, span: Duration) -> Self {
        // Whole milliseconds: what is shown is what holds.
        let wall = Duration::from_millis(now.wall.plus(span).since_epoch().as_millis() as u64);
        Self { wall: Wall::from_unix(wall), boot: now.boot.plus(span) }
    }

    #[must_use]
    pub fn is_due(self, now: Now) -> bool {
        now.wall >= self.wall || now.boot >= self.boot
    }

    #[must_use]
    pub fn left(self, now: Now) -> Duration {
        now.wall.until(self.wall).min(now.boot.until(self.boot))
    }

    fn earlier(self, other: Self) -> Self {
        Self { wall: self.wall.min(other.wall), boot: self.boot.min(other.boot) }
    }
}

/// What was asked for when a connection was made; it does not change.
pub struct Terms {
    pub id: ConnectionId,
    pub tenant: TenantId,
    pub region: crate::region::Region,
    pub access: Access,
    pub offline: bool,
    /// From consent on.
    pub ttl: Duration,
    pub created: Now,
    /// The secret part of its page's address. Once a browser has opened it, worthless without that
    /// browser's cookie.
    pub page: Zeroizing<String>,
    /// To people: who asks.
    pub display_name: String,
    /// Where the person goes afterwards.
    pub return_to: Option<String>,
    /// Keyed hash of the app's id of its user.
    pub subject: Option<Mark>,
    /// The provider as it was configured then: its endpoints belong to the transaction.
    pub provider: Arc<dyn Provider>,
    /// Pays for this entry.
    pub rent: Permit,
}

impl Terms {
    #[must_use]
    pub fn service(&self) -> Service {
        self.provider.service()
    }

    /// Whether this is the subject it was made for, if it was made for one.
    #[must_use]
    pub fn is_for(&self, subject: Option<&Mark>) -> bool {
        match (&self.subject, subject) {
            (None, _) => true,
            (Some(mine), Some(theirs)) => mine.ct_eq(theirs).into(),
            (Some(_), None) => false,
        }
    }
}

/// A connection as it stands at one moment.
#[derive(Clone)]
pub struct View {
    pub terms: Arc<Terms>,
    pub standing: Standing,
    pub until: Until,
    pub grant: Option<Arc<Permission>>,
    /// Whether somebody has opened its page.
    pub opened: bool,
}

/// All connections of this process.
#[derive(Default)]
pub struct Connections(Mutex<Rows>);

#[derive(Default)]
struct Rows {
    all: HashMap<ConnectionId, Row>,
    by_page: HashMap<Mark, ConnectionId>,
    by_state: HashMap<Mark, ConnectionId>,
    by_tenant: HashMap<TenantId, Theirs>,
    closed: bool,
}

/// One tenant's connections in the order they came.
#[derive(Default)]
struct Theirs {
    next: u64,
    ids: BTreeMap<u64, ConnectionId>,
}

struct Row {
    number: u64,
    page: Mark,
    terms: Arc<Terms>,
    stage: Stage,
    until: Until,
}

impl Row {
    fn view(&self) -> View {
        View {
            terms: self.terms.clone(),
            standing: self.stage.standing(),
            until: self.until,
            grant: self.stage.grant().cloned(),
            opened: !matches!(self.stage, Stage::Unopened),
        }
    }

    /// Ends it; returns what was granted, for it must be taken back.
    fn end(&mut self, ending: Ending, now: Now) -> LetGo {
        let (stage, ended) = std::mem::replace(&mut self.stage, Stage::Moving).end(ending, now);
        self.stage = stage;
        if !ended.was_over {
            self.until = self.until.earlier(Until::after(now, Duration::ZERO));
        }
        ended
    }
}

/// What became of a connection that was to end.
pub struct LetGo {
    /// It was over before.
    pub was_over: bool,
    pub grant: Option<Arc<Permission>>,
}

/// Why a new connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    #[error("the tenant has too many connections")]
    Quota,
    #[error("the gateway has stopped")]
    Closed,
}

impl Connections {
    fn rows(&self) -> std::sync::MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a connection known that waits for its browser.
    ///
    /// # Errors
    /// When the tenant has too many, or the gateway has stopped.
    pub fn insert(&self, terms: Terms, page: Mark) -> Result<View, Full> {
        let mut rows = self.rows();
        if rows.closed {
            return Err(Full::Closed);
        }
        let theirs = rows.by_tenant.entry(terms.tenant).or_default();
        if theirs.ids.len() >= MOST {
            return Err(Full::Quota);
        }
        let number = theirs.next;
        theirs.next += 1;
        theirs.ids.insert(number, terms.id);
        let (id, until) = (terms.id, Until::after(terms.created, PAGE_WITHIN));
        rows.by_page.insert(page, id);
        let row = Row { number, page, terms: Arc::new(terms), stage: Stage::Unopened, until };
        let view = row.view();
        rows.all.insert(id, row);
        Ok(view)
    }

    /// A tenant's own connection; another tenant's and an unknown one look the same.
    #[must_use]
    pub fn get(&self, id: ConnectionId, tenant: TenantId) -> Option<View> {
        let rows = self.rows();
        rows.all.get(&id).filter(|row| row.terms.tenant == tenant).map(Row::view)
    }

    /// A page of a tenant's connections, newest first.
    #[must_use]
    pub fn list(
        &self,
        tenant: TenantId,
        cursor: Option<u64>,
        limit: usize,
    ) -> (Vec<View>, Option<u64>) {
        let rows = self.rows();
        let Some(theirs) = rows.by_tenant.get(&tenant) else { return (Vec::new(), None) };
        let mut page = theirs.ids.range(..cursor.unwrap_or(u64::MAX)).rev().peekable();
        let (mut views, mut last) = (Vec::new(), None);
        while let Some((number, id)) = page.next_if(|_| views.len() < limit) {
            views.extend(rows.all.get(id).map(Row::view));
            last = Some(*number);
        }
        (views, last.filter(|_| page.peek().is_some()))
    }

    /// Opens a page for a browser: the first one to come, or the same again.
    #[must_use]
    pub fn open(&self, page: &Mark, shown: Option<&Mark>, fresh: Browser) -> Opened {
        let mut rows = self.rows();
        let Some(row) = rows.row_of_page(page) else { return Opened::Unknown };
        match row.stage.browser() {
            None if matches!(row.stage, Stage::Unopened) => {
                row.stage = std::mem::replace(&mut row.stage, Stage::Moving).opened_by(fresh);
                Opened::First(row.view())
            }
            Some(browser) if browser.is(shown) => Opened::Again(row.view()),
            None | Some(_) => Opened::Taken,
        }
    }

    /// What the browser that a page belongs to may look up of itself.
    #[must_use]
    pub fn browser(&self, page: &Mark) -> Option<String> {
        let mut rows = self.rows();
        rows.row_of_page(page)?.stage.browser().map(|browser| browser.cookie.clone())
    }

    /// The same for the browser that a state was made for.
    #[must_use]
    pub fn browser_of_state(&self, state: &Mark) -> Option<String> {
        let rows = self.rows();
        let row = rows.all.get(rows.by_state.get(state)?)?;
        row.stage.browser().map(|browser| browser.cookie.clone())
    }

    /// The person agreed and goes to the provider. A state that was made before is void.
    ///
    /// # Errors
    /// When it is not this browser's turn.
    pub fn ask(&self, page: &Mark, shown: Option<&Mark>, asked: Asked) -> Result<View, Opened> {
        let mut rows = self.rows();
        let state = asked.state;
        let Some(row) = rows.row_of_page(page) else { return Err(Opened::Unknown) };
        let Some(browser) = row.stage.browser() else { return Err(Opened::Taken) };
        if !browser.is(shown) {
            return Err(Opened::Taken);
        }
        let before = row.stage.state();
        let (stage, done) = std::mem::replace(&mut row.stage, Stage::Moving).ask(asked);
        row.stage = stage;
        let (view, id) = (row.view(), row.terms.id);
        if !done {
            return Err(Opened::Again(view));
        }
        if let Some(before) = before {
            rows.by_state.remove(&before);
        }
        rows.by_state.insert(state, id);
        Ok(view)
    }

    /// A browser came back with a state. Whatever is wrong, the state is void afterwards.
    #[must_use]
    pub fn come_back(
        &self,
        state: &Mark,
        service: Service,
        shown: Option<&Mark>,
        now: Now,
    ) -> Option<(View, Exchange)> {
        let mut rows = self.rows();
        let id = rows.by_state.remove(state)?;
        let row = rows.all.get_mut(&id)?;
        let theirs = row.stage.browser().is_some_and(|browser| browser.is(shown));
        let good = theirs && row.terms.service() == service && !row.until.is_due(now);
        let (stage, exchange) = std::mem::replace(&mut row.stage, Stage::Moving).exchange(good);
        row.stage = stage;
        Some((row.view(), exchange?))
    }

    /// The exchange gave a token. `Err` gives it back: the connection has ended meanwhile.
    ///
    /// # Errors
    /// When it is not waiting for one any more.
    pub fn consent(
        &self,
        id: ConnectionId,
        grant: Permission,
        now: Now,
    ) -> Result<View, Arc<Permission>> {
        let mut rows = self.rows();
        let grant = Arc::new(grant);
        let Some(row) = rows.all.get_mut(&id) else { return Err(grant) };
        let Stage::Exchanging(browser) = &mut row.stage else { return Err(grant) };
        let consented = Consented::new(browser.clone(), grant.clone());
        row.stage = Stage::Consented(consented);
        row.until = grant.until.earlier(Until::after(now, CONFIRM_WITHIN));
        Ok(row.view())
    }

    /// Remembers a code that a page is about to show.
    #[must_use]
    pub fn show_code(&self, page: &Mark, shown: Option<&Mark>, code: Mark, now: Now) -> bool {
        let mut rows = self.rows();
        let Some(row) = rows.row_of_page(page) else { return false };
        match &mut row.stage {
            Stage::Consented(consented) if consented.browser.is(shown) => {
                consented.show(code, now);
                true
            }
            _ => false,
        }
    }

    /// The app presents a code.
    ///
    /// # Errors
    /// What else the connection is doing.
    pub fn confirm(&self, id: ConnectionId, code: &Mark, now: Now) -> Result<View, Confirmation> {
        let mut rows = self.rows();
        let row = rows.all.get_mut(&id).ok_or(Confirmation::Over)?;
        if matches!(row.stage, Stage::Consented(_)) && row.until.is_due(now) {
            return Err(Confirmation::Wrong(row.end(Ending::Failed(Slug::BadCode), now)));
        }
        match std::mem::replace(&mut row.stage, Stage::Moving) {
            Stage::Consented(consented) if consented.knows(code, now) => {
                row.until = consented.grant.until;
                row.stage = consented.confirmed();
                Ok(row.view())
            }
            consented @ Stage::Consented(_) => {
                row.stage = consented;
                Err(Confirmation::Wrong(row.end(Ending::Failed(Slug::BadCode), now)))
            }
            stage => {
                let answer = match &stage {
                    Stage::Active(_) => Confirmation::Used,
                    Stage::Over(_) => Confirmation::Over,
                    _ => Confirmation::Early,
                };
                row.stage = stage;
                Err(answer)
            }
        }
    }

    /// Ends a connection; `None` if there is none.
    pub fn end(&self, id: ConnectionId, ending: Ending, now: Now) -> Option<(View, LetGo)> {
        let mut rows = self.rows();
        let row = rows.all.get_mut(&id)?;
        let state = row.stage.state();
        let ended = row.end(ending, now);
        let view = row.view();
        if let Some(state) = state {
            rows.by_state.remove(&state);
        }
        Some((view, ended))
    }

    /// Notes what the provider said to the revocation.
    pub fn revoked(&self, id: ConnectionId, revocation: Revocation) {
        let mut rows = self.rows();
        if let Some(Stage::Over(over)) = rows.all.get_mut(&id).map(|row| &mut row.stage) {
            over.revocation = revocation;
        }
    }

    /// Whether another live connection stands on the same grant of the same person.
    #[must_use]
    pub fn shares_grant(&self, id: ConnectionId, person: &Mark) -> bool {
        let rows = self.rows();
        let others = rows.all.iter().filter(|(other, _)| **other != id);
        let mut grants = others.filter_map(|(_, row)| row.stage.grant());
        grants.any(|grant| grant.person.ct_eq(person).into())
    }

    /// Connections that are due on either clock and not over.
    #[must_use]
    pub fn due(&self, now: Now) -> Vec<ConnectionId> {
        let rows = self.rows();
        let due = rows.all.iter().filter(|(_, row)| !row.stage.is_over() && row.until.is_due(now));
        due.map(|(id, _)| *id).collect()
    }

    /// How long until the first falls due.
    #[must_use]
    pub fn next_due(&self, now: Now) -> Option<Duration> {
        let rows = self.rows();
        let live = rows.all.values().filter(|row| !row.stage.is_over());
        live.map(|row| row.until.left(now)).min()
    }

    /// Forgets those that have been over for long.
    pub fn forget_old(&self, now: Now) {
        let mut rows = self.rows();
        let old =
            |row: &Row| row.stage.over_since().is_some_and(|at| now.boot.since(at) >= REMEMBERED);
        let gone: Vec<ConnectionId> =
            rows.all.iter().filter(|(_, row)| old(row)).map(|(id, _)| *id).collect();
        for id in gone {
            rows.remove(id);
        }
    }

    /// A tenant's connections that are not over; everybody's for `None`.
    #[must_use]
    pub fn live(&self, tenant: Option<TenantId>) -> Vec<ConnectionId> {
        let rows = self.rows();
        let theirs = |row: &Row| tenant.is_none_or(|tenant| row.terms.tenant == tenant);
        let live = rows.all.iter().filter(|(_, row)| !row.stage.is_over() && theirs(row));
        live.map(|(id, _)| *id).collect()
    }

    /// How many have a token.
    #[must_use]
    pub fn granted(&self) -> usize {
        self.rows().all.values().filter(|row| row.stage.grant().is_some()).count()
    }

    /// Forgets everything, and takes nothing new.
    pub fn close(&self) {
        let mut rows = self.rows();
        *rows = Rows { closed: true, ..Rows::default() };
    }
}

/// Why a code did not confirm a connection.
pub enum Confirmation {
    /// Wrong or late: the connection has ended.
    Wrong(LetGo),
    /// It is confirmed already.
    Used,
    /// Nobody has consented yet.
    Early,
    Over,
}

impl Rows {
    fn row_of_page(&mut self, page: &Mark) -> Option<&mut Row> {
        self.all.get_mut(self.by_page.get(page)?)
    }

    fn remove(&mut self, id: ConnectionId) {
        let Some(row) = self.all.remove(&id) else { return };
        self.by_page.remove(&row.page);
        if let Some(theirs) = self.by_tenant.get_mut(&row.terms.tenant) {
            theirs.ids.remove(&row.number);
        }
    }
}

#[cfg(test)]
mod tests;
