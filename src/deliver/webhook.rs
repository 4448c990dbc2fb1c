//! Telling an application that something has happened: one signed request (Standard Webhooks,
//! specification 1.0).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use data_encoding::{BASE32_NOPAD, BASE64};
use http::{Request, StatusCode, header};

use crate::clock::Wall;
use crate::egress::{Egress, EgressError, Origin, Patience, Reach, full};
use crate::entropy::{Entropy, EntropyError, random};
use crate::policy::WebhookSecret;

/// How long the receiver may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// Where to send, and the secret to sign with. Never printed: its path may be a secret of its own.
#[derive(Clone)]
pub struct Webhook {
    pub origin: Origin,
    /// Path and query.
    pub path: String,
    pub secret: Arc<WebhookSecret>,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Webhook(..)")
    }
}

/// One message, the same in every try.
pub struct Message {
    id: String,
    body: String,
}

/// What became of one try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The receiver has it.
    Yes,
    /// It says that it wants no more of them (410).
    NeverAgain,
    /// It answered something else, or not at all.
    NotYet,
}

impl Message {
    /// A message that carries `body`.
    ///
    /// # Errors
    /// When no id can be drawn.
    pub fn new(body: String, entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        let id = BASE32_NOPAD.encode(&random::<16>(entropy)?).to_ascii_lowercase();
        Ok(Self { id: format!("msg_{id}"), body })
    }
}

impl Webhook {
    /// Tries once. A redirect is not followed, and counts as no.
    pub async fn send(&self, egress: &Egress, message: &Message, now: Wall) -> Heard {
        let timestamp = now.unix_seconds();
        let signature = sign(&self.secret, &message.id, timestamp, &message.body);
        let request = Request::post(if self.path.is_empty() { "/" } else { &self.path })
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("dayfly/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(full(message.body.clone()));
        let Ok(request) = request else { return Heard::NotYet };
        let patience = Patience { head: ANSWER_WITHIN, stall: ANSWER_WITHIN };
        let answer = egress.send(Reach::Public, &self.origin, request, patience).await;
        // The body is of no interest: dropping it unread ends the exchange.
        match answer.map(|answer| answer.status()) {
            Ok(status) if status.is_success() => Heard::Yes,
            Ok(StatusCode::GONE) => Heard::NeverAgain,
            Ok(_) => Heard::NotYet,
            Err(
                EgressError::Forbidden
                | EgressError::Unreachable
                | EgressError::Tls
                | EgressError::Timeout
                | EgressError::Cut
                | EgressError::TooLong,
            ) => Heard::NotYet,
        }
    }
}

/// `v1,<base64>` over id, timestamp and body, joined by dots.
fn sign(secret: &WebhookSecret, id: &str, timestamp: u64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose());
    let tag = hmac::sign(&key, format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", BASE64.encode(tag.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specifications_own_example_is_signed_as_it_says() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();
        let body = r#"{"test": 2432232314}"#;
        let signature = sign(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
