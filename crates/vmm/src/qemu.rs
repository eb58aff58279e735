//! QEMU, on its `microvm` machine, with KVM or without.

mod arguments;
mod instance;
mod launch;
mod qmp;

use std::path::PathBuf;

use async_trait::async_trait;

use crate::{Capabilities, Driver, Instance, LaunchError, LaunchSpec};

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
        Capabilities { emulation: true, user_network: true, pause: true, snapshot: false }
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<Box<dyn Instance>, LaunchError> {
        Ok(Box::new(launch::launch(&self.program, spec)?))
    }
}
