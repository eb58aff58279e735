//! A manager's host, over HTTP.

mod error;
mod events;
mod files;
mod http;
mod log;
mod messages;
mod run;
mod socket;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use mimeo_agent_protocol::message::ProcessInfo;
use mimeo_engine::act::{ActError, ExecProcess, ForkRequest, StopOptions};
use mimeo_engine::control::{SavedSnapshot, StopPurpose};
use mimeo_engine::launch_request::{CloneInfo, CloneOverrides};
use mimeo_engine::machine::{Action, Changes, MachineName, MachineSpec, Phase, decide};
use mimeo_engine::snapshot::Manifest;
use mimeo_engine::snapshot_server::ServeRecord;
use mimeo_engine::volumes::VolumeName;
use mimeo_engine::{
    Engine, Exit, FindError, Found, HostUsage, MachineId, Record, Selector, SnapshotId, signal,
};
use mimeo_image::{Inspection, Listing, PullOptions, Removed};
use mimeo_manager::convert::{MachineRecord, port_request};
use mimeo_manager_api as api;
use mimeo_net::{PortMapping, Protocol};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

pub(crate) use error::RemoteError;
use http::{Http, NO_BODY, encode};
use messages::{CloneResults, Figures, StartAttached, TakenSnapshot};

use super::target::Target;
use super::{
    AttachRequest, Attached, Backend, CloneOutcome, Creation, EventReader, FindFailure, ForkOutcome, Host,
    LogReader, MachineFiles, ProcessStream,
};
use crate::commands::run::RunRequest;
use crate::error::CliError;
use crate::resource_usage::{ResourceUsage, Source};

/// podman's exit code of `rm` if the machine is running, and of `rmi` if the image is in use.
const IN_USE: i32 = 2;
/// podman's exit code of `rmi` if there is no such image.
const NO_SUCH_IMAGE: i32 = 1;

/// A manager's host.
#[derive(Debug, Clone)]
pub(crate) struct RemoteBackend {
    http: Arc<Http>,
    /// Whether the manager is on this host, whose files it sees.
    is_this_host: bool,
}

impl RemoteBackend {
    pub(crate) fn new(target: &Target) -> Result<Self, CliError> {
        Ok(Self { http: Arc::new(Http::new(target)?), is_this_host: target.address.is_this_host() })
    }

    /// Carries out an operation on a machine.
    async fn act(&self, machine: &Found, verb: &str, body: Option<&Value>) -> Result<(), RemoteError> {
        let path = format!("{}/{verb}", path_of(machine));
        self.http.operate(Method::POST, &path, body).await.map(drop)
    }

    /// Parses the result of an operation.
    fn result<T: serde::de::DeserializeOwned>(&self, operation: api::Operation) -> Result<T, RemoteError> {
        let result = operation.result.unwrap_or_default();
        serde_json::from_value(result).map_err(|error| self.http.answer(error.to_string()))
    }

    async fn start_clones(
        &self,
        path: &str,
        overrides: &[CloneOverrides],
        key: Option<String>,
    ) -> Result<CloneResults, RemoteError> {
        let operation = self.http.operate_once(path, &clones(overrides), key).await?;
        self.result(operation)
    }
}

#[async_trait]
impl Backend for RemoteBackend {
    fn local_engine(&self) -> Option<&Engine> {
        None
    }

    async fn machines(&self) -> Result<Vec<Found>, CliError> {
        let records: Vec<MachineRecord> = self.http.items("/v1/records/machines?limit=1000").await?;
        Ok(records.into_iter().map(Found::from).collect())
    }

    async fn find(&self, selector: &Selector) -> Result<Found, FindFailure> {
        let Selector::NameOrId(word) = selector else {
            let error = "cannot select a machine on a remote host by a process id: processes are numbered by each host";
            return Err(FindFailure::Other(CliError::usage(error)));
        };
        let none = || FindFailure::from(FindError::None(selector.clone()));
        if word.is_empty() {
            return Err(none());
        }
        match self.http.item::<MachineRecord>(&format!("/v1/records/machines/{}", encode(word))).await {
            Ok(record) => Ok(record.into()),
            Err(error) if is_gone(&error) => Err(none()),
            Err(error) => Err(FindFailure::Other(error.into())),
        }
    }

