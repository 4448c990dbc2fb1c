//! The composition root: one place where every part meets the others.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use axum::Router;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;

use super::{Keeper, Place, Seams, Settings, rights};
use crate::body::Pool;
use crate::budget::Budget;
use crate::clock::{Clock, within};
use crate::connect::{self, Connect};
use crate::crypto::RUN_BYTES;
use crate::disk::{Spool, SpoolError, StateDir};
use crate::egress::Egress;
use crate::entropy::{Entropy, EntropyError, random};
use crate::http::{
    About, Certificates, Door, Gate, Listener, Pair, Rules, Throttle, TlsError, Watch, service,
};
use crate::jail::{Jail, JailError, Limits, Walls, Zygote};
use crate::keyring::{KernelKeyring, Keyring, Keys, MemoryKeyring, ProcessKeyring, Unusable};
use crate::metrics;
use crate::ops::{self, Admin};
use crate::pipeline::{Parts, Pipeline, RECORD_BYTES};
use crate::policy::{Key, Policy};
use crate::process::{DocumentRoom, MAX_DOCUMENT, Means, Own, Registry, Unequipped};
use crate::provider::{Edges, provider};
use crate::receipt::{self, Evidence, EvidenceError};
use crate::region::Region;
use crate::secret::{Slab, SlabError};
use crate::shred::Shredder;
use crate::store::{LocalStore, MemoryStore, S3Error, S3Parts, S3Store, Store, Unfit};
use crate::table::{Grants, Idempotency, Table};
use crate::tasks::{Shutdown, Tasks};
use crate::vault::Vault;

/// As receipts name this program.
const BUILD: &str = concat!("dayfly ", env!("CARGO_PKG_VERSION"));

/// Processing requests of one tenant that may wait, for each worker.
const RUNS_PER_WORKER: usize = 8;

/// Jobs of one tenant that are remembered, however much memory there is.
const MOST_JOBS: usize = 10_000;

