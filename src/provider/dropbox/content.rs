//! Dropbox's content endpoints: the argument travels in a header, the bytes in the body.

use std::fmt::Write;

use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, RANGE};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::super::api::{self, Call, Verdict};
use super::super::content::{
    Check, Chunk, Content, Export, Found, Parcel, Pinned, Sent, Session, Stored,
};
use super::{Dropbox, Entry, is_id, judge, tags};
use crate::egress::Answer;
use crate::provider::{ProviderError, TokenSource};

const ARGUMENT: HeaderName = HeaderName::from_static("dropbox-api-arg");
const RESULT: HeaderName = HeaderName::from_static("dropbox-api-result");
const PATH_ROOT: HeaderName = HeaderName::from_static("dropbox-api-path-root");

/// JSON that may stand in a header: ASCII alone, what lies beyond as UTF-16 in `\u` escapes.
fn in_header(json: &Value) -> Result<HeaderValue, ProviderError> {
    let mut text = String::new();
    for character in json.to_string().chars() {
        if matches!(character, ' '..='~') {
            text.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            let _ = write!(text, "\\u{unit:04x}");
        }
    }
    HeaderValue::from_str(&text).map_err(|_| ProviderError::Nonsense)
}

/// What a download says of the file it carries.
#[derive(Deserialize)]
struct Downloaded {
    rev: String,
    size: u64,
    content_hash: Option<String>,
}

#[derive(Deserialize)]
struct Exported {
    export_metadata: ExportMetadata,
}

#[derive(Deserialize)]
struct ExportMetadata {
    size: u64,
    export_hash: Option<String>,
}

#[derive(Deserialize)]
struct Started {
    session_id: String,
}

#[derive(Deserialize)]
struct Finished {
    id: String,
    size: u64,
    content_hash: Option<String>,
}

fn result<T: serde::de::DeserializeOwned>(response: &Response<Answer>) -> Result<T, ProviderError> {
    let said = response.headers().get(RESULT).ok_or(ProviderError::Nonsense)?;
    serde_json::from_slice(said.as_bytes()).map_err(|_| ProviderError::Nonsense)
}

impl Dropbox {
    fn content_call(
        route: &str,
        argument: &Value,
        root: Option<&str>,
    ) -> Result<Call, ProviderError> {
        let mut call = Call::get(format!("/2/files/{route}"));
        call.method = Method::POST;
        call.headers.push((ACCEPT, HeaderValue::from_static("*/*")));
        call.headers.push((ARGUMENT, in_header(argument)?));
        if let Some(root) = root {
            call.headers.push((PATH_ROOT, in_header(&json!({".tag": "root", "root": root}))?));
        }
        Ok(call)
    }

    pub(super) async fn pinned(
        &self,
        tokens: &dyn TokenSource,
        id: &str,
        root: Option<&str>,
    ) -> Result<Found, ProviderError> {
        if !is_id(id) {
            return Err(ProviderError::NotFound);
        }
        let answer = self.rpc(tokens, "files/get_metadata", &json!({"path": id}), root).await?;
        Ok(match answer.json::<Entry>()? {
            Entry::Folder { id, .. } if is_id(&id) => Found::Folder(id),
            Entry::File {
                id, name, size, content_hash, is_downloadable, rev, export_info, ..
            } => {
                if !is_id(&id) {
                    return Err(ProviderError::Nonsense);
                }
                let rev = rev.filter(|rev| is_rev(rev));
                let (revision, export) = if is_downloadable {
                    (Some(rev.ok_or(ProviderError::Nonsense)?), None)
                } else {
                    let kind = export_info.and_then(|info| info.export_as);
                    let kind = kind.ok_or(ProviderError::Refused)?;
                    (rev, Some(Export { media_type: kind, link: None }))
                };
                Found::File(Box::new(Pinned {
                    id,
                    name,
                    media_type: None,
                    bytes: size.filter(|_| export.is_none()),
                    revision,
                    check: content_hash
                        .filter(|_| export.is_none())
                        .and_then(|h| Check::blocks(&h)),
                    export,
                    key: None,
                }))
            }
            Entry::Folder { .. } | Entry::Other => return Err(ProviderError::NotFound),
        })
    }

    pub(super) async fn content(
        &self,
        tokens: &dyn TokenSource,
        pinned: &Pinned,
        from: u64,
        root: Option<&str>,
    ) -> Result<Content, ProviderError> {
        let endpoint = &self.0.client().endpoints.content;
        if pinned.export.is_some() {
            let call = Self::content_call("export", &json!({"path": pinned.id}), root)?;
            let answer = api::stream(self.0.edges(), endpoint, tokens, &call, judge).await?;
            let Exported { export_metadata } = result(&answer)?;
            let made = Pinned { bytes: Some(export_metadata.size), ..pinned.clone() };
            let mut content = Content::begin(answer, &made, from)?;
            content.check = export_metadata.export_hash.and_then(|hash| Check::blocks(&hash));
            return Ok(content);
        }
        let revision = pinned.revision.as_deref().ok_or(ProviderError::Nonsense)?;
        let path = json!({"path": format!("rev:{revision}")});
        let mut call = Self::content_call("download", &path, root)?;
        if from > 0 {
            let range = HeaderValue::from_str(&format!("bytes={from}-"));
            call.headers.push((RANGE, range.map_err(|_| ProviderError::Nonsense)?));
        }
        let answer = api::stream(self.0.edges(), endpoint, tokens, &call, judge).await?;
        // Without it this is no answer of the download's, whatever its status says.
        let said: Downloaded = result(&answer)?;
        let check = said.content_hash.as_deref().and_then(Check::blocks);
        if said.rev != revision || Some(said.size) != pinned.bytes || check != pinned.check {
            return Err(ProviderError::Changed);
        }
        Content::begin(answer, pinned, from)
    }

