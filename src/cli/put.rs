//! `dayfly put`: files in, ids out. A long one goes on by itself where it broke off.

use std::path::{Path, PathBuf};

use clap::Args;
use http::{HeaderMap, HeaderValue, Method, header};
use serde_json::Value;

use super::client::{Client, ClientError, answered, printable};
use super::remote::{Voice, segment, word};
use super::resume::Resumable;
use super::transfer::{Source, bar, is_dash};

#[derive(Args, Debug)]
pub struct Put {
    /// What to send; `-` is stdin
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How long it lives at most: 90s, 15m, 4h, 23h30m
    #[arg(long, value_name = "SPAN")]
    ttl: Option<String>,
    /// The name it gets, in place of its own
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Gone after so many downloads
    #[arg(long, value_name = "N")]
    downloads: Option<u64>,
    /// The region it rests in
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Its media type, as far as you know it
    #[arg(long = "type", value_name = "TYPE")]
    media_type: Option<String>,
    #[command(flatten)]
    pub voice: Voice,
}

impl Put {
    pub async fn run(self, client: &Client) -> Result<(), ClientError> {
        if self.files.len() > 1 && self.name.is_some() {
            return Err(ClientError::Usage("--name is for one file"));
        }
        for file in &self.files {
            let stored: Value = self.send(client, file).await?;
            let (id, until) = (word(&stored, "id"), word(&stored, "expires_at"));
            let name = printable(stored["name"].as_str().unwrap_or_default());
            self.voice.say(&stored, &format!("{id}  until {until}  {name}"));
        }
        Ok(())
    }

    async fn send(&self, client: &Client, file: &Path) -> Result<Value, ClientError> {
        let source = Source::open(file)?;
        let (pulse, label) = (client.pulse(), file.display().to_string());
        let bar = bar(self.voice.draws(), source.length, &label);
        let said = self.said(file)?;
        // A short file is sooner sent again than resumed, and a pipe cannot be read twice.
        let stored = match source.length.filter(|length| *length > LONG) {
            Some(length) => {
                let (path, whole) = (self.path(), (file, length));
                Resumable::begin(client, whole, &path, said, &bar).await?.send().await
            }
            None => {
                let how = (Method::POST, self.path());
                let mut request = source.request(client, (how.0, &how.1), (&pulse, &bar))?;
                request.headers_mut().extend(said);
                answered(client.send(request, &pulse).await?).await
            }
        };
        bar.finish_and_clear();
        stored
    }

    /// What is said of the file, beside its bytes.
    fn said(&self, file: &Path) -> Result<HeaderMap, ClientError> {
        let mut said = HeaderMap::new();
        let own = file.file_name().filter(|_| !is_dash(file)).map(|name| name.to_string_lossy());
        if let Some(name) = self.name.as_deref().or(own.as_deref()) {
            // In a header, not in the address: proxies write addresses down.
            let value = format!("attachment; filename*=UTF-8''{}", segment(name));
            let value = HeaderValue::from_str(&value).map_err(|_| BAD_NAME)?;
            said.insert(header::CONTENT_DISPOSITION, value);
        }
        if let Some(kind) = &self.media_type {
            let kind = HeaderValue::from_str(kind).map_err(|_| BAD_TYPE)?;
            said.insert(header::CONTENT_TYPE, kind);
        }
        Ok(said)
    }

    fn path(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let downloads = self.downloads.map(|n| n.to_string());
        for (name, value) in
            [("ttl", &self.ttl), ("downloads", &downloads), ("region", &self.region)]
        {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        format!("/v1/files?{}", query.finish())
    }
}

/// A longer file goes on where it broke off, bytes.
const LONG: u64 = 1 << 20;

const BAD_NAME: ClientError = ClientError::Usage("that is no name for a file");
const BAD_TYPE: ClientError = ClientError::Usage("that is no media type");
