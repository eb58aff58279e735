//! Starts QEMU.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::process::Stdio;

use command_fds::{CommandFdExt, FdMapping};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::arguments::{LINK_FD, QMP_FD, arguments};
use super::instance::QemuInstance;
use super::qmp::Qmp;
use crate::{LaunchError, LaunchSpec, console, spawn};

/// Starts QEMU with two socket pairs for its monitor and its guest link: no
/// file stands in between that could be left behind or connected to by others.
pub(super) fn launch(program: &Path, spec: &LaunchSpec) -> Result<QemuInstance, LaunchError> {
    let name = program.display().to_string();
    let spawn_error = |source| LaunchError::Spawn { program: name.clone(), source };
    let (link, link_child) = StdUnixStream::pair().map_err(spawn_error)?;
    let (qmp, qmp_child) = StdUnixStream::pair().map_err(spawn_error)?;
    let mut child = start(program, spec, link_child.into(), qmp_child.into())?;
    if let Some(stdout) = child.stdout.take() {
        tokio::spawn(console::keep(stdout, spec.console.clone()));
    }
    let qmp = Qmp::new(to_tokio(qmp).map_err(spawn_error)?);
    let link = to_tokio(link).map_err(spawn_error)?;
    Ok(QemuInstance::new(child, link, qmp))
}

fn start(program: &Path, spec: &LaunchSpec, link: OwnedFd, qmp: OwnedFd) -> Result<Child, LaunchError> {
    let name = || program.display().to_string();
    let mut command = std::process::Command::new(program);
    command.args(arguments(spec)).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    spawn::die_with_parent(&mut command);
    let mappings = vec![
        FdMapping { parent_fd: link, child_fd: LINK_FD },
        FdMapping { parent_fd: qmp, child_fd: QMP_FD },
    ];
    command
        .fd_mappings(mappings)
        .map_err(|error| LaunchError::Spawn { program: name(), source: std::io::Error::other(error) })?;
    Command::from(command).kill_on_drop(true).spawn().map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => LaunchError::NotInstalled { program: name() },
        _ => LaunchError::Spawn { program: name(), source },
    })
}

fn to_tokio(stream: StdUnixStream) -> std::io::Result<UnixStream> {
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}
