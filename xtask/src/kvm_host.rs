//! `cargo xtask kvm-host`: a host with a working /dev/kvm, emulated by QEMU, to try mimeo on KVM where there is none.
//!
//! QEMU emulates AMD's SVM with nested paging, so a Debian guest of it can load `kvm-amd` and run stock kernels in
//! machines of its own. Everything in it runs several times slower than on this host; ratios are meaningful, times are
//! not.

mod command;
mod image;
mod machine;
mod qemu;
mod shell;
mod tests;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Chore {
    /// Make the host's disk from Debian packages, unless it is there
    Make,
    /// Run a command in the host; its exit code is this command's
    ///
    /// The workspace and the build directory are there, read-only, under their own paths. What the command writes
    /// below /out is copied to --files. mimeo's own directories are on a tmpfs.
    Run(command::Options),
    /// Run end-to-end tests in the host, on QEMU with KVM and, where MIMEO_FIRECRACKER names one, on Firecracker
    Test(tests::Options),
}

pub(crate) fn run(chore: Chore) -> Result<ExitCode> {
    match chore {
        Chore::Make => image::ensure().map(|_| ExitCode::SUCCESS),
        Chore::Run(options) => command::run(&options),
        Chore::Test(options) => tests::run(&options),
    }
}
