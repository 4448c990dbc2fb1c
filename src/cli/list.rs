//! `dayfly ls`: what is alive.

use clap::Args;
use http::Method;
use serde_json::Value;

use super::client::{Client, ClientError, printable};
use super::remote::{Voice, word};

#[derive(Args, Debug)]
pub struct List {
    #[command(flatten)]
    pub voice: Voice,
}

impl List {
    pub async fn run(self, client: &Client) -> Result<(), ClientError> {
        let mut cursor = None::<String>;
        loop {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("limit", "1000");
            if let Some(cursor) = &cursor {
                query.append_pair("cursor", cursor);
            }
            let path = format!("/v1/files?{}", query.finish());
            let page: Value = client.json(Method::GET, &path, None).await?;
            for file in page["files"].as_array().ok_or(ClientError::Strange)? {
                let (id, until) = (word(file, "id"), word(file, "expires_at"));
                let size = file["size"].as_u64().unwrap_or_default();
                let name = printable(file["name"].as_str().unwrap_or_default());
                self.voice.say(file, &format!("{id}  {size:>12}  until {until:<24}  {name}"));
            }
            match page["cursor"].as_str() {
                // A cursor that stands still would never end.
                Some(next) if cursor.as_deref() != Some(next) => cursor = Some(next.to_owned()),
                _ => return Ok(()),
            }
        }
    }
}
