//! Every metric Dayfly has: name, unit, labels and meaning, in one list.
//!
//! Labels are closed sets of our own words. No tenant, name, id or address is ever one.

use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};

macro_rules! names {
    ($($name:ident $text:literal;)*) => { $(pub const $name: &str = $text;)* };
}

names! {
    FILES_ACCEPTED "dayfly_files_accepted_total";
    FILES_DESTROYED "dayfly_files_destroyed_total";
    LIVE_FILES "dayfly_live_files";
    LIVE_BYTES "dayfly_live_bytes";
    OVERDUE_DELETIONS "dayfly_overdue_deletions";
    OLDEST_LIVE "dayfly_oldest_live_seconds";
    REGION_MISMATCHES "dayfly_region_mismatches_total";
    STORE_DELETE_FAILURES "dayfly_store_delete_failures_total";
    STORE_DELETES_PENDING "dayfly_store_deletes_pending";
    STORE_RETRIES "dayfly_store_retries_total";
    STORE_ORPHANS "dayfly_store_orphans_removed_total";
    STORE_UNFIT "dayfly_store_unfit";
    BUDGET "dayfly_budget_bytes";
    BUDGET_USED "dayfly_budget_used_bytes";
    TASKS_PANICKED "dayfly_tasks_panicked_total";
    REQUESTS "dayfly_requests_total";
    PROBLEMS "dayfly_problems_total";
    UPLOAD_BYTES "dayfly_upload_bytes_total";
    DOWNLOAD_BYTES "dayfly_download_bytes_total";
    CONNECTIONS "dayfly_connections";
    CONNECTIONS_REFUSED "dayfly_connections_refused_total";
    WORKERS_RUNNING "dayfly_workers_running";
    WORKER_FAILURES "dayfly_worker_failures_total";
    DESTROY_LAG "dayfly_destroy_lag_seconds";
    KEYRING_SLOTS_USED "dayfly_keyring_slots_used";
    KEYRING_KERNEL_KEYS "dayfly_keyring_kernel_keys";
    KEYRING_MEMORY_KEYS "dayfly_keyring_memory_keys";
    KEYRING_FALLBACKS "dayfly_keyring_fallbacks_total";
    KEYS_CONDEMNED "dayfly_keys_condemned_total";
    CLOUD_CONNECTIONS "dayfly_cloud_connections";
    CLOUD_REVOCATIONS "dayfly_cloud_revocations_total";
    AUDIT_LINES_DROPPED "dayfly_audit_lines_dropped_total";
    JOBS "dayfly_jobs";
    JOBS_ENDED "dayfly_jobs_ended_total";
    WEBHOOKS "dayfly_webhooks_total";
    EVIDENCE_FAILURES "dayfly_evidence_failures_total";
}

/// Installs the recorder, describes every metric and creates each at zero.
///
/// # Errors
/// When a recorder is installed already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets(&[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0, 300.0])?
        .install_recorder()?;
    describe();
    for name in [
        FILES_ACCEPTED,
        REGION_MISMATCHES,
        STORE_DELETE_FAILURES,
        STORE_RETRIES,
        STORE_ORPHANS,
        TASKS_PANICKED,
        UPLOAD_BYTES,
        DOWNLOAD_BYTES,
        KEYRING_FALLBACKS,
        AUDIT_LINES_DROPPED,
        EVIDENCE_FAILURES,
    ] {
        counter!(name).absolute(0);
    }
    for why in ["address", "handshake"] {
        counter!(CONNECTIONS_REFUSED, "why" => why).absolute(0);
    }
    for name in [
        LIVE_FILES,
        LIVE_BYTES,
        OVERDUE_DELETIONS,
        OLDEST_LIVE,
        STORE_DELETES_PENDING,
        STORE_UNFIT,
        BUDGET,
        BUDGET_USED,
        CONNECTIONS,
        WORKERS_RUNNING,
        KEYRING_SLOTS_USED,
        KEYRING_KERNEL_KEYS,
        KEYRING_MEMORY_KEYS,
        CLOUD_CONNECTIONS,
    ] {
        gauge!(name).set(0.0);
    }
    for state in ["queued", "running"] {
        gauge!(JOBS, "state" => state).set(0.0);
    }
    for state in ["succeeded", "failed", "cancelled", "expired"] {
        counter!(JOBS_ENDED, "state" => state).absolute(0);
    }
    for outcome in ["delivered", "failed", "unwanted", "abandoned"] {
        counter!(WEBHOOKS, "outcome" => outcome).absolute(0);
    }
    Ok(handle)
}

