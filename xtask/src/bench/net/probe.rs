//! Measures one network in one round.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::figures::Probe;
use super::peer::Peer;
use crate::bench::stopwatch;

/// MiB sent in each direction.
pub(super) const MIB: u8 = 64;
/// Number of connections in a row.
const CONNECTIONS: u32 = 50;
const CHUNK: usize = 1 << 16;
/// How long a machine may take until its services respond.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Measures one round.
pub(super) fn measure_round(peer: &Peer<'_>) -> Result<Probe> {
    wait_for(peer.service(7))?;
    let connect =
        (0..CONNECTIONS).map(|_| connect(peer.service(7))).collect::<Result<_>>().context("connect")?;
    Ok(Probe {
        connect,
        send: send(peer.service(9)).context("send")?,
        receive: receive(peer.service(19)).context("receive")?,
    })
}

fn wait_for(address: SocketAddr) -> Result<()> {
    let end = Instant::now() + START_TIMEOUT;
    while connect(address).is_err() {
        ensure!(Instant::now() < end, "{address} does not respond");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Measures the time from the connect to the first byte.
fn connect(address: SocketAddr) -> Result<f64> {
    let begun = Instant::now();
    let mut stream = TcpStream::connect_timeout(&address, START_TIMEOUT)?;
    stream.set_read_timeout(Some(START_TIMEOUT))?;
    stream.read_exact(&mut [0])?;
    Ok(stopwatch::millis(begun))
}

fn send(address: SocketAddr) -> Result<f64> {
    let mut stream = TcpStream::connect(address)?;
    let chunk = vec![0; CHUNK];
    let begun = Instant::now();
    for _ in 0..usize::from(MIB) * ((1 << 20) / CHUNK) {
        stream.write_all(&chunk)?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.read_exact(&mut [0])?;
    Ok(stopwatch::millis(begun))
}

fn receive(address: SocketAddr) -> Result<f64> {
    let mut stream = TcpStream::connect(address)?;
    let mut chunk = vec![0; CHUNK];
    let begun = Instant::now();
    stream.write_all(&[MIB])?;
    let mut left = usize::from(MIB) << 20;
    while left > 0 {
        let count = stream.read(&mut chunk)?;
        ensure!(count > 0, "the peer closed the connection {left} bytes early");
        left -= count;
    }
    Ok(stopwatch::millis(begun))
}
