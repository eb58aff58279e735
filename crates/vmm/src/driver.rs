//! The interface between mimeo and a VMM.

use std::fmt;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

/// A kind of VMM.
#[async_trait]
pub trait Driver: Send + Sync + fmt::Debug {
    /// The driver's name, as `--driver` takes it.
    fn name(&self) -> &'static str;

    /// The driver's capabilities.
    fn capabilities(&self) -> Capabilities;

    /// Boots a machine. It is running when this returns, but may not have executed any instruction yet.
    ///
    /// The VMM is killed when the calling thread exits, so that it never outlives its supervisor: call this
    /// on a thread that lives as long as the supervisor.
    async fn launch(&self, spec: &LaunchSpec) -> Result<Box<dyn Instance>, LaunchError>;

    /// Starts a machine from the saved state of another one of the same shape. Its vCPUs are paused when this
    /// returns. The kernel, initramfs and command line of the spec are not used. As for [`Driver::launch`],
    /// the VMM is killed when the calling thread exits.
    async fn restore(
        &self,
        spec: &LaunchSpec,
        saved: &SavedMachine,
    ) -> Result<Box<dyn Instance>, RestoreError>;

    /// Starts a machine from a VMM process that [`Instance::checkpoint`] checkpointed, of another machine
    /// of the same shape. Its vCPUs are paused, as after [`Driver::restore`].
    async fn restore_process(
        &self,
        spec: &LaunchSpec,
        checkpointed: &CheckpointedProcess,
    ) -> Result<Box<dyn Instance>, RestoreError>;

    /// Whether the VMM process can be checkpointed, and that is worthwhile: with TCG it holds the translated
    /// code of the guest.
    fn can_checkpoint(&self, accelerator: Accelerator) -> bool;

    /// What a saved state depends on: two specs with the same text can load each other's state.
    fn shape(&self, spec: &LaunchSpec) -> String;

    /// The user to own a machine's TAP device, where the driver opens it by name ([`TapUse::Name`]).
    /// `directory` is the machine's own.
    fn tap_owner(&self, directory: &Path) -> u32 {
        let _ = directory;
        0
    }

    /// Removes what the VMM of a machine left in the machine's directory when its supervisor was killed. The
    /// VMM must have exited.
    ///
    /// # Errors
    /// When a file or the jail cannot be removed.
    fn sweep(&self, directory: &Path) -> std::io::Result<()> {
        let _ = directory;
        Ok(())
    }

    /// Identifies the VMM's program: changes whenever the file does. None when it is not installed.
    fn program(&self) -> Option<String>;
}

/// A running machine.
#[async_trait]
pub trait Instance: Send + fmt::Debug {
    /// The VMM process.
    fn process(&self) -> VmProcess;

    /// The byte stream to the guest's agent. There is one; a second call gives [`OperationError::LinkTaken`].
    fn take_link(&mut self) -> Result<UnixStream, OperationError>;

    /// Pauses the vCPUs.
    async fn pause(&mut self) -> Result<(), OperationError>;

    /// Resumes the vCPUs.
    async fn resume(&mut self) -> Result<(), OperationError>;

    /// The VMM's version, to which a saved state is bound.
    async fn version(&self) -> Result<String, OperationError>;

    /// Whether [`SaveKind::Diff`] saves exactly the pages that were written since the last load or save.
    fn has_exact_diffs(&self) -> bool {
        false
    }

    /// The location of the guest's memory, to be read while the machine is paused.
    fn memory(&self) -> Result<GuestMemory, OperationError>;

    /// Writes the state of all devices, without memory and disks, to a new file. The machine must be paused,
    /// and stays paused. For drivers whose memory the caller reads ([`MemorySave::Reader`]).
    async fn save_devices(&mut self, file: &Path) -> Result<(), OperationError>;

    /// Writes the state of all devices to `state` and the memory to `memory`, both or neither; not the disks.
    /// The machine must be paused, and stays paused. For drivers whose VMM saves memory
    /// ([`MemorySave::Vmm`]).
    ///
    /// The link stays open; no data may be in flight meanwhile, in either direction.
    ///
    /// # Errors
    /// [`OperationError::Unsupported`] for all other drivers.
    async fn save(&mut self, state: &Path, memory: &Path, kind: SaveKind) -> Result<(), OperationError> {
        let _ = (state, memory, kind);
        Err(OperationError::Unsupported { driver: "machine's", operation: "save guest memory" })
    }

