//! QEMU with its `microvm` machine type, with KVM or TCG.

mod arguments;
mod checkpoint;
mod diagnose;
mod instance;
mod launch;
mod memory;
mod qmp;
mod restore_process;
mod seccomp;

use std::path::PathBuf;

use async_trait::async_trait;

use crate::{
    Accelerator, Capabilities, CheckpointedProcess, DiskIdentification, Driver, Instance, LaunchError,
    LaunchSpec, MemorySave, RestoreError, SavedMachine, TapUse, program,
};

/// The name of the guest's link port, in `/sys/class/virtio-ports/*/name`.
pub const LINK_NAME: &str = "mimeo";

/// QEMU's program name.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// The firmware that loads a guest's kernel: qboot, a file in one of QEMU's data directories.
///
/// QEMU's default for this machine type is `bios-microvm.bin`, whose content depends on the package: Debian's
/// QEMU 7.2 links it to qboot; its 10.0 does not, and SeaBIOS has a file of that name. SeaBIOS loads a kernel
/// only by an option ROM, which our machines do not have, and spins.
pub const FIRMWARE: &str = "qboot.rom";

/// The driver.
#[derive(Debug, Clone)]
pub struct Qemu {
    program: PathBuf,
}

impl Qemu {
    /// Uses the QEMU at `program`, a path or a name to find in PATH.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }
}

impl Default for Qemu {
    fn default() -> Self {
        Self::new(PROGRAM)
    }
}

#[async_trait]
impl Driver for Qemu {
    fn name(&self) -> &'static str {
        "qemu"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            emulation: true,
            user_network: true,
            tap: TapUse::Descriptor,
            pause: true,
            snapshot: true,
            memory: MemorySave::Reader,
            disk_layers: true,
            disks: DiskIdentification::Serial,
            pager: false,
        }
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<Box<dyn Instance>, LaunchError> {
        Ok(Box::new(launch::launch(&self.program, spec)?))
    }

    async fn restore(
        &self,
        spec: &LaunchSpec,
        saved: &SavedMachine,
    ) -> Result<Box<dyn Instance>, RestoreError> {
        Ok(Box::new(launch::restore(&self.program, spec, saved).await?))
    }

    async fn restore_process(
        &self,
        spec: &LaunchSpec,
        checkpointed: &CheckpointedProcess,
    ) -> Result<Box<dyn Instance>, RestoreError> {
        Ok(Box::new(restore_process::restore_process(spec, checkpointed).await?))
    }

    fn can_checkpoint(&self, accelerator: Accelerator) -> bool {
        accelerator == Accelerator::Tcg
    }

    fn shape(&self, spec: &LaunchSpec) -> String {
        arguments::shape(spec)
    }

    fn program(&self) -> Option<String> {
        program::file_identity(&program::find_program(&self.program)?)
    }
}
