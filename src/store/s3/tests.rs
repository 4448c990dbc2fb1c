//! A store in a bucket: against a real server where one runs, and against one that misbehaves.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::*;
use crate::clock::SystemClock;
use crate::entropy::SystemEntropy;

#[path = "../../../tests/gateway/harness/moto.rs"]
#[expect(clippy::disallowed_methods, reason = "it stands for a server beside the gateway")]
#[expect(dead_code, reason = "the tests of the whole gateway use the rest")]
mod moto;

/// The region real buckets are made in.
const REGION: &str = "eu-central-1";

fn operator(id: &str, key: &str) -> Lender {
    let [access_key_id, secret_access_key] = [id, key].map(|word| Zeroizing::new(word.to_owned()));
    Lender::Operator { access_key_id, secret_access_key }
}

fn options(endpoint: &str, bucket: &str) -> S3Options {
    S3Options {
        bucket: bucket.to_owned(),
        region: REGION.to_owned(),
        endpoint: super::endpoint(Some(endpoint), REGION, true).unwrap(),
        path_style: true,
        credentials: operator("test", "test"),
        check_every: Duration::from_secs(3600),
        insecure_loopback: true,
    }
}

fn store_at(options: &S3Options, clock: Arc<dyn Clock>) -> S3Store {
    let (entropy, tasks) = (Arc::new(SystemEntropy), Tasks::default());
    let egress = Egress::new(clock.clone(), tasks.clone(), options.insecure_loopback);
    let budget = Budget::of(64 << 20);
    let parts = S3Parts { clock, entropy, egress, tasks, budget };
    S3Store::new("eu".parse().unwrap(), options, parts).unwrap()
}

/// Reads a variable of the test run.
#[expect(clippy::disallowed_methods, reason = "tests are told by the environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The server named in the environment, else moto; `None` where there is neither.
fn anywhere() -> Option<S3Options> {
    if let Some(endpoint) = variable("DAYFLY_S3_ENDPOINT") {
        let named = |name: &str| variable(name).unwrap_or_else(|| panic!("{name} is not set"));
        let region = named("DAYFLY_S3_REGION");
        return Some(S3Options {
            endpoint: super::endpoint(Some(&endpoint), &region, true).unwrap(),
            region,
            credentials: operator(&named("DAYFLY_S3_KEY_ID"), &named("DAYFLY_S3_SECRET")),
            ..options(&endpoint, &named("DAYFLY_S3_BUCKET"))
        });
    }
    let moto = moto::Moto::shared()?;
    Some(options(&moto.endpoint(), &moto.bucket(REGION)))
}

/// A store for the suite that every store must pass.
pub(crate) fn real() -> Option<S3Store> {
    Some(store_at(&anywhere()?, Arc::new(SystemClock)))
}

#[path = "../../../tests/gateway/harness/bucket.rs"]
#[expect(clippy::disallowed_methods, reason = "it stands for a server beside the gateway")]
#[expect(dead_code, reason = "the tests of the whole gateway use the rest")]
mod bucket_stub;

mod faults;
