//! `DELETE /v1/users/NAME`.

use axum::extract::{Path, State};
use mimeo_manager_api::{Item, ResourceKind, User};
use serde_json::json;

use crate::App;
use crate::database::{EventDraft, Write, resource};
use crate::http::query::Query;
use crate::http::{ApiError, Caller, Json, Result};

/// Removes a user, and the user's tokens. The machines, snapshots and volumes of the user must be handed over to another one.
#[utoipa::path(delete, path = "/{id}", tag = "users", operation_id = "delete_user",
    params(
        ("id" = String, Path, description = "The user's name or id"),
        ("new_owner" = Option<String>, Query, description = "The user to whom the user's machines, snapshots and volumes are handed over"),
    ),
    responses((status = 200, description = "The user who was removed.", body = Item<User>)))]
pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(word): Path<String>,
    mut query: Query,
) -> Result<Json<Item<User>>> {
    let new_owner = query.take("new_owner")?;
    query.finish()?;
    let mut write = app.database().write().await?;
    let user = super::find(&app, &word).await?;
    let moved = match new_owner {
        Some(word) => hand_over(&app, &mut write, &user, &word).await?,
        None => check_owns_nothing(&mut write, &user).await?,
    };
    write.remove_user(&user.id).await?;
    super::check_admin_left(&mut write).await?;
    let data = json!({ "name": user.name, "machines_handed_over": moved });
    let (kind, resource) = ("user.deleted", resource(ResourceKind::User, &*user.id));
    write.event(EventDraft { kind, actor: &caller.name, owner: &user.name, resource, data }).await?;
    write.commit().await?;
    Ok(Json(Item { item: user }))
}

async fn check_owns_nothing(write: &mut Write<'_>, user: &User) -> Result<usize> {
    let machines = write.machines_of(&user.name).await?;
    let snapshots = write.snapshots_of(&user.name).await?;
    let names = machines.into_iter().map(|row| format!("the machine {}", row.item.name));
    let names = names.chain(snapshots.into_iter().map(|item| format!("the snapshot {}", item.id)));
    let volumes = write.volumes_of(&user.name).await?;
    let names: Vec<_> = names.chain(volumes.into_iter().map(|name| format!("the volume {name}"))).collect();
    let Some(first) = names.first() else { return Ok(0) };
    let detail = format!("the user {:?} owns {} resources, such as {first}", user.name, names.len());
    Err(ApiError::new(409, "user-has-resources", detail)
        .with_hint("remove them, or hand them over with ?new_owner=NAME"))
}

/// Makes another user the owner of the user's machines, snapshots and volumes. Returns how many machines there are.
async fn hand_over(app: &App, write: &mut Write<'_>, user: &User, word: &str) -> Result<usize> {
    let new_owner = super::find(app, word).await?;
    if new_owner.id == user.id {
        return Err(ApiError::invalid(format!("new_owner {word:?} is the user who is to be removed")));
    }
    let owned = write.machines_of(&user.name).await?;
    let count = owned.len();
    for before in owned {
        let mut row = before.clone();
        row.item.owner.clone_from(&new_owner.name);
        write.store_machine(&mut row, &before).await?;
    }
    for item in write.snapshots_of(&user.name).await? {
        write.hand_over_snapshot(item, &new_owner.name).await?;
    }
    write.hand_over_volumes(&user.name, &new_owner.name).await?;
    Ok(count)
}
