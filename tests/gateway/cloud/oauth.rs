//! The authorization half, as RFC 6749 and RFC 7636 have it and as both services answer.

use std::collections::HashMap;

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Kind, Reply, Request, State};

/// What a person does on the service's own page.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub deny: bool,
    /// Added to the way back, or replacing what stands there.
    pub extra: Vec<(String, String)>,
    /// What is granted in place of what was asked.
    pub scope: Option<String>,
    /// Google's picker: the ids.
    pub picked: Option<String>,
}

impl Answer {
    pub fn allow() -> Self {
        Self::default()
    }

    pub fn deny() -> Self {
        Self { deny: true, ..Self::default() }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.extra.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn scope(mut self, scope: &str) -> Self {
        self.scope = Some(scope.to_owned());
        self
    }

    pub fn picking(mut self, ids: &str) -> Self {
        self.picked = Some(ids.to_owned());
        self
    }
}

/// A checked authorization request.
pub struct Asked {
    redirect: String,
    state: Option<String>,
    scope: String,
    challenge: Option<String>,
    offline: bool,
}

impl Asked {
    pub fn read(state: &State, request: &Request) -> Result<Self, &'static str> {
        let get = |name: &str| request.query(name).map(str::to_owned);
        if get("client_id").as_deref() != Some(&state.client_id) {
            return Err("client_id");
        }
        if get("response_type").as_deref() != Some("code") {
            return Err("response_type");
        }
        let challenge = get("code_challenge");
        if challenge.is_some() && get("code_challenge_method").as_deref() != Some("S256") {
            return Err("code_challenge_method");
        }
        let (key, value) = match state.kind {
            Kind::Dropbox => ("token_access_type", "offline"),
            Kind::GoogleDrive => ("access_type", "offline"),
        };
        Ok(Self {
            redirect: get("redirect_uri").ok_or("redirect_uri")?,
            state: get("state").filter(|state| state.len() <= 500),
            scope: get("scope").ok_or("scope")?,
            challenge,
            offline: get(key).as_deref() == Some(value),
        })
    }
}

/// Codes and tokens.
#[derive(Default)]
pub struct Grants {
    codes: HashMap<String, Code>,
    access: HashMap<String, Token>,
    refresh: HashMap<String, Token>,
    /// Everything that was ever given.
    pub given: Vec<String>,
    pub lives: Option<u64>,
}

struct Code {
    redirect: String,
    challenge: Option<String>,
    token: Token,
    offline: bool,
}

#[derive(Clone)]
pub struct Token {
    pub account: String,
    pub scope: String,
    /// The grant it belongs to.
    pub grant: u64,
    pub expired: bool,
}

impl Grants {
    fn draw(&mut self, prefix: &str) -> String {
        let seed = format!("{prefix}{}{:?}", self.given.len(), std::thread::current().id());
        let secret = format!("{prefix}{}", &blake3::hash(seed.as_bytes()).to_hex()[..40]);
        self.given.push(secret.clone());
        secret
    }

    pub fn alive(&self) -> Vec<String> {
        let access = self.access.iter().filter(|(_, token)| !token.expired);
        access.map(|(secret, _)| secret.clone()).chain(self.refresh.keys().cloned()).collect()
    }

    pub fn expire(&mut self) {
        self.access.values_mut().for_each(|token| token.expired = true);
    }

    pub fn withdraw(&mut self) {
        self.access.clear();
        self.refresh.clear();
        self.codes.clear();
    }

    pub fn token(&self, secret: &str) -> Option<&Token> {
        self.access.get(secret)
    }

    /// Google: everything this person granted to this client. False if it is none of ours.
    pub fn revoke_person(&mut self, secret: &str) -> bool {
        let found = self.access.get(secret).or_else(|| self.refresh.get(secret));
        let Some(account) = found.map(|token| token.account.clone()) else { return false };
        self.access.retain(|_, token| token.account != account);
        self.refresh.retain(|_, token| token.account != account);
        true
    }

    /// Dropbox: a token, its refresh token, and the others of that.
    pub fn revoke_token(&mut self, secret: &str) {
        let Some(grant) = self.access.get(secret).map(|token| token.grant) else { return };
        self.access.retain(|_, token| token.grant != grant);
        self.refresh.retain(|_, token| token.grant != grant);
    }
}

pub fn is_authorize(path: &str) -> bool {
    path == "/oauth2/authorize" || path == "/o/oauth2/v2/auth"
}

/// The service's own page, for a browser.
pub fn page(state: &State, request: &Request) -> Reply {
    if let Err(wrong) = Asked::read(state, request) {
        return Reply::text(400, "text/plain", &format!("Error 400: {wrong}"));
    }
    let query =
        form_urlencoded::Serializer::new(String::new()).extend_pairs(&request.query).finish();
    let account = state.account.lock().unwrap().clone();
    let html = format!(
        "<!doctype html><html lang=\"en\"><title>{0}</title><h1>{0}</h1>\
         <p>Signed in as {1}. Allow {2}?</p>\
         <form method=\"post\" action=\"{3}/decide?{query}\">\
         <button name=\"answer\" value=\"allow\" id=\"allow\">Allow</button>\
         <button name=\"answer\" value=\"deny\" id=\"deny\">Deny</button></form></html>",
        state.kind.name(),
        account.email,
        request.query("scope").unwrap_or_default(),
        request.path,
    );
    Reply::text(200, "text/html; charset=utf-8", &html)
}

