//! Publishes a clone's ports.

use mimeo_net::PortMapping;
use mimeo_vmm::{Instance, OperationError};

use crate::create::Vm;
use crate::launch_spec::forward;
use crate::machine::NetworkRecord;
use crate::network::reserve_port;
use crate::stage::StageError;

/// Attempts to publish a port whose number mimeo chooses: another process may take it before the VMM binds it.
const MAX_TRIES: u32 = 5;

/// Publishes all ports, and records their host ports in `network`.
pub(super) async fn publish(vm: &mut Vm, network: &mut NetworkRecord) -> Result<(), StageError> {
    if vm.connection.publishes() {
        let reserved = network.ports.iter_mut().map(reserve_port).collect::<Result<_, _>>()?;
        return vm.connection.publish(&network.ports, reserved);
    }
    for port in &mut network.ports {
        publish_one(vm.instance.as_mut(), port, network.ip).await?;
    }
    Ok(())
}

/// Has the VMM publish a port, and records its host port in the mapping.
pub(crate) async fn publish_one(
    instance: &mut dyn Instance,
    port: &mut PortMapping,
    guest: std::net::Ipv4Addr,
) -> Result<(), StageError> {
    let any_port = port.host_port.is_none();
    for tries_left in (0..MAX_TRIES).rev() {
        // Chooses and checks the port, and releases it for the VMM to bind.
        drop(reserve_port(port)?);
        match instance.publish(&forward(port), guest).await {
            Err(OperationError::Refused { .. }) if any_port && tries_left > 0 => port.host_port = None,
            other => return Ok(other?),
        }
    }
    Ok(())
}
