//! Dropbox and Google Drive as servers on loopback: they grant, list, revoke, and misbehave on
//! order. What they answer is judged by the providers' own clients (`judges`).

mod content;
mod dropbox;
mod google_drive;
mod oauth;
mod person;
mod server;
mod tree;

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, Mutex};

use serde_json::Value;

pub use google_drive::error as drive_error;
pub use oauth::Answer;
pub use person::{Form, Person, forms, links};
pub use server::{End, Framing, Reply, Request};
pub use tree::{FOLDER, Node, Tree};

use crate::harness::Setup;
use oauth::Grants;
use server::Server;

/// Which service it plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Dropbox,
    GoogleDrive,
}

impl Kind {
    pub const BOTH: [Self; 2] = [Self::Dropbox, Self::GoogleDrive];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Dropbox => "dropbox",
            Self::GoogleDrive => "google_drive",
        }
    }
}

/// A part of the service that can be told to misbehave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    Token,
    Account,
    List,
    Revoke,
    /// A file's bytes.
    Content,
    /// Beginning to put a file there.
    Upload,
    /// A part of it.
    Chunk,
}

/// How it misbehaves.
#[derive(Clone)]
pub enum Trick {
    /// Answers this instead.
    Says(Reply),
    /// Changes the JSON it would have answered.
    Edits(fn(&mut Value)),
    /// Keeps silent until it is told to behave.
    Holds,
    /// Changes the answer it would have given.
    Alters(fn(&mut Reply)),
    /// Does not hear a header of the request.
    Ignores(&'static str),
}

/// A misbehaviour that was ordered, and for how many requests.
type Orders = HashMap<Part, (Trick, usize)>;

/// Whose account it is.
#[derive(Clone)]
pub struct Account {
    pub id: String,
    pub name: String,
    pub email: String,
    /// Dropbox: a team's space around the member's own.
    pub team_root: bool,
}

/// A service that runs.
pub struct Cloud {
    pub kind: Kind,
    server: Server,
    state: Arc<State>,
    secret_file: tempfile::NamedTempFile,
}

struct State {
    kind: Kind,
    client_id: String,
    client_secret: String,
    account: Mutex<Account>,
    tree: Mutex<Tree>,
    grants: Mutex<Grants>,
    orders: Mutex<Orders>,
    uploads: Mutex<Uploads>,
}

/// Uploads that have begun: the folder, the name, and what has come.
type Uploads = HashMap<String, (String, String, Vec<u8>)>;

impl Cloud {
    pub fn start(kind: Kind) -> Self {
        let account = Account {
            // Dropbox's have 40 characters, and its client insists.
            id: "dbid:AAH-of-nobody-in-particular-000-abc".to_owned(),
            name: "Ada Example".to_owned(),
            email: "ada@mail.example".to_owned(),
            team_root: false,
        };
        let state = Arc::new(State {
            kind,
            client_id: format!("client-of-{}", kind.name()),
            client_secret: format!("clientsecret-of-{}", kind.name()),
            account: Mutex::new(account),
            tree: Mutex::new(Tree::sample(kind)),
            grants: Mutex::default(),
            orders: Mutex::default(),
            uploads: Mutex::default(),
        });
        let answering = state.clone();
        let server = Server::start(move |request, held| answering.answer(request, held));
        let mut secret_file = tempfile::NamedTempFile::new().unwrap();
        writeln!(secret_file, "{}", state.client_secret).unwrap();
        Self { kind, server, state, secret_file }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.server.addr)
    }

    pub fn client_id(&self) -> &str {
        &self.state.client_id
    }

    pub fn client_secret(&self) -> &str {
        &self.state.client_secret
    }

    /// Writes this service into a gateway's settings.
    pub fn join(&self, setup: Setup) -> Setup {
        let (section, url) = (format!("providers.{}", self.kind.name()), self.url());
        let file = self.secret_file.path().display().to_string();
        let (authorize, token, api, revoke) = match self.kind {
            Kind::Dropbox => ("oauth2/authorize", "oauth2/token", "", "2/auth/token/revoke"),
            Kind::GoogleDrive => ("o/oauth2/v2/auth", "token", "drive/v3", "revoke"),
        };
        let quoted = |text: String| format!("{text:?}");
        setup
            .set("", "allow_insecure_loopback", "true")
            .set(&section, "client_id", &quoted(self.state.client_id.clone()))
            .set(&section, "client_secret_file", &quoted(file))
            .set(&section, "authorize_url", &quoted(format!("{url}/{authorize}")))
            .set(&section, "token_url", &quoted(format!("{url}/{token}")))
            .set(&section, "api_url", &quoted(format!("{url}/{api}")))
            .set(&section, "content_url", &quoted(format!("{url}/{api}")))
            .set(&section, "revoke_url", &quoted(format!("{url}/{revoke}")))
    }

