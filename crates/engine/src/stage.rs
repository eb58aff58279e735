//! The stages of a machine's start, and why one failed.

mod kind;

pub use kind::pull_failure_kind;

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use mimeo_agent_protocol::CallError;
use mimeo_agent_protocol::link::LinkError;
use mimeo_agent_protocol::message::{Failure, FailureKind};
use mimeo_net::Protocol;
use mimeo_vmm::{LaunchError, VmExit};

use crate::Home;
use crate::hang::{self, HangDump, SilentGuest};
use crate::io_error::IoError;
use crate::machine::{ClaimError, RecordError};
use crate::volumes::VolumeName;

/// A stage of a machine's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The spec is validated; name and network are claimed.
    Plan,
    /// The snapshot is read and verified.
    Load,
    /// The image is found or pulled.
    Image,
    /// The published ports are chosen; a bridged machine is attached.
    Network,
    /// The virtual machine is started.
    Launch,
    /// The guest boots and answers.
    Boot,
    /// The guest is told its identity, network and disks.
    Configure,
    /// The machine's identity is applied to the restored guest.
    Identify,
    /// The container is started.
    Start,
}

impl Stage {
    /// Returns its name, for programs. Those of a start from an image are also the names in a record's times.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Load => "load",
            Self::Image => "image",
            Self::Network => "network",
            Self::Launch => "launch",
            Self::Boot => "boot",
            Self::Configure => "configure",
            Self::Identify => "identify",
            Self::Start => "start",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plan => "cannot plan the machine",
            Self::Load => "cannot load the snapshot",
            Self::Image => "cannot prepare the image",
            Self::Network => "cannot prepare the network",
            Self::Launch => "cannot launch the virtual machine",
            Self::Boot => "the guest did not come up",
            Self::Configure => "cannot configure the guest",
            Self::Identify => "cannot apply the machine's identity; the machine was killed",
            Self::Start => "cannot start the container",
        })
    }
}

/// Why a machine did not start, and at which stage.
#[derive(Debug, thiserror::Error)]
#[error("{stage}")]
pub struct StartError {
    /// The stage.
    pub stage: Stage,
    /// Why.
    #[source]
    pub source: StageError,
    /// The console's last lines, if they may show the cause.
    pub console: Vec<String>,
}

impl StartError {
    /// podman's exit code for the same failure: 127 for a command that does not exist, 126 for one that cannot be
    /// executed, else 125.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match &self.source {
            StageError::Guest(CallError::Failed(failure)) => exit_code(failure),
            _ => 125,
        }
    }
}

