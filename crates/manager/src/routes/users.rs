//! Users.

mod change;
mod create;
mod delete;
mod read;

use mimeo_manager_api::User;
use utoipa_axum::routes;

use crate::App;
use crate::database::Write;
use crate::http::{ApiError, Policy, Result, Routes};

pub(super) fn routes(app: &App) -> Routes {
    Routes::new(app)
        .add(Policy::Admin, routes!(read::list))
        .add(Policy::Admin, routes!(create::create))
        .add(Policy::Admin, routes!(read::get))
        .add(Policy::Admin, routes!(change::change))
        .add(Policy::Admin, routes!(delete::delete))
}

pub(super) async fn find(app: &App, word: &str) -> Result<User> {
    app.database().user(word).await?.ok_or_else(|| ApiError::not_found("user", word))
}

/// Refuses a change that leaves no administrator who is not disabled.
async fn check_admin_left(write: &mut Write<'_>) -> Result<()> {
    if write.count_admins().await? > 0 {
        return Ok(());
    }
    Err(ApiError::new(409, "last-admin", "cannot do this: no administrator would be left")
        .with_hint("make another user an administrator first"))
}
