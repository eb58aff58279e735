//! The events of this host's machines.

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use mimeo_engine::{Engine, Event, Events, Follower};

use crate::backend::EventReader;
use crate::error::CliError;

/// The interval between two looks for new events.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Events of this host.
pub(super) struct LocalEvents {
    events: Events,
    past: bool,
    follower: Follower,
    /// Whether events were read since the last wait.
    is_read: bool,
}

impl LocalEvents {
    pub(super) fn new(engine: &Engine, past: bool) -> Self {
        let events = engine.events();
        // Opened before the past is read, so that no event is missed in between.
        let follower = events.follow();
        Self { events, past, follower, is_read: false }
    }
}

#[async_trait]
impl EventReader for LocalEvents {
    async fn past(&mut self) -> Result<Vec<Event>, CliError> {
        if self.past { self.events.read().map_err(failed) } else { Ok(Vec::new()) }
    }

    async fn next(&mut self) -> Result<Vec<Event>, CliError> {
        if std::mem::replace(&mut self.is_read, true) {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        self.follower.read().map_err(failed)
    }
}

fn failed(source: io::Error) -> CliError {
    CliError::io("read the events", source)
}
