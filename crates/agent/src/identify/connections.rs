//! Step 6: destroys the TCP connections that the clone inherited from its source.
//!
//! This follows the network step: the kernel sends no RST from an address that the
//! machine no longer has, and an RST would end the source's connections.

mod message;

use std::net::IpAddr;

use mimeo_agent_protocol::message::Failure;
use rustix::io::Errno;
use rustix::net::netlink as protocols;

use super::step_log::StepSuccess;
use crate::failure::{Context, SystemError};
use crate::machine::Machine;
use crate::netlink::NetlinkSocket;
use crate::network;
use message::{Socket, destroy_request, list_request, parse_socket};

/// The module that lists TCP sockets, where it is not built in.
const TCP_DIAG_MODULE: &str = "tcp_diag";

pub(super) fn apply(machine: &Machine) -> Result<StepSuccess, Failure> {
    // `freeze` has normally loaded it already.
    machine.modules.load_on_demand(TCP_DIAG_MODULE)?;
    match destroy_external()? {
        0 => Ok(StepSuccess::NotNeeded),
        ended => Ok(StepSuccess::DoneWith(format!("{ended} destroyed"))),
    }
}

/// Destroys the connections to other machines, and returns their number.
fn destroy_external() -> Result<usize, SystemError> {
    let netlink = NetlinkSocket::open(Some(protocols::SOCK_DIAG)).context("open a netlink socket")?;
    let entries = netlink.list(&list_request()).context("list the TCP connections")?;
    let mut sockets: Vec<Socket> = entries.iter().filter_map(|entry| parse_socket(entry)).collect();
    sockets.retain(|socket| is_external(socket, &[]));
    if sockets.is_empty() {
        return Ok(0);
    }
    let own = network::addresses()?;
    sockets.retain(|socket| is_external(socket, &own));
    for socket in &sockets {
        destroy_one(&netlink, socket).context(format!("destroy the connection to {}", socket.peer))?;
    }
    Ok(sockets.len())
}

fn destroy_one(netlink: &NetlinkSocket, socket: &Socket) -> Result<(), Errno> {
    match netlink.request(&destroy_request(socket)) {
        // The connection has ended meanwhile, or it has no process and waits in FIN_WAIT_2.
        Err(Errno::NOENT) => Ok(()),
        Err(Errno::OPNOTSUPP) if socket.is_orphaned_fin_wait() => Ok(()),
        result => result,
    }
}

/// Whether the peer is another machine. Connections within the machine are intact in the clone.
fn is_external(socket: &Socket, own: &[IpAddr]) -> bool {
    let peer = socket.peer.to_canonical();
    !peer.is_loopback() && !own.contains(&peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_within_the_machine_stay() {
        let own: Vec<IpAddr> = ["10.0.2.15", "fe80::1"].map(|ip| ip.parse().expect("an address")).into();
        let socket_to = |peer: &str| Socket::with_peer(peer.parse().expect("an address"));
        for peer in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "10.0.2.15", "::ffff:10.0.2.15"] {
            assert!(!is_external(&socket_to(peer), &own), "{peer}");
        }
        for peer in ["10.0.2.2", "::ffff:10.0.2.2", "2001:db8::1", "fe80::2"] {
            assert!(is_external(&socket_to(peer), &own), "{peer}");
        }
    }
}
