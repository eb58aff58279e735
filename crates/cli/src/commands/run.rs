//! `mimeo run`: runs an image in a new machine.

pub(crate) mod container;
mod detached;
mod environment;
mod files;
mod foreground;
mod labels;
mod log;
pub(crate) mod network;
mod refused;
mod remove_image;
pub(crate) mod settings;
mod streams;
pub(crate) mod volumes;

use std::io::IsTerminal;

use mimeo_engine::machine::{NetworkMode, PullPolicy};
use mimeo_engine::{Engine, MachineSpec};

pub(crate) use files::FileOptions;
#[cfg(test)]
pub(crate) use refused::RefusedOptions;
pub(crate) use remove_image::remove_image;

use crate::backend::Host;
use crate::commands::attach::AttachOptions;
use crate::commands::image::platform::PlatformArgs;
use crate::commands::image::registry::RegistryArgs;
use crate::detach_keys;
use crate::error::CliError;
use crate::logging::LogLevel;

/// Arguments of `mimeo run`.
#[derive(Debug, clap::Args)]
#[command(
    // -h is podman's short form of --hostname.
    disable_help_flag = true,
    override_usage = "mimeo run [OPTIONS] IMAGE [COMMAND [ARGUMENT]...]",
    after_help = "Examples:\n  mimeo run --rm -it alpine\n  mimeo run -d --name web -p 8080:80 -v ./site:/srv:ro nginx\n  \
                  mimeo run --rm --cpus 2 --memory 1g -e DEBUG=1 python:3 python -c 'print(6 * 7)'"
)]
pub(crate) struct Args {
    /// Run the machine in the background and print its id
    #[arg(short, long)]
    detach: bool,
    /// Keys that detach the terminal from the machine, which runs on; empty for none
    #[arg(long, value_name = "KEYS", default_value = detach_keys::DEFAULT)]
    detach_keys: String,
    /// Forward signals to the container; with false, a signal ends this command, and the machine runs on
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1,
          require_equals = true, default_missing_value = "true")]
    sig_proxy: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

