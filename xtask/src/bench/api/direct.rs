//! The same without the manager, by the command line's way: what is left is the manager's own part.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use e2e::Client;
use mimeo_agent_protocol::message::Request;
use mimeo_engine::machine::CloneOverrides;
use mimeo_engine::snapshot_server::{ServeRecord, list, reserve, start_clones};
use mimeo_engine::{ControlClient, Engine, Home, MachineId};

use super::POOL;
use super::figures::Start;
use super::first_exec::{self, Origin};
use crate::bench::lab::Site;
use crate::bench::samples::Samples;

/// Pause between two looks at the pool.
const POOL_POLL: Duration = Duration::from_millis(20);

/// Takes clones from the pool and runs `true` in each, by turns through the manager and in this process: both see the same
/// host.
pub(super) fn measure_both(site: &Site<'_>, client: &Client, machines: usize) -> Result<[Start; 2]> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let engine = Engine::new(Home::at(site.home(), site.run_dir())?);
    first_exec::set_pool(client);
    let (mut managed, mut own) = (Vec::new(), Vec::new());
    for _ in 0..machines {
        managed.push(first_exec::start_one(client)?);
        own.push(runtime.block_on(start(&engine))?);
    }
    Ok([summary(Origin::Pool.label(), managed), summary("pool, without the manager", own)])
}

/// The whole times and those of the creation alone.
fn summary(origin: &str, times: Vec<(f64, f64)>) -> Start {
    let (mut millis, mut creation) = (Samples::default(), Samples::default());
    for (whole, part) in times {
        millis.push(whole);
        creation.push(part);
    }
    Start { origin: origin.to_owned(), clients: 1, millis, creation }
}

async fn start(engine: &Engine) -> Result<(f64, f64)> {
    let server = list(engine)?.into_iter().next().context("no pool")?;
    wait_for_pool(&server).await?;
    let begin = Instant::now();
    let mut cloned = start_clones(&server, vec![CloneOverrides::default()]).await?;
    let info = cloned.pop().context("no clone")?.outcome?;
    let creation = begin.elapsed();
    let id = MachineId::try_from(info.id)?;
    let found = engine.registry().read(&id).context("the clone is gone")?;
    let client = ControlClient::connect(engine.home(), &found).await?;
    let process = mimeo_agent_protocol::message::Process {
        args: vec!["true".to_owned()],
        ..found.record.exec_defaults()
    };
    let (_, mut stream) = client.guest(Request::Exec(process)).await?;
    while stream.receiver.next().await?.is_some() {}
    let whole = begin.elapsed();
    mimeo_engine::act::remove(engine, &found, true, None).await?;
    Ok((whole.as_secs_f64() * 1000.0, creation.as_secs_f64() * 1000.0))
}

/// Waits until the pool is full, as the measurement with the manager does.
async fn wait_for_pool(server: &ServeRecord) -> Result<()> {
    while reserve(server, 0).await?.remaining < POOL {
        tokio::time::sleep(POOL_POLL).await;
    }
    Ok(())
}
