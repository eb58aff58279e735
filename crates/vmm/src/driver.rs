//! The seam between mimeo and a virtual machine monitor.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;

/// A kind of virtual machine monitor.
#[async_trait]
pub trait Driver: Send + Sync + fmt::Debug {
    /// The driver's name, as `--driver` takes it.
    fn name(&self) -> &'static str;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Starts a machine. It is running when this returns, and has perhaps not
    /// executed one instruction.
    ///
    /// The machine ends with the thread that called this, so that a monitor's
    /// death takes its machine along: call it on a thread that lives as long.
    async fn launch(&self, spec: &LaunchSpec) -> Result<Box<dyn Instance>, LaunchError>;
}

/// A machine that runs.
#[async_trait]
pub trait Instance: Send + fmt::Debug {
    /// The process that holds the machine.
    fn process(&self) -> VmProcess;

    /// The byte channel to the guest's agent. There is one; the second call
    /// gives [`OperationError::LinkTaken`].
    fn take_link(&mut self) -> Result<UnixStream, OperationError>;

    /// Stops the guest's processors.
    async fn pause(&mut self) -> Result<(), OperationError>;

    /// Lets the guest's processors go on.
    async fn resume(&mut self) -> Result<(), OperationError>;

    /// Waits for the machine's end and says how it came. Safe to cancel and to
    /// call again.
    async fn wait(&mut self) -> VmExit;

    /// Ends the machine at once and waits until its process is gone.
    async fn kill(&mut self);
}

/// What a driver can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Runs where no hardware acceleration is.
    pub emulation: bool,
    /// Has a user-mode network of its own.
    pub user_network: bool,
    /// Stops and continues the processors.
    pub pause: bool,
    /// Saves and restores a running machine.
    pub snapshot: bool,
}

/// What runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// The processor itself.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        })
    }
}

/// All that a driver needs to start a machine.
#[derive(Debug, Clone)]
pub struct LaunchSpec {
    /// The machine's name in the process list.
    pub name: String,
    /// What runs its instructions.
    pub accelerator: Accelerator,
    /// The kernel: an ELF file with a PVH entry, or a bzImage.
    pub kernel: PathBuf,
    /// The first filesystem, with the agent in it.
    pub initramfs: PathBuf,
    /// The kernel's command line.
    pub command_line: String,
    /// Processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Disks; the guest tells them apart by their serial numbers.
    pub disks: Vec<Disk>,
    /// The network card, if there is one.
    pub network: Option<UserNetwork>,
    /// Where the console's last output is kept.
    pub console: PathBuf,
}

/// A disk: a raw file.
#[derive(Debug, Clone)]
pub struct Disk {
    /// The file.
    pub path: PathBuf,
    /// What the guest finds it by; at most 20 bytes.
    pub serial: String,
    /// The guest cannot write it.
    pub read_only: bool,
}

/// A user-mode network: the monitor's own process is the gateway.
#[derive(Debug, Clone)]
pub struct UserNetwork {
    /// The card's address.
    pub mac: String,
    /// The network's own address.
    pub network: Ipv4Addr,
    /// Bits of its network part.
    pub prefix: u8,
    /// The gateway.
    pub gateway: Ipv4Addr,
    /// The guest.
    pub guest: Ipv4Addr,
    /// The name server that the gateway answers for.
    pub dns: Ipv4Addr,
    /// Published ports.
    pub forwards: Vec<Forward>,
}

/// A published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// TCP or UDP.
    pub protocol: ForwardProtocol,
    /// The host's address.
    pub host_ip: Ipv4Addr,
    /// The host's port.
    pub host_port: u16,
    /// The guest's port.
    pub guest_port: u16,
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.host_ip, self.host_port, self.protocol)
    }
}

/// What a published port speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for ForwardProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// The process that holds a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VmProcess {
    /// Its id.
    pub pid: u32,
}

/// How a machine ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VmExit {
    /// The guest powered off, or the monitor was told to quit.
    Off,
    /// The monitor failed or was killed.
    Failed {
        /// How, in words: its exit status.
        status: String,
        /// The last lines that it wrote.
        stderr: String,
    },
}

/// Why a machine did not start.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The program is not there.
    #[error("{program} is not installed: `mimeo setup preflight` says how to get it")]
    NotInstalled {
        /// Its name.
        program: String,
    },
    /// The program could not be run.
    #[error("cannot start {program}")]
    Spawn {
        /// Its name.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The driver cannot do what the spec asks.
    #[error("the {driver} driver cannot {what}")]
    Unsupported {
        /// The driver.
        driver: &'static str,
        /// What was asked.
        what: String,
    },
}

/// Why a running machine could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// The link has an owner already.
    #[error("the guest link is taken")]
    LinkTaken,
    /// The machine is gone.
    #[error("the virtual machine has ended")]
    Gone,
    /// The monitor refused.
    #[error("the monitor refused {command}: {message}")]
    Refused {
        /// What it was asked.
        command: String,
        /// What it said.
        message: String,
    },
    /// The monitor did not answer.
    #[error("the monitor did not answer {command} within {seconds} s")]
    Silent {
        /// What it was asked.
        command: String,
        /// How long was waited.
        seconds: u64,
    },
}
