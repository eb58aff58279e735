//! The seam between mimeo and a virtual machine monitor.

use std::fmt;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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

    /// Starts a machine from what was saved of another of the same shape. Its
    /// processors stand still when this returns; kernel, first filesystem and
    /// command line of the spec are not used. As for [`Driver::launch`], the
    /// machine ends with the thread that called this.
    async fn restore(
        &self,
        spec: &LaunchSpec,
        saved: &SavedMachine,
    ) -> Result<Box<dyn Instance>, RestoreError>;

    /// Starts a machine from a process that [`Instance::keep_process`] kept of
    /// another of the same shape. Its processors stand still, as after
    /// [`Driver::restore`].
    async fn revive(&self, spec: &LaunchSpec, kept: &KeptProcess) -> Result<Box<dyn Instance>, RestoreError>;

    /// Whether a machine's process can be kept, and is worth it: it holds what
    /// was translated of the guest's instructions, where something was.
    fn keeps_process(&self, accelerator: Accelerator) -> bool;

    /// What a saved machine's state depends on: two specs with the same text
    /// can take each other's state.
    fn shape(&self, spec: &LaunchSpec) -> String;

    /// The user who is to own a machine's TAP device, where the driver opens it
    /// by its name ([`TapUse::Name`]). `directory` is the machine's own.
    fn tap_owner(&self, directory: &Path) -> u32 {
        let _ = directory;
        0
    }

    /// Removes what a monitor that was killed left of a machine in its
    /// directory. Nothing of it runs any more.
    ///
    /// # Errors
    /// When something of it cannot be removed.
    fn sweep(&self, directory: &Path) -> std::io::Result<()> {
        let _ = directory;
        Ok(())
    }

    /// Which program runs the machines: changes whenever the file does. None
    /// when there is no such program here.
    fn program(&self) -> Option<String>;
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

    /// The monitor's version, as a saved state is bound to it.
    async fn version(&self) -> Result<String, OperationError>;

    /// Whether [`SaveKind::Diff`] saves exactly the pages that were written since the last load or save.
    fn has_exact_diffs(&self) -> bool {
        false
    }

    /// Where the guest's memory lies, to be read while the machine is paused.
    fn memory(&self) -> Result<GuestMemory, OperationError>;

    /// Writes the state of all devices, without memory and disks, to a new
    /// file. The machine must be paused, and stays so. For drivers whose
    /// memory is saved by who reads it ([`MemorySave::Reader`]).
    async fn save_devices(&mut self, file: &Path) -> Result<(), OperationError>;

    /// Writes the state of all devices to `state` and the memory to `memory`,
    /// both whole or not at all; not the disks. The machine must be paused,
    /// and stays so. For drivers that save memory themselves
    /// ([`MemorySave::Monitor`]).
    ///
    /// The link goes on; nothing may be on its way meanwhile, in either direction.
    ///
    /// # Errors
    /// [`OperationError::Unsupported`] for all other drivers.
    async fn save(&mut self, state: &Path, memory: &Path, kind: SaveKind) -> Result<(), OperationError> {
        let _ = (state, memory, kind);
        Err(OperationError::Unsupported { driver: "machine's", what: "save its memory by itself" })
    }

    /// Writes the monitor's own process, and with it all that it has made of
    /// the guest, to an empty directory; not the guest's memory where that is
    /// over a file ([`GuestMemory::over_file`]): `meanwhile` is for that, while not even
    /// the monitor writes to it. The machine must be paused, and
    /// this is its end, whether it succeeds or not.
    async fn keep_process(&mut self, dir: &Path, meanwhile: Meanwhile) -> Result<(), OperationError>;

    /// From now on what the guest writes to a disk goes to `layer`, a file
    /// made for it whose backing file is the disk's file so far, and that is
    /// not written any more. `disk` is the disk's serial number.
    async fn add_layer(&mut self, disk: &str, layer: &Path) -> Result<(), OperationError>;

    /// Publishes one more port of the guest at `guest`.
    async fn publish(&mut self, forward: &Forward, guest: Ipv4Addr) -> Result<(), OperationError>;

    /// What the VMM reports about a guest that does not answer: the state of its vCPUs, interrupt
    /// controllers and queues. Changes nothing, never fails and takes a few seconds at most.
    async fn diagnose(&mut self) -> Vec<Diagnostic> {
        Vec::new()
    }

    /// Waits for the machine's end and says how it came. Safe to cancel and to
    /// call again.
    async fn wait(&mut self) -> VmExit;

    /// Ends the machine at once and waits until its process is gone.
    async fn kill(&mut self);
}