    async fn read(&self, id: &MachineId) -> Result<Option<Found>, CliError> {
        match self.find(&Selector::NameOrId(id.to_string())).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_none() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn volume_dir(&self, machine: &Found, name: &VolumeName) -> PathBuf {
        // A home has the directories machines/ID and volumes/NAME.
        let home = machine.dir.ancestors().nth(2).unwrap_or(&machine.dir);
        home.join("volumes").join(name)
    }

    fn run(self: Arc<Self>, request: RunRequest) -> LocalBoxFuture<'static, Result<i32, CliError>> {
        async move {
            let host: Host = self.clone();
            run::run(&self, &host, request).await
        }
        .boxed_local()
    }

    fn create(&self, spec: MachineSpec, _quiet: bool) -> LocalBoxFuture<'_, Result<Creation, CliError>> {
        async move { run::create(self, &spec, false).await }.boxed_local()
    }

    async fn start(&self, machine: &Found) -> Result<(), CliError> {
        self.act(machine, "start", None).await.map_err(start_error)
    }

    async fn stop(&self, machine: &Found, options: StopOptions) -> Result<(), CliError> {
        if options.purpose == StopPurpose::Reboot {
            return Err(CliError::usage(
                "cannot stop machines for a reboot of a remote host: run `mimeo stop --for-reboot` there",
            ));
        }
        Ok(self.act(machine, &format!("stop{}", timeout_query(options.timeout)), None).await?)
    }

    async fn restart(&self, machine: &Found, timeout: Option<u32>) -> Result<(), CliError> {
        let verb = format!("restart{}", timeout_query(timeout));
        self.act(machine, &verb, None).await.map_err(start_error)
    }

    async fn kill(&self, machine: &Found, signal: i32) -> Result<(), CliError> {
        let path = format!("{}/kill", path_of(machine));
        let body = json!({ "signal": signal::name(signal) });
        self.http.call::<Value>(Method::POST, &path, Some(&body)).await?;
        Ok(())
    }

    async fn pause(&self, machine: &Found) -> Result<(), CliError> {
        Ok(self.act(machine, "pause", None).await?)
    }

    async fn unpause(&self, machine: &Found) -> Result<(), CliError> {
        Ok(self.act(machine, "resume", None).await?)
    }

    async fn wait(&self, machine: &Found) -> Result<Exit, CliError> {
        let path = format!("{}/wait?state=exited,deleted,failed&timeout=300", path_of(machine));
        loop {
            let item: api::Machine = self.http.item(&path).await?;
            if let Some(api::Exit { code, out_of_memory, error }) = item.exit {
                return Ok(Exit { code, out_of_memory, error });
            }
            if matches!(item.state, api::MachineState::Deleted | api::MachineState::Failed) {
                let name = &machine.record.name;
                return Err(CliError::usage(format!(
                    "machine {name} no longer exists: it was removed, or its creation failed"
                )));
            }
        }
    }

    async fn remove(&self, machine: &Found, force: bool, timeout: Option<u32>) -> Result<(), CliError> {
        if !force {
            // The manager removes a machine in any state.
            let phase = self.read(&machine.record.id).await?.map(|machine| machine.record.phase());
            refuse_live(machine, phase)?;
        }
        let path = format!("{}{}", path_of(machine), timeout_query(timeout));
        self.http.operate(Method::DELETE, &path, NO_BODY).await?;
        Ok(())
    }

    async fn remove_unreadable(&self, id: &str) -> Result<(), CliError> {
        Err(CliError::usage(format!(
            "cannot remove machine {id} on a remote host: its record cannot be read: run `mimeo rm --force {id}` there"
        )))
    }

    async fn edit(&self, machine: &Found, changes: &Changes) -> Result<(), CliError> {
        self.http.call::<Value>(Method::PATCH, &path_of(machine), Some(&patch(changes))).await?;
        Ok(())
    }

    async fn exec(&self, machine: &Found, process: ExecProcess) -> Result<(u32, ProcessStream), CliError> {
        let (rows, columns) = process.terminal.map(|size| (size.rows, size.cols)).unzip();
        let request = api::ExecRequest {
            command: process.command,
            env: process.env,
            workdir: process.workdir,
            user: process.user,
            privileged: process.privileged,
            tty: process.terminal.is_some(),
            interactive: process.stdin,
            rows,
            columns,
            ..api::ExecRequest::default()
        };
        let opened = socket::open(&self.http, &format!("{}/exec", path_of(machine)), &request).await;
        let opened = opened.map_err(|error| {
            let code = error.exec_exit_code();
            CliError::from(error).with_code(code)
        })?;
        Ok((opened.pid.unwrap_or_default(), opened.stream))
    }

    async fn attach(&self, machine: &Found, request: AttachRequest) -> Result<Attached, CliError> {
        let (rows, columns) = request.size.map(|size| (size.rows, size.cols)).unzip();
        let message = StartAttached { stdin: request.stdin, start: request.start, rows, columns };
        let opened = socket::open(&self.http, &format!("{}/attach", path_of(machine)), &message).await;
        let socket::RemoteProcess { stream, exit, .. } = opened.map_err(start_error)?;
        let end = run::RemoteEnd { remote: self.clone(), machine: machine.clone(), exit: Some(exit) };
        Ok(Attached { stream, end: Box::new(end) })
    }

    async fn log(&self, machine: &Found) -> Result<Box<dyn LogReader>, CliError> {
        Ok(Box::new(log::RemoteLog::new(self, machine.record.id.as_str())))
    }

    fn files<'a>(
        &'a self,
        machine: &'a Found,
        _timeout: Duration,
    ) -> LocalBoxFuture<'a, Result<Box<dyn MachineFiles>, CliError>> {
        async move { Ok(Box::new(files::RemoteFiles::new(self, machine.record.id.as_str())) as _) }
            .boxed_local()
    }

    async fn usage(&self, machine: &Found) -> Result<ResourceUsage, CliError> {
        let figures: Figures = self.http.item(&format!("{}/metrics", path_of(machine))).await?;
        Ok(usage(&machine.record, figures))
    }

    async fn processes(&self, machine: &Found) -> Result<Vec<ProcessInfo>, CliError> {
        let path = format!("{}/top", path_of(machine));
        Ok(self.http.call::<api::Items<ProcessInfo>>(Method::GET, &path, NO_BODY).await?.items)
    }

    async fn images(&self) -> Result<Listing, CliError> {
        let images = self.http.items("/v1/records/images").await?;
        Ok(Listing { images, ..Listing::default() })
    }

    async fn inspect_image(&self, text: &str) -> Result<Option<Inspection>, CliError> {
        match self.http.item(&format!("/v1/records/images/{}", encode(text))).await {
            Ok(inspection) => Ok(Some(inspection)),
            Err(error) if matches!(error.code(), Some("not-found" | "image-not-found")) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn pull<'a>(
        &'a self,
        source: &'a str,
        options: PullOptions,
        _quiet: bool,
    ) -> LocalBoxFuture<'a, Result<String, CliError>> {
        async move { run::pull(self, source, &options).await }.boxed_local()
    }

    async fn remove_image(&self, text: &str, force: bool) -> Result<Removed, CliError> {
        let path = format!("/v1/images/{}?force={force}", encode(text));
        let removed = self.http.call::<api::Item<Removed>>(Method::DELETE, &path, NO_BODY).await;
        Ok(removed.map_err(|error| remove_image_error(text, error))?.item)
    }

    async fn snapshots(&self) -> Result<Vec<Manifest>, CliError> {
        Ok(self.http.items("/v1/records/snapshots").await?)
    }

    async fn find_snapshot(&self, word: &str) -> Result<Manifest, CliError> {
        Ok(self.http.item(&format!("/v1/records/snapshots/{}", encode(word))).await?)
    }

    async fn snapshot_servers(&self) -> Result<Vec<ServeRecord>, CliError> {
        // They are processes that a user of that host has started; its manager has no part in them.
        Ok(Vec::new())
    }

    async fn take_snapshot(
        &self,
        machine: &Found,
        tag: Option<MachineName>,
    ) -> Result<SavedSnapshot, CliError> {
        let path = format!("{}/snapshots", path_of(machine));
        let operation = self.http.operate(Method::POST, &path, Some(&json!({ "tag": tag }))).await?;
        let id = operation.resource.id;
        let taken: TakenSnapshot = self.http.item(&format!("/v1/snapshots/{}", encode(&id))).await?;
        Ok(SavedSnapshot {
            snapshot: SnapshotId::try_from(id)?,
            pause_micros: micros(taken.pause_ms),
            memory_bytes: taken.memory_bytes,
        })
    }

    async fn remove_snapshot(&self, word: &str) -> Result<(), CliError> {
        self.http.call::<Value>(Method::DELETE, &format!("/v1/snapshots/{}", encode(word)), NO_BODY).await?;
        Ok(())
    }

    async fn clone_snapshot(
        &self,
        word: &str,
        overrides: Vec<CloneOverrides>,
    ) -> Result<Vec<CloneOutcome>, CliError> {
        let path = format!("/v1/snapshots/{}/instantiate", encode(word));
        let results = self.start_clones(&path, &overrides, None).await?;
        Ok(outcomes(results, &overrides))
    }

    async fn fork(&self, machine: &Found, request: ForkRequest) -> Result<ForkOutcome, CliError> {
        let path = format!("{}/fork", path_of(machine));
        let results = self.start_clones(&path, &request.overrides, request.key).await?;
        let snapshot = results.clones.iter().find_map(|clone| clone.machine.as_ref()?.snapshot.clone());
        Ok(ForkOutcome {
            snapshot: SnapshotId::try_from(snapshot.unwrap_or_default())?,
            pause_micros: micros(results.pause_ms),
            // The manager answers a repeated request as it has answered the first one.
            repeated: false,
            clones: outcomes(results, &request.overrides),
        })
    }

    async fn events(&self, past: bool) -> Result<Box<dyn EventReader>, CliError> {
        Ok(Box::new(events::RemoteEvents::open(self, past).await?))
    }

    async fn version(&self) -> Result<Value, CliError> {
        Ok(self.host_info().await?.version)
    }

    async fn info(&self) -> Result<Value, CliError> {
        Ok(self.host_info().await?.info)
    }
}

