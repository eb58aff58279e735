//! A guest's clock, set by the host's, and whether it stops with its machine.

use std::time::Duration;

use mimeo_agent_protocol::link::Link;
use mimeo_agent_protocol::message::{ClockMark, Reply, Request};
use tokio::time::{Instant, sleep, timeout};

use crate::guest::unix_nanos;

/// How long a guest may take to tell its clock: one that hangs can be paused all the same.
const READ_TIMEOUT: Duration = Duration::from_secs(1);
/// A time that came and was acknowledged within this is no more wrong than this.
const PROMPT_REPLY: Duration = Duration::from_millis(40);
/// Times that are tried: a host that is too busy for all of them has other worries.
const MAX_ATTEMPTS: u32 = 20;
/// From one to the next.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Sets the guest's clock until that was done promptly: a guest that has just
/// been copied is slow to hear, and is told the time that it was before.
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

/// Time in which a machine stood still, and its clock perhaps with it.
#[derive(Debug, Default)]
pub(super) struct PausedTime {
    /// Since when it is paused.
    pub(super) since: Option<Instant>,
    /// How long it stood still for a snapshot.
    pub(super) for_snapshot: Duration,
    /// Its clock, just before.
    pub(super) clock_before: Option<ClockReading>,
}

/// What a guest's clock was at a moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClockReading {
    guest_nanos: u64,
    at: Instant,
}

impl ClockReading {
    /// Reads it; none of a guest that does not answer, or of one with an older agent.
    pub(super) async fn read(link: &Link) -> Option<Self> {
        let mut stream = link.open(&Request::Clock).ok()?;
        match timeout(READ_TIMEOUT, stream.receiver.message::<Reply>()).await {
            Ok(Ok(Reply::Clock { nanos })) => Some(Self { guest_nanos: nanos, at: Instant::now() }),
            _ => None,
        }
    }

    /// The same as seen from now.
    pub(super) fn mark(self) -> ClockMark {
        let elapsed_nanos = u64::try_from(self.at.elapsed().as_nanos()).unwrap_or(u64::MAX);
        ClockMark { guest_nanos: self.guest_nanos, elapsed_nanos }
    }
}
