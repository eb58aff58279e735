//! What defines a machine: its spec, its record on disk, its states, and the registry of all machines.

mod life;
mod name;
mod overrides;
mod process;
mod record;
mod registry;
mod requirements;
mod spec;

pub use crate::id::MachineId;
pub use life::{Action, Decision, Phase, Refusal, decide};
pub use mimeo_volume::VolumeSpec;
pub use name::{MachineName, ParseNameError};
pub use overrides::CloneOverrides;
pub use process::ProcessIdentity;
pub(crate) use process::boot_id;
pub(crate) use record::{BOOTED_AS_CLONE, BOOTED_COLD, BOOTED_WARM};
pub use record::{
    BridgeRecord, Exit, Health, HealthStatus, ImageSummary, NetworkRecord, Record, RecordError,
    ServeReference, State, Times,
};
pub use registry::{Claim, ClaimError, FindError, Found, LookupError, Registry, Selector};
pub(crate) use registry::{lock_orphan, remove_dir};
pub use requirements::Requirements;
pub use spec::{AUTO_DRIVER, HealthProbe, HealthSpec, MachineSpec, NetworkMode, PullPolicy};
