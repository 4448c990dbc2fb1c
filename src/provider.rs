//! Storage services that a person connects: Dropbox and Google Drive behind one seam.
//!
//! A provider knows its addresses, its scopes and the shape of its answers, and nothing of
//! connections: whoever calls hands in a [`TokenSource`]. Every request leaves by `egress`, to an
//! address that the operator configured or that is built in, and no answer is used before it was
//! checked.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::HeaderValue;
use zeroize::Zeroizing;

use crate::budget::Budget;
use crate::clock::Clock;
use crate::egress::{Egress, EgressError, Origin, OriginError, Reach};
use crate::entropy::Entropy;

mod api;
mod content;
mod dropbox;
mod google_drive;
mod token;

pub use content::{
    Check, Chunk, Content, Export, Found, Hasher, Parcel, Pinned, Sent, Session, Stored,
};
use dropbox::Dropbox;
use google_drive::GoogleDrive;

/// A service that can be connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    Dropbox,
    GoogleDrive,
}

impl Service {
    pub const ALL: [Self; 2] = [Self::Dropbox, Self::GoogleDrive];

    /// Its name in the API and in the settings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dropbox => "dropbox",
            Self::GoogleDrive => "google_drive",
        }
    }

    /// Its name to people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Dropbox => "Dropbox",
            Self::GoogleDrive => "Google Drive",
        }
    }

    /// What it calls itself in an authorization response (RFC 9207), whatever the endpoints.
    #[must_use]
    pub const fn issuer(self) -> &'static str {
        match self {
            Self::Dropbox => "https://www.dropbox.com",
            Self::GoogleDrive => "https://accounts.google.com",
        }
    }

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.as_str() == name)
    }

    /// Whether revoking one token ends everything that its user granted to this client.
    #[must_use]
    pub const fn revokes_whole_grant(self) -> bool {
        match self {
            Self::Dropbox => false,
            Self::GoogleDrive => true,
        }
    }
}

/// How much of an account a connection may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The files that the person picks, at the provider.
    Picked,
    /// All files, to read.
    Browse,
    /// All files to read, and results may be put back.
    BrowseWrite,
}

impl Access {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Picked => "picked",
            Self::Browse => "browse",
            Self::BrowseWrite => "browse+write",
        }
    }

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Picked, Self::Browse, Self::BrowseWrite].into_iter().find(|a| a.as_str() == name)
    }
}

/// An address of a provider: where, and the path that its own paths are appended to.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    origin: Origin,
    path: String,
    reach: Reach,
}

impl Endpoint {
    /// Reads an address that the operator wrote. What is written on loopback may be reached.
    ///
    /// # Errors
    /// As [`Origin::parse`].
    pub fn parse(url: &str, insecure_loopback: bool) -> Result<Self, OriginError> {
        let (origin, path) = Origin::parse(url, insecure_loopback)?;
        if path.contains('?') {
            return Err(OriginError::Syntax);
        }
        Ok(Self { origin, path, reach: Reach::Operator })
    }

    /// A built-in address: on the public internet, or not reached at all.
    fn built_in(url: &str) -> Option<Self> {
        let (origin, path) = Origin::parse(url, false).ok()?;
        Some(Self { origin, path, reach: Reach::Public })
    }

    #[must_use]
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    fn url(&self) -> String {
        format!("{}{}", self.origin, self.path)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url())
    }
}

/// Where a provider is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    pub authorize: Endpoint,
    pub token: Endpoint,
    pub api: Endpoint,
    pub content: Endpoint,
    pub revoke: Endpoint,
}

impl Endpoints {
    /// Where the real service is.
    #[must_use]
    pub fn built_in(service: Service) -> Option<Self> {
        let [authorize, token, api, content, revoke] = match service {
            Service::Dropbox => [
                "https://www.dropbox.com/oauth2/authorize",
                "https://api.dropboxapi.com/oauth2/token",
                "https://api.dropboxapi.com",
                "https://content.dropboxapi.com",
                "https://api.dropboxapi.com/2/auth/token/revoke",
            ],
            Service::GoogleDrive => [
                "https://accounts.google.com/o/oauth2/v2/auth",
                "https://oauth2.googleapis.com/token",
                "https://www.googleapis.com/drive/v3",
                "https://www.googleapis.com/drive/v3",
                "https://oauth2.googleapis.com/revoke",
            ],
        }
        .map(Endpoint::built_in);
        Some(Self {
            authorize: authorize?,
            token: token?,
            api: api?,
            content: content?,
            revoke: revoke?,
        })
    }
}

/// Our secret at a provider. Wiped when dropped, never printed.
#[derive(Clone)]
pub struct ClientSecret(Arc<Zeroizing<String>>);

impl ClientSecret {
    #[must_use]
    pub fn new(secret: String) -> Self {
        Self(Arc::new(Zeroizing::new(secret)))
    }

    fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSecret(..)")
    }
}

/// Who we are to a provider, and where it is.
#[derive(Clone, Debug)]
pub struct Client {
    pub service: Service,
    pub client_id: String,
    /// Absent for a public client, which PKCE alone protects.
    pub client_secret: Option<ClientSecret>,
    pub endpoints: Endpoints,
}

/// A token as it is sent: to the provider's own origins, in a header, never in a URL.
#[derive(Clone)]
pub struct Bearer(Zeroizing<String>);

/// The longest token that is taken, bytes.
const LONGEST_TOKEN: usize = 4096;

impl Bearer {
    /// `None` if it could not travel in a header.
    #[must_use]
    pub fn new(token: &str) -> Option<Self> {
        let fits = (1..=LONGEST_TOKEN).contains(&token.len());
        let plain = token.bytes().all(|b| b.is_ascii_graphic());
        (fits && plain).then(|| Self(Zeroizing::new(token.to_owned())))
    }

    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn header(&self) -> Result<HeaderValue, ProviderError> {
        let text = Zeroizing::new(format!("Bearer {}", self.expose()));
        let mut value = HeaderValue::from_str(&text).map_err(|_| ProviderError::Nonsense)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(..)")
    }
}

/// Where a provider's calls get their token from, one call at a time.
#[async_trait]
pub trait TokenSource: Send + Sync {
    /// A token that should be good now.
    ///
    /// # Errors
    /// [`ProviderError::Revoked`] when there is none any more.
    async fn token(&self) -> Result<Bearer, ProviderError>;

    /// Another token in place of one that the provider said has expired.
    ///
    /// # Errors
    /// [`ProviderError::Revoked`] when there is none to be had.
    async fn renewed(&self, refused: &Bearer) -> Result<Bearer, ProviderError>;

    /// The provider has said that nothing of this source is good any more.
    fn lost(&self) {}
}

/// Why a provider did not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// The token, or the grant behind it, is no longer good.
    #[error("the provider no longer accepts the token")]
    Revoked,
    /// The provider knows who asks, and says no.
    #[error("the provider does not allow it")]
    Refused,
    #[error("the provider has no such item")]
    NotFound,
    /// A listing's cursor has ended: it must be started over.
    #[error("the listing has to be started over")]
    Restart,
    /// It asked to be left alone for longer than a request can wait.
    #[error("the provider is busy")]
    Busy { after: Option<Duration> },
    #[error("the provider did not answer in time")]
    Timeout,
    #[error("the provider cannot be reached")]
    Unreachable,
    /// An answer that is not what the provider documents.
    #[error("the provider's answer cannot be used")]
    Nonsense,
    /// The item became another while it was fetched.
    #[error("the item changed while it was fetched")]
    Changed,
    /// The bytes are not those that the provider's own hash is of.
    #[error("the bytes do not match the provider's hash")]
    Damaged,
    /// More files lie in a folder than are taken at once.
    #[error("the folder holds too many files")]
    TooMany,
    /// Our own memory is spent.
    #[error("the memory budget is spent")]
    Overloaded,
}

impl From<EgressError> for ProviderError {
    fn from(error: EgressError) -> Self {
        match error {
            EgressError::Timeout => Self::Timeout,
            EgressError::TooLong => Self::Nonsense,
            EgressError::Forbidden
            | EgressError::Unreachable
            | EgressError::Tls
            | EgressError::Cut => Self::Unreachable,
        }
    }
}

/// What a person is asked for at the provider.
pub struct Consent<'a> {
    pub access: Access,
    pub offline: bool,
    /// One-time, bound to the browser.
    pub state: &'a str,
    /// RFC 7636: 43 to 128 characters.
    pub verifier: &'a str,
    pub redirect: &'a str,
}

/// What a token request gave.
pub struct Granted {
    pub access: Bearer,
    pub refresh: Option<Bearer>,
    /// From the answer on.
    pub lives: Duration,
    /// As the provider says; none is not the same as what was asked.
    pub scopes: Vec<String>,
}

/// Whose files these are.
pub struct Account {
    /// The provider's own id of the account.
    pub id: Zeroizing<String>,
    /// For the person to recognise: a name, an address.
    pub label: Zeroizing<String>,
    /// Dropbox: the root of a team's space, where it is not the member's own.
    pub root: Option<String>,
}

/// Part of a folder that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// `None` for the account's root.
    pub folder: Option<&'a str>,
    /// The provider's own cursor.
    pub cursor: Option<&'a str>,
    /// Items at most, about.
    pub limit: usize,
    pub access: Access,
    /// As [`Account::root`].
    pub root: Option<&'a str>,
}

/// A file or folder of an account. Its name is as the provider has it: not yet made safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub id: String,
    pub name: String,
    pub folder: bool,
    pub bytes: Option<u64>,
    pub media_type: Option<String>,
    /// RFC 3339.
    pub modified_at: Option<String>,
    /// Algorithm and value, as the provider computed it.
    pub digest: Option<(&'static str, String)>,
}

