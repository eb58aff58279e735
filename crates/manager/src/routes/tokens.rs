//! Tokens: each user's own, and everybody's for administrators.

mod create;
mod delete;
mod read;

use mimeo_manager_api::{Role, Scope};
use utoipa_axum::routes;

use crate::App;
use crate::database::TokenRow;
use crate::http::{ApiError, Caller, Policy, Result, Routes};

pub(super) fn routes(app: &App) -> Routes {
    Routes::new(app)
        .add(Policy::Read, routes!(read::list))
        .add(Policy::Write, routes!(create::create))
        .add(Policy::Read, routes!(read::get))
        // Each token may remove itself: the handler checks the rest.
        .add(Policy::Authenticated, routes!(delete::delete))
}

/// Whether the caller manages the tokens of all users.
fn is_admin(caller: &Caller) -> bool {
    caller.role == Role::Admin && caller.has(Scope::Admin)
}

async fn find(app: &App, caller: &Caller, id: &str) -> Result<TokenRow> {
    let row = app.database().token(id).await?;
    let row = row.filter(|row| is_admin(caller) || row.user.id == caller.id);
    row.ok_or_else(|| ApiError::not_found("token", id))
}
