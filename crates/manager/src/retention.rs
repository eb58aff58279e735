//! Removes events that are older than requested.

use std::time::Duration;

use jiff::Timestamp;
use mimeo_engine::cause::chain;

use crate::App;
use crate::database::DatabaseError;

/// Pause between two removals.
const PAUSE: Duration = Duration::from_secs(3600);

/// Events that one transaction removes, while nothing else is recorded.
const EVENTS_AT_ONCE: i64 = 10_000;

/// Removes old events from time to time, until the manager ends.
pub(crate) async fn run(app: App, keep_events: Duration) {
    loop {
        if let Err(error) = prune(&app, keep_events).await {
            tracing::warn!(component = "retention", error = chain(&error), "cannot remove old events");
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = app.end().cancelled() => return,
        }
    }
}

async fn prune(app: &App, keep_events: Duration) -> Result<(), DatabaseError> {
    let before = Timestamp::now() - keep_events;
    let mut has_more = true;
    while has_more && !app.end().is_cancelled() {
        let mut write = app.database().write().await?;
        has_more = write.prune_events(before.as_microsecond(), EVENTS_AT_ONCE).await?;
        write.commit().await?;
    }
    Ok(())
}
