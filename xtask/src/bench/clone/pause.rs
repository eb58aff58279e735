//! How long a fork pauses its source, as reported by mimeo and as seen by a client.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::poller::{self, Poller};
use crate::bench::lab::Site;
use crate::bench::result::{Bench, Measurement};

const SOURCE: &str = "forked";
const CLONE: &str = "clone";
const SIZES_MIB: [u32; 3] = [256, 1024, 4096];
const CHANGED_MIB: [u32; 3] = [0, 64, 256];
/// Each fork adds a layer to the source's disk, so the source is replaced after this many.
const FORKS_PER_SOURCE: u32 = 5;
/// About the duration of a fork.
const BASELINE_TIME: Duration = Duration::from_millis(300);

/// Measures idle sources of several sizes, in turn.
pub(super) fn measure(bench: &mut Bench, site: &Site<'_>, runs: u32) -> Result<()> {
    crate::bench::announce("forks of each size", runs);
    for batch in batches(runs) {
        for memory_mib in SIZES_MIB {
            let address = serve(site, memory_mib)?;
            for _ in 0..batch {
                let client = Poller::start(&address);
                let (pause, gap) = client.gap(|| fork(site))?;
                bench.sample(Measurement::Pause { memory_mib }, site.subject, pause);
                bench.sample(Measurement::Gap { memory_mib }, site.subject, gap);
                site.stop(CLONE)?;
                let (_, baseline) = client.gap(|| {
                    std::thread::sleep(BASELINE_TIME);
                    Ok(())
                })?;
                bench.sample(Measurement::BaselineGap { memory_mib }, site.subject, baseline);
            }
            site.stop(SOURCE)?;
        }
    }
    Ok(())
}

/// Measures sources of 1 GiB that have written to part of it, in turn.
pub(super) fn measure_after_writes(bench: &mut Bench, site: &Site<'_>, runs: u32) -> Result<()> {
    crate::bench::announce("forks of each after writes", runs);
    for batch in batches(runs) {
        for changed_mib in CHANGED_MIB {
            serve(site, 1024)?;
            write(site, changed_mib)?;
            for _ in 0..batch {
                bench.sample(Measurement::PauseChanged { changed_mib }, site.subject, fork(site)?);
                site.stop(CLONE)?;
            }
            site.stop(SOURCE)?;
        }
    }
    Ok(())
}

fn batches(runs: u32) -> impl Iterator<Item = u32> {
    (0..runs).step_by(FORKS_PER_SOURCE as usize).map(move |done| FORKS_PER_SOURCE.min(runs - done))
}

/// Starts the source; returns the address of its page.
fn serve(site: &Site<'_>, memory_mib: u32) -> Result<String> {
    let memory = format!("{memory_mib}m");
    let options = ["--memory", &memory, "-p", "127.0.0.1::80"];
    site.start_with(SOURCE, &options, &["sh", "-c", "echo page > index.html; exec httpd -f -p 80"])?;
    let address = site.mimeo(&["port", SOURCE, "80"])?;
    poller::wait_for(&address)?;
    Ok(address)
}

/// Writes a file to memory. Its zeros are as good as other data, since pages are copied whatever they hold.
fn write(site: &Site<'_>, mib: u32) -> Result<()> {
    let script = format!(
        "mkdir /held && mount -t tmpfs -o size=512m none /held && dd if=/dev/zero of=/held/file bs=1M count={mib}"
    );
    site.mimeo(&["exec", SOURCE, "sh", "-c", &script]).map(drop)
}

/// Forks the source once; returns the pause in milliseconds.
fn fork(site: &Site<'_>) -> Result<f64> {
    let forked = site.json(&["fork", SOURCE, "--rm", "--name", CLONE, "--json"])?;
    forked.get("pause_ms").and_then(Value::as_f64).context("fork --json has no pause_ms")
}
