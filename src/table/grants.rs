//! Grants: small rights that a key hands on, counted, and ended with what they open.
//!
//! Of a grant's secret only a SHA-256 is here. Its uses are claimed before anything is done: an
//! upload that comes to nothing gives its claim back, a download spends one with its first byte and
//! may be continued like a counted file's ([`Claims`]).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use subtle::ConstantTimeEq;

use super::{Claims, LiveFile};
use crate::budget::Permit;
use crate::clock::{Boot, Clock, Now, Wall};
use crate::file::{FileId, TenantId};
use crate::policy::{GrantId, Key, PresentedGrant};
use crate::region::Region;

/// Grants of one tenant at a time.
const MOST: usize = 10_000;

/// What a grant allows.
pub enum Scope {
    Upload(UploadScope),
    Download(DownloadScope),
}

/// Taking files in.
pub struct UploadScope {
    /// The largest file, bytes, where the grant says less than the policy.
    pub max_bytes: Option<u64>,
    /// The only region it may be used for, if it names one.
    pub region: Option<Region>,
    left: Arc<AtomicU64>,
}

/// Handing one file out.
pub struct DownloadScope {
    pub file: FileId,
    pub claims: Claims,
    live: Weak<LiveFile>,
}

/// A right that was handed on.
pub struct Grant {
    pub id: GrantId,
    /// The key it came from. It must stand behind the grant at every use.
    pub key: Key,
    pub scope: Scope,
    tenant: TenantId,
    sha256: [u8; 32],
    ends: (Wall, Boot),
    /// Pays for it.
    _rent: Permit,
}

/// One upload's claim on a grant; given back on drop unless the file was made.
pub struct Use {
    left: Arc<AtomicU64>,
    kept: bool,
}

/// No use of the grant is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no use of the grant is left")]
pub struct Spent;

/// The tenant has as many grants as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tenant has too many grants")]
pub struct TooMany;

impl UploadScope {
    #[must_use]
    pub fn new(count: u64, max_bytes: Option<u64>, region: Option<Region>) -> Self {
        Self { max_bytes, region, left: Arc::new(AtomicU64::new(count)) }
    }

    /// Claims one upload before it begins.
    ///
    /// # Errors
    /// When all are claimed: those under way count until they have failed.
    pub fn claim(&self) -> Result<Use, Spent> {
        let less = |left: u64| left.checked_sub(1);
        let claimed = self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        claimed.map_err(|_| Spent)?;
        Ok(Use { left: self.left.clone(), kept: false })
    }
}

impl DownloadScope {
    #[must_use]
    pub fn new(file: &Arc<LiveFile>, count: u64, clock: Arc<dyn Clock>) -> Self {
        let claims = Claims::new(count, clock);
        Self { file: file.id, claims, live: Arc::downgrade(file) }
    }

    fn is_alive(&self) -> bool {
        self.live.upgrade().is_some_and(|file| file.origin.keys.deadline().is_some())
    }
}

