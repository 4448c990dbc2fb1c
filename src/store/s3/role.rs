//! The instance's role: credentials that a cloud machine lends to what runs on it.
//!
//! Asked of the machine's metadata service, version 2 alone (AWS, EC2 User Guide, "Use the Instance
//! Metadata Service": a token by PUT first, then the role's name, then its credentials), and asked
//! for anew some minutes before they end. They live in memory and are nobody's to see.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use http::{HeaderValue, Method, Request, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::fault::Fault;
use super::retry::Retry;
use crate::clock::{Clock, Wall};
use crate::egress::{Egress, EgressError, Origin, Patience, Reach, nothing, read};
use crate::entropy::Entropy;

const TOKEN: &str = "/latest/api/token";
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
/// A session's token is used at once.
const TOKEN_SECONDS: &str = "60";
/// The service is on the machine itself.
const PATIENCE: Patience = Patience { head: Duration::from_secs(2), stall: Duration::from_secs(2) };
/// New ones are there at least this long before the old ones end (EC2 User Guide, "Retrieve
/// security credentials").
const AHEAD: Duration = Duration::from_mins(5);
/// A set of credentials is below 2 KiB.
const MOST: usize = 16 << 10;

/// Lends what the instance's role may do.
pub(super) struct Role {
    egress: Egress,
    origin: Origin,
    clock: Arc<dyn Clock>,
    retry: Retry,
    held: Mutex<Option<Held>>,
}

#[derive(Clone)]
struct Held {
    credentials: Credentials,
    ends: Wall,
}

/// The service's answer, as far as it is of use.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Lent {
    access_key_id: String,
    secret_access_key: String,
    token: String,
    /// RFC 3339.
    expiration: String,
}

impl Role {
    pub fn new(
        egress: Egress,
        origin: Origin,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        let retry = Retry { clock: clock.clone(), entropy };
        Self { egress, origin, clock, retry, held: Mutex::default() }
    }

    /// Credentials that are good for a while.
    ///
    /// # Errors
    /// When the service lends none, and none that were lent before are still good.
    async fn credentials(&self) -> Result<Credentials, Fault> {
        let now = self.clock.now().wall;
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(held) = &held
            && now.until(held.ends) > AHEAD
        {
            return Ok(held.credentials.clone());
        }
        match self.retry.run(|| self.lend()).await {
            Ok(lent) => {
                let credentials = lent.credentials.clone();
                *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(lent);
                Ok(credentials)
            }
            // The old ones still work, and the next request asks again.
            Err(fault) => match held {
                Some(held) if !now.until(held.ends).is_zero() => Ok(held.credentials),
                _ => Err(fault),
            },
        }
    }

    async fn lend(&self) -> Result<Held, Fault> {
        let span = HeaderValue::from_static(TOKEN_SECONDS);
        let span = ("x-aws-ec2-metadata-token-ttl-seconds", span);
        let token = self.ask(Method::PUT, TOKEN, span).await?;
        let mut token = HeaderValue::from_bytes(&token).map_err(|_| Fault::Strange)?;
        token.set_sensitive(true);
        let token = ("x-aws-ec2-metadata-token", token);
        let roles = self.ask(Method::GET, ROLES, token.clone()).await?;
        let role = std::str::from_utf8(&roles).ok().and_then(|roles| roles.lines().next());
        let named = |b: u8| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b);
        let role = role.filter(|role| !role.is_empty() && role.bytes().all(named));
        let path = format!("{ROLES}{}", role.ok_or(Fault::Strange)?);
        let said = self.ask(Method::GET, &path, token).await?;
        let lent: Lent = serde_json::from_slice(&said).map_err(|_| Fault::Strange)?;
        let ends = lent.expiration.parse::<Timestamp>().map_err(|_| Fault::Strange)?;
        let ends = u64::try_from(ends.as_second()).map_err(|_| Fault::Strange)?;
        let ends = Duration::from_secs(ends);
        let (id, secret, until) = (lent.access_key_id, lent.secret_access_key, UNIX_EPOCH + ends);
        let credentials = Credentials::new(id, secret, Some(lent.token), Some(until), "instance");
        Ok(Held { credentials, ends: Wall::from_unix(ends) })
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        (name, value): (&'static str, HeaderValue),
    ) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let request = Request::builder().method(method).uri(path).header(name, value);
        let request = request.body(nothing()).map_err(|_| Fault::Strange)?;
        let sent = self.egress.send(Reach::Instance, &self.origin, request, PATIENCE).await;
        let answer = sent.map_err(unheard)?;
        match answer.status() {
            StatusCode::OK => {
                read(answer.into_body(), MOST).await.map(Zeroizing::new).map_err(unheard)
            }
            // No role, or a service that is switched off.
            StatusCode::NOT_FOUND => Err(Fault::NotSet),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Fault::Denied),
            status if status.is_server_error() => Err(Fault::Busy),
            _ => Err(Fault::Strange),
        }
    }
}

const fn unheard(error: EgressError) -> Fault {
    match error {
        EgressError::Unreachable | EgressError::Timeout | EgressError::Cut => Fault::Busy,
        EgressError::Forbidden | EgressError::Tls | EgressError::TooLong => Fault::Strange,
    }
}

impl ProvideCredentials for Role {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            self.credentials().await.map_err(CredentialsError::provider_error)
        })
    }
}

