//! The warm-up program: a process without effect that runs beside the frozen workload, so that QEMU has translated
//! the code that starting a process needs before the guest's first work.

use std::time::Duration;

use mimeo_agent_protocol::link::Link;
use mimeo_agent_protocol::message::{Process, Reply, Request};
use tokio::time::timeout;

/// A program that most images have and that has no effect.
const PROGRAM: &str = "/bin/true";
/// How often it is run: the first run translates most of the code, the second the rest.
const RUNS: u32 = 2;

/// The program did not end in time: the image has another program of that name, or the host is very busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StillRuns;

/// Runs the program, each time for at most `limit`. It does not matter whether the guest finds the program: the code
/// is translated either way.
///
/// # Errors
/// If a run has not ended within `limit`. The program keeps running in the guest.
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

    /// A session with a fake guest whose programs exit if `ends` is set, and run forever otherwise.
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
