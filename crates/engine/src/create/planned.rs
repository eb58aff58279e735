//! Stage 1: the wish is judged; the machine has an id, a name and a network.

use std::sync::Arc;
use std::time::Instant;

use mimeo_vmm::Driver;

use crate::machine::{Claim, MachineSpec, VolumeSpec};
use crate::stage::StageError;
use crate::{Engine, driver};
use mimeo_setup::Kernel;

/// Less memory than this no kernel of ours boots in.
const MIN_MEMORY_MIB: u32 = 96;
/// The `microvm` machine keeps memory above 3 GiB where old firmware would
/// not find it; a TiB is more than any host here has.
const MAX_MEMORY_MIB: u32 = 1024 * 1024;
/// Smallest writable layer: ext4 with a journal.
const MIN_DISK_BYTES: u64 = 64 << 20;

/// A machine that is asked for and possible.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) claim: Claim,
    pub(super) kernel: Kernel,
    pub(super) driver: Arc<dyn Driver>,
    pub(super) clock: Stopwatch,
}

/// Tells how long each stage took.
#[derive(Debug, Clone)]
pub(crate) struct Stopwatch {
    last: Instant,
    stages: Vec<(String, u64)>,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self { last: Instant::now(), stages: Vec::new() }
    }

    /// What passed since the last stage was nobody's work.
    pub(crate) fn skip(&mut self) {
        self.last = Instant::now();
    }

    /// A stage has ended.
    pub(crate) fn lap(&mut self, stage: &str) {
        let millis = self.last.elapsed().as_millis() as u64;
        tracing::debug!(component = "start", stage, millis, "done");
        self.stages.push((stage.to_owned(), millis));
        self.last = Instant::now();
    }

    pub(crate) fn stages(self) -> Vec<(String, u64)> {
        self.stages
    }
}

/// Judges the wish and claims id, name and network. Undo: the claim's drop.
pub(super) fn plan(engine: &Engine, mut spec: MachineSpec) -> Result<Planned, StageError> {
    let mut clock = Stopwatch::start();
    let driver = driver::resolve(engine, &mut spec)?;
    validate_sizes(&spec)?;
    spec.volumes.iter_mut().try_for_each(resolve_volume)?;
    validate_volume_targets(&spec)?;
    let kernel = Kernel::load(engine.home().home())?;
    let claim = engine.registry().claim(spec)?;
    clock.lap("plan");
    Ok(Planned { claim, kernel, driver, clock })
}

fn validate_sizes(spec: &MachineSpec) -> Result<(), StageError> {
    let host_cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u32;
    // More processors than the host has would only take time from each other,
    // yet podman's users may ask for what another host has.
    let max_cpus = host_cpus.max(1) * 4;
    check_range("--cpus", spec.cpus.into(), 1, max_cpus.into(), "")?;
    check_range("--memory", spec.memory_mib.into(), MIN_MEMORY_MIB.into(), MAX_MEMORY_MIB.into(), " MiB")?;
    check_range("--disk", spec.disk_bytes, MIN_DISK_BYTES, 16 << 40, " bytes")
}

fn check_range(option: &'static str, given: u64, min: u64, max: u64, unit: &str) -> Result<(), StageError> {
    if (min..=max).contains(&given) {
        return Ok(());
    }
    let expected = format!("between {min} and {max}{unit}");
    Err(StageError::OutOfRange { option, expected, given: given.to_string() })
}

/// Of two volumes at one place only one would be seen.
fn validate_volume_targets(spec: &MachineSpec) -> Result<(), StageError> {
    let mut targets: Vec<&str> =
        spec.volumes.iter().map(|volume| volume.guest.trim_end_matches('/')).collect();
    targets.sort_unstable();
    match targets.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(StageError::DuplicateVolumeTarget { target: pair[0].to_owned() }),
        None => Ok(()),
    }
}

/// A volume's directory must exist: who mistypes it wants to know.
fn resolve_volume(volume: &mut VolumeSpec) -> Result<(), StageError> {
    if !volume.guest.starts_with('/') {
        return Err(StageError::VolumeTarget { given: volume.guest.clone() });
    }
    volume.host =
        volume.host.canonicalize().map_err(|_| StageError::VolumeMissing { path: volume.host.clone() })?;
    Ok(())
}
