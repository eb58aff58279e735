//! The routes, one file for each kind of resource.

mod about;
mod accepted;
mod docs;
mod events;
mod exec;
mod images;
pub(crate) mod machines;
mod metrics;
mod operations;
mod quotas;
mod records;
mod runtime_snapshots;
mod snapshots;
mod tokens;
mod users;
mod volumes;

use crate::App;
use crate::http::Routes;

/// All routes.
pub(crate) fn all(app: &App) -> Routes {
    Routes::new(app)
        .merge(about::routes(app))
        .merge(quotas::routes(app))
        .nest("/v1/records", records::routes(app))
        .merge(docs::routes(app))
        .merge(metrics::routes(app))
        .nest("/v1/vms", machines::routes(app))
        .nest("/v1/containers", machines::routes(app))
        .nest("/v1/operations", operations::routes(app))
        .nest("/v1/events", events::routes(app))
        .nest("/v1/users", users::routes(app))
        .nest("/v1/tokens", tokens::routes(app))
        .nest("/v1/snapshots", snapshots::routes(app))
        .nest("/v1/runtime-snapshots", runtime_snapshots::routes(app))
        .nest("/v1/images", images::routes(app))
        .nest("/v1/volumes", volumes::routes(app))
}

/// A new id of a record.
pub(crate) fn new_id() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

/// The time, as exactly as the database stores it.
pub(crate) fn now() -> jiff::Timestamp {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

/// A new secret of a token: 256 random bits.
pub(crate) fn new_secret() -> String {
    let (a, b) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    let random = [a.as_bytes().as_slice(), b.as_bytes()].concat();
    format!("mimeo_{}", crate::database::hex(&<sha2::Sha256 as sha2::Digest>::digest(random)))
}
