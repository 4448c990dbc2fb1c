//! Late is too late, and what was used is gone: each step of a connection against a clock.

use super::*;
use crate::budget::Budget;
use crate::clock::{Clock, VirtualClock};
use crate::crypto::{Header, seal_record};
use crate::egress::Egress;
use crate::entropy::SystemEntropy;
use crate::file::{Deadline, FileId, Role};
use crate::keyring::{Keys, MemoryKeyring};
use crate::provider::{Client, Edges, Endpoints, provider};
use crate::secret::Slab;
use crate::table::{Nursery, Origin};
use crate::tasks::Tasks;

struct Room {
    clock: VirtualClock,
    keys: Arc<Keys>,
    all: Connections,
}

const PAGE: Mark = [1; 32];
const COOKIE: Mark = [2; 32];
const STATE: Mark = [3; 32];
const CODE: Mark = [4; 32];

impl Room {
    fn new() -> Self {
        let clock = VirtualClock::at(Wall::from_unix(Duration::from_secs(1_800_000_000)));
        let slab = Slab::lock().unwrap();
        let epochs = Arc::new(MemoryKeyring::new(slab.clone()));
        let keys = Keys::new(Arc::new(clock.clone()), Arc::new(SystemEntropy), epochs, slab);
        Self { clock, keys: Arc::new(keys), all: Connections::default() }
    }

    fn now(&self) -> Now {
        self.clock.now()
    }

    /// A connection whose page was opened.
    fn opened(&self) -> ConnectionId {
        let id = ConnectionId::of_keys(FileId::from_bytes([9; 16]));
        let budget = Budget::of(1 << 20);
        let edges = Edges {
            egress: Egress::new(Arc::new(self.clock.clone()), Tasks::default(), false),
            clock: Arc::new(self.clock.clone()),
            entropy: Arc::new(SystemEntropy),
            budget: budget.clone(),
        };
        let service = Service::Dropbox;
        let endpoints = Endpoints::built_in(service).unwrap();
        let client = Client { service, client_id: "c".into(), client_secret: None, endpoints };
        let terms = Terms {
            id,
            tenant: TenantId::of("acme"),
            region: "eu-central-1".parse().unwrap(),
            access: Access::Browse,
            offline: false,
            ttl: Duration::from_hours(1),
            created: self.now(),
            page: Zeroizing::new("page".to_owned()),
            display_name: "Acme".to_owned(),
            return_to: None,
            subject: None,
            provider: provider(client, edges),
            rent: budget.try_acquire(1).unwrap(),
        };
        assert!(self.all.insert(terms, PAGE).is_ok());
        let browser = Browser { cookie: "c".to_owned(), mark: COOKIE };
        assert!(matches!(self.all.open(&PAGE, None, browser), Opened::First(_)));
        id
    }

    fn ask(&self, state: Mark) -> bool {
        let verifier = Zeroizing::new("v".to_owned());
        self.all.ask(&PAGE, Some(&COOKIE), Asked { state, verifier }).is_ok()
    }

    fn back(&self, state: Mark) -> bool {
        self.all.come_back(&state, Service::Dropbox, Some(&COOKIE), self.now()).is_some()
    }

    fn grant(&self, id: ConnectionId) -> Permission {
        let deadline = Deadline::fix(self.now(), Duration::from_hours(1)).unwrap();
        let keys = Arc::new(self.keys.create(id.keys(), deadline).unwrap());
        let tenant = TenantId::of("acme");
        let region = "eu-central-1".parse().unwrap();
        let sealed = |role| {
            let header = Header {
                role,
                region,
                file: id.keys(),
                epoch: deadline.epoch(),
                expires_at: deadline.sealed_unix(),
                index: 0,
            };
            let key = self.keys.input_key(&keys).unwrap();
            seal_record(&header, &tenant, key, &SystemEntropy, b"{}").unwrap()
        };
        let (account, token) = (sealed(Role::Record), sealed(Role::Token));
        Permission::new(PermissionParts {
            origin: Origin { keys, tenant, region, deadline },
            until: Until::after(self.now(), Duration::from_mins(50)),
            person: [5; 32],
            scopes: Vec::new(),
            account,
            token,
            keys: self.keys.clone(),
            nursery: Nursery::default(),
            rent: Budget::of(1 << 20).try_acquire(1).unwrap(),
        })
    }

