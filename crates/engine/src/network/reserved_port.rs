//! Published ports, reserved on the host until they are forwarded.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use mimeo_net::{PortMapping, Protocol};

use crate::stage::{PortProblem, StageError};

/// Where ports for everybody begin, unless the kernel says otherwise.
const FIRST_UNPRIVILEGED: u16 = 1024;

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

/// A port that nobody else can take meanwhile.
#[derive(Debug)]
#[allow(dead_code, reason = "held for its drop")]
pub(crate) enum ReservedPort {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

/// Takes a port; 0 is any that is free.
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
