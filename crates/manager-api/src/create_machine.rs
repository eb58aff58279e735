//! The request that creates a machine.

mod choice;
mod health;
mod log;
mod network;
mod registry;
mod resources;
mod security;
mod volume;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use choice::{Accelerator, ImageVolumes, PullPolicy, Restart, RestartKind};
pub use health::{HealthCheck, HealthOnFailure};
pub use log::{Log, LogDriver};
pub use network::{ExposedPort, Network, NetworkMode, Port, Protocol};
pub use registry::{Registry, RegistryAuth};
pub use resources::{Resources, Ulimit};
pub use security::Security;
pub use volume::Volume;

/// A machine to create: from an image, or as a clone of a snapshot. What is absent is the image's, or podman's default.
///
/// A clone has its snapshot's settings. Only `name`, `ports`, `env`, `labels`, `remove`, `ttl_seconds` and `start` apply to
/// it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CreateMachine {
    /// The machine's name. Default: a random one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 63, pattern = "^[a-zA-Z0-9][a-zA-Z0-9_.-]*$")]
    pub name: Option<String>,
    /// The image: a name such as `nginx:1.27`. Administrators may also give `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]` or
    /// `docker-archive:FILE[:NAME]`, which are files of the manager's host.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(examples("nginx:1.27"))]
    pub image: Option<String>,
    /// The snapshot to clone, by id or tag, instead of an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// The command, instead of the image's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// The entrypoint, instead of the image's. An empty list is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Environment variables, in addition to the image's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Variables whose values refer to the image's, such as `"PATH": "${PATH}:/opt/bin"`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env_merge: BTreeMap<String, String>,
    /// Variables of the image that are not set.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub unset_env: BTreeSet<String>,
    /// Set no variables of the image.
    #[serde(skip_serializing_if = "is_false")]
    pub unset_all_env: bool,
    /// The working directory, instead of the image's: an absolute path in the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// The user, `user[:group]`, instead of the image's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The host name. Default: the first 12 digits of the machine's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    pub hostname: Option<String>,
    /// Labels to find the machine by.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations, which have no effect.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// CPUs of the container, such as 2 or 0.5. The machine has that many vCPUs, rounded up. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(exclusive_minimum = 0)]
    pub cpus: Option<f64>,
    /// Memory in MiB. Default: 512.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// Maximum size of the writable layer in bytes. It takes only the space that is written. Default: 10 GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// Published ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Ports that `publish_all` publishes, besides the image's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expose: Vec<ExposedPort>,
    /// Publish all ports that the image and `expose` name, each on a free port of the host.
    #[serde(skip_serializing_if = "is_false")]
    pub publish_all: bool,
    /// Volumes, directories of the host and temporary filesystems in the container.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// What is mounted where the image declares a volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_volumes: Option<ImageVolumes>,
    /// How the machine is connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// When the machine is started again after its container has exited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
    /// The health check, instead of the image's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
    /// Do not run the image's health check.
    #[serde(skip_serializing_if = "is_false")]
    pub no_healthcheck: bool,
    /// The log of the container's output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<Log>,
    /// What the container may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security: Option<Security>,
    /// Limits and settings of the guest's kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// The time zone: a name such as `Asia/Tokyo`, or `local` for that of the manager's host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Run the command under a small init process that reaps zombies.
    #[serde(skip_serializing_if = "is_false")]
    pub init: bool,
    /// Give the container a terminal.
    #[serde(skip_serializing_if = "is_false")]
    pub tty: bool,
    /// Keep the container's standard input open for clients that attach.
    #[serde(skip_serializing_if = "is_false")]
    pub interactive: bool,
    /// Remove the machine when it has exited.
    #[serde(skip_serializing_if = "is_false")]
    pub remove: bool,
    /// With `remove`: remove the image, too, unless something else uses it.
    #[serde(skip_serializing_if = "is_false")]
    pub remove_image: bool,
    /// When the image is pulled. Default: `missing`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull: Option<PullPolicy>,
    /// How the image's registry is accessed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry: Option<Registry>,
    /// The VMM driver: `qemu`, `firecracker` or `auto`. Default: `auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// What executes the guest's instructions. Default: `auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<Accelerator>,
    /// Boot the guest instead of restoring it from a boot snapshot.
    #[serde(skip_serializing_if = "is_false")]
    pub cold: bool,
    /// The signal that stops the container, such as `SIGTERM`, instead of the image's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Seconds between the stop signal and SIGKILL. Default: 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout_seconds: Option<u32>,
    /// Seconds that the guest may take to answer after its start. Default: 120.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_timeout_seconds: Option<u32>,
    /// Seconds after each start at which the container is killed. 0, the default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
    /// Seconds after which the manager deletes the machine. Default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub ttl_seconds: Option<u64>,
    /// Whether the machine is started, too. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<bool>,
}

impl CreateMachine {
    /// Returns whether the machine is started, too.
    #[must_use]
    pub fn should_start(&self) -> bool {
        self.start.unwrap_or(true)
    }
}

/// Whether a field need not be written.
fn is_false(value: &bool) -> bool {
    !value
}
