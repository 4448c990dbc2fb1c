//! Somebody with a browser, as far as HTTP goes: cookies, forms, redirects looked at one by one.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::harness::{Answer, Client};

/// A browser with its cookies.
#[derive(Clone)]
pub struct Person {
    client: Client,
    pub cookies: BTreeMap<String, String>,
}

/// A form of a page.
#[derive(Clone, Debug)]
pub struct Form {
    pub method: String,
    pub action: String,
    pub fields: Vec<(String, String)>,
}

impl Form {
    pub fn body(&self) -> String {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.fields).finish()
    }

    /// The same form with another value in each of its fields.
    pub fn forged(&self, value: &str) -> Self {
        let fields = self.fields.iter().map(|(name, _)| (name.clone(), value.to_owned()));
        Self { fields: fields.collect(), ..self.clone() }
    }
}

impl Person {
    pub fn at(gateway: SocketAddr) -> Self {
        Self { client: Client::new(gateway, None), cookies: BTreeMap::new() }
    }

    /// Opens an address of the gateway's: a path, or the whole.
    #[track_caller]
    pub fn open(&mut self, url: &str) -> Answer {
        self.ask("GET", url, None)
    }

    #[track_caller]
    pub fn submit(&mut self, form: &Form) -> Answer {
        assert_eq!(form.method, "post");
        self.ask("POST", &form.action, Some(form.body()))
    }

    #[track_caller]
    fn ask(&mut self, method: &str, url: &str, body: Option<String>) -> Answer {
        let base = format!("http://{}", self.client.addr);
        let path = url.strip_prefix(&base).unwrap_or(url);
        assert!(path.starts_with('/'), "{url} is not the gateway's");
        let mut ask = self.client.ask(method, path).header("Accept", "text/html,*/*;q=0.8");
        if !self.cookies.is_empty() {
            let pairs = self.cookies.iter().map(|(name, value)| format!("{name}={value}"));
            ask = ask.header("Cookie", pairs.collect::<Vec<_>>().join("; "));
        }
        let body = body.map(String::into_bytes);
        if let Some(body) = &body {
            ask = ask.header("Content-Type", "application/x-www-form-urlencoded").body(body);
        }
        let answer = ask.send();
        for line in answer.headers("set-cookie") {
            let pair = line.split(';').next().unwrap_or_default();
            let (name, value) = pair.split_once('=').expect("a cookie");
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        answer
    }
}

/// Every form of a page, in order.
pub fn forms(page: &str) -> Vec<Form> {
    let parts = page.split("<form ").skip(1);
    let parts = parts.map(|part| part.split("</form>").next().unwrap_or_default());
    parts.map(form).collect()
}

fn form(text: &str) -> Form {
    let attribute = |text: &str, name: &str| {
        let start = text.find(&format!("{name}=\""))? + name.len() + 2;
        let value = text[start..].split('"').next()?;
        Some(unescaped(value))
    };
    let fields = text.split("<input ").skip(1).filter_map(|input| {
        let input = input.split('>').next()?;
        Some((attribute(input, "name")?, attribute(input, "value")?))
    });
    Form {
        method: attribute(text, "method").unwrap_or_default(),
        action: attribute(text, "action").unwrap_or_default(),
        fields: fields.collect(),
    }
}

/// Every link of a page.
pub fn links(page: &str) -> Vec<String> {
    let parts = page.split("<a ").skip(1).filter_map(|part| {
        let tag = part.split('>').next()?;
        let start = tag.find("href=\"")? + 6;
        Some(unescaped(tag[start..].split('"').next()?))
    });
    parts.collect()
}

fn unescaped(text: &str) -> String {
    text.replace("&#38;", "&").replace("&amp;", "&").replace("&#34;", "\"").replace("&#39;", "'")
}
