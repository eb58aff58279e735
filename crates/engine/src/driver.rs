//! Chooses a machine's driver and its network mode.

use std::sync::Arc;

use mimeo_net::bridged;
use mimeo_vmm::{Accelerator, Driver};

pub use crate::machine::AUTO_DRIVER as AUTO;
use crate::machine::{AUTO_DRIVER, MachineSpec, NetworkMode};
use crate::stage::StageError;
use crate::{Engine, accelerator};
use mimeo_setup::Kernel;

/// Resolves the driver and the network mode where the spec leaves them open, and checks that they are compatible and
/// work on this host.
pub(crate) fn resolve(engine: &Engine, spec: &mut MachineSpec) -> Result<Arc<dyn Driver>, StageError> {
    let driver = match spec.driver.as_str() {
        AUTO_DRIVER => choose(engine, spec)?,
        name => engine.driver(name).ok_or_else(|| unknown_driver(engine, name))?,
    };
    driver.name().clone_into(&mut spec.driver);
    let capabilities = driver.capabilities();
    if spec.network == NetworkMode::Auto {
        spec.network = if capabilities.user_network { NetworkMode::Rootless } else { NetworkMode::Bridged };
    }
    if spec.network == NetworkMode::Rootless && !capabilities.user_network {
        return Err(StageError::NoUserNetwork { driver: driver.name() });
    }
    if !capabilities.emulation {
        let kernel = Kernel::load(engine.home().home())?;
        let chosen = accelerator::choose(engine.home(), spec.accelerator, driver.as_ref(), &kernel);
        if chosen.accelerator != Accelerator::Kvm {
            return Err(StageError::NeedsKvm { driver: driver.name(), why: chosen.description() });
        }
    }
    Ok(driver)
}

/// Finds the driver of that name.
pub(crate) fn find(engine: &Engine, name: &str) -> Result<Arc<dyn Driver>, StageError> {
    engine.driver(name).ok_or_else(|| unknown_driver(engine, name))
}

fn unknown_driver(engine: &Engine, name: &str) -> StageError {
    let known = engine.driver_names().collect::<Vec<_>>().join(", ");
    StageError::UnknownDriver { name: name.to_owned(), known }
}

/// Chooses a driver without emulation, if it is installed, supports the requested network, and KVM is not known to
/// fail. Otherwise chooses a driver that runs on every host.
fn choose(engine: &Engine, spec: &MachineSpec) -> Result<Arc<dyn Driver>, StageError> {
    let (everywhere, kvm_only): (Vec<_>, Vec<_>) =
        engine.drivers().partition(|driver| driver.capabilities().emulation);
    let mut candidates = kvm_only
        .into_iter()
        .filter(|driver| driver.program().is_some() && supports_network(driver.as_ref(), spec));
    if let Some(driver) = candidates.next() {
        let kernel = Kernel::load(engine.home().home())?;
        let chosen = accelerator::choose(engine.home(), spec.accelerator, driver.as_ref(), &kernel);
        if chosen.accelerator == Accelerator::Kvm {
            return Ok(driver);
        }
    }
    everywhere.into_iter().next().ok_or_else(|| unknown_driver(engine, AUTO_DRIVER))
}

/// Whether the driver supports the requested network mode on this host.
fn supports_network(driver: &dyn Driver, spec: &MachineSpec) -> bool {
    match spec.network {
        NetworkMode::None => true,
        NetworkMode::Rootless => driver.capabilities().user_network,
        NetworkMode::Bridged => bridged::check().is_ok(),
        NetworkMode::Auto => driver.capabilities().user_network || bridged::check().is_ok(),
    }
}
