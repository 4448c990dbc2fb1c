//! Google Drive, API v3. What an error means stands in its reason, never in its status.
//!
//! A folder inside a shared drive is named `<folder>@<drive>`: Drive lists it only when asked for
//! that drive.

use async_trait::async_trait;
use http::StatusCode;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::api::{self, Answer, Call, REVOKE_PATIENCE, Verdict};
use super::token::{Tokens, form};
use super::{
    Access, Account, Ask, Bearer, Chunk, Client, Consent, Content, Edges, Found, Granted, Item,
    Page, Parcel, Pinned, Provider, ProviderError, Sent, Service, Session, Stored, TokenSource,
};
use crate::egress::Origin;

mod content;

const PICKED: &[&str] = &["https://www.googleapis.com/auth/drive.file"];
const BROWSE: &[&str] = &["https://www.googleapis.com/auth/drive.readonly"];
const BROWSE_WRITE: &[&str] = &[
    "https://www.googleapis.com/auth/drive.file",
    "https://www.googleapis.com/auth/drive.readonly",
];

const FOLDER: &str = "application/vnd.google-apps.folder";
const SHORTCUT: &str = "application/vnd.google-apps.shortcut";
/// Google's own documents: without bytes of their own.
const NATIVE: &str = "application/vnd.google-apps.";

const FIELDS: &str = "id,name,mimeType,size,modifiedTime,md5Checksum,sha256Checksum,driveId,\
                      shortcutDetails(targetId,targetMimeType),trashed";

/// A cursor among the shared drives; any other is Drive's own, of files.
const DRIVES: &str = "drives:";
const FILES: &str = "files:";

/// Google Drive as one client of it sees it.
pub struct GoogleDrive(Tokens);

impl GoogleDrive {
    pub const fn new(client: Client, edges: Edges) -> Self {
        Self(Tokens::new(client, edges))
    }

    async fn get(&self, tokens: &dyn TokenSource, path: String) -> Result<Answer, ProviderError> {
        let endpoint = &self.0.client().endpoints.api;
        api::call(self.0.edges(), endpoint, tokens, &Call::get(path), judge).await
    }

    /// Shared drives, as folders of the root.
    async fn drives(
        &self,
        tokens: &dyn TokenSource,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page, ProviderError> {
        let size = limit.clamp(1, 100).to_string();
        let fields = "nextPageToken,drives(id,name)";
        let mut pairs = vec![("pageSize", size.as_str()), ("fields", fields)];
        pairs.extend(cursor.map(|cursor| ("pageToken", cursor)));
        let answer = self.get(tokens, format!("/drives{}", api::query(&pairs))).await?;
        let list: DriveList = answer.json()?;
        let drives = list.drives.into_iter().filter(|drive| is_id(&drive.id));
        let folder = |drive: Drive| Item {
            id: format!("{0}@{0}", drive.id),
            name: drive.name,
            folder: true,
            bytes: None,
            media_type: None,
            modified_at: None,
            digest: None,
        };
        let cursor = match list.next_page_token {
            Some(token) => format!("{DRIVES}{token}"),
            // After the last of them come the files.
            None => FILES.to_owned(),
        };
        Ok(Page { items: drives.map(folder).collect(), cursor: Some(cursor) })
    }

    async fn files(
        &self,
        tokens: &dyn TokenSource,
        place: Place<'_>,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page, ProviderError> {
        let size = limit.clamp(1, 1000).to_string();
        let within = format!("'{}' in parents and trashed=false", place.folder);
        // Without the first field there would be no second page, and nobody would know.
        let fields = format!("nextPageToken,incompleteSearch,files({FIELDS})");
        let mut pairs = vec![
            ("q", within.as_str()),
            ("pageSize", &size),
            ("fields", &fields),
            ("supportsAllDrives", "true"),
            ("includeItemsFromAllDrives", "true"),
        ];
        if let Some(drive) = place.drive {
            pairs.extend([("corpora", "drive"), ("driveId", drive)]);
        }
        pairs.extend(cursor.map(|cursor| ("pageToken", cursor)));
        let answer = self.get(tokens, format!("/files{}", api::query(&pairs))).await?;
        let list: FileList = answer.json()?;
        let items = list.files.into_iter().filter_map(File::item).collect();
        Ok(Page { items, cursor: list.next_page_token.map(|token| format!("{FILES}{token}")) })
    }
}

/// A folder, and the shared drive it lies in.
#[derive(Clone, Copy)]
struct Place<'a> {
    folder: &'a str,
    drive: Option<&'a str>,
}

impl<'a> Place<'a> {
    /// Nothing but ids gets through: a quote in a folder's name would end the query's string.
    fn parse(folder: &'a str) -> Option<Self> {
        let (folder, drive) = match folder.split_once('@') {
            Some((folder, drive)) => (folder, Some(drive)),
            None => (folder, None),
        };
        (is_id(folder) && drive.is_none_or(is_id)).then_some(Self { folder, drive })
    }
}

