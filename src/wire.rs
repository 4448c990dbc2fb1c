//! The JSON shapes of the contract, and nothing else: what goes over the wire, in which words.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

mod policy;
pub use policy::{Explain, Explanation, Policy, PolicyRegion, PolicyTenant, Reason};

/// A file, as its owner sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct File {
    /// `file_` and 26 base32 characters.
    pub id: String,
    pub name: Option<String>,
    /// As the content tells it, or else as it was declared.
    pub media_type: String,
    pub declared_media_type: Option<String>,
    /// Bytes.
    pub size: u64,
    /// Base64 by algorithm, where one was asked for or sent.
    pub digest: Option<BTreeMap<&'static str, String>>,
    pub region: String,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// RFC 3339, UTC. The file is gone from this moment on.
    pub expires_at: String,
    /// Downloads left to begin; null for no limit.
    pub downloads_left: Option<u64>,
    /// Always `ready`: a file that is not complete is not shown.
    pub state: &'static str,
    pub links: Links,
    /// On upload with `steps`: the id of the job that was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
}

/// Where a file's parts are, relative to the gateway.
#[derive(Debug, Serialize, ToSchema)]
pub struct Links {
    #[serde(rename = "self")]
    pub this: String,
    pub content: String,
    pub receipt: String,
}

/// A page of files, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct FileList {
    pub files: Vec<File>,
    /// To be sent as `cursor` for the next page; null on the last.
    pub cursor: Option<String>,
}

/// The files of one multipart upload.
#[derive(Debug, Serialize, ToSchema)]
pub struct Created {
    pub files: Vec<File>,
    /// With `steps`: the id of the job that was started on all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
}

/// Work that is asked for now and fetched later. Exactly one of `source` and `sources` is there.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobOrder {
    pub source: Option<Source>,
    /// Up to 100; each goes through all steps, and all succeed or none.
    #[serde(default)]
    pub sources: Vec<Source>,
    /// Names of processors or pipelines, in their order.
    #[serde(default)]
    pub steps: Vec<String>,
    /// Options by step, like `{"text":{"format":"markdown"}}`.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub options: serde_json::Map<String, serde_json::Value>,
    /// From now on, like `90s`, `15m`, `4h`, `23h30m`. It can only end the sources' lives earlier.
    pub ttl: Option<String>,
    pub region: Option<String>,
    /// Where outputs are put, too: a folder of a connection with `browse+write`.
    pub deliver: Option<Deliver>,
    /// Who is told of the job's end.
    pub webhook: Option<WebhookTarget>,
    /// Shreds the sources when the job has succeeded.
    #[serde(default)]
    pub consume: bool,
    /// The application's id of its user, for a source of a connection.
    pub subject: Option<String>,
}

/// What a job works on: a file, or an item of a connection, which is fetched first.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The id of a live file.
    pub file: Option<String>,
    pub connection: Option<String>,
    /// The id of a file or a folder of the connection.
    pub item: Option<String>,
}

/// A folder of a connection.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Deliver {
    pub connection: String,
    /// A folder's id; the account's root if absent.
    pub folder: Option<String>,
}

/// An address that is told of a job's end (Standard Webhooks).
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookTarget {
    /// `https`, at one of the hosts the tenant's policy names.
    pub url: String,
}

/// A job, as its owner sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Job {
    /// `job_` and 26 base32 characters.
    pub id: String,
    /// `queued`, `running`, `succeeded`, `failed`, `cancelled` or `expired`.
    pub state: &'static str,
    pub progress: JobProgress,
    /// The files it has made, as far as they are alive.
    pub outputs: Vec<File>,
    /// Why it failed.
    pub problem: Option<JobProblem>,
    /// The files it works on.
    pub sources: Vec<String>,
    pub steps: Vec<String>,
    pub consume: bool,
    pub region: String,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// RFC 3339, UTC: its sources' end, or the earlier one that was asked for.
    pub expires_at: String,
    pub links: JobLinks,
}

/// How far a job has come.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobProgress {
    /// The step at work.
    pub step: Option<String>,
    /// Bytes the step has read.
    pub bytes_in: u64,
    /// Bytes it has to read, where they are known.
    pub bytes_total: Option<u64>,
    /// Of the whole job.
    pub percent: u8,
}

