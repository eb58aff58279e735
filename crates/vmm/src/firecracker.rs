//! Firecracker, for hosts with KVM and networks with TAP devices.
//!
//! A machine's Firecracker runs in the machine's own directory, or in a jail there if root starts it. It
//! inherits no descriptors, but opens files by names (`names.rs`) that are the same in every machine.
//!
//! # Disks
//! The API cannot set a disk's serial number. The one that a guest reads (`/sys/block/vdX/serial`) is derived
//! from the file's device and inode, and changes with each restore. So disks are identified by position: the
//! first of [`LaunchSpec::disks`] is `vda`, the second `vdb` ([`DiskIdentification::Position`]).

pub mod api;
mod cgroup;
mod instance;
mod jail;
mod launch;
mod layout;
mod link;
mod names;
mod process;
mod save;
mod shape;
mod socket;
pub mod version;

use std::path::{Path, PathBuf};

use async_trait::async_trait;

pub use jail::{SHARED_GID, sweep, uid};

use crate::{
    Accelerator, Capabilities, CheckpointedProcess, DiskIdentification, Driver, Instance, LaunchError,
    LaunchSpec, MemorySave, RestoreError, SavedMachine, TapUse, program,
};

/// Firecracker's program name.
pub const PROGRAM: &str = "firecracker";
/// The vsock port on which the guest's agent listens (AF_VSOCK).
pub const GUEST_PORT: u32 = 1024;
/// The guest's CID: the lowest that a guest may have. It is the same in all machines, as each has a vsock
/// device of its own.
pub const GUEST_CID: u32 = 3;

const NAME: &str = "firecracker";

/// The driver.
#[derive(Debug, Clone)]
pub struct Firecracker {
    program: PathBuf,
    jailer: Option<PathBuf>,
    jailed: bool,
    tracks_writes: bool,
    state_format: shape::StateFormat,
}

impl Firecracker {
    /// Uses the Firecracker at `program`, a path or a name to find in PATH. If we are root, its jailer starts
    /// it.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            jailer: None,
            jailed: true,
            tracks_writes: false,
            state_format: shape::StateFormat::default(),
        }
    }

    /// Disables the jailer: a Firecracker of root is then confined by its seccomp filters alone.
    #[must_use]
    pub fn without_jailer(self) -> Self {
        Self { jailed: false, ..self }
    }

    /// Uses the jailer at `jailer`, instead of the one that `MIMEO_JAILER` names, or that is beside
    /// Firecracker or in PATH.
    #[must_use]
    pub fn with_jailer(self, jailer: impl Into<PathBuf>) -> Self {
        Self { jailer: Some(jailer.into()), ..self }
    }

    /// Tracks the writes of restored guests, so that [`crate::SaveKind::Diff`] saves no more than these.
    /// Otherwise Firecracker treats all pages in the host's memory as written, and before 1.13.0 saves no
    /// diff at all. Booted guests are not tracked: their memory would be mapped in small pages, which makes a
    /// boot longer by a half, and their first save is of all memory in any case.
    #[must_use]
    pub fn tracking_writes(self) -> Self {
        Self { tracks_writes: true, ..self }
    }

    /// Uses a cache file for the program's snapshot version, so that not every process has to run the program
    /// to get it.
    #[must_use]
    pub fn with_version_cache(self, file: impl Into<PathBuf>) -> Self {
        Self { state_format: shape::StateFormat::cached_in(file.into()), ..self }
    }

    /// Whether machines run in jails.
    #[must_use]
    pub fn is_jailed(&self) -> bool {
        self.jailed && rustix::process::geteuid().is_root()
    }
}

impl Default for Firecracker {
    fn default() -> Self {
        Self::new(PROGRAM)
    }
}

#[async_trait]
impl Driver for Firecracker {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            emulation: false,
            user_network: false,
            tap: TapUse::Name,
            pause: true,
            snapshot: true,
            memory: MemorySave::Vmm,
            disk_layers: false,
            disks: DiskIdentification::Position,
            pager: true,
        }
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<Box<dyn Instance>, LaunchError> {
        Ok(Box::new(launch::launch(self, spec).await?))
    }

    async fn restore(
        &self,
        spec: &LaunchSpec,
        saved: &SavedMachine,
    ) -> Result<Box<dyn Instance>, RestoreError> {
        Ok(Box::new(launch::restore(self, spec, saved).await?))
    }

    async fn restore_process(
        &self,
        _: &LaunchSpec,
        _: &CheckpointedProcess,
    ) -> Result<Box<dyn Instance>, RestoreError> {
        let operation = "restore a VMM process from a checkpoint".to_owned();
        Err(LaunchError::Unsupported { driver: NAME, operation }.into())
    }

    fn can_checkpoint(&self, _: Accelerator) -> bool {
        false
    }

    fn tap_owner(&self, directory: &Path) -> u32 {
        if self.is_jailed() { uid(directory) } else { rustix::process::geteuid().as_raw() }
    }

    fn sweep(&self, directory: &Path) -> std::io::Result<()> {
        jail::sweep(directory).map(drop)
    }

    fn shape(&self, spec: &LaunchSpec) -> String {
        shape::shape(spec, &self.state_format.query(program::find_program(&self.program)))
    }

    fn program(&self) -> Option<String> {
        program::file_identity(&program::find_program(&self.program)?)
    }
}
