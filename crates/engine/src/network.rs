//! What joins a machine to the network, for as long as it runs.

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

/// What holds a machine's network. Dropping it takes the machine off; the
/// virtual machine has ended by then.
#[derive(Debug, Default)]
pub struct Connection {
    bridged: Option<Bridged>,
}

#[derive(Debug)]
struct Bridged {
    attachment: Attachment,
    tap: Tap,
    /// Answers the guest's questions for names.
    relay: Option<JoinHandle<std::io::Result<()>>>,
    /// Published ports, so that nobody else of this host takes them.
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
    /// Connects the machine as it wants to be, and notes where it is.
    ///
    /// Some milliseconds in which this thread does nothing else: who gives a machine up
    /// ends the process, and nobody would be left to take it off the bridge.
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
        let request = NetworkRequest { id: record.id.short().to_owned(), open: record.spec.vm_to_vm, tap };
        let mut attachment = bridged::attach(&request)?;
        network.outer = Some(bridge_record(&attachment));
        let tap = take_tap(&mut attachment, network.mac)?;
        let relay = attachment.take_dns_relay().map(|relay| tokio::spawn(relay.serve()));
        Ok(Self { bridged: Some(Bridged { attachment, tap, relay, reserved: Vec::new() }) })
    }

    /// Connects a guest that is nobody's and runs in `directory`, where the driver has no network of its own.
    pub(crate) fn attach_placeholder(driver: &dyn Driver, directory: &Path) -> Result<Self, BridgedError> {
        if driver.capabilities().user_network {
            return Ok(Self::default());
        }
        let tap = tap_use(driver, directory);
        let request = NetworkRequest { id: MachineId::random().short().to_owned(), open: false, tap };
        let mut attachment = bridged::attach(&request)?;
        let tap = take_tap(&mut attachment, MacAddress::local([0; 5]))?;
        Ok(Self { bridged: Some(Bridged { attachment, tap, relay: None, reserved: Vec::new() }) })
    }

    /// What the driver joins that guest's card to.
    pub(crate) fn placeholder_network(&self) -> Result<Network, SubnetsExhausted> {
        match &self.bridged {
            Some(bridged) => Ok(Network::Tap(bridged.tap.clone())),
            None => Ok(Network::Unplugged { mac: NetworkRecord::placeholder()?.mac.to_string() }),
        }
    }

    /// What the driver joins the machine's card to.
    pub(crate) fn network(&self, record: &Record) -> Option<Network> {
        let network = record.network.as_ref()?;
        Some(match &self.bridged {
            Some(bridged) => Network::Tap(bridged.tap.clone()),
            None => Network::User(user_network(network)),
        })
    }

    /// Whether ports are published here, and not by the virtual machine's monitor.
    pub(crate) fn publishes(&self) -> bool {
        self.bridged.is_some()
    }

    /// Publishes ports, which `reserved` keeps from others meanwhile.
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

/// A user-mode network for a guest that is nobody's.
pub(crate) fn placeholder_user_network() -> Result<Network, SubnetsExhausted> {
    Ok(Network::User(user_network(&NetworkRecord::placeholder()?)))
}

/// A network whose ports nobody reaches yet.
pub(crate) fn without_forwards(network: Network) -> Network {
    match network {
        Network::User(user) => Network::User(UserNetwork { forwards: Vec::new(), ..user }),
        other => other,
    }
}

/// Takes off the bridge what machines left that could not do so themselves.
pub(crate) fn sweep() {
    match bridged::sweep() {
        Ok(gone) if gone.is_empty() => {}
        Ok(gone) => tracing::info!(component = "sweep", machines = gone.join(" "), "taken off the bridge"),
        // Who may not change the host's network has left nothing on it either.
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

/// Takes one machine off the bridge that ended without doing so.
pub(crate) fn clear(record: &Record) {
    if record.spec.network != NetworkMode::Bridged {
        return;
    }
    if let Err(error) = bridged::clear(record.id.short()) {
        let error = crate::cause::chain(&error);
        tracing::warn!(component = "sweep", machine = %record.name, error, "cannot take it off the bridge");
    }
}
