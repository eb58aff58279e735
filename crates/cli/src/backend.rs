//! Where commands act: on this host, through the engine, or on a manager's, over HTTP. Each command has one implementation;
//! only what it reads and requests goes through [`Backend`].

pub(crate) mod contexts;
mod error;
mod local;
mod process;
mod remote;
pub(crate) mod target;

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use mimeo_agent_protocol::message::{FileKind, ProcessInfo, TerminalSize};
use mimeo_engine::act::{ExecProcess, ForkRequest, StopOptions};
use mimeo_engine::control::SavedSnapshot;
use mimeo_engine::launch_request::{CloneInfo, CloneOverrides};
use mimeo_engine::log::LogLine;
use mimeo_engine::machine::{Changes, MachineName, MachineSpec};
use mimeo_engine::snapshot::Manifest;
use mimeo_engine::snapshot_server::ServeRecord;
use mimeo_engine::volumes::VolumeName;
use mimeo_engine::{Engine, Event, Exit, Found, MachineId, Selector, SnapshotId};
use mimeo_image::{Inspection, Listing, PullOptions, Removed};
use serde_json::Value;

pub(crate) use error::FindFailure;
pub(crate) use local::LocalBackend;
pub(crate) use process::{ProcessInput, ProcessItem, ProcessOutput, ProcessStream};
pub(crate) use remote::{RemoteBackend, RemoteError};

use crate::commands::run::RunRequest;
use crate::error::CliError;
use crate::resource_usage::ResourceUsage;

/// Where a command acts.
pub(crate) type Host = Arc<dyn Backend>;

/// What commands read and request. A machine is named by its id; its record may be older than the request. Futures that
/// stay on their thread are not `Send`: it is the parent of a VMM, or they pull an image.
#[async_trait]
pub(crate) trait Backend: Debug + Send + Sync {
    /// This host's engine, for commands that work on this host only.
    fn local_engine(&self) -> Option<&Engine>;

    /// All machines, the newest last.
    async fn machines(&self) -> Result<Vec<Found>, CliError>;
    /// The one machine that the selector names.
    async fn find(&self, selector: &Selector) -> Result<Found, FindFailure>;
    /// The machine with this id; `None` if it does not exist any more.
    async fn read(&self, id: &MachineId) -> Result<Option<Found>, CliError>;

    /// The directory of a named volume that a machine uses.
    fn volume_dir(&self, machine: &Found, name: &VolumeName) -> PathBuf;

    /// Creates and starts a machine, and attaches to it unless it is detached; returns the exit code.
    fn run(self: Arc<Self>, request: RunRequest) -> LocalBoxFuture<'static, Result<i32, CliError>>;
    /// Creates a machine. A signal undoes that.
    fn create(&self, spec: MachineSpec, quiet: bool) -> LocalBoxFuture<'_, Result<Creation, CliError>>;
    async fn start(&self, machine: &Found) -> Result<(), CliError>;
    async fn stop(&self, machine: &Found, options: StopOptions) -> Result<(), CliError>;
    /// Stops a machine if it runs, and starts it.
    async fn restart(&self, machine: &Found, timeout: Option<u32>) -> Result<(), CliError>;
    async fn kill(&self, machine: &Found, signal: i32) -> Result<(), CliError>;
    async fn pause(&self, machine: &Found) -> Result<(), CliError>;
    async fn unpause(&self, machine: &Found) -> Result<(), CliError>;
    /// Waits until a machine has exited.
    async fn wait(&self, machine: &Found) -> Result<Exit, CliError>;
    /// Removes a machine. `force` kills it first, or stops it if there is a timeout.
    async fn remove(&self, machine: &Found, force: bool, timeout: Option<u32>) -> Result<(), CliError>;
    /// Removes the directory of a machine whose record cannot be read.
    async fn remove_unreadable(&self, id: &str) -> Result<(), CliError>;
    async fn edit(&self, machine: &Found, changes: &Changes) -> Result<(), CliError>;

    /// Starts a process in a machine; returns its id in the guest.
    async fn exec(&self, machine: &Found, process: ExecProcess) -> Result<(u32, ProcessStream), CliError>;
    /// Attaches to a machine's container.
    async fn attach(&self, machine: &Found, request: AttachRequest) -> Result<Attached, CliError>;
    /// Opens the log of a machine's container.
    async fn log(&self, machine: &Found) -> Result<Box<dyn LogReader>, CliError>;
    /// Opens the files of a machine. `timeout` limits the wait for another command that uses them.
    fn files<'a>(
        &'a self,
        machine: &'a Found,
        timeout: Duration,
    ) -> LocalBoxFuture<'a, Result<Box<dyn MachineFiles>, CliError>>;
    async fn usage(&self, machine: &Found) -> Result<ResourceUsage, CliError>;
    async fn processes(&self, machine: &Found) -> Result<Vec<ProcessInfo>, CliError>;

    async fn images(&self) -> Result<Listing, CliError>;
    /// The image of this name or id, with its documents.
    async fn inspect_image(&self, text: &str) -> Result<Option<Inspection>, CliError>;
    /// Pulls an image; returns the digits of its id.
    fn pull<'a>(
        &'a self,
        source: &'a str,
        options: PullOptions,
        quiet: bool,
    ) -> LocalBoxFuture<'a, Result<String, CliError>>;
    /// Removes an image; with `force` also one that is in use or has several names. An error has podman's exit code.
    async fn remove_image(&self, text: &str, force: bool) -> Result<Removed, CliError>;

    /// All snapshots.
    async fn snapshots(&self) -> Result<Vec<Manifest>, CliError>;
    /// The snapshot with this tag or id.
    async fn find_snapshot(&self, word: &str) -> Result<Manifest, CliError>;
    /// The snapshot servers.
    async fn snapshot_servers(&self) -> Result<Vec<ServeRecord>, CliError>;
    async fn take_snapshot(
        &self,
        machine: &Found,
        tag: Option<MachineName>,
    ) -> Result<SavedSnapshot, CliError>;
    async fn remove_snapshot(&self, word: &str) -> Result<(), CliError>;
    /// Starts clones of the snapshot with this tag or id.
    async fn clone_snapshot(
        &self,
        word: &str,
        overrides: Vec<CloneOverrides>,
    ) -> Result<Vec<CloneOutcome>, CliError>;
    async fn fork(&self, machine: &Found, request: ForkRequest) -> Result<ForkOutcome, CliError>;

    /// Follows the events of machines; `past` are those that are stored.
    async fn events(&self, past: bool) -> Result<Box<dyn EventReader>, CliError>;
    /// The version, the agent protocol, the drivers and the directories.
    async fn version(&self) -> Result<Value, CliError>;
    /// The host, the directories, and the number of machines, images and volumes.
    async fn info(&self) -> Result<Value, CliError>;
}

