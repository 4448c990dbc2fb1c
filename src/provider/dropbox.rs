//! Dropbox, API v2. Calls are POST with a JSON argument; an error's meaning stands in its tags,
//! never in its summary, whose number of dots is random on purpose.

use async_trait::async_trait;
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::api::{self, Answer, Call, REVOKE_PATIENCE, Verdict};
use super::token::Tokens;
use super::{
    Access, Account, Ask, Bearer, Chunk, Client, Consent, Content, Edges, Found, Granted, Item,
    Page, Parcel, Pinned, Provider, ProviderError, Sent, Service, Session, Stored, TokenSource,
};
use crate::egress::Origin;

mod content;

const BROWSE: &[&str] = &["account_info.read", "files.content.read", "files.metadata.read"];
const BROWSE_WRITE: &[&str] =
    &["account_info.read", "files.content.read", "files.content.write", "files.metadata.read"];

/// Dropbox as one client of it sees it.
pub struct Dropbox(Tokens);

impl Dropbox {
    pub const fn new(client: Client, edges: Edges) -> Self {
        Self(Tokens::new(client, edges))
    }

    async fn rpc(
        &self,
        tokens: &dyn TokenSource,
        route: &str,
        argument: &Value,
        root: Option<&str>,
    ) -> Result<Answer, ProviderError> {
        let mut call = Call::json(format!("/2/{route}"), argument);
        if argument.is_null() {
            call.body = None;
        }
        if let Some(root) = root {
            let root = json!({".tag": "root", "root": root}).to_string();
            let root = HeaderValue::from_str(&root).map_err(|_| ProviderError::Nonsense)?;
            call.headers.push((HeaderName::from_static("dropbox-api-path-root"), root));
        }
        let endpoint = &self.0.client().endpoints.api;
        api::call(self.0.edges(), endpoint, tokens, &call, judge).await
    }
}

#[derive(Deserialize)]
struct Failed {
    error: Value,
}

/// The tags of an error, the outermost first.
fn tags(answer: &Answer) -> Vec<String> {
    let mut tags = Vec::new();
    let Ok(Failed { mut error }) = answer.json::<Failed>() else { return tags };
    while let Some(tag) = error.get(".tag").and_then(Value::as_str).map(str::to_owned) {
        let inner = error.get(&tag).cloned();
        tags.push(tag);
        match inner {
            Some(inner) if tags.len() < 4 => error = inner,
            _ => break,
        }
    }
    tags
}

fn judge(answer: &Answer) -> Verdict {
    match answer.status {
        StatusCode::OK => Verdict::Good,
        StatusCode::UNAUTHORIZED => match tags(answer).first().map(String::as_str) {
            Some("expired_access_token") => Verdict::Renew,
            Some("missing_scope" | "route_access_denied") => Verdict::Over(ProviderError::Refused),
            _ => Verdict::Over(ProviderError::Revoked),
        },
        StatusCode::FORBIDDEN => Verdict::Over(ProviderError::Refused),
        StatusCode::CONFLICT => {
            let tags = tags(answer);
            let has = |tag: &str| tags.iter().any(|found| found == tag);
            Verdict::Over(if has("reset") {
                ProviderError::Restart
            } else if has("not_found") || has("not_folder") || has("malformed_path") {
                ProviderError::NotFound
            } else {
                ProviderError::Refused
            })
        }
        StatusCode::TOO_MANY_REQUESTS => Verdict::Again,
        status if status.is_server_error() => Verdict::Again,
        _ => Verdict::Over(ProviderError::Nonsense),
    }
}

#[derive(Deserialize)]
struct FullAccount {
    account_id: String,
    name: Name,
    #[serde(default)]
    email: String,
    #[serde(default)]
    root_info: Option<RootInfo>,
}

#[derive(Deserialize)]
struct Name {
    display_name: String,
}

#[derive(Deserialize)]
struct RootInfo {
    root_namespace_id: String,
    home_namespace_id: String,
}

#[derive(Deserialize)]
struct Listing {
    entries: Vec<Entry>,
    cursor: String,
    has_more: bool,
}

