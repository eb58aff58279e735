//! Removes machines whose time to live is over, and what is kept of those that were removed.

use std::time::Duration;

use jiff::Timestamp;
use mimeo_engine::cause::chain;
use mimeo_manager_api::ResourceKind;
use serde_json::json;

use crate::App;
use crate::database::{DatabaseError, EventDraft, MachineRow, resource};
use crate::live::NOTICE;
use crate::reconcile;

/// The longest pause between two looks at the clock, which may be set meanwhile.
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// Pause before a machine that could not be removed is removed again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How long finished operations and removed machines can be read.
const RETENTION: Duration = Duration::from_secs(24 * 3600);
/// Time between two removals of what is older than that.
const CLEANUP_INTERVAL: Duration = Duration::from_secs(300);

/// Removes expired machines as their time is over, until the manager ends.
pub(crate) async fn run(app: App) {
    let mut changes = app.database().expiry_changes();
    let mut cleaned_at = None;
    loop {
        let now = Timestamp::now();
        let is_cleanup = cleaned_at.is_none_or(|time| is_cleanup_due(time, now));
        let pause = match look_once(&app, now, is_cleanup).await {
            Ok(pause) => {
                cleaned_at = if is_cleanup { Some(now) } else { cleaned_at };
                pause
            }
            Err(error) => {
                tracing::warn!(component = "expiry", error = chain(&error), "cannot remove expired machines");
                MAX_PAUSE
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // A machine may expire earlier than those that were known. The database, which the app has, sends it.
            _ = changes.changed() => {}
            () = app.end().cancelled() => return,
        }
    }
}

/// Removes what has expired. Returns the time until the next machine is to be looked at.
async fn look_once(app: &App, now: Timestamp, is_cleanup: bool) -> Result<Duration, DatabaseError> {
    for row in app.database().machines_expired_at((now + NOTICE).as_microsecond()).await? {
        let Some(time) = row.item.expires_at else { continue };
        // It comes before the end even if no manager ran then, or the clock was set.
        give_notice(app, &row, time).await?;
        if time <= now {
            expire(app, &row).await;
        }
    }
    if is_cleanup {
        forget(app, now).await?;
    }
    let Some(next) = app.database().first_expiry().await? else { return Ok(MAX_PAUSE) };
    Ok(pause_until(next, now.as_microsecond()))
}

/// Whether it is time to forget again what ended long ago. The clock may have been set, forward or back.
fn is_cleanup_due(last: Timestamp, now: Timestamp) -> bool {
    now.duration_since(last).unsigned_abs() >= CLEANUP_INTERVAL
}

/// The pause until a machine's notice or end, in microseconds since 1970. A machine that should have ended already could not
/// be removed.
fn pause_until(expiry: i64, now: i64) -> Duration {
    if expiry <= now {
        return RETRY_PAUSE;
    }
    let notice = expiry - i64::try_from(NOTICE.as_micros()).unwrap_or(0);
    let next = if notice > now { notice } else { expiry };
    let pause = Duration::from_micros(u64::try_from(next - now).unwrap_or(0));
    pause.min(MAX_PAUSE)
}

async fn expire(app: &App, row: &MachineRow) {
    let lifetime = row.item.expires_at.map(|time| time.duration_since(row.item.created_at).as_secs());
    let reason = format!("its time to live, {} s, was over", lifetime.unwrap_or_default());
    reconcile::remove(app, &row.item.id, reason).await;
}

/// Records the event `machine.expiring`, once for each expiry.
async fn give_notice(app: &App, row: &MachineRow, time: Timestamp) -> Result<(), DatabaseError> {
    if !app.notices().begin(&row.item.id, time) {
        return Ok(());
    }
    let mut write = app.database().write().await?;
    let data = json!({ "name": row.item.name, "expires_at": time });
    let resource = resource(ResourceKind::Machine, &*row.item.id);
    write.event(EventDraft::of_manager("machine.expiring", &row.item.owner, resource, data)).await?;
    write.commit().await
}

/// Forgets what was removed or finished long ago.
async fn forget(app: &App, now: Timestamp) -> Result<(), DatabaseError> {
    let before = (now - RETENTION).as_microsecond();
    let mut write = app.database().write().await?;
    let (machines, operations) =
        (write.forget_machines(before).await?, write.forget_operations(before).await?);
    write.commit().await?;
    tracing::debug!(component = "expiry", machines, operations, "forgot what ended long ago");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_makes_a_cleanup_due() {
        let time = Timestamp::from_second(1_000_000).expect("a time");
        let at = |seconds: i64| time + jiff::SignedDuration::from_secs(seconds);
        for (seconds, is_due) in [(0, false), (299, false), (300, true), (-299, false), (-86_400, true)] {
            assert_eq!(is_cleanup_due(time, at(seconds)), is_due, "{seconds}");
        }
    }

    #[test]
    fn the_next_look_is_at_the_notice_then_at_the_end() {
        let second = 1_000_000;
        assert_eq!(pause_until(65 * second, 0), Duration::from_secs(5));
        assert_eq!(pause_until(65 * second, 60 * second), Duration::from_secs(5));
        assert_eq!(pause_until(1000 * second, 0), MAX_PAUSE);
        assert_eq!(pause_until(0, second), RETRY_PAUSE);
    }
}
