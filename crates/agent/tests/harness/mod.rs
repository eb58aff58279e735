//! Boots the agent in a real virtual machine and talks to it as a host does.
//! A missing prerequisite (QEMU, apt, the musl target) fails the test that needs it.

mod archive;
mod guest;
mod identity;
mod initramfs;
mod kernel;
mod process;
mod share;
mod vsock;

use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mimeo_agent_protocol::link::{Link, Stream, connect};
use mimeo_agent_protocol::message::{Address, Configure, ContainerSetup, Disk, Interface, Reply, Request};
use tokio::net::UnixStream;
use tokio::sync::Notify;

pub use archive::names;
pub use identity::{COUNTER, assert_step_failed, identity};
pub use process::{Output, Running, command, pause_briefly, shell};
pub use share::{Share, serve};
pub use vsock::is_installed as vsock_is_installed;

/// Timeout of a reply; a loaded host is slow.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A running machine. Dropping it kills it.
pub struct Vm {
    qemu: Child,
    pub link: Link,
    /// A duplicate of the link's socket, to hang up.
    socket: std::os::unix::net::UnixStream,
    directory: tempfile::TempDir,
    /// The process of the vsock device, if the machine has one.
    device: Option<vsock::Device>,
    /// Tells the relay to replace the connection to the agent.
    cut: Option<Arc<Notify>>,
    pub answered_after: Duration,
}

/// The device that the host link uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Port,
    Vsock,
}

