//! `run --rm IMAGE true`, podman's, and a plain boot of the same guest, in turn.

use std::process::Command;

use anyhow::{Context, Result};

use super::plain::Plain;
use crate::bench::lab::{IMAGE, Site};
use crate::bench::podman::{NO_NETWORK, Podman};
use crate::bench::result::{Bench, Key, What};
use crate::bench::stages::{self, Telling};
use crate::bench::stopwatch;

/// Everybody in turn, so that a busy moment of the host hits all alike.
pub(super) fn measure(
    bench: &mut Bench,
    sites: &[Site<'_>],
    podman: Option<&Podman>,
    runs: u32,
) -> Result<()> {
    crate::bench::announce("warm runs of each", runs);
    // Not counted: the first makes the guest that the others start from.
    sites.iter().try_for_each(|site| once(&mut command(site)).map(drop))?;
    let plain: Vec<_> = sites.iter().map(Plain::like).collect::<Result<_>>()?;
    for _ in 0..runs {
        for (site, plain) in sites.iter().zip(&plain) {
            bench.sample(What::WarmRun, site.key, once(&mut command(site))?);
            bench.sample(What::PlainBoot, site.key.plain(), plain.boot()?);
        }
        if let Some(podman) = podman {
            for (key, network) in [(Key::Podman, podman.network()), (Key::PodmanNoNetwork, NO_NETWORK)] {
                bench.sample(What::WarmRun, key, once(&mut podman.run(network, &["true"]))?);
            }
        }
    }
    stages::of(bench, sites, runs, &Telling { command: command_that_tells, says: "", of: "run: " })
}

fn command(site: &Site<'_>) -> Command {
    site.command(["run", "--rm", IMAGE, "true"])
}

fn command_that_tells(site: &Site<'_>) -> Command {
    site.command(["--log-level", "debug", "run", "--rm", IMAGE, "true"])
}

fn once(command: &mut Command) -> Result<f64> {
    Ok(stopwatch::run(command)?.printed("").with_context(|| format!("{command:?}"))?.whole)
}