/// One part of what a VMM reports about its guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What it is about: a file name.
    pub name: String,
    /// The VMM's own text, or why there is none.
    pub text: String,
}

/// How much of a machine's memory is saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SaveKind {
    /// All of it.
    Full,
    /// What may have been written since the machine was last saved or started
    /// from a saved state: a file of the memory's size, with holes where
    /// nothing was.
    Diff,
}

/// What is done while a process stands still that is kept.
pub type Meanwhile = Box<dyn FnOnce() -> std::io::Result<()> + Send>;

/// Where a guest's memory lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestMemory {
    /// The process that has it mapped.
    pub pid: u32,
    /// Its pieces, by their place in the guest's memory.
    pub pieces: Vec<MemoryPiece>,
    /// The process maps a file privately, and holds by itself what differs
    /// from that; otherwise all of it is the process's own.
    pub over_file: bool,
}

/// A piece of a guest's memory, all in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPiece {
    /// In the process.
    pub address: u64,
    /// In the guest's memory.
    pub offset: u64,
    /// How much.
    pub length: u64,
}

/// What was saved of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedMachine {
    /// The devices' state.
    pub state: PathBuf,
    /// All of the memory: a file that is mapped and never written.
    pub memory: PathBuf,
    /// The socket of a page server that gives the memory page by page, for drivers that take it so.
    pub pager: Option<PathBuf>,
}

/// A monitor's process that was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptProcess {
    /// The directory that [`Instance::keep_process`] wrote.
    pub dir: PathBuf,
    /// All of the guest's memory as it was then: a file that is mapped and never written.
    pub memory: PathBuf,
}

/// What a driver can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Runs where no hardware acceleration is.
    pub emulation: bool,
    /// Has a user-mode network of its own.
    pub user_network: bool,
    /// How it takes a TAP device.
    pub tap: TapUse,
    /// Stops and continues the processors.
    pub pause: bool,
    /// Saves and restores a running machine.
    pub snapshot: bool,
    /// How its memory comes to a file.
    pub memory: MemorySave,
    /// A disk can be given another layer while the machine runs
    /// ([`Instance::add_layer`]).
    pub disk_layers: bool,
    /// How the guest tells its disks apart.
    pub disks: DiskOrder,
    /// A restored machine's memory can be given to it page by page ([`SavedMachine::pager`]).
    pub pager: bool,
}

/// How a machine's memory comes to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemorySave {
    /// Whoever saves it reads it in the monitor's process ([`Instance::memory`]),
    /// beside [`Instance::save_devices`].
    Reader,
    /// The monitor writes it ([`Instance::save`]).
    Monitor,
}

/// How a guest tells its disks apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskOrder {
    /// By [`Disk::serial`].
    Serial,
    /// By their order alone: the first of [`LaunchSpec::disks`] is its first
    /// (`vda`), and so on.
    Position,
}

/// How a driver takes a TAP device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TapUse {
    /// Opened by who made it ([`Tap::queue`]).
    Descriptor,
    /// By its name, in its namespace; nobody else has it open.
    Name,
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
    pub network: Option<Network>,
    /// Where the console's last output is kept.
    pub console: PathBuf,
}

impl LaunchSpec {
    /// The machine's own directory, where its monitor runs: that of the disk
    /// that is the machine's own. Files there go by their names alone, so that
    /// a machine that began in another machine's directory opens none of that
    /// machine's. None if it has no such disk, or not by an absolute path.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        self.disks.iter().find(|disk| !disk.read_only)?.path.parent().filter(|dir| dir.is_absolute())
    }
}

/// A disk, in a file.
#[derive(Debug, Clone)]
pub struct Disk {
    /// The file.
    pub path: PathBuf,
    /// What the guest finds it by; at most 20 bytes.
    pub serial: String,
    /// The guest cannot write it.
    pub read_only: bool,
    /// How the file holds it.
    pub format: DiskFormat,
}

/// How a file holds a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFormat {
    /// As it is.
    Raw,
    /// As a layer over another file.
    Qcow2,
}

/// What a network card is joined to.
#[derive(Debug, Clone)]
pub enum Network {
    /// The monitor's own.
    User(UserNetwork),
    /// A TAP device.
    Tap(Tap),
    /// None: a NIC with nothing behind it, of a guest that is saved to be restored with either of the others.
    Unplugged {
        /// The NIC's address.
        mac: String,
    },
}

