//! `…/files`: files of a running machine's container.

mod change;
mod get;
mod list;
mod path;
mod put;

use mimeo_agent_protocol::message::{FileInfo, FileType, Reply, Request};
use mimeo_engine::ControlClient;
use mimeo_manager_api::FileItem;
use utoipa_axum::routes;

use crate::App;
use crate::find_machine::{find, in_engine};
use crate::guest;
use crate::http::{ApiError, Caller, Policy, Result, Routes};
use crate::problems;

pub(super) fn routes(app: &App) -> Routes {
    Routes::new(app)
        .add(Policy::Exec, routes!(get::get))
        .add(Policy::Exec, routes!(put::put))
        .add(Policy::Exec, routes!(change::delete))
        .add(Policy::Exec, routes!(list::list))
        .add(Policy::Exec, routes!(list::stat))
        .add(Policy::Exec, routes!(change::mkdir))
}

/// Connects to the guest of the machine that a path names.
async fn connect(app: &App, caller: &Caller, word: &str) -> Result<ControlClient> {
    let row = find(app, caller, word).await?;
    let found = in_engine(app, &row)?;
    guest::connect(app, &found).await
}

/// Sends a request that is answered with one message.
async fn request(client: &ControlClient, request: Request) -> Result<Reply> {
    let replied = client.guest(request).await;
    Ok(replied.map_err(|error| problems::control_problem(&error))?.0)
}

/// Looks up a file.
async fn stat(client: &ControlClient, path: &str, follow: bool) -> Result<FileInfo> {
    match request(client, Request::StatFile { path: path.to_owned(), follow }).await? {
        Reply::File(info) => Ok(info),
        reply => Err(unexpected(&reply)),
    }
}

fn unexpected(reply: &Reply) -> ApiError {
    ApiError::new(502, "connection-lost", format!("unexpected reply from the guest: {reply:?}"))
}

/// A file, as the API shows it.
fn item(info: FileInfo) -> FileItem {
    let modified_at = jiff::Timestamp::from_nanosecond(info.modified_nanos.into());
    FileItem {
        name: info.name,
        kind: match info.kind {
            FileType::Directory => mimeo_manager_api::FileType::Directory,
            FileType::File => mimeo_manager_api::FileType::File,
            FileType::Symlink => mimeo_manager_api::FileType::Symlink,
            FileType::CharDevice
            | FileType::BlockDevice
            | FileType::Fifo
            | FileType::Socket
            | FileType::Unknown => mimeo_manager_api::FileType::Other,
        },
        size: info.size,
        mode: format!("{:04o}", info.mode),
        uid: info.uid,
        gid: info.gid,
        // All of an i64's nanoseconds are times.
        modified_at: modified_at.unwrap_or_default(),
        target: info.target,
    }
}
