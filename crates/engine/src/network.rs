//! What joins a machine to the network, for as long as it runs.

use std::sync::Arc;

use mimeo_net::bridged::{self, Attachment, BridgedError, TAP, Wish};
use mimeo_net::{PortMapping, SubnetsExhausted};
use mimeo_vmm::{Driver, Network, Tap, TapUse, UserNetwork};
use tokio::task::JoinHandle;

use crate::create::StageError;
use crate::create::launched::user_network;
use crate::create::networked::Held;
use crate::machine::{NetworkMode, NetworkRecord, OuterRecord, Record, Registry};

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
    held: Vec<Held>,
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
    /// Some 20 ms in which this thread does nothing else: who gives a machine up
    /// ends the process, and nobody would be left to take it off the bridge.
    pub(crate) fn of(driver: &dyn Driver, record: &mut Record) -> Result<Self, StageError> {
        let mode = record.spec.network;
        let Some(network) = record.network.as_mut().filter(|_| mode == NetworkMode::Bridged) else {
            return Ok(Self::default());
        };
        let tap = driver.capabilities().tap;
        let wish = Wish {
            id: record.id.short().to_owned(),
            open: record.spec.vm_to_vm,
            tap: match tap {
                TapUse::Descriptor => bridged::TapUse::Descriptor,
                TapUse::Name => bridged::TapUse::Name { owner: 0 },
            },
        };
        let mut attachment = bridged::attach(&wish)?;
        network.outer = Some(outer(&attachment));
        let tap = tap_of(&mut attachment, network)?;
        let relay = attachment.take_relay().map(|relay| tokio::spawn(relay.serve()));
        Ok(Self { bridged: Some(Bridged { attachment, tap, relay, held: Vec::new() }) })
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

    /// Publishes ports, which `held` keeps from others meanwhile.
    pub(crate) fn publish(&mut self, ports: &[PortMapping], held: Vec<Held>) -> Result<(), StageError> {
        let Some(bridged) = &mut self.bridged else { return Ok(()) };
        bridged.held.extend(held);
        Ok(bridged.attachment.publish(ports)?)
    }
}

fn outer(attachment: &Attachment) -> OuterRecord {
    let outer = attachment.outer();
    OuterRecord { ip: outer.ip(), ip6: bridged::has_ip6().then(|| outer.ip6()) }
}

fn tap_of(attachment: &mut Attachment, network: &NetworkRecord) -> Result<Tap, StageError> {
    let missing = BridgedError::Told { step: "making a namespace" };
    let namespace = attachment.namespace().ok_or(missing)?.descriptor().clone();
    let queue = attachment.take_queue().map(Arc::new);
    Ok(Tap { mac: network.mac.to_string(), name: TAP.to_owned(), namespace, queue })
}

/// A network for a guest that is nobody's, of the same kind as `like`; none
/// but the guest itself is on it.
pub(crate) fn nobodys(driver: &dyn Driver, like: &Network) -> Result<Network, SubnetsExhausted> {
    if driver.capabilities().user_network {
        return Ok(unpublished(Network::User(user_network(&Registry::no_ones_network()?))));
    }
    Ok(like.clone())
}

/// A network whose ports nobody reaches yet.
pub(crate) fn unpublished(network: Network) -> Network {
    match network {
        Network::User(user) => Network::User(UserNetwork { forwards: Vec::new(), ..user }),
        tap @ Network::Tap(_) => tap,
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
