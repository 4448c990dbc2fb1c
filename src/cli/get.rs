//! `dayfly get`: a file back, whole or not at all.

use std::path::PathBuf;

use clap::Args;
use http::{Method, header};
use serde_json::{Value, json};

use super::client::{Client, ClientError};
use super::remote::{Voice, segment};
use super::transfer::{Target, bar};
use crate::egress::nothing;

#[derive(Args, Debug)]
pub struct Get {
    /// The file's id
    #[arg(value_name = "ID")]
    id: String,
    /// Where it goes, replacing what is there; `-` is stdout. Absent: the file's own name in this
    /// folder, if nothing has that name yet
    #[arg(value_name = "TO")]
    to: Option<PathBuf>,
    #[command(flatten)]
    pub voice: Voice,
}

impl Get {
    pub async fn run(self, client: &Client) -> Result<(), ClientError> {
        let file = format!("/v1/files/{}", segment(&self.id));
        // The place is found before a download is claimed: a claim is spent for good.
        let (path, replace) = match &self.to {
            Some(path) => (path.clone(), true),
            None => (self.own_name(&client.json(Method::GET, &file, None).await?), false),
        };
        let target = Target::open(&path, replace)?;
        let request = client.request(Method::GET, &format!("{file}/content"), nothing())?;
        let answer = client.send(request, &client.pulse()).await?;
        let length = answer.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
        let bar = bar(self.voice.draws(), length, &path.display().to_string());
        let to_stdout = matches!(target, Target::Stdout);
        let size = target.fill(answer, &bar).await?;
        bar.finish_and_clear();
        if !to_stdout {
            let shown = path.display().to_string();
            let document = json!({ "id": self.id, "path": shown, "size": size });
            self.voice.say(&document, &format!("{shown}  {size} bytes"));
        }
        Ok(())
    }

    /// A name that lands in this folder and hides nowhere: the file's, or else its id.
    fn own_name(&self, file: &Value) -> PathBuf {
        let name = file["name"].as_str().unwrap_or_default();
        let plain = !name.is_empty()
            && !name.starts_with(['.', '-'])
            && !name.contains(['/', '\\'])
            && !name.chars().any(char::is_control);
        let id = file["id"].as_str().unwrap_or(&self.id).replace(['/', '\\', '.'], "_");
        if plain { PathBuf::from(name) } else { PathBuf::from(id) }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        get: Get,
    }

    #[test]
    fn a_name_from_afar_lands_in_this_folder() {
        let get = Line::parse_from(["get", "file_a"]).get;
        let named = |name: &str| get.own_name(&json!({ "id": "file_a", "name": name }));
        assert_eq!(named("report.pdf"), PathBuf::from("report.pdf"));
        for bad in ["", ".bashrc", "..", "-rf", "a/b", "..\\b", "a\nb"] {
            assert_eq!(named(bad), PathBuf::from("file_a"), "{bad:?}");
        }
    }
}
