//! The gateway of somebody who has just unpacked it: on loopback, for this run, no file needed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::app::{Accept, Keeper, Place, Settings, Workers};
use crate::file::{MAX_TTL, TenantId};
use crate::http::{Crowd, Proxies};
use crate::policy::{Key, KeyError, Places, Policy, RegionPolicy, Roles, TenantPolicy};
use crate::receipt::Access;
use crate::region::Region;

/// What the embedded default needs from outside.
pub struct Embedded {
    /// Where the public listener goes, if not to the default place.
    pub listen: Option<SocketAddr>,
    /// SHA-256 of the secret part of the key drawn for this run, hex.
    pub key_sha256: String,
    /// A folder for sealed temporary files.
    pub spool: PathBuf,
}

/// Region `local`, tenant `demo`, one key with every role; the limits of the machine accepted.
///
/// # Errors
/// When the key's hash is malformed.
pub fn embedded(given: Embedded) -> Result<Settings, KeyError> {
    let key = Key::new("demo", "demo", Roles::EVERY, &given.key_sha256, None)?;
    let loopback = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    Ok(Settings {
        public: given.listen.unwrap_or(loopback(8080)),
        admin: loopback(if given.listen.is_some() { 0 } else { 9464 }),
        tls: None,
        cors_origins: Vec::new(),
        public_url: None,
        state_dir: None,
        log_key_file: None,
        log: Access::Public,
        receipts: Duration::from_hours(30 * 24),
        memory_bytes: 512 << 20,
        min_rate: 1024,
        header_timeout: Duration::from_secs(10),
        drain: Duration::from_secs(30),
        crowd: Crowd { most: 10_000, most_each: 0, proxies: Proxies::default() },
        workers: Workers { count: None, memory_bytes: 512 << 20, time: Duration::from_secs(30) },
        log_json: false,
        log_level: tracing::Level::INFO,
        store: Place::Local { dir: given.spool, max_bytes: 50 << 30 },
        keyring: Keeper::Auto,
        accept: Accept::default(),
        insecure_loopback: false,
        accept_all: true,
        own: Vec::new(),
        policy: policy(key),
    })
}

fn policy(key: Key) -> Policy {
    let here = region();
    let tenant = TenantPolicy {
        id: TenantId::of("demo"),
        display_name: Some("Demo".to_owned()),
        regions: vec![here],
        processors: None,
        webhook_regions: BTreeMap::new(),
        max_ttl: MAX_TTL,
        max_file_bytes: 5 << 30,
        max_live_bytes: u64::MAX,
        always_digest: false,
        providers: Vec::new(),
        return_to: Vec::new(),
        webhooks: Vec::new(),
        webhook_secret: None,
    };
    let place = RegionPolicy { jurisdiction: None, gateway: None };
    Policy {
        here,
        regions: BTreeMap::from([(here, place)]),
        tenants: BTreeMap::from([("demo".to_owned(), tenant)]),
        keys: vec![key],
        pipelines: BTreeMap::new(),
        processors: BTreeMap::new(),
        providers: BTreeMap::new(),
        provider_regions: BTreeMap::new(),
        places: Places::default(),
        default_ttl: Duration::from_hours(1),
        max_ttl: MAX_TTL,
        max_file_bytes: 5 << 30,
        requests_per_second: 0,
    }
}

fn region() -> Region {
    "local".parse().unwrap_or_else(|_| unreachable!("\"local\" is a region's name"))
}
