//! Records which tokens were used, at most once a minute each.

use crate::App;
use crate::live::PRECISION;

/// Records the uses of tokens from time to time, until the manager ends.
pub(crate) async fn record_uses(app: App) {
    loop {
        let is_last = tokio::select! {
            () = tokio::time::sleep(PRECISION) => false,
            () = app.end().cancelled() => true,
        };
        if let Err(error) = record(&app).await {
            tracing::warn!(
                component = "tokens",
                error = mimeo_engine::cause::chain(&error),
                "cannot record the use of tokens"
            );
        }
        if is_last {
            return;
        }
    }
}

async fn record(app: &App) -> Result<(), crate::database::DatabaseError> {
    let used = app.tokens_used().take();
    if used.is_empty() {
        return Ok(());
    }
    let mut write = app.database().write().await?;
    for (token, time) in used {
        write.mark_token_used(&token, time.as_microsecond()).await?;
    }
    write.commit().await
}
