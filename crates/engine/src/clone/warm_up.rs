//! The warm-up run of a clone's stencil: a guest does, without effect, what a clone does before its workload resumes.

use std::path::Path;
use std::time::Duration;

use mimeo_vmm::{LaunchSpec, Network};
use tokio::net::UnixStream;

use super::restored;
use super::warm_up_program::{StillRuns, run_warm_up_program};
use crate::guest;
use crate::hang::HangDump;
use crate::id::MachineId;
use crate::identity;
use crate::launch_spec::user_network;
use crate::machine::{MachineDisk, NetworkRecord, Record, machine_disks};
use crate::snapshot::Snapshot;
use crate::stage::StageError;
use crate::stencil::WarmUp;

/// The host name that the guest of a warm-up run is given.
const HOSTNAME: &str = "warm-up";

/// How long each program of a warm-up run may take. It allows for a very busy host.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(10);

/// A clone that exists only for its warm-up run and is killed after it.
#[derive(Debug)]
pub(super) struct CloneWarmUp<'a> {
    snapshot: &'a Snapshot,
    spec: &'a LaunchSpec,
    record: Record,
}

impl<'a> CloneWarmUp<'a> {
    /// A placeholder for the machine of `record`, without its environment, names and addresses, which would be left in
    /// the memory of all clones.
    pub(super) fn new(
        snapshot: &'a Snapshot,
        spec: &'a LaunchSpec,
        record: &Record,
    ) -> Result<Self, StageError> {
        let network = record.network.as_ref().map(|_| NetworkRecord::placeholder()).transpose()?;
        let mut record = Record { network, ..record.clone() };
        record.spec.env.clear();
        record.spec.hostname = Some(HOSTNAME.to_owned());
        record.id = MachineId::random();
        Ok(Self { snapshot, spec, record })
    }
}

impl WarmUp for CloneWarmUp<'_> {
    fn build_spec(&self, dir: &Path) -> Result<LaunchSpec, StageError> {
        let disks: Vec<_> = machine_disks(dir, &self.record);
        for disk in &disks {
            restored::link_disk(&self.snapshot.dir.join(&disk.saved_dir), disk)?;
        }
        let image = self.spec.disks.iter().take(1).cloned();
        Ok(LaunchSpec {
            name: self.snapshot.manifest.id.short().to_owned(),
            disks: image.chain(disks.iter().map(MachineDisk::launched)).collect(),
            network: self.record.network.as_ref().map(user_network).map(Network::User),
            console: dir.join("console.log"),
            ..self.spec.clone()
        })
    }

    async fn run(&self, channel: UnixStream) -> Result<(), StageError> {
        let vm_generation = identity::new_vm_generation();
        let session = identity::session(&vm_generation);
        let record = Record { vm_generation: Some(vm_generation), ..self.record.clone() };
        let link = guest::connect(channel, session).await?;
        let identity = identity::describe(&record, false)?;
        identity::warm_up(&link, identity).await?;
        // A process that still ran when the stencil is dumped would run in all clones.
        let outcome = run_warm_up_program(&link, PROGRAM_TIMEOUT).await;
        let seconds = PROGRAM_TIMEOUT.as_secs();
        outcome.map_err(|StillRuns| StageError::WarmUpProgramRuns { seconds, dump: HangDump::default() })
    }
}
