//! What both protocols of resumable uploads share: finding one, adding to it, and what is done when
//! it has become a file.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::caller::Caller;
use super::content::insert;
use super::{Gate, Problem, receipts, upload};
use crate::body::{BodyError, ByteStream};
use crate::file::{Reason, UploadId};
use crate::job::JobId;
use crate::pipeline::{Added, AnyUpload, Chunk, Finished};
use crate::problem::Slug;
use crate::receipt::Action;
use crate::table::{Face, LiveFile, Progress};

/// Parts that one grant may have waiting to be joined: they count as no file before they are one.
const MOST_PARTS_OF_GRANT: usize = 64;

/// The caller's own upload, or the problem that says what became of it. To anybody but the key or
/// the grant that began it, it does not exist.
pub(super) fn find(
    gate: &Gate,
    caller: &Caller,
    id: &str,
    face: Face,
) -> Result<Arc<AnyUpload>, Problem> {
    let id: UploadId = id.parse().map_err(|_| Slug::NotFound)?;
    let found = gate.pipeline.upload(id, caller.tenant_id(), &caller.who());
    if let Some(upload) = found.filter(|upload| upload.face == face) {
        return Ok(upload);
    }
    let receipt = gate.pipeline.receipt(id.file(), caller.tenant_id());
    let over = receipt.and_then(|receipt| receipt.destroyed);
    Err(over.map_or_else(|| Slug::NotFound.into(), |end| Problem::gone(id.file(), end.reason())))
}

/// Refuses a grant that has begun too many parts.
pub(super) fn may_have_part(gate: &Gate, caller: &Caller) -> Result<(), Problem> {
    let who = caller.who();
    if who.grant.is_some() && gate.pipeline.open_uploads(&who) >= MOST_PARTS_OF_GRANT {
        return Err(Problem::later(Slug::QuotaExceeded, 60));
    }
    Ok(())
}

/// What became of a request's bytes.
pub(super) struct Done {
    pub progress: Progress,
    pub broke: Option<BodyError>,
    pub file: Option<Arc<LiveFile>>,
    pub job: Option<JobId>,
}

/// Adds bytes to an upload. It goes on to its end whatever becomes of the request: what a broken
/// connection has brought is kept, unless its sender has not learned yet where it would go on: of
/// an upload that `is_unknown` nothing is kept then.
pub(super) async fn add(
    gate: &Arc<Gate>,
    caller: &Caller,
    upload: &Arc<AnyUpload>,
    chunk: Chunk,
    is_unknown: bool,
) -> Result<Done, Problem> {
    let turn = gate.pipeline.admit(chunk.declared).await?;
    let (gate_too, caller, upload) = (gate.clone(), caller.clone(), upload.clone());
    let adding = gate.tasks.spawn(async move {
        let added = gate_too.pipeline.add(&upload, chunk).await;
        drop(turn);
        let is_whole = matches!(&added, Ok(Added { broke: None, .. }));
        if is_unknown && !is_whole {
            gate_too.pipeline.end_upload(&upload, Reason::Failed);
        }
        let Added { progress, broke, finished } = added.map_err(Problem::from)?;
        let (file, job) = match finished {
            Some(finished) => {
                let (file, job) = finish(&gate_too, &caller, finished)?;
                (Some(file), job)
            }
            None => (None, None),
        };
        Ok::<_, Problem>(Done { progress, broke, file, job })
    });
    // A panic there is counted, and told as one.
    adding.await.unwrap_or_else(|_| Err(Slug::Internal.into()))
}

/// What is done for a file that has just arrived.
pub(super) fn finish(
    gate: &Arc<Gate>,
    caller: &Caller,
    finished: Finished,
) -> Result<(Arc<LiveFile>, Option<JobId>), Problem> {
    let Finished { file, terms, recipe, claim } = finished;
    let files = [file];
    let job = upload::start(gate, caller, &terms, recipe, &files)?;
    upload::noted(gate, caller, &files, claim);
    let [file] = files;
    Ok((file, job))
}

/// Ends an upload, and the file it has become. A grant ends only what is no file yet: what it has
/// handed in is its tenant's. Parts of a file end with it.
pub(super) fn end(gate: &Gate, caller: &Caller, upload: &AnyUpload) -> Result<Response, Problem> {
    if upload.is_moved() || (upload.file().is_some() && caller.who().grant.is_some()) {
        return Err(Slug::UploadComplete.into());
    }
    gate.pipeline.end_upload(upload, Reason::Deleted);
    caller.note(gate, Action::FileDelete, Some(upload.id.file().into()));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// What is said of the file an upload has become.
pub(super) fn tell_of_file(headers: &mut HeaderMap, file: &str, job: Option<JobId>) {
    insert(headers, HeaderName::from_static("dayfly-file"), file);
    if let Some(job) = job {
        insert(headers, HeaderName::from_static("dayfly-job"), &job.to_string());
    }
}

/// What is said of an upload that was just begun, once its acceptance is written down.
pub(super) async fn tell_of_upload(
    gate: &Gate,
    headers: &mut HeaderMap,
    upload: &AnyUpload,
) -> Result<(), Problem> {
    let region = upload.origin.region.to_string();
    insert(headers, HeaderName::from_static("dayfly-region"), &region);
    let ends = upload.origin.keys.deadline().unwrap_or(upload.origin.deadline);
    let ends = ends.expires_at().rfc3339();
    insert(headers, HeaderName::from_static("dayfly-expires-at"), &ends);
    receipts::promise(&gate.pipeline.acknowledge_upload(upload).await?, headers);
    Ok(())
}

/// Adds what a refusal of an append always says: where the upload stands.
pub(super) fn with_offset(problem: Problem, offset: u64) -> Problem {
    problem.with(HeaderName::from_static("upload-offset"), HeaderValue::from(offset))
}

/// The problem a break in a body is, for whoever still listens.
pub(super) fn broken(error: BodyError) -> Problem {
    match error {
        // Somebody else wanted the upload, and has it now.
        BodyError::Cut => Slug::UploadLocked.into(),
        error => error.into(),
    }
}

/// The trailers of a body, once it has ended.
#[derive(Clone, Default)]
pub(super) struct Trailers(Arc<Mutex<Option<HeaderMap>>>);

impl Trailers {
    pub fn take(&self) -> Option<HeaderMap> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A request's body as a stream, and what comes after its bytes.
pub(super) fn incoming(body: Body) -> (ByteStream, Trailers) {
    let trailers = Trailers::default();
    let stream = Frames { body, trailers: trailers.clone() };
    (Box::pin(stream), trailers)
}

struct Frames {
    body: Body,
    trailers: Trailers,
}

impl Stream for Frames {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            match ready!(http_body::Body::poll_frame(Pin::new(&mut this.body), cx)) {
                None => return Poll::Ready(None),
                Some(Err(_)) => return Poll::Ready(Some(Err(BodyError::Truncated))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => return Poll::Ready(Some(Ok(data))),
                    Err(frame) => {
                        let mut kept =
                            this.trailers.0.lock().unwrap_or_else(PoisonError::into_inner);
                        *kept = frame.into_trailers().ok();
                    }
                },
            }
        }
    }
}
