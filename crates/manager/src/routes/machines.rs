//! Machines: `/v1/vms` and `/v1/containers` are the same routes.

mod change;
mod console;
mod create;
mod figures;
mod files;
mod guest_ip;
mod kill;
mod list;
mod logs;
mod patch;
mod port_forwards;
mod read;
mod streams;

use utoipa_axum::routes;

use crate::App;
use crate::http::{Policy, Routes};
pub(crate) use create::expiry;
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
        .add(Policy::Read, routes!(figures::metrics))
        .add(Policy::Read, routes!(figures::top))
        .add(Policy::Write, routes!(kill::kill))
        .add(Policy::Write, routes!(patch::patch))
        .add(Policy::Read, routes!(port_forwards::list))
        .add(Policy::Write, routes!(port_forwards::add))
        .add(Policy::Write, routes!(port_forwards::remove))
        .add(Policy::Read, routes!(guest_ip::get))
        .add(Policy::OwnMachine, routes!(guest_ip::report))
        .add(Policy::Write, routes!(guest_ip::token))
}
