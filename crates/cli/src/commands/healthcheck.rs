//! `mimeo healthcheck run`: runs a machine's health check once.

use bytes::Bytes;
use mimeo_agent_protocol::link::{Item, Stream};
use mimeo_agent_protocol::message::{Process, Reply, Request};
use mimeo_engine::health::effective_health;
use mimeo_engine::machine::{Found, HealthProbe, HealthSpec, Phase};
use mimeo_engine::{ControlClient, Engine};
use tokio::time::timeout;

use super::select::Machine;
use crate::error::CliError;
use crate::output;

/// Commands for health checks.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Run a machine's health check once: the exit code is 0 if it succeeds, and 1 if it fails
    Run(Args),
}

/// Arguments of `mimeo healthcheck run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    machine: Machine,
}

/// Runs the check and prints `unhealthy` if it fails. The machine's status does not change.
pub(crate) async fn run(engine: &Engine, verb: Verb) -> Result<i32, CliError> {
    let Verb::Run(args) = verb;
    let found = args.machine.find(engine)?;
    let name = &found.record.name;
    if found.record.phase() != Phase::Running {
        return Err(CliError::usage(format!("machine {name} is not running")));
    }
    let Some(spec) = health_spec(engine, &found)? else {
        return Err(CliError::usage(format!("machine {name} has no defined healthcheck")));
    };
    let client = ControlClient::connect(engine.home(), &found).await?;
    let healthy = match timeout(spec.timeout, probe(&client, &found, &spec)).await {
        Ok(outcome) => outcome?,
        Err(_) => false,
    };
    if !healthy {
        output::line("unhealthy")?;
    }
    Ok(i32::from(!healthy))
}

fn health_spec(engine: &Engine, found: &Found) -> Result<Option<HealthSpec>, CliError> {
    let id = found.record.image.as_ref().map(|image| image.id.as_str()).unwrap_or_default();
    let image = engine.images()?.find(id)?;
    Ok(effective_health(&found.record.spec, &image.map(|image| image.config).unwrap_or_default()))
}

async fn probe(client: &ControlClient, found: &Found, spec: &HealthSpec) -> Result<bool, CliError> {
    match &spec.probe {
        HealthProbe::Url(url) => {
            let timeout_ms = spec.timeout.as_millis() as u64;
            let reply = client.guest(Request::Probe { url: url.clone(), timeout_ms }).await;
            Ok(matches!(reply, Ok((Reply::Probed { status: 200..=399 }, _))))
        }
        HealthProbe::Command(args) => {
            let process = Process { args: args.clone(), ..found.record.exec_defaults() };
            match client.guest(Request::Exec(process)).await {
                Ok((_, stream)) => succeeds(stream).await,
                // The command does not exist, for example.
                Err(mimeo_engine::control::ControlError::Guest { .. }) => Ok(false),
                Err(error) => Err(error.into()),
            }
        }
    }
}

/// Whether the command exits with 0. Its output is not shown.
async fn succeeds(mut stream: Stream) -> Result<bool, CliError> {
    while let Some(item) = stream.receiver.next().await? {
        if let Item::Message(json) = item
            && let Some(code) = exit_code(&json)
        {
            return Ok(code == 0);
        }
    }
    Ok(false)
}

fn exit_code(json: &Bytes) -> Option<i32> {
    match serde_json::from_slice(json) {
        Ok(Reply::Exited { status }) => Some(status.shell_code()),
        _ => None,
    }
}