/// What `mimeo version` and `mimeo info` show of a host.
#[derive(Debug, Deserialize)]
struct HostInfo {
    version: Value,
    info: Value,
}

impl RemoteBackend {
    async fn host_info(&self) -> Result<HostInfo, RemoteError> {
        self.http.item("/v1/records/host").await
    }
}

/// A machine's path in the API.
fn path_of(machine: &Found) -> String {
    format!("/v1/containers/{}", machine.record.id)
}

/// Whether there is no such machine, or it has gone or was never created.
fn is_gone(error: &RemoteError) -> bool {
    matches!(error.code(), Some("not-found" | "machine-deleted" | "machine-failed"))
}

/// A machine's usage, as `stats` shows it.
fn usage(record: &Record, figures: Figures) -> ResourceUsage {
    let guest = figures.guest.as_ref();
    ResourceUsage {
        source: figures.source,
        at: figures.time,
        // The VMM's CPU time includes the guest's boot.
        started: record
            .times
            .started
            .filter(|_| figures.source == Source::Agent)
            .unwrap_or(record.times.created),
        cpu_micros: figures.cpu_micros,
        memory_bytes: figures.memory_bytes,
        memory_limit_bytes: figures.memory_limit_bytes,
        network: guest.map(|guest| (guest.network_received_bytes, guest.network_sent_bytes)),
        disk: guest.map(|guest| (guest.disk_read_bytes, guest.disk_written_bytes)),
        processes: figures.processes,
        host: HostUsage { vmm: figures.vmm, supervisor: figures.supervisor },
    }
}

