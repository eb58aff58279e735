//! `mimeo setup`: what a host needs before its first machine.

use mimeo_engine::Engine;
use mimeo_engine::setup::Initramfs;
use mimeo_engine::setup::kernel::{self, Source};

use crate::error::CliError;
use crate::output;

/// Arguments of `mimeo setup`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Sets up the kernel and the first filesystem.
pub(crate) fn run(engine: &Engine, _args: &Args) -> Result<i32, CliError> {
    let kernel = kernel::set_up(engine.home().home(), &Source::Debian, &mut |step| eprintln!("{step:?}"))?;
    Initramfs::ensure(&kernel, mimeo_engine::AGENT)?;
    output::line(format!("kernel {} is set up", kernel.manifest.name))?;
    Ok(0)
}
