//! `exec NAME true` in a running container, as a command.

use std::process::Command;

use anyhow::{Context, Result};

use super::lab::Site;
use super::podman::Podman;
use super::result::{Bench, Measurement, Subject};
use super::stopwatch;

const NAME: &str = "exec";

/// Measures mimeo and podman in turn.
pub(super) fn measure(bench: &mut Bench, site: &Site<'_>, podman: Option<&Podman>, runs: u32) -> Result<()> {
    super::announce("exec commands of each", runs);
    site.start(NAME)?;
    let container = podman.map(Podman::start).transpose()?;
    // Not counted: under emulation the code path is translated first.
    once(&mut site.command(["exec", NAME, "true"]))?;
    for _ in 0..runs {
        let time = once(&mut site.command(["exec", NAME, "true"]))?;
        bench.sample(Measurement::ExecCommand, site.subject, time);
        if let Some(container) = &container {
            let time = once(&mut container.exec(&["true"]))?;
            bench.sample(Measurement::ExecCommand, Subject::Podman, time);
        }
    }
    site.stop(NAME)
}

fn once(command: &mut Command) -> Result<f64> {
    let times = stopwatch::run(command)?.printed("").with_context(|| format!("{command:?}"))?;
    Ok(times.total)
}
