//! `dayfly receipt`: what became of a file, for people, for programs, and for `dayfly verify`.

use std::io::Write;
use std::time::Duration;

use clap::Args;
use http::{HeaderValue, Method, header};
use serde_json::Value;

use super::client::{Client, ClientError};
use super::remote::{Voice, segment, word};
use crate::egress::{nothing, read};

/// The longest note or proof, bytes.
const MOST: usize = 1 << 20;
/// Between two looks whether the proof is there, and how often to look: the log's next checkpoint
/// is at most a minute away.
const PAUSE: Duration = Duration::from_secs(2);
const LOOKS: u32 = 60;

#[derive(Args, Debug)]
pub struct Receipt {
    /// The id of a file, or of a processing request
    #[arg(value_name = "ID")]
    id: String,
    /// The receipt as a signed note, for `dayfly verify`
    #[arg(long, conflicts_with = "proof")]
    note: bool,
    /// The note with its place in the log, for `dayfly verify`; waits for the log's next checkpoint
    #[arg(long)]
    proof: bool,
    #[command(flatten)]
    pub voice: Voice,
}

impl Receipt {
    pub async fn run(self, client: &Client) -> Result<(), ClientError> {
        let path = format!("/v1/receipts/{}", segment(&self.id));
        if self.proof {
            return print(&proof(client, &format!("{path}/proof")).await?);
        }
        if self.note {
            let text = HeaderValue::from_static("text/plain");
            return print(&fetched(client, &path, text).await?);
        }
        let receipt: Value = client.json(Method::GET, &path, None).await?;
        let (id, state) = (word(&receipt, "id"), word(&receipt, "state"));
        let words = match receipt["destroyed_at"].as_str() {
            Some(at) => format!("{id}  {state}  destroyed {at}  {}", word(&receipt, "reason")),
            None => format!("{id}  {state}  until {}", word(&receipt, "expires_at")),
        };
        self.voice.say(&receipt, &words);
        Ok(())
    }
}

/// The proof, as soon as there is one.
async fn proof(client: &Client, path: &str) -> Result<Vec<u8>, ClientError> {
    let mut looks = 0;
    loop {
        let json = HeaderValue::from_static("application/json");
        match fetched(client, path, json).await {
            Err(ClientError::Refused(refusal))
                if refusal.slug() == Some("not-logged-yet") && looks < LOOKS =>
            {
                looks += 1;
                client.pause(PAUSE).await;
            }
            other => return other,
        }
    }
}

/// An answer's bytes as they are: a signature stands over them.
async fn fetched(client: &Client, path: &str, kind: HeaderValue) -> Result<Vec<u8>, ClientError> {
    let mut request = client.request(Method::GET, path, nothing())?;
    request.headers_mut().insert(header::ACCEPT, kind);
    let answer = client.send(request, &client.pulse()).await?;
    Ok(read(answer.into_body(), MOST).await?)
}

/// To stdout. A reader that has gone away is no error.
fn print(bytes: &[u8]) -> Result<(), ClientError> {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(bytes).and_then(|()| out.flush());
    Ok(())
}
