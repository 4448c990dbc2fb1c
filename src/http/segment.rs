//! The variable segment of a path, decoded.

use axum::extract::{FromRequestParts, Path};
use http::request::Parts;

use super::Problem;
use crate::problem::Slug;

/// A path's one parameter: an id, a name, a list of steps.
pub(super) struct Segment(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(text) = Path::<String>::from_request_parts(parts, state).await.map_err(|_| {
            Problem::because(Slug::BadRequest, "A part of the path is not UTF-8 when decoded.")
        })?;
        Ok(Self(text))
    }
}
