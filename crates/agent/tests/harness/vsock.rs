//! A vsock device for an emulated machine: rust-vmm's vhost-device-vsock.
//!
//! Its host end uses Firecracker's protocol: a client connects to its socket and sends a port of the
//! guest, and gets `OK` when the guest accepts the connection.
//!
//! The program (0.3.0) has a fault that the tests must avoid. It accepts connections as soon as QEMU has
//! sent the guest's memory table, although QEMU sets the virtqueues up after that. A connection in between
//! makes its worker thread read a queue that is not ready, and the thread returns with that error: it logs
//! nothing, and the process stays. From then on the device answers no connection and carries no packet.
//! The window is short on an idle host. Of six machines that started at once and were connected to every
//! 2 ms, two lost their worker. So [`Connector::connect`] connects only once the worker watches both queues.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::TIMEOUT;

/// The program. Debian has no package of it; `make test-deps` installs it.
pub const PROGRAM: &str = "vhost-device-vsock";
/// The port that the agent listens on.
const PORT: u32 = 1024;
/// Interval between attempts to connect.
const INTERVAL: Duration = Duration::from_millis(2);
/// The name of the thread that carries the packets.
const WORKER: &str = "vring_worker";
/// The virtqueues that the worker watches: those of received and of sent packets.
const QUEUES: [&str; 2] = ["0", "1"];

/// Whether the program is installed. If not, this prints a notice.
pub fn is_installed() -> bool {
    let found = Command::new(PROGRAM).arg("--version").output().is_ok();
    if !found {
        eprintln!(
            "NOT RUN: {PROGRAM} is not installed (`make test-deps`), and nothing else gives QEMU a vsock device"
        );
    }
    found
}

/// The device's process. Dropping it kills it.
pub struct Device {
    process: Child,
    /// The socket that the host connects to.
    socket: PathBuf,
}

impl Device {
    /// Starts the process; QEMU connects to `device` below `directory`.
    pub fn start(directory: &Path) -> Self {
        let at = |name: &str| directory.join(name).display().to_string();
        let vm = format!("guest-cid=3,uds-path={},socket={}", at("link"), at("device"));
        let process = Command::new(PROGRAM).args(["--vm", &vm]).spawn().expect("it starts");
        let end = Instant::now() + TIMEOUT;
        while !is_listening(&directory.join("device")) {
            assert!(Instant::now() < end, "{PROGRAM} does not listen");
            std::thread::sleep(Duration::from_millis(1));
        }
        Self { process, socket: directory.join("link") }
    }

    /// A handle that connects to the guest. It needs the process to run.
    pub fn connector(&self) -> Connector {
        Connector { device: self.process.id(), socket: self.socket.clone() }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Connects to the guest's agent.
#[derive(Debug, Clone)]
pub struct Connector {
    /// The device's process ID.
    device: u32,
    socket: PathBuf,
}

impl Connector {
    /// Connects to the agent. Returns none when the device has no queues yet or the agent does not listen
    /// yet, and panics when the connection is neither accepted nor refused.
    pub fn connect(&self) -> Option<UnixStream> {
        if !self.has_queues() {
            return None;
        }
        assert!(self.has_worker(), "{PROGRAM}: its worker thread has ended, which is not the agent's fault");
        // The program marks a queue as ready just after its worker begins to watch it.
        std::thread::sleep(INTERVAL);
        let mut stream = UnixStream::connect(&self.socket).ok()?;
        stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
        stream.write_all(format!("CONNECT {PORT}\n").as_bytes()).ok()?;
        let mut line = String::new();
        // Read one byte at a time: the data after the line is the agent's.
        match BufReader::with_capacity(1, &stream).read_line(&mut line) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!(
                "a connection to the guest gets no reply; the device's worker thread {}",
                if self.has_worker() { "runs" } else { "has ended" },
            ),
            Ok(_) if line.starts_with("OK ") => Some(stream),
            // The guest or the device refuses the connection.
            Ok(_) | Err(_) => None,
        }
    }

    /// Whether the device still has the thread that carries the packets.
    pub fn has_worker(&self) -> bool {
        let mut threads = self.entries("task").into_iter();
        threads.any(|thread| read(&thread.join("comm")).trim() == WORKER)
    }

    /// Whether the worker watches its queues: they are in its epoll by their numbers.
    pub fn has_queues(&self) -> bool {
        let watched: String = self.entries("fdinfo").iter().map(|file| read(file)).collect();
        let numbers =
            watched.lines().filter_map(|line| line.split_once("data:")?.1.split_whitespace().next());
        QUEUES.iter().all(|queue| numbers.clone().any(|number| number == *queue))
    }

    fn entries(&self, directory: &str) -> Vec<PathBuf> {
        let entries =
            std::fs::read_dir(format!("/proc/{}/{directory}", self.device)).expect("the device runs");
        entries.flatten().map(|entry| entry.path()).collect()
    }
}

/// Whether a process listens at `socket`. Its file exists a moment before that, when connections are refused.
/// It is not tried by a connection: the device would take it for QEMU's.
fn is_listening(socket: &Path) -> bool {
    // SO_ACCEPTCON of the kernel's socket flags.
    const LISTENING: &str = "00010000";
    let path = socket.display().to_string();
    read(Path::new("/proc/net/unix")).lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(3) == Some(&LISTENING) && fields.last() == Some(&path.as_str())
    })
}

/// The text of a file; empty when it was removed just now.
fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// QEMU's arguments for the device, which shares the machine's memory.
pub fn arguments(directory: &Path) -> Vec<String> {
    let device = directory.join("device").display().to_string();
    [
        "-object",
        "memory-backend-memfd,id=ram,size=256M,share=on",
        "-machine",
        "memory-backend=ram",
        "-chardev",
        &format!("socket,id=vsock,path={device}"),
        "-device",
        "vhost-user-vsock-device,chardev=vsock",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Relays to the agent over a connection that can be replaced, as a machine's is when it is saved.
pub fn relay(connector: Connector, first: UnixStream) -> (UnixStream, Arc<Notify>) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let cut = Arc::new(Notify::new());
    let cut_requested = cut.clone();
    tokio::spawn(async move {
        let (mut near, mut far) = (asynchronous(theirs), asynchronous(first));
        loop {
            tokio::select! {
                // Either side is closed.
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
                () = cut_requested.notified() => {}
            }
            drop(far);
            far = loop {
                match connector.connect() {
                    Some(stream) => break asynchronous(stream),
                    None => tokio::time::sleep(INTERVAL).await,
                }
            };
        }
    });
    (ours, cut)
}

fn asynchronous(stream: UnixStream) -> tokio::net::UnixStream {
    stream.set_nonblocking(true).expect("does not block");
    tokio::net::UnixStream::from_std(stream).expect("a socket")
}
