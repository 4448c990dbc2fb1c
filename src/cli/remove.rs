//! `dayfly rm`: keys destroyed, receipts shown.

use clap::Args;
use http::Method;
use serde_json::Value;

use super::client::{Client, ClientError};
use super::remote::{Voice, segment, word};

#[derive(Args, Debug)]
pub struct Remove {
    /// The ids of the files
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    pub voice: Voice,
}

impl Remove {
    /// Goes through all of them, so that one that is gone already keeps no other alive; the first
    /// refusal is told at the end.
    pub async fn run(self, client: &Client) -> Result<(), ClientError> {
        let mut refused = Ok(());
        for id in &self.ids {
            let path = format!("/v1/files/{}", segment(id));
            match client.json::<Value>(Method::DELETE, &path, None).await {
                Ok(receipt) => {
                    let (id, at) = (word(&receipt, "id"), word(&receipt, "destroyed_at"));
                    self.voice.say(&receipt, &format!("{id}  destroyed {at}"));
                }
                Err(error @ ClientError::Refused(_)) => refused = refused.and(Err(error)),
                Err(error) => return Err(error),
            }
        }
        refused
    }
}
