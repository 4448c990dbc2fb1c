//! A configuration for a test: sensible from the start, and every line of it replaceable.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use sha2::{Digest, Sha256};

use super::gateway::TestGateway;

/// The region that test gateways run in.
pub const HERE: &str = "eu-test-1";

/// A configuration file in the making.
#[derive(Clone)]
pub struct Setup {
    sections: BTreeMap<String, BTreeMap<String, String>>,
    keys: Vec<Vec<String>>,
    /// The secrets that no log may show.
    secrets: Vec<String>,
    program: Option<PathBuf>,
}

/// The secret part of the test key with that id.
fn secret_of(id: &str) -> String {
    let bytes = Sha256::digest(format!("a test key named {id}"));
    BASE32_NOPAD.encode(&bytes).to_ascii_lowercase()
}

/// The whole test key with that id.
pub fn key_of(id: &str) -> String {
    format!("dfk_{id}_{}", secret_of(id))
}

impl Setup {
    /// Two tenants at home here, one who lives elsewhere, one in both places; a key for each role.
    pub fn new() -> Self {
        let (sections, program) = (BTreeMap::new(), None);
        let empty = Self { sections, keys: Vec::new(), secrets: Vec::new(), program };
        empty
            .set("", "region", &quoted(HERE))
            .set("listen", "public", "\"127.0.0.1:0\"")
            .set("listen", "admin", "\"127.0.0.1:0\"")
            .set("log", "level", "\"debug\"")
            .set("vault", "store", "\"local\"")
            .set("vault", "keyring", "\"memory\"")
            .set("vault.local", "max", "\"4GiB\"")
            .set(&format!("regions.{HERE}"), "jurisdiction", "\"EU\"")
            .set("regions.us-test-2", "jurisdiction", "\"US\"")
            .set("regions.us-test-2", "gateway", "\"https://us.example\"")
            .set("tenants.acme", "regions", &format!("[\"{HERE}\"]"))
            .set("tenants.other", "regions", &format!("[\"{HERE}\"]"))
            .set("tenants.roamer", "regions", &format!("[\"{HERE}\", \"us-test-2\"]"))
            .set("tenants.abroad", "regions", "[\"us-test-2\"]")
            .set("accept", "swap", "true")
            .set("accept", "kdump", "true")
            // Where it is really missing; `jail` asserts what holds.
            .set("accept", "no_namespaces", "true")
            .key("acme", "acme", &["client"])
            .key("acme2", "acme", &["client"])
            .key("other", "other", &["client"])
            .key("roamer", "roamer", &["client"])
            .key("abroad", "abroad", &["client"])
            .key("ops", "acme", &["ops"])
            .key("auditor", "acme", &["auditor"])
            .key("owner", "acme", &["owner"])
    }

    /// Sets a key of a section (`""`: above all sections) to a TOML value.
    pub fn set(mut self, section: &str, key: &str, value: &str) -> Self {
        self.sections.entry(section.to_owned()).or_default().insert(key.to_owned(), value.into());
        self
    }

    /// Lets the tenant `acme` have services on loopback told of its jobs.
    pub fn with_webhooks(self) -> Self {
        let secret = Path::new(env!("CARGO_TARGET_TMPDIR")).join("webhook-secret");
        std::fs::write(&secret, format!("{}\n", super::peer::WEBHOOK_SECRET)).unwrap();
        self.set("", "allow_insecure_loopback", "true")
            .set("tenants.acme", "webhooks", "[\"127.0.0.1\", \"localhost\"]")
            .set("tenants.acme", "webhook_secret_file", &quoted(&secret.display().to_string()))
    }

    /// Takes a whole section out.
    pub fn without(mut self, section: &str) -> Self {
        self.sections.remove(section);
        self
    }

    pub fn key(self, id: &str, tenant: &str, roles: &[&str]) -> Self {
        self.key_with(id, tenant, roles, &[])
    }

    /// A key with further lines, `not_after` for one.
    pub fn key_with(mut self, id: &str, tenant: &str, roles: &[&str], lines: &[&str]) -> Self {
        let secret = secret_of(id);
        let hash = HEXLOWER.encode(&Sha256::digest(&secret));
        let mut entry = vec![
            format!("id = {}", quoted(id)),
            format!("tenant = {}", quoted(tenant)),
            format!("roles = {roles:?}"),
            format!("sha256 = {}", quoted(&hash)),
        ];
        entry.extend(lines.iter().map(|line| (*line).to_owned()));
        self.keys.push(entry);
        self.secrets.push(secret);
        self
    }

    /// Takes a key out.
    pub fn without_key(mut self, id: &str) -> Self {
        let line = format!("id = {}", quoted(id));
        self.keys.retain(|entry| !entry.contains(&line));
        self
    }

    /// Where sealed bytes go, unless the test has said so already.
    pub fn spool(mut self, dir: &Path) -> Self {
        let local = self.sections.entry("vault.local".to_owned()).or_default();
        local.entry("dir".to_owned()).or_insert_with(|| quoted(&dir.display().to_string()));
        self
    }

    /// The configuration as TOML.
    pub fn toml(&self) -> String {
        let mut text = String::new();
        for (section, lines) in &self.sections {
            if !section.is_empty() {
                text += &format!("\n[{section}]\n");
            }
            for (key, value) in lines {
                text += &format!("{key} = {value}\n");
            }
        }
        for entry in &self.keys {
            text += &format!("\n[[keys]]\n{}\n", entry.join("\n"));
        }
        text
    }

    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.secrets.iter().map(String::as_str)
    }

    /// Another build of the program than cargo's own.
    pub fn program(mut self, program: Option<PathBuf>) -> Self {
        self.program = program;
        self
    }

    pub(super) fn which(&self) -> Option<&Path> {
        self.program.as_deref()
    }

    /// Starts a gateway with this configuration.
    #[track_caller]
    pub fn start(self) -> TestGateway {
        TestGateway::with(self)
    }
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}