/// Why a job failed, in the words of RFC 9457.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobProblem {
    /// `/problems/<slug>`, a page the gateway serves.
    #[serde(rename = "type")]
    pub kind: String,
    pub title: &'static str,
    pub status: u16,
    pub detail: String,
    /// Where a file is gone: its receipt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
}

/// Where a job's parts are, relative to the gateway.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobLinks {
    #[serde(rename = "self")]
    pub this: String,
    pub events: String,
}

/// A page of jobs, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobList {
    pub jobs: Vec<Job>,
    /// To be sent as `cursor` for the next page; null on the last.
    pub cursor: Option<String>,
}

/// A shorter life.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Shorten {
    /// From now on, like `90s`, `15m`, `4h`, `23h30m`. It can only end the life earlier.
    pub ttl: String,
}

/// The statement about one file's acceptance and destruction.
#[derive(Debug, Serialize, ToSchema)]
pub struct Receipt {
    /// The file's id.
    pub id: String,
    pub file: String,
    /// `live` or `final`.
    pub state: &'static str,
    pub region: String,
    pub accepted_at: String,
    pub expires_at: String,
    pub destroyed_at: Option<String>,
    /// `deleted`, `expired`, `downloaded`, `consumed`, `cancelled`, `failed`, `erased`, `key-lost`
    /// or `shutdown`; null while the file lives.
    pub reason: Option<&'static str>,
    /// Which backend kept the key of the file's deadline: `kernel` or `memory`. A file that lives
    /// less than 300 s has no such key: its own is in memory.
    pub keyring: &'static str,
    /// For lost keys: when the process that held them was last heard of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen_alive: Option<String>,
    /// The keys destroyed.
    pub keys: Vec<ReceiptKey>,
    /// What the stores answered to the deletes.
    pub blobs: Vec<ReceiptBlob>,
    /// Processors that were handed plaintext.
    pub handed_to: Vec<String>,
    /// Limits of this machine that the operator accepted by name.
    pub accepted_limits: Vec<String>,
    /// Over the segments' commitments, hex.
    pub commitment: String,
    /// Hex; for the tenant's own client and owner keys.
    pub commitment_salt: Option<String>,
    pub build: String,
    /// The receipt's place in the log of proofs; null until the next checkpoint, or without a log.
    pub log_index: Option<u64>,
}

/// A note, and its way from a leaf to a checkpoint: what `dayfly verify` reads.
#[derive(Debug, Serialize, ToSchema)]
pub struct Proof {
    /// The signed note.
    pub note: String,
    /// The leaf's first byte: 0 boot, 1 acceptance, 2 destruction, 3 closing, 4 amendment.
    pub kind: u8,
    /// Base64, 32 bytes. The leaf is kind and SHA-256 of `dayfly/v1 leaf`, a zero byte, the blind
    /// and the note's text.
    pub blind: String,
    /// The leaf's place in the log.
    pub index: u64,
    /// Base64, from the leaf's sibling up (RFC 6962, section 2.1.1).
    pub path: Vec<String>,
    /// A signed checkpoint (C2SP tlog-checkpoint).
    pub checkpoint: String,
}

/// A key that was destroyed.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReceiptKey {
    /// `file_secret` or `epoch`.
    pub key: &'static str,
    pub destroyed_at: String,
}

/// A blob and its store's answer: `pending` or `deleted`.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReceiptBlob {
    pub store: &'static str,
    pub answer: &'static str,
}

/// A connection to be asked for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewConnection {
    /// `dropbox` or `google_drive`.
    pub provider: String,
    /// `picked` (Google Drive alone), `browse` or `browse+write`.
    pub access: String,
    /// Where the person goes afterwards, one of the tenant's; without it they are shown a code.
    pub return_to: Option<String>,
    /// The app's own opaque id of its user. Kept as a keyed hash; to be repeated later.
    pub subject: Option<String>,
    /// Whether it may be used while the person is away.
    pub offline: Option<bool>,
    /// From consent on, like `15m` or `4h`.
    pub ttl: Option<String>,
}

/// A connection that waits for its person.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConnectionCreated {
    /// `conn_` and 26 base32 characters.
    pub id: String,
    pub state: &'static str,
    /// The page to send the person to: it opens once. Null once a browser has opened it.
    pub authorize_url: Option<String>,
    /// Until then the person has to have agreed.
    pub expires_at: String,
}

