//! Observes the machines' records as they change.

use crate::App;

/// Brings the row of each machine up to date when its record changes, until the manager ends.
pub(crate) async fn run(app: App) {
    app.end().cancelled().await;
}
