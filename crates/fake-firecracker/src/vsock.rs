//! The host's side of a vsock: a socket for connections to the guest.

use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

use crate::emulation;
use crate::settings::Guest;

/// The longest `CONNECT` line, in bytes.
const MAX_LINE_BYTES: usize = 32;
/// The first host port of connections.
const FIRST_PORT: u32 = 1 << 30;

/// The guest's state that connections depend on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct GuestState {
    is_running: bool,
    /// Incremented when the guest is told that all its connections are reset.
    resets: u32,
}

/// The listening vsock. Dropping it stops listening.
#[derive(Debug)]
pub(crate) struct Vsock {
    state: watch::Sender<GuestState>,
    listening: JoinHandle<()>,
}

impl Vsock {
    pub(crate) fn listen(path: &str, guest: Guest) -> io::Result<Self> {
        let listener = StdListener::bind(path)?;
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let (state, watching) = watch::channel(GuestState::default());
        let attempts = Arc::new(AtomicU32::new(0));
        let port = Arc::default();
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = Connection {
                    guest,
                    attempts: attempts.clone(),
                    state: watching.clone(),
                    port: Arc::clone(&port),
                };
                tokio::spawn(connection.serve(stream));
            }
        });
        Ok(Self { state, listening })
    }

    pub(crate) fn set_running(&self, is_running: bool) {
        self.state.send_modify(|state| state.is_running = is_running);
    }

    /// Makes the guest forget all its connections. As with the real one, the host's ends stay open.
    pub(crate) fn reset(&self) {
        self.state.send_modify(|state| state.resets += 1);
    }
}

impl Drop for Vsock {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

struct Connection {
    guest: Guest,
    attempts: Arc<AtomicU32>,
    state: watch::Receiver<GuestState>,
    /// The serial port of an emulated guest: shared by all connections, one at a time.
    port: Arc<Mutex<Option<UnixStream>>>,
}

impl Connection {
    async fn serve(mut self, mut stream: UnixStream) {
        let resets = self.state.borrow().resets;
        let mut state = self.state.clone();
        let is_forgotten = tokio::select! {
            // Any error ends the connection.
            _ = self.converse(&mut stream) => false,
            _ = state.wait_for(|state| state.resets != resets) => true,
        };
        if is_forgotten {
            await_reset(stream).await;
        }
    }

    async fn converse(&mut self, stream: &mut UnixStream) -> io::Result<()> {
        let number = self.attempts.fetch_add(1, Ordering::Relaxed);
        let line = read_line(stream).await?;
        let port = line.strip_prefix("CONNECT ").and_then(|port| port.parse::<u32>().ok());
        let Some(_) = port else { return Err(io::ErrorKind::InvalidData.into()) };
        self.state.wait_for(|state| state.is_running).await.map_err(|_| io::ErrorKind::BrokenPipe)?;
        match self.guest {
            Guest::Silent => std::future::pending().await,
            Guest::Refuse => Ok(()),
            Guest::Late(refused) if number < refused => Ok(()),
            Guest::Emulated => {
                let mut port = self.port.lock().await;
                let port = match &mut *port {
                    Some(port) => port,
                    none => none.insert(UnixStream::from_std(nonblocking(emulation::connect_port()?)?)?),
                };
                stream.write_all(format!("OK {}\n", FIRST_PORT + number).as_bytes()).await?;
                relay(stream, port).await
            }
            Guest::Echo | Guest::Late(_) => {
                stream.write_all(format!("OK {}\n", FIRST_PORT + number).as_bytes()).await?;
                let (mut reader, mut writer) = stream.split();
                tokio::io::copy(&mut reader, &mut writer).await.map(drop)
            }
        }
    }
}

fn nonblocking(stream: std::os::unix::net::UnixStream) -> io::Result<std::os::unix::net::UnixStream> {
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Handles a connection that the guest has forgotten: nothing more is sent on it, and the host's next write
/// is lost and answered with a reset.
async fn await_reset(mut stream: UnixStream) {
    let mut lost = [0; 4096];
    // An error also ends the connection.
    stream.read(&mut lost).await.unwrap_or_default();
}

/// Relays bytes until either side ends. The serial port stays open on the guest's side.
async fn relay(stream: &mut UnixStream, port: &mut UnixStream) -> io::Result<()> {
    let (mut from_host, mut to_host) = stream.split();
    let (mut from_guest, mut to_guest) = port.split();
    tokio::select! {
        done = tokio::io::copy(&mut from_host, &mut to_guest) => done.map(drop),
        done = tokio::io::copy(&mut from_guest, &mut to_host) => done.map(drop),
    }
}

async fn read_line(stream: &mut UnixStream) -> io::Result<String> {
    let mut line = Vec::new();
    while line.len() < MAX_LINE_BYTES {
        match stream.read_u8().await? {
            b'\n' => return Ok(String::from_utf8_lossy(&line).into_owned()),
            byte => line.push(byte),
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}
