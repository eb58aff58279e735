//! Compares what is recorded with what is there, and mends it. What an operation is changing is left alone.

use std::collections::HashSet;
use std::time::Duration;

use mimeo_engine::MachineId;
use mimeo_engine::cause::chain;

use crate::App;
use crate::caller::Caller;
use crate::database::DatabaseError;
use crate::observe;
use crate::operations::{self, OperationRequest};
use crate::precondition::IfMatch;
use crate::volumes;

/// Pause between two comparisons. Changes are observed as they happen; this is for what was missed.
const INTERVAL: Duration = Duration::from_secs(30);

/// Compares from time to time, until the manager ends.
pub(crate) async fn run(app: App) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = app.end().cancelled() => return,
        }
        if let Err(error) = all(&app).await {
            tracing::warn!(
                component = "reconciler",
                error = chain(&error),
                "cannot bring the records up to date"
            );
        }
    }
}

/// Brings the rows of all machines up to date, and removes those that are to be removed.
pub(crate) async fn all(app: &App) -> Result<(), DatabaseError> {
    sweep(app).await;
    resume(app).await?;
    let mut ids: HashSet<String> = app.database().live_machine_ids().await?.into_iter().collect();
    ids.extend(engine_ids(app).await);
    for id in ids.into_iter().filter_map(|id| MachineId::try_from(id).ok()) {
        if let Err(error) = observe::refresh(app, &id).await {
            tracing::warn!(
                component = "reconciler",
                machine = id.short(),
                error = chain(&error),
                "cannot bring its record up to date"
            );
        }
    }
    volumes::refresh(app).await?;
    remove_again(app).await
}

async fn resume(app: &App) -> Result<(), DatabaseError> {
    let resumed = operations::resume_unfinished(app).await?;
    if resumed > 0 {
        tracing::info!(component = "reconciler", resumed, "took up operations that were unfinished");
    }
    Ok(())
}

/// Cleans up after supervisors that died, as every command does.
async fn sweep(app: &App) {
    let engine = app.engine().clone();
    match tokio::task::spawn_blocking(move || mimeo_engine::sweep(&engine)).await {
        Ok(Ok(swept)) => {
            for swept in swept {
                tracing::warn!(component = "reconciler", machine = %swept.name, "the supervisor died: removed what it left behind");
            }
        }
        Ok(Err(error)) => tracing::warn!(component = "reconciler", error = chain(&error), "cannot sweep"),
        Err(error) => tracing::error!(component = "reconciler", %error, "the sweep failed"),
    }
}

async fn engine_ids(app: &App) -> Vec<String> {
    let registry = app.engine().registry();
    match tokio::task::spawn_blocking(move || registry.list()).await {
        Ok(Ok(found)) => found.into_iter().map(|found| found.record.id.to_string()).collect(),
        Ok(Err(error)) => {
            tracing::warn!(component = "reconciler", error = chain(&error), "cannot list the machines");
            Vec::new()
        }
        Err(error) => {
            tracing::error!(component = "reconciler", %error, "cannot list the machines");
            Vec::new()
        }
    }
}

/// Begins the removal again of machines whose removal has failed.
async fn remove_again(app: &App) -> Result<(), DatabaseError> {
    for row in app.database().machines_to_remove().await? {
        let reason = row.item.ended_reason.unwrap_or_default();
        remove(app, &row.item.id, reason).await;
    }
    Ok(())
}

/// Begins the removal of a machine in the manager's own name.
pub(crate) async fn remove(app: &App, machine: &str, reason: String) {
    let request = OperationRequest::Delete { timeout: None, reason, force: true };
    let begun = operations::begin(app, &Caller::manager(), machine, &IfMatch::any(), request).await;
    if let Err(error) = begun {
        tracing::warn!(component = "reconciler", machine, error = %error.problem(), "cannot remove a machine");
    }
}
