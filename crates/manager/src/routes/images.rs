//! Images.

mod pull;
mod read;
mod remove;

use utoipa_axum::routes;

use crate::App;
use crate::http::{Policy, Routes};

pub(super) fn routes(app: &App) -> Routes {
    Routes::new(app)
        .add(Policy::Read, routes!(read::list))
        .add(Policy::Read, routes!(read::get))
        .add(Policy::Write, routes!(pull::pull))
        // All users share the images: what one of them has pulled, another may be about to use.
        .add(Policy::Admin, routes!(remove::delete))
        .add(Policy::Admin, routes!(remove::prune))
}
