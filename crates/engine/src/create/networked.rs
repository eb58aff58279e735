//! Stage 3: every published port has a number and is free.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use mimeo_net::{PortMapping, Protocol};

use super::StageError;
use super::error::PortProblem;
use super::imaged::Imaged;
use super::planned::Planned;
use crate::network::Connection;

/// Where ports for everybody begin, unless the kernel says otherwise.
const FIRST_UNPRIVILEGED: u16 = 1024;

/// A machine whose ports are chosen.
#[derive(Debug)]
pub(super) struct Networked {
    pub(super) imaged: Imaged,
    pub(super) connection: Connection,
}

impl Imaged {
    /// Chooses the ports that were left open and tries the others, and puts the
    /// machine on the bridge if it is to be there. Without a bridge the monitor
    /// takes the ports a moment later; should somebody be faster, its launch
    /// fails and says so. Undo: the connection's drop.
    pub(super) fn network(mut self) -> Result<Networked, StageError> {
        let Planned { claim, driver, clock, .. } = &mut self.planned;
        let ports = claim.record.network.iter_mut().flat_map(|network| &mut network.ports);
        // Held until all are settled: a port that is asked for twice is in use.
        let held = ports.map(settle).collect::<Result<Vec<Held>, _>>()?;
        let mut connection = Connection::of(driver.as_ref(), &mut claim.record, &claim.dir)?;
        let ports = claim.record.network.as_ref().map_or(&[][..], |network| &network.ports);
        connection.publish(ports, held)?;
        clock.lap("network");
        Ok(Networked { imaged: self, connection })
    }
}

pub(crate) fn settle(mapping: &mut PortMapping) -> Result<Held, StageError> {
    let PortMapping { host_ip: ip, protocol, .. } = *mapping;
    let port = mapping.host_port.unwrap_or_default();
    let error = match bind(ip, port, protocol) {
        Ok((port, held)) => {
            mapping.host_port = Some(port);
            return Ok(held);
        }
        Err(error) => error,
    };
    let reason = match error.kind() {
        ErrorKind::AddrInUse => PortProblem::InUse,
        ErrorKind::PermissionDenied => PortProblem::Privileged { first: first_unprivileged() },
        ErrorKind::AddrNotAvailable => PortProblem::NotOurs { ip },
        _ => PortProblem::Other(error),
    };
    Err(StageError::Port { ip, port, protocol, reason })
}

/// A port that nobody else can take meanwhile.
#[derive(Debug)]
#[allow(dead_code, reason = "held for its drop")]
pub(crate) enum Held {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

/// Takes a port; 0 is any that is free.
fn bind(ip: Ipv4Addr, port: u16, protocol: Protocol) -> std::io::Result<(u16, Held)> {
    let address = SocketAddr::from((ip, port));
    Ok(match protocol {
        Protocol::Tcp => {
            let socket = TcpListener::bind(address)?;
            (socket.local_addr()?.port(), Held::Tcp(socket))
        }
        Protocol::Udp => {
            let socket = UdpSocket::bind(address)?;
            (socket.local_addr()?.port(), Held::Udp(socket))
        }
    })
}

fn first_unprivileged() -> u16 {
    let setting = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    setting.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(FIRST_UNPRIVILEGED)
}
