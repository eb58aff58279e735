//! `run --cold --rm IMAGE echo`, from nothing to the first byte and to the end.

use std::process::Command;

use anyhow::{Context, Result};

use super::lab::{IMAGE, Site};
use super::podman::{NO_NETWORK, Podman};
use super::result::{Bench, Key, What};
use super::stopwatch::{self, Times};

/// What the container says.
const SAID: &str = "up";

type Run<'a> = Box<dyn Fn() -> Command + 'a>;

/// Everybody in turn, so that a busy moment of the host hits all alike.
pub(super) fn measure(
    bench: &mut Bench,
    sites: &[Site<'_>],
    podman: Option<&Podman>,
    runs: u32,
) -> Result<()> {
    super::announce("cold runs of each", runs);
    let runners: Vec<_> = runners(sites, podman);
    for _ in 0..runs {
        for (key, command) in &runners {
            let times = timed(&mut command()).with_context(|| key.word())?;
            bench.sample(What::FirstOutput, *key, times.first);
            bench.sample(What::WholeRun, *key, times.whole);
        }
    }
    Ok(())
}

fn runners<'a>(sites: &'a [Site<'_>], podman: Option<&'a Podman>) -> Vec<(Key, Run<'a>)> {
    let own = sites.iter().map(|site| (site.key, Box::new(|| command(site)) as Run<'a>));
    let peers = podman.into_iter().flat_map(|podman| {
        [(Key::Podman, podman.network()), (Key::PodmanNoNetwork, NO_NETWORK)]
            .map(|(key, network)| (key, Box::new(move || podman.run(network, &["echo", SAID])) as Run<'a>))
    });
    own.chain(peers).collect()
}

/// One cold run.
pub(super) fn once(site: &Site<'_>) -> Result<Times> {
    timed(&mut command(site))
}

/// The command of one cold run.
pub(super) fn command(site: &Site<'_>) -> Command {
    site.command(["run", "--cold", "--rm", IMAGE, "echo", SAID])
}

/// The command of one cold run that tells its stages.
pub(super) fn command_that_tells(site: &Site<'_>) -> Command {
    site.command(["--log-level", "debug", "run", "--cold", "--rm", IMAGE, "echo", SAID])
}

fn timed(command: &mut Command) -> Result<Times> {
    let attempt = stopwatch::run(command)?;
    attempt.printed(&said()).with_context(|| format!("{command:?}"))
}

/// What a run prints.
pub(super) fn said() -> String {
    format!("{SAID}\n")
}