    /// Misbehaves for so many requests of that part.
    pub fn order(&self, part: Part, times: usize, trick: Trick) {
        self.state.orders.lock().unwrap().insert(part, (trick, times));
    }

    pub fn behave(&self) {
        self.state.orders.lock().unwrap().clear();
        self.server.let_go();
    }

    pub fn log_in(&self, account: Account) {
        *self.state.account.lock().unwrap() = account;
    }

    pub fn account(&self) -> Account {
        self.state.account.lock().unwrap().clone()
    }

    pub fn plant(&self, tree: Tree) {
        *self.state.tree.lock().unwrap() = tree;
    }

    /// What lies there now.
    pub fn tree(&self) -> Tree {
        self.state.tree.lock().unwrap().clone()
    }

    /// What the person does on the service's own page: the address they are sent back to.
    #[track_caller]
    pub fn decide(&self, authorize_url: &str, answer: &Answer) -> String {
        let query = authorize_url.strip_prefix(&self.url()).expect("the service's own address");
        let request = Request::of(query, b"");
        let ask = oauth::Asked::read(&self.state, &request).expect("a good authorization request");
        oauth::decide(&self.state, &ask, answer)
    }

    /// The query of an authorization request.
    pub fn asked(authorize_url: &str) -> HashMap<String, String> {
        let query = authorize_url.split_once('?').map_or("", |(_, query)| query);
        form_urlencoded::parse(query.as_bytes()).into_owned().collect()
    }

    /// Every access token that is good now, and every refresh token.
    pub fn tokens(&self) -> Vec<String> {
        self.state.grants.lock().unwrap().alive()
    }

    /// Every token and code that was ever given.
    pub fn secrets(&self) -> Vec<String> {
        self.state.grants.lock().unwrap().given.clone()
    }

    /// Lets every access token run out.
    pub fn expire(&self) {
        self.state.grants.lock().unwrap().expire();
    }

    /// The person takes everything back, at the service.
    pub fn withdraw(&self) {
        self.state.grants.lock().unwrap().withdraw();
    }

    /// How long access tokens live from now on, seconds.
    pub fn token_life(&self, seconds: u64) {
        self.state.grants.lock().unwrap().lives = Some(seconds);
    }

    /// How many requests of a part there were.
    pub fn count(&self, part: Part) -> usize {
        self.requests().iter().filter(|request| self.state.part(request) == Some(part)).count()
    }

    pub fn requests(&self) -> Vec<Request> {
        self.server.seen()
    }
}

impl State {
    fn part(&self, request: &Request) -> Option<Part> {
        match self.kind {
            Kind::Dropbox => dropbox::part(request),
            Kind::GoogleDrive => google_drive::part(request),
        }
    }

    fn answer(&self, request: &Request, held: &server::Held) -> Reply {
        let part = self.part(request);
        let trick = part.and_then(|part| self.due(part));
        match &trick {
            Some(Trick::Says(reply)) => return reply.clone(),
            Some(Trick::Holds) => held.wait(),
            Some(Trick::Edits(_) | Trick::Alters(_) | Trick::Ignores(_)) | None => {}
        }
        let mut heard = request.clone();
        if let Some(Trick::Ignores(name)) = trick {
            heard.headers.retain(|(found, _)| !found.eq_ignore_ascii_case(name));
        }
        let request = &heard;
        let mut reply = match (part, self.kind) {
            (Some(Part::Token), _) => oauth::token(self, request),
            (None, _) if request.path.ends_with("/decide") => oauth::decided(self, request),
            (None, _) if oauth::is_authorize(&request.path) => oauth::page(self, request),
            (_, Kind::Dropbox) => dropbox::answer(self, request),
            (_, Kind::GoogleDrive) => google_drive::answer(self, request),
        };
        if self.kind == Kind::Dropbox && reply.is_json() {
            // Dropbox's own client takes no other spelling.
            reply.headers[0].1 = "application/json".to_owned();
        }
        if let Some(Trick::Alters(alter)) = trick {
            alter(&mut reply);
        }
        if let Some(Trick::Edits(edit)) = trick {
            let mut json: Value = serde_json::from_slice(&reply.body).unwrap_or(Value::Null);
            edit(&mut json);
            reply.body = json.to_string().into_bytes();
        }
        reply
    }

    fn due(&self, part: Part) -> Option<Trick> {
        let mut orders = self.orders.lock().unwrap();
        let (trick, left) = orders.get_mut(&part)?;
        let trick = trick.clone();
        *left -= 1;
        if *left == 0 {
            orders.remove(&part);
        }
        Some(trick)
    }
}
