//! A file sent in as many requests as it takes: what breaks off goes on where the gateway says.

use std::path::Path;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use indicatif::ProgressBar;
use serde_json::Value;

use super::client::{Client, ClientError, answered};
use super::transfer::Source;
use crate::clock::{Clock, SystemClock};
use crate::egress::nothing;

/// Breaks in a row, without a byte in between that was kept, before it is given up.
const TRIES: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A file on its way, and where the gateway waits for the rest of it.
pub struct Resumable<'a> {
    client: &'a Client,
    file: &'a Path,
    length: u64,
    place: String,
    bar: &'a ProgressBar,
}

impl<'a> Resumable<'a> {
    /// Has the gateway make a place for the file. Nothing of it is sent yet, so that the place is
    /// known whatever happens to its bytes.
    ///
    /// # Errors
    /// When the gateway refuses it.
    pub async fn begin(
        client: &'a Client,
        (file, length): (&'a Path, u64),
        path: &str,
        said: HeaderMap,
        bar: &'a ProgressBar,
    ) -> Result<Self, ClientError> {
        let mut request = client.request(Method::POST, path, nothing())?;
        request.headers_mut().extend(said);
        set(request.headers_mut(), "upload-complete", "?0");
        set(request.headers_mut(), "upload-length", &length.to_string());
        let answer = client.send(request, &client.pulse()).await?;
        let place = answer.headers().get(header::LOCATION).and_then(|place| place.to_str().ok());
        // Where it goes on is the gateway's to say, but not on which host.
        let place = place.filter(|place| place.starts_with("/v1/uploads/"));
        let place = place.ok_or(ClientError::Strange)?.to_owned();
        Ok(Self { client, file, length, place, bar })
    }

    /// Sends the file to its end, however often that breaks off.
    ///
    /// # Errors
    /// When the gateway refuses it, or cannot be reached for too long.
    pub async fn send(self) -> Result<Value, ClientError> {
        let (mut offset, mut failures) = (0, 0);
        loop {
            let broke = match self.append(offset).await {
                Ok(stored) => return Ok(stored),
                Err(broke) if passes(&broke) => broke,
                Err(refused) => return Err(refused),
            };
            let before = offset;
            loop {
                failures += 1;
                if failures > TRIES {
                    return Err(broke);
                }
                SystemClock.sleep((FIRST_PAUSE * 2_u32.pow(failures - 1)).min(LONGEST_PAUSE)).await;
                match self.stands().await {
                    Ok(Standing::At(at)) => {
                        offset = at;
                        break;
                    }
                    // All had arrived, and only the answer was lost.
                    Ok(Standing::Complete(file)) => {
                        let path = format!("/v1/files/{file}");
                        return self.client.json(Method::GET, &path, None).await;
                    }
                    Err(again) if passes(&again) => {}
                    Err(refused) => return Err(refused),
                }
            }
            if offset > before {
                failures = 0;
            }
        }
    }

    /// Sends what is left from `offset` on.
    async fn append(&self, offset: u64) -> Result<Value, ClientError> {
        let source = Source::open_at(self.file, offset)?;
        self.bar.set_position(offset);
        let pulse = self.client.pulse();
        let how = (Method::PATCH, self.place.as_str());
        let mut request = source.request(self.client, how, (&pulse, self.bar))?;
        let headers = request.headers_mut();
        headers
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/partial-upload"));
        set(headers, "upload-offset", &offset.to_string());
        set(headers, "upload-complete", "?1");
        set(headers, "upload-length", &self.length.to_string());
        answered(self.client.send(request, &pulse).await?).await
    }

    async fn stands(&self) -> Result<Standing, ClientError> {
        let request = self.client.request(Method::HEAD, &self.place, nothing())?;
        let answer = self.client.send(request, &self.client.pulse()).await?;
        let said = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
        if let Some(file) = said("dayfly-file") {
            return Ok(Standing::Complete(super::remote::segment(file)));
        }
        let offset = said("upload-offset").and_then(|offset| offset.parse().ok());
        let offset = offset.filter(|offset| *offset <= self.length);
        offset.map(Standing::At).ok_or(ClientError::Strange)
    }
}

/// Where the gateway says that an upload stands.
enum Standing {
    At(u64),
    Complete(String),
}

/// Whether going on may help: the connection broke, the gateway was busy, or somebody before us was
/// still heard.
fn passes(error: &ClientError) -> bool {
    match error {
        ClientError::Away(_) | ClientError::Strange => true,
        ClientError::Refused(refusal) => matches!(refusal.status, 408 | 409 | 423 | 502..=504),
        ClientError::NoKey
        | ClientError::BadKey
        | ClientError::BadUrl
        | ClientError::Usage(_)
        | ClientError::Local { .. } => false,
    }
}

fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}
