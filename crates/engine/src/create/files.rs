//! A guest that serves the files of a machine that does not run.

use std::time::Duration;

use mimeo_agent_protocol::link::Link;
use mimeo_agent_protocol::message::{ContainerSetup, Reply, Request};
use mimeo_volume::VolumeServer;
use tokio::time::timeout;

use super::answering::Answering;
use super::launched::Launched;
use super::planned::Planned;
use super::running::configure;
use crate::Engine;
use crate::hang::HangDump;
use crate::stage::{Stage, StageError, StartError};

/// Time for the guest to flush the disk and power off.
const POWER_OFF_TIMEOUT: Duration = Duration::from_secs(10);

/// A guest with the disk and the volumes of a machine, and without a container. Dropping it kills the guest, and the
/// last writes to the disk are lost: [`DiskGuest::close`] keeps them.
#[derive(Debug)]
pub(crate) struct DiskGuest {
    // Dropped in this order: the VMM exits before its disk and its lock are released.
    launched: Launched,
    _volumes: Vec<VolumeServer>,
    pub(crate) link: Link,
}

impl Answering {
    /// Configures the guest: it mounts the disks and the volumes.
    pub(super) async fn open_files(self, engine: &Engine) -> Result<DiskGuest, StartError> {
        let Self { mut launched, link } = self;
        let Launched { vm, imaged, .. } = &mut launched;
        let Planned { claim, stopwatch, driver, .. } = &mut imaged.planned;
        let seconds = claim.record.spec.start_timeout;
        // No limits, and no temporary filesystems, which would hide what is on the disk.
        let setup = ContainerSetup::default();
        let configured = configure(&link, &mut claim.record, driver.capabilities().disks, setup, stopwatch);
        let configured = tokio::select! {
            configured = timeout(Duration::from_secs(seconds.into()), configured) => {
                configured.unwrap_or(Err((Stage::Configure, StageError::Silent { seconds, dump: HangDump::default() })))
            }
            exit = vm.instance.wait() => Err((Stage::Configure, StageError::died(&exit))),
        };
        match configured {
            Ok(volumes) => Ok(DiskGuest { launched, _volumes: volumes, link }),
            Err((stage, error)) => Err(launched.fail(engine, stage, error).await),
        }
    }
}

impl DiskGuest {
    /// Flushes the disk and ends the guest. Returns `false` if the guest did not power off in time.
    pub(crate) async fn close(mut self) -> bool {
        let shutdown = async {
            let Ok(mut stream) = self.link.open(&Request::Shutdown) else { return };
            // The reply comes just before the guest powers off; a lost link means that it has.
            if stream.receiver.message::<Reply>().await.is_ok() {
                self.launched.vm.instance.wait().await;
            }
        };
        let is_off = timeout(POWER_OFF_TIMEOUT, shutdown).await.is_ok();
        self.launched.vm.instance.kill().await;
        is_off
    }
}
