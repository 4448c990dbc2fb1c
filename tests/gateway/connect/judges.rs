//! The emulators, judged by the providers' own clients for Python.

use std::process::Command;

use crate::cloud::{Cloud, Kind};
use crate::harness::skip;

/// Runs a judge's script against an emulator.
fn judged_by(script: &str, cloud: &Cloud) {
    let root = env!("CARGO_MANIFEST_DIR");
    let python = std::env::var("DAYFLY_JUDGES")
        .unwrap_or_else(|_| format!("{root}/target/judges/bin/python"));
    if Command::new(&python).arg("--version").output().is_err() {
        return skip(&format!("{script}: tests/run installs the providers' clients"));
    }
    let ran = Command::new(&python)
        .arg(format!("{root}/tests/gateway/cloud/{script}"))
        .args([&cloud.url(), cloud.client_id(), cloud.client_secret()])
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success() && out.trim_end().ends_with("judged"), "{out}\n{err}");
}

#[test]
fn dropboxs_own_client_accepts_the_emulator() {
    judged_by("judge_dropbox.py", &Cloud::start(Kind::Dropbox));
}

#[test]
fn googles_own_client_accepts_the_emulator() {
    judged_by("judge_google_drive.py", &Cloud::start(Kind::GoogleDrive));
}
