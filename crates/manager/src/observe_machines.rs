//! Observes the machines' records as they change.

use mimeo_engine::MachineId;
use mimeo_engine::cause::chain;
use mimeo_engine::machine::{Change, Found, Watcher};

use crate::App;
use crate::observe;

/// Brings the row of each machine up to date when its record changes or its supervisor ends, until the manager ends.
pub(crate) async fn run(app: App, mut watcher: Watcher) {
    loop {
        let change = tokio::select! {
            change = watcher.next() => change,
            () = app.end().cancelled() => return,
        };
        // A record that was never readable has no row.
        let Change { id: Some(id), machine, .. } = change else { continue };
        if machine.as_ref().is_some_and(is_orphan) {
            sweep(&app, &id).await;
        }
        // What waits in a pool has no row, or is being taken.
        if machine.is_none_or(|found| !found.record.waiting) {
            refresh(&app, &id).await;
        }
    }
}

/// Whether the machine's supervisor has died.
fn is_orphan(found: &Found) -> bool {
    !found.supervised && found.record.phase().is_live()
}

async fn sweep(app: &App, id: &MachineId) {
    let (engine, id) = (app.engine().clone(), id.clone());
    match tokio::task::spawn_blocking(move || mimeo_engine::sweep_machine(&engine, &id)).await {
        Ok(Some(swept)) => {
            tracing::warn!(component = "observer", machine = %swept.name, "the supervisor died: removed what it left behind");
        }
        Ok(None) => {}
        Err(error) => tracing::error!(component = "observer", %error, "the sweep failed"),
    }
}

/// Brings the row up to date. If the database fails, the reconciler does it later.
async fn refresh(app: &App, id: &MachineId) {
    if let Err(error) = observe::refresh(app, id).await {
        tracing::warn!(
            component = "observer",
            machine = id.short(),
            error = chain(&error),
            "cannot bring its record up to date"
        );
    }
}
