//! `DELETE /v1/tokens/ID`.

use axum::extract::{Path, State};
use mimeo_manager_api::{Item, ResourceKind, Token};
use serde_json::json;

use crate::App;
use crate::database::{EventDraft, resource};
use crate::http::query::Query;
use crate::http::{ApiError, Caller, Json, Policy, Result};

/// Removes a token, which is refused from then on. Each token may remove itself. To remove another one, a token needs the scope
/// `write` and, unless it is an administrator's, all scopes of the other one.
#[utoipa::path(delete, path = "/{id}", tag = "tokens", operation_id = "delete_token",
    params(("id" = String, Path, description = "The token's id")),
    responses((status = 200, description = "The token that was removed.", body = Item<Token>)))]
pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    query: Query,
) -> Result<Json<Item<Token>>> {
    query.finish()?;
    let item = super::find(&app, &caller, &id).await?.item;
    check_rights(&caller, &item)?;
    let mut write = app.database().write().await?;
    write.remove_token(&item.id).await?;
    let (kind, resource) = ("token.deleted", resource(ResourceKind::Token, &*item.id));
    let data = json!({ "name": item.name });
    write.event(EventDraft { kind, actor: &caller.name, owner: &item.user, resource, data }).await?;
    write.commit().await?;
    Ok(Json(Item { item }))
}

fn check_rights(caller: &Caller, item: &Token) -> Result<()> {
    if caller.token.as_ref() == Some(&item.id) {
        return Ok(());
    }
    Policy::Write.check(caller)?;
    if super::is_admin(caller) {
        return Ok(());
    }
    let Some(scope) = item.scopes.iter().find(|scope| !caller.has(**scope)) else { return Ok(()) };
    let scope = crate::problems::name_of(scope);
    let detail = format!("the token {:?} may do more than yours: it has the scope {scope:?}", item.name);
    Err(ApiError::new(403, "scope-forbidden", detail))
}
