//! `mimeo run`: a machine from an image.

mod detached;
mod foreground;
pub(crate) mod settings;

use mimeo_engine::Engine;
use mimeo_engine::machine::{NetworkMode, PullPolicy};

use crate::error::CliError;

/// Arguments of `mimeo run`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo run --rm -it alpine\n  mimeo run -d --name web -p 8080:80 -v ./site:/srv:ro nginx\n  \
                  mimeo run --rm --cpus 2 --memory 1g -e DEBUG=1 python:3 python -c 'print(6 * 7)'"
)]
pub(crate) struct Args {
    /// Leave the machine running and print its id
    #[arg(short, long)]
    detach: bool,
    /// Keep the container's standard input open
    #[arg(short, long)]
    interactive: bool,
    /// Give the container a terminal
    #[arg(short, long)]
    tty: bool,
    /// Remove the machine when it has ended
    #[arg(long)]
    rm: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    /// The machine's name
    #[arg(long)]
    name: Option<String>,
    /// The guest's host name
    #[arg(long)]
    hostname: Option<String>,
    /// Set a variable; without a value, as it is here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Set the variables of a file, one NAME=VALUE a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<std::path::PathBuf>,
    /// Publish a port of the machine on the host
    #[arg(short, long, value_name = "[IP:][HOST:]GUEST[/udp]")]
    publish: Vec<String>,
    /// Show a directory or file of the host in the machine
    #[arg(short, long, value_name = "HOST:GUEST[:ro]")]
    volume: Vec<String>,
    /// Working directory in the container
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Run as this user of the image
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Run this instead of the image's entrypoint: a program, or a JSON array
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Processors
    #[arg(long, default_value_t = 1, value_name = "N")]
    cpus: u32,
    /// Memory: bytes, or with k, m or g
    #[arg(short, long, default_value = "512m", value_name = "SIZE")]
    memory: String,
    /// Size of the writable layer; only what is written takes space
    #[arg(long, default_value = "10g", value_name = "SIZE")]
    disk: String,
    /// How the machine is connected
    #[arg(long, default_value = "auto", value_enum)]
    network: Network,
    /// On the bridge, let others that have this flag reach it, and it them
    #[arg(long)]
    vm_to_vm: bool,
    /// Name server, instead of the host's
    #[arg(long, value_name = "IP")]
    dns: Vec<std::net::IpAddr>,
    /// One more line for /etc/hosts
    #[arg(long, value_name = "NAME:IP")]
    add_host: Vec<String>,
    /// Tell by a command in the container whether it is well
    #[arg(long, value_name = "COMMAND", conflicts_with = "health_url")]
    health_cmd: Option<String>,
    /// Tell by a URL, fetched in the machine, whether it is well
    #[arg(long, value_name = "URL")]
    health_url: Option<String>,
    /// From one check to the next
    #[arg(long, default_value = "30s", value_name = "TIME")]
    health_interval: String,
    /// How long one check may take
    #[arg(long, default_value = "30s", value_name = "TIME")]
    health_timeout: String,
    /// Failures in a row that make it unhealthy
    #[arg(long, default_value_t = 3, value_name = "N")]
    health_retries: u32,
    /// Failures this long after the start do not count
    #[arg(long, default_value = "60s", value_name = "TIME")]
    health_start_period: String,
    /// Words to find it by
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// When to pull the image
    #[arg(long, default_value = "missing", value_enum)]
    pull: Pull,
    /// What drives the virtual machine: qemu, firecracker, or auto, which is
    /// firecracker where it is installed and KVM works, and qemu elsewhere
    #[arg(long, default_value = mimeo_engine::driver::AUTO)]
    driver: String,
    /// What runs the guest's instructions
    #[arg(long, default_value = "auto", value_enum)]
    accel: Accel,
    /// Run the command below a small init that reaps orphans
    #[arg(long)]
    init: bool,
    /// The signal that asks the container to end
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Seconds between that signal and SIGKILL
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    stop_timeout: u32,
    /// Seconds that the guest may take to boot; of one that does not answer, evidence is kept in MIMEO_HOME/hangs
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    start_timeout: u32,
    /// Boot the guest, instead of copying one that has booted before
    #[arg(long)]
    cold: bool,
    /// The image: a name, oci:DIR[:TAG], oci-archive:FILE or docker-archive:FILE
    image: String,
    /// What to run in it, instead of the image's command
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// How a machine is connected.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Network {
    /// rootless, or bridged with a driver that has no network of its own
    Auto,
    /// By user-mode networking
    Rootless,
    /// On a bridge of the host, from a network namespace of its own; needs root
    Bridged,
    /// Not at all
    None,
}

/// When to pull.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Pull {
    /// Each time
    Always,
    /// When it is not here
    Missing,
    /// Never
    Never,
}

/// What runs instructions.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Accel {
    /// KVM where it works
    Auto,
    /// KVM
    Kvm,
    /// Emulation
    Tcg,
}

impl From<Network> for NetworkMode {
    fn from(network: Network) -> Self {
        match network {
            Network::Auto => Self::Auto,
            Network::Rootless => Self::Rootless,
            Network::Bridged => Self::Bridged,
            Network::None => Self::None,
        }
    }
}

impl From<Pull> for PullPolicy {
    fn from(pull: Pull) -> Self {
        match pull {
            Pull::Always => Self::Always,
            Pull::Missing => Self::Missing,
            Pull::Never => Self::Never,
        }
    }
}

impl From<Accel> for mimeo_vmm::accel::Accel {
    fn from(accel: Accel) -> Self {
        match accel {
            Accel::Auto => Self::Auto,
            Accel::Kvm => Self::Kvm,
            Accel::Tcg => Self::Tcg,
        }
    }
}

/// Runs the machine here, or leaves it to a process of its own.
pub(crate) async fn run(engine: &Engine, args: Args) -> Result<i32, CliError> {
    let (detach, quiet) = (args.detach, args.quiet);
    let spec = settings::spec(args)?;
    if detach { detached::run(spec, quiet).await } else { foreground::run(engine, spec, quiet).await }
}
