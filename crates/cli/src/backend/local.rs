//! This host, through the engine.

mod events;
mod files;
mod log;
mod log_file;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use mimeo_agent_protocol::message::{FailureKind, ProcessInfo, Reply, Request};
use mimeo_engine::act::{self, ActError, ExecProcess, ForkRequest, StopOptions};
use mimeo_engine::control::{ConnectError, ControlError, SavedSnapshot};
use mimeo_engine::create::{self, StartOptions};
use mimeo_engine::launch_request::{AttachingClient, CloneOverrides};
use mimeo_engine::machine::{Changes, MachineName, MachineSpec, Refusal};
use mimeo_engine::snapshot::{self, Kind, Manifest};
use mimeo_engine::snapshot_server::{self, ServeRecord};
use mimeo_engine::volumes::VolumeName;
use mimeo_engine::{Cloned, ControlClient, Engine, Exit, Found, MachineId, Selector, SpawnError, garbage};
use mimeo_image::{Inspection, Listing, PullOptions, RemoveError, Removed, Source};
use serde_json::Value;

use super::{
    AttachRequest, Attached, AttachedEnd, Backend, CloneOutcome, Creation, EventReader, FindFailure,
    ForkOutcome, Host, LogReader, MachineFiles, ProcessStream,
};
use crate::commands::image::ImageUsers;
use crate::commands::run::{RunRequest, run_locally};
use crate::commands::{system, version};
use crate::error::CliError;
use crate::interruption::Interruption;
use crate::progress;
use crate::resource_usage::ResourceUsage;

/// podman's exit code of `exec` if the machine does not run, or has no such user.
const EXEC_REFUSED: i32 = 255;
/// podman's exit code of `rm` if the machine is running.
const RUNNING: i32 = 2;
/// podman's exit code of `rmi` if there is no such image.
const NO_SUCH_IMAGE: i32 = 1;
/// podman's exit code of `rmi` if the image is in use.
const IMAGE_IN_USE: i32 = 2;

/// This host.
#[derive(Debug)]
pub(crate) struct LocalBackend {
    engine: Engine,
}

impl LocalBackend {
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

#[async_trait]
impl Backend for LocalBackend {
    fn local_engine(&self) -> Option<&Engine> {
        Some(&self.engine)
    }

    async fn machines(&self) -> Result<Vec<Found>, CliError> {
        Ok(self.engine.registry().list()?)
    }

    async fn find(&self, selector: &Selector) -> Result<Found, FindFailure> {
        Ok(self.engine.registry().find(selector)?)
    }

    async fn read(&self, id: &MachineId) -> Result<Option<Found>, CliError> {
        Ok(self.engine.registry().read(id))
    }

    fn volume_dir(&self, _machine: &Found, name: &VolumeName) -> PathBuf {
        self.engine.volumes().dir(name)
    }

    fn run(self: Arc<Self>, request: RunRequest) -> LocalBoxFuture<'static, Result<i32, CliError>> {
        async move {
            let host: Host = self.clone();
            run_locally(&self.engine, &host, request).await
        }
        .boxed_local()
    }

