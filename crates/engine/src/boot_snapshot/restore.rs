//! Restores a guest from a boot snapshot, from its stencil where there is one.

use std::path::PathBuf;
use std::time::Duration;

use mimeo_agent_protocol::link::Link;
use mimeo_pager::Pages;
use mimeo_vmm::{DiskFormat, Instance, LaunchSpec, SavedMachine};
use tokio::time::timeout;

use super::warm_up::BootSnapshotWarmUp;
use super::{EXIT_TIMEOUT, GuestRequest, HELLO_TIMEOUT, WarmGuest};
use crate::hang::{HangDump, SilentGuest};
use crate::snapshot::{self, HostProfile, STATE, Snapshot};
use crate::stage::StageError;
use crate::stencil::{self, BuildPolicy, Lookup, Stencil};
use crate::{Engine, guest, identity, working_set};

/// Restores a guest, resumes it and waits until its agent answers.
pub(super) async fn restore(
    engine: &Engine,
    request: GuestRequest<'_>,
    snapshot: Snapshot,
    policy: BuildPolicy,
) -> Result<WarmGuest, StageError> {
    let store = engine.snapshots();
    let host = HostProfile {
        driver: request.driver.name().to_owned(),
        shape: request.requires.shape.clone(),
        accelerator: request.spec.accelerator,
    };
    snapshot::check_compatibility(&snapshot.manifest.requires, &host)?;
    snapshot::verify(&store, &snapshot)?;
    let memory = snapshot::flatten_memory(&store, &snapshot)?;
    let GuestRequest { driver, spec, .. } = request;
    let Lookup { stencil, mut missing } = if has_raw_disks(spec) {
        let warm_up = BootSnapshotWarmUp::new(&snapshot, spec);
        let stencil_request = stencil::StencilRequest { driver, snapshot: &snapshot, memory: &memory, spec };
        stencil::find_or_build(&store, stencil_request, policy, warm_up).await
    } else {
        Lookup::default()
    };
    let mapped = stencil.as_ref().map_or(&memory, |stencil| &stencil.process.memory);
    working_set::read_ahead(&store, &snapshot, mapped);
    let (mut instance, divergent_pages) =
        start_vmm(request, &snapshot, memory, stencil, &mut missing).await?;
    snapshot::check_version(&snapshot.manifest.requires, &instance.version().await?)?;
    instance.resume().await?;
    let session = identity::session(&identity::new_vm_generation());
    let link = hello(engine, instance.as_mut(), spec, session, HELLO_TIMEOUT).await?;
    request.chosen.guest_answered(engine.home());
    Ok(WarmGuest { instance, link, snapshot, divergent_pages, missing })
}

/// Whether the machine can have a stencil: the disks of a stencil's QEMU are raw, and stay raw in the restored process.
fn has_raw_disks(spec: &LaunchSpec) -> bool {
    spec.disks.iter().all(|disk| disk.format == DiskFormat::Raw)
}

/// Restores the VMM from the stencil or, without one, from the saved state.
async fn start_vmm(
    request: GuestRequest<'_>,
    snapshot: &Snapshot,
    memory: PathBuf,
    stencil: Option<Stencil>,
    missing: &mut Option<String>,
) -> Result<(Box<dyn Instance>, Pages), StageError> {
    if let Some(stencil) = stencil {
        match request.driver.restore_process(request.spec, &stencil.process).await {
            Ok(instance) => {
                stencil.record_success();
                return Ok((instance, stencil.divergent_pages));
            }
            Err(error) => *missing = Some(stencil.disable_after(error)?),
        }
    }
    let saved = SavedMachine { state: snapshot.dir.join(STATE), memory, pager: None };
    Ok((request.driver.restore(request.spec, &saved).await?, Pages::default()))
}

/// Starts session `session` with the guest's agent. If the agent does not answer within `limit`, the error has a hang
/// dump.
pub(super) async fn hello(
    engine: &Engine,
    instance: &mut dyn Instance,
    spec: &LaunchSpec,
    session: u32,
    limit: Duration,
) -> Result<Link, StageError> {
    let hello = guest::connect(instance.take_link()?, session);
    let answered = tokio::select! {
        answered = timeout(limit, hello) => answered,
        exit = instance.wait() => return Err(StageError::died(&exit)),
    };
    match answered {
        Ok(Ok(link)) => Ok(link),
        // Most often the link closed because the VMM exited: then that is the reason.
        Ok(Err(error)) => match timeout(EXIT_TIMEOUT, instance.wait()).await {
            Ok(exit) => Err(StageError::died(&exit)),
            Err(_) => Err(error.into()),
        },
        Err(_) => Err(silent(engine, instance, spec, limit).await),
    }
}

/// The error for a guest that does not answer, with a hang dump.
pub(super) async fn silent(
    engine: &Engine,
    instance: &mut dyn Instance,
    spec: &LaunchSpec,
    waited: Duration,
) -> StageError {
    let guest = SilentGuest { instance, id: &spec.name, console: &spec.console };
    let error = StageError::SilentRestore { seconds: waited.as_secs(), dump: HangDump::default() };
    error.with_evidence(engine.home(), guest).await
}
