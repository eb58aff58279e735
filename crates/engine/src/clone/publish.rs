//! A copy's published ports.

use mimeo_net::PortMapping;
use mimeo_vmm::{Instance, OperationError};

use crate::create::StageError;
use crate::create::launched::forward;
use crate::create::networked::settle;
use crate::machine::NetworkRecord;
use crate::network::Connection;

/// Tries for a port that may be any: somebody may take one between our choice
/// and the monitor's.
const TRIES: u32 = 5;

/// Publishes all ports, and notes where they are now.
pub(super) async fn publish(
    instance: &mut dyn Instance,
    connection: &mut Connection,
    network: &mut NetworkRecord,
) -> Result<(), StageError> {
    if connection.publishes() {
        let held = network.ports.iter_mut().map(settle).collect::<Result<_, _>>()?;
        return connection.publish(&network.ports, held);
    }
    for port in &mut network.ports {
        publish_one(instance, port, network.ip).await?;
    }
    Ok(())
}

async fn publish_one(
    instance: &mut dyn Instance,
    port: &mut PortMapping,
    guest: std::net::Ipv4Addr,
) -> Result<(), StageError> {
    let any = port.host_port.is_none();
    for left in (0..TRIES).rev() {
        drop(settle(port)?);
        match instance.publish(&forward(port), guest).await {
            Err(OperationError::Refused { .. }) if any && left > 0 => port.host_port = None,
            other => return Ok(other?),
        }
    }
    Ok(())
}
