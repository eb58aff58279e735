//! A machine's connection to the network while it runs.

mod reserved_port;

use std::io;
use std::path::Path;
use std::sync::Arc;

use mimeo_net::bridged::{self, Attachment, BridgedError, NetworkRequest, TAP};
use mimeo_net::{MacAddress, PortMapping, SubnetsExhausted};
use mimeo_vmm::{Driver, Network, Tap, TapUse, UserNetwork};
use tokio::task::JoinHandle;

use crate::id::MachineId;
use crate::launch_spec::user_network;
use crate::machine::{BridgeRecord, NetworkMode, NetworkRecord, Record};
use crate::stage::StageError;

pub(crate) use reserved_port::{ReservedPort, reserve_port};

/// A machine's connection to the network. Dropping it disconnects the machine; the VMM must have exited before.
#[derive(Debug, Default)]
pub struct Connection {
    bridged: Option<Bridged>,
}

#[derive(Debug)]
struct Bridged {
    attachment: Attachment,
    tap: Tap,
    /// The relay for the guest's DNS queries.
    relay: Option<JoinHandle<std::io::Result<()>>>,
    /// Published ports, bound so that no other process of this host takes them.
    reserved: Vec<ReservedPort>,
}

impl Drop for Bridged {
    fn drop(&mut self) {
        if let Some(relay) = &self.relay {
            relay.abort();
        }
    }
}

impl Connection {
    /// Connects the machine as its spec requests, and records its addresses on the bridge.
    ///
    /// Blocks this thread for some milliseconds on purpose: a start that is given up ends the process, and an
    /// unfinished attachment would stay on the bridge.
    pub(crate) fn attach(
        driver: &dyn Driver,
        record: &mut Record,
        directory: &Path,
    ) -> Result<Self, StageError> {
        let mode = record.spec.network;
        let Some(network) = record.network.as_mut().filter(|_| mode == NetworkMode::Bridged) else {
            return Ok(Self::default());
        };
        let tap = tap_use(driver, directory);
        let (id, ip) = (record.id.short().to_owned(), record.spec.bridge_ip);
        let request = NetworkRequest { id, open: record.spec.vm_to_vm, tap, ip };
        let mut attachment = bridged::attach(&request)?;
        network.outer = Some(bridge_record(&attachment));
        let tap = take_tap(&mut attachment, network.mac)?;
        let relay = attachment.take_dns_relay().map(|relay| tokio::spawn(relay.serve()));
        Ok(Self { bridged: Some(Bridged { attachment, tap, relay, reserved: Vec::new() }) })
    }

    /// Connects a placeholder guest that runs in `directory`, if the driver has no user-mode network.
    pub(crate) fn attach_placeholder(driver: &dyn Driver, directory: &Path) -> Result<Self, BridgedError> {
        if driver.capabilities().user_network {
            return Ok(Self::default());
        }
        let tap = tap_use(driver, directory);
        let request =
            NetworkRequest { id: MachineId::random().short().to_owned(), open: false, tap, ip: None };
        let mut attachment = bridged::attach(&request)?;
        let tap = take_tap(&mut attachment, MacAddress::local([0; 5]))?;
        Ok(Self { bridged: Some(Bridged { attachment, tap, relay: None, reserved: Vec::new() }) })
    }

    /// The network of a placeholder guest's NIC.
    pub(crate) fn placeholder_network(&self) -> Result<Network, SubnetsExhausted> {
        match &self.bridged {
            Some(bridged) => Ok(Network::Tap(bridged.tap.clone())),
            None => Ok(Network::Unplugged { mac: NetworkRecord::placeholder()?.mac.to_string() }),
        }
    }

    /// The network of the machine's NIC.
    pub(crate) fn network(&self, record: &Record) -> Option<Network> {
        let network = record.network.as_ref()?;
        Some(match &self.bridged {
            Some(bridged) => Network::Tap(bridged.tap.clone()),
            None => Network::User(user_network(network)),
        })
    }

    /// Whether this connection publishes ports; otherwise the VMM does.
    pub(crate) fn publishes(&self) -> bool {
        self.bridged.is_some()
    }

    /// Publishes the ports, and keeps them reserved on the host.
    pub(crate) fn publish(
        &mut self,
        ports: &[PortMapping],
        reserved: Vec<ReservedPort>,
    ) -> Result<(), StageError> {
        let Some(bridged) = &mut self.bridged else { return Ok(()) };
        bridged.reserved.extend(reserved);
        Ok(bridged.attachment.publish(ports)?)
    }
}

impl Connection {
    /// Withdraws a published port, and releases it on the host.
    pub(crate) fn unpublish(&mut self, port: &PortMapping) -> Result<(), StageError> {
        let Some(bridged) = &mut self.bridged else { return Ok(()) };
        bridged.attachment.unpublish(port)?;
        bridged.reserved.retain(|reserved| !reserved.is_for(port));
        Ok(())
    }
}

fn tap_use(driver: &dyn Driver, directory: &Path) -> bridged::TapUse {
    match driver.capabilities().tap {
        TapUse::Descriptor => bridged::TapUse::Descriptor,
        TapUse::Name => bridged::TapUse::Name { owner: driver.tap_owner(directory) },
    }
}

fn bridge_record(attachment: &Attachment) -> BridgeRecord {
    let outer = attachment.address();
    BridgeRecord { ip: outer.ip(), ip6: bridged::has_ip6().then(|| outer.ip6()) }
}

fn take_tap(attachment: &mut Attachment, mac: MacAddress) -> Result<Tap, BridgedError> {
    // Only the fake host of net's own tests attaches without a namespace.
    let missing = || BridgedError::Link {
        step: "find the machine's network namespace".to_owned(),
        source: io::ErrorKind::NotFound.into(),
    };
    let namespace = attachment.namespace().ok_or_else(missing)?.descriptor().clone();
    let queue = attachment.take_tap().map(Arc::new);
    Ok(Tap { mac: mac.to_string(), name: TAP.to_owned(), namespace, queue })
}

/// A user-mode network for a placeholder guest.
pub(crate) fn placeholder_user_network() -> Result<Network, SubnetsExhausted> {
    Ok(Network::User(user_network(&NetworkRecord::placeholder()?)))
}

/// The same network without published ports.
pub(crate) fn without_forwards(network: Network) -> Network {
    match network {
        Network::User(user) => Network::User(UserNetwork { forwards: Vec::new(), ..user }),
        other => other,
    }
}

/// Removes leftovers of dead machines from the bridge.
pub(crate) fn sweep() {
    match bridged::sweep() {
        Ok(gone) if gone.is_empty() => {}
        Ok(gone) => tracing::info!(
            component = "sweep",
            machines = gone.join(" "),
            "removed leftovers from the bridge"
        ),
        // A user without the privilege to change the host's network cannot have left anything on it.
        Err(BridgedError::Privilege | BridgedError::NoNft) => {}
        Err(error) => {
            tracing::warn!(
                component = "sweep",
                error = crate::cause::chain(&error),
                "cannot sweep the bridge"
            );
        }
    }
}

/// Removes what one dead machine has left on the bridge.
pub(crate) fn remove_leftovers(record: &Record) {
    if record.spec.network != NetworkMode::Bridged {
        return;
    }
    if let Err(error) = bridged::clear(record.id.short()) {
        let error = crate::cause::chain(&error);
        tracing::warn!(component = "sweep", machine = %record.name, error, "cannot remove the machine from the bridge");
    }
}
