//! A stream of events (server-sent events), read from the store: a slow client misses none.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::response::Sse;
use axum::response::sse::{Event as ServerSentEvent, KeepAlive};
use futures_util::Stream;
use futures_util::stream::unfold;
use mimeo_engine::cause::chain;
use mimeo_manager_api::Event;
use tokio::sync::watch;

use crate::App;
use crate::database::{DatabaseError, EventFilter};
use crate::http::Caller;
use crate::http::authenticate::check_again;

/// Pause between two comments, which show that the connection works.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Events that are read at once.
const PAGE: i64 = 500;

/// Streams the events after `after`; those to come, if it is absent.
pub(super) fn stream(
    app: App,
    caller: Caller,
    filter: EventFilter,
    after: Option<i64>,
) -> Sse<impl Stream<Item = Result<ServerSentEvent, Infallible>>> {
    let changes = app.database().last_event();
    let after = after.unwrap_or_else(|| *changes.borrow());
    let reader = Reader { app, caller, filter, after, changes, read: VecDeque::new() };
    let events = unfold(reader, |mut reader| async move {
        let event = reader.next().await?;
        let id = event.seq.to_string();
        // A document of strings, numbers and maps of them: serialization cannot fail.
        let data = serde_json::to_string(&event).unwrap_or_default();
        Some((Ok(ServerSentEvent::default().id(id).event(event.kind).data(data)), reader))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

struct Reader {
    app: App,
    caller: Caller,
    filter: EventFilter,
    /// The number of the last event that was looked at.
    after: i64,
    changes: watch::Receiver<i64>,
    read: VecDeque<Event>,
}

impl Reader {
    /// Waits for the next event; `None` once the manager ends or the caller's token is refused.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.read.pop_front() {
                return Some(event);
            }
            let last = *self.changes.borrow_and_update();
            if last > self.after {
                if !self.is_still_allowed().await {
                    return None;
                }
                match self.read_page(last).await {
                    Ok(()) => continue,
                    Err(error) => {
                        tracing::warn!(component = "events", error = chain(&error), "cannot read events");
                        tokio::time::sleep(crate::DATABASE_RETRY_DELAY).await;
                    }
                }
            }
            tokio::select! {
                changed = self.changes.changed() => changed.ok()?,
                () = self.app.end().cancelled() => return None,
            }
        }
    }

    async fn read_page(&mut self, last: i64) -> Result<(), DatabaseError> {
        self.read = self.app.database().events(self.after, PAGE, &self.filter).await?.into();
        // Events up to `last` that are not in this page are not the caller's.
        let is_full = i64::try_from(self.read.len()).is_ok_and(|count| count >= PAGE);
        let read = self.read.back().map_or(self.after, |event| event.seq);
        self.after = if is_full { read } else { read.max(last) };
        Ok(())
    }

    /// A failing database refuses nobody: it will be asked again.
    async fn is_still_allowed(&self) -> bool {
        let result = check_again(&self.app, &self.caller).await;
        !matches!(result, Err(error) if error.problem().status == 401)
    }
}
