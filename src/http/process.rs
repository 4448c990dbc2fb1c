//! Bytes in, result out: synchronous processing.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use futures_util::stream;
use http::{HeaderName, HeaderValue, header};

use super::body::{Outgoing, Recipient, declared, incoming};
use super::caller::{Caller, Need};
use super::content::insert;
use super::digests::expected;
use super::guard::stopping;
use super::query::Query;
use super::segment::Segment;
use super::upload::elsewhere;
use super::{Gate, Problem};
use crate::body::{BodyError, ByteStream};
use crate::intake::{Digester, Parts, boundary};
use crate::pipeline::Run;
use crate::policy::Ask;
use crate::problem::Slug;
use crate::process::Password;
use crate::receipt::Action;

/// Runs steps on the body and answers with their result; nothing is left behind.
///
/// Several steps are joined by `+`; a pipeline of the operator's is a step of its own. Options are
/// query parameters (`?format=markdown`; with several steps `text.format=markdown`). A document's
/// password goes in `Dayfly-Password`. With `multipart/form-data` the one file in it is the input.
#[utoipa::path(
    post,
    path = "/v1/process/{steps}",
    tag = "processing",
    security(("key" = ["client"])),
    params(
        ("steps" = String, Path, description = "`text`, `detect+checksum`, …"),
        ("region" = Option<String>, Query, description = "One of the tenant's"),
        ("Dayfly-Password" = Option<String>, Header, description = "Opens an encrypted document"),
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "The result, in its own media type; `Dayfly-Receipt` names \
            the receipt", content_type = "application/octet-stream"),
        (status = 403, description = "The policy says no", body = crate::wire::Problem),
        (status = 415, description = "Not a type this step reads", body = crate::wire::Problem),
        (status = 422, description = "No such step or option, or a document that is damaged, \
            encrypted, too complex or over a limit", body = crate::wire::Problem),
        (status = 503, description = "All workers are busy", body = crate::wire::Problem),
    )
)]
pub(super) async fn run(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Segment(steps): Segment,
    request: Request,
) -> Result<Response, Problem> {
    caller.allow(&gate, Need::Client)?;
    let steps = caller.rules.steps.parse(&steps)?;
    let mut query = Query::any(request.uri());
    let region = query.take("region");
    let names: Vec<String> = steps.names().map(str::to_owned).collect();
    let plan = steps.prepare(&query.into_pairs(), password(&request)?.as_ref())?;
    let declared = declared(&request);
    let ask = Ask {
        region: region.as_deref(),
        declared_bytes: declared,
        steps: &names,
        ..Ask::default()
    };
    let terms = caller.decide(&ask).map_err(|refusal| elsewhere(refusal, &request))?;
    let mut digester = Digester::default();
    digester.expect(expected(request.headers())?);
    if !gate.pipeline.has_quota(caller.tenant_id(), &terms, declared) {
        return Err(Problem::later(Slug::QuotaExceeded, 60));
    }
    caller.throttle(&gate)?;
    stopping(&gate)?;
    gate.pipeline.has_place(caller.tenant_id(), !plan.streams()).await?;
    let _turn = gate.pipeline.admit(declared).await?;
    let to = Recipient::of(&request);
    let input = input(&gate, request)?;
    let run = Run { input, digester, plan, steps: names };
    let ran = gate.pipeline.run(caller.tenant_id(), &terms, run).await?;
    caller.note(&gate, Action::Process, Some(ran.id.into()));
    let mut response = Response::new(Outgoing::body(&gate, ran.body, &to));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(ran.media_type));
    if let Some(bytes) = ran.bytes {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
    }
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    insert(headers, HeaderName::from_static("dayfly-region"), terms.region.as_str());
    let receipt = format!("/v1/receipts/{}", ran.id);
    insert(headers, HeaderName::from_static("dayfly-receipt"), &receipt);
    Ok(response)
}

pub(super) fn password(request: &Request) -> Result<Option<Password>, Problem> {
    let Some(value) = request.headers().get("dayfly-password") else { return Ok(None) };
    let bytes = value.as_bytes().to_vec();
    let text = String::from_utf8(bytes)
        .map_err(|_| Problem::because(Slug::BadRequest, "Dayfly-Password is not UTF-8."))?;
    Ok(Some(Password::new(text)))
}

/// The body, or the one file in a multipart body.
fn input(gate: &Gate, request: Request) -> Result<ByteStream, Problem> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let multipart =
        kind.filter(|kind| kind.to_ascii_lowercase().starts_with("multipart/form-data"));
    let Some(kind) = multipart else { return Ok(incoming(request.into_body())) };
    let boundary = boundary(kind)?;
    let parts = Parts::new(incoming(request.into_body()), boundary, gate.pipeline.pace());
    Ok(Box::pin(stream::try_unfold(Single::Before(parts), Single::next)))
}

/// A multipart body that must hold exactly one file.
enum Single {
    Before(Parts),
    Within(Parts, ByteStream),
}

impl Single {
    async fn next(mut self) -> Result<Option<(bytes::Bytes, Self)>, BodyError> {
        use futures_util::StreamExt;
        loop {
            self = match self {
                Self::Before(mut parts) => {
                    let part = parts.next().await?.ok_or(BodyError::Multipart)?;
                    Self::Within(parts, part.body)
                }
                Self::Within(mut parts, mut body) => match body.next().await.transpose()? {
                    Some(frame) => return Ok(Some((frame, Self::Within(parts, body)))),
                    None => {
                        drop(body);
                        let another = parts.next().await?.is_some();
                        return if another { Err(BodyError::Multipart) } else { Ok(None) };
                    }
                },
            };
        }
    }
}
