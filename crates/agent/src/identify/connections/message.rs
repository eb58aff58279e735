//! sock_diag messages, in the layout of linux/inet_diag.h.

use std::net::IpAddr;

use crate::netlink::Message;

/// Lists the sockets of all families in one pass over the kernel's table, which is long.
const TCPDIAG_GETSOCK: u16 = 18;
const SOCK_DESTROY: u16 = 21;
const TCP: u8 = 6;
const INET: u8 = 2;
const INET6: u8 = 10;
/// States that are not destroyed: the connection has ended, or the socket has none.
const TIME_WAIT: u32 = 6;
const CLOSE: u32 = 7;
const LISTEN: u32 = 10;
/// The bits of all states.
const ALL_STATES: u32 = 0x1fff;
const FIN_WAIT_2: u8 = 5;
/// Size of `struct inet_diag_sockid`, and the offset of the peer's address in it.
const SOCKET_ID: usize = 48;
const PEER_OFFSET: usize = 20;

/// A listed socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Socket {
    family: u8,
    state: u8,
    /// The `struct inet_diag_sockid` that identifies it.
    id: [u8; SOCKET_ID],
    pub(super) peer: IpAddr,
}

impl Socket {
    /// Whether its process has closed it and only the kernel waits, in FIN_WAIT_2.
    pub(super) fn is_orphaned_fin_wait(&self) -> bool {
        self.state == FIN_WAIT_2
    }

    #[cfg(test)]
    pub(super) fn with_peer(peer: IpAddr) -> Self {
        Self { family: INET, state: 1, id: [0; SOCKET_ID], peer }
    }
}

/// A request for the list of connections: `struct inet_diag_req`.
pub(super) fn list_request() -> Message {
    let states = ALL_STATES & !(1 << TIME_WAIT | 1 << CLOSE | 1 << LISTEN);
    Message::new(TCPDIAG_GETSOCK, 0, [&[0; 4 + SOCKET_ID][..], &states.to_ne_bytes(), &[0; 4]].concat())
}

/// A request to destroy a connection: `struct inet_diag_req_v2`.
pub(super) fn destroy_request(socket: &Socket) -> Message {
    Message::new(SOCK_DESTROY, 0, destroy_body(socket))
}

fn destroy_body(socket: &Socket) -> Vec<u8> {
    [&[socket.family, TCP, 0, 0][..], &ALL_STATES.to_ne_bytes(), &socket.id].concat()
}

/// Parses an entry of the list: `struct inet_diag_msg`.
pub(super) fn parse_socket(entry: &[u8]) -> Option<Socket> {
    let id: [u8; SOCKET_ID] = entry.get(4..4 + SOCKET_ID)?.try_into().ok()?;
    let peer = match entry[0] {
        INET => <[u8; 4]>::try_from(&id[PEER_OFFSET..PEER_OFFSET + 4]).ok()?.into(),
        INET6 => <[u8; 16]>::try_from(&id[PEER_OFFSET..PEER_OFFSET + 16]).ok()?.into(),
        _ => return None,
    };
    Some(Socket { family: entry[0], state: entry[1], id, peer })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(family: u8, peer: &[u8]) -> Vec<u8> {
        let mut entry = vec![0; 72];
        (entry[0], entry[1]) = (family, 1);
        entry[4 + PEER_OFFSET..4 + PEER_OFFSET + peer.len()].copy_from_slice(peer);
        entry[4 + 40..4 + 48].copy_from_slice(&[9; 8]);
        entry
    }

    #[test]
    fn a_destroy_request_names_the_socket_as_listed() {
        let entry = entry(2, &[10, 0, 2, 2]);
        let socket = parse_socket(&entry).expect("a socket");
        assert_eq!(socket.peer, IpAddr::from([10, 0, 2, 2]));
        let request = destroy_body(&socket);
        assert_eq!(request.len(), 56);
        assert_eq!(request[8..], entry[4..4 + SOCKET_ID], "ports, addresses and cookie");
    }

    #[test]
    fn the_address_length_follows_the_family() {
        let socket = parse_socket(&entry(10, &std::net::Ipv6Addr::LOCALHOST.octets())).expect("a socket");
        assert!(socket.peer.is_loopback());
        assert_eq!(parse_socket(&entry(1, &[])), None);
        assert_eq!(parse_socket(&[2; 20]), None);
    }
}
