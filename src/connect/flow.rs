//! A person's way: the page, the provider, back, and the app's confirmation.

use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::token::Fresh;
use super::{Connect, ConnectError};
use crate::entropy::random;
use crate::file::TenantId;
use crate::problem::Slug;
use crate::provider::{Access, Consent, Granted, ProviderError, Service};
use crate::table::{
    Asked, Browser, Confirmation, Connection, ConnectionId, Ending, Exchange, Mark, Opened,
    Standing,
};

/// Files that can be picked at once.
const MOST_PICKED: usize = 100;

/// What a browser shows of itself: the value of the cookie with that name.
pub trait Person: Send + Sync {
    fn cookie(&self, name: &str) -> Option<String>;
}

/// A page that may be shown, and what goes with it.
pub struct Shown {
    pub view: Connection,
    /// The name and the value of a cookie to be set.
    pub cookie: Option<(String, Zeroizing<String>)>,
    /// What its forms must carry.
    pub form: Zeroizing<String>,
}

/// What a provider sent a browser back with.
#[derive(Default)]
pub struct Returned {
    pub state: Option<Zeroizing<String>>,
    pub code: Option<Zeroizing<String>>,
    pub error: Option<String>,
    pub issuer: Option<String>,
    pub picked: Option<String>,
}

impl Connect {
    /// Opens a page: for the first browser, and for no other after it.
    ///
    /// # Errors
    /// When there is no such page, or it is another browser's.
    pub fn open(&self, page: &str, person: &dyn Person) -> Result<Shown, ConnectError> {
        let mark = self.mark("page", page);
        let known = self.0.connections.browser(&mark);
        let value = known.as_ref().and_then(|name| person.cookie(name)).map(Zeroizing::new);
        let fresh = self.draw::<32>()?;
        let name = self.cookie_name()?;
        let browser = Browser { cookie: name.clone(), mark: self.mark("browser", &fresh) };
        let shown = value.as_ref().map(|value| self.mark("browser", value));
        match self.0.connections.open(&mark, shown.as_ref(), browser) {
            Opened::First(view) => {
                let form = self.form(page, &fresh);
                let shown = Shown { view, cookie: Some((name, fresh)), form };
                self.still_good(shown)
            }
            Opened::Again(view) => {
                let form = self.form(page, value.as_deref().map_or("", String::as_str));
                self.still_good(Shown { view, cookie: None, form })
            }
            Opened::Taken => Err(ConnectError::Taken),
            Opened::Unknown => Err(ConnectError::Unknown),
        }
    }

    fn still_good(&self, mut shown: Shown) -> Result<Shown, ConnectError> {
        let terms = shown.view.terms.clone();
        self.suspended(terms.tenant)?;
        shown.view = self.find(terms.id, terms.tenant)?;
        Ok(shown)
    }

    /// As [`Connect::open`], for a page that only its own browser comes to.
    ///
    /// # Errors
    /// When it is not this browser's.
    pub fn visit(&self, page: &str, person: &dyn Person) -> Result<Shown, ConnectError> {
        let mark = self.mark("page", page);
        let name = self.0.connections.browser(&mark).ok_or(ConnectError::Taken)?;
        person.cookie(&name).ok_or(ConnectError::Taken)?;
        self.open(page, person)
    }

    /// As [`Connect::visit`], with a form that the page made.
    fn posted(
        &self,
        page: &str,
        person: &dyn Person,
        form: &str,
    ) -> Result<(Connection, Mark), ConnectError> {
        let mark = self.mark("page", page);
        let name = self.0.connections.browser(&mark).ok_or(ConnectError::Taken)?;
        let value = person.cookie(&name).map(Zeroizing::new).ok_or(ConnectError::Taken)?;
        let shown = self.mark("browser", &value);
        let browser = Browser { cookie: name, mark: shown };
        let view = match self.0.connections.open(&mark, Some(&shown), browser) {
            Opened::First(view) | Opened::Again(view) => view,
            Opened::Taken => return Err(ConnectError::Taken),
            Opened::Unknown => return Err(ConnectError::Unknown),
        };
        let due = self.form(page, &value);
        if !bool::from(due.as_bytes().ct_eq(form.as_bytes())) {
            return Err(ConnectError::Form);
        }
        let (id, tenant) = (view.terms.id, view.terms.tenant);
        self.suspended(tenant)?;
        Ok((self.find(id, tenant)?, shown))
    }

