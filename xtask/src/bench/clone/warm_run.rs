//! `run --rm IMAGE true`, the same with podman, and a plain boot of the same guest, in turn.

use std::process::Command;

use anyhow::{Context, Result};

use super::plain_boot::PlainBoot;
use crate::bench::lab::{IMAGE, Site};
use crate::bench::podman::{NO_NETWORK, Podman};
use crate::bench::result::{Bench, Measurement, Subject};
use crate::bench::stages::{self, LoggedRun};
use crate::bench::stopwatch;

/// Measures all subjects in turn, so that load on the host affects all alike.
pub(super) fn measure(
    bench: &mut Bench,
    sites: &[Site<'_>],
    podman: Option<&Podman>,
    runs: u32,
) -> Result<()> {
    crate::bench::announce("warm runs of each", runs);
    // Not counted: the first run makes the boot snapshot.
    sites.iter().try_for_each(|site| once(&mut command(site)).map(drop))?;
    let plain: Vec<_> = sites.iter().map(PlainBoot::from_machine_of).collect::<Result<_>>()?;
    for _ in 0..runs {
        for (site, plain) in sites.iter().zip(&plain) {
            bench.sample(Measurement::WarmRun, site.subject, once(&mut command(site))?);
            bench.sample(Measurement::PlainBoot, site.subject.plain(), plain.boot()?);
        }
        if let Some(podman) = podman {
            for (subject, network) in
                [(Subject::Podman, podman.network()), (Subject::PodmanNoNetwork, NO_NETWORK)]
            {
                bench.sample(Measurement::WarmRun, subject, once(&mut podman.run(network, &["true"]))?);
            }
        }
    }
    let logged = LoggedRun { command: command_with_stages, stdout: "", prefix: "run: " };
    stages::measure_stages(bench, sites, runs, &logged)
}

fn command(site: &Site<'_>) -> Command {
    site.command(["run", "--rm", IMAGE, "true"])
}

fn command_with_stages(site: &Site<'_>) -> Command {
    site.command(["--log-level", "debug", "run", "--rm", IMAGE, "true"])
}

fn once(command: &mut Command) -> Result<f64> {
    Ok(stopwatch::run(command)?.printed("").with_context(|| format!("{command:?}"))?.total)
}
