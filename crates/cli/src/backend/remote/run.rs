//! New machines on a manager's host, and the ends of those that this process is attached to.

use async_trait::async_trait;
use mimeo_engine::machine::MachineSpec;
use mimeo_engine::{Exit, MachineId};
use mimeo_image::PullOptions;
use mimeo_manager::convert::{create_machine, needs_host_access};
use mimeo_manager_api as api;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::oneshot;

use super::http::Outcome;
use super::{RemoteBackend, start_error};
use crate::backend::{AttachedEnd, Backend, Creation, Host};
use crate::commands::attach::{self, AttachOptions};
use crate::commands::run::{RunRequest, warn_about_terminal};
use crate::error::CliError;
use crate::interruption::Interruption;
use crate::output;
use crate::view::bare_id;

/// Runs a machine: in the background, or attached to it.
pub(super) async fn run(remote: &RemoteBackend, host: &Host, request: RunRequest) -> Result<i32, CliError> {
    let RunRequest { spec, files, detach, options, .. } = request;
    let created = match files.refuse_process_ids("on a remote host: its processes have no ids here") {
        Ok(()) => create(remote, &spec, detach).await,
        Err(error) => Err(error),
    };
    let id = match created.inspect_err(|_| files.give_up())? {
        Creation::Created(id) => id,
        Creation::Interrupted(signal) => {
            files.give_up();
            return Ok(128 + signal);
        }
    };
    files.write(id.as_str(), None)?;
    if detach || options.output.is_empty() {
        output::line(id.as_str())?;
    }
    if detach {
        return Ok(0);
    }
    warn_about_terminal(&spec);
    start_attached(host, &id, options).await
}

/// Starts a machine that was created for this process, and attaches to it.
async fn start_attached(host: &Host, id: &MachineId, options: AttachOptions) -> Result<i32, CliError> {
    let gone = || CliError::usage(format!("machine {} was removed", id.short()));
    let machine = host.read(id).await?.ok_or_else(gone)?;
    let options = AttachOptions { start: true, ..options };
    let mut interruption = Interruption::listen();
    let opened = tokio::select! {
        opened = attach::open(host, &machine, &options) => opened,
        signal = interruption.received() => {
            host.remove(&machine, true, None).await?;
            return Ok(128 + signal);
        }
    };
    match opened {
        Ok(attached) => attach::forward(&machine, attached, options).await,
        Err(error) => {
            // As on this host: nothing is left of a machine that did not start.
            host.remove(&machine, true, None).await?;
            Err(error)
        }
    }
}

/// Creates a machine, and starts it if requested. A signal cancels that.
pub(super) async fn create(
    remote: &RemoteBackend,
    spec: &MachineSpec,
    start: bool,
) -> Result<Creation, CliError> {
    let body = api::CreateMachine { start: Some(start), ..create_machine(spec) };
    refuse_host_files(remote, &body)?;
    let outcome = remote.http.operate_interruptibly("/v1/containers", &body).await.map_err(start_error)?;
    Ok(match outcome {
        Outcome::Finished(operation) => Creation::Created(MachineId::try_from(operation.resource.id)?),
        Outcome::Interrupted(signal) => Creation::Interrupted(signal),
    })
}

/// Refuses files of this host that the manager's host does not have.
fn refuse_host_files(remote: &RemoteBackend, request: &api::CreateMachine) -> Result<(), CliError> {
    if remote.is_this_host {
        return Ok(());
    }
    let message = match needs_host_access(request) {
        None => return Ok(()),
        Some("image") => {
            "cannot use an image of this host's files on a remote host: push it to a registry, and give its name there, or use the manager's Unix socket if it is on this host"
        }
        Some("volumes") => {
            "cannot mount a directory of this host on a remote host: use a named volume, and copy files with `mimeo cp`"
        }
        Some(_) => {
            "cannot use --authfile on a remote host: log in there, or pull the image with --creds before"
        }
    };
    Err(CliError::usage(message))
}

/// An image of the manager's store.
#[derive(Debug, Deserialize)]
struct Pulled {
    id: String,
}

/// Pulls an image; returns the digits of its id.
pub(super) async fn pull(
    remote: &RemoteBackend,
    source: &str,
    options: &PullOptions,
) -> Result<String, CliError> {
    let access = &options.registry;
    let auth = access.credentials.as_ref().map(|credentials| api::RegistryAuth {
        username: credentials.user.clone(),
        password: credentials.password.clone(),
    });
    let registry = api::Registry {
        insecure: access.insecure_registries.clone(),
        tls_verify: access.skip_tls_verification.then_some(false),
        auth,
        auth_file: access.auth_file.as_ref().map(|file| file.to_string_lossy().into_owned()),
    };
    let checked = api::CreateMachine {
        image: Some(source.to_owned()),
        registry: Some(registry.clone()),
        ..api::CreateMachine::default()
    };
    refuse_host_files(remote, &checked)?;
    let body = json!({ "reference": source, "registry": registry });
    let operation = remote.http.operate(Method::POST, "/v1/images/pull", Some(&body)).await?;
    let image: Pulled = remote.result(operation)?;
    Ok(bare_id(&image.id).to_owned())
}

/// The end of a machine that this process is attached to.
pub(super) struct RemoteEnd {
    pub(super) remote: RemoteBackend,
    pub(super) machine: mimeo_engine::Found,
    pub(super) exit: Option<oneshot::Receiver<i32>>,
}

#[async_trait]
impl AttachedEnd for RemoteEnd {
    async fn exit(&mut self) -> Result<Exit, CliError> {
        let reported = match self.exit.take() {
            Some(exit) => exit.await.ok(),
            None => None,
        };
        match reported {
            Some(code) => Ok(Exit { code, out_of_memory: false, error: None }),
            // The connection was lost before.
            None => self.remote.wait(&self.machine).await,
        }
    }

    async fn finish(self: Box<Self>) -> Result<(), CliError> {
        // The manager reports the exit when the machine is cleaned up.
        Ok(())
    }
}
