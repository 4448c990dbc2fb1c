//! `dayfly process`: bytes in, result out, nothing kept there.

use std::path::PathBuf;

use clap::Args;
use http::Method;
use serde_json::json;

use super::client::{Client, ClientError};
use super::remote::{Voice, segment};
use super::transfer::{Source, Target, bar, is_dash};

#[derive(Args, Debug)]
pub struct Process {
    /// A processor (`text`), several joined by `+`, or a pipeline's name
    #[arg(value_name = "STEPS")]
    steps: String,
    /// What to send; `-` is stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where the result goes, replacing what is there; `-` is stdout
    #[arg(value_name = "TO", default_value = "-")]
    to: PathBuf,
    /// An option of a step, like `format=markdown`; with several steps `text.format=markdown`
    #[arg(short, long = "option", value_name = "NAME=VALUE", value_parser = pair)]
    options: Vec<(String, String)>,
    #[command(flatten)]
    pub voice: Voice,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("an option is like NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Process {
    pub async fn run(self, client: &Client) -> Result<(), ClientError> {
        let source = Source::open(&self.file)?;
        let target = Target::open(&self.to, true)?;
        let pulse = client.pulse();
        let sent = bar(self.voice.draws(), source.length, &self.file.display().to_string());
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&self.options);
        let path = format!("/v1/process/{}?{}", segment(&self.steps), query.finish());
        let how = (Method::POST, path.as_str());
        let request = source.request(client, how, (&pulse, &sent))?;
        let answer = client.send(request, &pulse).await?;
        let receipt = answer.headers().get("dayfly-receipt");
        let receipt = receipt.and_then(|value| value.to_str().ok()).map(str::to_owned);
        let size = target.fill(answer, &indicatif::ProgressBar::hidden()).await?;
        sent.finish_and_clear();
        if !is_dash(&self.to) {
            let shown = self.to.display().to_string();
            let document = json!({ "path": shown, "size": size, "receipt": receipt });
            self.voice.say(&document, &format!("{shown}  {size} bytes"));
        }
        Ok(())
    }
}