#[derive(Deserialize)]
#[serde(tag = ".tag", rename_all = "snake_case")]
enum Entry {
    File {
        id: String,
        name: String,
        size: Option<u64>,
        server_modified: Option<String>,
        content_hash: Option<String>,
        #[serde(default = "yes")]
        is_downloadable: bool,
        rev: Option<String>,
        export_info: Option<ExportInfo>,
    },
    Folder {
        id: String,
        name: String,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct ExportInfo {
    export_as: Option<String>,
}

const fn yes() -> bool {
    true
}

impl Entry {
    fn item(self) -> Option<Item> {
        match self {
            Self::File {
                id, name, size, server_modified, content_hash, is_downloadable, ..
            } => {
                let hash = content_hash.filter(|hash| is_hex(hash));
                Some(Item {
                    id,
                    name,
                    folder: false,
                    // What is exported instead of downloaded has another size.
                    bytes: size.filter(|_| is_downloadable),
                    media_type: None,
                    modified_at: server_modified.and_then(|at| api::moment(&at)),
                    digest: hash.map(|hash| ("dropbox-content-hash", hash)),
                })
            }
            Self::Folder { id, name } => Some(Item {
                id,
                name,
                folder: true,
                bytes: None,
                media_type: None,
                modified_at: None,
                digest: None,
            }),
            Self::Other => None,
        }
    }
}

fn is_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Items are named by id alone: a path would carry names through URLs.
fn is_id(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    let id = text.strip_prefix("id:").filter(|id| (1..=128).contains(&id.len()));
    id.is_some_and(|id| id.bytes().all(fits))
}

#[async_trait]
impl Provider for Dropbox {
    fn service(&self) -> Service {
        Service::Dropbox
    }

    fn client_id(&self) -> &str {
        &self.0.client().client_id
    }

    fn authorize_origin(&self) -> &Origin {
        self.0.client().endpoints.authorize.origin()
    }

    fn scopes(&self, access: Access) -> Option<&'static [&'static str]> {
        match access {
            Access::Picked => None,
            Access::Browse => Some(BROWSE),
            Access::BrowseWrite => Some(BROWSE_WRITE),
        }
    }

    fn authorize_url(&self, consent: &Consent<'_>) -> Result<String, ProviderError> {
        let scopes = self.scopes(consent.access).ok_or(ProviderError::Refused)?;
        let kind = if consent.offline { "offline" } else { "online" };
        // Without the second, somebody who agreed once is sent back without being asked.
        let extra = [("token_access_type", kind), ("force_reapprove", "true")];
        self.0.authorize_url(consent, scopes, &extra)
    }

    async fn exchange(
        &self,
        code: &str,
        verifier: &str,
        redirect: &str,
    ) -> Result<Granted, ProviderError> {
        self.0.exchange(code, verifier, redirect).await
    }

    async fn refresh(&self, token: &Bearer) -> Result<Granted, ProviderError> {
        self.0.refresh(token).await
    }

    async fn revoke(&self, access: &Bearer, refresh: Option<&Bearer>) -> Result<(), ProviderError> {
        let endpoint = &self.0.client().endpoints.revoke;
        let mut call = Call::get(String::new());
        call.method = http::Method::POST;
        // Not RFC 7009: the token that ends is the one that asks, and it must still be alive.
        let first =
            api::once(self.0.edges(), endpoint, Some(access), &call, REVOKE_PATIENCE).await?;
        match (first.status, refresh) {
            (StatusCode::OK, _) => Ok(()),
            (StatusCode::UNAUTHORIZED, Some(refresh)) => {
                let fresh = match self.refresh(refresh).await {
                    Ok(granted) => granted.access,
                    Err(ProviderError::Revoked) => return Ok(()),
                    Err(error) => return Err(error),
                };
                let edges = self.0.edges();
                let last = api::once(edges, endpoint, Some(&fresh), &call, REVOKE_PATIENCE).await?;
                match last.status {
                    StatusCode::OK | StatusCode::UNAUTHORIZED => Ok(()),
                    _ => Err(ProviderError::Unreachable),
                }
            }
            (StatusCode::UNAUTHORIZED, None) => Ok(()),
            _ => Err(ProviderError::Unreachable),
        }
    }

    async fn account(&self, tokens: &dyn TokenSource) -> Result<Account, ProviderError> {
        let answer = self.rpc(tokens, "users/get_current_account", &Value::Null, None).await?;
        let account: FullAccount = answer.json()?;
        let FullAccount { account_id, name, email, root_info } = account;
        let apart = root_info.filter(|root| root.root_namespace_id != root.home_namespace_id);
        let root = apart.map(|root| root.root_namespace_id);
        if account_id.is_empty() || root.as_ref().is_some_and(|root| !is_number(root)) {
            return Err(ProviderError::Nonsense);
        }
        let label = match email.as_str() {
            "" => name.display_name,
            email => format!("{} ({email})", name.display_name),
        };
        let label = Zeroizing::new(label);
        Ok(Account { id: Zeroizing::new(account_id), label, root })
    }

    async fn list(&self, tokens: &dyn TokenSource, ask: &Ask<'_>) -> Result<Page, ProviderError> {
        let path = match ask.folder {
            None => "",
            Some(folder) if is_id(folder) => folder,
            Some(_) => return Err(ProviderError::NotFound),
        };
        let answer = match ask.cursor {
            Some(cursor) => {
                let argument = json!({"cursor": cursor});
                self.rpc(tokens, "files/list_folder/continue", &argument, ask.root).await?
            }
            None => {
                let limit = ask.limit.clamp(1, 2000);
                let argument = json!({"path": path, "limit": limit});
                self.rpc(tokens, "files/list_folder", &argument, ask.root).await?
            }
        };
        let listing: Listing = answer.json()?;
        let items = listing.entries.into_iter().filter_map(Entry::item);
        let items = items.filter(|item| is_id(&item.id)).collect();
        Ok(Page { items, cursor: listing.has_more.then_some(listing.cursor) })
    }

    async fn item(
        &self,
        tokens: &dyn TokenSource,
        id: &str,
        root: Option<&str>,
    ) -> Result<Item, ProviderError> {
        if !is_id(id) {
            return Err(ProviderError::NotFound);
        }
        let answer = self.rpc(tokens, "files/get_metadata", &json!({"path": id}), root).await?;
        answer.json::<Entry>()?.item().ok_or(ProviderError::NotFound)
    }

    async fn pin(
        &self,
        tokens: &dyn TokenSource,
        id: &str,
        root: Option<&str>,
    ) -> Result<Found, ProviderError> {
        self.pinned(tokens, id, root).await
    }

    async fn open(
        &self,
        tokens: &dyn TokenSource,
        pinned: &Pinned,
        from: u64,
        root: Option<&str>,
    ) -> Result<Content, ProviderError> {
        self.content(tokens, pinned, from, root).await
    }

    async fn begin_upload(
        &self,
        tokens: &dyn TokenSource,
        parcel: &Parcel,
    ) -> Result<Session, ProviderError> {
        if parcel.folder.as_deref().is_some_and(|folder| !is_id(folder)) {
            return Err(ProviderError::NotFound);
        }
        self.start(tokens, parcel.root.as_deref()).await
    }

    async fn send(
        &self,
        tokens: &dyn TokenSource,
        parcel: &Parcel,
        session: &Session,
        chunk: Chunk,
    ) -> Result<Sent, ProviderError> {
        self.chunk(tokens, parcel, session, chunk).await
    }

    async fn sent(
        &self,
        tokens: &dyn TokenSource,
        parcel: &Parcel,
        session: &Session,
    ) -> Result<Sent, ProviderError> {
        self.far(tokens, parcel, session).await
    }

    async fn take_away(
        &self,
        tokens: &dyn TokenSource,
        stored: &Stored,
        root: Option<&str>,
    ) -> Result<(), ProviderError> {
        self.removed(tokens, &stored.id, root).await
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.len() <= 32 && text.bytes().all(|b| b.is_ascii_digit())
}
