//! Storage services: who we are to them, where they are, and which tenants may use them.

use std::collections::BTreeMap;

use super::environment::secret;
use super::raw::{Provider, Raw, Tenant};
use super::rules::is_base_url;
use super::typed::Complaints;
use crate::disk;
use crate::egress::Origin;
use crate::policy::ReturnTo;
use crate::provider::{Client, ClientSecret, Endpoint, Endpoints, Service};

/// The configured clients. A table without a client, or an address that may not be called, is a
/// refusal.
pub(super) fn providers(raw: &Raw, wrong: &mut Complaints) -> BTreeMap<Service, Client> {
    let mut clients = BTreeMap::new();
    for (name, table) in &raw.providers {
        let at = format!("providers.{name}");
        let known = Service::parse(name);
        let Some(service) = wrong.need(&at, known, "a provider is dropbox or google_drive") else {
            continue;
        };
        let id = table.client_id.clone().filter(|id| !id.is_empty());
        let client_id = wrong.need(&format!("{at}.client_id"), id, "missing: the app's id there");
        let client_secret = client_secret(&at, service, table, wrong);
        let endpoints = endpoints(&at, service, table, raw.allow_insecure_loopback, wrong);
        if let (Some(client_id), Some(endpoints)) = (client_id, endpoints) {
            clients.insert(service, Client { service, client_id, client_secret, endpoints });
        }
    }
    let address = raw.listen.public.parse::<std::net::SocketAddr>();
    let local = address.is_ok_and(|at| at.ip().is_loopback());
    if !clients.is_empty() && raw.listen.public_url.is_none() && !local {
        let fix = "missing: people are sent to its pages, and back to it from providers";
        wrong.say("listen.public_url", fix);
    }
    clients
}

/// From a file, or from the environment; never from the settings themselves.
fn client_secret(
    at: &str,
    service: Service,
    table: &Provider,
    wrong: &mut Complaints,
) -> Option<ClientSecret> {
    let key = format!("{at}.client_secret_file");
    let section = service.as_str().to_ascii_uppercase();
    let given = secret(&format!("DAYFLY_PROVIDERS_{section}_CLIENT_SECRET"));
    let text = match (&table.client_secret_file, given) {
        (Some(_), Some(_)) => {
            wrong.say(&key, "given here and in the environment: keep one of them");
            return None;
        }
        (None, given) => given?,
        (Some(file), None) => match disk::read_text(file) {
            Ok(text) => text,
            Err(error) => {
                wrong.say(&key, format!("cannot be read: {}", error.kind()));
                return None;
            }
        },
    };
    let secret = text.trim_end_matches(['\r', '\n']).to_owned();
    if secret.is_empty() {
        wrong.say(&key, "empty");
        return None;
    }
    Some(ClientSecret::new(secret))
}

fn endpoints(
    at: &str,
    service: Service,
    table: &Provider,
    insecure_loopback: bool,
    wrong: &mut Complaints,
) -> Option<Endpoints> {
    let built_in = Endpoints::built_in(service)?;
    let mut place = |key: &str, url: &Option<String>, usual: Endpoint| match url {
        None => usual,
        Some(url) => Endpoint::parse(url, insecure_loopback).unwrap_or_else(|error| {
            wrong.say(&format!("{at}.{key}"), error);
            usual
        }),
    };
    Some(Endpoints {
        authorize: place("authorize_url", &table.authorize_url, built_in.authorize),
        token: place("token_url", &table.token_url, built_in.token),
        api: place("api_url", &table.api_url, built_in.api),
        content: place("content_url", &table.content_url, built_in.content),
        revoke: place("revoke_url", &table.revoke_url, built_in.revoke),
    })
}

/// The services a tenant may use: configured ones.
pub(super) fn tenants_providers(
    raw: &Raw,
    at: &str,
    tenant: &Tenant,
    wrong: &mut Complaints,
) -> Vec<Service> {
    let key = format!("{at}.providers");
    for name in tenant.providers.iter().filter(|name| !raw.providers.contains_key(*name)) {
        wrong.say(&key, format!("there is no [providers.{name}] table"));
    }
    tenant.providers.iter().filter_map(|name| Service::parse(name)).collect()
}

/// Where a tenant's people may be sent back to.
pub(super) fn return_to(
    raw: &Raw,
    at: &str,
    tenant: &Tenant,
    wrong: &mut Complaints,
) -> Vec<ReturnTo> {
    let mut all = Vec::new();
    for url in &tenant.return_to {
        match Origin::parse(url, raw.allow_insecure_loopback) {
            Ok((origin, path)) if !path.contains('?') => all.push(ReturnTo { origin, path }),
            Ok(_) => wrong.say(&format!("{at}.return_to"), "an address here has no query"),
            Err(error) => wrong.say(&format!("{at}.return_to"), error),
        }
    }
    all
}

/// Where clients reach the gateway, when that is not its own address.
pub(super) fn public_url(raw: &Raw, wrong: &mut Complaints) -> Option<String> {
    let url = raw.listen.public_url.as_ref()?;
    let key = "listen.public_url";
    if !is_base_url(url.trim_end_matches('/')) {
        wrong.say(key, "like https://eu.example, without a path");
        return None;
    }
    // A cookie that travels in the clear is nobody's.
    let local = url.starts_with("http://localhost");
    if !raw.providers.is_empty() && !local && Origin::parse(url, true).is_err() {
        wrong.say(key, "providers need https: the consent page sets a cookie");
    }
    Some(url.trim_end_matches('/').to_ascii_lowercase())
}
