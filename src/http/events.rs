//! A job's events as they happen (server-sent events, WHATWG HTML section 9.2).
//!
//! A reader is told one event at a time, and each is written when the one before has left: however
//! slow it is, it costs one event's text and holds no lock.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures_util::future::select;
use futures_util::stream;
use http::{HeaderValue, StatusCode, header};

use super::caller::{Caller, Need};
use super::jobs::{own, shown};
use super::query::number;
use super::segment::Segment;
use super::{Gate, Problem};
use crate::body::BodyError;
use crate::job::{Event, Topic};
use crate::pipeline::AnyJob;
use crate::problem::Slug;

/// Between two comments that only show that the connection lives.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Follows a job to its end, as server-sent events.
///
/// `state` and `progress`, each with the job as it was then; ids count up. With `Last-Event-ID` it
/// goes on after that event: every state is told again, of progress the latest. The stream ends
/// after a final state; asked again after that, the answer is 204, so that a browser stops asking.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/events",
    tag = "jobs",
    security(("key" = ["client"])),
    params(
        ("id" = String, Path, description = "The job's id"),
        ("Last-Event-ID" = Option<u64>, Header, description = "The last event that was read"),
    ),
    responses(
        (status = 200, description = "Events named `state` and `progress`, whose data is the job",
            body = String, content_type = "text/event-stream"),
        (status = 204, description = "The job has ended, and all of it was read"),
        (status = 404, description = "No such job for this key", body = crate::wire::Problem),
    )
)]
pub(super) async fn follow(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Segment(id): Segment,
    request: Request,
) -> Result<Response, Problem> {
    caller.admit(&gate, request.uri(), Need::Client, &[])?;
    let job = own(&gate, &caller, &id)?;
    let after = match request.headers().get("last-event-id") {
        None => 0,
        Some(value) => value.to_str().ok().and_then(number).ok_or(Problem::because(
            Slug::BadRequest,
            "Last-Event-ID is not the id of an event.",
        ))?,
    };
    if job.board.state().is_final() && job.board.after(after).is_none() {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        return Ok(response);
    }
    // An id that no event has yet is taken for the latest: the end must not be waited past.
    let after = after.min(job.board.now().id);
    let reader = Reader { gate, job, after, over: false };
    let mut response = Response::new(Body::from_stream(stream::unfold(reader, Reader::next)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // Proxies that collect an answer before they pass it on are asked not to.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// One reader, and how far it has come.
struct Reader {
    gate: Arc<Gate>,
    job: Arc<AnyJob>,
    after: u64,
    over: bool,
}

impl Reader {
    async fn next(mut self) -> Option<(Result<Bytes, BodyError>, Self)> {
        if self.over {
            return None;
        }
        {
            let heartbeat = self.gate.clock.sleep(HEARTBEAT);
            select(std::pin::pin!(self.job.board.beyond(self.after)), heartbeat).await;
        }
        let Some(event) = self.job.board.after(self.after) else {
            return Some((Ok(Bytes::from_static(b": alive\n\n")), self));
        };
        self.after = event.id;
        self.over = event.state.is_final();
        Some((Ok(self.text(event)), self))
    }

    fn text(&self, event: Event) -> Bytes {
        let topic = match event.topic {
            Topic::State => "state",
            Topic::Progress => "progress",
        };
        let data = serde_json::to_string(&shown(&self.gate, &self.job, event));
        let data = data.unwrap_or_default();
        format!("event: {topic}\nid: {}\ndata: {data}\n\n", event.id).into()
    }
}