/// The arguments that define a machine.
#[derive(Debug, clap::Args)]
pub(crate) struct MachineArgs {
    /// Pass standard input to the container
    #[arg(short, long)]
    interactive: bool,
    /// Allocate a terminal for the container
    #[arg(short, long)]
    tty: bool,
    /// Attach only to this output of the container: stdout or stderr; can be repeated. stdin alone attaches to no
    /// output; --interactive attaches standard input
    #[arg(short, long, value_name = "STREAM", value_delimiter = ',')]
    attach: Vec<String>,
    /// Remove the machine when it exits
    #[arg(long)]
    rm: bool,
    /// When to start the machine again after it has exited: no, on-failure[:N], always or unless-stopped
    #[arg(long, value_name = "POLICY", default_value = "no")]
    restart: String,
    /// Do not show progress
    #[arg(short, long)]
    quiet: bool,
    /// The machine's name; random by default
    #[arg(long)]
    name: Option<String>,
    /// The guest's host name; by default the start of the machine's id
    #[arg(short = 'h', long)]
    hostname: Option<String>,
    /// Set an environment variable; without a value, it is copied from this environment
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read environment variables from a file, one NAME=VALUE per line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<std::path::PathBuf>,
    /// Publish a port of the machine on the host; can be repeated
    #[arg(short, long, value_name = "[IP:][HOST:]GUEST[/udp]")]
    publish: Vec<String>,
    #[command(flatten)]
    volumes: volumes::VolumeOptions,
    /// Working directory in the container
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// User in the container
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Replace the image's entrypoint: a program, or a JSON array of a program and arguments
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Number of CPUs, such as 2 or 0.5. The machine has that many vCPUs, rounded up; the guest limits the
    /// container's CPU time to a fraction
    #[arg(long, default_value = "1", value_name = "N", allow_hyphen_values = true)]
    cpus: String,
    /// Memory: a number of bytes, or a number with k, m or g
    #[arg(short, long, default_value = "512m", value_name = "SIZE")]
    memory: String,
    /// Maximum size of the writable layer; it takes only the space that is written
    #[arg(long, default_value = "10g", value_name = "SIZE")]
    disk: String,
    /// Network mode: auto, rootless, bridged or none. auto is rootless, or bridged if the driver has no
    /// user-mode networking
    #[arg(long, alias = "net", default_value = "auto", value_parser = network::mode, value_name = "MODE")]
    network: NetworkMode,
    /// With a bridged network: allow connections to and from other machines that have this flag
    #[arg(long)]
    vm_to_vm: bool,
    /// DNS server to use instead of the host's; can be repeated
    #[arg(long, value_name = "IP")]
    dns: Vec<std::net::IpAddr>,
    /// Add a line to /etc/hosts; the address host-gateway stands for the host; can be repeated
    #[arg(long, value_name = "NAME:IP")]
    add_host: Vec<String>,
    /// Leave /etc/hosts as it is in the image
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value_t = false, default_missing_value = "true", hide_default_value = true, hide_possible_values = true)]
    no_hosts: bool,
    /// Health check: a command that is run in the container by its shell, or a JSON array of a program and arguments;
    /// none for no health check
    #[arg(long, value_name = "COMMAND", conflicts_with = "health_url")]
    health_cmd: Option<String>,
    /// Health check: an http:// URL that is fetched inside the machine
    #[arg(long, value_name = "URL")]
    health_url: Option<String>,
    /// Do not run the image's health check
    #[arg(long, conflicts_with_all = ["health_cmd", "health_url"])]
    no_healthcheck: bool,
    /// Interval between health checks; disable for no checks except those of `healthcheck run`
    #[arg(long, default_value = "30s", value_name = "TIME")]
    health_interval: String,
    /// Timeout of a health check
    #[arg(long, default_value = "30s", value_name = "TIME")]
    health_timeout: String,
    /// Consecutive failed checks before the container is unhealthy
    #[arg(long, default_value_t = 3, value_name = "N")]
    health_retries: u32,
    /// Time after the start in which failed checks do not count
    #[arg(long, default_value = "60s", value_name = "TIME")]
    health_start_period: String,
    /// What to do when the container becomes unhealthy: none, kill, restart or stop
    #[arg(long, default_value = "none", value_name = "ACTION")]
    health_on_failure: String,
    /// Add a label; can be repeated
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// When to pull the image
    #[arg(long, default_value = "missing", value_enum, ignore_case = true)]
    pull: Pull,
    #[command(flatten)]
    platform: PlatformArgs,
    #[command(flatten)]
    registry: RegistryArgs,
    /// VMM driver: qemu, firecracker or auto. auto is firecracker if it is
    /// installed, KVM works and the network can be bridged, otherwise qemu
    #[arg(long, default_value = mimeo_engine::driver::AUTO)]
    driver: String,
    /// Accelerator of the VMM
    #[arg(long, default_value = "auto", value_enum)]
    accel: Accel,
    /// Run the command under a small init process that reaps zombies
    #[arg(long)]
    init: bool,
    /// Signal that stops the container; by default the image's, or SIGTERM
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Seconds between the stop signal and SIGKILL
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    stop_timeout: u32,
    /// Seconds after which the container is killed; 0 for no limit
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    timeout: u32,
    /// Boot timeout in seconds. If the guest does not answer, diagnostics are saved in MIMEO_HOME/hangs
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    start_timeout: u32,
    /// Boot the guest instead of restoring it from a boot snapshot
    #[arg(long)]
    cold: bool,
    /// Log driver: k8s-file (json-file is the same) or none
    #[arg(long, default_value = "k8s-file", value_name = "DRIVER")]
    log_driver: String,
    /// Option of the log: max-size=SIZE (20m by default, -1 for no limit) and max-file=N (5 by default): N files of
    /// SIZE bytes are kept; can be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    log_opt: Vec<String>,
    #[command(flatten)]
    environment: environment::EnvironmentOptions,
    #[command(flatten)]
    networking: network::NetworkOptions,
    #[command(flatten)]
    labels: labels::LabelOptions,
    #[command(flatten)]
    files: files::FileOptions,
    /// Remove the machine when it exits, and its image unless something else uses it
    #[arg(long)]
    rmi: bool,
    /// Accepted for compatibility with podman, where it has no effect either
    #[arg(long, hide = true)]
    disable_content_trust: bool,
    #[command(flatten)]
    refused: refused::RefusedOptions,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// The image: a name, oci:DIR[:TAG], oci-archive:FILE or docker-archive:FILE; then the command and
    /// arguments to run instead of the image's
    // One argument: an option after the image belongs to the command.
    #[arg(required = true, trailing_var_arg = true, value_name = "IMAGE")]
    image: Vec<String>,
    // Last, since its heading applies to all that follow.
    #[command(flatten)]
    container: container::ContainerArgs,
}

