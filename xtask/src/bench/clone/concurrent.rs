//! Many clones at once: from one command until each has answered an exec.

use std::time::Instant;

use anyhow::{Context, Result};
use mimeo_engine::Engine;
use serde_json::Value;
use tokio::task::JoinSet;

use super::first_exec::TAG;
use crate::bench::guest::Session;
use crate::bench::lab::Site;
use crate::bench::result::{Bench, ConcurrentStarts, Measurement};
use crate::bench::stopwatch::{self, millis};

const NAME: &str = "concurrent";

/// Measures concurrent starts, one after the other.
pub(super) fn measure(bench: &mut Bench, site: &Site<'_>, times: u32, clones: u32) -> Result<()> {
    crate::bench::announce(&format!("concurrent starts of {clones} clones"), times);
    let (runtime, engine) = (stopwatch::runtime()?, site.engine()?);
    let mut failures = Vec::new();
    for _ in 0..times {
        let begun = Instant::now();
        let (names, refused) = start(site, clones)?;
        let failed = runtime.block_on(exec(&engine, &names))?;
        bench.sample(Measurement::ConcurrentClones { clones }, site.subject, millis(begun));
        failures.extend(refused.into_iter().chain(failed));
        let all: Vec<_> = ["rm", "-f"].into_iter().chain(names.iter().map(String::as_str)).collect();
        site.mimeo(&all)?;
    }
    bench.concurrent_starts = Some(ConcurrentStarts { requested: times * clones, failures });
    Ok(())
}

/// Starts clones; returns the names of the running ones and the errors of the others.
fn start(site: &Site<'_>, clones: u32) -> Result<(Vec<String>, Vec<String>)> {
    let count = clones.to_string();
    // The command fails if any clone fails; its output lists all of them.
    let args = ["snapshot", "run", TAG, "--rm", "-n", &count, "--name", NAME, "--json"];
    let output = site.command(args).output()?;
    let clones: Vec<Value> = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let values = |field: &str| -> Vec<String> {
        clones.iter().filter_map(|clone| Some(clone.get(field)?.as_str()?.to_owned())).collect()
    };
    Ok((values("name"), values("error")))
}

/// Runs one exec in each clone at once; returns the errors.
async fn exec(engine: &Engine, names: &[String]) -> Result<Vec<String>> {
    let mut all = JoinSet::new();
    for name in names.iter().cloned() {
        let engine = engine.clone();
        all.spawn(async move { Session::connect(&engine, &name).await?.exec().await.context(name) });
    }
    Ok(all.join_all().await.into_iter().filter_map(|done| Some(format!("{:#}", done.err()?))).collect())
}
