//! How long the source of a live fork stands still, by its own account and a client's.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::poller::{self, Poller};
use crate::bench::lab::Site;
use crate::bench::result::{Bench, What};

const SOURCE: &str = "forked";
const CHILD: &str = "child";
const SIZES_MIB: [u32; 3] = [256, 1024, 4096];
const CHANGED_MIB: [u32; 3] = [0, 64, 256];
/// Each fork lays one more layer over the source's disk: then another source.
const FORKS_OF_ONE: u32 = 5;
/// As long as a fork takes, about.
const QUIET: Duration = Duration::from_millis(300);

/// Idle sources of several sizes, in turn.
pub(super) fn measure(bench: &mut Bench, site: &Site<'_>, runs: u32) -> Result<()> {
    crate::bench::announce("forks of each size", runs);
    for batch in batches(runs) {
        for memory_mib in SIZES_MIB {
            let address = serve(site, memory_mib)?;
            for _ in 0..batch {
                let client = Poller::start(&address);
                let (pause, gap) = client.gap(|| fork(site))?;
                bench.sample(What::Pause { memory_mib }, site.key, pause);
                bench.sample(What::Gap { memory_mib }, site.key, gap);
                site.stop(CHILD)?;
                let (_, quiet) = client.gap(|| {
                    std::thread::sleep(QUIET);
                    Ok(())
                })?;
                bench.sample(What::QuietGap { memory_mib }, site.key, quiet);
            }
            site.stop(SOURCE)?;
        }
    }
    Ok(())
}

/// Sources of 1 GiB that have changed some of it, in turn.
pub(super) fn changed(bench: &mut Bench, site: &Site<'_>, runs: u32) -> Result<()> {
    crate::bench::announce("forks of each after work", runs);
    for batch in batches(runs) {
        for changed_mib in CHANGED_MIB {
            serve(site, 1024)?;
            write(site, changed_mib)?;
            for _ in 0..batch {
                bench.sample(What::PauseChanged { changed_mib }, site.key, fork(site)?);
                site.stop(CHILD)?;
            }
            site.stop(SOURCE)?;
        }
    }
    Ok(())
}

fn batches(runs: u32) -> impl Iterator<Item = u32> {
    (0..runs).step_by(FORKS_OF_ONE as usize).map(move |done| FORKS_OF_ONE.min(runs - done))
}

/// Starts the source; where its page is.
fn serve(site: &Site<'_>, memory_mib: u32) -> Result<String> {
    let memory = format!("{memory_mib}m");
    let options = ["--memory", &memory, "-p", "127.0.0.1::80"];
    site.start_with(SOURCE, &options, &["sh", "-c", "echo page > index.html; exec httpd -f -p 80"])?;
    let address = site.mimeo(&["port", SOURCE, "80"])?;
    poller::wait_for(&address)?;
    Ok(address)
}

/// A file in memory: what it holds makes no difference to who copies pages.
fn write(site: &Site<'_>, mib: u32) -> Result<()> {
    let script = format!(
        "mkdir /held && mount -t tmpfs -o size=512m none /held && dd if=/dev/zero of=/held/file bs=1M count={mib}"
    );
    site.mimeo(&["exec", SOURCE, "sh", "-c", &script]).map(drop)
}

/// Forks the source once; for how long it stood still.
fn fork(site: &Site<'_>) -> Result<f64> {
    let told = site.json(&["fork", SOURCE, "--rm", "--name", CHILD, "--json"])?;
    told.get("pause_ms").and_then(Value::as_f64).context("no pause was told")
}
