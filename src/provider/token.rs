//! The token endpoint (RFC 6749, RFC 7636), the same for every provider.

use std::future::Future;
use std::pin::Pin;

use http::StatusCode;
use http::header::CONTENT_TYPE;
use oauth2::basic::{BasicClient, BasicErrorResponseType, BasicTokenResponse, BasicTokenType};
use oauth2::{
    AuthType, AuthUrl, AuthorizationCode, ClientId, CsrfToken, EndpointSet, HttpRequest,
    HttpResponse, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RefreshToken,
    RequestTokenError, Scope, TokenResponse, TokenUrl,
};
use zeroize::Zeroizing;

use super::api::PATIENCE;
use super::{Bearer, Client, Consent, Edges, Endpoint, Granted, ProviderError};
use crate::egress::{Egress, EgressError, full, read};

/// A token answer is a few hundred bytes.
const MOST: usize = 64 << 10;

type Oauth = BasicClient<
    EndpointSet,
    oauth2::EndpointNotSet,
    oauth2::EndpointNotSet,
    oauth2::EndpointNotSet,
    EndpointSet,
>;

/// A [`BasicClient`] that sends its requests through egress.
pub struct Tokens {
    client: Client,
    edges: Edges,
}

impl Tokens {
    pub const fn new(client: Client, edges: Edges) -> Self {
        Self { client, edges }
    }

    pub const fn client(&self) -> &Client {
        &self.client
    }

    pub const fn edges(&self) -> &Edges {
        &self.edges
    }

    fn oauth(&self) -> Result<Oauth, ProviderError> {
        let Client { client_id, client_secret, endpoints, .. } = &self.client;
        let authorize = AuthUrl::new(endpoints.authorize.url());
        let token = TokenUrl::new(endpoints.token.url());
        let client = BasicClient::new(ClientId::new(client_id.clone()))
            .set_auth_uri(authorize.map_err(|_| ProviderError::Unreachable)?)
            .set_token_uri(token.map_err(|_| ProviderError::Unreachable)?)
            // What both providers' own libraries send.
            .set_auth_type(AuthType::RequestBody);
        Ok(match client_secret {
            Some(secret) => {
                client.set_client_secret(oauth2::ClientSecret::new(secret.expose().to_owned()))
            }
            None => client,
        })
    }

    /// The address of the consent page, with PKCE by S256.
    pub fn authorize_url(
        &self,
        consent: &Consent<'_>,
        scopes: &[&str],
        extra: &[(&'static str, &'static str)],
    ) -> Result<String, ProviderError> {
        let redirect = RedirectUrl::new(consent.redirect.to_owned());
        let oauth = self.oauth()?.set_redirect_uri(redirect.map_err(|_| ProviderError::Nonsense)?);
        let verifier = PkceCodeVerifier::new(consent.verifier.to_owned());
        let state = consent.state.to_owned();
        let scopes = scopes.iter().map(|scope| Scope::new((*scope).to_owned()));
        let mut request = oauth
            .authorize_url(|| CsrfToken::new(state))
            .add_scopes(scopes)
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier));
        for (name, value) in extra {
            request = request.add_extra_param(*name, *value);
        }
        Ok(request.url().0.into())
    }

    pub async fn exchange(
        &self,
        code: &str,
        verifier: &str,
        redirect: &str,
    ) -> Result<Granted, ProviderError> {
        let redirect = RedirectUrl::new(redirect.to_owned());
        let oauth = self.oauth()?.set_redirect_uri(redirect.map_err(|_| ProviderError::Nonsense)?);
        let send = self.sender();
        let answer = oauth
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .set_pkce_verifier(PkceCodeVerifier::new(verifier.to_owned()))
            .request_async(&send)
            .await;
        granted(&answer.map_err(told)?)
    }

    pub async fn refresh(&self, token: &Bearer) -> Result<Granted, ProviderError> {
        let (oauth, send) = (self.oauth()?, self.sender());
        let token = RefreshToken::new(token.expose().to_owned());
        let answer = oauth.exchange_refresh_token(&token).request_async(&send).await;
        granted(&answer.map_err(told)?)
    }

    /// How the library sends its requests.
    fn sender(&self) -> impl Fn(HttpRequest) -> Sending + Send + Sync + use<> {
        let (egress, endpoint) = (self.edges.egress.clone(), self.client.endpoints.token.clone());
        move |request| Box::pin(send(egress.clone(), endpoint.clone(), request))
    }
}

type Sending = Pin<Box<dyn Future<Output = Result<HttpResponse, EgressError>> + Send>>;

/// One request, one answer: a code is good for one try, and a redirect is an answer like any other.
async fn send(
    egress: Egress,
    endpoint: Endpoint,
    request: HttpRequest,
) -> Result<HttpResponse, EgressError> {
    let request = request.map(full);
    let answer = egress.send(endpoint.reach, &endpoint.origin, request, PATIENCE).await?;
    let (head, body) = answer.into_parts();
    let body = read(body, MOST).await?;
    // The library takes an answer without a type for JSON; nobody else should.
    let kind = head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let json = kind.is_some_and(|kind| kind.starts_with("application/json"));
    if head.status == StatusCode::OK && !json {
        return Err(EgressError::Cut);
    }
    Ok(http::Response::from_parts(head, body))
}

/// What must be there is there, and can be used.
fn granted(answer: &BasicTokenResponse) -> Result<Granted, ProviderError> {
    if *answer.token_type() != BasicTokenType::Bearer {
        return Err(ProviderError::Nonsense);
    }
    let access = Bearer::new(answer.access_token().secret()).ok_or(ProviderError::Nonsense)?;
    let refresh = match answer.refresh_token() {
        Some(token) => Some(Bearer::new(token.secret()).ok_or(ProviderError::Nonsense)?),
        None => None,
    };
    let lives = answer.expires_in().filter(|lives| !lives.is_zero());
    let lives = lives.ok_or(ProviderError::Nonsense)?;
    let scopes = answer.scopes().map(|scopes| scopes.iter().map(|scope| scope.to_string()));
    let mut scopes: Vec<String> = scopes.map(Iterator::collect).unwrap_or_default();
    scopes.sort_unstable();
    scopes.dedup();
    Ok(Granted { access, refresh, lives, scopes })
}

/// What went wrong, without a word of what the provider wrote.
fn told(error: RequestTokenError<EgressError, oauth2::basic::BasicErrorResponse>) -> ProviderError {
    match error {
        RequestTokenError::Request(error) => error.into(),
        RequestTokenError::ServerResponse(said) => match said.error() {
            BasicErrorResponseType::InvalidGrant => ProviderError::Revoked,
            _ => ProviderError::Refused,
        },
        RequestTokenError::Parse(_, mut body) => {
            zeroize::Zeroize::zeroize(&mut body);
            ProviderError::Nonsense
        }
        RequestTokenError::Other(_) => ProviderError::Nonsense,
    }
}

/// A form with one field, for the revocation endpoint.
pub fn form(name: &str, value: &str) -> Zeroizing<String> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    Zeroizing::new(form.append_pair(name, value).finish())
}