fn describe() {
    describe_counter!(FILES_ACCEPTED, "Files accepted: all their bytes are sealed");
    describe_counter!(FILES_DESTROYED, "Files whose keys were destroyed, by reason");
    describe_gauge!(LIVE_FILES, "Files whose keys exist");
    describe_gauge!(LIVE_BYTES, Unit::Bytes, "Plaintext size of all live files");
    describe_gauge!(
        OVERDUE_DELETIONS,
        "Files alive, or without a receipt of their end, past their deadline: must be 0"
    );
    describe_gauge!(OLDEST_LIVE, Unit::Seconds, "Age of the oldest live file");
    describe_counter!(REGION_MISMATCHES, "Writes refused: the store is of another region");
    describe_counter!(STORE_DELETE_FAILURES, "Deletes a store refused; each is tried again");
    describe_gauge!(STORE_DELETES_PENDING, "Blobs without keys that still wait to be deleted");
    describe_counter!(STORE_RETRIES, "Requests to a far store that were sent once more");
    describe_counter!(STORE_ORPHANS, "Objects and uploads without an owner that were removed");
    describe_gauge!(STORE_UNFIT, "1 while the store takes nothing in: it can no longer forget");
    describe_gauge!(BUDGET, Unit::Bytes, "Memory all buffers together may hold");
    describe_gauge!(BUDGET_USED, Unit::Bytes, "Memory held by buffers");
    describe_counter!(TASKS_PANICKED, "Tasks that ended in a panic: must be 0");
    describe_counter!(REQUESTS, "Requests answered, by method and status");
    describe_counter!(PROBLEMS, "Problems answered, by slug");
    describe_counter!(UPLOAD_BYTES, Unit::Bytes, "Plaintext bytes taken in");
    describe_counter!(DOWNLOAD_BYTES, Unit::Bytes, "Plaintext bytes handed out");
    describe_gauge!(CONNECTIONS, "Open client connections");
    describe_counter!(CONNECTIONS_REFUSED, "Connections not spoken to, by why");
    describe_gauge!(WORKERS_RUNNING, "Worker processes running");
    describe_counter!(WORKER_FAILURES, "Workers that did not end well, by why");
    describe_histogram!(DESTROY_LAG, Unit::Seconds, "From a deadline to its keys' destruction");
    describe_gauge!(KEYRING_SLOTS_USED, "Locked 32-byte slots in use");
    describe_gauge!(KEYRING_KERNEL_KEYS, "Deadline keys the kernel holds");
    describe_gauge!(KEYRING_MEMORY_KEYS, "Deadline keys in this process's locked pages");
    describe_counter!(KEYRING_FALLBACKS, "Deadline keys kept in memory for want of kernel quota");
    describe_counter!(KEYS_CONDEMNED, "Times every key was destroyed at once, by why");
    describe_gauge!(CLOUD_CONNECTIONS, "Connections to cloud storage that hold a token");
    describe_counter!(CLOUD_REVOCATIONS, "Revocations asked of providers, by what was answered");
    describe_counter!(AUDIT_LINES_DROPPED, "Audit lines lost because a tenant has too many");
    describe_gauge!(JOBS, "Jobs that have not ended, by state");
    describe_counter!(JOBS_ENDED, "Jobs that have ended, by state");
    describe_counter!(
        WEBHOOKS,
        "Tries to tell of a job's end, by outcome; abandoned ones had many"
    );
    describe_counter!(EVIDENCE_FAILURES, "Receipts or checkpoints that could not be written");
}

/// Adds `n` to a counter without labels.
pub fn count(name: &'static str, n: u64) {
    counter!(name).increment(n);
}

/// Sets a counter that is kept elsewhere to its total.
pub fn total(name: &'static str, total: u64) {
    counter!(name).absolute(total);
}

/// Adds one to a counter with one label from a closed set.
pub fn count_by(name: &'static str, label: &'static str, value: &'static str) {
    counter!(name, label => value).increment(1);
}

/// Sets a gauge.
pub fn set(name: &'static str, value: f64) {
    gauge!(name).set(value);
}

/// Moves a gauge up or down.
pub fn shift(name: &'static str, by: f64) {
    gauge!(name).increment(by);
}

/// Moves a gauge with one label from a closed set up or down.
pub fn shift_by(name: &'static str, label: &'static str, value: &'static str, by: f64) {
    gauge!(name, label => value).increment(by);
}

/// Records one observation of a histogram, seconds.
pub fn observe(name: &'static str, seconds: f64) {
    histogram!(name).record(seconds);
}

/// Counts a request answered; methods and statuses are closed sets.
pub fn request(method: &'static str, status: u16) {
    counter!(REQUESTS, "method" => method, "status" => status.to_string()).increment(1);
}
