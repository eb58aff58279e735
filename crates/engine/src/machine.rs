//! What a machine is, on the disk and in words.

mod id;
mod life;
mod name;
mod process;
mod record;
mod registry;
mod spec;

pub use id::{MachineId, ParseIdError};
pub use life::{Action, Decision, Phase, Refusal, decide};
pub use mimeo_volume::VolumeSpec;
pub use name::{MachineName, ParseNameError};
pub use process::ProcessIdentity;
pub(crate) use process::boot_id;
pub use record::{
    Exit, Health, HealthStatus, ImageSummary, NetworkRecord, OuterRecord, Record, RecordError,
    ServeReference, State, Times,
};
pub use registry::{Claim, ClaimError, FindError, Found, LookupError, Registry, Selector};
pub(crate) use registry::{adopt, remove_dir};
pub use spec::{HealthProbe, HealthSpec, MachineSpec, NetworkMode, PullPolicy};