fn is_id(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    (1..=128).contains(&text.len()) && text.bytes().all(fits)
}

#[derive(Deserialize)]
struct Failed {
    error: Error,
}

#[derive(Deserialize)]
struct Error {
    #[serde(default)]
    errors: Vec<Reason>,
}

#[derive(Deserialize)]
struct Reason {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    location: String,
}

fn judge(answer: &Answer) -> Verdict {
    if answer.status == StatusCode::OK {
        return Verdict::Good;
    }
    let failed = answer.json::<Failed>().ok();
    let first = failed.and_then(|failed| failed.error.errors.into_iter().next());
    let (reason, location) = first.map_or_else(Default::default, |e| (e.reason, e.location));
    match (answer.status.as_u16(), reason.as_str()) {
        (401, _) => Verdict::Renew,
        (403, "rateLimitExceeded" | "userRateLimitExceeded") | (429, _) => Verdict::Again,
        (403, _) => Verdict::Over(ProviderError::Refused),
        (404, _) => Verdict::Over(ProviderError::NotFound),
        (400, "invalid") if location == "pageToken" => Verdict::Over(ProviderError::Restart),
        (500..=599, _) => Verdict::Again,
        _ => Verdict::Over(ProviderError::Nonsense),
    }
}

#[derive(Deserialize)]
struct About {
    user: User,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct User {
    #[serde(default)]
    display_name: String,
    #[serde(default)]
    email_address: String,
    #[serde(default)]
    permission_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DriveList {
    drives: Vec<Drive>,
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
struct Drive {
    id: String,
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileList {
    files: Vec<File>,
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    id: String,
    name: String,
    mime_type: String,
    /// An int64 in a JSON string.
    size: Option<String>,
    modified_time: Option<String>,
    md5_checksum: Option<String>,
    sha256_checksum: Option<String>,
    drive_id: Option<String>,
    shortcut_details: Option<Shortcut>,
    #[serde(default)]
    trashed: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shortcut {
    target_id: String,
    #[serde(default)]
    target_mime_type: String,
}

impl File {
    /// A shortcut is shown as what it leads to. What the target is may have changed since.
    fn item(self) -> Option<Item> {
        let (id, kind) = match self.shortcut_details {
            Some(target) if self.mime_type == SHORTCUT => {
                (target.target_id, target.target_mime_type)
            }
            _ => (self.id, self.mime_type),
        };
        if self.trashed || !is_id(&id) {
            return None;
        }
        let folder = kind == FOLDER;
        let id = match self.drive_id.filter(|drive| folder && is_id(drive)) {
            Some(drive) => format!("{id}@{drive}"),
            None => id,
        };
        // The size of Google's own documents is not that of what they are exported to.
        let size = self.size.filter(|_| !kind.starts_with(NATIVE));
        let digest = hashed("sha-256", self.sha256_checksum.as_deref(), 32);
        Some(Item {
            id,
            name: self.name,
            folder,
            bytes: size.and_then(|size| size.parse().ok()),
            modified_at: self.modified_time.and_then(|at| api::moment(&at)),
            digest: digest.or_else(|| hashed("md5", self.md5_checksum.as_deref(), 16)),
            media_type: (!folder && is_media_type(&kind)).then_some(kind),
        })
    }
}

fn is_media_type(text: &str) -> bool {
    let plain = text.bytes().all(|b| b.is_ascii_graphic());
    plain && (3..=127).contains(&text.len()) && text.contains('/')
}

/// A digest in hexadecimal, as base64 (RFC 9530's form).
fn hashed(
    algorithm: &'static str,
    hex: Option<&str>,
    bytes: usize,
) -> Option<(&'static str, String)> {
    let digest = data_encoding::HEXLOWER_PERMISSIVE.decode(hex?.as_bytes()).ok()?;
    let fits = digest.len() == bytes;
    fits.then(|| (algorithm, data_encoding::BASE64.encode(&digest)))
}

#[async_trait]
impl Provider for GoogleDrive {
    fn service(&self) -> Service {
        Service::GoogleDrive
    }

    fn client_id(&self) -> &str {
        &self.0.client().client_id
    }

    fn authorize_origin(&self) -> &Origin {
        self.0.client().endpoints.authorize.origin()
    }

    fn scopes(&self, access: Access) -> Option<&'static [&'static str]> {
        Some(match access {
            Access::Picked => PICKED,
            Access::Browse => BROWSE,
            Access::BrowseWrite => BROWSE_WRITE,
        })
    }

    fn authorize_url(&self, consent: &Consent<'_>) -> Result<String, ProviderError> {
        let scopes = self.scopes(consent.access).ok_or(ProviderError::Refused)?;
        let kind = if consent.offline { "offline" } else { "online" };
        let mut extra = vec![("access_type", kind), ("prompt", "consent")];
        if consent.access == Access::Picked {
            // "Integrate the Google Picker into desktop and mobile apps": the picker follows the
            // consent, and the ids come back beside the code.
            extra.extend([("trigger_onepick", "true"), ("allow_multiple", "true")]);
        }
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
        let token = refresh.unwrap_or(access);
        let body = form("token", token.expose());
        let mut call = Call::get(String::new());
        call.method = http::Method::POST;
        let bytes = Zeroizing::new(body.as_bytes().to_vec());
        call.body = Some(("application/x-www-form-urlencoded", bytes));
        let endpoint = &self.0.client().endpoints.revoke;
        let answer = api::once(self.0.edges(), endpoint, None, &call, REVOKE_PATIENCE).await?;
        match answer.status {
            StatusCode::OK => Ok(()),
            StatusCode::BAD_REQUEST => {
                let said: RevokeError = answer.json()?;
                // It is gone already.
                if said.error == "invalid_token" { Ok(()) } else { Err(ProviderError::Refused) }
            }
            _ => Err(ProviderError::Unreachable),
        }
    }

    async fn account(&self, tokens: &dyn TokenSource) -> Result<Account, ProviderError> {
        let fields = "user(displayName,emailAddress,permissionId)";
        let answer =
            self.get(tokens, format!("/about{}", api::query(&[("fields", fields)]))).await?;
        let About { user } = answer.json()?;
        let label = match (user.display_name.as_str(), user.email_address.as_str()) {
            ("", "") => return Err(ProviderError::Nonsense),
            (name, "") => name.to_owned(),
            ("", address) => address.to_owned(),
            (name, address) => format!("{name} ({address})"),
        };
        let id =
            if user.permission_id.is_empty() { user.email_address } else { user.permission_id };
        Ok(Account { id: Zeroizing::new(id), label: Zeroizing::new(label), root: None })
    }

    async fn list(&self, tokens: &dyn TokenSource, ask: &Ask<'_>) -> Result<Page, ProviderError> {
        let root = Place { folder: "root", drive: None };
        let place = match ask.folder {
            None => root,
            Some(folder) => Place::parse(folder).ok_or(ProviderError::NotFound)?,
        };
        match ask.cursor {
            None if ask.folder.is_none() => match self.drives(tokens, None, ask.limit).await {
                // An account without shared drives, or whose domain does not let them be listed.
                Err(ProviderError::Refused | ProviderError::NotFound) => {
                    self.files(tokens, place, None, ask.limit).await
                }
                page => page,
            },
            None => self.files(tokens, place, None, ask.limit).await,
            Some(cursor) => match (cursor.strip_prefix(DRIVES), cursor.strip_prefix(FILES)) {
                (Some(cursor), _) => self.drives(tokens, Some(cursor), ask.limit).await,
                (None, Some("")) => self.files(tokens, place, None, ask.limit).await,
                (None, Some(cursor)) => self.files(tokens, place, Some(cursor), ask.limit).await,
                (None, None) => Err(ProviderError::Restart),
            },
        }
    }

    async fn item(
        &self,
        tokens: &dyn TokenSource,
        id: &str,
        _root: Option<&str>,
    ) -> Result<Item, ProviderError> {
        if !is_id(id) {
            return Err(ProviderError::NotFound);
        }
        let pairs = [("fields", FIELDS), ("supportsAllDrives", "true")];
        let answer = self.get(tokens, format!("/files/{id}{}", api::query(&pairs))).await?;
        answer.json::<File>()?.item().ok_or(ProviderError::NotFound)
    }

    async fn pin(
        &self,
        tokens: &dyn TokenSource,
        id: &str,
        _root: Option<&str>,
    ) -> Result<Found, ProviderError> {
        self.pinned(tokens, id).await
    }

    async fn open(
        &self,
        tokens: &dyn TokenSource,
        pinned: &Pinned,
        from: u64,
        _root: Option<&str>,
    ) -> Result<Content, ProviderError> {
        self.content(tokens, pinned, from).await
    }

    async fn begin_upload(
        &self,
        tokens: &dyn TokenSource,
        parcel: &Parcel,
    ) -> Result<Session, ProviderError> {
        self.start(tokens, parcel).await
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
        self.chunk(tokens, parcel, session, Chunk::nothing(0)).await
    }

    async fn take_away(
        &self,
        tokens: &dyn TokenSource,
        stored: &Stored,
        _root: Option<&str>,
    ) -> Result<(), ProviderError> {
        self.removed(tokens, &stored.id).await
    }
}

#[derive(Deserialize)]
struct RevokeError {
    #[serde(default)]
    error: String,
}
