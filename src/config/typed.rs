//! From raw settings to typed ones, with a complaint for everything that cannot be met.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use super::processors::own;
use super::providers::public_url;
use super::raw::{self, Raw};
use super::rules::{is_base_url, is_built, policy};
use super::{credentials, units};
use crate::app::{Accept, Keeper, Place, Settings, Workers};
use crate::clock::parse_span;
use crate::http::{Crowd, Network, Proxies, TlsFiles};
use crate::jail::Walls;
use crate::receipt::Access;
use crate::store::{S3Options, check_bucket, endpoint};

/// Collects what is wrong, so that an operator sees it all at once.
#[derive(Default)]
pub(super) struct Complaints(Vec<String>);

impl Complaints {
    pub(super) fn say(&mut self, key: &str, complaint: impl std::fmt::Display) {
        self.0.push(format!("{key}: {complaint}"));
    }

    pub(super) fn need<T>(&mut self, key: &str, value: Option<T>, complaint: &str) -> Option<T> {
        if value.is_none() {
            self.say(key, complaint);
        }
        value
    }

    pub(super) fn span(&mut self, key: &str, text: &str) -> Duration {
        let complaint = "not a span of time like 90s, 15m, 4h, 23h30m or 30d";
        self.need(key, parse_span(text), complaint).unwrap_or_default()
    }

    pub(super) fn size(&mut self, key: &str, size: &raw::Size) -> u64 {
        let complaint = "not a size like 64KiB, 512MiB or 5GiB";
        self.need(key, units::size(size), complaint).unwrap_or_default()
    }

    fn address(&mut self, key: &str, text: &str) -> SocketAddr {
        let complaint = "not an address and port like 127.0.0.1:8080 or [::1]:8080";
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        self.need(key, text.parse().ok(), complaint).unwrap_or(nowhere)
    }
}

pub(super) fn settings(raw: &Raw) -> Result<(Settings, Vec<String>), Vec<String>> {
    let mut wrong = Complaints::default();
    let policy = policy(raw, &mut wrong);
    let limits = &raw.limits;
    let rate =
        wrong.need("limits.min_rate", units::rate(&limits.min_rate), "not a rate like 1KiB/s");
    let settings = Settings {
        public: wrong.address("listen.public", &raw.listen.public),
        admin: wrong.address("listen.admin", &raw.listen.admin),
        tls: tls(raw),
        cors_origins: raw.listen.cors_origins.clone(),
        public_url: public_url(raw, &mut wrong),
        state_dir: raw.state.dir.clone(),
        log_key_file: raw.state.log_key_file.clone(),
        log: log_access(raw, &mut wrong),
        receipts: wrong.span("retention.receipts", &raw.retention.receipts),
        memory_bytes: memory(raw, &mut wrong),
        min_rate: rate.unwrap_or_default(),
        header_timeout: wrong.span("limits.header_timeout", &limits.header_timeout),
        drain: wrong.span("limits.drain", &limits.drain),
        crowd: crowd(raw, &mut wrong),
        workers: Workers {
            count: NonZeroUsize::new(limits.workers),
            memory_bytes: wrong.size("limits.worker_memory", &limits.worker_memory),
            time: wrong.span("limits.worker_time", &limits.worker_time),
        },
        log_json: log_json(raw, &mut wrong),
        log_level: log_level(raw, &mut wrong),
        store: store(raw, &mut wrong),
        keyring: keyring(raw, &mut wrong),
        accept: Accept {
            swap: raw.accept.swap,
            kdump: raw.accept.kdump,
            plain_http: raw.accept.plain_http,
            without: Walls {
                landlock: raw.accept.no_landlock,
                seccomp: raw.accept.no_seccomp,
                namespaces: raw.accept.no_namespaces,
            },
        },
        insecure_loopback: raw.allow_insecure_loopback,
        accept_all: false,
        own: own(raw, &mut wrong),
        policy,
    };
    for origin in &raw.listen.cors_origins {
        if !is_base_url(origin) {
            wrong
                .say("listen.cors_origins", "each is exact, like https://app.example; never \"*\"");
        }
    }
    if settings.header_timeout.is_zero() {
        wrong.say("limits.header_timeout", "at least 1s");
    }
    if wrong.0.is_empty() { Ok((settings, notes(raw))) } else { Err(wrong.0) }
}

/// What is read and has no effect yet.
fn notes(raw: &Raw) -> Vec<String> {
    let mut notes = Vec::new();
    let mut note = |present: bool, text: &str| {
        if present {
            notes.push(text.to_owned());
        }
    };
    for (name, tenant) in &raw.tenants {
        let unsigned = !tenant.webhooks.is_empty() && tenant.webhook_secret_file.is_none();
        let text = "without webhook_secret_file jobs cannot be told of: a webhook is refused";
        note(unsigned, &format!("tenants.{name}.webhooks: {text}"));
    }
    for (name, steps) in &raw.pipelines {
        if let Some(step) = steps.iter().find(|step| !is_built(raw, step)) {
            notes.push(format!("pipelines.{name}: not offered, there is no step {step} here"));
        }
    }
    let mut note = |present: bool, text: &str| {
        if present {
            notes.push(text.to_owned());
        }
    };
    let unused = raw.vault.s3.is_some() && raw.vault.store != "s3";
    note(unused, "vault.s3: without effect, because vault.store is not \"s3\"");
    let state = &raw.state;
    note(
        state.log_key_file.is_some() && state.dir.is_none(),
        "state.log_key_file: without state.dir the log begins anew with every start",
    );
    notes
}

