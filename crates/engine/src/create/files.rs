//! A guest that serves the files of a machine that does not run.

use std::time::Duration;

use mimeo_agent_protocol::link::Link;
use mimeo_agent_protocol::message::{ContainerSetup, Request};
use mimeo_vmm::VmExit;
use mimeo_volume::VolumeServer;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::answering::Answering;
use super::launched::Launched;
use super::planned::Planned;
use super::running::configure;
use crate::Engine;
use crate::hang::HangDump;
use crate::machine::Record;
use crate::stage::{Stage, StageError, StartError};

/// Time for the guest to flush the disks and power off: a flush of a named volume reaches the host's stable storage.
const POWER_OFF_TIMEOUT: Duration = Duration::from_secs(600);

/// A guest with the disk and the volumes of a machine, and without a container. Dropping it kills the guest, and the
/// last writes to the disk are lost: [`DiskGuest::close`] keeps them.
#[derive(Debug)]
pub(crate) struct DiskGuest {
    // Dropped first: it owns the VMM, which must exit before the volumes' servers end.
    vmm: AbortOnDrop,
    _volumes: Vec<VolumeServer>,
    pub(crate) link: Link,
    /// The machine, as it was when the guest was started.
    pub(crate) record: Record,
}

/// The task that waits for the VMM's end, and ends it at a disk error: its guest would be paused for ever.
#[derive(Debug)]
struct AbortOnDrop(JoinHandle<VmExit>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Answering {
    /// Configures the guest: it mounts the disks and the volumes.
    pub(super) async fn open_files(self, engine: &Engine) -> Result<DiskGuest, StartError> {
        let Self { mut launched, link } = self;
        let Launched { vm, imaged, .. } = &mut launched;
        let Planned { claim, stopwatch, driver, .. } = &mut imaged.planned;
        let seconds = claim.record.spec.start_timeout;
        // No limits, and no temporary filesystems, which would hide what is on the disk.
        let setup = ContainerSetup { no_hosts: claim.record.spec.no_hosts, ..ContainerSetup::default() };
        let configured = configure(
            &link,
            &mut claim.record,
            &imaged.config,
            driver.capabilities().disks,
            setup,
            stopwatch,
        );
        let configured = tokio::select! {
            configured = timeout(Duration::from_secs(seconds.into()), configured) => {
                configured.unwrap_or(Err((Stage::Configure, StageError::Silent { seconds, dump: HangDump::default() })))
            }
            exit = vm.instance.wait() => Err((Stage::Configure, StageError::died(&exit))),
        };
        match configured {
            Ok(volumes) => {
                let record = launched.imaged.planned.claim.record.clone();
                let vmm = tokio::spawn(async move {
                    let exit = launched.vm.instance.wait().await;
                    drop(launched);
                    exit
                });
                Ok(DiskGuest { vmm: AbortOnDrop(vmm), _volumes: volumes, link, record })
            }
            Err((stage, error)) => Err(launched.fail(engine, stage, error).await),
        }
    }
}

impl DiskGuest {
    /// Flushes the disk and ends the guest.
    ///
    /// # Errors
    /// Says why what was written may be lost.
    pub(crate) async fn close(mut self) -> Result<(), String> {
        // A lost link means that the VMM has ended, and its exit says why.
        let _stream = self.link.open(&Request::Shutdown);
        match timeout(POWER_OFF_TIMEOUT, &mut self.vmm.0).await {
            Ok(Ok(VmExit::Off)) => Ok(()),
            Ok(Ok(VmExit::Failed { status, stderr })) => Err(format!("its VMM failed ({status}) {stderr}")),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("its guest did not power off in time".to_owned()),
        }
    }
}
