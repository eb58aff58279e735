//! Pages of lists: an opaque cursor names the place after which the next page begins.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mimeo_manager_api::Items;

use super::query::Query;
use super::{ApiError, Result};
use crate::database::After;

/// The size of a page, unless the client asks for another one.
const DEFAULT_LIMIT: i64 = 100;
/// The largest page.
pub(crate) const MAX_LIMIT: i64 = 1000;

/// Takes `limit`.
pub(crate) fn limit(query: &mut Query) -> Result<i64> {
    let limit = query.take_parsed::<i64>("limit")?.unwrap_or(DEFAULT_LIMIT);
    if (1..=MAX_LIMIT).contains(&limit) {
        return Ok(limit);
    }
    Err(ApiError::invalid(format!("limit {limit} is not between 1 and {MAX_LIMIT}")))
}

/// Takes `cursor`.
pub(crate) fn cursor(query: &mut Query) -> Result<Option<After>> {
    let Some(text) = query.take("cursor")? else { return Ok(None) };
    let invalid =
        || ApiError::new(400, "invalid-cursor", "cannot read the cursor: it is not one of this list");
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid())?;
    serde_json::from_slice(&bytes).map(Some).map_err(|_| invalid())
}

/// Makes a page from up to `limit + 1` rows.
pub(crate) fn page<R, T>(
    mut rows: Vec<R>,
    limit: i64,
    place: impl Fn(&R) -> After,
    item: impl Fn(R) -> T,
) -> Items<T> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = rows.len() > limit;
    rows.truncate(limit);
    let last = rows.last().filter(|_| has_more);
    // Two strings: serialization cannot fail.
    let cursor = last.map(|row| URL_SAFE_NO_PAD.encode(serde_json::to_vec(&place(row)).unwrap_or_default()));
    Items { items: rows.into_iter().map(item).collect(), next_cursor: cursor }
}
