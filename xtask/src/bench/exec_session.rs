//! exec of `true` over one session with the machine's monitor, from the
//! request to the exit status.

use std::time::Instant;

use anyhow::{Result, bail, ensure};
use mimeo_agent_protocol::link::{Item, Stream};
use mimeo_agent_protocol::message::{ExitStatus, Process, Reply, Request};
use mimeo_engine::{ControlClient, Engine, Home, Selector};

use super::lab::Site;
use super::result::{Bench, What};
use super::stopwatch;

const NAME: &str = "session";
/// Not counted: under emulation the guest translates the path anew.
const WARM_UP: u32 = 5;

/// One exec after the other.
pub(super) fn measure(bench: &mut Bench, site: &Site<'_>, runs: u32) -> Result<()> {
    super::announce("exec calls over one session", runs);
    site.start(NAME)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let samples = runtime.block_on(session(site, runs));
    site.stop(NAME)?;
    samples?.into_iter().for_each(|sample| bench.sample(What::ExecSession, site.key, sample));
    Ok(())
}

async fn session(site: &Site<'_>, runs: u32) -> Result<Vec<f64>> {
    let engine = Engine::new(Home::at(site.home(), site.run_dir())?);
    let found = engine.registry().find(&Selector::Word(NAME.to_owned()))?;
    let process = Process { args: vec!["true".to_owned()], stdin: false, ..found.record.surroundings() };
    let client = ControlClient::connect(engine.home(), &found).await?;
    for _ in 0..WARM_UP {
        once(&client, &process).await?;
    }
    let mut samples = Vec::new();
    for _ in 0..runs {
        samples.push(once(&client, &process).await?);
    }
    Ok(samples)
}

async fn once(client: &ControlClient, process: &Process) -> Result<f64> {
    let begun = Instant::now();
    let (reply, stream) = client.guest(Request::Exec(process.clone())).await?;
    ensure!(matches!(reply, Reply::Started { .. }), "answered out of turn: {reply:?}");
    let status = ended(stream).await?;
    ensure!(status == ExitStatus::Code(0), "true ended with {status:?}");
    Ok(stopwatch::millis(begun))
}

async fn ended(mut stream: Stream) -> Result<ExitStatus> {
    while let Some(item) = stream.receiver.next().await? {
        if let Item::Message(json) = item
            && let Reply::Exited { status } = serde_json::from_slice(&json)?
        {
            return Ok(status);
        }
    }
    bail!("the stream ended without a status")
}
