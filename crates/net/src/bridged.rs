//! Machines on a bridge, for who may change the host's network.
//!
//! Each machine has a network namespace of its own, in which everything is
//! called and numbered alike: a TAP device `tap0` for its card, the gateway's
//! addresses on it, and one end of a link, `eth0`, whose other end, `mm-<id>`,
//! is on the host's bridge. Only `eth0` has an address that is the machine's
//! alone. So a guest that was copied need not be told another address, and
//! copies run side by side.
//!
//! What is there is read from the kernel: a machine is on the bridge if
//! and only if `mm-<id>` is. That link ends with its namespace, and that with
//! the last process that holds it, however it ends; names and rules that are
//! left are swept by [`sweep`].

mod error;
mod fake;
mod generation;
mod host;
mod kernel;
mod links;
mod namespace;
mod netfilter;
mod nft;
mod outer;
mod relay;
mod rules;
mod settings;
mod tap;

use std::collections::{BTreeSet, HashSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::{PortMapping, Subnet};
pub use error::BridgedError;
pub use fake::{Fake, Faults};
use host::{Connected, Host};
use kernel::Kernel;
pub use namespace::Namespace;
pub use outer::Outer;
pub use relay::Relay;
use rules::Element;
pub use tap::TapUse;

/// The bridge.
pub const BRIDGE: &str = "mimeo0";
/// What the names of machines' links on the host begin with.
pub const LINK_PREFIX: &str = "mm-";
/// What the names of their namespaces begin with.
pub const NETNS_PREFIX: &str = "mimeo-";
/// A machine's TAP device, in its namespace.
pub const TAP: &str = "tap0";
/// A machine's way out, in its namespace.
const UPLINK: &str = "eth0";
/// The network that every machine is in, on its side of the TAP device.
pub const GUEST_SUBNET: Subnet = Subnet::BRIDGED;
const DNS_PORT: u16 = 53;

/// What a machine wants of the bridge.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Its id: at most 12 characters, since a link's name has 15.
    pub id: String,
    /// It may be reached by other machines that are open, and reach them.
    pub open: bool,
    /// How its monitor takes the TAP device.
    pub tap: TapUse,
}

/// A machine's place on the bridge. Dropping it takes the machine off.
#[derive(Debug)]
pub struct Attachment {
    host: Arc<dyn Host>,
    id: String,
    outer: Outer,
    connected: Connected,
    elements: Vec<Element>,
}

/// Whether this process may, and has what it needs.
///
/// # Errors
/// When it has not the privileges, or nft is missing.
pub fn check() -> Result<(), BridgedError> {
    is_privileged()?;
    has_nft()
}

fn is_privileged() -> Result<(), BridgedError> {
    let own = rustix::thread::capabilities(None).map(|sets| sets.effective);
    let needed = rustix::thread::CapabilitySet::NET_ADMIN | rustix::thread::CapabilitySet::SYS_ADMIN;
    if !own.is_ok_and(|own| own.contains(needed)) {
        return Err(BridgedError::Privilege);
    }
    Ok(())
}

/// Checks for the `nft` program and for nf_tables in the kernel, without starting the program.
fn has_nft() -> Result<(), BridgedError> {
    if !nft::is_installed() {
        return Err(BridgedError::NoNft);
    }
    kernel::rule_count().map(drop)
}

/// Whether the host speaks IPv6, and so its bridge.
#[must_use]
pub fn has_ip6() -> bool {
    settings::has_ip6()
}

/// Gives a machine a namespace and a place on the bridge, making the bridge if there is none.
///
/// # Errors
/// When this host or this process cannot; nothing is left then.
pub fn attach(wish: &Wish) -> Result<Attachment, BridgedError> {
    is_privileged()?;
    attach_to(Arc::new(Kernel), wish)
}

/// Takes off the bridge what is left of machines whose process ended without doing so, and says which.
///
/// # Errors
/// When the kernel refuses.
pub fn sweep() -> Result<Vec<String>, BridgedError> {
    sweep_on(&Kernel)
}

/// Takes off the bridge what is left of one machine, which runs no more.
///
/// # Errors
/// When the kernel refuses.
pub fn clear(id: &str) -> Result<(), BridgedError> {
    clear_on(&Kernel, id)
}

fn attach_to(host: Arc<dyn Host>, wish: &Wish) -> Result<Attachment, BridgedError> {
    let lock = host.lock()?;
    let attached = attach_locked(host.as_ref(), wish);
    if attached.is_err() {
        // The bridge may have been made for this one.
        remove_bridge_if_unused(host.as_ref()).ok();
    }
    drop(lock);
    let (outer, connected, elements) = attached?;
    Ok(Attachment { host, id: wish.id.clone(), outer, connected, elements })
}

fn attach_locked(host: &dyn Host, wish: &Wish) -> Result<(Outer, Connected, Vec<Element>), BridgedError> {
    host.prepare()?;
    let attached = host.attached()?;
    if attached.contains_key(&wish.id) {
        return Err(BridgedError::Exists { name: format!("{LINK_PREFIX}{}", wish.id) });
    }
    let outer = Outer::next_free(&attached.into_values().collect::<HashSet<_>>())?;
    let connected = host.connect(&wish.id, outer, wish.tap)?;
    let elements = if wish.open { rules::open(outer) } else { Vec::new() };
    let add = || host.ensure_table().and_then(|()| host.add(&elements, &wish.id));
    // Another program may have flushed the rules in between; the second try finds that out.
    match add().or_else(|_| add()) {
        Ok(()) => Ok((outer, connected, elements)),
        Err(error) => {
            host.disconnect(&wish.id).ok();
            Err(error)
        }
    }
}

fn remove_bridge_if_unused(host: &dyn Host) -> Result<(), BridgedError> {
    if host.attached()?.is_empty() { host.remove_bridge() } else { Ok(()) }
}

fn sweep_on(host: &dyn Host) -> Result<Vec<String>, BridgedError> {
    // Most commands find nothing here, and wait for nobody.
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
    // One whose mark could not be made, or was removed by somebody, may have left rules.
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
    /// Its place on the bridge.
    #[must_use]
    pub fn outer(&self) -> Outer {
        self.outer
    }

    /// Its namespace; none on a fake host.
    #[must_use]
    pub fn namespace(&self) -> Option<&Namespace> {
        self.connected.namespace.as_ref()
    }

    /// The TAP device, where it was asked for by a descriptor; once.
    pub fn take_queue(&mut self) -> Option<OwnedFd> {
        self.connected.tap.take()
    }

    /// What answers the guest's questions for names; once.
    pub fn take_relay(&mut self) -> Option<Relay> {
        self.connected.dns_sockets.take().map(|(udp, tcp)| Relay::new(udp, tcp))
    }

    /// Has ports of the host lead to the machine: all or none. Each has its host port.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn publish(&mut self, ports: &[PortMapping]) -> Result<(), BridgedError> {
        if ports.is_empty() {
            return Ok(());
        }
        let elements: Vec<_> = ports.iter().flat_map(|port| rules::published(port, self.outer)).collect();
        let lock = self.host.lock()?;
        let added = self.host.add(&elements, &self.id);
        drop(lock);
        added?;
        self.elements.extend(elements);
        Ok(())
    }

    fn detach(&mut self) -> Result<(), BridgedError> {
        let lock = self.host.lock()?;
        let elements = std::mem::take(&mut self.elements);
        // Somebody who flushed the rules took ours along.
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
            tracing::warn!(component = "network", id = self.id, %error, "is not off the bridge whole");
        }
    }
}
