//! The host's kernel as [`Host`].

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::address::BridgeAddress;
use super::host::{Connected, Host};
use super::links::{self, Links};
use super::namespace::Namespace;
use super::netfilter::{self, Batch};
use super::rules::{self, Element};
use super::{
    BRIDGE, BridgedError, DNS_PORT, GUEST_SUBNET, LINK_PREFIX, NETNS_PREFIX, TAP, TapUse, generation,
    log_ignored, nft, settings, tap,
};

/// The directory in which `ip netns` looks up namespace names.
const NAMES: &str = "/run/netns";
/// Serialises attaching and detaching across all users of the host, because they share the bridge.
const LOCK: &str = "/run/mimeo-bridged.lock";
/// Index of the loopback interface in every namespace.
const LOOPBACK: u32 = 1;

/// This host's kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kernel;

impl Host for Kernel {
    fn lock(&self) -> Result<Box<dyn Send>, BridgedError> {
        let file = File::options().create(true).append(true).open(LOCK);
        let file = file.map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => BridgedError::Privilege,
            _ => BridgedError::io("open", LOCK)(error),
        })?;
        file.lock().map_err(BridgedError::io("lock", LOCK))?;
        Ok(Box::new(file))
    }

    fn prepare(&self) -> Result<(), BridgedError> {
        let ip6 = settings::has_ip6();
        links::with(async |links: Links| {
            if links.index(BRIDGE).await?.is_some() {
                return settings::enable_forwarding(ip6);
            }
            // Checked before the first change to the host, and not again for each machine.
            super::check_nft()?;
            settings::enable_forwarding(ip6)?;
            // Without a bridge there are no rules either, whatever an earlier boot or namespace recorded.
            generation::clear();
            create_bridge(&links, ip6).await
        })
    }

    fn attached(&self) -> Result<HashMap<String, BridgeAddress>, BridgedError> {
        let found = links::with(async |links: Links| links.with_prefix(LINK_PREFIX).await)?;
        let machine = |(name, alias): (String, String)| {
            let id = name.strip_prefix(LINK_PREFIX)?.to_owned();
            Some((id, alias.parse().ok()?))
        };
        Ok(found.into_iter().filter_map(machine).collect())
    }

    fn connect(&self, id: &str, address: BridgeAddress, tap: TapUse) -> Result<Connected, BridgedError> {
        let host_namespace = Namespace::current()?;
        let namespace = Namespace::new()?;
        let link = format!("{LINK_PREFIX}{id}");
        let connected =
            configure_namespace(&namespace, &host_namespace, &link, address, tap).and_then(|connected| {
                attach_to_bridge(&link, address)?;
                create_mark(id, &namespace)?;
                Ok(connected)
            });
        connected.inspect_err(|_| {
            // Closing the namespace deletes the link; this waits until the link is gone.
            log_ignored("clean up after a failed connect", self.disconnect(id));
        })
    }

    fn disconnect(&self, id: &str) -> Result<(), BridgedError> {
        let link = format!("{LINK_PREFIX}{id}");
        links::with(async |links: Links| links.remove(&link).await)?;
        match fs::remove_file(mark_path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(BridgedError::io("remove", mark_path(id))(error))
            }
            _ => Ok(()),
        }
    }

    fn stale_marks(&self) -> Vec<String> {
        let entries = fs::read_dir(NAMES).into_iter().flatten().flatten();
        // A mark is a symbolic link to a descriptor of the supervisor: it dangles once the supervisor has exited.
        let gone = entries.filter(|entry| !leads_to_namespace(&entry.path()));
        let names = gone.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter_map(|name| name.strip_prefix(NETNS_PREFIX).map(str::to_owned)).collect()
    }

    fn ensure_table(&self) -> Result<(), BridgedError> {
        let before = rule_count()?;
        if generation::recorded() == Some(before) {
            return Ok(());
        }
        nft::apply(rules::BASE)?;
        record_after(before);
        Ok(())
    }

    fn add(&self, elements: &[Element], id: &str) -> Result<(), BridgedError> {
        change_table("add a machine's nftables elements", |batch| batch.add(elements, id))
    }

    fn delete(&self, elements: &[Element]) -> Result<(), BridgedError> {
        change_table("delete a machine's nftables elements", |batch| batch.delete(elements))
    }

    fn rules(&self) -> Result<Option<serde_json::Value>, BridgedError> {
        nft::list(rules::FAMILY, rules::TABLE)
    }

    fn remove_bridge(&self) -> Result<(), BridgedError> {
        // A failure to delete the table must not leave the bridge behind.
        let mut batch = Batch::new();
        batch.delete_table();
        let rules_deleted = batch.commit().map_err(netlink_error("delete the nftables table"));
        generation::clear();
        links::with(async |links: Links| links.remove(BRIDGE).await)?;
        rules_deleted
    }
}