    /// The person agreed: the address of the provider's own page.
    ///
    /// # Errors
    /// When the form is not this page's, or it is too late.
    pub fn consent(
        &self,
        page: &str,
        person: &dyn Person,
        form: &str,
    ) -> Result<String, ConnectError> {
        let (view, shown) = self.posted(page, person, form)?;
        let terms = &view.terms;
        let state = self.draw::<32>()?;
        let verifier = Zeroizing::new(random::<32>(&*self.0.entropy)?);
        let verifier = Zeroizing::new(BASE64URL_NOPAD.encode(&*verifier));
        let redirect = self.redirect_uri(terms.service());
        let url = terms.provider.authorize_url(&Consent {
            access: terms.access,
            offline: terms.offline,
            state: &state,
            verifier: &verifier,
            redirect: &redirect,
        })?;
        let asked = Asked { state: self.mark("state", &state), verifier };
        match self.0.connections.ask(&self.mark("page", page), Some(&shown), asked) {
            Ok(_) => Ok(url),
            Err(Opened::Unknown) => Err(ConnectError::Unknown),
            Err(Opened::Taken | Opened::First(_)) => Err(ConnectError::Taken),
            Err(Opened::Again(_)) => Err(ConnectError::Over),
        }
    }

    /// The person said no, here.
    ///
    /// # Errors
    /// When the form is not this page's.
    pub async fn refuse(
        &self,
        page: &str,
        person: &dyn Person,
        form: &str,
    ) -> Result<(), ConnectError> {
        let (view, _) = self.posted(page, person, form)?;
        if view.standing == Standing::Pending {
            self.end(view.terms.id, Ending::Failed(Slug::AccessDenied)).await;
        }
        Ok(())
    }

    /// "Not you?": the person takes back what they have just given.
    ///
    /// # Errors
    /// When the form is not this page's.
    pub async fn disconnect(
        &self,
        page: &str,
        person: &dyn Person,
        form: &str,
    ) -> Result<(), ConnectError> {
        let (view, _) = self.posted(page, person, form)?;
        self.end(view.terms.id, Ending::Revoked).await;
        Ok(())
    }

    /// A code to be shown to the person, or carried to the app: good for a minute, once. `None`
    /// unless the connection waits for one.
    ///
    /// # Errors
    /// When the random source fails.
    pub fn code(
        &self,
        page: &str,
        person: &dyn Person,
    ) -> Result<Option<Zeroizing<String>>, ConnectError> {
        let mark = self.mark("page", page);
        let Some(name) = self.0.connections.browser(&mark) else { return Ok(None) };
        let Some(value) = person.cookie(&name).map(Zeroizing::new) else { return Ok(None) };
        let shown = self.mark("browser", &value);
        let code = self.draw::<10>()?;
        let kept = self.mark("code", &code);
        let good = self.0.connections.show_code(&mark, Some(&shown), kept, self.now());
        Ok(good.then_some(code))
    }

