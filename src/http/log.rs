//! The log of proofs, as static resources (C2SP tlog-tiles): nothing here depends on who asks.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

use super::guard::json;
use super::query::{Query, number};
use super::receipts::{proven, text};
use super::segment::Segment;
use super::{Gate, Problem};
use crate::problem::Slug;
use crate::receipt::{Access, Evidence};
use crate::wire;

/// There is a log, or it is as if nothing had been asked for.
fn log<'a>(gate: &'a Gate, request: &Request) -> Result<&'a Evidence, Problem> {
    Query::parse(request.uri(), &[])?;
    let evidence = &gate.pipeline.evidence;
    if evidence.access() == Access::Off { Err(Slug::NotFound.into()) } else { Ok(evidence) }
}

/// The newest signed checkpoint: origin, size and root (C2SP tlog-checkpoint).
#[utoipa::path(get, path = "/log/checkpoint", tag = "log",
    responses(
        (status = 200, description = "The checkpoint", content_type = "text/plain"),
        (status = 404, description = "There is no log", body = wire::Problem),
    ))]
pub(super) async fn checkpoint(
    State(gate): State<Arc<Gate>>,
    request: Request,
) -> Result<Response, Problem> {
    Ok(text(log(&gate, &request)?.checkpoint_note()))
}

/// The log's public key, a line for `dayfly verify --log-key`.
#[utoipa::path(get, path = "/log/key", tag = "log",
    responses(
        (status = 200, description = "The key", content_type = "text/plain"),
        (status = 404, description = "There is no log", body = wire::Problem),
    ))]
pub(super) async fn key(
    State(gate): State<Arc<Gate>>,
    request: Request,
) -> Result<Response, Problem> {
    Ok(text(log(&gate, &request)?.log_key()))
}

/// How often there is a checkpoint, and how long entries are kept.
#[utoipa::path(get, path = "/log/policy", tag = "log",
    responses(
        (status = 200, description = "The policy", content_type = "text/plain"),
        (status = 404, description = "There is no log", body = wire::Problem),
    ))]
pub(super) async fn policy(
    State(gate): State<Arc<Gate>>,
    request: Request,
) -> Result<Response, Problem> {
    Ok(text(log(&gate, &request)?.log_policy()))
}

/// The note behind a boot or closing leaf, with its proof. Other leaves have no public note.
#[utoipa::path(get, path = "/log/notes/{index}", tag = "log",
    params(("index" = u64, Path, description = "The leaf's place in the log")),
    responses(
        (status = 200, description = "The note", body = wire::Proof),
        (status = 404, description = "No public note there", body = wire::Problem),
    ))]
pub(super) async fn note(
    State(gate): State<Arc<Gate>>,
    Segment(index): Segment,
    request: Request,
) -> Result<Response, Problem> {
    let index = number(&index).ok_or(Slug::NotFound)?;
    let note = log(&gate, &request)?.public_note_at(index).ok_or(Slug::NotFound)?;
    Ok(json(StatusCode::OK, &proven(note)))
}

/// A tile of hashes, `<level>/<index>[.p/<width>]`, or of leaves, `entries/<index>[.p/<width>]`.
#[utoipa::path(get, path = "/log/tile/{*tile}", tag = "log",
    params(("tile" = String, Path, description = "As C2SP tlog-tiles writes it, `0/x001/067`")),
    responses(
        (status = 200, description = "The tile", content_type = "application/octet-stream"),
        (status = 404, description = "No such tile, or pruned", body = wire::Problem),
    ))]
pub(super) async fn tile(
    State(gate): State<Arc<Gate>>,
    Segment(tile): Segment,
    request: Request,
) -> Result<Response, Problem> {
    let (level, index, width) = parse(&tile).ok_or(Slug::NotFound)?;
    let tile = log(&gate, &request)?.tile(level, index, width).ok_or(Slug::NotFound)?;
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((kind, Bytes::from(tile)).into_response())
}

/// Level (`None` for entries), index and width of a tile's path, in its one spelling.
fn parse(path: &str) -> Option<(Option<u8>, u64, u32)> {
    let (level, rest) = path.split_once('/')?;
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty();
    let plain = |text: &str| digits(text) && (text == "0" || !text.starts_with('0'));
    let level = match level {
        "entries" => None,
        _ if plain(level) => Some(level.parse().ok().filter(|level| *level < 64)?),
        _ => return None,
    };
    let (index, width) = match rest.split_once(".p/") {
        Some((index, width)) if plain(width) => {
            (index, width.parse().ok().filter(|width| (1..256).contains(width))?)
        }
        Some(_) => return None,
        None => (rest, 256),
    };
    let mut number: u64 = 0;
    let mut parts = index.split('/').peekable();
    let mut first = true;
    while let Some(part) = parts.next() {
        let part = if parts.peek().is_some() { part.strip_prefix('x')? } else { part };
        if part.len() != 3 || !digits(part) || (first && parts.peek().is_some() && part == "000") {
            return None;
        }
        first = false;
        number = number.checked_mul(1000)?.checked_add(part.parse().ok()?)?;
    }
    Some((level, number, width))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_has_one_spelling() {
        for (path, expected) in [
            ("0/000", Some((Some(0), 0, 256))),
            ("1/x001/x234/067", Some((Some(1), 1_234_067, 256))),
            ("63/005.p/255", Some((Some(63), 5, 255))),
            ("entries/012.p/1", Some((None, 12, 1))),
            ("64/000", None),
            ("00/000", None),
            ("0/0", None),
            ("0/x000/001", None),
            ("0/001/067", None),
            ("0/x001", None),
            ("0/000.p/0", None),
            ("0/000.p/256", None),
            ("0/000.p/01", None),
            ("0/000.p/", None),
            ("-1/000", None),
            ("0/", None),
            ("", None),
            ("0/x999/x999/x999/x999/x999/x999/x999/999", None),
        ] {
            assert_eq!(parse(path), expected, "{path}");
        }
    }
}
