//! What every operation on machines needs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use mimeo_vmm::Driver;
use mimeo_vmm::firecracker::{self, Firecracker};
use mimeo_vmm::qemu::Qemu;

use crate::machine::Registry;
use crate::{Events, Home};

/// What names a Firecracker.
const FIRECRACKER_VARIABLE: &str = "MIMEO_FIRECRACKER";
/// What names its jailer,
const JAILER_VARIABLE: &str = "MIMEO_JAILER";
/// or says that root's machines have none.
const JAILER_OFF: &str = "off";

/// mimeo's machines in one home directory.
#[derive(Debug, Clone)]
pub struct Engine {
    home: Home,
    drivers: BTreeMap<&'static str, Arc<dyn Driver>>,
    memory_budget: Option<u64>,
}

impl Engine {
    /// The machines of `home`, on the drivers that this program has.
    #[must_use]
    pub fn new(home: Home) -> Self {
        let firecracker = Firecracker::new(firecracker_program(&home)).tracking_writes();
        let firecracker = firecracker.with_version_cache(home.run().join("firecracker-format.json"));
        let firecracker = if is_jailer_off() { firecracker.without_jailer() } else { firecracker };
        Self::with_drivers(home, [Arc::new(Qemu::default()) as Arc<dyn Driver>, Arc::new(firecracker)])
    }

    /// The machines of `home`, on these drivers.
    #[must_use]
    pub fn with_drivers(home: Home, drivers: impl IntoIterator<Item = Arc<dyn Driver>>) -> Self {
        let drivers = drivers.into_iter().map(|driver| (driver.name(), driver)).collect();
        Self { home, drivers, memory_budget: None }
    }

    /// Copies are refused when all machines together would take more memory than this, in bytes.
    #[must_use]
    pub fn with_memory_budget(mut self, bytes: Option<u64>) -> Self {
        self.memory_budget = bytes;
        self
    }

    pub(crate) fn memory_budget(&self) -> Option<u64> {
        self.memory_budget
    }

    /// Where things are kept.
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// All machines.
    #[must_use]
    pub fn registry(&self) -> Registry {
        Registry::new(self.home.clone())
    }

    /// All snapshots.
    #[must_use]
    pub fn snapshots(&self) -> crate::snapshot::Snapshots {
        crate::snapshot::Snapshots::new(self.home.clone())
    }

    /// What happens to machines.
    #[must_use]
    pub fn events(&self) -> Events {
        Events::new(self.home.events())
    }

    /// All images.
    ///
    /// # Errors
    /// When their directory cannot be used.
    pub fn images(&self) -> Result<mimeo_image::Store, mimeo_image::OpenError> {
        mimeo_image::Store::open(&self.home.images())
    }

    /// The names of the drivers.
    pub fn driver_names(&self) -> impl Iterator<Item = &'static str> {
        self.drivers.keys().copied()
    }

    pub(crate) fn drivers(&self) -> impl Iterator<Item = Arc<dyn Driver>> {
        self.drivers.values().cloned()
    }

    pub(crate) fn driver(&self, name: &str) -> Option<Arc<dyn Driver>> {
        self.drivers.get(name).cloned()
    }
}

/// Whether root's Firecracker is to run without its jailer.
fn is_jailer_off() -> bool {
    std::env::var_os(JAILER_VARIABLE).is_some_and(|jailer| jailer == JAILER_OFF)
}

/// The Firecracker that `MIMEO_FIRECRACKER` names, or `setup` has put into the home, or PATH has.
fn firecracker_program(home: &Home) -> PathBuf {
    let from_variable = std::env::var_os(FIRECRACKER_VARIABLE).map(PathBuf::from);
    let installed = Some(home.programs().join(firecracker::PROGRAM)).filter(|path| path.exists());
    from_variable.or(installed).unwrap_or_else(|| PathBuf::from(firecracker::PROGRAM))
}
