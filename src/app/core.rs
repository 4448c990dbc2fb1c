//! The parts that hold files: composed here, before anything listens.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;

use axum::Router;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;

use super::gateway::StartError;
use super::{Keeper, Place, Seams, Settings};
use crate::body::Pool;
use crate::budget::Budget;
use crate::clock::Clock;
use crate::connect::{self, Connect};
use crate::crypto::RUN_BYTES;
use crate::disk::{Spool, StateDir};
use crate::egress::Egress;
use crate::entropy::Entropy;
use crate::http::{About, Door, Listener, Watch};
use crate::jail::{Jail, Limits, Walls, Zygote};
use crate::keyring::{KernelKeyring, Keyring, Keys, MemoryKeyring, ProcessKeyring, Unusable};
use crate::ops::Admin;
use crate::pipeline::{Parts, Pipeline, RECORD_BYTES};
use crate::process::{DocumentRoom, MAX_DOCUMENT, Means};
use crate::provider::Edges;
use crate::receipt::{self, Evidence, EvidenceError};
use crate::region::Region;
use crate::secret::Slab;
use crate::shred::Shredder;
use crate::store::{LocalStore, MemoryStore, S3Parts, S3Store, Store};
use crate::table::{Place as Resting, Table};
use crate::tasks::{Shutdown, Tasks};
use crate::vault::Vault;

/// As receipts name this program.
const BUILD: &str = concat!("dayfly ", env!("CARGO_PKG_VERSION"));

/// Processing requests of one tenant that may wait, for each worker.
const RUNS_PER_WORKER: usize = 8;

/// Jobs of one tenant that are remembered, however much memory there is.
const MOST_JOBS: usize = 10_000;

/// The parts that hold files, before anything listens.
pub(super) struct Core {
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub budget: Budget,
    pub pool: Arc<Pool>,
    pub keys: Arc<Keys>,
    pub pages: &'static str,
    pub vault: Arc<Vault>,
    pub evidence: Arc<Evidence>,
    pub far: Option<S3Store>,
    pub pipeline: Pipeline,
    pub tasks: Tasks,
    pub shutdown: Shutdown,
}

impl Core {
    pub fn build(
        settings: &Settings,
        seams: &Seams,
        accepted_limits: &[String],
    ) -> Result<Self, StartError> {
        let (clock, entropy) = (seams.clock.clone(), seams.entropy.clone());
        let budget = Budget::of(settings.memory_bytes);
        let pool = Pool::new(budget.clone(), RUN_BYTES);
        let slab = Slab::lock()?;
        let pages = slab.kind().as_str();
        let epochs = keeper(settings.keyring, seams.kernel, &clock, &slab)?;
        let evidence = evidence(settings, seams, accepted_limits, slab.clone());
        let evidence = evidence.map(Arc::new).map_err(StartError::State)?;
        let keys = Arc::new(Keys::new(clock.clone(), entropy.clone(), epochs, slab));
        let (tasks, shutdown) = (Tasks::default(), Shutdown::default());
        let parts = S3Parts {
            clock: clock.clone(),
            entropy: entropy.clone(),
            egress: Egress::new(clock.clone(), tasks.clone(), settings.insecure_loopback),
            tasks: tasks.clone(),
            budget: budget.clone(),
        };
        let egress = parts.egress.clone();
        let (memory, store, far) = storage(settings, parts)?;
        let (pool_of_vault, keys_of_vault) = (pool.clone(), keys.clone());
        let vault =
            Vault::new(clock.clone(), entropy.clone(), keys_of_vault, pool_of_vault, memory, store);
        let vault = Arc::new(vault);
        let table = Arc::new(Table::default());
        let (shredder, cleaner) = Shredder::new(
            clock.clone(),
            keys.clone(),
            table.clone(),
            vault.clone(),
            evidence.clone(),
        );
        tasks.spawn(cleaner.run());
        let workers = settings.workers.count.unwrap_or_else(cores).get();
        let pipeline = Pipeline::new(Parts {
            clock: clock.clone(),
            entropy: entropy.clone(),
            keys: keys.clone(),
            table,
            vault: vault.clone(),
            evidence: evidence.clone(),
            shredder,
            tasks: tasks.clone(),
            shutdown: shutdown.clone(),
            machine: seams.machine.clone(),
            egress,
            jobs: jobs_per_tenant(settings.memory_bytes),
            workers,
            runs: workers * RUNS_PER_WORKER,
            min_rate: settings.min_rate,
        });
        Ok(Self {
            clock,
            entropy,
            budget,
            pool,
            keys,
            pages,
            vault,
            far,
            evidence,
            pipeline,
            tasks,
            shutdown,
        })
    }