fn tls(raw: &Raw) -> Option<TlsFiles> {
    let tls = raw.listen.tls.as_ref()?;
    Some(TlsFiles { cert_file: tls.cert_file.clone(), key_file: tls.key_file.clone() })
}

fn crowd(raw: &Raw, wrong: &mut Complaints) -> Crowd {
    let networks = raw.listen.trusted_proxies.iter().filter_map(|text| {
        let network = text.parse::<Network>();
        network.map_err(|error| wrong.say("listen.trusted_proxies", error)).ok()
    });
    let proxies = Proxies::new(networks.collect());
    let limits = &raw.limits;
    Crowd { most: limits.connections.max(1), most_each: limits.connections_per_address, proxies }
}

fn memory(raw: &Raw, wrong: &mut Complaints) -> u64 {
    let bytes = wrong.size("limits.memory", &raw.limits.memory);
    if bytes < 4 << 20 {
        wrong.say("limits.memory", "at least 4MiB: a stream needs half a MiB");
    }
    bytes
}

fn log_access(raw: &Raw, wrong: &mut Complaints) -> Access {
    match raw.retention.log.as_str() {
        "public" => Access::Public,
        "tenants" => Access::Tenants,
        "off" => Access::Off,
        _ => {
            wrong.say("retention.log", "\"public\", \"tenants\" or \"off\"");
            Access::Off
        }
    }
}

fn log_json(raw: &Raw, wrong: &mut Complaints) -> bool {
    match raw.log.format.as_str() {
        "text" => false,
        "json" => true,
        _ => {
            wrong.say("log.format", "\"text\" or \"json\"");
            false
        }
    }
}

fn log_level(raw: &Raw, wrong: &mut Complaints) -> tracing::Level {
    let known = ["error", "warn", "info", "debug"].contains(&raw.log.level.as_str());
    let level = raw.log.level.parse().ok().filter(|_| known);
    let complaint = "\"error\", \"warn\", \"info\" or \"debug\"";
    wrong.need("log.level", level, complaint).unwrap_or(tracing::Level::INFO)
}

fn store(raw: &Raw, wrong: &mut Complaints) -> Place {
    match (raw.vault.store.as_str(), &raw.vault.local) {
        ("memory", _) => Place::Memory,
        ("local", Some(local)) => {
            let most = local.max.clone().unwrap_or(raw::Size::Text("50GiB".to_owned()));
            let max_bytes = wrong.size("vault.local.max", &most);
            Place::Local { dir: local.dir.clone(), max_bytes }
        }
        ("local", None) => {
            wrong.say("vault.local.dir", "the store is \"local\": name its folder");
            Place::Memory
        }
        ("s3", _) => match &raw.vault.s3 {
            Some(s3) => bucket(raw, s3, wrong).map_or(Place::Memory, Place::S3),
            None => {
                wrong.say("vault.s3", "the store is \"s3\": name its bucket");
                Place::Memory
            }
        },
        _ => {
            wrong.say("vault.store", "\"memory\", \"local\" or \"s3\"");
            Place::Memory
        }
    }
}

/// A bucket whose every part is there. What is missing is a refusal: there is no other place.
fn bucket(raw: &Raw, s3: &raw::S3, wrong: &mut Complaints) -> Option<S3Options> {
    let bucket = wrong.need("vault.s3.bucket", s3.bucket.clone(), "missing: name it")?;
    if let Err(error) = check_bucket(&bucket) {
        wrong.say("vault.s3.bucket", error);
    }
    let region = s3.region.clone().unwrap_or_else(|| raw.region.clone());
    if region != raw.region && raw.regions.contains_key(&region) {
        let fix = format!("this gateway holds {} alone: use a bucket that lies there", raw.region);
        wrong.say("vault.s3.region", fix);
    }
    let found = endpoint(s3.endpoint.as_deref(), &region, raw.allow_insecure_loopback);
    let found = found.map_err(|error| wrong.say("vault.s3.endpoint", error)).ok();
    let credentials = credentials::of_bucket(s3, raw.allow_insecure_loopback, wrong);
    let every = s3.check_every.as_deref().unwrap_or("1h");
    let check_every = wrong.span("vault.s3.check_every", every);
    if check_every.is_zero() || check_every > Duration::from_hours(1) {
        wrong.say("vault.s3.check_every", "1s to 1h");
    }
    Some(S3Options {
        // A dot in a bucket's name would not fit a certificate.
        path_style: s3.path_style.unwrap_or(s3.endpoint.is_some()) || bucket.contains('.'),
        bucket,
        region,
        endpoint: found?,
        credentials: credentials?,
        check_every,
        insecure_loopback: raw.allow_insecure_loopback,
    })
}

fn keyring(raw: &Raw, wrong: &mut Complaints) -> Keeper {
    match raw.vault.keyring.as_str() {
        "auto" => Keeper::Auto,
        "kernel" => Keeper::Kernel,
        "memory" => Keeper::Memory,
        _ => {
            wrong.say("vault.keyring", "\"auto\", \"kernel\" or \"memory\"");
            Keeper::Memory
        }
    }
}