/// Why a stage failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each variant's message says it")]
pub enum StageError {
    #[error(transparent)]
    Claim(#[from] ClaimError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    SnapshotWrite(#[from] crate::snapshot::WriteError),
    #[error(transparent)]
    SnapshotStore(#[from] crate::snapshot::StoreError),
    #[error(
        "cannot set on-failure action to {action} without a health check: give one with --health-cmd or --health-url"
    )]
    NoHealthCheck { action: &'static str },
    #[error("there is no driver {name:?}: this mimeo has {known}")]
    UnknownDriver { name: String, known: String },
    #[error(
        "the {driver} driver has no network of its own: use --network bridged, which needs root, or --network none"
    )]
    NoUserNetwork { driver: &'static str },
    #[error("the {driver} driver needs KVM, but the accelerator on this host is {why}: use --driver qemu")]
    NeedsKvm { driver: &'static str, why: String },
    #[error("{option} must be {expected}, not {given}")]
    OutOfRange { option: &'static str, expected: String, given: String },
    #[error(
        "cannot give a machine {given_mib} MiB of memory: this host has {memory_mib} MiB, and {swap_mib} MiB of swap"
    )]
    MemoryExceedsHost { given_mib: u64, memory_mib: u64, swap_mib: u64 },
    #[error("volume {} does not exist on this host", path.display())]
    VolumeMissing { path: PathBuf },
    #[error("cannot mount two volumes at {target}")]
    DuplicateVolumeTarget { target: String },
    #[error(transparent)]
    TimeZone(#[from] crate::time_zone::TimeZoneError),
    #[error("working directory {given:?} in the container must be absolute")]
    WorkingDirectory { given: String },
    #[error(
        "cannot mount a tmpfs on {tmpfs} with a volume on {volume}, which would hide it: mount a tmpfs there instead of the volume"
    )]
    TmpfsOverlapsVolume { tmpfs: String, volume: String },
    #[error("cannot stop this image's containers: its stop signal {signal:?} is unknown: use --stop-signal")]
    ImageStopSignal { signal: String },
    #[error("volume path {given:?} in the container must be absolute")]
    VolumeTarget { given: String },
    #[error(transparent)]
    Kernel(#[from] mimeo_setup::kernel::LoadError),
    #[error(transparent)]
    Initramfs(#[from] mimeo_setup::initramfs::InitramfsError),
    #[error(transparent)]
    ImageStore(#[from] mimeo_image::OpenError),
    #[error(transparent)]
    ImageImport(Box<mimeo_image::ImportError>),
    #[error(transparent)]
    ImageSource(#[from] mimeo_image::SourceError),
    #[error(transparent)]
    ImageFind(#[from] mimeo_image::FindError),
    #[error(transparent)]
    ImagePull(Box<mimeo_image::PullError>),
    #[error("image {image} is not on this host, and --pull=never forbids pulling it")]
    ImageMissing { image: String },
    #[error("the image {name} that the machine was created from was removed: create the machine again")]
    ImageRemoved { name: String },
    #[error(transparent)]
    BaseName(#[from] mimeo_base::ParseBaseNameError),
    #[error(transparent)]
    BaseStore(#[from] mimeo_base::StoreError),
    #[error(transparent)]
    BaseFile(#[from] mimeo_base::FileError),
    #[error("cannot use the base {base}: {why}")]
    BaseUnusable { base: String, why: String },
    #[error("cannot make the seed for cloud-init")]
    Seed(#[from] mimeo_seed::SeedError),
    #[error(
        "its disk has {max} layers, one for each snapshot of it or of its ancestors: create a new machine"
    )]
    DiskLayers { max: u32 },
    #[error("the machine's disk is missing in {}", dir.display())]
    DiskLost { dir: PathBuf },
    #[error("no command to run: neither the image nor the command line names one")]
    NoCommand,
    #[error("cannot publish {ip}:{port}/{protocol}: {reason}")]
    Port { ip: Ipv4Addr, port: u16, protocol: Protocol, reason: PortProblem },
    #[error(transparent)]
    BlankDisk(#[from] mimeo_image::blank::BlankError),
    #[error(transparent)]
    Io(#[from] IoError),
    #[error("{why}")]
    Kvm { why: mimeo_vmm::accel::Unusable },
    #[error(transparent)]
    Launch(#[from] mimeo_vmm::LaunchError),
    #[error(transparent)]
    Operation(#[from] mimeo_vmm::OperationError),
    #[error("the virtual machine ended while it booted: {how}")]
    Died { how: String },
    #[error("no answer from the guest within {seconds} s (--start-timeout){dump}")]
    Silent { seconds: u32, dump: HangDump },
    #[error("the restored guest did not answer within {seconds} s{dump}")]
    SilentRestore { seconds: u64, dump: HangDump },
    #[error("no answer from the guest of the warm-up run within {seconds} s{dump}")]
    SilentWarmUp { seconds: u64, dump: HangDump },
    #[error("the program of the warm-up run did not end within {seconds} s{dump}")]
    WarmUpProgramRuns { seconds: u64, dump: HangDump },
    #[error("{why}")]
    Stencil { why: String },
    #[error(transparent)]
    Guest(#[from] CallError),
    #[error("identity step {step}: {why}")]
    Identity { step: String, why: String },
    #[error("cannot read random bytes of the host")]
    Entropy {
        #[source]
        source: std::io::Error,
    },
    #[error("the container had ended when the snapshot was taken")]
    ContainerEnded,
    #[error(transparent)]
    SnapshotLoad(#[from] crate::snapshot::LoadError),
    #[error(transparent)]
    Subnets(#[from] mimeo_net::SubnetsExhausted),
    #[error(transparent)]
    Bridged(#[from] mimeo_net::bridged::BridgedError),
    #[error(transparent)]
    Overlay(#[from] mimeo_image::overlay::OverlayError),
    #[error(transparent)]
    Restore(#[from] mimeo_vmm::RestoreError),
    #[error(transparent)]
    Volume(#[from] mimeo_volume::VolumeError),
    #[error(transparent)]
    DiskLayer(#[from] crate::disk_layers::LayerError),
    #[error(transparent)]
    NamedVolume(#[from] crate::volumes::VolumeError),
    #[error(
        "volume {volume} is in use by {user}: a machine that writes to a volume has it alone; stop that machine, or mount the volume read-only in both (:ro)"
    )]
    VolumeInUse { volume: VolumeName, user: String },
    #[error(
        "volume {volume} has layers, which a snapshot of a machine on QEMU has added, and the {driver} driver has no layers: use --driver qemu"
    )]
    VolumeLayers { volume: VolumeName, driver: &'static str },
    #[error("a machine can have {max} named volumes at most, not {given}")]
    TooManyVolumes { max: usize, given: usize },
    #[error("cannot mount the volume at {target}")]
    MountVolume {
        target: String,
        #[source]
        source: CallError,
    },
}

/// Why a port cannot be published.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each variant's message says it")]
pub enum PortProblem {
    #[error("it is in use")]
    InUse,
    #[error("ports below {first} need root here (net.ipv4.ip_unprivileged_port_start)")]
    Privileged { first: u16 },
    #[error("{ip} is not an address of this host")]
    NotOurs { ip: Ipv4Addr },
    #[error("{0}")]
    Other(std::io::Error),
}

impl From<mimeo_image::PullError> for StageError {
    fn from(error: mimeo_image::PullError) -> Self {
        Self::ImagePull(Box::new(error))
    }
}

impl From<mimeo_image::ImportError> for StageError {
    fn from(error: mimeo_image::ImportError) -> Self {
        Self::ImageImport(Box::new(error))
    }
}

impl From<LinkError> for StageError {
    fn from(error: LinkError) -> Self {
        Self::Guest(error.into())
    }
}

impl StageError {
    pub(crate) fn at(self, stage: Stage) -> StartError {
        StartError { stage, source: self, console: Vec::new() }
    }

    /// The error for a VMM that exited before its guest was ready.
    pub(crate) fn died(exit: &VmExit) -> Self {
        Self::Died { how: exit.to_string() }
    }

    /// Whether the agent refused a request. Its message is then complete, and the console adds nothing.
    #[must_use]
    pub fn is_guest_refusal(&self) -> bool {
        matches!(self, Self::Guest(CallError::Failed(_)))
    }

    /// Whether the guest itself failed to boot, not what it was launched with.
    pub(crate) fn is_guest_failure(&self) -> bool {
        match self {
            Self::Silent { .. } | Self::SilentRestore { .. } | Self::Died { .. } => true,
            Self::Guest(CallError::Link(_)) => true,
            Self::Launch(error) => matches!(error, LaunchError::Guest { .. }),
            _ => false,
        }
    }

    /// Adds a hang dump to an error about a guest that did not answer. Call it before the VMM is killed.
    pub(crate) async fn with_evidence(mut self, home: &Home, guest: SilentGuest<'_>) -> Self {
        let waited = self.to_string();
        if let Self::Silent { dump, .. }
        | Self::SilentRestore { dump, .. }
        | Self::SilentWarmUp { dump, .. }
        | Self::WarmUpProgramRuns { dump, .. } = &mut self
        {
            *dump = hang::dump(home, guest, &waited).await;
        }
        self
    }
}

/// podman's exit code for a command that the guest cannot start.
fn exit_code(failure: &Failure) -> i32 {
    match failure.kind {
        FailureKind::CommandNotFound => 127,
        FailureKind::CommandNotExecutable | FailureKind::UnknownUser => 126,
        _ => 125,
    }
}
