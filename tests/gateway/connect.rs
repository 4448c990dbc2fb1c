//! Connections: a person's consent, given once, used for what it was given for, and taken back.

mod attacks;
mod browse;
mod browser;
mod endings;
mod judges;
mod life;
mod pull;
mod quiet;

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::cloud::{Answer as Decision, Cloud, Kind, Part, Person, forms, links};
use crate::harness::{Answer, Client, Setup, TestGateway};

/// Where the app of the tests is.
const APP: &str = "https://app.acme.example";

/// A gateway between an app, two services and whoever comes by.
struct Scene {
    // First: it tells the services goodbye when it ends.
    gateway: TestGateway,
    dropbox: Cloud,
    google: Cloud,
}

/// A connection that was asked for.
struct Begun {
    id: String,
    url: String,
}

/// A connection whose person has consented.
struct Consented {
    id: String,
    person: Person,
    /// The page they see then.
    page: String,
    place: String,
}

impl Consented {
    /// The code that the person brings to the app, or reads.
    #[track_caller]
    fn code(&self) -> String {
        if let Some(link) = links(&self.page).into_iter().find(|link| link.contains("code=")) {
            return Cloud::asked(&link)["code"].clone();
        }
        let start = self.page.find("<code>").expect("a code is shown") + 6;
        self.page[start..].split('<').next().unwrap().to_owned()
    }
}

impl Scene {
    fn start() -> Self {
        Self::with(|setup| setup)
    }

    fn with(change: impl FnOnce(Setup) -> Setup) -> Self {
        let (dropbox, google) = (Cloud::start(Kind::Dropbox), Cloud::start(Kind::GoogleDrive));
        let setup = Setup::new()
            .set("tenants.acme", "display_name", "\"Acme\"")
            .set("tenants.acme", "providers", "[\"dropbox\", \"google_drive\"]")
            .set("tenants.acme", "return_to", &format!("[\"{APP}\"]"))
            .key("app", "acme", &["connector"])
            .key("app2", "other", &["connector"]);
        let gateway = change(google.join(dropbox.join(setup))).start();
        Self { gateway, dropbox, google }
    }

    fn cloud(&self, kind: Kind) -> &Cloud {
        match kind {
            Kind::Dropbox => &self.dropbox,
            Kind::GoogleDrive => &self.google,
        }
    }

    fn app(&self) -> Client {
        self.gateway.client_of("app")
    }

    fn person(&self) -> Person {
        Person::at(self.gateway.public)
    }

    /// What an app asks for, with `more` in the body.
    fn asking(&self, kind: Kind, more: &Value) -> Answer {
        let mut body = json!({
            "provider": kind.name(), "access": "browse", "return_to": format!("{APP}/back?a=1"),
        });
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        body.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        self.app().post("/v1/connections", body.to_string().as_bytes())
    }

    #[track_caller]
    fn begin(&self, kind: Kind, more: &Value) -> Begun {
        let begun = self.asking(kind, more).expect(201);
        Begun { id: begun.text("id"), url: begun.text("authorize_url") }
    }

    /// The person opens the page and agrees; where they are sent.
    #[track_caller]
    fn agree(&self, person: &mut Person, url: &str) -> String {
        let page = person.open(url).expect(200).body_text();
        let sent = person.submit(&forms(&page)[0]).expect(303);
        sent.header("location").unwrap().to_owned()
    }

    /// All the way to the page that shows the account.
    #[track_caller]
    fn consent(&self, kind: Kind, more: &Value, decision: &Decision) -> Consented {
        let Begun { id, url } = self.begin(kind, more);
        let mut person = self.person();
        let sent = self.agree(&mut person, &url);
        let back = self.cloud(kind).decide(&sent, decision);
        let place = person.open(&back).expect(303).header("location").unwrap().to_owned();
        let page = person.open(&place).expect(200).body_text();
        Consented { id, person, page, place }
    }

    fn confirm(&self, id: &str, more: &Value) -> Answer {
        self.app().post(format!("/v1/connections/{id}/confirm"), more.to_string().as_bytes())
    }

    /// A connection that can be used.
    #[track_caller]
    fn active(&self, kind: Kind, more: &Value) -> String {
        let consented = self.consent(kind, more, &Decision::allow());
        let subject = more.get("subject").cloned().unwrap_or(Value::Null);
        let mut confirm = json!({"code": consented.code(), "subject": subject});
        confirm.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        self.confirm(&consented.id, &confirm).expect(200);
        consented.id
    }

    #[track_caller]
    fn show(&self, id: &str) -> Value {
        self.app().get(format!("/v1/connections/{id}")).expect(200).json()
    }

    #[track_caller]
    fn state(&self, id: &str) -> String {
        self.show(id)["state"].as_str().unwrap().to_owned()
    }

    /// The slug of the problem a connection failed with.
    #[track_caller]
    fn failure(&self, id: &str) -> String {
        let shown = self.show(id);
        assert_eq!(shown["state"], "failed", "{shown}");
        let slug = shown["problem"]["type"].as_str().unwrap();
        slug.trim_start_matches("/problems/").to_owned()
    }

    fn items(&self, id: &str, query: &str) -> Answer {
        self.app().get(format!("/v1/connections/{id}/items{query}"))
    }

    fn delete(&self, id: &str) -> Answer {
        self.app().delete(format!("/v1/connections/{id}"))
    }

    fn token_requests(&self) -> usize {
        self.dropbox.count(Part::Token) + self.google.count(Part::Token)
    }
}

/// A query as a map.
fn query(url: &str) -> HashMap<String, String> {
    Cloud::asked(url)
}
