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
    /// A systemd service of the manager
    ManagerService,
    /// A systemd socket that starts the manager's service when a client connects
    ManagerSocket,
}

/// Prints the configuration.
pub(crate) fn run(engine: &Engine, verb: &Verb) -> Result<i32, CliError> {
    match verb {
        Verb::Systemd => output::bytes(systemd_unit(engine)?.as_bytes())?,
        Verb::ManagerService => output::bytes(manager_service(engine)?.as_bytes())?,
        Verb::ManagerSocket => output::bytes(manager_socket(engine).as_bytes())?,
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

/// The manager's service. Machines belong to its cgroup, and outlive it.
fn manager_service(engine: &Engine) -> Result<String, CliError> {
    let program = std::env::current_exe().map_err(|source| CliError::io("find this program", source))?;
    let (program, home) = (quote(&program), quote(engine.home().home()));
    let run = quote(engine.home().run());
    let target = if geteuid().is_root() { "multi-user.target" } else { "default.target" };
    Ok(format!(
        "[Unit]\n\
         Description=Manager of mimeo: machines over HTTP\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         \n\
         [Service]\n\
         # READY=1 is sent once requests are answered. The token of the first administrator is in the journal after the first start.\n\
         Type=notify\n\
         Environment=\"MIMEO_HOME={home}\" \"MIMEO_RUN={run}\"\n\
         ExecStart=\"{program}\" manager\n\
         # Reads the certificate again.\n\
         ExecReload=/bin/kill -HUP $MAINPID\n\
         # Only the manager is ended: its machines run on, and the next manager finds them.\n\
         KillMode=process\n\
         Restart=on-failure\n\
         # Machines need more than systemd's default.\n\
         TasksMax=infinity\n\
         LimitNOFILE=65536\n\
         \n\
         [Install]\n\
         WantedBy={target}\n"
    ))
}

/// Sockets of the manager. systemd listens, so clients wait while the manager is restarted, and no connection is refused.
fn manager_socket(engine: &Engine) -> String {
    let socket = quote(&engine.home().run().join("manager.sock"));
    format!(
        "[Unit]\n\
         Description=Sockets of the manager of mimeo\n\
         \n\
         [Socket]\n\
         ListenStream=127.0.0.1:18080\n\
         # Each client of this socket is an administrator.\n\
         ListenStream={socket}\n\
         SocketMode=0600\n\
         \n\
         [Install]\n\
         WantedBy=sockets.target\n"
    )
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
