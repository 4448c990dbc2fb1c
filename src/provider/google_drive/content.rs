//! Google Drive's bytes: downloads, documents that are made into files, and uploads in sessions.

use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::super::api::{self, Call, Verdict};
use super::super::content::{
    Check, Chunk, Content, Export, Found, Parcel, Pinned, Sent, Session, Stored, is_of_type,
};
use super::{FOLDER, GoogleDrive, NATIVE, Place, SHORTCUT, is_id, is_media_type, judge};
use crate::egress::{self, Origin, Reach};
use crate::provider::{Endpoint, ProviderError, TokenSource};

const FIELDS: &str = "id,name,mimeType,size,headRevisionId,md5Checksum,sha256Checksum,driveId,\
                      trashed,resourceKey,exportLinks,\
                      shortcutDetails(targetId,targetMimeType,targetResourceKey)";
const STORED: &str = "id,size,md5Checksum,sha256Checksum";

/// Shortcuts followed one after the other: there should be none that leads to another.
const MOST_SHORTCUTS: usize = 5;
/// Redirects followed for one answer.
const MOST_REDIRECTS: usize = 3;

const RESOURCE_KEYS: HeaderName = HeaderName::from_static("x-goog-drive-resource-keys");
const UPLOAD_TYPE: HeaderName = HeaderName::from_static("x-upload-content-type");
const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("x-upload-content-length");

/// Google serves exports that are too large for the API here, to whoever holds the token.
const DOCS: &str = "https://docs.google.com";
/// Where Google's own redirects lead; the token does not go along.
const SERVED_BY: &str = ".googleusercontent.com";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    id: String,
    name: String,
    mime_type: String,
    size: Option<String>,
    head_revision_id: Option<String>,
    md5_checksum: Option<String>,
    sha256_checksum: Option<String>,
    drive_id: Option<String>,
    resource_key: Option<String>,
    #[serde(default)]
    export_links: std::collections::BTreeMap<String, String>,
    shortcut_details: Option<Target>,
    #[serde(default)]
    trashed: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    target_id: String,
    target_resource_key: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    id: String,
    size: Option<String>,
    md5_checksum: Option<String>,
    sha256_checksum: Option<String>,
}

/// What Google's own kinds of documents are made into, and the ending of that.
fn made_into(kind: &str) -> Option<(&'static str, &'static str)> {
    Some(match kind {
        "document" => {
            ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "docx")
        }
        "spreadsheet" => {
            ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx")
        }
        "presentation" => {
            ("application/vnd.openxmlformats-officedocument.presentationml.presentation", "pptx")
        }
        "drawing" => ("image/png", "png"),
        "script" => ("application/vnd.google-apps.script+json", "json"),
        _ => return None,
    })
}

fn check(sha256: Option<&str>, md5: Option<&str>) -> Option<Check> {
    sha256.and_then(Check::sha256).or_else(|| md5.and_then(Check::md5))
}

impl Meta {
    fn pinned(self, key: Option<String>) -> Result<Pinned, ProviderError> {
        let key = key.or(self.resource_key).filter(|key| is_id(key));
        let mut name = self.name;
        let Some(own) = self.mime_type.strip_prefix(NATIVE) else {
            let size = self.size.ok_or(ProviderError::Nonsense)?;
            return Ok(Pinned {
                id: self.id,
                name,
                bytes: Some(size.parse().map_err(|_| ProviderError::Nonsense)?),
                revision: self.head_revision_id,
                check: check(self.sha256_checksum.as_deref(), self.md5_checksum.as_deref()),
                media_type: Some(self.mime_type).filter(|kind| is_media_type(kind)),
                export: None,
                key,
            });
        };
        let (kind, ending) = made_into(own).ok_or(ProviderError::Refused)?;
        if !name.to_ascii_lowercase().ends_with(&format!(".{ending}")) {
            name = format!("{name}.{ending}");
        }
        let link = self.export_links.get(kind).cloned();
        Ok(Pinned {
            id: self.id,
            name,
            media_type: Some(kind.to_owned()),
            // The size that is told is not that of what it is made into.
            bytes: None,
            revision: None,
            check: None,
            export: Some(Export { media_type: kind.to_owned(), link }),
            key,
        })
    }
}