    /// A browser came back from the provider: the secret of the page to go to.
    ///
    /// # Errors
    /// [`ConnectError::State`] when it is not one that was sent there; nothing is asked of the
    /// provider then.
    pub async fn come_back(
        &self,
        service: Service,
        returned: Returned,
        person: &dyn Person,
    ) -> Result<Zeroizing<String>, ConnectError> {
        let state = returned.state.as_ref().ok_or(ConnectError::State)?;
        let state = self.mark("state", state);
        let name = self.0.connections.browser_of_state(&state);
        let value = name.and_then(|name| person.cookie(&name)).map(Zeroizing::new);
        let shown = value.map(|value| self.mark("browser", &value));
        let found = self.0.connections.come_back(&state, service, shown.as_ref(), self.now());
        let (view, exchange) = found.ok_or(ConnectError::State)?;
        let (id, page) = (view.terms.id, view.terms.page.clone());
        if returned.issuer.as_deref().is_some_and(|issuer| issuer != service.issuer()) {
            self.end(id, Ending::Failed(Slug::OauthState)).await;
            return Err(ConnectError::State);
        }
        let (this, connection) = (self.clone(), view);
        // Once the code is sent, a browser that leaves must not leave a token behind.
        let work = async move {
            let work = Box::pin(this.exchange(&connection, returned, exchange));
            let closing = Box::pin(this.0.closing.fired());
            let done = futures_util::future::select(work, closing).await;
            let ending = match done {
                futures_util::future::Either::Left((Ok(()), _)) => return,
                futures_util::future::Either::Left((Err(ending), _)) => ending,
                futures_util::future::Either::Right(_) => Ending::Revoked,
            };
            this.end(connection.terms.id, ending).await;
        };
        // A panic in there is counted; the page then shows a connection that never came.
        let _ = self.0.tasks.spawn(work).await;
        if self.0.shutdown.is_draining() {
            self.end(id, Ending::Revoked).await;
        }
        self.count();
        Ok(page)
    }

    /// From the provider's answer to a sealed token, or to how it ended.
    async fn exchange(
        &self,
        view: &Connection,
        returned: Returned,
        exchange: Exchange,
    ) -> Result<(), Ending> {
        let failed = |slug| Ending::Failed(slug);
        match returned.error.as_deref() {
            Some("access_denied") => return Err(failed(Slug::AccessDenied)),
            Some(_) => return Err(failed(Slug::UpstreamFailed)),
            None => {}
        }
        let code = returned.code.ok_or(failed(Slug::UpstreamFailed))?;
        let picked = picked(view.terms.access, returned.picked.as_deref());
        let picked = picked.ok_or(failed(Slug::UpstreamFailed))?;
        let provider = &view.terms.provider;
        let redirect = self.redirect_uri(provider.service());
        let granted = provider.exchange(&code, &exchange.0, &redirect).await;
        let granted = granted.map_err(|error| failed(slug_of(error)))?;
        let asked = provider.scopes(view.terms.access).unwrap_or_default();
        // Both are sorted. Less is not what was agreed to, and more is not either.
        if !granted.scopes.iter().eq(asked) {
            return self.refused(view, &granted, Slug::ScopeMismatch).await;
        }
        let account = match provider.account(&Fresh(&granted.access)).await {
            Ok(account) => account,
            Err(error) => return self.refused(view, &granted, slug_of(error)).await,
        };
        let sealed = self.seal(&view.terms, &granted, Some(&account), picked);
        let grant = match sealed {
            Ok(grant) => grant,
            Err(_) => return self.refused(view, &granted, Slug::Overloaded).await,
        };
        match self.0.connections.consent(view.terms.id, grant, self.now()) {
            Ok(_) => Ok(()),
            Err(grant) => {
                // Somebody ended the connection while its code was exchanged.
                self.give_up(view.terms.id, provider, grant).await;
                Ok(())
            }
        }
    }

    /// Ends the connection, and revokes a token that is not to be kept.
    async fn refused(&self, view: &Connection, granted: &Granted, why: Slug) -> Result<(), Ending> {
        let (provider, ending) = (&view.terms.provider, Ending::Failed(why));
        self.end(view.terms.id, ending).await;
        // Where one revocation ends all, it matters whether somebody else's would go with it.
        let whole = provider.service().revokes_whole_grant() && self.granted() > 0;
        let account = match whole {
            true => provider.account(&Fresh(&granted.access)).await.ok(),
            false => None,
        };
        match self.seal(&view.terms, granted, account.as_ref(), Vec::new()) {
            Ok(grant) => self.give_up(view.terms.id, provider, Arc::new(grant)).await,
            // No key to be had: one try, with the token as it came.
            Err(_) => {
                let _ = provider.revoke(&granted.access, granted.refresh.as_ref()).await;
            }
        }
        Err(ending)
    }

