//! The context of all operations on machines: home, drivers and memory budget.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use mimeo_vmm::Driver;
use mimeo_vmm::firecracker::{self, Firecracker};
use mimeo_vmm::qemu::Qemu;

use crate::machine::Registry;
use crate::reserved::Reservations;
use crate::volumes::Volumes;
use crate::{Events, Home};

/// The variable that names the Firecracker program.
const FIRECRACKER_VARIABLE: &str = "MIMEO_FIRECRACKER";
/// The variable that names Firecracker's jailer.
const JAILER_VARIABLE: &str = "MIMEO_JAILER";
/// The jailer variable's value that runs Firecracker without a jailer as root.
const JAILER_OFF: &str = "off";

/// The machines of one home directory.
#[derive(Debug, Clone)]
pub struct Engine {
    home: Home,
    drivers: BTreeMap<&'static str, Arc<dyn Driver>>,
    memory_budget: Option<u64>,
    registry: Registry,
    reservations: Reservations,
}

impl Engine {
    /// Creates an engine for the machines of `home`, with the drivers that this program has.
    #[must_use]
    pub fn new(home: Home) -> Self {
        let firecracker = Firecracker::new(firecracker_program(&home)).tracking_writes();
        let firecracker = firecracker.with_version_cache(home.run().join("firecracker-format.json"));
        let firecracker = if is_jailer_off() { firecracker.without_jailer() } else { firecracker };
        Self::with_drivers(home, [Arc::new(Qemu::default()) as Arc<dyn Driver>, Arc::new(firecracker)])
    }

    /// Creates an engine for the machines of `home`, with these drivers.
    #[must_use]
    pub fn with_drivers(home: Home, drivers: impl IntoIterator<Item = Arc<dyn Driver>>) -> Self {
        let drivers = drivers.into_iter().map(|driver| (driver.name(), driver)).collect();
        Self {
            registry: Registry::new(home.clone()),
            home,
            drivers,
            memory_budget: None,
            reservations: Reservations::default(),
        }
    }

    /// Refuses clones when all machines together would use more memory than this, in bytes.
    #[must_use]
    pub fn with_memory_budget(mut self, bytes: Option<u64>) -> Self {
        self.memory_budget = bytes;
        self
    }

    pub(crate) fn memory_budget(&self) -> Option<u64> {
        self.memory_budget
    }

    /// Returns what the starts of this engine and of its clones have reserved.
    pub(crate) fn reservations(&self) -> &Reservations {
        &self.reservations
    }

    /// Returns the home directory.
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Returns the registry of machines.
    #[must_use]
    pub fn registry(&self) -> Registry {
        self.registry.clone()
    }

    /// Returns the store of snapshots.
    #[must_use]
    pub fn snapshots(&self) -> crate::snapshot::Snapshots {
        crate::snapshot::Snapshots::new(self.home.clone())
    }

    /// Returns the named volumes.
    #[must_use]
    pub fn volumes(&self) -> Volumes {
        Volumes::new(self.home.clone())
    }

    /// Returns the machines' events.
    #[must_use]
    pub fn events(&self) -> Events {
        Events::new(self.home.events())
    }

    /// Opens the image store.
    ///
    /// # Errors
    /// If its directory cannot be used.
    pub fn images(&self) -> Result<mimeo_image::Store, mimeo_image::OpenError> {
        mimeo_image::Store::open(&self.home.images())
    }

    /// Opens the store of bases.
    ///
    /// # Errors
    /// If its directory cannot be used.
    pub fn bases(&self) -> Result<mimeo_base::Store, mimeo_base::FileError> {
        mimeo_base::Store::at(&self.home.bases())
    }

    /// Returns the names of the drivers.
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

/// Returns whether Firecracker runs without its jailer as root.
fn is_jailer_off() -> bool {
    std::env::var_os(JAILER_VARIABLE).is_some_and(|jailer| jailer == JAILER_OFF)
}

/// Returns the Firecracker program: the one that `MIMEO_FIRECRACKER` names, else the one that `setup`
/// installed, else the one in PATH.
fn firecracker_program(home: &Home) -> PathBuf {
    let from_variable = std::env::var_os(FIRECRACKER_VARIABLE).map(PathBuf::from);
    let installed = Some(home.programs().join(firecracker::PROGRAM)).filter(|path| path.exists());
    from_variable.or(installed).unwrap_or_else(|| PathBuf::from(firecracker::PROGRAM))
}