    /// Checkpoints the VMM process, including translated code, to an empty directory. Guest memory that is
    /// mapped from a file ([`GuestMemory::over_file`]) is not included: `hook` saves it while the whole
    /// process is stopped. The machine must be paused. The process is killed, whether this succeeds or not.
    async fn checkpoint(&mut self, dir: &Path, hook: CheckpointHook) -> Result<(), OperationError>;

    /// Redirects the guest's writes to a disk to `layer`, a file whose backing file is the disk's current
    /// file. That one is not written any more. `disk` is the disk's serial number.
    async fn add_layer(&mut self, disk: &str, layer: &Path) -> Result<(), OperationError>;

    /// Publishes one more port of the guest, whose address is `guest`.
    async fn publish(&mut self, forward: &Forward, guest: Ipv4Addr) -> Result<(), OperationError>;

    /// Withdraws a published port. Connections that exist continue.
    async fn unpublish(&mut self, forward: &Forward) -> Result<(), OperationError>;

    /// Diagnoses a guest that does not answer: reports the state of its vCPUs, interrupt controllers and
    /// queues. Changes nothing, never fails and takes a few seconds at most.
    async fn diagnose(&mut self) -> Vec<Diagnostic> {
        Vec::new()
    }

    /// Waits until the VMM exits. Cancel-safe, and can be called again. A disk error ends a VMM whose disk
    /// errors nothing handles ([`Instance::take_disk_errors`]).
    async fn wait(&mut self) -> VmExit;

    /// The disk errors for which the VMM pauses the machine, until [`Instance::resume`] has it try again. None
    /// if the VMM reports them to the guest instead, and for a second call.
    fn take_disk_errors(&mut self) -> Option<mpsc::Receiver<DiskError>> {
        None
    }

    /// Kills the VMM, and waits until the process is gone.
    async fn kill(&mut self);
}

/// A write to a disk that the host refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskError {
    /// Whether the host's disk is full.
    pub no_space: bool,
    /// The cause, in the words of the operating system.
    pub reason: String,
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "its disk cannot be written: {}", self.reason)
    }
}

/// One part of a diagnosis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What it is about, as a file name.
    pub name: String,
    /// The VMM's own text, or why there is none.
    pub text: String,
}

/// How much of a machine's memory to save.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SaveKind {
    /// All of it.
    Full,
    /// The pages that may have been written since the machine was last saved or restored: a file of the
    /// memory's size, with holes elsewhere.
    Diff,
}

/// Runs while all threads of a process are stopped for its checkpoint.
pub type CheckpointHook = Box<dyn FnOnce() -> std::io::Result<()> + Send>;

/// The location of a guest's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestMemory {
    /// The process that has it mapped.
    pub pid: u32,
    /// Its pieces, by offset in the guest's memory.
    pub pieces: Vec<MemoryPiece>,
    /// Whether the process maps a file privately, and holds only the pages that differ from it. Otherwise all
    /// of the memory belongs to the process.
    pub over_file: bool,
}

/// A piece of a guest's memory. All values are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPiece {
    /// The address in the process.
    pub address: u64,
    /// The offset in the guest's memory.
    pub offset: u64,
    /// The length.
    pub length: u64,
}

/// The saved state of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedMachine {
    /// The file with the state of the devices.
    pub state: PathBuf,
    /// The file with all of the memory. It is mapped, and never written.
    pub memory: PathBuf,
    /// The socket of a page server that serves the memory, for drivers with [`Capabilities::pager`].
    pub pager: Option<PathBuf>,
}

/// A checkpointed VMM process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointedProcess {
    /// The directory that [`Instance::checkpoint`] wrote.
    pub dir: PathBuf,
    /// The file with all of the guest's memory at the time of the checkpoint. It is mapped, and never
    /// written.
    pub memory: PathBuf,
}

/// The capabilities of a driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Whether it can run guests without hardware acceleration.
    pub emulation: bool,
    /// Whether it has a user-mode network of its own.
    pub user_network: bool,
    /// How it opens a TAP device.
    pub tap: TapUse,
    /// Whether it can pause and resume the vCPUs.
    pub pause: bool,
    /// Whether it can save and restore a running machine.
    pub snapshot: bool,
    /// How it saves memory.
    pub memory: MemorySave,
    /// Whether a disk can get another layer while the machine runs ([`Instance::add_layer`]).
    pub disk_layers: bool,
    /// How the guest identifies its disks.
    pub disks: DiskIdentification,
    /// Whether a page server can serve a restored machine's memory ([`SavedMachine::pager`]).
    pub pager: bool,
}