    /// A connection that somebody has consented to.
    fn consented(&self) -> ConnectionId {
        let id = self.opened();
        assert!(self.ask(STATE) && self.back(STATE));
        assert!(self.all.consent(id, self.grant(id), self.now()).is_ok());
        assert!(self.all.show_code(&PAGE, Some(&COOKIE), CODE, self.now()));
        id
    }
}

#[test]
fn a_state_lasts_as_long_as_its_page_and_only_the_newest_is_good() {
    let room = Room::new();
    room.opened();
    assert!(room.ask(STATE));
    room.clock.advance(PAGE_WITHIN - Duration::from_secs(1));
    assert!(room.ask([7; 32]), "the person presses the button again");
    assert!(!room.back(STATE), "the earlier state is void");
    assert!(room.back([7; 32]));

    let room = Room::new();
    room.opened();
    assert!(room.ask(STATE));
    room.clock.advance(PAGE_WITHIN);
    assert!(!room.back(STATE), "late");
    assert!(!room.back(STATE), "and gone");
}

#[test]
fn a_code_is_good_for_a_minute_and_a_late_one_ends_the_connection() {
    let room = Room::new();
    let id = room.consented();
    room.clock.advance(CODE_WITHIN - Duration::from_secs(1));
    assert!(room.all.confirm(id, &CODE, room.now()).is_ok());
    assert!(matches!(room.all.confirm(id, &CODE, room.now()), Err(Confirmation::Used)));

    let room = Room::new();
    let id = room.consented();
    room.clock.advance(CODE_WITHIN);
    let late = room.all.confirm(id, &CODE, room.now());
    assert!(matches!(late, Err(Confirmation::Wrong(ended)) if ended.grant.is_some()));
    let view = room.all.get(id, TenantId::of("acme")).unwrap();
    assert_eq!(view.standing, Standing::Over(Ending::Failed(Slug::BadCode), Revocation::Failed));
    assert!(view.grant.is_none());
}

#[test]
fn a_clock_that_is_set_back_gives_nobody_more_time() {
    let room = Room::new();
    let id = room.consented();
    room.clock.step_wall(Wall::from_unix(Duration::from_secs(1_799_990_000)));
    room.clock.advance(CODE_WITHIN);
    assert!(matches!(room.all.confirm(id, &CODE, room.now()), Err(Confirmation::Wrong(_))));
}

#[test]
fn nothing_waits_for_ever() {
    let room = Room::new();
    let id = room.opened();
    assert_eq!(room.all.due(room.now()), []);
    room.clock.advance(PAGE_WITHIN);
    assert_eq!(room.all.due(room.now()), [id]);

    let room = Room::new();
    let id = room.consented();
    room.clock.advance(CONFIRM_WITHIN);
    assert_eq!(room.all.due(room.now()), [id], "nobody confirmed it");
    assert!(room.all.end(id, Ending::Expired, room.now()).is_some());
    assert_eq!(room.all.due(room.now()), []);
    assert!(room.all.get(id, TenantId::of("acme")).is_some());
    room.clock.advance(REMEMBERED);
    room.all.forget_old(room.now());
    assert!(room.all.get(id, TenantId::of("acme")).is_none());
    assert!(room.all.browser(&PAGE).is_none());
}

#[test]
fn an_active_connection_lives_to_its_end_and_its_keys_a_little_longer() {
    let room = Room::new();
    let id = room.consented();
    let view = room.all.confirm(id, &CODE, room.now()).ok().unwrap();
    assert_eq!(view.until.left(room.now()), Duration::from_mins(50));
    let grant = view.grant.unwrap();
    let (_, ended) = room.all.end(id, Ending::Revoked, room.now()).unwrap();
    assert!(grant.cut.has_fired(), "whatever uses it stops");
    assert!(grant.origin.keys.deadline().is_some(), "it can still be revoked");
    drop((ended, view.terms, grant));
    assert_eq!(room.keys.files_alive(), 0, "and dropped it leaves no key");
}