/// A browser pressed one of the page's buttons.
pub fn decided(state: &State, request: &Request) -> Reply {
    let Ok(ask) = Asked::read(state, request) else { return Reply::text(400, "text/plain", "400") };
    let mut answer = match request.form("answer").as_deref() {
        Some("allow") => Answer::allow(),
        _ => Answer::deny(),
    };
    if request.query("trigger_onepick") == Some("true") {
        answer = answer.picking("file1,file5");
    }
    Reply::to(302, &decide(state, &ask, &answer))
}

/// Grants or denies: the way back.
pub fn decide(state: &State, ask: &Asked, answer: &Answer) -> String {
    let mut pairs: Vec<(String, String)> = Vec::new();
    let mut put = |name: &str, value: &str| pairs.push((name.to_owned(), value.to_owned()));
    let scope = answer.scope.clone().unwrap_or_else(|| ask.scope.clone());
    if let Some(state) = &ask.state {
        put("state", state);
    }
    if answer.deny {
        put("error", "access_denied");
        if state.kind == Kind::Dropbox {
            put("error_description", "The user chose not to give your app access");
        }
    } else {
        let mut grants = state.grants.lock().unwrap();
        let secret = grants.draw(match state.kind {
            Kind::Dropbox => "dbxcode",
            Kind::GoogleDrive => "4/0Agcode",
        });
        put("code", &secret);
        if state.kind == Kind::GoogleDrive {
            put("iss", "https://accounts.google.com");
            put("scope", &scope);
            put("authuser", "0");
            put("prompt", "consent");
        }
        let token = Token {
            account: state.account.lock().unwrap().id.clone(),
            scope,
            grant: grants.given.len() as u64,
            expired: false,
        };
        let (redirect, challenge) = (ask.redirect.clone(), ask.challenge.clone());
        grants.codes.insert(secret, Code { redirect, challenge, token, offline: ask.offline });
    }
    if let Some(ids) = &answer.picked {
        put("picked_file_ids", ids);
    }
    for (name, value) in &answer.extra {
        pairs.retain(|(found, _)| found != name);
        pairs.push((name.clone(), value.clone()));
    }
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    format!("{}?{query}", ask.redirect)
}

fn refused(status: u16, error: &str, words: &str) -> Reply {
    Reply::json(status, &json!({"error": error, "error_description": words}))
}

/// The token endpoint.
pub fn token(state: &State, request: &Request) -> Reply {
    let client = request.form("client_id");
    let secret = request.form("client_secret");
    let verifier = request.form("code_verifier");
    let known = client.as_deref() == Some(&state.client_id);
    let shown = secret.as_deref() == Some(&state.client_secret);
    // A library sends the secret or the verifier; a careful client sends both.
    if !known || (secret.is_some() && !shown) || (secret.is_none() && verifier.is_none()) {
        let status = if state.kind == Kind::GoogleDrive { 401 } else { 400 };
        return refused(status, "invalid_client", "Invalid client_id or client_secret");
    }
    let mut grants = state.grants.lock().unwrap();
    match request.form("grant_type").as_deref() {
        Some("authorization_code") => {
            let code = request.form("code").and_then(|code| grants.codes.remove(&code));
            let Some(code) = code else {
                return refused(400, "invalid_grant", "code doesn't exist or has expired");
            };
            let proof = verifier.map(|v| BASE64URL_NOPAD.encode(&Sha256::digest(v.as_bytes())));
            if code.challenge != proof || request.form("redirect_uri") != Some(code.redirect) {
                return refused(400, "invalid_grant", "Bad Request");
            }
            let refresh = code.offline.then(|| {
                let secret = grants.draw("1//0grefresh");
                grants.refresh.insert(secret.clone(), code.token.clone());
                secret
            });
            let answer = given(state, &mut grants, code.token, refresh);
            Reply::json(200, &answer)
        }
        Some("refresh_token") => {
            let secret = request.form("refresh_token").unwrap_or_default();
            let Some(token) = grants.refresh.get(&secret).cloned() else {
                return refused(400, "invalid_grant", "Token has been expired or revoked.");
            };
            let answer = given(state, &mut grants, token, None);
            Reply::json(200, &answer)
        }
        _ => refused(400, "unsupported_grant_type", "Invalid grant_type"),
    }
}

fn given(state: &State, grants: &mut Grants, token: Token, refresh: Option<String>) -> Value {
    let (prefix, kind, lives) = match state.kind {
        Kind::Dropbox => ("sl.u.AFaccess", "bearer", 14_400),
        Kind::GoogleDrive => ("ya29.a0access", "Bearer", 3_599),
    };
    let access = grants.draw(prefix);
    let mut answer = json!({
        "access_token": access,
        "expires_in": grants.lives.unwrap_or(lives),
        "token_type": kind,
        "scope": token.scope,
    });
    if let Some(refresh) = refresh {
        answer["refresh_token"] = refresh.into();
    }
    if state.kind == Kind::Dropbox {
        answer["account_id"] = token.account.clone().into();
        answer["uid"] = "12345".into();
    }
    grants.access.insert(access, token);
    answer
}
