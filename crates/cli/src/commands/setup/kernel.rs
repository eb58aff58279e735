//! `mimeo setup kernel`: installs a guest kernel.

use std::mem::discriminant;
use std::path::PathBuf;

use mimeo_engine::Engine;
use mimeo_setup::kernel::{Kernel, Source, Step, set_up};
use serde_json::json;

use super::steps::Steps;
use crate::error::CliError;
use crate::output;

/// Arguments of `mimeo setup kernel`.
#[derive(Debug, Default, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo setup kernel\n  mimeo setup kernel --build\n  mimeo setup kernel --kernel ./vmlinux --modules /lib/modules/6.1.0"
)]
pub(super) struct Args {
    /// Build a small kernel, which boots in half the time; the build takes minutes, once
    #[arg(long, conflicts_with = "kernel")]
    build: bool,
    /// With --build: the source package to use instead of the newest tested one
    #[arg(long, value_name = "PACKAGE", requires = "build")]
    package: Option<String>,
    /// Use this kernel: an ELF file with a PVH entry point, or a bzImage
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// The kernel's modules: a directory such as /lib/modules/RELEASE
    #[arg(long, value_name = "DIR", requires = "kernel")]
    modules: Option<PathBuf>,
}

impl Args {
    fn source(&self) -> Source {
        match &self.kernel {
            Some(kernel) => Source::File { kernel: kernel.clone(), modules: self.modules.clone() },
            None if self.build => Source::Build { package: self.package.clone() },
            None => Source::Debian,
        }
    }
}

/// Installs the kernel and prints its name.
pub(super) fn run(engine: &Engine, args: &Args, json: bool) -> Result<(), CliError> {
    let kernel = prepare(engine, args)?;
    let name = &kernel.manifest.name;
    if json {
        let release = &kernel.manifest.release;
        return output::json(&json!({"name": name, "release": release, "directory": kernel.dir}));
    }
    output::line(format!("kernel {name} is set up"))
}

/// Installs the kernel; shows the steps on standard error.
pub(super) fn prepare(engine: &Engine, args: &Args) -> Result<Kernel, CliError> {
    let mut steps = Steps::new();
    let mut last = None;
    let mut on_step = |step: Step| {
        // The same step again reports its progress.
        let is_same = last.replace(discriminant(&step)) == Some(discriminant(&step));
        if is_same { steps.update(step.to_string()) } else { steps.begin(step.to_string()) }
    };
    Ok(set_up(engine.home().home(), &args.source(), &mut on_step)?)
}