/// When to pull the image.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Pull {
    /// Always
    Always,
    /// If it is not in the local store
    #[value(alias = "ifnotpresent")]
    Missing,
    /// If the registry has another one than the local store; a registry that fails does not matter where there is one
    #[value(alias = "ifnewer")]
    Newer,
    /// Never
    Never,
}

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Accel {
    /// KVM if it works, otherwise emulation
    Auto,
    /// KVM
    Kvm,
    /// Emulation (QEMU's TCG)
    Tcg,
}

impl From<Pull> for PullPolicy {
    fn from(pull: Pull) -> Self {
        match pull {
            Pull::Always => Self::Always,
            Pull::Missing => Self::Missing,
            Pull::Newer => Self::Newer,
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

impl MachineArgs {
    /// Whether to show no progress.
    pub(crate) fn quiet(&self) -> bool {
        self.quiet
    }

    /// The spec of the machine that the arguments describe, and the files to write for it.
    pub(crate) async fn into_spec(self, host: &Host) -> Result<(MachineSpec, FileOptions), CliError> {
        self.refused.check()?;
        streams::output_streams(&self.attach)?;
        let others = self.volumes.volumes_from().to_vec();
        let (mut spec, files) = settings::spec(self)?;
        volumes::add_mounts_of_others(host, &others, &mut spec).await?;
        Ok((spec, files))
    }
}

/// A machine to run, and how.
pub(crate) struct RunRequest {
    pub(crate) spec: MachineSpec,
    pub(crate) files: FileOptions,
    /// Show no progress.
    pub(crate) quiet: bool,
    /// Print the machine's id once it runs, and do not attach to it.
    pub(crate) detach: bool,
    pub(crate) options: AttachOptions,
    /// How much a supervisor logs.
    pub(crate) level: LogLevel,
}

/// Runs the machine, and attaches to it unless it is detached.
pub(crate) async fn run(host: &Host, args: Args, level: LogLevel) -> Result<i32, CliError> {
    let Args { detach, detach_keys, sig_proxy, machine } = args;
    let quiet = machine.quiet;
    let output = streams::output_streams(&machine.attach)?;
    let options = AttachOptions {
        stdin: true,
        detach_keys: detach_keys.parse()?,
        keep_signals: !sig_proxy,
        output,
        start: false,
    };
    let (spec, files) = machine.into_spec(host).await?;
    files.prepare(host, spec.name.as_ref()).await?;
    host.clone().run(RunRequest { spec, files, quiet, detach, options, level }).await
}

/// Warns of a terminal that has no input of one.
pub(crate) fn warn_about_terminal(spec: &MachineSpec) {
    if spec.tty && spec.interactive && !std::io::stdin().is_terminal() {
        tracing::warn!(
            component = "terminal",
            "standard input is not a terminal: omit --tty to pass it to the container unchanged"
        );
    }
}

/// Runs the machine in the foreground, or in the background with a supervisor of its own. A machine with a terminal
/// has such a supervisor, too, so that the terminal can be detached from it.
pub(crate) async fn run_locally(engine: &Engine, host: &Host, request: RunRequest) -> Result<i32, CliError> {
    if request.detach {
        return detached::run(request).await;
    }
    let RunRequest { spec, options, .. } = &request;
    // A machine without a terminal is supervised by this process, to which signals are sent.
    if options.keep_signals || spec.tty && spec.interactive && std::io::stdin().is_terminal() {
        return detached::run_attached(host, request).await;
    }
    foreground::run(engine, request).await
}