/// Part of a folder.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub items: Vec<Item>,
    /// The provider's own cursor; `None` on the last page.
    pub cursor: Option<String>,
}

/// A storage service.
#[async_trait]
pub trait Provider: Send + Sync {
    fn service(&self) -> Service;

    /// Our id there: accounts are compared within one client alone.
    fn client_id(&self) -> &str;

    /// Where a browser is sent for consent.
    fn authorize_origin(&self) -> &Origin;

    /// The least that this access needs, the account's label included; `None` if not on offer.
    fn scopes(&self, access: Access) -> Option<&'static [&'static str]>;

    /// The address of the provider's own consent page.
    ///
    /// # Errors
    /// When the access is not on offer.
    fn authorize_url(&self, consent: &Consent<'_>) -> Result<String, ProviderError>;

    /// Exchanges an authorization code, once.
    ///
    /// # Errors
    /// When the provider gives no token, or an answer that lacks what must be there.
    async fn exchange(
        &self,
        code: &str,
        verifier: &str,
        redirect: &str,
    ) -> Result<Granted, ProviderError>;

    /// A new access token for a refresh token.
    ///
    /// # Errors
    /// [`ProviderError::Revoked`] when the grant is gone.
    async fn refresh(&self, token: &Bearer) -> Result<Granted, ProviderError>;

    /// Ends a grant at the provider. One that is gone already is as good.
    ///
    /// # Errors
    /// When the provider does not confirm it.
    async fn revoke(&self, access: &Bearer, refresh: Option<&Bearer>) -> Result<(), ProviderError>;

    /// Whose files the token opens.
    ///
    /// # Errors
    /// When the provider does not say.
    async fn account(&self, tokens: &dyn TokenSource) -> Result<Account, ProviderError>;

    /// Part of a folder.
    ///
    /// # Errors
    /// When there is no such folder, or the provider does not answer well.
    async fn list(&self, tokens: &dyn TokenSource, ask: &Ask<'_>) -> Result<Page, ProviderError>;

    /// One item; for what was picked.
    ///
    /// # Errors
    /// When there is no such item, or the provider does not answer well.
    async fn item(
        &self,
        tokens: &dyn TokenSource,
        id: &str,
        root: Option<&str>,
    ) -> Result<Item, ProviderError>;

    /// What an id leads to; a file at the revision it has now.
    ///
    /// # Errors
    /// When there is no such item, or it has no bytes that could be fetched.
    async fn pin(
        &self,
        tokens: &dyn TokenSource,
        id: &str,
        root: Option<&str>,
    ) -> Result<Found, ProviderError>;

    /// The bytes of a pinned file from `from` on. It is asked for once: whoever calls decides
    /// about another try.
    ///
    /// # Errors
    /// [`ProviderError::Changed`] when it is no longer the file that was pinned.
    async fn open(
        &self,
        tokens: &dyn TokenSource,
        pinned: &Pinned,
        from: u64,
        root: Option<&str>,
    ) -> Result<Content, ProviderError>;

    /// Begins to put a file into a folder. Nothing that is there is ever replaced.
    ///
    /// # Errors
    /// When there is no such folder, or the consent did not include writing.
    async fn begin_upload(
        &self,
        tokens: &dyn TokenSource,
        parcel: &Parcel,
    ) -> Result<Session, ProviderError>;

    /// Sends the next bytes, once; after the last of them the file is there.
    ///
    /// # Errors
    /// When they did not arrive: [`Provider::sent`] tells how far it came.
    async fn send(
        &self,
        tokens: &dyn TokenSource,
        parcel: &Parcel,
        session: &Session,
        chunk: Chunk,
    ) -> Result<Sent, ProviderError>;

    /// How far an upload has come.
    ///
    /// # Errors
    /// When the provider does not say.
    async fn sent(
        &self,
        tokens: &dyn TokenSource,
        parcel: &Parcel,
        session: &Session,
    ) -> Result<Sent, ProviderError>;

    /// Takes back a file that was put there.
    ///
    /// # Errors
    /// When the provider does not confirm it.
    async fn take_away(
        &self,
        tokens: &dyn TokenSource,
        stored: &Stored,
        root: Option<&str>,
    ) -> Result<(), ProviderError>;
}

/// What a provider takes from outside.
#[derive(Clone)]
pub struct Edges {
    pub egress: Egress,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub budget: Budget,
}

/// The provider for a configured client.
#[must_use]
pub fn provider(client: Client, edges: Edges) -> Arc<dyn Provider> {
    match client.service {
        Service::Dropbox => Arc::new(Dropbox::new(client, edges)),
        Service::GoogleDrive => Arc::new(GoogleDrive::new(client, edges)),
    }
}

#[cfg(test)]
mod tests;
