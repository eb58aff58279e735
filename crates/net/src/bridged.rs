//! Bridged networking, which needs the privilege to change the host's network.
//!
//! Each machine has its own network namespace. All namespaces hold the same names
//! and addresses: a TAP device `tap0` for the guest's NIC, the gateway's addresses on it,
//! and one end of a veth pair, `eth0`, whose other end, `mm-<id>`, is attached to the
//! host's bridge. Only `eth0` has an address that is unique to the machine. So a
//! clone's guest keeps its address, and clones run side by side.
//!
//! The state is read from the kernel: a machine is on the bridge if and only if
//! `mm-<id>` exists. The kernel deletes that link with its namespace, and the
//! namespace with the last process that holds it, however that process exits.
//! [`sweep`] removes names and rules that remain.

mod address;
mod dns_relay;
mod error;
mod fake;
mod generation;
mod host;
mod kernel;
mod links;
mod namespace;
mod netfilter;
mod nft;
mod rules;
mod settings;
mod tap;

use std::collections::{BTreeSet, HashSet};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::{PortMapping, Subnet};
pub use address::BridgeAddress;
pub use dns_relay::DnsRelay;
pub use error::BridgedError;
pub use fake::{Fake, Faults};
use host::{Connected, Host};
use kernel::Kernel;
pub use namespace::Namespace;
use rules::Element;
pub use tap::TapUse;

/// Name of the bridge.
pub const BRIDGE: &str = "mimeo0";
/// Prefix of the host ends of machines' links.
pub const LINK_PREFIX: &str = "mm-";
/// Prefix of the names of machines' namespaces.
pub const NETNS_PREFIX: &str = "mimeo-";
/// Name of a machine's TAP device, in its namespace.
pub const TAP: &str = "tap0";
/// Name of a machine's end of its link, in its namespace.
const UPLINK: &str = "eth0";
/// The subnet of every guest, on its side of the TAP device.
pub const GUEST_SUBNET: Subnet = Subnet::BRIDGED;
const DNS_PORT: u16 = 53;

/// The network that a machine requests.
#[derive(Debug, Clone)]
pub struct NetworkRequest {
    /// The machine's id: at most 12 characters, since a link's name has at most 15.
    pub id: String,
    /// Whether the machine may reach other machines that have this set, and be reached by them (`--vm-to-vm`).
    pub open: bool,
    /// How the machine's VMM opens the TAP device.
    pub tap: TapUse,
    /// The machine's address on the bridge; by default a free one.
    pub ip: Option<Ipv4Addr>,
}

/// A machine attached to the bridge. Dropping it detaches the machine.
#[derive(Debug)]
pub struct Attachment {
    host: Arc<dyn Host>,
    id: String,
    address: BridgeAddress,
    connected: Connected,
    elements: Vec<Element>,
}

/// Checks that this process can use bridged networking.
///
/// # Errors
/// When it lacks the privileges, or nft or nf_tables is missing.
pub fn check() -> Result<(), BridgedError> {
    check_privilege()?;
    check_nft()
}

fn check_privilege() -> Result<(), BridgedError> {
    let own = rustix::thread::capabilities(None).map(|sets| sets.effective);
    let needed = rustix::thread::CapabilitySet::NET_ADMIN | rustix::thread::CapabilitySet::SYS_ADMIN;
    if !own.is_ok_and(|own| own.contains(needed)) {
        return Err(BridgedError::Privilege);
    }
    Ok(())
}

/// Checks for the `nft` program and for nf_tables in the kernel, without starting the program.
fn check_nft() -> Result<(), BridgedError> {
    if !nft::is_installed() {
        return Err(BridgedError::NoNft);
    }
    kernel::rule_count().map(drop)
}

/// Whether IPv6 is enabled on the host, and so on the bridge.
#[must_use]
pub fn has_ip6() -> bool {
    settings::has_ip6()
}

/// Creates a machine's namespace and attaches it to the bridge. Creates the bridge if it does not exist.
///
/// # Errors
/// When the host refuses, or this process lacks the privileges. Nothing is left then.
pub fn attach(request: &NetworkRequest) -> Result<Attachment, BridgedError> {
    check_privilege()?;
    attach_to(Arc::new(Kernel), request)
}

/// Removes the names and rules of machines whose process exited without detaching. Returns their ids.
///
/// # Errors
/// When the kernel refuses.
pub fn sweep() -> Result<Vec<String>, BridgedError> {
    sweep_on(&Kernel)
}

/// Removes the link, name and rules of one machine, which must not be running.
///
/// # Errors
/// When the kernel refuses.
pub fn clear(id: &str) -> Result<(), BridgedError> {
    clear_on(&Kernel, id)
}

fn attach_to(host: Arc<dyn Host>, request: &NetworkRequest) -> Result<Attachment, BridgedError> {
    let lock = host.lock()?;
    let attached = attach_locked(host.as_ref(), request);
    if attached.is_err() {
        // The bridge may have been created for this machine.
        log_ignored("remove the bridge", remove_bridge_if_unused(host.as_ref()));
    }
    drop(lock);
    let (address, connected, elements) = attached?;
    Ok(Attachment { host, id: request.id.clone(), address, connected, elements })
}