/// Whether a mark still leads to a network namespace. Its process id may have been reused by another program.
fn leads_to_namespace(mark: &Path) -> bool {
    let opened = fs::read_link(mark).and_then(fs::read_link);
    opened.is_ok_and(|target| target.as_os_str().as_encoded_bytes().starts_with(b"net:["))
}

/// Commits changes to the host's table. A table that was complete stays complete, so its record is updated.
fn change_table(step: &'static str, fill: impl FnOnce(&mut Batch)) -> Result<(), BridgedError> {
    let mut batch = Batch::new();
    fill(&mut batch);
    if batch.is_empty() {
        return Ok(());
    }
    let before = rule_count()?;
    let was_complete = generation::recorded() == Some(before);
    batch.commit().map_err(netlink_error(step))?;
    if was_complete {
        record_after(before);
    }
    Ok(())
}

/// Records that the table is complete after one change by this process. A failure to read the count does not fail
/// the change.
fn record_after(before: u32) {
    match rule_count() {
        Ok(now) => generation::record(before.wrapping_add(1), now),
        Err(_) => generation::clear(),
    }
}

/// The kernel's count of changes to this network namespace's rules.
pub(crate) fn rule_count() -> Result<u32, BridgedError> {
    netfilter::rule_count().map_err(netlink_error("query nf_tables (is the kernel module missing?)"))
}

fn netlink_error(step: &'static str) -> impl FnOnce(io::Error) -> BridgedError {
    move |source| match source.kind() {
        io::ErrorKind::PermissionDenied => BridgedError::Privilege,
        _ => BridgedError::Link { step: step.to_owned(), source },
    }
}

async fn create_bridge(links: &Links, ip6: bool) -> Result<(), BridgedError> {
    check_network_unused()?;
    let index = links.add_bridge().await?;
    let done = async {
        settings::configure_bridge(BRIDGE, ip6)?;
        links.add_address(index, BridgeAddress::BRIDGE.ip().into(), BridgeAddress::PREFIX).await?;
        if ip6 {
            links.add_address(index, BridgeAddress::BRIDGE.ip6().into(), BridgeAddress::PREFIX_6).await?;
        }
        links.up(index).await
    };
    let done = done.await;
    if done.is_err() {
        log_ignored("remove the bridge after a failure", links.remove(BRIDGE).await);
    }
    done
}

/// Fails if a route of this host overlaps the bridge's network.
fn check_network_unused() -> Result<(), BridgedError> {
    let routes = fs::read_to_string("/proc/thread-self/net/route").unwrap_or_default();
    match routes.lines().skip(1).find(|line| overlaps_bridge_network(line).unwrap_or(false)) {
        Some(line) => {
            let interface = line.split_whitespace().next().unwrap_or_default();
            Err(BridgedError::NetworkInUse {
                network: "10.202.0.0/16",
                route: format!("a route via {interface}"),
            })
        }
        None => Ok(()),
    }
}

/// Parses `eth0 0002CA0A 00000000 0001 0 0 0 0000FFFF ...`; addresses are in the host's byte order.
fn overlaps_bridge_network(line: &str) -> Option<bool> {
    let words: Vec<_> = line.split_whitespace().collect();
    let address = |word: &str| u32::from_str_radix(word, 16).ok().map(u32::from_be);
    let (to, mask) = (address(words.get(1)?)?, address(words.get(7)?)?);
    let ours = u32::from(BridgeAddress::BRIDGE.ip());
    let our_mask = u32::MAX << (32 - u32::from(BridgeAddress::PREFIX));
    let common = mask & our_mask;
    Some(mask != 0 && to & common == ours & common)
}

