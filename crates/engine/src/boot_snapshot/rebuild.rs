//! Boot snapshots that users make again.

use mimeo_vmm::Accelerator;
use mimeo_vmm::accel::Accel;

use super::BootSnapshotError;
use crate::Engine;
use crate::machine::MachineSpec;
use crate::snapshot::Snapshot;
use crate::stage::StageError;
use crate::stencil;

/// A machine that this boot snapshot is for; `None` if an earlier version has made it, which did not record that.
#[must_use]
pub fn machine_for(snapshot: &Snapshot) -> Option<MachineSpec> {
    let manifest = &snapshot.manifest;
    let mut spec = manifest.boot.as_ref()?.machine();
    spec.driver.clone_from(&manifest.requires.driver);
    spec.accelerator = match manifest.requires.accelerator {
        Accelerator::Kvm => Accel::Kvm,
        Accelerator::Tcg => Accel::Tcg,
    };
    Some(spec)
}

/// Makes a boot snapshot again, with the kernel, the agent and the VMM that are in use now. Machines that run on the old one
/// run on; it is removed as soon as nothing is built on it.
///
/// # Errors
/// If a guest of that configuration cannot be booted or saved on this host.
pub async fn rebuild(
    engine: &Engine,
    snapshot: &Snapshot,
    spec: &MachineSpec,
) -> Result<Snapshot, BootSnapshotError> {
    let discarded = stencil::discard_snapshot(&engine.snapshots(), &engine.registry(), snapshot);
    discarded.map_err(StageError::from)?;
    super::prepare(engine, spec).await
}
