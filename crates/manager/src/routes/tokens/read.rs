//! Reads tokens, without their secrets.

use axum::extract::{Path, State};
use mimeo_manager_api::{Item, Items, Token};

use crate::App;
use crate::database::{After, TokenRow};
use crate::http::query::Query;
use crate::http::{ApiError, Caller, Json, Result, page};

/// Lists tokens, the oldest first: the caller's own; for administrators those of all users.
#[utoipa::path(get, path = "/", tag = "tokens", operation_id = "list_tokens",
    params(
        ("limit" = Option<i64>, Query, description = "The size of the page; 100 by default", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("user" = Option<String>, Query, description = "Only the tokens of this user"),
    ),
    responses((status = 200, description = "A page of tokens.", body = Items<Token>)))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    mut query: Query,
) -> Result<Json<Items<Token>>> {
    let (limit, after) = (page::limit(&mut query)?, page::cursor(&mut query)?);
    let user = query.take("user")?;
    query.finish()?;
    let user = match user {
        Some(word) if !super::is_admin(&caller) && word != caller.name => {
            return Err(ApiError::not_found("user", &word));
        }
        Some(word) => Some(crate::routes::users::find(&app, &word).await?.id),
        None => (!super::is_admin(&caller)).then(|| caller.id.clone()),
    };
    let mut rows = app.database().tokens(user.as_deref()).await?;
    // The ids have the time in front: they sort by age.
    rows.retain(|row| after.as_ref().is_none_or(|after| row.item.id > after.id));
    rows.sort_by(|one, other| one.item.id.cmp(&other.item.id));
    let place = |row: &TokenRow| After { key: String::new(), id: row.item.id.clone() };
    Ok(Json(page::page(rows, limit, place, |row| row.item)))
}

/// Reads a token.
#[utoipa::path(get, path = "/{id}", tag = "tokens", operation_id = "get_token",
    params(("id" = String, Path, description = "The token's id")),
    responses((status = 200, description = "The token.", body = Item<Token>)))]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    query: Query,
) -> Result<Json<Item<Token>>> {
    query.finish()?;
    Ok(Json(Item { item: super::find(&app, &caller, &id).await?.item }))
}
