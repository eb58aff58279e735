//! Sets a guest's clock from the host's, and records how long the guest was paused.

use std::time::Duration;

use mimeo_agent_protocol::link::Link;
use mimeo_agent_protocol::message::{ClockMark, Reply, Request};
use tokio::time::{Instant, sleep, timeout};

use crate::guest::unix_nanos;

/// Time for a guest to report its clock. A guest that hangs can be paused all the same.
const READ_TIMEOUT: Duration = Duration::from_secs(1);
/// A SetClock request that is acknowledged within this time leaves an error of at most this time.
const PROMPT_REPLY: Duration = Duration::from_millis(40);
/// Attempts to set the clock. A host too busy for all of them has greater problems.
const MAX_ATTEMPTS: u32 = 20;
/// Pause between two attempts.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Sets the guest's clock until one attempt is acknowledged promptly: a guest that was just restored reads
/// the request late, and would set its clock to a time that has passed.
pub(super) async fn set_clock(link: Link) {
    for _ in 0..MAX_ATTEMPTS {
        let sent = Instant::now();
        let Ok(mut stream) = link.open(&Request::SetClock { unix_nanos: unix_nanos() }) else { return };
        match stream.receiver.message::<Reply>().await {
            Ok(_) if sent.elapsed() > PROMPT_REPLY => sleep(RETRY_INTERVAL).await,
            _ => return,
        }
    }
}

/// Time in which a machine was paused, which its clock may have missed.
#[derive(Debug, Default)]
pub(super) struct PausedTime {
    /// Start of the current pause.
    pub(super) since: Option<Instant>,
    /// Length of the pauses for a snapshot.
    pub(super) for_snapshot: Duration,
    /// The guest's clock just before the pause.
    pub(super) clock_before: Option<ClockReading>,
}

/// The guest's clock at a moment of the host's monotonic clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClockReading {
    guest_nanos: u64,
    at: Instant,
}

impl ClockReading {
    /// Reads the guest's clock. Returns `None` if the guest does not answer or its agent is too old for the
    /// request.
    pub(super) async fn read(link: &Link) -> Option<Self> {
        let mut stream = link.open(&Request::Clock).ok()?;
        match timeout(READ_TIMEOUT, stream.receiver.message::<Reply>()).await {
            Ok(Ok(Reply::Clock { nanos })) => Some(Self { guest_nanos: nanos, at: Instant::now() }),
            _ => None,
        }
    }

    /// The reading, with the time that has passed since.
    pub(super) fn mark(self) -> ClockMark {
        let elapsed_nanos = u64::try_from(self.at.elapsed().as_nanos()).unwrap_or(u64::MAX);
        ClockMark { guest_nanos: self.guest_nanos, elapsed_nanos }
    }
}
