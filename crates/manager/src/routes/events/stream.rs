//! A stream of events (server-sent events), read from the store: a slow client misses none.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::response::Sse;
use axum::response::sse::{Event as ServerSentEvent, KeepAlive};
use futures_util::Stream;
use futures_util::stream::unfold;
use mimeo_engine::cause::chain;
use mimeo_manager_api::{Event, Problem};
use tokio::sync::watch;

use crate::App;
use crate::database::{DatabaseError, EventFilter};
use crate::http::{ApiError, Rights};

/// Pause between two comments, which show that the connection works.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Events that are read at once.
const PAGE: i64 = 500;

/// The name of the last event of a client whose rights have ended; its data is the problem.
const ERROR: &str = "error";

/// Streams the events after `after`; those to come, if it is absent.
pub(super) fn stream(
    app: App,
    rights: Rights,
    filter: EventFilter,
    after: Option<i64>,
) -> Sse<impl Stream<Item = Result<ServerSentEvent, Infallible>>> {
    let changes = app.database().last_event();
    let after = after.unwrap_or_else(|| *changes.borrow());
    let reader = Reader { app, rights: rights.clone(), filter, after, changes, read: VecDeque::new() };
    let ended = Box::pin(async move { rights.ended().await });
    let events = unfold(Some((reader, ended)), |state| async move {
        let (mut reader, mut ended) = state?;
        let next = tokio::select! {
            next = reader.next() => next?,
            why = &mut ended => Err(why),
        };
        Some(match next {
            Ok(event) => (Ok(sent(event)), Some((reader, ended))),
            Err(why) => (Ok(last(why.problem())), None),
        })
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

fn sent(event: Event) -> ServerSentEvent {
    // A document of strings, numbers and maps of them: serialization cannot fail.
    let data = serde_json::to_string(&event).unwrap_or_default();
    ServerSentEvent::default().id(event.seq.to_string()).event(event.kind).data(data)
}

fn last(problem: &Problem) -> ServerSentEvent {
    let data = serde_json::to_string(problem).unwrap_or_default();
    ServerSentEvent::default().event(ERROR).data(data)
}

struct Reader {
    app: App,
    rights: Rights,
    filter: EventFilter,
    /// The number of the last event that was looked at.
    after: i64,
    changes: watch::Receiver<i64>,
    read: VecDeque<Event>,
}

impl Reader {
    /// Waits for the next event, or the end of the caller's rights; `None` once the manager ends.
    async fn next(&mut self) -> Option<Result<Event, ApiError>> {
        loop {
            if let Some(event) = self.read.pop_front() {
                return Some(Ok(event));
            }
            let last = *self.changes.borrow_and_update();
            if last > self.after {
                if let Some(why) = self.refusal().await {
                    return Some(Err(why));
                }
                match self.read_page(last).await {
                    Ok(()) => continue,
                    Err(error) => {
                        tracing::warn!(component = "events", error = chain(&error), "cannot read events");
                        tokio::select! {
                            () = tokio::time::sleep(crate::DATABASE_RETRY_DELAY) => continue,
                            () = self.app.end().cancelled() => return None,
                        }
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

    /// Why the caller gets no more. An event may be the end of the caller's rights, which gets nothing after it. A failing
    /// database refuses nobody: it will be asked again.
    async fn refusal(&self) -> Option<ApiError> {
        let refused = self.rights.check().await.err();
        refused.filter(|error| matches!(error.problem().status, 401 | 403))
    }
}
