//! Many copies at once: from one command to an exec answered by each.

use std::time::Instant;

use anyhow::{Context, Result};
use mimeo_engine::Engine;
use serde_json::Value;
use tokio::task::JoinSet;

use super::first_exec::TAG;
use crate::bench::guest::Session;
use crate::bench::lab::Site;
use crate::bench::result::{Bench, Crowds, What};
use crate::bench::stopwatch::{self, millis};

const NAME: &str = "crowd";

/// Crowds, one after the other.
pub(super) fn measure(bench: &mut Bench, site: &Site<'_>, times: u32, copies: u32) -> Result<()> {
    crate::bench::announce(&format!("crowds of {copies}"), times);
    let (runtime, engine) = (stopwatch::runtime()?, site.engine()?);
    let mut lost = Vec::new();
    for _ in 0..times {
        let begun = Instant::now();
        let (names, refused) = start(site, copies)?;
        let failed = runtime.block_on(exec(&engine, &names))?;
        bench.sample(What::Crowd { copies }, site.key, millis(begun));
        lost.extend(refused.into_iter().chain(failed));
        let all: Vec<_> = ["rm", "-f"].into_iter().chain(names.iter().map(String::as_str)).collect();
        site.mimeo(&all)?;
    }
    bench.crowds = Some(Crowds { asked: times * copies, lost });
    Ok(())
}

/// The names of those that run, and what the others said.
fn start(site: &Site<'_>, copies: u32) -> Result<(Vec<String>, Vec<String>)> {
    let count = copies.to_string();
    // A part of them may have failed: what it printed says so.
    let args = ["snapshot", "run", TAG, "--rm", "-n", &count, "--name", NAME, "--json"];
    let output = site.command(args).output()?;
    let told: Vec<Value> = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let words = |field: &str| -> Vec<String> {
        told.iter().filter_map(|copy| Some(copy.get(field)?.as_str()?.to_owned())).collect()
    };
    Ok((words("name"), words("error")))
}

/// One exec in each; what went wrong.
async fn exec(engine: &Engine, names: &[String]) -> Result<Vec<String>> {
    let mut all = JoinSet::new();
    for name in names.iter().cloned() {
        let engine = engine.clone();
        all.spawn(async move { Session::with(&engine, &name).await?.exec().await.context(name) });
    }
    Ok(all.join_all().await.into_iter().filter_map(|done| Some(format!("{:#}", done.err()?))).collect())
}
