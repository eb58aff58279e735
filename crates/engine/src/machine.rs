//! What defines a machine: its spec, its record on disk, its states, and the registry of all machines.

mod boot_configuration;
mod changes;
mod claim;
mod container_options;
mod disks;
mod life;
mod lock;
mod name;
mod overrides;
mod process;
mod record;
mod registry;
mod requirements;
mod restart;
mod spare;
mod spec;
mod subnets;
mod volume_mount;
mod watch;

pub use crate::id::MachineId;
pub use boot_configuration::BootConfiguration;
pub use changes::Changes;
pub use claim::{Claim, ClaimError};
pub use container_options::ContainerOptions;
pub use disks::VolumeDisk;
pub(crate) use disks::{
    IMAGE_SERIAL, MachineDisk, WRITABLE_SERIAL, disk_position, image_disk, machine_disks, named_volumes,
    volume_serial,
};
pub use life::{Action, Decision, Phase, Refusal, decide};
pub(crate) use lock::{MachineLock, lock_orphan};
pub use mimeo_volume::VolumeSpec;
pub use name::{MachineName, ParseNameError};
pub use overrides::CloneOverrides;
pub use process::ProcessIdentity;
pub(crate) use process::boot_id;
pub(crate) use record::{BOOTED_AS_CLONE, BOOTED_COLD, BOOTED_WARM};
pub use record::{
    BridgeRecord, Exit, Health, HealthStatus, ImageSummary, NetworkRecord, Record, RecordError,
    ServeReference, State, SystemRecord, Times,
};
pub use registry::{FindError, Found, LookupError, Registry, Selector};
pub(crate) use registry::{Removal, remove_dir};
pub use requirements::Requirements;
pub(crate) use restart::Backoff;
pub use restart::{ParseRestartPolicyError, RestartPolicy, is_restart_due, should_start_on_boot};
pub use spec::{
    AUTO_DRIVER, HOST_GATEWAY, HealthAction, HealthProbe, HealthSpec, MachineSpec, NetworkMode, PullPolicy,
    RegistryAccess, SystemSpec,
};
pub use volume_mount::{ImageVolumes, VolumeMount, image_volumes};
pub use watch::{Change, Watcher};
