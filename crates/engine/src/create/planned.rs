//! Stage 1: validates the spec and claims an id, a name and a network.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use mimeo_vmm::Driver;

use super::options::{StageObserver, StartOptions};
use crate::admission::meminfo;
use crate::machine::{Claim, MachineSpec, VolumeSpec, named_volumes};
use crate::stage::StageError;
use crate::{Engine, driver, time_zone};
use mimeo_setup::Kernel;

/// mimeo's kernels do not boot with less memory.
const MIN_MEMORY_MIB: u32 = 96;
/// The `microvm` machine maps memory above 3 GiB where old firmware does not find it; a TiB is more than any
/// host here has.
const MAX_MEMORY_MIB: u32 = 1024 * 1024;
/// The smallest writable layer: ext4 with a journal.
const MIN_DISK_BYTES: u64 = 64 << 20;

/// A machine whose spec is valid and whose id, name and network are claimed.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) claim: Claim,
    pub(super) kernel: Kernel,
    pub(super) driver: Arc<dyn Driver>,
    pub(super) stopwatch: Stopwatch,
}

/// Measures how long each stage takes.
#[derive(Clone)]
pub(crate) struct Stopwatch {
    last: Instant,
    stages: Vec<(String, u64)>,
    observer: Option<StageObserver>,
}

impl fmt::Debug for Stopwatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopwatch").field("stages", &self.stages).finish_non_exhaustive()
    }
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self::observed(None)
    }

    /// Starts to measure; the observer receives each stage.
    pub(crate) fn observed(observer: Option<StageObserver>) -> Self {
        Self { last: Instant::now(), stages: Vec::new(), observer }
    }

    /// Leaves out the time since the last stage ended, in which nothing was done.
    pub(crate) fn skip(&mut self) {
        self.last = Instant::now();
    }

    /// Records the end of a stage.
    pub(crate) fn lap(&mut self, stage: &str) {
        let millis = self.last.elapsed().as_millis() as u64;
        tracing::debug!(component = "start", stage, millis, "done");
        if let Some(observer) = &self.observer {
            observer(stage, millis);
        }
        self.stages.push((stage.to_owned(), millis));
        self.last = Instant::now();
    }

    pub(crate) fn stages(self) -> Vec<(String, u64)> {
        self.stages
    }
}

/// Validates the spec and claims id, name and network. Undo: dropping the claim.
pub(super) fn plan_new(
    engine: &Engine,
    mut spec: MachineSpec,
    options: &StartOptions,
) -> Result<Planned, StageError> {
    let stopwatch = Stopwatch::observed(options.stages.clone());
    let driver = driver::resolve(engine, &mut spec)?;
    validate(&mut spec)?;
    let kernel = Kernel::load(engine.home().home())?;
    let claim = engine.registry().claim_as(spec, options.id.clone(), |_| {})?;
    Ok(planned(claim, kernel, driver, stopwatch))
}

/// Validates the spec of a machine that existed before: the host may have changed since.
pub(super) fn plan_existing(
    engine: &Engine,
    mut claim: Claim,
    options: &StartOptions,
) -> Result<Planned, StageError> {
    let stopwatch = Stopwatch::observed(options.stages.clone());
    let driver = driver::resolve(engine, &mut claim.record.spec)?;
    validate(&mut claim.record.spec)?;
    let kernel = Kernel::load(engine.home().home())?;
    Ok(planned(claim, kernel, driver, stopwatch))
}

fn planned(claim: Claim, kernel: Kernel, driver: Arc<dyn Driver>, mut stopwatch: Stopwatch) -> Planned {
    stopwatch.lap("plan");
    Planned { claim, kernel, driver, stopwatch }
}

/// Largest number of named volumes: QEMU's `microvm` has 24 devices, and Firecracker 19.
const MAX_VOLUMES: usize = 12;

fn validate(spec: &mut MachineSpec) -> Result<(), StageError> {
    let given = named_volumes(spec).len();
    if given > MAX_VOLUMES {
        return Err(StageError::TooManyVolumes { max: MAX_VOLUMES, given });
    }
    validate_sizes(spec)?;
    spec.volumes.iter_mut().try_for_each(resolve_volume)?;
    validate_volume_targets(spec)?;
    validate_container(spec)
}

