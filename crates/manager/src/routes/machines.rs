//! Machines: `/v1/vms` and `/v1/containers` are the same routes.

mod change;
mod console;
mod create;
mod files;
mod find;
mod list;
mod logs;
mod read;
mod streams;

use utoipa_axum::routes;

use crate::App;
use crate::http::{Policy, Routes};
pub(crate) use create::expiry;
pub(crate) use find::{find, in_engine, recorded};
pub(crate) use list::{labels, owner};

pub(super) fn routes(app: &App) -> Routes {
    Routes::new(app)
        .merge(super::snapshots::of_machines(app))
        .add(Policy::Read, routes!(list::list))
        .add(Policy::Write, routes!(create::create))
        .add(Policy::Read, routes!(read::get))
        .add(Policy::Read, routes!(read::wait))
        .add(Policy::Write, routes!(change::delete))
        .add(Policy::Write, routes!(change::start))
        .add(Policy::Write, routes!(change::stop))
        .add(Policy::Write, routes!(change::restart))
        .add(Policy::Write, routes!(change::pause))
        .add(Policy::Write, routes!(change::resume))
        .add(Policy::Exec, routes!(super::exec::exec))
        .add(Policy::Exec, routes!(streams::exec))
        .add(Policy::Exec, routes!(streams::attach))
        .add(Policy::Exec, routes!(console::console))
        .add(Policy::Exec, routes!(logs::logs))
        .merge(files::routes(app))
}