    fn create(&self, spec: MachineSpec, quiet: bool) -> LocalBoxFuture<'_, Result<Creation, CliError>> {
        async move {
            let options = StartOptions::new(progress::reporter(quiet));
            let mut interruption = Interruption::listen();
            tokio::select! {
                created = create::create(&self.engine, spec, &options) => Ok(Creation::Created(created?.id)),
                // Dropping the creation undoes it.
                signal = interruption.received() => Ok(Creation::Interrupted(signal)),
            }
        }
        .boxed_local()
    }

    async fn start(&self, machine: &Found) -> Result<(), CliError> {
        act::start(&self.engine, machine, None).await.map(drop).map_err(start_error)
    }

    async fn stop(&self, machine: &Found, options: StopOptions) -> Result<(), CliError> {
        Ok(act::stop(&self.engine, machine, options).await?)
    }

    async fn restart(&self, machine: &Found, timeout: Option<u32>) -> Result<(), CliError> {
        act::restart(&self.engine, machine, timeout).await.map(drop).map_err(start_error)
    }

    async fn kill(&self, machine: &Found, signal: i32) -> Result<(), CliError> {
        Ok(act::kill(&self.engine, machine, signal).await?)
    }

    async fn pause(&self, machine: &Found) -> Result<(), CliError> {
        Ok(act::pause(&self.engine, machine).await?)
    }

    async fn unpause(&self, machine: &Found) -> Result<(), CliError> {
        Ok(act::unpause(&self.engine, machine).await?)
    }

    async fn wait(&self, machine: &Found) -> Result<Exit, CliError> {
        Ok(act::wait(&self.engine, machine).await?)
    }

    async fn remove(&self, machine: &Found, force: bool, timeout: Option<u32>) -> Result<(), CliError> {
        match act::remove(&self.engine, machine, force, timeout).await {
            Err(error @ ActError::Refused { refusal: Refusal::Running, .. }) => {
                Err(CliError::from(error).with_code(RUNNING))
            }
            other => Ok(other?),
        }
    }

    async fn remove_unreadable(&self, id: &str) -> Result<(), CliError> {
        Ok(act::remove_unreadable(&self.engine, id)?)
    }

    async fn edit(&self, machine: &Found, changes: &Changes) -> Result<(), CliError> {
        Ok(act::edit(&self.engine, machine, changes).await?)
    }

    async fn exec(&self, machine: &Found, process: ExecProcess) -> Result<(u32, ProcessStream), CliError> {
        let client = ControlClient::connect(self.engine.home(), machine).await.map_err(|error| {
            let code = if matches!(error, ConnectError::NotRunning { .. }) { EXEC_REFUSED } else { 125 };
            CliError::from(error).with_code(code)
        })?;
        match client.guest(Request::Exec(process.in_machine(&machine.record))).await {
            Ok((Reply::Started { pid }, stream)) => Ok((pid, stream.into())),
            Ok((reply, _)) => Err(CliError::usage(format!("unexpected reply from the agent: {reply:?}"))),
            Err(error) => {
                let code = exec_exit_code(&error);
                Err(CliError::from(error).with_code(code))
            }
        }
    }

    async fn attach(&self, machine: &Found, request: AttachRequest) -> Result<Attached, CliError> {
        let mut machine = machine.clone();
        if request.start {
            let client = AttachingClient::own(request.size);
            act::start(&self.engine, &machine, Some(client)).await.map_err(start_error)?;
            let id = Selector::NameOrId(machine.record.id.to_string());
            machine = self.engine.registry().find(&id)?;
        }
        let client = ControlClient::connect(self.engine.home(), &machine).await?;
        let exit = client.watch_exit()?.boxed();
        let stream = client.attach(request.stdin)?.into();
        let end = LocalEnd { engine: self.engine.clone(), machine, client, exit };
        Ok(Attached { stream, end: Box::new(end) })
    }

    async fn log(&self, machine: &Found) -> Result<Box<dyn LogReader>, CliError> {
        Ok(Box::new(log::LocalLog::new(&self.engine, machine)))
    }

    fn files<'a>(
        &'a self,
        machine: &'a Found,
        timeout: Duration,
    ) -> LocalBoxFuture<'a, Result<Box<dyn MachineFiles>, CliError>> {
        async move { Ok(Box::new(act::files::open(&self.engine, machine, timeout).await?) as _) }
            .boxed_local()
    }

    async fn usage(&self, machine: &Found) -> Result<ResourceUsage, CliError> {
        Ok(ResourceUsage::read(&self.engine, machine).await)
    }

    async fn processes(&self, machine: &Found) -> Result<Vec<ProcessInfo>, CliError> {
        let client = ControlClient::connect(self.engine.home(), machine).await?;
        match client.guest(Request::Processes).await?.0 {
            Reply::Processes { processes } => Ok(processes),
            reply => Err(CliError::usage(format!("unexpected reply from the agent: {reply:?}"))),
        }
    }

    async fn images(&self) -> Result<Listing, CliError> {
        Ok(self.engine.images()?.list()?)
    }

    async fn inspect_image(&self, text: &str) -> Result<Option<Inspection>, CliError> {
        Ok(self.engine.images()?.inspect(text)?)
    }

    fn pull<'a>(
        &'a self,
        source: &'a str,
        options: PullOptions,
        quiet: bool,
    ) -> LocalBoxFuture<'a, Result<String, CliError>> {
        async move {
            let source: Source = source.parse()?;
            let pulled = self.engine.images()?.pull(&source, &options, progress::reporter(quiet)).await?;
            Ok(pulled.id.hex())
        }
        .boxed_local()
    }

    async fn remove_image(&self, text: &str, force: bool) -> Result<Removed, CliError> {
        let users = ImageUsers::from_records(self.machines().await?, self.snapshots().await?);
        let removed = self.engine.images()?.remove(text, force, &|image| users.describe(image));
        removed.map_err(remove_image_error)
    }

    async fn snapshots(&self) -> Result<Vec<Manifest>, CliError> {
        let snapshots = self.engine.snapshots().list()?.into_iter();
        Ok(snapshots.map(|snapshot| snapshot.manifest).collect())
    }

    async fn find_snapshot(&self, word: &str) -> Result<Manifest, CliError> {
        Ok(self.engine.snapshots().find(word)?.manifest)
    }

    async fn snapshot_servers(&self) -> Result<Vec<ServeRecord>, CliError> {
        snapshot_server::list(&self.engine).map_err(|source| CliError::io("list the servers", source))
    }

    async fn take_snapshot(
        &self,
        machine: &Found,
        tag: Option<MachineName>,
    ) -> Result<SavedSnapshot, CliError> {
        Ok(act::snapshot(&self.engine, machine, tag, Kind::Snapshot).await?)
    }

    async fn remove_snapshot(&self, word: &str) -> Result<(), CliError> {
        let store = self.engine.snapshots();
        match store.find(word) {
            Ok(found) => garbage::remove(&self.engine, &found)?,
            // A damaged snapshot cannot be read, but it can be removed.
            Err(error) => match snapshot::remove_damaged(&store, word)? {
                true => return Ok(()),
                false => return Err(error.into()),
            },
        };
        Ok(())
    }

    async fn clone_snapshot(
        &self,
        word: &str,
        overrides: Vec<CloneOverrides>,
    ) -> Result<Vec<CloneOutcome>, CliError> {
        let snapshot = self.engine.snapshots().find(word)?;
        let cloned = act::clone(&self.engine, &snapshot.manifest.id, overrides).await;
        Ok(cloned.into_iter().map(CloneOutcome::from).collect())
    }

    async fn fork(&self, machine: &Found, request: ForkRequest) -> Result<ForkOutcome, CliError> {
        let forked = act::fork(&self.engine, machine, request).await?;
        Ok(ForkOutcome {
            snapshot: forked.snapshot,
            pause_micros: forked.pause_micros,
            repeated: forked.repeated,
            clones: forked.clones.into_iter().map(CloneOutcome::from).collect(),
        })
    }

    async fn events(&self, past: bool) -> Result<Box<dyn EventReader>, CliError> {
        Ok(Box::new(events::LocalEvents::new(&self.engine, past)))
    }

    async fn version(&self) -> Result<Value, CliError> {
        Ok(version::local_fields(&self.engine))
    }

    async fn info(&self) -> Result<Value, CliError> {
        system::info::local_info(&self.engine)
    }
}