/// Runs a program of the host to its end.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Vm {
    /// Boots a machine and begins a session with its agent.
    pub async fn boot() -> Self {
        Self::boot_with(initramfs::LAZY).await
    }

    /// Boots a machine that has a vsock device, and no serial port. Its disks have no serial numbers.
    pub async fn boot_over_vsock() -> Self {
        Self::boot_with_transport(
            Transport::Vsock,
            &[initramfs::LAZY, &["vmw_vsock_virtio_transport"]].concat(),
        )
        .await
    }

    /// Boots a machine that can load these modules on demand.
    pub async fn boot_with(lazy: &[&str]) -> Self {
        Self::boot_with_transport(Transport::Port, lazy).await
    }

    async fn boot_with_transport(transport: Transport, lazy: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let (kernel, modules) = kernel::get();
        let initramfs = directory.path().join("initramfs");
        initramfs::pack(&initramfs, &modules, lazy);
        guest::disks(directory.path());
        let started = Instant::now();
        let device = (transport == Transport::Vsock).then(|| vsock::Device::start(directory.path()));
        let qemu = spawn(directory.path(), &kernel, &initramfs, transport);
        let (link, socket, cut) = connect_to_agent(&directory.path().join("link"), device.as_ref(), 1).await;
        Self { qemu, link, socket, directory, device, cut, answered_after: started.elapsed() }
    }

    /// Boots a machine and gives it its name, network and disks.
    pub async fn configured() -> Self {
        let vm = Self::boot().await;
        vm.succeed(Request::Configure(Box::new(configure(true)))).await;
        vm
    }

    /// Boots a machine whose container runs `script`.
    pub async fn running(script: &str) -> (Self, Running) {
        let vm = Self::configured().await;
        let container = vm.start(shell(script)).await;
        (vm, container)
    }

    /// Ends the session and begins another.
    pub async fn reconnect(&mut self) {
        self.socket.shutdown(std::net::Shutdown::Both).expect("hangs up");
        (self.link, self.socket, self.cut) = connect_to_agent(
            &self.directory.path().join("link"),
            self.device.as_ref(),
            self.link.session() + 1,
        )
        .await;
    }

    /// Ends the session, and returns a new connection to the port, without a session.
    pub async fn hang_up(&mut self) -> UnixStream {
        self.socket.shutdown(std::net::Shutdown::Both).expect("hangs up");
        let path = self.directory.path().join("link");
        let end = Instant::now() + TIMEOUT;
        loop {
            match UnixStream::connect(&path).await {
                Ok(port) => return port,
                Err(error) => assert!(Instant::now() < end, "{}: {error}", path.display()),
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Replaces the connection to the agent. The session does not notice.
    pub fn cut(&self) {
        self.cut.as_ref().expect("a machine over vsock").notify_one();
    }

    pub fn open(&self, request: &Request) -> Stream {
        self.link.open(request).expect("a stream")
    }

    /// Sends a request, and returns the first reply.
    pub async fn request(&self, request: Request) -> Reply {
        let mut stream = self.open(&request);
        let answer = tokio::time::timeout(TIMEOUT, stream.receiver.message()).await;
        match answer {
            Ok(Ok(reply)) => reply,
            other => panic!("{request:?}: {other:?}\n{}", self.console()),
        }
    }

    /// Sends a request that must succeed.
    pub async fn succeed(&self, request: Request) -> Reply {
        match self.request(request.clone()).await {
            Reply::Failed(failure) => panic!("{request:?}: {failure}\n{}", self.console()),
            reply => reply,
        }
    }

    pub fn console(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("console")).unwrap_or_default()
    }

    /// Waits until the machine has powered itself off.
    pub async fn wait_for_exit(&mut self) {
        let end = Instant::now() + TIMEOUT;
        while self.qemu.try_wait().expect("qemu's status").is_none() {
            assert!(Instant::now() < end, "the machine still runs: {}", self.console());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.qemu.kill().ok();
        self.qemu.wait().ok();
    }
}

/// The configuration of the tests' machines.
pub fn configure(writable: bool) -> Configure {
    let disk = |serial: &str| Disk { serial: serial.into(), filesystem: "ext4".into(), position: None };
    Configure {
        machine: "0".repeat(64),
        hostname: "box".into(),
        unix_nanos: 1_800_000_000_000_000_000,
        interface: Some(Interface {
            mac: "02:00:00:00:00:07".into(),
            address: Address { ip: [10, 0, 2, 15].into(), prefix: 24 },
            gateway: [10, 0, 2, 2].into(),
            mtu: 1400,
            ipv6: None,
        }),
        dns: vec!["10.0.2.3".into()],
        dns_search: vec!["example.org".into()],
        dns_options: Vec::new(),
        hosts: [("db".to_owned(), "10.9.8.7".to_owned())].into(),
        image: disk("image"),
        writable: writable.then(|| disk("writable")),
        vm_generation: None,
        entropy: None,
        env: std::collections::BTreeMap::new(),
        setup: ContainerSetup::default(),
        system: None,
    }
}

fn spawn(directory: &Path, kernel: &Path, initramfs: &Path, transport: Transport) -> Child {
    let at = |name: &str| directory.join(name).display().to_string();
    let append = format!("console=ttyS0 quiet reboot=t panic=-1 tsc_early_khz={}", kernel::host_khz());
    let disk = |name: &str| match transport {
        Transport::Port => format!("virtio-blk-device,drive={name},serial={name}"),
        Transport::Vsock => format!("virtio-blk-device,drive={name}"),
    };
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-M", "microvm,acpi=on", "-accel", "tcg,tb-size=64", "-cpu", "max", "-smp", "1", "-m", "256"])
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", &append, "-serial", &format!("file:{}", at("console"))])
        .args(["-netdev", "user,id=net", "-device", "virtio-net-device,netdev=net,mac=02:00:00:00:00:07"])
        .args(["-drive", &format!("if=none,id=image,file={},format=raw,readonly=on", at("image"))])
        .args(["-device", &disk("image")])
        .args(["-drive", &format!("if=none,id=writable,file={},format=raw", at("writable"))])
        .args(["-device", &disk("writable")]);
    match transport {
        Transport::Port => qemu
            .args(["-device", "virtio-serial-device"])
            .args(["-chardev", &format!("socket,id=link,path={},server=on,wait=off", at("link"))])
            .args(["-device", "virtserialport,chardev=link,name=mimeo"]),
        Transport::Vsock => qemu.args(vsock::arguments(directory)),
    };
    qemu.spawn().unwrap_or_else(|error| panic!("{qemu:?}: {error}"))
}

/// Sends one request in a new session, whose end the port does not see, as the warm-up runs of a
/// stencil do. `delay` passes between the agent's hello and the request.
pub async fn request_in_new_session(port: &mut UnixStream, number: u32, delay: Duration) {
    let (session, mut relayed) = UnixStream::pair().expect("a pair");
    let request_reply = async {
        let (reader, writer) = session.into_split();
        let (link, _) = connect(reader, writer, number, "test").await.expect("a session");
        let started = Instant::now();
        while started.elapsed() < delay {
            tokio::task::yield_now().await;
        }
        let mut stream = link.open(&Request::Signal { signal: 15 }).expect("a stream");
        stream.receiver.message::<Reply>().await.expect("an answer")
    };
    tokio::select! {
        reply = request_reply => assert!(matches!(reply, Reply::Failed(_)), "{reply:?}"),
        ended = tokio::io::copy_bidirectional(port, &mut relayed) => panic!("the port is closed: {ended:?}"),
    }
}

async fn connect_to_agent(
    path: &Path,
    device: Option<&vsock::Device>,
    session: u32,
) -> (Link, std::os::unix::net::UnixStream, Option<Arc<Notify>>) {
    let connector = device.map(vsock::Device::connector);
    let end = Instant::now() + TIMEOUT;
    let socket = loop {
        let connected = match &connector {
            None => std::os::unix::net::UnixStream::connect(path).ok(),
            Some(connector) => connector.connect(),
        };
        if let Some(socket) = connected {
            break socket;
        }
        assert!(Instant::now() < end, "no agent at {}", path.display());
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    let (socket, cut) = match connector {
        None => (socket, None),
        Some(connector) => {
            let (line, cut) = vsock::relay(connector, socket);
            (line, Some(cut))
        }
    };
    let again = socket.try_clone().expect("duplicates");
    socket.set_nonblocking(true).expect("does not block");
    let (reader, writer) = UnixStream::from_std(socket).expect("a socket").into_split();
    let handshake = tokio::time::timeout(TIMEOUT, connect(reader, writer, session, "test"));
    let (link, hello) = handshake.await.expect("an answer in time").expect("a session");
    assert!(hello.name.starts_with("mimeo-agent "), "{hello:?}");
    (link, again, cut)
}
