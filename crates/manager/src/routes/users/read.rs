//! Reads users.

use axum::extract::{Path, State};
use mimeo_manager_api::{Item, Items, User};

use crate::App;
use crate::database::After;
use crate::http::query::Query;
use crate::http::{Json, Result, page};

/// Lists users, by name.
#[utoipa::path(get, path = "/", tag = "users", operation_id = "list_users",
    params(
        ("limit" = Option<i64>, Query, description = "The size of the page; 100 by default", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses((status = 200, description = "A page of users.", body = Items<User>)))]
pub(super) async fn list(State(app): State<App>, mut query: Query) -> Result<Json<Items<User>>> {
    let (limit, after) = (page::limit(&mut query)?, page::cursor(&mut query)?);
    query.finish()?;
    let mut users = app.database().users().await?;
    users.retain(|user| after.as_ref().is_none_or(|after| user.name > after.key));
    let place = |user: &User| After { key: user.name.clone(), id: user.id.clone() };
    Ok(Json(page::page(users, limit, place, |user| user)))
}

/// Reads a user.
#[utoipa::path(get, path = "/{id}", tag = "users", operation_id = "get_user",
    params(("id" = String, Path, description = "The user's name or id")),
    responses((status = 200, description = "The user.", body = Item<User>)))]
pub(super) async fn get(
    State(app): State<App>,
    Path(word): Path<String>,
    query: Query,
) -> Result<Json<Item<User>>> {
    query.finish()?;
    Ok(Json(Item { item: super::find(&app, &word).await? }))
}