/// The end of a machine that this process is attached to.
struct LocalEnd {
    engine: Engine,
    machine: Found,
    client: ControlClient,
    exit: futures_util::future::BoxFuture<'static, Result<Exit, ControlError>>,
}

#[async_trait]
impl AttachedEnd for LocalEnd {
    async fn exit(&mut self) -> Result<Exit, CliError> {
        Ok((&mut self.exit).await?)
    }

    async fn finish(self: Box<Self>) -> Result<(), CliError> {
        let Self { engine, machine, client, exit } = *self;
        // The supervisor ends this session before it removes a machine with --rm.
        drop((exit, client));
        Ok(act::wait_until_finished(&engine, &machine).await?)
    }
}

impl From<Cloned> for CloneOutcome {
    fn from(cloned: Cloned) -> Self {
        let text = cloned.to_string();
        Self { requested: cloned.requested, outcome: cloned.outcome.map_err(|_| text) }
    }
}

/// The error, with the exit code that `run` would have for it.
fn start_error(error: ActError) -> CliError {
    let code = match &error {
        ActError::Start { source: SpawnError::Failed(failure), .. } => failure.code,
        _ => 125,
    };
    CliError::from(error).with_code(code)
}

fn exec_exit_code(error: &ControlError) -> i32 {
    match error {
        ControlError::Refused { .. } => EXEC_REFUSED,
        ControlError::Guest { failure, .. } => match failure.kind {
            FailureKind::CommandNotFound => 127,
            FailureKind::CommandNotExecutable => 126,
            FailureKind::WrongState | FailureKind::UnknownUser => EXEC_REFUSED,
            _ => 125,
        },
        _ => 125,
    }
}

/// Converts the error to podman's message and exit code.
fn remove_image_error(error: RemoveError) -> CliError {
    match error {
        RemoveError::NotFound { text } => {
            CliError::usage(format!("{text}: image not known")).with_code(NO_SUCH_IMAGE)
        }
        RemoveError::InUse { text, user } => {
            CliError::usage(format!("image {text} used by {user}: image is in use by a container"))
                .with_code(IMAGE_IN_USE)
        }
        other => CliError::from(other),
    }
}