/// A connection, as its app sees it. Its token is never shown.
#[derive(Debug, Serialize, ToSchema)]
pub struct Connection {
    pub id: String,
    pub provider: &'static str,
    pub access: &'static str,
    pub offline: bool,
    /// `pending`, `consented`, `active`, `revoked`, `expired` or `failed`.
    pub state: &'static str,
    /// Why it failed.
    pub problem: Option<StateProblem>,
    /// Whose account it is, while it is active.
    pub account: Option<String>,
    /// What the provider granted.
    pub scopes: Vec<String>,
    pub created_at: String,
    pub expires_at: String,
    /// Once it is over: what the provider said to the revocation.
    pub provider_revocation: Option<&'static str>,
}

/// A page of connections, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConnectionList {
    pub connections: Vec<Connection>,
    /// To be sent as `cursor` for the next page; null on the last.
    pub cursor: Option<String>,
}

/// The problem something ended with (RFC 9457), apart from any one request.
#[derive(Debug, Serialize, ToSchema)]
pub struct StateProblem {
    #[serde(rename = "type")]
    pub kind: String,
    pub title: &'static str,
    pub status: u16,
    pub detail: &'static str,
}

/// What shows that the person who consented is the app's user.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Confirm {
    /// As the person's browser brought it, or as they read it.
    pub code: String,
    /// Where one was given.
    pub subject: Option<String>,
}

/// A connection that has ended.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConnectionEnded {
    pub id: String,
    pub state: &'static str,
    /// `done`; `failed`: the provider did not say that it did, and the token is shredded here all
    /// the same; or `deferred`: another live connection stands on the same grant, and the last of
    /// them ends it.
    pub provider_revocation: &'static str,
}

/// Part of a folder of a connected account.
#[derive(Debug, Serialize, ToSchema)]
pub struct Items {
    pub items: Vec<Item>,
    /// To be sent as `cursor` for the next part; null on the last.
    pub cursor: Option<String>,
}

/// A file or a folder of a connected account.
#[derive(Debug, Serialize, ToSchema)]
pub struct Item {
    pub id: String,
    /// Made safe to show and to save under. Names are not unique in a folder.
    pub name: String,
    /// `file` or `folder`.
    pub kind: &'static str,
    /// Bytes, where the provider knows.
    pub size: Option<u64>,
    pub media_type: Option<String>,
    pub modified_at: Option<String>,
    /// As the provider computed it: `sha-256` or `md5` in base64, or `dropbox-content-hash`.
    pub digest: Option<BTreeMap<&'static str, String>>,
}

/// RFC 9457.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// `/problems/<slug>`, a page the gateway serves.
    #[serde(rename = "type")]
    pub kind: String,
    pub title: &'static str,
    pub status: u16,
    /// In the gateway's own words, never the request's.
    pub detail: String,
    pub request_id: String,
    /// Where a file is gone: its receipt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
    /// Where an upload goes on, if that is what the request was wrong about.
    #[serde(rename = "expected-offset", skip_serializing_if = "Option::is_none")]
    pub expected_offset: Option<u64>,
    /// Where the request thought it did.
    #[serde(rename = "provided-offset", skip_serializing_if = "Option::is_none")]
    pub provided_offset: Option<u64>,
}

/// The regions this gateway knows.
#[derive(Debug, Serialize, ToSchema)]
pub struct Regions {
    pub regions: Vec<Region>,
}

/// One region.
#[derive(Debug, Serialize, ToSchema)]
pub struct Region {
    pub name: String,
    pub jurisdiction: Option<String>,
    /// Base URL of the gateway that holds it; null for this one.
    pub gateway: Option<String>,
    /// Whether this gateway runs in it.
    pub here: bool,
    /// What was checked of this gateway's storage; null for other regions.
    pub checked: Option<RegionCheck>,
}

/// What this gateway's storage is.
#[derive(Debug, Serialize, ToSchema)]
pub struct RegionCheck {
    pub store: &'static str,
    #[serde(flatten)]
    pub storage: Option<StorageCheck>,
    /// RFC 3339, UTC: when it was asked last.
    pub at: String,
}

