//! `dayfly pull`: an item of a connection becomes a file there, or what steps make of it.

use std::time::Duration;

use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::client::{Client, ClientError, Refusal};
use super::remote::{Voice, segment, word};
use super::transfer::bar;

/// Between two looks at the job.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Args, Debug)]
pub struct Pull {
    /// The connection's id, as `dayfly connect` told it
    #[arg(value_name = "CONNECTION")]
    connection: String,
    /// The id of a file or folder there
    #[arg(value_name = "ITEM")]
    item: String,
    /// Steps to run on it, like text,compress; without them it is kept as it is
    #[arg(long, value_name = "STEPS", value_delimiter = ',')]
    steps: Vec<String>,
    /// How long it lives, like 15m or 4h
    #[arg(long, value_name = "SPAN")]
    ttl: Option<String>,
    /// The subject the connection was made for
    #[arg(long, value_name = "ID")]
    subject: Option<String>,
    /// A folder of the connection where the result is put, too; it needs browse+write
    #[arg(long, value_name = "FOLDER")]
    deliver: Option<String>,
    #[command(flatten)]
    pub voice: Voice,
}

impl Pull {
    fn order(&self) -> Value {
        let mut order = json!({
            "source": { "connection": self.connection, "item": self.item }, "steps": self.steps,
        });
        for (name, value) in [("ttl", &self.ttl), ("subject", &self.subject)] {
            if let Some(value) = value {
                order[name] = value.as_str().into();
            }
        }
        if let Some(folder) = &self.deliver {
            order["deliver"] = json!({ "connection": self.connection, "folder": folder });
        }
        order
    }

    /// Waits for the job's end, however long the transfer takes: it goes on there even if this
    /// command is interrupted.
    pub async fn run(self, client: &Client) -> Result<(), ClientError> {
        let mut job: Value = client.json(Method::POST, "/v1/jobs", Some(&self.order())).await?;
        let path = format!("/v1/jobs/{}", segment(word(&job, "id")));
        let bar = bar(self.voice.draws(), Some(0), &self.item);
        while matches!(job["state"].as_str(), Some("queued" | "running")) {
            let progress = &job["progress"];
            bar.set_length(progress["bytes_total"].as_u64().unwrap_or(0));
            bar.set_position(progress["bytes_in"].as_u64().unwrap_or(0));
            client.pause(LOOK).await;
            job = client.json(Method::GET, &path, None).await?;
        }
        bar.finish_and_clear();
        if job["state"] != "succeeded" {
            let document = match &job["problem"] {
                Value::Null => json!({ "title": "The job has ended", "detail": job["state"] }),
                problem => problem.clone(),
            };
            let status = document["status"].as_u64().and_then(|status| status.try_into().ok());
            return Err(ClientError::Refused(Refusal { status: status.unwrap_or(410), document }));
        }
        for file in job["outputs"].as_array().into_iter().flatten() {
            let size = file["size"].as_u64().unwrap_or(0);
            let name = super::client::printable(word(file, "name"));
            self.voice.say(file, &format!("{}  {size} bytes  {name}", word(file, "id")));
        }
        Ok(())
    }
}