fn attach_locked(
    host: &dyn Host,
    request: &NetworkRequest,
) -> Result<(BridgeAddress, Connected, Vec<Element>), BridgedError> {
    host.prepare()?;
    let attached = host.attached()?;
    if attached.contains_key(&request.id) {
        return Err(BridgedError::Exists { name: format!("{LINK_PREFIX}{}", request.id) });
    }
    let used = attached.into_values().collect::<HashSet<_>>();
    let address = match request.ip {
        Some(ip) => BridgeAddress::requested(ip, &used)?,
        None => BridgeAddress::next_free(&used)?,
    };
    let connected = host.connect(&request.id, address, request.tap)?;
    let elements = if request.open { rules::open(address) } else { Vec::new() };
    let add = || host.ensure_table().and_then(|()| host.add(&elements, &request.id));
    // Another program may have flushed the rules in between; the second attempt restores them.
    match add().or_else(|_| add()) {
        Ok(()) => Ok((address, connected, elements)),
        Err(error) => {
            log_ignored("disconnect a machine", host.disconnect(&request.id));
            Err(error)
        }
    }
}

/// Logs the error of a clean-up step. The caller reports the error that caused the clean-up.
fn log_ignored(step: &str, result: Result<(), BridgedError>) {
    if let Err(error) = result {
        tracing::debug!(component = "network", ?error, "cannot {step}");
    }
}

fn remove_bridge_if_unused(host: &dyn Host) -> Result<(), BridgedError> {
    if host.attached()?.is_empty() { host.remove_bridge() } else { Ok(()) }
}

fn sweep_on(host: &dyn Host) -> Result<Vec<String>, BridgedError> {
    // Most commands find nothing stale, and need not wait for the lock.
    if host.stale_marks().is_empty() {
        return Ok(Vec::new());
    }
    let lock = host.lock()?;
    let attached = host.attached()?;
    let mut gone: BTreeSet<_> =
        host.stale_marks().into_iter().filter(|id| !attached.contains_key(id)).collect();
    if gone.is_empty() {
        return Ok(Vec::new());
    }
    // A machine without its mark, the name in /run/netns, may still have rules.
    let table = host.rules()?.unwrap_or_default();
    gone.extend(rules::machine_ids(&table).into_iter().filter(|id| !attached.contains_key(id)));
    host.delete(&rules::stale_elements(&table, |id| gone.contains(id)))?;
    for id in &gone {
        host.disconnect(id)?;
    }
    remove_bridge_if_unused(host)?;
    drop(lock);
    Ok(gone.into_iter().collect())
}

fn clear_on(host: &dyn Host, id: &str) -> Result<(), BridgedError> {
    let lock = host.lock()?;
    if let Some(table) = host.rules()? {
        host.delete(&rules::stale_elements(&table, |other| other == id))?;
    }
    host.disconnect(id)?;
    remove_bridge_if_unused(host)?;
    drop(lock);
    Ok(())
}

impl Attachment {
    /// The machine's addresses on the bridge.
    #[must_use]
    pub fn address(&self) -> BridgeAddress {
        self.address
    }

    /// The machine's namespace; none on a fake host.
    #[must_use]
    pub fn namespace(&self) -> Option<&Namespace> {
        self.connected.namespace.as_ref()
    }

    /// Takes the TAP device's descriptor, with [`TapUse::Descriptor`]. None on later calls.
    pub fn take_tap(&mut self) -> Option<OwnedFd> {
        self.connected.tap.take()
    }

    /// Takes the relay for the guest's DNS queries. None on later calls.
    pub fn take_dns_relay(&mut self) -> Option<DnsRelay> {
        self.connected.dns_sockets.take().map(|(udp, tcp)| DnsRelay::new(udp, tcp))
    }

    /// Forwards host ports to the machine: all or none. Each mapping must have its host port.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn publish(&mut self, ports: &[PortMapping]) -> Result<(), BridgedError> {
        if ports.is_empty() {
            return Ok(());
        }
        let elements: Vec<_> = ports.iter().flat_map(|port| rules::published(port, self.address)).collect();
        let lock = self.host.lock()?;
        let added = self.host.add(&elements, &self.id);
        drop(lock);
        added?;
        self.elements.extend(elements);
        Ok(())
    }

    /// Withdraws a port that was published. Connections that exist continue.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn unpublish(&mut self, port: &PortMapping) -> Result<(), BridgedError> {
        let elements = rules::published(port, self.address);
        let lock = self.host.lock()?;
        let deleted = self.host.delete(&elements);
        drop(lock);
        deleted?;
        self.elements.retain(|element| !elements.contains(element));
        Ok(())
    }

    fn detach(&mut self) -> Result<(), BridgedError> {
        let lock = self.host.lock()?;
        let elements = std::mem::take(&mut self.elements);
        // This fails if another program flushed the rules; then whatever remains is cleared below.
        let rules_deleted = self.host.delete(&elements);
        self.host.disconnect(&self.id)?;
        remove_bridge_if_unused(self.host.as_ref())?;
        drop(lock);
        if rules_deleted.is_err() { clear_on(self.host.as_ref(), &self.id) } else { Ok(()) }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if let Err(error) = self.detach() {
            tracing::warn!(component = "network", id = self.id, %error, "cannot detach the machine from the bridge completely");
        }
    }
}
