//! `dayfly connect`: asks the gateway for a connection, shows the page's address, and confirms with
//! the code that the person reads there. Only the gateway ever speaks to the provider.

use std::sync::Arc;

use clap::Args;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::egress::{Egress, EgressError, Origin, OriginError, Patience, Reach, full, read};
use crate::tasks::Tasks;

/// The longest answer that is read, bytes.
const MOST: usize = 1 << 20;

/// What to connect.
#[derive(Args, Debug)]
pub struct ConnectArguments {
    /// The storage service
    #[arg(value_parser = ["dropbox", "google_drive"])]
    pub provider: String,
    /// How much of it
    #[arg(long, default_value = "browse", value_parser = ["picked", "browse", "browse+write"])]
    pub access: String,
    /// For how long, like 15m or 4h
    #[arg(long, value_name = "SPAN")]
    pub ttl: Option<String>,
    /// Your own opaque id of the person; to be repeated later
    #[arg(long, value_name = "ID")]
    pub subject: Option<String>,
    /// May be used while the person is away
    #[arg(long)]
    pub offline: bool,
    /// Prints JSON
    #[arg(long)]
    pub json: bool,
}

/// Why a command that asks a gateway has failed.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("DAYFLY_URL: {0}")]
    Url(#[from] OriginError),
    #[error("DAYFLY_KEY: not a key")]
    Key,
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// The gateway's own words.
    #[error("{status} {title}: {detail}")]
    Refused { status: u16, title: String, detail: String },
    #[error("the gateway's answer cannot be understood: is DAYFLY_URL a Dayfly?")]
    Nonsense,
}

/// A gateway to ask, and the key to ask with.
pub struct Gateway {
    egress: Egress,
    origin: Origin,
    path: String,
    key: HeaderValue,
}

impl Gateway {
    /// # Errors
    /// When the address or the key cannot be used. Plain HTTP is for loopback alone: a key does not
    /// travel in the clear.
    pub fn at(url: &str, key: &Zeroizing<String>, clock: Arc<dyn Clock>) -> Result<Self, AskError> {
        let (origin, path) = Origin::parse(url, true)?;
        let bearer = Zeroizing::new(format!("Bearer {}", key.as_str()));
        let mut key = HeaderValue::from_str(&bearer).map_err(|_| AskError::Key)?;
        key.set_sensitive(true);
        Ok(Self { egress: Egress::new(clock, Tasks::default(), true), origin, path, key })
    }

    /// Sends JSON and reads JSON.
    ///
    /// # Errors
    /// When the gateway cannot be reached, or says no.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, AskError> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}{path}", self.path))
            .header(AUTHORIZATION, self.key.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(full(body.to_string()))
            .map_err(|_| AskError::Nonsense)?;
        let patience = Patience::default();
        let answer = self.egress.send(Reach::Operator, &self.origin, request, patience).await?;
        let (head, body) = answer.into_parts();
        let body = read(body, MOST).await?;
        let json: Value = serde_json::from_slice(&body).map_err(|_| AskError::Nonsense)?;
        if head.status.is_success() {
            return Ok(json);
        }
        let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
        let (title, detail) = (text("title"), text("detail"));
        Err(AskError::Refused { status: head.status.as_u16(), title, detail })
    }
}

/// A connection that waits for its person.
pub struct Waiting {
    pub id: String,
    pub authorize_url: String,
}

/// Asks for a connection.
///
/// # Errors
/// As [`Gateway::post`].
pub async fn begin(gateway: &Gateway, asked: &ConnectArguments) -> Result<Waiting, AskError> {
    let mut body = json!({
        "provider": asked.provider, "access": asked.access, "offline": asked.offline,
    });
    for (name, value) in [("ttl", &asked.ttl), ("subject", &asked.subject)] {
        if let Some(value) = value {
            body[name] = value.as_str().into();
        }
    }
    let made = gateway.post("/v1/connections", &body).await?;
    let text = |name: &str| made[name].as_str().map(str::to_owned).ok_or(AskError::Nonsense);
    Ok(Waiting { id: text("id")?, authorize_url: text("authorize_url")? })
}

/// Confirms a connection with the code the person has read; what it is then.
///
/// # Errors
/// As [`Gateway::post`].
pub async fn confirm(
    gateway: &Gateway,
    asked: &ConnectArguments,
    waiting: &Waiting,
    code: &str,
) -> Result<Value, AskError> {
    let mut body = json!({"code": code.trim()});
    if let Some(subject) = &asked.subject {
        body["subject"] = subject.as_str().into();
    }
    gateway.post(&format!("/v1/connections/{}/confirm", waiting.id), &body).await
}
