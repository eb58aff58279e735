//! Starts QEMU.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::process::Stdio;

use command_fds::{CommandFdExt, FdMapping};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::arguments::{From, LINK_FD, QMP_FD, STATE_FD, TAP_FD, arguments};
use super::instance::QemuInstance;
use super::memory::Backing;
use super::qmp::Qmp;
use crate::{LaunchError, LaunchSpec, Network, RestoreError, SavedMachine, console, spawn};

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
    let mut command = std::process::Command::new(program);
    command.args(args);
    let given = state.map(|state| (STATE_FD, state)).into_iter().collect();
    let Started { child, link, qmp } = start(command, spec, given)?;
    Ok(QemuInstance::new(child, link, Qmp::greet(qmp), spec, backing))
}

/// A process and our ends of what joins us to it.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) child: Child,
    pub(super) link: UnixStream,
    pub(super) qmp: UnixStream,
}

/// Starts a process with its channels, and with `given` descriptors besides.
pub(super) fn start(
    mut command: std::process::Command,
    spec: &LaunchSpec,
    mut given: Vec<(i32, OwnedFd)>,
) -> Result<Started, LaunchError> {
    let name = command.get_program().display().to_string();
    let spawn_error = |source| LaunchError::Spawn { program: name.clone(), source };
    let (link, link_child) = StdUnixStream::pair().map_err(spawn_error)?;
    let (qmp, qmp_child) = StdUnixStream::pair().map_err(spawn_error)?;
    given.extend([(LINK_FD, link_child.into()), (QMP_FD, qmp_child.into())]);
    given.extend(tap(spec).map_err(spawn_error)?.map(|tap| (TAP_FD, tap)));
    // What is in our environment is none of the guest's, nor of those that begin as this process.
    command.env_clear();
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(directory) = spec.directory() {
        command.current_dir(directory);
    }
    spawn::die_with_parent(&mut command);
    spawn::small_pages(&mut command);
    let mappings = given.into_iter().map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd }).collect();
    command.fd_mappings(mappings).map_err(|error| spawn_error(std::io::Error::other(error)))?;
    let spawned = Command::from(command).kill_on_drop(true).spawn();
    let mut child = spawned.map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => LaunchError::NotInstalled { program: name.clone() },
        _ => spawn_error(source),
    })?;
    if let Some(stdout) = child.stdout.take() {
        tokio::spawn(console::keep(stdout, spec.console.clone()));
    }
    let (link, qmp) = (to_tokio(link).map_err(spawn_error)?, to_tokio(qmp).map_err(spawn_error)?);
    Ok(Started { child, link, qmp })
}

/// The TAP device that its card is joined to, if it is.
fn tap(spec: &LaunchSpec) -> std::io::Result<Option<OwnedFd>> {
    let Some(Network::Tap(tap)) = &spec.network else { return Ok(None) };
    let closed = || std::io::Error::new(std::io::ErrorKind::InvalidInput, "its TAP device is not open");
    tap.queue.as_ref().ok_or_else(closed)?.try_clone().map(Some)
}

fn to_tokio(stream: StdUnixStream) -> std::io::Result<UnixStream> {
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}