impl Network {
    /// The card's address.
    #[must_use]
    pub fn mac(&self) -> &str {
        match self {
            Self::User(user) => &user.mac,
            Self::Tap(tap) => &tap.mac,
            Self::Unplugged { mac } => mac,
        }
    }
}

/// A TAP device, whose other side is somebody else's.
#[derive(Debug, Clone)]
pub struct Tap {
    /// The card's address.
    pub mac: String,
    /// Its name, in its namespace.
    pub name: String,
    /// The network namespace that it is in.
    pub namespace: Arc<OwnedFd>,
    /// It, opened: there for drivers that take it so ([`TapUse::Descriptor`]).
    pub queue: Option<Arc<OwnedFd>>,
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

/// As `std::process::ExitStatus` words it.
const KILLED: &str = "signal: 9";

impl VmExit {
    /// The restore that this end cut short.
    pub(crate) fn during_restore(&self) -> RestoreError {
        let how = self.to_string();
        match self {
            Self::Failed { status, .. } if status.starts_with(KILLED) => RestoreError::Killed { how },
            _ => RestoreError::Ended { how },
        }
    }
}

impl fmt::Display for VmExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("it powered off"),
            Self::Failed { status, stderr } if stderr.is_empty() => f.write_str(status),
            Self::Failed { status, stderr } => write!(f, "{stderr} ({status})"),
        }
    }
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
    /// What confines the monitor is not there.
    #[error(
        "{program} is not run by root without its jailer, and there is none: put `jailer` beside it or in \
         PATH, or name it in MIMEO_JAILER"
    )]
    NoJailer {
        /// The monitor's program.
        program: String,
    },
    /// What the monitor needs could not be made ready.
    #[error("cannot {what}")]
    Prepare {
        /// What was to be done.
        what: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The monitor ended before the machine ran.
    #[error("{program} ended {when}: {how}")]
    Ended {
        /// Its name.
        program: String,
        /// At which step.
        when: String,
        /// Its own last words, and its exit status.
        how: String,
    },
    /// The monitor is there and does not do it.
    #[error(transparent)]
    Monitor(OperationError),
    /// The monitor took all settings, and could not start the guest.
    #[error("cannot start the guest: {how}")]
    Guest {
        /// Why, in the monitor's words.
        how: String,
    },
}

/// Why a saved machine could not be started.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The monitor did not start.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The monitor does not do it.
    #[error(transparent)]
    Operation(#[from] OperationError),
    /// The saved state cannot be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The process that was kept could not be made to go on.
    #[error("cannot start from the process that was kept")]
    Process(#[from] mimeo_checkpoint::CheckpointError),
    /// Somebody killed the monitor while it read the state: a person, or the kernel for want of memory. It says nothing
    /// of the state.
    #[error("the monitor was killed while it took the saved state: {how}")]
    Killed {
        /// How it ended.
        how: String,
    },
    /// The monitor ended while it read the state, or refused it.
    #[error("the monitor could not take the saved state: {how}")]
    Ended {
        /// What it said.
        how: String,
    },
    /// The saved memory is another machine's, or is damaged.
    #[error("{} has {found} bytes, where the memory has {wanted}", path.display())]
    MemorySize {
        /// The file.
        path: PathBuf,
        /// The memory's size.
        wanted: u64,
        /// The file's.
        found: u64,
    },
}

/// Why a running machine could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// The link has an owner already.
    #[error("the guest link is taken")]
    LinkTaken,
    /// The driver cannot do that.
    #[error("the {driver} driver cannot {what}")]
    Unsupported {
        /// The driver.
        driver: &'static str,
        /// What was asked.
        what: &'static str,
    },
    /// The monitor's process could not be kept.
    #[error("cannot keep the monitor's process")]
    Keep(#[from] mimeo_checkpoint::CheckpointError),
    /// The guest's memory could not be found in its process.
    #[error("cannot find the guest's memory in process {pid}")]
    Memory {
        /// The process.
        pid: u32,
        /// Why.
        #[source]
        source: std::io::Error,
    },
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
    /// The monitor's version cannot do that.
    #[error("{program} {found} cannot {what}: {needed} or later can")]
    TooOld {
        /// Its name.
        program: &'static str,
        /// Its version.
        found: String,
        /// What was asked.
        what: &'static str,
        /// The first version that can.
        needed: String,
    },
    /// A file of what is saved could not be put in its place.
    #[error("cannot keep {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
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