impl GoogleDrive {
    async fn meta(
        &self,
        tokens: &dyn TokenSource,
        id: &str,
        key: Option<&str>,
    ) -> Result<Meta, ProviderError> {
        let pairs = [("fields", FIELDS), ("supportsAllDrives", "true")];
        let mut call = Call::get(format!("/files/{id}{}", api::query(&pairs)));
        call.headers.extend(resource_key(id, key)?);
        let endpoint = &self.0.client().endpoints.api;
        let meta: Meta = api::call(self.0.edges(), endpoint, tokens, &call, judge).await?.json()?;
        if meta.trashed || !is_id(&meta.id) {
            return Err(ProviderError::NotFound);
        }
        Ok(meta)
    }

    pub(super) async fn pinned(
        &self,
        tokens: &dyn TokenSource,
        id: &str,
    ) -> Result<Found, ProviderError> {
        let place = Place::parse(id).ok_or(ProviderError::NotFound)?;
        if place.drive.is_some() {
            return Ok(Found::Folder(id.to_owned()));
        }
        let (mut id, mut key) = (id.to_owned(), None);
        for _ in 0..=MOST_SHORTCUTS {
            let meta = self.meta(tokens, &id, key.as_deref()).await?;
            match (meta.mime_type.as_str(), meta.shortcut_details) {
                (SHORTCUT, Some(target)) if is_id(&target.target_id) => {
                    (id, key) = (target.target_id, target.target_resource_key);
                }
                (SHORTCUT, _) => return Err(ProviderError::NotFound),
                (FOLDER, _) => {
                    let drive = meta.drive_id.filter(|drive| is_id(drive));
                    return Ok(Found::Folder(match drive {
                        Some(drive) => format!("{id}@{drive}"),
                        None => id,
                    }));
                }
                (_, details) => {
                    let meta = Meta { shortcut_details: details, ..meta };
                    return Ok(Found::File(Box::new(meta.pinned(key)?)));
                }
            }
        }
        Err(ProviderError::NotFound)
    }

    pub(super) async fn content(
        &self,
        tokens: &dyn TokenSource,
        pinned: &Pinned,
        from: u64,
    ) -> Result<Content, ProviderError> {
        let Pinned { id, key, export, .. } = pinned;
        if let Some(export) = export {
            return self.exported(tokens, pinned, export).await;
        }
        if from > 0 {
            // Drive has no validator for a range: what it is now has to be asked.
            let now = self.meta(tokens, id, key.as_deref()).await?.pinned(key.clone())?;
            let same = now.revision == pinned.revision && now.check == pinned.check;
            if !same || now.bytes != pinned.bytes {
                return Err(ProviderError::Changed);
            }
        }
        let pairs = [("alt", "media"), ("supportsAllDrives", "true")];
        let mut call = Call::get(format!("/files/{id}{}", api::query(&pairs)));
        call.headers.extend(resource_key(id, key.as_deref())?);
        if from > 0 {
            let range = HeaderValue::from_str(&format!("bytes={from}-"));
            call.headers.push((RANGE, range.map_err(|_| ProviderError::Nonsense)?));
        }
        let endpoint = self.0.client().endpoints.content.clone();
        let answer = self.follow(tokens, endpoint, call).await?;
        if !is_of_type(answer.headers(), pinned.media_type.as_deref()) {
            return Err(ProviderError::Nonsense);
        }
        Content::begin(answer, pinned, from)
    }

