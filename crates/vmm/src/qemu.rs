//! QEMU, on its `microvm` machine, with KVM or without.

mod arguments;
mod confine;
mod instance;
mod keep;
mod launch;
mod memory;
mod qmp;
mod revive;

use std::path::PathBuf;

use async_trait::async_trait;

use crate::{
    Accelerator, Capabilities, Driver, Instance, KeptProcess, LaunchError, LaunchSpec, RestoreError,
    SavedMachine, TapUse,
};

/// The name of the guest's end of the link, in `/sys/class/virtio-ports/*/name`.
pub const LINK_NAME: &str = "mimeo";

/// QEMU's program name.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// The driver.
#[derive(Debug, Clone)]
pub struct Qemu {
    program: PathBuf,
}

impl Qemu {
    /// Drives the QEMU at `program`, a path or a name to be found in PATH.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }

    fn path(&self) -> Option<PathBuf> {
        if self.program.components().count() > 1 {
            return Some(self.program.clone());
        }
        let places = std::env::var_os("PATH")?;
        std::env::split_paths(&places).map(|place| place.join(&self.program)).find(|path| path.is_file())
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

    async fn revive(&self, spec: &LaunchSpec, kept: &KeptProcess) -> Result<Box<dyn Instance>, RestoreError> {
        Ok(Box::new(revive::revive(spec, kept).await?))
    }

    fn keeps_process(&self, accelerator: Accelerator) -> bool {
        accelerator == Accelerator::Tcg
    }

    fn shape(&self, spec: &LaunchSpec) -> String {
        arguments::shape(spec)
    }

    fn program(&self) -> Option<String> {
        use std::os::unix::fs::MetadataExt;
        let path = self.path()?;
        let file = path.metadata().ok()?;
        Some(format!("{} {} {}.{}", path.display(), file.size(), file.mtime(), file.mtime_nsec()))
    }
}
