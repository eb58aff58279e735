//! `mimeo generate`: configuration for other programs.

use clap::Subcommand;
use mimeo_engine::Engine;
use rustix::process::geteuid;

use crate::error::CliError;
use crate::output;

/// What to generate.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// A systemd unit that starts machines after a boot, as their restart policies request
    Systemd,
}

/// Prints the configuration.
pub(crate) fn run(engine: &Engine, verb: &Verb) -> Result<i32, CliError> {
    match verb {
        Verb::Systemd => output::bytes(systemd_unit(engine)?.as_bytes())?,
    }
    Ok(0)
}

/// The unit's `stop` leaves restart policies in force, so that the next boot starts the same machines. Supervisors and
/// VMMs belong to the unit's cgroup; systemd must not signal a VMM, whose guest could not power off then.
fn systemd_unit(engine: &Engine) -> Result<String, CliError> {
    let program = std::env::current_exe().map_err(|source| CliError::io("find this program", source))?;
    let (program, home) = (quote(&program), quote(engine.home().home()));
    let run = quote(engine.home().run());
    let target = if geteuid().is_root() { "multi-user.target" } else { "default.target" };
    Ok(format!(
        "[Unit]\n\
         Description=Machines of mimeo that run after a boot\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         RemainAfterExit=yes\n\
         KillMode=process\n\
         Environment=\"MIMEO_HOME={home}\" \"MIMEO_RUN={run}\"\n\
         ExecStart=\"{program}\" start --all --filter should-start-on-boot=true\n\
         ExecStop=\"{program}\" stop --all --for-reboot\n\
         TimeoutStartSec=infinity\n\
         TimeoutStopSec=120\n\
         \n\
         [Install]\n\
         WantedBy={target}\n"
    ))
}

/// Escapes a path for a quoted word of a unit file.
fn quote(path: &std::path::Path) -> String {
    path.display()
        .to_string()
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('%', "%%")
        .replace('$', "$$")
}
