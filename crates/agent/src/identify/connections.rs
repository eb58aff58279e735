//! Line 6: the parent's TCP connections end in the copy.
//!
//! It comes after the network line: from an address that this machine does not
//! have any more the kernel sends no farewell, which would end the parent's own.

mod message;

use std::net::IpAddr;

use mimeo_agent_protocol::message::Failure;
use rustix::io::Errno;
use rustix::net::netlink;

use super::record::Did;
use crate::failure::{Context, SystemError};
use crate::machine::Machine;
use crate::netlink::Kernel;
use crate::network;
use message::{Socket, destroy, list, socket};

/// What answers the questions, where it is not built in.
const MODULE: &str = "tcp_diag";

pub(super) fn take(machine: &Machine) -> Result<Did, Failure> {
    // `freeze` has loaded it: this only sees to it.
    machine.modules.demand(MODULE)?;
    match end()? {
        0 => Ok(Did::NotNeeded),
        ended => Ok(Did::Told(format!("{ended} ended"))),
    }
}

/// Ends what leads out of this machine, and counts it.
fn end() -> Result<usize, SystemError> {
    let kernel = Kernel::open(Some(netlink::SOCK_DIAG)).context("open a netlink socket")?;
    let entries = kernel.list(&list()).context("list the TCP connections")?;
    let mut sockets: Vec<Socket> = entries.iter().filter_map(|entry| socket(entry)).collect();
    sockets.retain(|socket| leads_out(socket, &[]));
    if sockets.is_empty() {
        return Ok(0);
    }
    let own = network::addresses()?;
    sockets.retain(|socket| leads_out(socket, &own));
    for socket in &sockets {
        end_one(&kernel, socket).context(format!("end the connection to {}", socket.peer))?;
    }
    Ok(sockets.len())
}

fn end_one(kernel: &Kernel, socket: &Socket) -> Result<(), Errno> {
    match kernel.ask(&destroy(socket)) {
        // It has come to its end by itself, or has no process and waits for no answer.
        Err(Errno::NOENT) => Ok(()),
        Err(Errno::OPNOTSUPP) if socket.is_over() => Ok(()),
        result => result,
    }
}

/// Whether the other end is another machine. What a machine has with itself is whole in the copy.
fn leads_out(socket: &Socket, own: &[IpAddr]) -> bool {
    let peer = socket.peer.to_canonical();
    !peer.is_loopback() && !own.contains(&peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_machine_has_with_itself_stays() {
        let own: Vec<IpAddr> = ["10.0.2.15", "fe80::1"].map(|ip| ip.parse().expect("an address")).into();
        let to = |peer: &str| Socket::with_peer(peer.parse().expect("an address"));
        for peer in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "10.0.2.15", "::ffff:10.0.2.15"] {
            assert!(!leads_out(&to(peer), &own), "{peer}");
        }
        for peer in ["10.0.2.2", "::ffff:10.0.2.2", "2001:db8::1", "fe80::2"] {
            assert!(leads_out(&to(peer), &own), "{peer}");
        }
    }
}
