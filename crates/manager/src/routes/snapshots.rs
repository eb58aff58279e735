//! Snapshots, their clones and their pools; forks of machines.

mod clone;
mod create;
mod find;
mod fork;
mod instantiate;
mod pool;
mod read;
mod remove;

use utoipa_axum::routes;

use crate::App;
use crate::http::{Policy, Routes};
pub(crate) use clone::create_clone;
pub(crate) use find::find;

pub(super) fn routes(app: &App) -> Routes {
    Routes::new(app)
        .add(Policy::Read, routes!(read::list))
        .add(Policy::Read, routes!(read::get))
        .add(Policy::Write, routes!(remove::delete))
        .add(Policy::Write, routes!(instantiate::instantiate))
        .add(Policy::Read, routes!(pool::get))
        .add(Policy::Write, routes!(pool::put))
        .add(Policy::Write, routes!(pool::delete))
}

/// The routes below a machine's path.
pub(super) fn of_machines(app: &App) -> Routes {
    Routes::new(app)
        .add(Policy::Write, routes!(create::create))
        .add(Policy::Read, routes!(read::list_of_machine))
        .add(Policy::Write, routes!(fork::fork))
}
