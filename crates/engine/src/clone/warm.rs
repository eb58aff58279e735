//! Has a guest do once what its first work will do, so that a translator knows
//! the way: a process that comes to nothing, beside the frozen ones.

use std::time::Duration;

use mimeo_agent_protocol::link::Link;
use mimeo_agent_protocol::message::{Process, Reply, Request};
use tokio::time::timeout;

/// A program that most images have, to be run for nothing.
const NOTHING: &str = "/bin/true";
/// Times that it is run: the first finds most of the way, the second the rest.
const TIMES: u32 = 2;
/// How long it may take each time.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether it found a program to run or not, it went the way. One that does
/// not end is the image's own, and no reason to wait.
pub(crate) async fn warm(link: &Link) {
    for _ in 0..TIMES {
        let nothing = Process { args: vec![NOTHING.to_owned()], aside: true, ..Process::default() };
        timeout(PATIENCE, run_for_nothing(link, nothing)).await.ok();
    }
}

async fn run_for_nothing(link: &Link, process: Process) {
    let Ok(mut stream) = link.open(&Request::Exec(process)) else { return };
    while let Ok(Reply::Started { .. }) = stream.receiver.message::<Reply>().await {}
}
