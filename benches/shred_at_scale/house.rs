//! The stages together, without a network: what a gateway is made of, over memory.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use dayfly::body::Pool;
use dayfly::budget::Budget;
use dayfly::clock::{Boot, Clock, Now, Sleep, SystemClock, VirtualClock, Wall};
use dayfly::crypto::RUN_BYTES;
use dayfly::egress::Egress;
use dayfly::entropy::{SystemEntropy, SystemMachine};
use dayfly::file::TenantId;
use dayfly::intake::Digester;
use dayfly::keyring::{Keys, MemoryKeyring};
use dayfly::pipeline::{Parts, Pipeline, Upload};
use dayfly::policy::Terms;
use dayfly::receipt::Evidence;
use dayfly::region::Region;
use dayfly::secret::Slab;
use dayfly::shred::Shredder;
use dayfly::store::MemoryStore;
use dayfly::table::{LiveFile, Table};
use dayfly::tasks::{Shutdown, Tasks};
use dayfly::vault::Vault;
use futures_util::{TryStreamExt, stream};

/// More than any number of files here needs.
const MEMORY: u64 = 4 << 30;
const RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);
/// The beginning of an hour, so that no life here crosses into another bucket.
const START: Duration = Duration::from_secs(1_800_000_000);

/// The machine's time from [`START`] on, which can be set forward by hand.
#[derive(Clone)]
struct Moved {
    moved: VirtualClock,
    began: Boot,
}

impl Clock for Moved {
    fn now(&self) -> Now {
        let (moved, passed) = (self.moved.now(), SystemClock.now().boot.since(self.began));
        Now { wall: moved.wall.plus(passed), boot: moved.boot.plus(passed) }
    }

    fn sleep(&self, span: Duration) -> Sleep {
        SystemClock.sleep(span)
    }
}

/// The stages, with handles on what they are made of.
pub struct House {
    pub pipeline: Pipeline,
    pub keys: Arc<Keys>,
    pub vault: Arc<Vault>,
    pub evidence: Arc<Evidence>,
    clock: Moved,
    region: Region,
}

impl House {
    pub fn new(slab: Slab) -> Result<Self> {
        let moved = VirtualClock::at(Wall::from_unix(START));
        let clock = Moved { moved, began: SystemClock.now().boot };
        let (shared, entropy) = (Arc::new(clock.clone()), Arc::new(SystemEntropy));
        let epochs = Arc::new(MemoryKeyring::new(slab.clone()));
        let keys = Arc::new(Keys::new(shared.clone(), entropy.clone(), epochs, slab));
        let region: Region = "eu".parse().ok().context("a region")?;
        let pool = Pool::new(Budget::of(MEMORY), RUN_BYTES);
        // Small files rest in memory, and there is no other place.
        let memory = MemoryStore::new(region, MEMORY / 2);
        let store = Arc::new(MemoryStore::new(region, 0));
        let vault = Vault::new(shared.clone(), entropy.clone(), keys.clone(), pool, memory, store);
        let (vault, table) = (Arc::new(vault), Arc::new(Table::default()));
        let evidence =
            Arc::new(Evidence::new(shared.clone(), entropy.clone(), RETENTION).expect("a pen"));
        let (shredder, cleaner) = Shredder::new(
            shared.clone(),
            keys.clone(),
            table.clone(),
            vault.clone(),
            evidence.clone(),
        );
        let tasks = Tasks::default();
        tasks.spawn(cleaner.run());
        tasks.spawn(evidence.clone().keep(Shutdown::default()));
        let egress = Egress::new(shared.clone(), tasks.clone(), false);
        let pipeline = Pipeline::new(Parts {
            clock: shared,
            entropy,
            keys: keys.clone(),
            table,
            vault: vault.clone(),
            evidence: evidence.clone(),
            shredder,
            tasks,
            shutdown: Shutdown::default(),
            machine: Arc::new(SystemMachine::listen()),
            egress,
            jobs: 1,
            workers: 1,
            runs: 1,
            min_rate: 0,
        });
        Ok(Self { pipeline, keys, vault, evidence, clock, region })
    }

    /// The minute's end that is some `ttl` away.
    pub fn end_in(&self, ttl: Duration) -> Wall {
        let end = self.clock.now().wall.plus(ttl).unix_seconds();
        Wall::from_unix(Duration::from_secs(end - end % 60))
    }

    /// Takes a file in that lives until `end`.
    pub async fn put(&self, end: Wall, bytes: usize) -> Result<Arc<LiveFile>> {
        let ttl = self.clock.now().wall.until(end) + Duration::from_secs(1);
        let (max_bytes, max_live_bytes) = (MEMORY, MEMORY);
        let terms = Terms { region: self.region, ttl, max_bytes, max_live_bytes };
        let upload = Upload {
            input: Box::pin(stream::iter([Ok(Bytes::from(vec![b'x'; bytes]))])),
            declared: Some(bytes as u64),
            name: Some("a name.txt".to_owned()),
            declared_type: None,
            downloads: None,
            digester: Digester::default(),
        };
        let sealed = self.pipeline.seal(tenant(), &terms, upload).await?;
        Ok(self.pipeline.publish(sealed)?)
    }

    /// Reads all of a file, as a request does.
    pub async fn read(&self, file: &LiveFile) -> Result<()> {
        let file = self.pipeline.find(file.id, tenant()).context("it is gone")?;
        let (delivery, _) = self.pipeline.deliver(&file, 0..file.size(), None)?;
        let read: Vec<Bytes> = delivery.try_collect().await?;
        let bytes = read.iter().map(Bytes::len).sum::<usize>();
        ensure!(bytes as u64 == file.size(), "a part of it is missing");
        Ok(())
    }

    /// Lets the time come to `end`.
    pub fn come_to(&self, end: Wall) {
        self.clock.moved.advance(self.clock.now().wall.until(end));
    }
}

fn tenant() -> TenantId {
    TenantId::of("acme")
}
