//! `run --cold --rm IMAGE echo`: time to the first output byte and to the end.

use std::process::Command;

use anyhow::{Context, Result};

use super::lab::{IMAGE, Site};
use super::podman::{NO_NETWORK, Podman};
use super::result::{Bench, Measurement, Subject};
use super::stopwatch::{self, Times};

/// The container's output.
const OUTPUT: &str = "up";

type Run<'a> = Box<dyn Fn() -> Command + 'a>;

/// Measures all subjects in turn, so that load on the host affects all alike.
pub(super) fn measure(
    bench: &mut Bench,
    sites: &[Site<'_>],
    podman: Option<&Podman>,
    runs: u32,
) -> Result<()> {
    super::announce("cold runs of each", runs);
    let runners: Vec<_> = runners(sites, podman);
    for _ in 0..runs {
        for (subject, command) in &runners {
            let times = timed(&mut command()).with_context(|| subject.slug())?;
            bench.sample(Measurement::FirstOutput, *subject, times.first);
            bench.sample(Measurement::ColdRun, *subject, times.total);
        }
    }
    Ok(())
}

fn runners<'a>(sites: &'a [Site<'_>], podman: Option<&'a Podman>) -> Vec<(Subject, Run<'a>)> {
    let own = sites.iter().map(|site| (site.subject, Box::new(|| command(site)) as Run<'a>));
    let peers = podman.into_iter().flat_map(|podman| {
        [(Subject::Podman, podman.network()), (Subject::PodmanNoNetwork, NO_NETWORK)].map(
            |(subject, network)| {
                (subject, Box::new(move || podman.run(network, &["echo", OUTPUT])) as Run<'a>)
            },
        )
    });
    own.chain(peers).collect()
}

/// One cold run.
pub(super) fn once(site: &Site<'_>) -> Result<Times> {
    timed(&mut command(site))
}

/// The command of one cold run.
pub(super) fn command(site: &Site<'_>) -> Command {
    site.command(["run", "--cold", "--rm", IMAGE, "echo", OUTPUT])
}

/// The command of one cold run that logs its stages.
pub(super) fn command_with_stages(site: &Site<'_>) -> Command {
    site.command(["--log-level", "debug", "run", "--cold", "--rm", IMAGE, "echo", OUTPUT])
}

fn timed(command: &mut Command) -> Result<Times> {
    let attempt = stopwatch::run(command)?;
    attempt.printed(&expected_output()).with_context(|| format!("{command:?}"))
}

/// The standard output of a run.
pub(super) fn expected_output() -> String {
    format!("{OUTPUT}\n")
}
