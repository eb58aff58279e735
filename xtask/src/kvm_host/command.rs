//! Runs one command in the emulated host.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::machine::{self, Plan, target};
use super::{image, shell};

/// Options of `kvm-host run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Run the command as an ordinary user instead of root
    #[arg(long)]
    ordinary: bool,
    /// Run the command on this terminal
    #[arg(short, long)]
    tty: bool,
    /// Mount another directory of this host, read-only, under the same path
    #[arg(long, value_name = "DIR")]
    share: Vec<PathBuf>,
    /// Set an environment variable
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Copy the files that the command leaves below /out here, with the logs of the console and of QEMU
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,
    /// The emulated host's memory in MiB
    #[arg(long, default_value_t = 6144)]
    memory: u32,
    /// The emulated host's processors; with more than one, QEMU's emulation of nested paging has been seen to hang
    #[arg(long, default_value_t = 1)]
    cpus: u32,
    /// Seconds after which the emulated host is killed
    #[arg(long, default_value_t = 600)]
    timeout: u64,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true)]
    command: Vec<String>,
}

pub(super) fn run(options: &Options) -> Result<ExitCode> {
    let image = image::ensure()?;
    let variables = options.env.iter().map(|word| parse_variable(word)).collect::<Result<Vec<_>>>()?;
    let dir = std::env::current_dir()?;
    let plan = Plan {
        script: shell::script(&variables, &dir.display().to_string(), options.ordinary, &options.command),
        shares: shares(&options.share)?,
        files: options.files.clone(),
        memory_mib: options.memory,
        processors: options.cpus,
        timeout: Duration::from_secs(options.timeout),
        tty: options.tty,
    };
    let exit = machine::run(&image, &plan)?;
    eprintln!(
        "kvm-host: /dev/kvm after {} s; ended after {:.1} s with exit code {}",
        exit.until_ready,
        exit.took.as_secs_f64(),
        exit.exit_code
    );
    Ok(ExitCode::from(exit.exit_code))
}

fn parse_variable(word: &str) -> Result<(String, String)> {
    let (name, value) = word.split_once('=').with_context(|| format!("{word:?} is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// The shared directories: the workspace, the build directory if it is elsewhere, and `more`.
pub(super) fn shares(more: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let workspace = PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().map(PathBuf::from).unwrap_or_default();
    let mut shares = vec![workspace];
    for path in std::iter::once(&target()).chain(more) {
        let path = path.canonicalize().with_context(|| format!("cannot share {}", path.display()))?;
        ensure!(path.is_dir(), "cannot share {}: not a directory", path.display());
        ensure!(
            !path.to_string_lossy().contains([' ', ',', '\n']),
            "cannot share {}: its path contains a blank, a comma or a newline",
            path.display()
        );
        if !shares.iter().any(|shared| path.starts_with(shared)) {
            shares.push(path);
        }
    }
    Ok(shares)
}
