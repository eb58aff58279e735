//! Starts QEMU.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::process::Stdio;

use command_fds::{CommandFdExt, FdMapping};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::arguments::{From, LINK_FD, QMP_FD, STATE_FD, arguments};
use super::instance::QemuInstance;
use super::memory::Backing;
use super::qmp::Qmp;
use crate::{LaunchError, LaunchSpec, RestoreError, SavedMachine, console, spawn};

/// Starts QEMU with a kernel to boot.
pub(super) fn launch(program: &Path, spec: &LaunchSpec) -> Result<QemuInstance, LaunchError> {
    run(program, spec, arguments(spec, From::Boot), None, Backing::Memfd)
}

/// Starts QEMU with a saved state, and waits until it has that.
pub(super) async fn restore(
    program: &Path,
    spec: &LaunchSpec,
    saved: &SavedMachine,
) -> Result<QemuInstance, RestoreError> {
    let open = |source| RestoreError::Open { path: saved.state.clone(), source };
    let state = std::fs::File::open(&saved.state).map_err(open)?;
    let args = arguments(spec, From::Saved(&saved.memory));
    let backing = Backing::File(saved.memory.clone());
    let mut instance = run(program, spec, args, Some(state.into()), backing)?;
    instance.loaded().await?;
    Ok(instance)
}

/// Two socket pairs join us to QEMU's monitor and the guest link: no file
/// stands in between that could be left behind or connected to by others.
fn run(
    program: &Path,
    spec: &LaunchSpec,
    args: Vec<OsString>,
    state: Option<OwnedFd>,
    backing: Backing,
) -> Result<QemuInstance, LaunchError> {
    let name = program.display().to_string();
    let spawn_error = |source| LaunchError::Spawn { program: name.clone(), source };
    let (link, link_child) = StdUnixStream::pair().map_err(spawn_error)?;
    let (qmp, qmp_child) = StdUnixStream::pair().map_err(spawn_error)?;
    let given = [(LINK_FD, Some(link_child.into())), (QMP_FD, Some(qmp_child.into())), (STATE_FD, state)];
    let mut child = start(program, args, given)?;
    if let Some(stdout) = child.stdout.take() {
        tokio::spawn(console::keep(stdout, spec.console.clone()));
    }
    let qmp = Qmp::new(to_tokio(qmp).map_err(spawn_error)?);
    let link = to_tokio(link).map_err(spawn_error)?;
    Ok(QemuInstance::new(child, link, qmp, backing))
}

fn start(
    program: &Path,
    args: Vec<OsString>,
    given: [(i32, Option<OwnedFd>); 3],
) -> Result<Child, LaunchError> {
    let name = || program.display().to_string();
    let mut command = std::process::Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    spawn::die_with_parent(&mut command);
    let given = given.into_iter().filter_map(|(number, file)| Some((number, file?)));
    let mappings = given.map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd }).collect();
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
