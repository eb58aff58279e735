//! Has a guest do once what its first work will do, so that a translator knows
//! the way: a process that comes to nothing, beside the frozen ones.

use std::time::Duration;

use mimeo_agent_protocol::link::Link;
use mimeo_agent_protocol::message::{Process, Reply, Request};
use tokio::time::timeout;

/// A program that most images have, to be run for nothing.
const PROGRAM: &str = "/bin/true";
/// Times that it is run: the first finds most of the way, the second the rest.
const RUNS: u32 = 2;
/// The program did not end in time: it is not the usual one, or the host is very busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StillRuns;

/// Runs it; each time it may take `limit`. Whether the guest found a program to run or not, it went the
/// way.
///
/// # Errors
/// When it has not ended by then. It goes on in the guest.
pub(crate) async fn run_warm_up_program(link: &Link, limit: Duration) -> Result<(), StillRuns> {
    for _ in 0..RUNS {
        let process = Process { args: vec![PROGRAM.to_owned()], aside: true, ..Process::default() };
        timeout(limit, run_once(link, process)).await.map_err(|_| StillRuns)?;
    }
    Ok(())
}

async fn run_once(link: &Link, process: Process) {
    let Ok(mut stream) = link.open(&Request::Exec(process)) else { return };
    while let Ok(Reply::Started { .. }) = stream.receiver.message::<Reply>().await {}
}

#[cfg(test)]
mod tests {
    use mimeo_agent_protocol::link::{FrameReader, accept, connect};
    use tokio::net::UnixStream;

    use super::*;

    /// A session with a guest whose programs end, or do not.
    async fn fake_guest(ends: bool) -> Link {
        let (ours, guest) = UnixStream::pair().expect("a pair");
        tokio::spawn(async move {
            let (reader, writer) = guest.into_split();
            let mut session = accept(FrameReader::new(reader), writer, "guest").await.expect("a host");
            let mut open_streams = Vec::new();
            while let Some((_, stream)) = session.incoming.next().await {
                stream.sender.message(&Reply::Started { pid: 1 });
                if !ends {
                    open_streams.push(stream);
                }
            }
        });
        let (reader, writer) = ours.into_split();
        connect(reader, writer, 1, "host").await.expect("a guest").0
    }

    #[tokio::test]
    async fn a_running_program_is_reported_at_the_limit() {
        let limit = Duration::from_millis(50);
        assert_eq!(run_warm_up_program(&fake_guest(false).await, limit).await, Err(StillRuns));
        assert_eq!(run_warm_up_program(&fake_guest(true).await, Duration::from_secs(20)).await, Ok(()));
    }
}