/// Refuses to remove a machine that is not over, as this host's engine does.
fn refuse_live(machine: &Found, phase: Option<Phase>) -> Result<(), CliError> {
    let refused = match phase.map(|phase| decide(phase, Action::Remove { force: false })) {
        Some(Err(refusal)) => ActError::Refused { name: machine.record.name.clone(), refusal },
        Some(Ok(_)) | None => return Ok(()),
    };
    Err(CliError::from(refused).with_code(IN_USE))
}

fn timeout_query(timeout: Option<u32>) -> String {
    timeout.map(|timeout| format!("?timeout={timeout}")).unwrap_or_default()
}

/// The error of a start, with podman's exit code.
fn start_error(error: RemoteError) -> CliError {
    let code = error.start_exit_code();
    CliError::from(error).with_code(code)
}

/// Converts the error to podman's message and exit code.
fn remove_image_error(text: &str, error: RemoteError) -> CliError {
    match error.code() {
        Some("not-found" | "image-not-found") => {
            CliError::usage(format!("{text}: image not known")).with_code(NO_SUCH_IMAGE)
        }
        Some("image-in-use") => CliError::from(error).with_code(IN_USE),
        _ => error.into(),
    }
}

fn micros(ms: Option<f64>) -> u64 {
    // A number of milliseconds that is not negative.
    (ms.unwrap_or_default() * 1000.0) as u64
}