fn validate_sizes(spec: &MachineSpec) -> Result<(), StageError> {
    let host_cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u32;
    // More vCPUs than the host has CPUs only compete for them, but options written for podman on another host
    // may request more.
    let max_cpus = host_cpus.max(1) * 4;
    check_range("--cpus", spec.cpus.into(), 1, max_cpus.into(), "")?;
    check_range("--memory", spec.memory_mib.into(), MIN_MEMORY_MIB.into(), MAX_MEMORY_MIB.into(), " MiB")?;
    check_host_memory(spec.memory_mib.into())?;
    check_range("--disk", spec.disk_bytes, MIN_DISK_BYTES, 16 << 40, " bytes")
}

/// A host without overcommitment cannot map more than its memory and swap, and a guest that large takes minutes to
/// boot before that is noticed.
fn check_host_memory(given_mib: u64) -> Result<(), StageError> {
    let (Some(memory), Some(swap)) = (meminfo("MemTotal:"), meminfo("SwapTotal:")) else { return Ok(()) };
    let (memory_mib, swap_mib) = (memory >> 20, swap >> 20);
    if given_mib <= memory_mib + swap_mib {
        return Ok(());
    }
    Err(StageError::MemoryExceedsHost { given_mib, memory_mib, swap_mib })
}

fn check_range(option: &'static str, given: u64, min: u64, max: u64, unit: &str) -> Result<(), StageError> {
    if (min..=max).contains(&given) {
        return Ok(());
    }
    let expected = format!("between {min} and {max}{unit}");
    Err(StageError::OutOfRange { option, expected, given: given.to_string() })
}

/// Refuses two volumes with the same mount point: one would hide the other.
fn validate_volume_targets(spec: &MachineSpec) -> Result<(), StageError> {
    if let Some(mount) = spec.volume_mounts.iter().find(|mount| !mount.target.starts_with('/')) {
        return Err(StageError::VolumeTarget { given: mount.target.clone() });
    }
    let mut targets: Vec<&str> = volume_targets(spec).map(|target| target.trim_end_matches('/')).collect();
    targets.sort_unstable();
    match targets.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(StageError::DuplicateVolumeTarget { target: pair[0].to_owned() }),
        None => Ok(()),
    }
}

/// The mount points of a machine's volumes.
fn volume_targets(spec: &MachineSpec) -> impl Iterator<Item = &str> {
    let host = spec.volumes.iter().map(|volume| volume.guest.as_str());
    host.chain(spec.volume_mounts.iter().map(|mount| mount.target.as_str()))
}

/// Refuses what the guest would refuse later, before an image is pulled for it.
fn validate_container(spec: &MachineSpec) -> Result<(), StageError> {
    if let Some(given) = spec.workdir.as_ref().filter(|path| !path.is_empty() && !path.starts_with('/')) {
        return Err(StageError::WorkingDirectory { given: given.clone() });
    }
    if let Some(name) = &spec.container.time_zone {
        time_zone::data(name)?;
    }
    for tmpfs in &spec.container.tmpfs {
        // Volumes are mounted after all temporary filesystems.
        let target = Path::new(&tmpfs.target);
        if let Some(volume) = volume_targets(spec).find(|volume| target.starts_with(volume)) {
            let (tmpfs, volume) = (tmpfs.target.clone(), volume.to_owned());
            return Err(StageError::TmpfsOverlapsVolume { tmpfs, volume });
        }
    }
    Ok(())
}

/// Resolves a volume's host path, which must exist: a mistyped path is an error.
fn resolve_volume(volume: &mut VolumeSpec) -> Result<(), StageError> {
    if !volume.guest.starts_with('/') {
        return Err(StageError::VolumeTarget { given: volume.guest.clone() });
    }
    volume.host =
        volume.host.canonicalize().map_err(|_| StageError::VolumeMissing { path: volume.host.clone() })?;
    Ok(())
}