impl Use {
    /// The file was made: the use is spent for good.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        if !self.kept {
            self.left.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl Grant {
    /// A grant that ends on the first of two clocks to reach its end.
    #[must_use]
    pub fn new(
        presented: &PresentedGrant,
        (key, tenant): (Key, TenantId),
        scope: Scope,
        ends: (Wall, Boot),
        rent: Permit,
    ) -> Self {
        let (id, sha256) = (presented.id, presented.sha256);
        Self { id, key, scope, tenant, sha256, ends, _rent: rent }
    }

    /// When it ends at the latest.
    #[must_use]
    pub const fn expires_at(&self) -> Wall {
        self.ends.0
    }

    /// Whether it can still be used, in part at least: a broken delivery may go on for a while, and
    /// an upload it began until it is over. `continued` is the claim that a client names, `began`
    /// whether it speaks of such an upload.
    fn is_open(&self, now: Now, continued: Option<&str>, began: impl FnOnce() -> bool) -> bool {
        self.is_kept(now)
            && match &self.scope {
                Scope::Upload(upload) => upload.left.load(Ordering::Acquire) > 0 || began(),
                Scope::Download(download) => {
                    download.claims.left() > 0
                        || continued.is_some_and(|claim| download.claims.continues(claim))
                }
            }
    }

    fn is_kept(&self, now: Now) -> bool {
        let lasts = now.wall < self.ends.0 && now.boot < self.ends.1;
        lasts
            && match &self.scope {
                Scope::Upload(_) => true,
                Scope::Download(download) => download.is_alive(),
            }
    }
}

/// All grants of this process.
pub struct Grants {
    clock: Arc<dyn Clock>,
    all: Mutex<HashMap<GrantId, Arc<Grant>>>,
}

impl Grants {
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, all: Mutex::default() }
    }

    fn all(&self) -> std::sync::MutexGuard<'_, HashMap<GrantId, Arc<Grant>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a right on.
    ///
    /// # Errors
    /// When the tenant has `MOST` grants that have not ended.
    pub fn add(&self, grant: Grant) -> Result<Arc<Grant>, TooMany> {
        let mut all = self.all();
        let of_tenant = |all: &HashMap<GrantId, Arc<Grant>>| {
            all.values().filter(|held| held.tenant == grant.tenant).count()
        };
        if all.len() >= MOST && of_tenant(&all) >= MOST {
            let now = self.clock.now();
            all.retain(|_, held| held.is_kept(now));
            if of_tenant(&all) >= MOST {
                return Err(TooMany);
            }
        }
        let grant = Arc::new(grant);
        all.insert(grant.id, grant.clone());
        Ok(grant)
    }

    /// Finds the grant that was presented, if it can still be used. The comparison takes the same
    /// time whether the id is known or not.
    #[must_use]
    pub fn authenticate(
        &self,
        presented: &PresentedGrant,
        continued: Option<&str>,
        began: impl FnOnce(GrantId) -> bool,
    ) -> Option<Arc<Grant>> {
        let found = self.all().get(&presented.id).cloned();
        let nobodys = [0; 32];
        let hash = found.as_ref().map_or(&nobodys, |grant| &grant.sha256);
        let same = bool::from(hash.ct_eq(&presented.sha256));
        found.filter(|grant| same && grant.is_open(self.clock.now(), continued, || began(grant.id)))
    }

    /// Ends every grant.
    pub fn clear(&self) {
        self.all().clear();
    }

    /// Ends every grant of a tenant.
    pub fn forget(&self, tenant: TenantId) {
        self.all().retain(|_, grant| grant.tenant != tenant);
    }

    /// Ends every grant whose key does not stand behind it any more.
    pub fn keep_if(&self, stands: impl Fn(&Key) -> bool) {
        self.all().retain(|_, grant| stands(&grant.key));
    }

    /// Forgets what has ended, with the file it opened or by itself.
    pub fn sweep(&self) {
        let now = self.clock.now();
        self.all().retain(|_, grant| grant.is_kept(now));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::budget::Budget;
    use crate::clock::VirtualClock;
    use crate::entropy::SeededEntropy;
    use crate::policy::{GrantToken, Roles};

    struct House {
        grants: Grants,
        clock: VirtualClock,
        entropy: SeededEntropy,
        budget: Budget,
    }

    fn house() -> House {
        let clock = VirtualClock::at(Wall::from_unix(Duration::from_secs(1_800_000_000)));
        let grants = Grants::new(Arc::new(clock.clone()));
        House { grants, clock, entropy: SeededEntropy::new(3), budget: Budget::of(64 << 20) }
    }

    impl House {
        fn add(&self, tenant: &str, count: u64) -> Result<PresentedGrant, TooMany> {
            let token = GrantToken::draw(&self.entropy).unwrap();
            let presented = PresentedGrant::parse(token.expose()).unwrap();
            let key = Key::new("k1", tenant, Roles::EVERY, &"0".repeat(64), None).unwrap();
            let scope = Scope::Upload(UploadScope::new(count, None, None));
            let from = (key, TenantId::of(tenant));
            let (now, span) = (self.clock.now(), Duration::from_secs(60));
            let ends = (now.wall.plus(span), now.boot.plus(span));
            let rent = self.budget.try_acquire(1).unwrap();
            let grant = Grant::new(&presented, from, scope, ends, rent);
            self.grants.add(grant).map(|_| presented)
        }
    }

    #[test]
    fn only_the_right_secret_of_a_known_id_opens_and_only_until_the_end() {
        let house = house();
        let mine = house.add("acme", 1).unwrap();
        let wrong = PresentedGrant { id: mine.id, sha256: [0; 32] };
        let unknown = PresentedGrant { id: GrantId::from_bytes([9; 16]), sha256: [0; 32] };
        assert!(house.grants.authenticate(&mine, None, |_| false).is_some());
        assert!(house.grants.authenticate(&wrong, None, |_| false).is_none());
        assert!(
            house.grants.authenticate(&unknown, None, |_| false).is_none(),
            "the hash of nobody's"
        );
        house.clock.advance(Duration::from_secs(60));
        assert!(house.grants.authenticate(&mine, None, |_| false).is_none());
        house.grants.sweep();
        assert_eq!(house.budget.used(), 0);
    }

    #[test]
    fn uses_are_claimed_before_and_given_back_by_what_came_to_nothing() {
        let upload = UploadScope::new(2, None, None);
        let (one, two) = (upload.claim().unwrap(), upload.claim().unwrap());
        assert_eq!(upload.claim().err(), Some(Spent));
        one.keep();
        drop(two);
        upload.claim().unwrap().keep();
        assert_eq!(upload.claim().err(), Some(Spent));
    }

    #[test]
    fn a_tenant_has_so_many_grants_and_an_erasure_ends_its_own() {
        let house = house();
        let others = house.add("other", 1).unwrap();
        for _ in 0..MOST {
            house.add("acme", 1).unwrap();
        }
        assert!(matches!(house.add("acme", 1), Err(TooMany)));
        assert!(house.add("other", 1).is_ok(), "one tenant cannot use up another's");
        house.grants.forget(TenantId::of("acme"));
        assert!(house.add("acme", 1).is_ok());
        assert!(house.grants.authenticate(&others, None, |_| false).is_some());
    }
}