/// How a machine's memory is saved to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemorySave {
    /// The caller reads it in the VMM's process ([`Instance::memory`]), in parallel to
    /// [`Instance::save_devices`].
    Reader,
    /// The VMM writes it ([`Instance::save`]).
    #[serde(rename = "monitor")]
    Vmm,
}

/// How a guest identifies its disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskIdentification {
    /// By [`Disk::serial`].
    Serial,
    /// By position: the first of [`LaunchSpec::disks`] is `vda`, and so on.
    Position,
}

/// How a driver opens a TAP device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TapUse {
    /// It gets an open descriptor ([`Tap::queue`]).
    Descriptor,
    /// By name, in its network namespace. No other process may have it open.
    Name,
}

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// The CPU itself.
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

/// Everything that a driver needs to start a machine.
#[derive(Debug, Clone)]
pub struct LaunchSpec {
    /// The machine's name in the process list.
    pub name: String,
    /// What executes the guest's instructions.
    pub accelerator: Accelerator,
    /// The kernel: an ELF file with a PVH entry, or a bzImage.
    pub kernel: PathBuf,
    /// The initramfs, which contains the agent.
    pub initramfs: PathBuf,
    /// The kernel's command line.
    pub command_line: String,
    /// The number of vCPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// The disks, which the guest identifies as [`Capabilities::disks`] says.
    pub disks: Vec<Disk>,
    /// The NIC, if there is one.
    pub network: Option<Network>,
    /// The log file for the console's latest output.
    pub console: PathBuf,
}

impl LaunchSpec {
    /// The machine's own directory, in which its VMM runs: that of the machine's writable disk. The VMM opens
    /// files there by relative paths, so a machine that is restored from another one opens none of that one's
    /// files. None if there is no such disk, or its path is not absolute.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        self.disks.iter().find(|disk| !disk.read_only)?.path.parent().filter(|dir| dir.is_absolute())
    }
}

/// A disk, backed by a file.
#[derive(Debug, Clone)]
pub struct Disk {
    /// The file.
    pub path: PathBuf,
    /// The serial number that the guest sees; at most 20 bytes.
    pub serial: String,
    /// Whether it is read-only for the guest.
    pub read_only: bool,
    /// The format of the file.
    pub format: DiskFormat,
    /// Whether the guest's flushes reach the host's stable storage. The disk of a machine that ends with its supervisor
    /// needs none.
    pub durable: bool,
}

/// The format of a disk's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFormat {
    /// Raw.
    Raw,
    /// A layer over another file.
    Qcow2,
}

/// What a NIC is connected to.
#[derive(Debug, Clone)]
pub enum Network {
    /// The VMM's user-mode network.
    User(UserNetwork),
    /// A TAP device.
    Tap(Tap),
    /// Nothing: for a guest that is saved to be restored with either of the others.
    Unplugged {
        /// The NIC's MAC address.
        mac: String,
    },
}

impl Network {
    /// The NIC's MAC address.
    #[must_use]
    pub fn mac(&self) -> &str {
        match self {
            Self::User(user) => &user.mac,
            Self::Tap(tap) => &tap.mac,
            Self::Unplugged { mac } => mac,
        }
    }
}

/// A TAP device. The caller connects the other side.
#[derive(Debug, Clone)]
pub struct Tap {
    /// The NIC's MAC address.
    pub mac: String,
    /// Its name in the network namespace.
    pub name: String,
    /// The network namespace that it is in.
    pub namespace: Arc<OwnedFd>,
    /// An open descriptor, for drivers that need one ([`TapUse::Descriptor`]).
    pub queue: Option<Arc<OwnedFd>>,
}

/// A user-mode network, with the VMM process as its gateway.
#[derive(Debug, Clone)]
pub struct UserNetwork {
    /// The NIC's MAC address.
    pub mac: String,
    /// The network's address.
    pub network: Ipv4Addr,
    /// The length of the network prefix.
    pub prefix: u8,
    /// The gateway's address.
    pub gateway: Ipv4Addr,
    /// The guest's address.
    pub guest: Ipv4Addr,
    /// The address of the name server that the gateway provides.
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

/// The protocol of a published port.
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

/// The VMM process of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VmProcess {
    /// Its PID.
    pub pid: u32,
}

/// How a VMM exited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VmExit {
    /// The guest powered off, or the VMM was told to quit.
    Off,
    /// The VMM failed or was killed.
    Failed {
        /// The exit status, as a text.
        status: String,
        /// The tail of its standard error.
        stderr: String,
    },
}

