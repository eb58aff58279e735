//! Relays a guest's DNS queries to the host's name servers.
//!
//! The guest queries its gateway, in the machine's namespace; the relay queries the
//! name servers from the host's namespace. So a name server on the host's loopback serves
//! guests too, and a changed `/etc/resolv.conf` takes effect at the next query.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// The file that lists the host's name servers.
const RESOLV_CONF: &str = "/etc/resolv.conf";
const PORT: u16 = 53;
/// Longest UDP message: the largest size that EDNS can announce.
const MAX_MESSAGE: usize = 65_535;
/// Concurrent queries of one guest: each uses a socket of the host.
const MAX_OPEN_QUERIES: usize = 256;
/// Timeout for one name server; a guest retries after five seconds.
const SERVER_TIMEOUT: Duration = Duration::from_secs(5);
/// Lifetime of a TCP connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after a failed receive or accept, for example when no descriptor is free.
const SOCKET_RETRY_DELAY: Duration = Duration::from_millis(50);

/// The sockets that receive a guest's DNS queries.
#[derive(Debug)]
pub struct DnsRelay {
    udp: std::net::UdpSocket,
    tcp: std::net::TcpListener,
    resolv_conf: PathBuf,
}

impl DnsRelay {
    pub(crate) fn new(udp: std::net::UdpSocket, tcp: std::net::TcpListener) -> Self {
        Self { udp, tcp, resolv_conf: RESOLV_CONF.into() }
    }

    /// Relays queries until the future is dropped.
    ///
    /// # Errors
    /// When the sockets cannot be used.
    pub async fn serve(self) -> io::Result<()> {
        self.udp.set_nonblocking(true)?;
        self.tcp.set_nonblocking(true)?;
        let udp = Arc::new(UdpSocket::from_std(self.udp)?);
        let tcp = TcpListener::from_std(self.tcp)?;
        let (resolv_conf, permits) =
            (Arc::<Path>::from(self.resolv_conf), Arc::new(Semaphore::new(MAX_OPEN_QUERIES)));
        let udp_queries = serve_udp(&udp, &resolv_conf, &permits);
        let tcp_connections = serve_tcp(&tcp, &resolv_conf, &permits);
        tokio::join!(udp_queries, tcp_connections);
        Ok(())
    }
}

async fn serve_udp(udp: &Arc<UdpSocket>, resolv_conf: &Arc<Path>, permits: &Arc<Semaphore>) {
    let mut buffer = vec![0; MAX_MESSAGE];
    let mut queries = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            received = udp.recv_from(&mut buffer) => {
                let Ok((length, from)) = received else { tokio::time::sleep(SOCKET_RETRY_DELAY).await; continue };
                // Queries above the limit get no reply, as from an overloaded server.
                let Ok(permit) = Arc::clone(permits).try_acquire_owned() else { continue };
                let (udp, resolv_conf, query) = (Arc::clone(udp), Arc::clone(resolv_conf), buffer[..length].to_vec());
                queries.spawn(async move {
                    if let Some(answer) = query_servers(&query, &name_servers(&resolv_conf)).await {
                        // A lost reply is normal with UDP: the guest retries.
                        udp.send_to(&answer, from).await.ok();
                    }
                    drop(permit);
                });
            }
            Some(_) = queries.join_next() => {}
        }
    }
}

/// Queries the servers in order and returns the first reply.
async fn query_servers(query: &[u8], servers: &[SocketAddr]) -> Option<Vec<u8>> {
    for server in servers {
        if let Ok(Ok(answer)) = timeout(SERVER_TIMEOUT, query_server(query, *server)).await {
            return Some(answer);
        }
    }
    None
}

async fn query_server(query: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    // A connected socket receives datagrams from this server only.
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; MAX_MESSAGE];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // A reply has the id of its query.
        if buffer[..length].get(..2) == query.get(..2) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn serve_tcp(tcp: &TcpListener, resolv_conf: &Arc<Path>, permits: &Arc<Semaphore>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = tcp.accept() => {
                let Ok((guest, _)) = accepted else { tokio::time::sleep(SOCKET_RETRY_DELAY).await; continue };
                let Ok(permit) = Arc::clone(permits).try_acquire_owned() else { continue };
                let resolv_conf = Arc::clone(resolv_conf);
                connections.spawn(async move {
                    // A connection that takes too long is closed.
                    timeout(CONNECTION_TIMEOUT, forward_connection(guest, &name_servers(&resolv_conf))).await.ok();
                    drop(permit);
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn forward_connection(mut guest: TcpStream, servers: &[SocketAddr]) {
    for server in servers {
        if let Ok(Ok(mut server)) = timeout(SERVER_TIMEOUT, TcpStream::connect(server)).await {
            // Either side may close the connection at any time.
            copy_bidirectional(&mut guest, &mut server).await.ok();
            return;
        }
    }
}

/// The host's name servers, in the order of resolv.conf.
fn name_servers(resolv_conf: &Path) -> Vec<SocketAddr> {
    let text = fs::read_to_string(resolv_conf).unwrap_or_default();
    let found: Vec<_> = text.lines().filter_map(parse_name_server).collect();
    // The C library's default when the file lists none.
    if found.is_empty() { vec![(Ipv4Addr::LOCALHOST, PORT).into()] } else { found }
}

/// Parses `nameserver 192.0.2.1`.
fn parse_name_server(line: &str) -> Option<SocketAddr> {
    let mut words = line.split_whitespace();
    let ip = words.next().filter(|word| *word == "nameserver").and_then(|_| words.next())?;
    Some(SocketAddr::new(ip.parse().ok()?, PORT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_parsed_like_the_c_library() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("resolv.conf");
        fs::write(&path, "# nameserver 192.0.2.9\nsearch example\nnameserver 192.0.2.1\nnameserver ::1 # ours\nnameserver x\n")
            .expect("written");
        assert_eq!(
            name_servers(&path),
            ["192.0.2.1:53".parse().expect("an address"), "[::1]:53".parse().expect("an address")]
        );
        assert_eq!(name_servers(&dir.path().join("none")), ["127.0.0.1:53".parse().expect("an address")]);
    }

    /// A server that first sends a reply with a wrong id, then echoes the query.
    async fn echo() -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let address = socket.local_addr().expect("its address");
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                socket.send_to(b"xxforged", from).await.expect("sent");
                socket.send_to(&buffer[..length], from).await.expect("sent");
            }
        });
        address
    }

    #[tokio::test]
    async fn a_reply_to_another_query_is_not_forwarded() {
        let closed =
            std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket").local_addr().expect("its address");
        let answer = query_servers(b"\x12\x34question", &[closed, echo().await]).await;
        assert_eq!(answer.as_deref(), Some(&b"\x12\x34question"[..]));
    }
}
