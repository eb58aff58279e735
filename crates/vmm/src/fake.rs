//! A driver without a VMM, with faults to inject.
//!
//! Its "guest" is a function on the other end of the link. It tests the code above the driver interface
//! against failures that no real VMM produces on demand.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::UnixStream;
use tokio::sync::watch;

use crate::{
    Accelerator, Capabilities, CheckpointHook, CheckpointedProcess, DiskIdentification, Driver, Forward,
    GuestMemory, Instance, LaunchError, LaunchSpec, MemorySave, OperationError, RestoreError, SavedMachine,
    TapUse, VmExit, VmProcess,
};

/// The faults to inject. All are off by default.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// The VMM's program is not installed.
    pub not_installed: bool,
    /// The VMM exits after this time.
    pub dies_after: Option<Duration>,
    /// The guest never answers on its link.
    pub silent_guest: bool,
    /// The VMM refuses to pause and to resume.
    pub refuses_pause: bool,
    /// The state of the devices cannot be written.
    pub refuses_save: bool,
    /// The VMM refuses a saved state.
    pub refuses_restore: bool,
}

type Guest = Arc<dyn Fn(UnixStream) + Send + Sync>;

/// The driver.
#[derive(Clone)]
pub struct Fake {
    guest: Guest,
    faults: Faults,
    launched: Arc<Mutex<Vec<LaunchSpec>>>,
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fake").field("faults", &self.faults).finish_non_exhaustive()
    }
}

impl Fake {
    /// A driver whose guests are `guest`, called with the other end of the link.
    pub fn new(guest: impl Fn(UnixStream) + Send + Sync + 'static, faults: Faults) -> Self {
        Self { guest: Arc::new(guest), faults, launched: Arc::default() }
    }

    /// The specs that were launched, in order.
    #[must_use]
    pub fn launched(&self) -> Vec<LaunchSpec> {
        self.launched.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Driver for Fake {
    fn name(&self) -> &'static str {
        "fake"
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
        if self.faults.not_installed {
            return Err(LaunchError::NotInstalled { program: "fake".to_owned() });
        }
        self.launched.lock().unwrap_or_else(PoisonError::into_inner).push(spec.clone());
        let spawn = |source| LaunchError::Spawn { program: "fake".to_owned(), source };
        let (link, guest) = UnixStream::pair().map_err(spawn)?;
        if self.faults.silent_guest {
            // Held open but never read, as by a hung guest.
            tokio::spawn(async move {
                let _open = guest;
                std::future::pending::<()>().await;
            });
        } else {
            (self.guest)(guest);
        }
        let (end, ended) = watch::channel(None);
        if let Some(after) = self.faults.dies_after {
            let end = end.clone();
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                end.send_replace(Some(VmExit::Failed {
                    status: "signal: 9 (SIGKILL)".to_owned(),
                    stderr: "injected fault".to_owned(),
                }));
            });
        }
        Ok(Box::new(FakeInstance { link: Some(link), end, ended, faults: self.faults.clone() }))
    }

    async fn restore(
        &self,
        spec: &LaunchSpec,
        saved: &SavedMachine,
    ) -> Result<Box<dyn Instance>, RestoreError> {
        let open = |source| RestoreError::Open { path: saved.state.clone(), source };
        std::fs::metadata(&saved.state).map_err(open)?;
        if self.faults.refuses_restore {
            return Err(RestoreError::Ended { how: "injected fault".to_owned() });
        }
        Ok(self.launch(spec).await?)
    }

    async fn restore_process(
        &self,
        _: &LaunchSpec,
        _: &CheckpointedProcess,
    ) -> Result<Box<dyn Instance>, RestoreError> {
        let operation = "checkpoint its process".to_owned();
        Err(LaunchError::Unsupported { driver: self.name(), operation }.into())
    }

    fn can_checkpoint(&self, _: Accelerator) -> bool {
        false
    }

    fn shape(&self, spec: &LaunchSpec) -> String {
        format!("fake {} {}", spec.cpus, spec.memory_mib)
    }

    fn program(&self) -> Option<String> {
        (!self.faults.not_installed).then(|| "fake".to_owned())
    }
}

#[derive(Debug)]
struct FakeInstance {
    link: Option<UnixStream>,
    end: watch::Sender<Option<VmExit>>,
    ended: watch::Receiver<Option<VmExit>>,
    faults: Faults,
}

fn refuse_if(refuses: bool, command: &str) -> Result<(), OperationError> {
    if refuses {
        return Err(OperationError::Refused {
            command: command.to_owned(),
            message: "injected fault".to_owned(),
        });
    }
    Ok(())
}

#[async_trait]
impl Instance for FakeInstance {
    fn process(&self) -> VmProcess {
        VmProcess { pid: std::process::id() }
    }

    fn take_link(&mut self) -> Result<UnixStream, OperationError> {
        self.link.take().ok_or(OperationError::LinkTaken)
    }

    async fn pause(&mut self) -> Result<(), OperationError> {
        refuse_if(self.faults.refuses_pause, "stop")
    }

    async fn resume(&mut self) -> Result<(), OperationError> {
        refuse_if(self.faults.refuses_pause, "cont")
    }

    async fn version(&self) -> Result<String, OperationError> {
        Ok("1.0".to_owned())
    }

    fn memory(&self) -> Result<GuestMemory, OperationError> {
        Ok(GuestMemory { pid: std::process::id(), pieces: Vec::new(), over_file: false })
    }

    async fn save_devices(&mut self, file: &Path) -> Result<(), OperationError> {
        refuse_if(self.faults.refuses_save, "save")?;
        std::fs::write(file, "fake").map_err(|error| OperationError::Refused {
            command: "save".to_owned(),
            message: error.to_string(),
        })
    }

    async fn checkpoint(&mut self, _: &Path, _: CheckpointHook) -> Result<(), OperationError> {
        Err(OperationError::Unsupported { driver: "fake", operation: "checkpoint its process" })
    }

    async fn add_layer(&mut self, _: &str, _: &Path) -> Result<(), OperationError> {
        Ok(())
    }

    async fn publish(&mut self, _: &Forward, _: Ipv4Addr) -> Result<(), OperationError> {
        Ok(())
    }

    async fn unpublish(&mut self, _: &Forward) -> Result<(), OperationError> {
        Ok(())
    }

    async fn wait(&mut self) -> VmExit {
        match self.ended.wait_for(Option::is_some).await {
            Ok(exit) => exit.clone().unwrap_or(VmExit::Off),
            Err(_) => VmExit::Off,
        }
    }

    async fn kill(&mut self) {
        self.end.send_replace(Some(VmExit::Off));
    }
}