impl fmt::Debug for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Role")
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener};

    use super::*;
    use crate::clock::VirtualClock;
    use crate::entropy::SystemEntropy;
    use crate::tasks::Tasks;

    const START: u64 = 1_800_000_000;

    /// A metadata service: what it is asked, and how it behaves.
    #[derive(Default)]
    struct Seen {
        asked: Vec<String>,
        wrong: Option<(&'static str, u16)>,
        lent: u64,
    }

    struct Service {
        at: SocketAddr,
        seen: Arc<Mutex<Seen>>,
    }

    impl Service {
        fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let at = listener.local_addr().unwrap();
            let seen = Arc::new(Mutex::new(Seen::default()));
            let told = seen.clone();
            #[expect(clippy::disallowed_methods, reason = "it stands for a service beside us")]
            std::thread::spawn(move || {
                for mut stream in listener.incoming().flatten() {
                    let mut head = Vec::new();
                    let mut byte = [0; 1];
                    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                        head.push(byte[0]);
                    }
                    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
                    let (status, body) = answer(&head, &mut told.lock().unwrap());
                    let length = body.len();
                    let _ = write!(
                        stream,
                        "HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n\
                         location: http://127.0.0.1:9/\r\n\r\n{body}"
                    );
                }
            });
            Self { at, seen }
        }

        fn role(&self, clock: &VirtualClock) -> Role {
            let clock: Arc<dyn Clock> = Arc::new(clock.clone());
            let origin = Origin::instance(Some(&format!("http://{}", self.at)), true).unwrap();
            let egress = Egress::new(clock.clone(), Tasks::default(), true);
            Role::new(egress, origin, clock, Arc::new(SystemEntropy))
        }

        fn asked(&self) -> usize {
            self.seen.lock().unwrap().asked.len()
        }

        fn spoil(&self, wrong: Option<(&'static str, u16)>) {
            self.seen.lock().unwrap().wrong = wrong;
        }
    }

    fn answer(head: &str, seen: &mut Seen) -> (u16, String) {
        let line = head.lines().next().unwrap_or_default().to_owned();
        seen.asked.push(line.clone());
        if let Some((what, status)) = seen.wrong
            && line.contains(what)
        {
            return (status, String::new());
        }
        let has_token = head.contains("x-aws-ec2-metadata-token: the-token\r\n");
        if line.starts_with("put /latest/api/token ") {
            let spanned = head.contains("x-aws-ec2-metadata-token-ttl-seconds: 60\r\n");
            return if spanned { (200, "the-token".to_owned()) } else { (400, String::new()) };
        }
        // Version 1, without a token, is switched off.
        match line.split(' ').nth(1) {
            _ if !has_token => (401, String::new()),
            Some("/latest/meta-data/iam/security-credentials/") => {
                (200, "dayfly-role\n".to_owned())
            }
            Some("/latest/meta-data/iam/security-credentials/dayfly-role") => {
                seen.lent += 1;
                let ends = i64::try_from(START + seen.lent * 3600).unwrap();
                let ends = Timestamp::from_second(ends).unwrap();
                let lent = serde_json::json!({ "Code": "Success", "AccessKeyId": "ASIA",
                    "SecretAccessKey": "well-kept", "Token": format!("session {}", seen.lent),
                    "Expiration": ends.to_string() });
                (200, lent.to_string())
            }
            _ => (404, String::new()),
        }
    }

    fn clock() -> VirtualClock {
        VirtualClock::at(Wall::from_unix(Duration::from_secs(START)))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn credentials_are_lent_once_and_anew_before_they_end() {
        let (service, clock) = (Service::start(), clock());
        let role = service.role(&clock);
        let first = role.credentials().await.unwrap();
        assert_eq!((first.access_key_id(), first.secret_access_key()), ("ASIA", "well-kept"));
        assert_eq!(first.session_token(), Some("session 1"));
        assert_eq!(service.asked(), 3, "a token, the role's name, its credentials");
        clock.advance(Duration::from_mins(54));
        assert_eq!(role.credentials().await.unwrap().session_token(), Some("session 1"));
        assert_eq!(service.asked(), 3, "they are kept");
        clock.advance(Duration::from_mins(2));
        assert_eq!(role.credentials().await.unwrap().session_token(), Some("session 2"));
        assert!(!format!("{role:?} {first:?}").contains("well-kept"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_the_service_refuses_is_a_fault_and_the_old_ones_serve_to_their_end() {
        for (what, status, fault) in [
            ("/latest/api/token", 403, Fault::Denied),
            ("/latest/api/token", 302, Fault::Strange),
            ("security-credentials/ ", 404, Fault::NotSet),
            ("dayfly-role", 404, Fault::NotSet),
        ] {
            let (service, clock) = (Service::start(), clock());
            let role = service.role(&clock);
            service.spoil(Some((what, status)));
            assert_eq!(role.credentials().await.unwrap_err(), fault, "{what} {status}");
            service.spoil(None);
            role.credentials().await.unwrap();
            service.spoil(Some((what, status)));
            clock.advance(Duration::from_mins(56));
            let old = role.credentials().await.unwrap();
            assert_eq!(old.session_token(), Some("session 1"), "{what} {status}");
            clock.advance(Duration::from_mins(5));
            assert_eq!(role.credentials().await.unwrap_err(), fault, "{what} {status}");
        }
    }
}
