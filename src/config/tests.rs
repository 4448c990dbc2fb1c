//! Settings: what is taken, what is refused, and what the shipped files say.

use super::*;

const SMALL: &str = include_str!("../../config/small.toml");
const REFERENCE: &str = include_str!("../../config/dayfly.toml");

fn refused(text: &str) -> String {
    match parse(text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_files_we_ship_are_settings_we_take() {
    for text in [SMALL, REFERENCE] {
        assert!(parse(text).is_ok(), "{:?}", parse(text).err());
    }
}

/// Every commented key of the reference is one we know, with the default it says: uncommenting
/// them all changes nothing but what has no default.
#[test]
fn the_reference_shows_every_key_with_its_default() {
    let uncommented: String = REFERENCE
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if is_setting(rest) => rest,
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n");
    let parsed: Result<Raw, _> = toml::from_str(&uncommented);
    let full = parsed.expect("every key of the reference is known");
    let plain: Raw = toml::from_str(REFERENCE).unwrap();
    assert_eq!(full.limits, plain.limits);
    assert_eq!(full.retention, plain.retention);
    assert_eq!(full.log, plain.log);
    assert_eq!(full.accept, plain.accept);
    assert_eq!(
        (&full.vault.store, &full.vault.keyring),
        (&plain.vault.store, &plain.vault.keyring)
    );
    assert_eq!(full.listen.public, plain.listen.public);
}

fn is_setting(line: &str) -> bool {
    let name = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
    };
    line.split_once(" = ").is_some_and(|(key, _)| name(key))
        || line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(name)
}

#[test]
fn the_schema_file_is_the_one_the_code_gives() {
    assert_eq!(
        include_str!("../../config/dayfly.schema.json"),
        schema(),
        "run: cargo run -- schema > config/dayfly.schema.json"
    );
}

#[test]
fn unknown_keys_and_what_cannot_be_met_are_refused_by_name() {
    for (line, named) in [
        ("colour = \"red\"", "colour"),
        ("[limits]\nmemory = \"lots\"", "limits.memory"),
        ("[limits]\nmemory = \"1KiB\"", "limits.memory"),
        ("[retention]\nmax_ttl = \"24h\"", "retention.max_ttl"),
        ("[retention]\ndefault_ttl = \"soon\"", "retention.default_ttl"),
        ("[vault]\nstore = \"s3\"", "vault.s3"),
        ("[vault]\nkeyring = \"cloud\"", "vault.keyring"),
        ("[listen]\npublic = \"here\"", "listen.public"),
        ("[listen]\ntrusted_proxies = [\"proxy\"]", "listen.trusted_proxies"),
        ("[listen]\ntls = { cert_file = \"a\" }", "key_file"),
        ("[listen]\ncors_origins = [\"*\"]", "listen.cors_origins"),
        ("[pipelines]\np = [\"text\", \"nope\"]", "pipelines.p: there is no processor nope"),
        ("[providers.evilcloud]\nclient_id = \"x\"", "providers.evilcloud"),
        ("[providers.dropbox]\nclient_secret = \"PLAIN\"", "client_secret"),
        ("[providers.dropbox]", "providers.dropbox.client_id"),
        (
            "[providers.dropbox]\nclient_id = \"a\"\ntoken_url = \"http://127.0.0.1:1/\"",
            "providers.dropbox.token_url",
        ),
        (
            "[providers.dropbox]\nclient_id = \"a\"\nclient_secret_file = \"/nowhere\"",
            "providers.dropbox.client_secret_file",
        ),
        (
            "[listen]\npublic = \"0.0.0.0:1\"\n[providers.dropbox]\nclient_id = \"a\"",
            "listen.public_url",
        ),
        (
            "[listen]\npublic_url = \"http://a.example\"\n[providers.dropbox]\nclient_id = \"a\"",
            "providers need https",
        ),
        ("[tenants.b]\nregions = [\"eu\"]\nproviders = [\"dropbox\"]", "tenants.b.providers"),
        (
            "[tenants.b]\nregions = [\"eu\"]\nreturn_to = [\"http://app.example\"]",
            "tenants.b.return_to",
        ),
        ("[retention]\nlog = \"bogus\"", "retention.log"),
        ("[listen]\ncors_origins = [\"nonsense\"]", "listen.cors_origins"),
        ("[regions.us]\ngateway = \"not a url\"", "regions.us.gateway"),
        ("[tenants.b]\nregions = [\"eu\"]\nprocessors = [\"fly\"]", "tenants.b.processors"),
        ("[tenants.b]\nregions = [\"mars\"]", "tenants.b.regions"),
        ("[tenants.b]\nregions = []", "tenants.b.regions"),
        ("[regions.us]\njurisdiction = \"US\"", "regions.us.gateway"),
        ("[[keys]]\nid = \"K\"\ntenant = \"a\"\nroles = [\"client\"]\nsha256 = \"\"", "keys.K"),
        ("[[keys]]\nid = \"k\"\ntenant = \"x\"\nroles = [\"client\"]\nsha256 = \"\"", "tenants.x"),
        ("[[keys]]\nid = \"k\"\ntenant = \"a\"\nroles = [\"king\"]\nsha256 = \"\"", "a role is"),
    ] {
        // Top-level keys come before any table.
        let (above, below) = if line.starts_with('[') { ("", line) } else { (line, "") };
        let vault = if line.contains("[vault]") { "" } else { "[vault]\nstore = \"memory\"\n" };
        let text = format!(
            "region = \"eu\"\n{above}\n{vault}[regions.eu]\n[tenants.a]\nregions = [\"eu\"]\n{below}\n"
        );
        let said = refused(&text);
        assert!(said.contains(named), "{line:?} was answered with {said:?}");
    }
}

#[test]
fn only_what_a_reload_may_change_reloads() {
    let first: Raw = toml::from_str(SMALL).unwrap();
    let mut tenants = first.clone();
    tenants.tenants.clear();
    assert!(first.reloads_into(&tenants));
    let mut certificate = first.clone();
    certificate.listen.tls = Some(raw::Tls { cert_file: "cert".into(), key_file: "key".into() });
    assert!(first.reloads_into(&certificate));
    let mut limits = first.clone();
    limits.limits.connections += 1;
    assert!(!first.reloads_into(&limits));
}
