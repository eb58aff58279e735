//! Publishes and withdraws ports while the machine runs.

use mimeo_net::PortMapping;

use super::machine::Machine;
use crate::cause::chain;
use crate::clone::publish_one;
use crate::control::ControlReply;
use crate::launch_request::StartFailureKind;
use crate::launch_spec::forward;
use crate::machine::{Action, decide};
use crate::network::reserve_port;
use crate::stage::StageError;

impl Machine {
    /// Publishes one more port.
    pub(super) async fn publish(&mut self, mut port: PortMapping) -> ControlReply {
        let requested = port;
        if let Some(refused) = self.refuse_ports() {
            return refused;
        }
        if let Err(error) = self.publish_on_host(&mut port).await {
            return ControlReply::NotPublished { kind: error.kind(), message: chain(&error) };
        }
        let record = &mut self.guest.claim.record;
        if let Some(network) = &mut record.network {
            network.ports.push(port);
        }
        record.spec.ports.push(requested);
        self.store_ports(port)
    }

    /// Withdraws a published port.
    pub(super) async fn unpublish(&mut self, port: PortMapping) -> ControlReply {
        if let Some(refused) = self.refuse_ports() {
            return refused;
        }
        let ports = self.record().network.as_ref().map(|network| network.ports.clone()).unwrap_or_default();
        let Some(at) = ports.iter().position(|other| is_same(other, &port)) else {
            let host_port = port.host_port.unwrap_or_default();
            let message = format!("port {}:{host_port}/{} is not published", port.host_ip, port.protocol);
            return ControlReply::NotPublished { kind: StartFailureKind::Invalid, message };
        };
        let port = ports[at];
        if let Err(error) = self.withdraw_from_host(&port).await {
            return ControlReply::NotPublished { kind: error.kind(), message: chain(&error) };
        }
        let record = &mut self.guest.claim.record;
        if let Some(network) = &mut record.network {
            network.ports.remove(at);
        }
        let is_it = |other: &PortMapping| {
            (other.guest_port, other.protocol) == (port.guest_port, port.protocol)
                && other.host_ip == port.host_ip
                && other.host_port.is_none_or(|host| Some(host) == port.host_port)
        };
        // A port that the image exposes is not in the spec.
        if let Some(at) = record.spec.ports.iter().position(is_it) {
            record.spec.ports.remove(at);
        }
        self.store_ports(port)
    }

    fn refuse_ports(&self) -> Option<ControlReply> {
        match decide(self.record().phase(), Action::Enter) {
            Err(refusal) => Some(ControlReply::Refused { refusal }),
            Ok(_) if self.record().network.is_none() => {
                let message = "it has no network".to_owned();
                Some(ControlReply::NotPublished { kind: StartFailureKind::Unsupported, message })
            }
            Ok(_) => None,
        }
    }

    async fn publish_on_host(&mut self, port: &mut PortMapping) -> Result<(), StageError> {
        if self.guest.connection.publishes() {
            let reserved = reserve_port(port)?;
            return self.guest.connection.publish(&[*port], vec![reserved]);
        }
        let Some(ip) = self.record().network.as_ref().map(|network| network.ip) else { return Ok(()) };
        publish_one(self.guest.instance.as_mut(), port, ip).await
    }

    async fn withdraw_from_host(&mut self, port: &PortMapping) -> Result<(), StageError> {
        if self.guest.connection.publishes() {
            return self.guest.connection.unpublish(port);
        }
        Ok(self.guest.instance.unpublish(&forward(port)).await?)
    }

    fn store_ports(&self, port: PortMapping) -> ControlReply {
        self.store_state();
        self.events.record(self.record(), "update", &[("port", port.to_string())]);
        ControlReply::Published { port }
    }
}

/// Whether both are the same port of the host.
fn is_same(a: &PortMapping, b: &PortMapping) -> bool {
    (a.host_ip, a.host_port, a.protocol) == (b.host_ip, b.host_port, b.protocol)
}
