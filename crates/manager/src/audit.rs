//! Events of what callers do besides changing machines: commands, files, consoles, users and tokens.

use mimeo_manager_api::Resource;
use serde_json::Value;

use crate::App;
use crate::caller::Caller;
use crate::database::{DatabaseError, EventDraft};

/// Records that the caller did something with a resource of `owner`. `data` must hold no secrets: of a command only the
/// program's name, of a file only its path.
pub(crate) async fn audit(
    app: &App,
    caller: &Caller,
    kind: &str,
    owner: &str,
    resource: Resource,
    data: Value,
) -> Result<(), DatabaseError> {
    let mut write = app.database().write_observed().await?;
    write.event(EventDraft { kind, actor: &caller.name, owner, resource, data }).await?;
    write.commit().await
}
