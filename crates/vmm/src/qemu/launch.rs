//! Starts QEMU.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::process::Stdio;

use command_fds::{CommandFdExt, FdMapping};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::arguments::{LINK_FD, QMP_FD, STATE_FD, StartMode, TAP_FD, arguments};
use super::instance::QemuInstance;
use super::memory::Backing;
use super::qmp::Qmp;
use crate::{LaunchError, LaunchSpec, Network, RestoreError, SavedMachine, console, spawn};

/// Boots a machine.
pub(super) fn launch(program: &Path, spec: &LaunchSpec) -> Result<QemuInstance, LaunchError> {
    start_instance(program, spec, arguments(spec, StartMode::Boot), None, Backing::Memfd)
}

/// Starts QEMU with a saved state, and waits until that is loaded.
pub(super) async fn restore(
    program: &Path,
    spec: &LaunchSpec,
    saved: &SavedMachine,
) -> Result<QemuInstance, RestoreError> {
    let open = |source| RestoreError::Open { path: saved.state.clone(), source };
    let state = std::fs::File::open(&saved.state).map_err(open)?;
    let args = arguments(spec, StartMode::Saved(&saved.memory));
    let backing = Backing::File(saved.memory.clone());
    let mut instance = start_instance(program, spec, args, Some(state.into()), backing)?;
    instance.wait_until_loaded().await?;
    Ok(instance)
}

/// QMP and the guest link are socket pairs: there is no socket file that could be left behind, or that others
/// could connect to.
fn start_instance(
    program: &Path,
    spec: &LaunchSpec,
    args: Vec<OsString>,
    state: Option<OwnedFd>,
    backing: Backing,
) -> Result<QemuInstance, LaunchError> {
    let mut command = std::process::Command::new(program);
    command.args(args);
    let descriptors = state.map(|state| (STATE_FD, state)).into_iter().collect();
    let SpawnedQemu { child, link, qmp } = spawn_qemu(command, spec, descriptors)?;
    Ok(QemuInstance::new(child, link, Qmp::connect(qmp), spec, backing))
}

/// A QEMU process, and our ends of its channels.
#[derive(Debug)]
pub(super) struct SpawnedQemu {
    pub(super) child: Child,
    pub(super) link: UnixStream,
    pub(super) qmp: UnixStream,
}

/// Starts a process with its channels and the given descriptors.
pub(super) fn spawn_qemu(
    mut command: std::process::Command,
    spec: &LaunchSpec,
    mut descriptors: Vec<(i32, OwnedFd)>,
) -> Result<SpawnedQemu, LaunchError> {
    let name = command.get_program().display().to_string();
    let spawn_error = |source| LaunchError::Spawn { program: name.clone(), source };
    let (link, link_remote) = StdUnixStream::pair().map_err(spawn_error)?;
    let (qmp, qmp_remote) = StdUnixStream::pair().map_err(spawn_error)?;
    descriptors.extend([(LINK_FD, link_remote.into()), (QMP_FD, qmp_remote.into())]);
    descriptors.extend(tap_descriptor(spec).map_err(spawn_error)?.map(|tap| (TAP_FD, tap)));
    // Our environment must reach neither the VMM nor the processes that are restored from it.
    command.env_clear();
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(directory) = spec.directory() {
        command.current_dir(directory);
    }
    spawn::die_with_parent(&mut command);
    spawn::disable_huge_pages(&mut command);
    let mappings =
        descriptors.into_iter().map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd }).collect();
    command.fd_mappings(mappings).map_err(|error| spawn_error(std::io::Error::other(error)))?;
    let spawned = Command::from(command).kill_on_drop(true).spawn();
    let mut child = spawned.map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => LaunchError::NotInstalled { program: name.clone() },
        _ => spawn_error(source),
    })?;
    if let Some(stdout) = child.stdout.take() {
        tokio::spawn(console::copy_to_file(stdout, spec.console.clone()));
    }
    let (link, qmp) = (into_tokio(link).map_err(spawn_error)?, into_tokio(qmp).map_err(spawn_error)?);
    Ok(SpawnedQemu { child, link, qmp })
}

/// A descriptor of the TAP device, if the NIC is connected to one.
fn tap_descriptor(spec: &LaunchSpec) -> std::io::Result<Option<OwnedFd>> {
    let Some(Network::Tap(tap)) = &spec.network else { return Ok(None) };
    let closed = || std::io::Error::new(std::io::ErrorKind::InvalidInput, "the TAP device is not open");
    tap.queue.as_ref().ok_or_else(closed)?.try_clone().map(Some)
}

fn into_tokio(stream: StdUnixStream) -> std::io::Result<UnixStream> {
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}
