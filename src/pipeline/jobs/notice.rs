//! Telling the application that its job has ended: tried until it is heard or the deadline comes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Semaphore;

use crate::deliver::{Heard, Message, Webhook};
use crate::entropy::{Entropy, random};
use crate::file::TenantId;
use crate::job::State;
use crate::metrics;
use crate::pipeline::{AnyJob, Pipeline};
use crate::table::KEPT_AFTER;

/// Between the first try and the second; doubles up to [`SLOWEST`].
const FIRST_RETRY: Duration = Duration::from_secs(1);
const SLOWEST: Duration = Duration::from_mins(5);

/// Messages of one tenant on their way at a time: a receiver that hangs delays its own alone.
const AT_ONCE: usize = 16;

/// Places for messages on their way, by tenant.
#[derive(Clone, Default)]
pub(super) struct Messengers(Arc<Mutex<HashMap<TenantId, Arc<Semaphore>>>>);

impl Messengers {
    fn of(&self, tenant: TenantId) -> Arc<Semaphore> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(tenant).or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))).clone()
    }
}

/// The body of a webhook.
#[derive(Serialize)]
struct Notice<'a> {
    #[serde(rename = "type")]
    kind: String,
    timestamp: String,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    id: String,
    state: &'a str,
}

impl Pipeline {
    /// Tells of a job's end. A job that its deadline has ended is told of a while longer.
    pub(super) async fn notify(&self, job: &AnyJob, webhook: &Webhook) {
        let (ended, state) = (self.clock.now(), job.board.state());
        let kind = format!("job.{}", state.as_str());
        let data = Data { id: job.id.to_string(), state: state.as_str() };
        let notice = Notice { kind, timestamp: ended.wall.rfc3339(), data };
        let body = serde_json::to_string(&notice).unwrap_or_default();
        let Ok(message) = Message::new(body, &*self.entropy) else {
            metrics::count_by(metrics::WEBHOOKS, "outcome", "abandoned");
            return;
        };
        let places = self.crew.messengers.of(job.tenant);
        let mut pause = FIRST_RETRY;
        loop {
            let heard = {
                // The semaphore is never closed; without a place the message would only be early.
                let _place = places.acquire().await.ok();
                webhook.send(&self.egress, &message, self.clock.now().wall).await
            };
            metrics::count_by(metrics::WEBHOOKS, "outcome", outcome(heard));
            let now = self.clock.now();
            let left = match state {
                State::Expired => KEPT_AFTER.saturating_sub(now.boot.since(ended.boot)),
                _ => job.deadline.left(now),
            };
            if heard != Heard::NotYet {
                return;
            }
            if left.is_zero() {
                metrics::count_by(metrics::WEBHOOKS, "outcome", "abandoned");
                return;
            }
            self.clock.sleep(jittered(pause, &*self.entropy).min(left)).await;
            pause = (pause * 2).min(SLOWEST);
        }
    }
}

const fn outcome(heard: Heard) -> &'static str {
    match heard {
        Heard::Yes => "delivered",
        Heard::NeverAgain => "unwanted",
        Heard::NotYet => "failed",
    }
}

/// Between half of a pause and one and a half: receivers that fell over together are not all asked
/// again at the same moment.
fn jittered(pause: Duration, entropy: &dyn Entropy) -> Duration {
    let [byte] = random::<1>(entropy).unwrap_or([128]);
    pause / 2 + pause * u32::from(byte) / 256
}
