//! What one network does in one round.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::figures::Probed;
use super::peer::Peer;
use crate::bench::stopwatch;

/// MiB in each direction.
pub(super) const MIB: u8 = 64;
/// Connections in a row.
const CONNECTIONS: u32 = 50;
const CHUNK: usize = 1 << 16;
/// How long a machine may take until it serves.
const PATIENCE: Duration = Duration::from_secs(30);

/// One round.
pub(super) fn of(peer: &Peer<'_>) -> Result<Probed> {
    ready(peer.service(7))?;
    let connect =
        (0..CONNECTIONS).map(|_| connect(peer.service(7))).collect::<Result<_>>().context("connect")?;
    Ok(Probed {
        connect,
        to: to(peer.service(9)).context("to it")?,
        from: from(peer.service(19)).context("from it")?,
    })
}

fn ready(at: SocketAddr) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while connect(at).is_err() {
        ensure!(Instant::now() < end, "{at} does not answer");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// From the connect to the first byte.
fn connect(at: SocketAddr) -> Result<f64> {
    let begun = Instant::now();
    let mut stream = TcpStream::connect_timeout(&at, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.read_exact(&mut [0])?;
    Ok(stopwatch::millis(begun))
}

fn to(at: SocketAddr) -> Result<f64> {
    let mut stream = TcpStream::connect(at)?;
    let chunk = vec![0; CHUNK];
    let begun = Instant::now();
    for _ in 0..usize::from(MIB) * ((1 << 20) / CHUNK) {
        stream.write_all(&chunk)?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.read_exact(&mut [0])?;
    Ok(stopwatch::millis(begun))
}

fn from(at: SocketAddr) -> Result<f64> {
    let mut stream = TcpStream::connect(at)?;
    let mut chunk = vec![0; CHUNK];
    let begun = Instant::now();
    stream.write_all(&[MIB])?;
    let mut left = usize::from(MIB) << 20;
    while left > 0 {
        let count = stream.read(&mut chunk)?;
        ensure!(count > 0, "the other end stopped {left} bytes early");
        left -= count;
    }
    Ok(stopwatch::millis(begun))
}
