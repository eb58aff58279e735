//! Publishes and withdraws ports of a running machine.

use mimeo_net::PortMapping;

use super::ActError;
use crate::Engine;
use crate::control::{ControlClient, ControlRequest};
use crate::machine::{Action, Found, decide};

/// Publishes one more port of a running machine, also from its next start on. Returns it with its host port.
///
/// # Errors
/// If the machine does not run or has no network, or the host's port cannot be used.
pub async fn publish(engine: &Engine, machine: &Found, port: PortMapping) -> Result<PortMapping, ActError> {
    change(engine, machine, &ControlRequest::Publish { port }).await
}

/// Withdraws a published port of a running machine. Connections that exist continue. Returns the port.
///
/// # Errors
/// If the machine does not run, or the port is not published.
pub async fn unpublish(engine: &Engine, machine: &Found, port: PortMapping) -> Result<PortMapping, ActError> {
    change(engine, machine, &ControlRequest::Unpublish { port }).await
}

async fn change(engine: &Engine, machine: &Found, request: &ControlRequest) -> Result<PortMapping, ActError> {
    if machine.supervised {
        let refused = |refusal| ActError::Refused { name: machine.record.name.clone(), refusal };
        decide(machine.record.phase(), Action::Enter).map_err(refused)?;
    }
    let client = ControlClient::connect(engine.home(), machine).await?;
    Ok(client.change_port(request).await?)
}