    /// A document, made into a file: by the API up to 10 MB, and by its link beyond.
    async fn exported(
        &self,
        tokens: &dyn TokenSource,
        pinned: &Pinned,
        export: &Export,
    ) -> Result<Content, ProviderError> {
        let query = api::query(&[("mimeType", &export.media_type)]);
        let mut call = Call::get(format!("/files/{}/export{query}", pinned.id));
        call.headers.extend(resource_key(&pinned.id, pinned.key.as_deref())?);
        let endpoint = self.0.client().endpoints.content.clone();
        let answer = match (self.follow(tokens, endpoint, call).await, &export.link) {
            // Some that are too large are refused with a 500.
            (Err(ProviderError::Refused | ProviderError::Unreachable), Some(link)) => {
                let (endpoint, path) = self.place_of(link).ok_or(ProviderError::Refused)?;
                self.follow(tokens, endpoint, Call::get(path)).await?
            }
            (answer, _) => answer?,
        };
        if !is_of_type(answer.headers(), Some(&export.media_type)) {
            return Err(ProviderError::Nonsense);
        }
        Content::begin(answer, pinned, 0)
    }

    /// Where a link leads, if it is to the provider's own: the token goes nowhere else.
    fn place_of(&self, link: &str) -> Option<(Endpoint, String)> {
        let content = &self.0.client().endpoints.content;
        let (origin, path) = Origin::parse(link, self.0.edges().egress.insecure_loopback()).ok()?;
        let docs = content.reach == Reach::Public && origin.to_string() == DOCS;
        let known = origin == content.origin || docs;
        known.then(|| (Endpoint { origin, path: String::new(), reach: content.reach }, path))
    }

    /// Sends a call, and goes on where Google's own redirects lead: with the token on the same
    /// origin alone.
    async fn follow(
        &self,
        tokens: &dyn TokenSource,
        mut at: Endpoint,
        mut call: Call,
    ) -> Result<Response<egress::Answer>, ProviderError> {
        call.headers.push((ACCEPT, HeaderValue::from_static("*/*")));
        let mut known = true;
        for _ in 0..=MOST_REDIRECTS {
            let answer = match known {
                true => api::stream(self.0.edges(), &at, tokens, &call, judge).await?,
                false => api::stream_openly(self.0.edges(), &at, &call, judge).await?,
            };
            if !answer.status().is_redirection() {
                return Ok(answer);
            }
            let place = answer.headers().get(LOCATION).and_then(|place| place.to_str().ok());
            let place = place.ok_or(ProviderError::Nonsense)?;
            match self.place_of(place) {
                Some((endpoint, path)) if known => {
                    at = endpoint;
                    call.path = path;
                }
                _ => {
                    let (origin, path) =
                        Origin::parse(place, false).map_err(|_| ProviderError::Nonsense)?;
                    if !origin.host().ends_with(SERVED_BY) {
                        return Err(ProviderError::Nonsense);
                    }
                    at = Endpoint { origin, path: String::new(), reach: Reach::Public };
                    call.path = path;
                    known = false;
                }
            }
        }
        Err(ProviderError::Nonsense)
    }

    fn upload_endpoint(&self) -> Endpoint {
        let content = self.0.client().endpoints.content.clone();
        Endpoint { path: format!("/upload{}", content.path), ..content }
    }

    pub(super) async fn start(
        &self,
        tokens: &dyn TokenSource,
        parcel: &Parcel,
    ) -> Result<Session, ProviderError> {
        let folder = match parcel.folder.as_deref() {
            None => "root",
            Some(folder) => Place::parse(folder).ok_or(ProviderError::NotFound)?.folder,
        };
        let pairs =
            [("uploadType", "resumable"), ("supportsAllDrives", "true"), ("fields", STORED)];
        let body = json!({"name": parcel.name, "parents": [folder]});
        let mut call = Call::json(format!("/files{}", api::query(&pairs)), &body);
        let kind = HeaderValue::from_str(&parcel.media_type);
        call.headers.push((UPLOAD_TYPE, kind.map_err(|_| ProviderError::Nonsense)?));
        call.headers.push((UPLOAD_LENGTH, HeaderValue::from(parcel.bytes)));
        let endpoint = self.upload_endpoint();
        let answer = api::call(self.0.edges(), &endpoint, tokens, &call, judge).await?;
        let place = answer.headers.get(LOCATION).and_then(|place| place.to_str().ok());
        let (endpoint, path) =
            place.and_then(|place| self.place_of(place)).ok_or(ProviderError::Nonsense)?;
        // What follows is sent there and nowhere else.
        if endpoint.origin != self.0.client().endpoints.content.origin {
            return Err(ProviderError::Nonsense);
        }
        Ok(Session(Zeroizing::new(path)))
    }