    /// The app shows the code that its user brought.
    ///
    /// # Errors
    /// [`ConnectError::BadCode`] for a wrong or late one: the token is gone then.
    pub async fn confirm(
        &self,
        id: ConnectionId,
        tenant: TenantId,
        code: &str,
        subject: Option<&str>,
    ) -> Result<Connection, ConnectError> {
        let view = self.find_for(id, tenant, subject)?;
        self.suspended(tenant)?;
        match self.0.connections.confirm(id, &self.mark("code", code), self.now()) {
            Ok(view) => Ok(view),
            Err(Confirmation::Used) => Err(ConnectError::BadCode),
            Err(Confirmation::Early) => Err(ConnectError::NotActive),
            Err(Confirmation::Over) => Err(ConnectError::Over),
            Err(Confirmation::Wrong(ended)) => {
                if let Some(grant) = ended.grant {
                    self.give_up(id, &view.terms.provider, grant).await;
                }
                self.count();
                Err(ConnectError::BadCode)
            }
        }
    }

    /// As [`Connect::find`], for the subject it was made for.
    pub(super) fn find_for(
        &self,
        id: ConnectionId,
        tenant: TenantId,
        subject: Option<&str>,
    ) -> Result<Connection, ConnectError> {
        let view = self.find(id, tenant)?;
        let subject = subject.map(|subject| self.subject(tenant, subject));
        if view.terms.is_for(subject.as_ref()) { Ok(view) } else { Err(ConnectError::Unknown) }
    }

    /// A constant of the configuration, one for each provider: never made from a request.
    fn redirect_uri(&self, service: Service) -> String {
        format!("{}/oauth/callback/{}", self.0.base_url, service.as_str())
    }

    /// One cookie for each page, so that two connections at a time do not get in each other's way.
    fn cookie_name(&self) -> Result<String, ConnectError> {
        let tag = self.draw::<10>()?;
        let prefix = if self.0.base_url.starts_with("https://") { "__Host-" } else { "" };
        Ok(format!("{prefix}dayfly-{}", &*tag))
    }

    fn form(&self, page: &str, cookie: &str) -> Zeroizing<String> {
        let mark = self.marks("form", &[page.as_bytes(), cookie.as_bytes()]);
        Zeroizing::new(BASE64URL_NOPAD.encode(&mark))
    }
}

/// The ids that came with a picker's answer, and only with that.
fn picked(access: Access, sent: Option<&str>) -> Option<Vec<String>> {
    if access != Access::Picked {
        return Some(Vec::new());
    }
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    let ids: Vec<&str> = sent?.split(',').map(str::trim).filter(|id| !id.is_empty()).collect();
    let good = ids.iter().all(|id| id.len() <= 128 && id.bytes().all(fits));
    let count = (1..=MOST_PICKED).contains(&ids.len());
    (good && count).then(|| ids.into_iter().map(str::to_owned).collect())
}

/// What is said of a connection that a provider's error ended.
const fn slug_of(error: ProviderError) -> Slug {
    match error {
        ProviderError::Timeout => Slug::UpstreamTimeout,
        ProviderError::Overloaded => Slug::Overloaded,
        ProviderError::Revoked
        | ProviderError::Refused
        | ProviderError::NotFound
        | ProviderError::Restart
        | ProviderError::Busy { .. }
        | ProviderError::Unreachable
        | ProviderError::Nonsense
        | ProviderError::Changed
        | ProviderError::Damaged
        | ProviderError::TooMany => Slug::UpstreamFailed,
    }
}
