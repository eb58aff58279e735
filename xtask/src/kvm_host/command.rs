//! Runs one command in the emulated host.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::machine::{self, Plan, target};
use super::{image, shell};

/// What `kvm-host run` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Run it as an ordinary user, not as root
    #[arg(long)]
    ordinary: bool,
    /// On this terminal
    #[arg(short, long)]
    tty: bool,
    /// Show another directory of this host to it, read-only, under the same path
    #[arg(long, value_name = "DIR")]
    share: Vec<PathBuf>,
    /// Set a variable
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Where the files go that it leaves below /out, with the host's console and QEMU's own output
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,
    /// The host's memory in MiB
    #[arg(long, default_value_t = 6144)]
    memory: u32,
    /// The host's processors: with more than one, QEMU's emulation of nested paging has been seen to hang
    #[arg(long, default_value_t = 1)]
    cpus: u32,
    /// Seconds after which the host is ended
    #[arg(long, default_value_t = 600)]
    timeout: u64,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true)]
    command: Vec<String>,
}

pub(super) fn run(options: &Options) -> Result<ExitCode> {
    let image = image::ensure()?;
    let variables = options.env.iter().map(|word| variable(word)).collect::<Result<Vec<_>>>()?;
    let here = std::env::current_dir()?;
    let plan = Plan {
        script: shell::script(&variables, &here.display().to_string(), options.ordinary, &options.command),
        shares: shares(&options.share)?,
        files: options.files.clone(),
        memory_mib: options.memory,
        processors: options.cpus,
        timeout: Duration::from_secs(options.timeout),
        tty: options.tty,
    };
    let ended = machine::run(&image, &plan)?;
    eprintln!(
        "kvm-host: /dev/kvm after {} s; ended after {:.1} s with exit code {}",
        ended.until_ready,
        ended.took.as_secs_f64(),
        ended.exit_code
    );
    Ok(ExitCode::from(ended.exit_code))
}

fn variable(word: &str) -> Result<(String, String)> {
    let (name, value) = word.split_once('=').with_context(|| format!("{word:?} is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// The workspace, the build directory where that is elsewhere, and what else is asked for.
pub(super) fn shares(more: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let workspace = PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().map(PathBuf::from).unwrap_or_default();
    let mut shares = vec![workspace];
    for path in std::iter::once(&target()).chain(more) {
        let path = path.canonicalize().with_context(|| format!("cannot share {}", path.display()))?;
        ensure!(path.is_dir(), "cannot share {}: it is no directory", path.display());
        ensure!(
            !path.to_string_lossy().contains([' ', ',', '\n']),
            "cannot share {}: its path holds a blank or a comma",
            path.display()
        );
        if !shares.iter().any(|shared| path.starts_with(shared)) {
            shares.push(path);
        }
    }
    Ok(shares)
}