/// Why a gateway cannot start: exit status 78, with what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("vault.local.dir: {0}")]
    Spool(#[source] SpoolError),
    #[error("vault.s3: {0}")]
    S3(S3Error),
    #[error("vault.s3: {0}")]
    Bucket(Unfit),
    #[error("state.dir: {0}")]
    State(#[source] EvidenceError),
    #[error(transparent)]
    Slab(#[from] SlabError),
    #[error("vault.keyring: the kernel cannot keep keys here: {0}")]
    Keyring(#[source] Unusable),
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A reload may replace a certificate, not begin or end TLS.
    #[error("listen.tls: it cannot be switched on or off by a reload")]
    TlsSwitch,
    #[error("listen.{which}: the address cannot be taken ({kind})")]
    Listen { which: &'static str, kind: std::io::ErrorKind },
    #[error("the worker zygote cannot be used: {0}")]
    Jail(#[from] JailError),
    #[error("the metrics cannot be set up")]
    Metrics,
    #[error(transparent)]
    Unequipped(#[from] Unequipped),
    #[error("pipelines.{0}: its steps are not all processors of this gateway")]
    Pipeline(String),
}

/// What was left when the gateway had stopped: all of it must be 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    pub keys: usize,
    pub blobs: u64,
    pub budget_used: u64,
    pub panicked: u64,
}

impl Stopped {
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.keys == 0 && self.blobs == 0 && self.budget_used == 0 && self.panicked == 0
    }
}

/// A gateway that listens.
pub struct Gateway {
    pub public: SocketAddr,
    pub admin: SocketAddr,
    clock: Arc<dyn Clock>,
    rules: Arc<ArcSwap<Rules>>,
    means: Means,
    cors_origins: Vec<String>,
    edges: Edges,
    connect: Connect,
    grants: Arc<Grants>,
    certificates: Option<Arc<Certificates>>,
    pipeline: Arc<Pipeline>,
    evidence: Arc<Evidence>,
    keys: Arc<Keys>,
    vault: Arc<Vault>,
    far: Option<S3Store>,
    budget: Budget,
    tasks: Tasks,
    shutdown: Shutdown,
    drained: Shutdown,
    listeners: Vec<Listener>,
    drain: Duration,
}

/// The parts that hold files, before anything listens.
struct Core {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    budget: Budget,
    pool: Arc<Pool>,
    keys: Arc<Keys>,
    pages: &'static str,
    vault: Arc<Vault>,
    store_name: &'static str,
    evidence: Arc<Evidence>,
    far: Option<S3Store>,
    pipeline: Pipeline,
    tasks: Tasks,
    shutdown: Shutdown,
}

impl Gateway {
    /// Builds everything and binds both listeners; nothing is served before [`Gateway::run`].
    ///
    /// # Errors
    /// When a folder, the locked pages, an address or the worker zygote is not to be had.
    pub async fn start(
        settings: Settings,
        seams: Seams,
        accepted_limits: Vec<String>,
    ) -> Result<Self, StartError> {
        let handle = metrics::install().map_err(|_| StartError::Metrics)?;
        let core = Core::build(&settings, &seams, &accepted_limits)?;
        if let Some(far) = &core.far {
            far.check().await.map_err(StartError::Bucket)?;
        }
        let Seams { clock, entropy, zygote, holds, .. } = seams;
        let room = core.room(&settings, zygote, holds.walls)?;
        let egress = core.pipeline.egress.clone();
        let (entropy_of_steps, programs) = (entropy.clone(), holds.programs);
        let means = Means { room, egress, entropy: entropy_of_steps, programs };
        let pair = settings.tls.as_ref().map(Pair::read).transpose()?;
        let certificates = pair.map(|pair| Arc::new(Certificates::new(pair)));
        let watch = core.watch(settings.min_rate);
        let cors_origins = settings.cors_origins.clone();
        let edges = core.edges(entropy.clone());
        let rules = rules(settings.policy.clone(), &settings.own, &means, &cors_origins, &edges)?;
        core.pipeline.share_among(rules.policy.tenants.len());
        let rules = Arc::new(ArcSwap::from_pointee(rules));
        let (grants, audit) =
            rights::keepers(&core.pipeline, &clock, &core.tasks, settings.receipts);
        let public = bind("public", settings.public).await?;
        let admin = bind("admin", settings.admin).await?;
        let (public_at, admin_at) = (address("public", &public)?, address("admin", &admin)?);
        let scheme = if certificates.is_some() { "https" } else { "http" };
        let base_url = settings.public_url.clone();
        let base_url = base_url.unwrap_or_else(|| format!("{scheme}://{public_at}"));
        let connect = core.connect(base_url, entropy.clone())?;
        let gate = Arc::new(Gate {
            clock: clock.clone(),
            entropy: entropy.clone(),
            pipeline: core.pipeline.clone(),
            connect: connect.clone(),
            rules: rules.clone(),
            shutdown: core.shutdown.clone(),
            tasks: core.tasks.clone(),
            idempotency: Idempotency::new(clock.clone()),
            grants: grants.clone(),
            audit,
            throttle: Throttle::default(),
            watch: watch.clone(),
            fingerprint_key: hmac::Key::new(hmac::HMAC_SHA256, &random::<32>(&*entropy)?),
            proxies: settings.crowd.proxies.clone(),
            about: core.about(accepted_limits),
        });
        let admin_router = ops::admin(core.admin(handle, means.room.jail.clone()), admin_at);
        let drained = Shutdown::default();
        let mut listeners = vec![
            core.listener(&settings, public, service(&gate), core.shutdown.clone(), &watch),
            // The operator can look on while the gateway drains.
            core.listener(&settings, admin, admin_router, drained.clone(), &watch),
        ];
        listeners[0].tls.clone_from(&certificates);
        Ok(Self {
            public: public_at,
            admin: admin_at,
            clock,
            rules,
            means,
            cors_origins,
            edges,
            connect,
            grants,
            certificates,
            pipeline: Arc::new(core.pipeline),
            evidence: core.evidence,
            keys: core.keys,
            vault: core.vault,
            far: core.far,
            budget: core.budget,
            tasks: core.tasks,
            shutdown: core.shutdown,
            drained,
            listeners,
            drain: settings.drain,
        })
    }

    /// What asks the gateway to stop.
    #[must_use]
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// How clients have to speak to it.
    #[must_use]
    pub const fn scheme(&self) -> &'static str {
        if self.certificates.is_some() { "https" } else { "http" }
    }

    /// What replaces policy, processors and certificate while requests run; each ends under those
    /// it began with. Everything is tried before anything applies.
    pub fn reload(&self) -> impl Fn(Settings) -> Result<(), StartError> + Send + Sync + 'static {
        let (current, means) = (self.rules.clone(), self.means.clone());
        let (origins, clock) = (self.cors_origins.clone(), self.clock.clone());
        let (grants, pipeline) = (self.grants.clone(), self.pipeline.clone());
        let (certificates, edges) = (self.certificates.clone(), self.edges.clone());
        move |again| {
            let pair = again.tls.as_ref().map(Pair::read).transpose()?;
            let now = clock.now().wall;
            let rules = rules(again.policy, &again.own, &means, &origins, &edges)?;
            match (&certificates, pair) {
                (Some(certificates), Some(pair)) => certificates.replace(pair),
                (None, None) => {}
                (Some(_), None) | (None, Some(_)) => return Err(StartError::TlsSwitch),
            }
            grants.keep_if(|key: &Key| rules.policy.stands_behind(key, now));
            pipeline.share_among(rules.policy.tenants.len());
            current.store(Arc::new(rules));
            Ok(())
        }
    }

    /// Serves until asked to stop; then lets running requests end, destroys every key, and tells
    /// what was left.
    pub async fn run(self) -> Stopped {
        self.tasks.spawn(self.pipeline.clone().sweep_forever());
        self.tasks.spawn(self.pipeline.clone().drain());
        // Deletes in a bucket take a network's time.
        let patience = Duration::from_secs(if self.far.is_some() { 30 } else { 5 });
        if let Some(far) = self.far {
            self.tasks.spawn(far.watch());
        }
        let jobs = self.tasks.spawn(self.pipeline.clone().wind_down(self.drain));
        self.tasks.spawn(self.evidence.clone().keep(self.shutdown.clone()));
        self.connect.start();
        let connections: Vec<Tasks> =
            self.listeners.iter().map(|listener| listener.connections.clone()).collect();
        let serving: Vec<_> =
            self.listeners.into_iter().map(|listener| self.tasks.spawn(listener.serve())).collect();
        for listener in serving {
            // A listener's panic is counted by the tasks and shows in what was left. The public one
            // comes first; what ends after it is the operator's.
            drop(listener.await);
            self.drained.begin();
        }
        // As with the listeners: what went wrong there shows in what was left.
        drop(jobs.await);
        self.connect.close().await;
        self.pipeline.forget_all();
        self.grants.clear();
        drop(self.rules);
        within(&*self.clock, patience, self.pipeline.cleaned()).await;
        self.evidence.close().await;
        let panicked = connections.iter().map(Tasks::panicked).sum::<u64>();
        Stopped {
            keys: self.keys.secrets_held() + self.keys.epochs_held().all(),
            blobs: self.vault.usage().blobs,
            budget_used: self.budget.used(),
            panicked: self.tasks.panicked() + self.connect.panicked() + panicked,
        }
    }
}

impl Core {
    fn build(
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
        let keys = Arc::new(Keys::new(clock.clone(), entropy.clone(), epochs, slab));
        let here = settings.policy.here;
        // What may rest in memory as sealed bytes: half of it where there is no other store. Else
        // an eighth; the rest is for what is known of live files (200 000 of them fit in 512 MiB),
        // and for bytes on their way.
        let share = if matches!(settings.store, Place::Memory) { 2 } else { 8 };
        let memory = MemoryStore::new(here, settings.memory_bytes / share);
        let (tasks, shutdown) = (Tasks::default(), Shutdown::default());
        let egress = Egress::new(clock.clone(), tasks.clone(), settings.insecure_loopback);
        let parts = || S3Parts {
            clock: clock.clone(),
            entropy: entropy.clone(),
            egress: egress.clone(),
            tasks: tasks.clone(),
            budget: budget.clone(),
        };
        let (store, far) = store(&settings.store, here, &memory, &clock, parts)?;
        let store_name = store.name();
        let vault = Arc::new(Vault::new(
            clock.clone(),
            entropy.clone(),
            keys.clone(),
            pool.clone(),
            memory,
            store,
        ));
        let table = Arc::new(Table::default());
        let evidence =
            evidence(settings, seams, accepted_limits).map(Arc::new).map_err(StartError::State)?;
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
            store_name,
            far,
            evidence,
            pipeline,
            tasks,
            shutdown,
        })
    }

    /// What providers are asked through.
    fn edges(&self, entropy: Arc<dyn Entropy>) -> Edges {
        let egress = self.pipeline.egress.clone();
        Edges { egress, clock: self.clock.clone(), entropy, budget: self.budget.clone() }
    }

    /// People's permissions. Their pages are where `public_url` says, or else where we listen.
    fn connect(&self, base_url: String, entropy: Arc<dyn Entropy>) -> Result<Connect, StartError> {
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

    /// Somebody to look after slow readers.
    fn watch(&self, min_rate: u64) -> Watch {
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

    fn about(&self, accepted_limits: Vec<String>) -> About {
        About {
            version: env!("CARGO_PKG_VERSION"),
            build: BUILD,
            keyring: self.keys.keyring_name(),
            pages: self.pages,
            store: self.store_name,
            accepted_limits,
            started_at: self.clock.now().wall,
        }
    }

    fn listener(
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
    fn admin(&self, handle: PrometheusHandle, jail: Arc<Jail>) -> Admin {
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
) -> Result<Evidence, EvidenceError> {
    let options = receipt::Options {
        retention: settings.receipts,
        access: settings.log,
        region: settings.policy.here,
        build: BUILD,
        accepted_limits: accepted_limits.to_vec(),
        state: settings.state_dir.as_deref().map(StateDir::open).transpose()?,
        log_key_file: settings.log_key_file.clone(),
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

/// The store, and once more as what it is if it is far away and has to be watched.
fn store(
    place: &Place,
    here: Region,
    memory: &MemoryStore,
    clock: &Arc<dyn Clock>,
    parts: impl FnOnce() -> S3Parts,
) -> Result<(Arc<dyn Store>, Option<S3Store>), StartError> {
    Ok(match place {
        Place::Memory => (Arc::new(memory.clone()), None),
        Place::Local { dir, max_bytes } => {
            let spool = Spool::open(dir).map_err(StartError::Spool)?;
            (Arc::new(LocalStore::new(here, spool, *max_bytes, clock.clone())), None)
        }
        Place::S3(options) => {
            let far = S3Store::new(here, options, parts()).map_err(StartError::S3)?;
            (Arc::new(far.clone()), Some(far))
        }
    })
}

fn rules(
    policy: Policy,
    own: &[Own],
    means: &Means,
    cors_origins: &[String],
    edges: &Edges,
) -> Result<Rules, StartError> {
    let mut steps = Registry::equipped(means, own)?;
    for (name, pipeline) in &policy.pipelines {
        let named = steps.name_pipeline(name.clone(), pipeline.clone());
        named.map_err(|_| StartError::Pipeline(name.clone()))?;
    }
    let (cors_origins, loaded_at) = (cors_origins.to_vec(), edges.clock.now().wall);
    let clients = policy.providers.iter();
    let providers =
        clients.map(|(service, client)| (*service, provider(client.clone(), edges.clone())));
    let providers = providers.collect();
    Ok(Rules { policy, steps, providers, cors_origins, loaded_at })
}

async fn bind(which: &'static str, at: SocketAddr) -> Result<TcpListener, StartError> {
    let refused = |error: std::io::Error| StartError::Listen { which, kind: error.kind() };
    TcpListener::bind(at).await.map_err(refused)
}

fn address(which: &'static str, listener: &TcpListener) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|error| StartError::Listen { which, kind: error.kind() })
}

fn cores() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}