/// Sets up a machine's namespace: settings, TAP device, links, rules and DNS sockets.
fn configure_namespace(
    namespace: &Namespace,
    host_namespace: &Namespace,
    link: &str,
    address: BridgeAddress,
    tap: TapUse,
) -> Result<Connected, BridgedError> {
    let ip6 = settings::has_ip6();
    let (tap, dns_sockets) = namespace.run(|| {
        settings::configure_namespace(ip6)?;
        let tap = tap::create(TAP, tap)?;
        links::with(async |links: Links| configure_links(&links, host_namespace, link, address, ip6).await)?;
        netfilter::inner()
            .commit()
            .map_err(netlink_error("set the nftables rules of a machine's namespace"))?;
        Ok((tap, bind_dns_sockets()?))
    })?;
    Ok(Connected { namespace: Some(namespace.clone()), tap, dns_sockets: Some(dns_sockets) })
}

async fn configure_links(
    links: &Links,
    host_namespace: &Namespace,
    link: &str,
    address: BridgeAddress,
    ip6: bool,
) -> Result<(), BridgedError> {
    links.up(LOOPBACK).await?;
    let tap = links.index(TAP).await?.unwrap_or_default();
    links.up(tap).await?;
    for (ip, prefix) in GUEST_SUBNET.host(ip6) {
        links.add_address(tap, ip, prefix).await?;
    }
    let uplink = links.add_pair(link, host_namespace).await?;
    links.up(uplink).await?;
    links.add_address(uplink, address.ip().into(), 32).await?;
    if ip6 {
        links.add_address(uplink, address.ip6().into(), 128).await?;
    }
    links.add_default_route(uplink, ip6).await
}

/// Binds the sockets for the guest's DNS queries, on the gateway's side of its NIC.
fn bind_dns_sockets() -> Result<(UdpSocket, TcpListener), BridgedError> {
    let at = (IpAddr::from(GUEST_SUBNET.dns()), DNS_PORT);
    let failed =
        |source| BridgedError::Link { step: "listen for a machine's DNS queries".to_owned(), source };
    Ok((UdpSocket::bind(at).map_err(failed)?, TcpListener::bind(at).map_err(failed)?))
}

/// Attaches the host's end of a machine's link to the bridge.
fn attach_to_bridge(link: &str, address: BridgeAddress) -> Result<(), BridgedError> {
    if settings::has_ip6() {
        settings::disable_ip6(link)?;
    }
    links::with(async |links: Links| {
        let gone = || BridgedError::io("find", BRIDGE)(io::ErrorKind::NotFound.into());
        let bridge = links.index(BRIDGE).await?.ok_or_else(gone)?;
        links.join(link, bridge, &address.to_string()).await
    })
}

/// Creates the namespace's name for `ip netns`. It is valid while this process has the namespace open.
fn create_mark(id: &str, namespace: &Namespace) -> Result<(), BridgedError> {
    let name = mark_path(id);
    let descriptor = namespace.descriptor().as_raw_fd();
    let target = format!("/proc/{}/fd/{descriptor}", std::process::id());
    fs::create_dir_all(NAMES).map_err(BridgedError::io("create", NAMES))?;
    symlink(target, &name).map_err(BridgedError::io("name a namespace", name))
}

fn mark_path(id: &str) -> PathBuf {
    Path::new(NAMES).join(format!("{NETNS_PREFIX}{id}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_into_the_bridge_network_is_detected() {
        let line = |to: &str, mask: &str| format!("eth1\t{to}\t00000000\t0001\t0\t0\t0\t{mask}\t0\t0\t0");
        // 10.202.0.0/16, 10.202.7.0/24 and 10.0.0.0/8 overlap; the default route and 10.201.0.0/16 do not.
        for (to, mask) in [("0000CA0A", "0000FFFF"), ("0007CA0A", "00FFFFFF"), ("0000000A", "000000FF")] {
            assert_eq!(overlaps_bridge_network(&line(to, mask)), Some(true), "{to}/{mask}");
        }
        for (to, mask) in [("00000000", "00000000"), ("0000C90A", "0000FFFF")] {
            assert_eq!(overlaps_bridge_network(&line(to, mask)), Some(false), "{to}/{mask}");
        }
    }
}