/// What a storage server reports of the bucket; no more is claimed.
#[derive(Debug, Serialize, ToSchema)]
pub struct StorageCheck {
    /// Null where the server does not tell.
    pub bucket_region: Option<String>,
    /// `off`, or `not-offered` by this server.
    pub versioning: &'static str,
    pub object_lock: &'static str,
    pub replication: &'static str,
    /// `blocked`; `unset` where the bucket has no block of its own but grants nobody else anything;
    /// `not-offered`.
    pub public_access: &'static str,
}

/// The processing steps on offer.
#[derive(Debug, Serialize, ToSchema)]
pub struct Processors {
    pub processors: Vec<Processor>,
}

/// One step.
#[derive(Debug, Serialize, ToSchema)]
pub struct Processor {
    pub name: String,
    pub media_types: Vec<&'static str>,
    /// A JSON Schema of its options.
    #[schema(value_type = Object)]
    pub options: serde_json::Value,
}

/// A right to be handed on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "allow", rename_all = "lowercase", deny_unknown_fields)]
pub enum GrantAsk {
    /// To take files in.
    Upload {
        /// The largest file, bytes; never more than the policy allows.
        max_size: Option<u64>,
        /// Files that may be made: 1 to 10000.
        count: u64,
        /// How long the grant lasts, like `90s`, `15m`, `4h`, `23h30m`.
        ttl: String,
        /// The only region it may be used for.
        region: Option<String>,
    },
    /// To fetch one file.
    Download {
        /// The file's id.
        file: String,
        /// Downloads that may begin: 1 to 10000.
        count: u64,
        /// How long the grant lasts; never longer than the file.
        ttl: String,
    },
}

/// A right that was handed on.
#[derive(Debug, Serialize, ToSchema)]
pub struct Grant {
    /// `dfg_…`, to be sent as a Bearer token. It is shown this once.
    pub grant: String,
    /// RFC 3339, UTC. It ends then at the latest.
    pub expires_at: String,
}

/// A page of the audit trail, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditList {
    pub audit: Vec<AuditLine>,
    /// To be sent as `cursor` for the next page; null on the last.
    pub cursor: Option<String>,
}

/// Something that was done.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditLine {
    /// RFC 3339, UTC.
    pub at: String,
    /// The id of the key that did it, or whose grant did.
    pub key: String,
    /// The grant that did it, where it was one.
    pub grant: Option<String>,
    /// `file.create`, `file.read`, `file.shorten`, `file.delete`, `process.run`, `grant.create`,
    /// `tenant.erase`, `tenant.suspend`, `tenant.resume` or `tenant.export`.
    pub action: &'static str,
    /// What it was done to; null for the tenant as a whole.
    pub id: Option<String>,
}

/// What an erasure has destroyed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Erased {
    /// Files and runs that had been accepted.
    pub erased: u64,
    /// One final receipt for each.
    pub receipts: Vec<Receipt>,
}

/// Whose key this is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Whoami {
    pub tenant: String,
    pub display_name: Option<String>,
    pub key: String,
    pub roles: Vec<&'static str>,
    pub regions: Vec<String>,
    /// The longest life this tenant may ask for, seconds.
    pub max_ttl_seconds: u64,
    /// The largest file, bytes.
    pub max_file_bytes: u64,
}

/// The state of the instance.
#[derive(Debug, Serialize, ToSchema)]
pub struct Status {
    pub version: &'static str,
    pub build: &'static str,
    pub region: String,
    pub keyring: &'static str,
    /// What kind of locked pages hold the secrets.
    pub pages: &'static str,
    pub store: &'static str,
    pub counts: Counts,
    pub oldest_live_seconds: u64,
    /// Files alive past their deadline: must be 0.
    pub overdue_deletions: u64,
    pub accepted_limits: Vec<String>,
    pub policy_loaded_at: String,
}

/// How much there is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Counts {
    pub live_files: u64,
    /// Plaintext bytes of all live files.
    pub live_bytes: u64,
    pub blobs: u64,
    /// Blobs without keys that wait to be deleted.
    pub pending_deletes: u64,
    /// Deadline keys the kernel holds.
    pub kernel_keys: u64,
    /// Deadline keys in the gateway's own locked pages.
    pub memory_keys: u64,
}
