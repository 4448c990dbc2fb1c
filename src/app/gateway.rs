//! The composition root: one place where every part meets the others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use tokio::net::TcpListener;

use super::core::Core;
use super::{Seams, Settings, rights};
use crate::budget::Budget;
use crate::clock::{Clock, within};
use crate::connect::Connect;
use crate::disk::SpoolError;
use crate::entropy::{EntropyError, random};
use crate::http::{Certificates, Gate, Listener, Pair, Rules, Throttle, TlsError, service};
use crate::jail::JailError;
use crate::keyring::{Keys, Unusable};
use crate::metrics;
use crate::ops;
use crate::pipeline::Pipeline;
use crate::policy::{Key, Policy};
use crate::process::{Means, Own, Registry, Unequipped};
use crate::provider::{Edges, provider};
use crate::receipt::{Evidence, EvidenceError};
use crate::secret::SlabError;
use crate::store::{S3Error, S3Store, Unfit};
use crate::table::{Grants, Idempotency};
use crate::tasks::{Shutdown, Tasks};
use crate::vault::Vault;

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
        core.ask_the_bucket().await?;
        let (clock, entropy) = (seams.clock.clone(), seams.entropy.clone());
        let means = core.means(&settings, seams)?;
        let certificates = certificates(&settings)?;
        let watch = core.watch(settings.min_rate);
        let cors_origins = settings.cors_origins.clone();
        let edges = core.edges(entropy.clone());
        let rules = rules(settings.policy.clone(), &settings.own, &means, &cors_origins, &edges)?;
        core.pipeline.share_among(rules.policy.tenants.len());
        rights::stay_suspended(&core.pipeline, &rules.policy).map_err(StartError::State)?;
        let rules = Arc::new(ArcSwap::from_pointee(rules));
        let (grants, audit) = rights::keepers(&core.pipeline, &clock, &core.tasks);
        let (public, public_at) = bind("public", settings.public).await?;
        let (admin, admin_at) = bind("admin", settings.admin).await?;
        let connect = core.connect(&settings, public_at, entropy.clone())?;
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
        let shutdown = core.shutdown.clone();
        let mut public = core.listener(&settings, public, service(&gate), shutdown, &watch);
        public.tls.clone_from(&certificates);
        // The operator can look on while the gateway drains.
        let admin = core.listener(&settings, admin, admin_router, drained.clone(), &watch);
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
            listeners: vec![public, admin],
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
            rights::stay_suspended(&pipeline, &rules.policy).map_err(StartError::State)?;
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

fn certificates(settings: &Settings) -> Result<Option<Arc<Certificates>>, StartError> {
    let pair = settings.tls.as_ref().map(Pair::read).transpose()?;
    Ok(pair.map(|pair| Arc::new(Certificates::new(pair))))
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

async fn bind(
    which: &'static str,
    at: SocketAddr,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let refused = |error: std::io::Error| StartError::Listen { which, kind: error.kind() };
    let listener = TcpListener::bind(at).await.map_err(refused)?;
    let at = listener.local_addr().map_err(refused)?;
    Ok((listener, at))
}