    pub(super) async fn start(
        &self,
        tokens: &dyn TokenSource,
        root: Option<&str>,
    ) -> Result<Session, ProviderError> {
        let call = Self::content_call("upload_session/start", &json!({"close": false}), root)?;
        let answer = self.push(tokens, call, Chunk::nothing(0)).await?;
        let Started { session_id } = answer.json()?;
        Ok(Session(Zeroizing::new(session_id)))
    }

    async fn push(
        &self,
        tokens: &dyn TokenSource,
        mut call: Call,
        chunk: Chunk,
    ) -> Result<api::Answer, ProviderError> {
        call.headers.push((CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")));
        call.headers.push((CONTENT_LENGTH, HeaderValue::from(chunk.bytes)));
        let endpoint = &self.0.client().endpoints.content;
        api::push(self.0.edges(), endpoint, tokens, &call, chunk.body, judge_upload).await
    }

    pub(super) async fn chunk(
        &self,
        tokens: &dyn TokenSource,
        parcel: &Parcel,
        session: &Session,
        chunk: Chunk,
    ) -> Result<Sent, ProviderError> {
        let (at, end) = (chunk.at, chunk.at + chunk.bytes);
        let cursor = json!({"session_id": session.0.as_str(), "offset": at});
        let last = end == parcel.bytes;
        let argument = if last {
            json!({"cursor": cursor, "commit": commit(parcel)})
        } else {
            json!({"cursor": cursor, "close": false})
        };
        let route = if last { "upload_session/finish" } else { "upload_session/append_v2" };
        let call = Self::content_call(route, &argument, parcel.root.as_deref())?;
        let answer = self.push(tokens, call, chunk).await?;
        if answer.status == StatusCode::CONFLICT {
            return offset(&answer);
        }
        if !last {
            return Ok(Sent::Upto(end));
        }
        let Finished { id, size, content_hash } = answer.json()?;
        let check = content_hash.as_deref().and_then(Check::blocks);
        Ok(Sent::Whole(Stored { id, bytes: Some(size), check }))
    }

    /// How far an upload has come: an append of nothing says so, one way or the other.
    pub(super) async fn far(
        &self,
        tokens: &dyn TokenSource,
        parcel: &Parcel,
        session: &Session,
    ) -> Result<Sent, ProviderError> {
        let cursor = json!({"session_id": session.0.as_str(), "offset": 0});
        let argument = json!({"cursor": cursor, "close": false});
        let root = parcel.root.as_deref();
        let call = Self::content_call("upload_session/append_v2", &argument, root)?;
        let answer = self.push(tokens, call, Chunk::nothing(0)).await?;
        match answer.status {
            StatusCode::CONFLICT => offset(&answer),
            _ => Ok(Sent::Upto(0)),
        }
    }

    pub(super) async fn removed(
        &self,
        tokens: &dyn TokenSource,
        id: &str,
        root: Option<&str>,
    ) -> Result<(), ProviderError> {
        self.rpc(tokens, "files/delete_v2", &json!({"path": id}), root).await.map(drop)
    }
}

/// Where a file goes: never over one that is there, which Dropbox renames it beside.
fn commit(parcel: &Parcel) -> Value {
    let folder = parcel.folder.as_deref().unwrap_or_default();
    let path = format!("{folder}/{}", parcel.name);
    json!({"path": path, "mode": "add", "autorename": true, "mute": true, "strict_conflict": true})
}

/// An upload that is elsewhere than we thought says where.
fn offset(answer: &api::Answer) -> Result<Sent, ProviderError> {
    let said: Value = answer.json()?;
    let error = &said["error"];
    let place = [error, &error["lookup_failed"]].into_iter().find_map(|error| {
        let wrong = error[".tag"] == "incorrect_offset";
        wrong.then(|| error["correct_offset"].as_u64()).flatten()
    });
    place.map(Sent::Upto).ok_or(ProviderError::Refused)
}

/// As [`judge`], for uploads: a wrong offset is news, not a failure.
fn judge_upload(answer: &api::Answer) -> Verdict {
    let wrong = answer.status == StatusCode::CONFLICT
        && tags(answer).iter().any(|tag| tag == "incorrect_offset");
    if wrong { Verdict::Good } else { judge(answer) }
}

fn is_rev(text: &str) -> bool {
    (9..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_is_ascii_with_surrogates_for_what_lies_beyond() {
        let text = in_header(&json!("some_üñîcødé_and_\u{7f}")).unwrap();
        assert_eq!(text, r#""some_\u00fc\u00f1\u00eec\u00f8d\u00e9_and_\u007f""#);
        assert_eq!(in_header(&json!("😀")).unwrap(), r#""\ud83d\ude00""#);
        assert_eq!(in_header(&json!("a\nb")).unwrap(), r#""a\nb""#);
    }

    #[test]
    fn nothing_but_a_revision_follows_the_word() {
        assert!(is_rev("0123456789abcdef") && !is_rev("0123") && !is_rev("0123456789/../x"));
    }
}