/// How a creation ended.
#[derive(Debug)]
pub(crate) enum Creation {
    Created(MachineId),
    /// This signal came, and the creation was undone.
    Interrupted(i32),
}

/// How a client attaches to a container.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttachRequest {
    /// Pass the client's input to the container.
    pub(crate) stdin: bool,
    /// Start the machine first, unless it runs: the container's output waits for this client.
    pub(crate) start: bool,
    /// The size of the client's terminal.
    pub(crate) size: Option<TerminalSize>,
}

/// A container that a client is attached to.
pub(crate) struct Attached {
    /// Its standard streams.
    pub(crate) stream: ProcessStream,
    /// Its end.
    pub(crate) end: Box<dyn AttachedEnd>,
}

/// The end of a container that a client is attached to.
#[async_trait]
pub(crate) trait AttachedEnd: Send {
    /// Waits for the exit of the machine.
    async fn exit(&mut self) -> Result<Exit, CliError>;
    /// Waits until what the machine leaves behind is cleaned up, and with `--rm` the machine removed.
    async fn finish(self: Box<Self>) -> Result<(), CliError>;
}

/// Reads a machine's log.
#[async_trait]
pub(crate) trait LogReader: Send {
    /// Reads the lines that were not read before, without waiting for others.
    async fn read(&mut self, on_line: &mut OnLine<'_>) -> Result<(), CliError>;
    /// Waits until there may be new lines, and reads them. Returns `false` when the machine has exited and all is read.
    async fn follow(&mut self, is_one_of_several: bool, on_line: &mut OnLine<'_>) -> Result<bool, CliError>;
}

/// Takes a line of a log.
pub(crate) type OnLine<'a> = dyn FnMut(LogLine) -> Result<(), CliError> + Send + 'a;

/// The files of a machine. Call [`MachineFiles::close`] at the end: what was written may be lost without it.
#[async_trait]
pub(crate) trait MachineFiles: Send + Sync {
    /// The kind of the file at an absolute path, and where a symbolic link leads.
    async fn stat(&self, path: &str) -> Result<(Option<FileKind>, Option<String>), CliError>;
    /// Reads a path as a tar stream.
    async fn read_archive(&self, path: &str) -> Result<Box<dyn ArchiveReader>, CliError>;
    /// Unpacks a tar stream into a directory.
    async fn write_archive(&self, directory: &str) -> Result<Box<dyn ArchiveWriter>, CliError>;
    /// Whether the archives of directories leave out the name of the directory, and begin with `.` instead.
    fn omits_names(&self) -> bool;
    /// Ends the access. What was written is on the machine's disk afterwards.
    async fn close(self: Box<Self>) -> Result<(), CliError>;
}

/// A tar stream from a machine.
#[async_trait]
pub(crate) trait ArchiveReader: Send {
    /// The next chunk; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, CliError>;
}

/// A tar stream to a machine.
#[async_trait]
pub(crate) trait ArchiveWriter: Send {
    /// Writes a chunk. Returns `false` if the machine reads no more: [`ArchiveWriter::finish`] says why.
    async fn write(&mut self, chunk: Bytes) -> bool;
    /// Ends the stream, and waits until it is unpacked.
    async fn finish(self: Box<Self>) -> Result<(), CliError>;
}

/// Reads events.
#[async_trait]
pub(crate) trait EventReader: Send {
    /// The events that are stored, the oldest first; once.
    async fn past(&mut self) -> Result<Vec<Event>, CliError>;
    /// Waits a moment for new events.
    async fn next(&mut self) -> Result<Vec<Event>, CliError>;
}

/// The result of starting one clone.
#[derive(Debug)]
pub(crate) struct CloneOutcome {
    /// The requested name, or the clone's index in the request.
    pub(crate) requested: String,
    /// The clone, or why it was not started.
    pub(crate) outcome: Result<CloneInfo, String>,
}

/// A fork.
#[derive(Debug)]
pub(crate) struct ForkOutcome {
    /// The snapshot that the clones were started from.
    pub(crate) snapshot: SnapshotId,
    /// How long the source's workload was paused, in microseconds.
    pub(crate) pause_micros: u64,
    /// Whether the fork was done earlier, under the same key.
    pub(crate) repeated: bool,
    pub(crate) clones: Vec<CloneOutcome>,
}

/// This host's engine, for a command that works on this host only.
pub(crate) fn local<'a>(host: &'a Host, command: &str) -> Result<&'a Engine, CliError> {
    host.local_engine().ok_or_else(|| {
        CliError::usage(format!(
            "cannot {command} on a remote host: this works on the own host only: run it there, without --host"
        ))
    })
}