/// The text of `std::process::ExitStatus` for SIGKILL.
const KILLED: &str = "signal: 9";

impl VmExit {
    /// The error of a restore that this exit interrupted.
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
            Self::Off => f.write_str("the guest powered off"),
            Self::Failed { status, stderr } if stderr.is_empty() => f.write_str(status),
            Self::Failed { status, stderr } => write!(f, "{stderr} ({status})"),
        }
    }
}

/// Why a machine did not start.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The program is not installed.
    #[error("{program} is not installed: `mimeo setup preflight` says how to install it")]
    NotInstalled {
        /// Its name.
        program: String,
    },
    /// The program could not be run.
    #[error("cannot start {program}")]
    Spawn {
        /// Its name.
        program: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The driver does not support the spec.
    #[error("the {driver} driver cannot {operation}")]
    Unsupported {
        /// The driver.
        driver: &'static str,
        /// The unsupported operation.
        operation: String,
    },
    /// The jailer is not installed.
    #[error(
        "{program} is not run by root without its jailer, and there is none: put `jailer` beside it or in \
         PATH, or name it in MIMEO_JAILER"
    )]
    NoJailer {
        /// The VMM's program.
        program: String,
    },
    /// A prerequisite of the VMM could not be prepared.
    #[error("cannot {step}")]
    Prepare {
        /// The failed step.
        step: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The VMM exited before the machine ran.
    #[error("{program} exited when asked {step}: {how}")]
    Ended {
        /// Its name.
        program: String,
        /// The step at which it exited.
        step: String,
        /// The tail of its standard error or log, and its exit status.
        how: String,
    },
    /// An operation of the VMM failed.
    #[error(transparent)]
    Operation(OperationError),
    /// The VMM accepted all settings, but could not start the guest.
    #[error("cannot start the guest: {how}")]
    Guest {
        /// The cause, in the VMM's words.
        how: String,
    },
}

/// Why a saved machine could not be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The VMM did not start.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// An operation of the VMM failed.
    #[error(transparent)]
    Operation(#[from] OperationError),
    /// The saved state cannot be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The VMM process could not be restored from its checkpoint.
    #[error("cannot restore the VMM process from its checkpoint")]
    Process(#[from] mimeo_checkpoint::CheckpointError),
    /// The VMM was killed while it loaded the state: by a user or by the OOM killer. This says nothing about
    /// the state.
    #[error("the VMM was killed while it loaded the saved state: {how}")]
    Killed {
        /// How it exited.
        how: String,
    },
    /// The VMM exited while it loaded the state, or refused it.
    #[error("the VMM could not load the saved state: {how}")]
    Ended {
        /// Its message.
        how: String,
    },
    /// The saved memory belongs to another machine, or is damaged.
    #[error("{} has {found} bytes, but the machine's memory has {expected}", path.display())]
    MemorySize {
        /// The file.
        path: PathBuf,
        /// The size of the machine's memory.
        expected: u64,
        /// The size of the file.
        found: u64,
    },
}

/// Why an operation on a running machine failed.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// The link was taken before.
    #[error("the guest link is already taken")]
    LinkTaken,
    /// The driver does not support the operation.
    #[error("the {driver} driver cannot {operation}")]
    Unsupported {
        /// The driver.
        driver: &'static str,
        /// The unsupported operation.
        operation: &'static str,
    },
    /// The VMM process could not be checkpointed.
    #[error("cannot checkpoint the VMM process")]
    Checkpoint(#[from] mimeo_checkpoint::CheckpointError),
    /// The guest's memory could not be found in the VMM process.
    #[error("cannot find the guest's memory in process {pid}")]
    Memory {
        /// Its PID.
        pid: u32,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The VMM has exited.
    #[error("the VMM has exited")]
    Gone,
    /// The VMM refused a command.
    #[error("the VMM refused {command}: {message}")]
    Refused {
        /// The command.
        command: String,
        /// The VMM's message.
        message: String,
    },
    /// The version of the VMM does not support the operation.
    #[error("{program} {found} cannot {operation}: version {needed} or later is needed")]
    TooOld {
        /// Its name.
        program: &'static str,
        /// Its version.
        found: String,
        /// The unsupported operation.
        operation: &'static str,
        /// The first version that supports it.
        needed: String,
    },
    /// A saved file could not be moved to its place.
    #[error("cannot save {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The VMM did not answer in time.
    #[error("the VMM did not answer within {seconds} s when asked {command}")]
    Timeout {
        /// The command.
        command: String,
        /// The timeout.
        seconds: u64,
    },
}
