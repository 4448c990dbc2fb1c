//! The settings file as it is written. Unknown keys are refused.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::processors::Processor;

/// Every table and key there is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Dayfly's settings")]
pub struct Raw {
    /// The region this gateway runs in.
    pub region: String,
    /// Allow http:// on 127.0.0.1 for services that Dayfly calls. For tests.
    #[serde(default)]
    pub allow_insecure_loopback: bool,
    #[serde(default)]
    pub listen: Listen,
    #[serde(default)]
    pub state: State,
    #[serde(default)]
    pub retention: Retention,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub log: Log,
    #[serde(default)]
    pub vault: Vault,
    /// The regions a tenant may name; this gateway's own must be among them.
    pub regions: BTreeMap<String, Region>,
    pub tenants: BTreeMap<String, Tenant>,
    #[serde(default)]
    pub keys: Vec<Key>,
    /// Storage services that people can connect.
    #[serde(default)]
    pub providers: BTreeMap<String, Provider>,
    /// Processors of the operator's own.
    #[serde(default)]
    pub processors: BTreeMap<String, Processor>,
    /// Names for processors in a row.
    #[serde(default)]
    pub pipelines: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub accept: Accept,
}

/// Where clients and the operator reach the gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    pub public: String,
    pub admin: String,
    pub public_url: Option<String>,
    pub trusted_proxies: Vec<String>,
    pub cors_origins: Vec<String>,
    pub tls: Option<Tls>,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            public: "127.0.0.1:8080".to_owned(),
            admin: "127.0.0.1:9464".to_owned(),
            public_url: None,
            trusted_proxies: Vec::new(),
            cors_origins: Vec::new(),
            tls: None,
        }
    }
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

/// What outlives a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct State {
    pub dir: Option<PathBuf>,
    /// Where the log key is, if not in the folder: made there if it is missing.
    pub log_key_file: Option<PathBuf>,
}

/// How long things are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    pub default_ttl: String,
    pub max_ttl: String,
    pub receipts: String,
    pub log: String,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            default_ttl: "1h".to_owned(),
            max_ttl: "23h30m".to_owned(),
            receipts: "30d".to_owned(),
            log: "public".to_owned(),
        }
    }
}

/// What a request, a client and the process may use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    pub max_file: Size,
    pub memory: Size,
    pub min_rate: String,
    pub header_timeout: String,
    pub drain: String,
    pub connections: usize,
    /// 0: no number; nobody gets more than are still free.
    pub connections_per_address: usize,
    pub requests_per_second: u32,
    /// 0: one for each processor core.
    pub workers: usize,
    pub worker_memory: Size,
    pub worker_time: String,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_file: Size::Text("5GiB".to_owned()),
            memory: Size::Text("512MiB".to_owned()),
            min_rate: "1KiB/s".to_owned(),
            header_timeout: "10s".to_owned(),
            drain: "30s".to_owned(),
            connections: 10_000,
            connections_per_address: 0,
            requests_per_second: 0,
            workers: 0,
            worker_memory: Size::Text("512MiB".to_owned()),
            worker_time: "30s".to_owned(),
        }
    }
}

/// Bytes, as a number or like "5GiB".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Size {
    Bytes(u64),
    Text(String),
}

/// How the gateway speaks to its operator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    pub format: String,
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: "text".to_owned(), level: "info".to_owned() }
    }
}

/// Where sealed bytes rest, and who keeps their keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Vault {
    pub store: String,
    pub keyring: String,
    pub local: Option<Local>,
    /// Needed where store is "s3".
    pub s3: Option<S3>,
}

impl Default for Vault {
    fn default() -> Self {
        Self { store: "local".to_owned(), keyring: "auto".to_owned(), local: None, s3: None }
    }
}

/// A bucket for sealed bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct S3 {
    pub bucket: Option<String>,
    pub region: Option<String>,
    pub endpoint: Option<String>,
    pub path_style: Option<bool>,
    pub access_key_id_file: Option<PathBuf>,
    pub secret_access_key_file: Option<PathBuf>,
    /// Whether the machine lends the credentials of its role instead.
    pub instance_role: bool,
    /// Where the machine's metadata service is, for tests.
    pub instance_metadata_url: Option<String>,
    /// Between two checks of the bucket, 1h if absent.
    pub check_every: Option<String>,
}

/// A storage service: its client and, for tests, where it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Provider {
    pub client_id: Option<String>,
    pub client_secret_file: Option<PathBuf>,
    pub authorize_url: Option<String>,
    pub token_url: Option<String>,
    pub api_url: Option<String>,
    pub content_url: Option<String>,
    pub revoke_url: Option<String>,
    /// Where its storage is, if deliveries are to be held to a region.
    pub region: Option<String>,
}

/// The folder for sealed bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Local {
    pub dir: PathBuf,
    pub max: Option<Size>,
}

/// A region and who holds it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Region {
    pub jurisdiction: Option<String>,
    pub gateway: Option<String>,
}

/// What a tenant may do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    pub display_name: Option<String>,
    pub regions: Vec<String>,
    #[serde(default)]
    pub providers: Vec<String>,
    pub processors: Option<Vec<String>>,
    pub max_ttl: Option<String>,
    pub max_file: Option<Size>,
    pub max_live_bytes: Option<Size>,
    pub digest: Option<String>,
    #[serde(default)]
    pub return_to: Vec<String>,
    #[serde(default)]
    pub webhooks: Vec<String>,
    /// Where hosts of webhooks are, if messages are to be held to a region.
    #[serde(default)]
    pub webhook_regions: BTreeMap<String, String>,
    pub webhook_secret_file: Option<PathBuf>,
}

/// A client's key: the hash of its secret part, never the secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Key {
    pub id: String,
    pub tenant: String,
    pub roles: Vec<String>,
    pub sha256: String,
    pub not_after: Option<String>,
}

/// Limits of the machine that the operator accepts by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Accept {
    pub swap: bool,
    pub kdump: bool,
    pub plain_http: bool,
    pub no_landlock: bool,
    pub no_seccomp: bool,
    pub no_namespaces: bool,
}

impl Raw {
    /// The same settings to be shown, without what may be secret.
    #[must_use]
    pub fn redacted(&self) -> Self {
        let mut shown = self.clone();
        for key in &mut shown.keys {
            "(set)".clone_into(&mut key.sha256);
        }
        shown
    }

    /// Whether `other` differs only in what a reload may change: tenants, keys, regions, providers,
    /// processors, pipelines and where the certificate lies.
    #[must_use]
    pub fn reloads_into(&self, other: &Self) -> bool {
        let fixed = |raw: &Self| Self {
            regions: BTreeMap::new(),
            tenants: BTreeMap::new(),
            keys: Vec::new(),
            providers: BTreeMap::new(),
            processors: BTreeMap::new(),
            pipelines: BTreeMap::new(),
            listen: Listen { tls: None, ..raw.listen.clone() },
            ..raw.clone()
        };
        fixed(self) == fixed(other)
    }
}
