//! `mimeo setup`: prepares a host for its first machine.

mod firecracker;
mod kernel;
mod preflight;
mod rootfs;
mod runtime;
mod steps;

use mimeo_engine::Engine;

use crate::error::CliError;

/// Arguments of `mimeo setup`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mimeo setup\n  mimeo setup preflight\n  mimeo setup kernel --build")]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    part: Option<Part>,
}

/// One part of the setup.
#[derive(Debug, clap::Subcommand)]
enum Part {
    /// Install a guest kernel: Debian's, a given file, or one built here
    Kernel(kernel::Args),
    /// Build the guests' initramfs
    Rootfs,
    /// Make the boot snapshot that `run` restores machines from; otherwise the first `run` makes it
    Runtime(runtime::Args),
    /// Install a Firecracker release for mimeo
    Firecracker(firecracker::Args),
    /// Check what this host lacks, and how to fix it
    Preflight,
}

/// Runs one part of the setup, or kernel, initramfs, boot snapshot and preflight.
pub(crate) async fn run(engine: &Engine, args: &Args) -> Result<i32, CliError> {
    match &args.part {
        Some(Part::Kernel(own)) => {
            kernel::run(engine, own, args.json)?;
            rootfs::run(engine, rootfs::Report::Silent).map(|()| 0)
        }
        Some(Part::Rootfs) if args.json => rootfs::run(engine, rootfs::Report::Json).map(|()| 0),
        Some(Part::Rootfs) => rootfs::run(engine, rootfs::Report::Text).map(|()| 0),
        Some(Part::Runtime(shape)) => runtime::run(engine, shape, args.json).await.map(|()| 0),
        Some(Part::Firecracker(own)) => firecracker::run(engine, own, args.json).map(|()| 0),
        Some(Part::Preflight) => preflight::run(engine, args.json),
        None => {
            kernel::prepare(engine, &kernel::Args::default())?;
            rootfs::run(engine, rootfs::Report::Silent)?;
            runtime::prepare(engine).await;
            preflight::run(engine, args.json)
        }
    }
}