    pub(super) async fn chunk(
        &self,
        tokens: &dyn TokenSource,
        parcel: &Parcel,
        session: &Session,
        chunk: Chunk,
    ) -> Result<Sent, ProviderError> {
        let range = match chunk.bytes {
            0 => format!("bytes */{}", parcel.bytes),
            bytes => format!("bytes {}-{}/{}", chunk.at, chunk.at + bytes - 1, parcel.bytes),
        };
        let mut call = Call::get(session.0.to_string());
        call.method = Method::PUT;
        let range = HeaderValue::from_str(&range).map_err(|_| ProviderError::Nonsense)?;
        call.headers.push((CONTENT_RANGE, range));
        call.headers.push((CONTENT_LENGTH, HeaderValue::from(chunk.bytes)));
        call.headers.push((CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")));
        let content = self.0.client().endpoints.content.clone();
        let endpoint = Endpoint { path: String::new(), ..content };
        let edges = self.0.edges();
        let answer = api::push(edges, &endpoint, tokens, &call, chunk.body, judge_upload).await?;
        if answer.status == StatusCode::PERMANENT_REDIRECT {
            let range = answer.headers.get(RANGE).map(|range| range.to_str().unwrap_or("?"));
            let upto = match range {
                None => Some(0),
                Some(range) => range
                    .strip_prefix("bytes=0-")
                    .and_then(|last| last.parse().ok())
                    .and_then(|last: u64| last.checked_add(1)),
            };
            return upto
                .filter(|upto| *upto <= parcel.bytes)
                .map(Sent::Upto)
                .ok_or(ProviderError::Nonsense);
        }
        let Made { id, size, md5_checksum, sha256_checksum } = answer.json()?;
        let check = check(sha256_checksum.as_deref(), md5_checksum.as_deref());
        Ok(Sent::Whole(Stored { id, bytes: size.and_then(|size| size.parse().ok()), check }))
    }

    pub(super) async fn removed(
        &self,
        tokens: &dyn TokenSource,
        id: &str,
    ) -> Result<(), ProviderError> {
        if !is_id(id) {
            return Err(ProviderError::Nonsense);
        }
        let mut call = Call::get(format!("/files/{id}?supportsAllDrives=true"));
        call.method = Method::DELETE;
        let endpoint = &self.0.client().endpoints.api;
        api::call(self.0.edges(), endpoint, tokens, &call, judge_upload).await.map(drop)
    }
}

/// As [`judge`], for uploads: "go on" and "made" are good.
fn judge_upload(answer: &api::Answer) -> Verdict {
    match answer.status {
        StatusCode::PERMANENT_REDIRECT | StatusCode::CREATED | StatusCode::NO_CONTENT => {
            Verdict::Good
        }
        _ => judge(answer),
    }
}

fn resource_key(
    id: &str,
    key: Option<&str>,
) -> Result<Option<(HeaderName, HeaderValue)>, ProviderError> {
    let Some(key) = key.filter(|key| is_id(key)) else { return Ok(None) };
    let value = HeaderValue::from_str(&format!("{id}/{key}"));
    Ok(Some((RESOURCE_KEYS, value.map_err(|_| ProviderError::Nonsense)?)))
}
