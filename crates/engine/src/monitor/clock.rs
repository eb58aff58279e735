//! A guest's clock, set by the host's.

use std::time::Duration;

use mimeo_agent_protocol::link::Link;
use mimeo_agent_protocol::message::{Reply, Request};
use tokio::time::{Instant, sleep};

use crate::create::answering::unix_nanos;

/// A time that came and was acknowledged within this is no more wrong than this.
const PROMPT: Duration = Duration::from_millis(40);
/// Times that are tried: a host that is too busy for all of them has other worries.
const TRIES: u32 = 20;
/// From one to the next.
const BREATH: Duration = Duration::from_millis(100);

/// Sets the guest's clock until that was done promptly: a guest that has just
/// been copied is slow to hear, and is told the time that it was before.
pub(super) async fn settle(link: Link) {
    for _ in 0..TRIES {
        let told = Instant::now();
        let Ok(mut stream) = link.open(&Request::SetClock { unix_nanos: unix_nanos() }) else { return };
        match stream.receiver.message::<Reply>().await {
            Ok(_) if told.elapsed() > PROMPT => sleep(BREATH).await,
            _ => return,
        }
    }
}
