//! Compares what is recorded with what is there, and mends it.

use std::collections::HashSet;
use std::time::Duration;

use mimeo_engine::MachineId;

use crate::App;
use crate::chain::chain;
use crate::database::DatabaseError;
use crate::observe;

/// Pause between two comparisons. Changes are observed as they happen; this is for what was missed.
const INTERVAL: Duration = Duration::from_secs(30);

/// Brings all rows up to date from time to time, until the manager ends.
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

/// Brings all rows up to date.
pub(crate) async fn all(app: &App) -> Result<(), DatabaseError> {
    let mut ids: HashSet<String> = app.database().live_machine_ids().await?.into_iter().collect();
    match app.engine().registry().list() {
        Ok(found) => ids.extend(found.into_iter().map(|found| found.record.id.to_string())),
        Err(error) => {
            tracing::warn!(component = "reconciler", error = chain(&error), "cannot list the machines")
        }
    }
    for id in ids.into_iter().filter_map(|id| MachineId::try_from(id).ok()) {
        observe::refresh(app, &id).await?;
    }
    Ok(())
}
