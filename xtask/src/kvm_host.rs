//! `cargo xtask kvm-host`: a QEMU-emulated host with a working /dev/kvm, to test mimeo on KVM on machines without it.
//!
//! QEMU emulates AMD's SVM with nested paging, so its Debian guest can load `kvm-amd` and run virtual machines with
//! stock kernels. Everything in it runs several times slower than on this host: ratios are meaningful, times are not.

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
    /// Make the emulated host's disk from Debian packages, unless it exists
    Make,
    /// Run a command in the emulated host; its exit code becomes this command's
    ///
    /// The workspace and the build directory are mounted read-only under their own paths. Files that the command writes
    /// below /out are copied to --files. mimeo's directories are on a tmpfs.
    Run(command::Options),
    /// Run end-to-end tests in the emulated host, on QEMU with KVM and on Firecracker if MIMEO_FIRECRACKER names one
    Test(tests::Options),
}

pub(crate) fn run(chore: Chore) -> Result<ExitCode> {
    match chore {
        Chore::Make => image::ensure().map(|_| ExitCode::SUCCESS),
        Chore::Run(options) => command::run(&options),
        Chore::Test(options) => tests::run(&options),
    }
}