/// The request for clones. The command line gives all clones the same ports and environment.
fn clones(overrides: &[CloneOverrides]) -> Value {
    let names: Vec<_> = overrides.iter().filter_map(|overrides| overrides.name.as_ref()).collect();
    let first = overrides.first().cloned().unwrap_or_default();
    let ports: Vec<_> = first.ports.iter().flatten().map(port_request).collect();
    json!({ "count": overrides.len(), "names": names, "env": first.env, "ports": ports, "remove": first.remove })
}

fn outcomes(results: CloneResults, overrides: &[CloneOverrides]) -> Vec<CloneOutcome> {
    let outcome = |(at, result): (usize, messages::CloneResult)| {
        let name = overrides.get(at).and_then(|overrides| overrides.name.as_ref());
        let requested = name.map_or_else(|| at.to_string(), ToString::to_string);
        let error = || {
            format!("{requested}: {}", result.problem.map(|problem| problem.to_string()).unwrap_or_default())
        };
        let outcome = result
            .machine
            .map_or_else(|| Err(error()), |machine| clone_info(machine).map_err(|error| error.to_string()));
        CloneOutcome { requested, outcome }
    };
    results.clones.into_iter().enumerate().map(outcome).collect()
}

/// A clone, as `fork` and `snapshot run` print it.
fn clone_info(machine: api::Machine) -> Result<CloneInfo, CliError> {
    let network = machine.network.as_ref();
    Ok(CloneInfo {
        id: machine.id,
        name: machine.name.parse()?,
        pid: machine.supervisor_pid.unwrap_or_default(),
        vm_generation: machine.vm_generation.unwrap_or_default(),
        ip: network.and_then(|network| network.ip.parse().ok()),
        ports: network
            .map(|network| network.ports.iter().map(port_mapping).collect())
            .transpose()?
            .unwrap_or_default(),
        stages: machine.stages.into_iter().map(|stage| (stage.name, stage.ms)).collect(),
    })
}

fn port_mapping(port: &api::PublishedPort) -> Result<PortMapping, CliError> {
    Ok(PortMapping {
        host_ip: port.host_ip.parse()?,
        host_port: port.host_port,
        guest_port: port.container_port,
        protocol: if port.protocol == "udp" { Protocol::Udp } else { Protocol::Tcp },
    })
}

/// The fields that a change sets.
fn patch(changes: &Changes) -> Value {
    let cpus = changes.cpus.map(|cpus| match changes.nano_cpus {
        Some(nanos) => nanos as f64 / 1e9,
        None => f64::from(cpus),
    });
    let fields: BTreeMap<&str, Value> = [
        ("name", changes.name.as_ref().map(|name| json!(name))),
        ("labels", (!changes.labels.is_empty()).then(|| json!(changes.labels))),
        ("restart", changes.restart.map(|policy| json!(mimeo_manager::convert::restart_request(policy)))),
        ("cpus", cpus.map(|cpus| json!(cpus))),
        ("memory_mib", changes.memory_mib.map(|mib| json!(mib))),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect();
    json!(fields)
}
