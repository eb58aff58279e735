//! Published ports, reserved on the host until they are forwarded.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use mimeo_net::{PortMapping, Protocol};

use crate::stage::{PortProblem, StageError};

/// The first port that needs no privilege, unless the kernel's setting says otherwise.
const FIRST_UNPRIVILEGED: u16 = 1024;

/// Binds the mapping's host port. If it has none, the kernel chooses one, which is recorded in the mapping.
pub(crate) fn reserve_port(mapping: &mut PortMapping) -> Result<ReservedPort, StageError> {
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

/// A bound port, which no other process can take.
#[derive(Debug)]
pub(crate) enum ReservedPort {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

impl ReservedPort {
    /// Whether it is the host port of this mapping.
    pub(crate) fn is_for(&self, mapping: &PortMapping) -> bool {
        let (protocol, address) = match self {
            Self::Tcp(socket) => (Protocol::Tcp, socket.local_addr()),
            Self::Udp(socket) => (Protocol::Udp, socket.local_addr()),
        };
        let expected = SocketAddr::from((mapping.host_ip, mapping.host_port.unwrap_or_default()));
        protocol == mapping.protocol && address.is_ok_and(|address| address == expected)
    }
}

/// Binds a port; 0 selects any free one.
fn bind(ip: Ipv4Addr, port: u16, protocol: Protocol) -> std::io::Result<(u16, ReservedPort)> {
    let address = SocketAddr::from((ip, port));
    Ok(match protocol {
        Protocol::Tcp => {
            let socket = TcpListener::bind(address)?;
            (socket.local_addr()?.port(), ReservedPort::Tcp(socket))
        }
        Protocol::Udp => {
            let socket = UdpSocket::bind(address)?;
            (socket.local_addr()?.port(), ReservedPort::Udp(socket))
        }
    })
}

fn first_unprivileged() -> u16 {
    let setting = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    setting.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(FIRST_UNPRIVILEGED)
}