    /// What providers are asked through.
    pub fn edges(&self, entropy: Arc<dyn Entropy>) -> Edges {
        let egress = self.pipeline.egress.clone();
        Edges { egress, clock: self.clock.clone(), entropy, budget: self.budget.clone() }
    }

    /// People's permissions. Their pages are where `public_url` says, or else where we listen.
    pub fn connect(
        &self,
        settings: &Settings,
        listening: SocketAddr,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Connect, StartError> {
        let scheme = if settings.tls.is_some() { "https" } else { "http" };
        let base_url = settings.public_url.clone();
        let base_url = base_url.unwrap_or_else(|| format!("{scheme}://{listening}"));
        let standings = self.pipeline.standings.clone();
        Ok(Connect::new(connect::Parts {
            clock: self.clock.clone(),
            entropy,
            keys: self.keys.clone(),
            nursery: self.pipeline.nursery.clone(),
            vault: self.vault.clone(),
            shutdown: self.shutdown.clone(),
            base_url,
            is_suspended: Box::new(move |tenant| standings.enter(tenant).is_err()),
        })?)
    }

    /// A bucket that could not forget takes nothing in.
    pub async fn ask_the_bucket(&self) -> Result<(), StartError> {
        match &self.far {
            Some(far) => far.check().await.map(|_| ()).map_err(StartError::Bucket),
            None => Ok(()),
        }
    }

    /// Somebody to look after slow readers.
    pub fn watch(&self, min_rate: u64) -> Watch {
        let watch = Watch::default();
        self.tasks.spawn(watch.clone().keep(self.clock.clone(), min_rate));
        watch
    }

    /// Where document steps run.
    fn room(
        &self,
        settings: &Settings,
        zygote: Zygote,
        walls: Walls,
    ) -> Result<DocumentRoom, StartError> {
        let workers = settings.workers;
        let count = workers.count.unwrap_or_else(cores);
        let jail = Jail::new(zygote, count, walls, self.tasks.clone(), self.clock.clone())?;
        let limits = Limits {
            memory_bytes: workers.memory_bytes,
            cpu: workers.time,
            wall: workers.time,
            // Whoever waits for a worker holds only sealed bytes, and has a place in the queue.
            patience: workers.time,
            ..Limits::default()
        };
        let (pool, clock) = (self.pool.clone(), self.clock.clone());
        Ok(DocumentRoom { jail: Arc::new(jail), pool, clock, limits, max_document: MAX_DOCUMENT })
    }

    /// What steps are made of.
    pub fn means(&self, settings: &Settings, seams: Seams) -> Result<Means, StartError> {
        let room = self.room(settings, seams.zygote, seams.holds.walls)?;
        let (egress, entropy) = (self.pipeline.egress.clone(), seams.entropy);
        Ok(Means { room, egress, entropy, programs: seams.holds.programs })
    }

    pub fn about(&self, accepted_limits: Vec<String>) -> About {
        About {
            version: env!("CARGO_PKG_VERSION"),
            build: BUILD,
            keyring: self.keys.keyring_name(),
            pages: self.pages,
            store: self.vault.store_name(Resting::Store),
            accepted_limits,
            started_at: self.clock.now().wall,
        }
    }

    pub fn listener(
        &self,
        settings: &Settings,
        socket: TcpListener,
        service: Router,
        shutdown: Shutdown,
        watch: &Watch,
    ) -> Listener {
        Listener {
            socket,
            tls: None,
            service,
            crowd: settings.crowd.clone(),
            watch: watch.clone(),
            door: Door {
                header_timeout: settings.header_timeout,
                min_rate: settings.min_rate,
                drain: settings.drain,
            },
            clock: self.clock.clone(),
            shutdown,
            connections: Tasks::default(),
        }
    }

    /// What the admin listener shows.
    pub fn admin(&self, handle: PrometheusHandle, jail: Arc<Jail>) -> Admin {
        Admin {
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            metrics: handle,
            pipeline: self.pipeline.clone(),
            keys: self.keys.clone(),
            jail,
            budget: self.budget.clone(),
            tasks: self.tasks.clone(),
            shutdown: self.shutdown.clone(),
        }
    }
}

/// Records of one tenant's jobs take at most a sixteenth of the memory.
fn jobs_per_tenant(memory_bytes: u64) -> usize {
    let most = memory_bytes / 16 / RECORD_BYTES as u64;
    usize::try_from(most).unwrap_or(MOST_JOBS).clamp(1, MOST_JOBS)
}

/// Opens the evidence, with all that earlier runs have left in the state folder.
fn evidence(
    settings: &Settings,
    seams: &Seams,
    accepted_limits: &[String],
    slab: Slab,
) -> Result<Evidence, EvidenceError> {
    let options = receipt::Options {
        retention: settings.receipts,
        access: settings.log,
        region: settings.policy.here,
        build: BUILD,
        accepted_limits: accepted_limits.to_vec(),
        state: settings.state_dir.as_deref().map(StateDir::open).transpose()?,
        log_key_file: settings.log_key_file.clone(),
        slab,
    };
    Evidence::open(seams.clock.clone(), seams.entropy.clone(), options)
}

/// Who keeps the deadline keys. Only `auto` takes the one where it cannot have the other.
fn keeper(
    wanted: Keeper,
    kernel: Result<ProcessKeyring, Unusable>,
    clock: &Arc<dyn Clock>,
    slab: &Slab,
) -> Result<Arc<dyn Keyring>, StartError> {
    Ok(match (wanted, kernel) {
        (Keeper::Auto | Keeper::Kernel, Ok(ours)) => {
            Arc::new(KernelKeyring::new(ours, clock.clone(), slab.clone()))
        }
        (Keeper::Kernel, Err(why)) => return Err(StartError::Keyring(why)),
        (Keeper::Auto, Err(why)) => {
            tracing::warn!("the kernel cannot keep keys here, so memory does: {why}");
            Arc::new(MemoryKeyring::new(slab.clone()))
        }
        (Keeper::Memory, _) => Arc::new(MemoryKeyring::new(slab.clone())),
    })
}

type Storage = (MemoryStore, Arc<dyn Store>, Option<S3Store>);

/// Where sealed bytes rest: in memory what is small, and the store; the store once more as what it
/// is, if it is far away and has to be watched.
fn storage(settings: &Settings, parts: S3Parts) -> Result<Storage, StartError> {
    let here: Region = settings.policy.here;
    // What may rest in memory as sealed bytes: half of it where there is no other store. Else an
    // eighth; the rest is for what is known of live files (200 000 of them fit in 512 MiB), and for
    // bytes on their way.
    let share = if matches!(settings.store, Place::Memory) { 2 } else { 8 };
    let memory = MemoryStore::new(here, settings.memory_bytes / share);
    let (store, far): (Arc<dyn Store>, _) = match &settings.store {
        Place::Memory => (Arc::new(memory.clone()), None),
        Place::Local { dir, max_bytes } => {
            let spool = Spool::open(dir).map_err(StartError::Spool)?;
            (Arc::new(LocalStore::new(here, spool, *max_bytes, parts.clock)), None)
        }
        Place::S3(options) => {
            let far = S3Store::new(here, options, parts).map_err(StartError::S3)?;
            (Arc::new(far.clone()), Some(far))
        }
    };
    Ok((memory, store, far))
}

fn cores() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}
