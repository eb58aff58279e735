//! Machines: VMs and their containers.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A machine: `/v1/vms` and `/v1/containers` are two views of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Machine {
    /// Its id: 64 hexadecimal digits.
    pub id: String,
    /// Its name, unique among the machines that exist.
    pub name: String,
    /// The name of the user who owns it; `local` for machines that were made without the manager.
    pub owner: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its state. `running` means that the agent in the guest has answered and the container's process was started.
    pub state: MachineState,
    /// Its version, which each change increments; also the `ETag`.
    pub version: i64,
    /// The image reference, as requested.
    pub image: String,
    /// The image's id, once it is known.
    pub image_id: Option<String>,
    /// The command of the container's process, once it is known.
    pub command: Vec<String>,
    /// The number of vCPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// The maximum size of the writable disk in bytes.
    pub disk_bytes: u64,
    /// The VMM's driver.
    pub driver: String,
    /// What executes the guest's instructions, and why that was chosen.
    pub accelerator: Option<String>,
    /// How the guest was started: `warm` from a boot snapshot, `clone` of another machine's snapshot, or `cold`.
    pub boot_method: Option<String>,
    /// Why it was booted cold.
    pub boot_reason: Option<String>,
    /// The snapshot that it was started from.
    pub snapshot: Option<String>,
    /// The UUID that tells this machine from all clones of the same snapshot.
    pub vm_generation: Option<String>,
    /// Its network, if it has one.
    pub network: Option<MachineNetwork>,
    /// The result of its health checks, if it has any.
    pub health: Option<Health>,
    /// The restart policy.
    pub restart: String,
    /// How often the restart policy has started it again.
    pub restart_count: u32,
    /// The PID of its supervisor, while it has one.
    pub supervisor_pid: Option<u32>,
    /// How it exited, once it has.
    pub exit: Option<Exit>,
    /// Why it could not be created or started.
    pub failure: Option<Failure>,
    /// The stage that its start has reached, while it starts.
    pub stage: Option<String>,
    /// The stages of its last start, also of a failed one.
    pub stages: Vec<Stage>,
    /// The operation that changes it now.
    pub operation: Option<String>,
    /// When it was requested.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When its container last started.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it exited.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// When it will be removed.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// When it was removed. The item of a removed machine is kept for a while.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
    /// Why it was removed.
    pub ended_reason: Option<String>,
}

/// A machine's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MachineState {
    /// It was requested, and does not run yet.
    Creating,
    /// It was created and never started.
    Created,
    /// Its container runs.
    Running,
    /// Its vCPUs are stopped.
    Paused,
    /// It has received a request to stop.
    Stopping,
    /// Its container has exited, and its restart policy is about to start it again.
    Restarting,
    /// Its container has exited.
    Exited,
    /// It could not be created; `failure` says why.
    Failed,
    /// It is being removed.
    Deleting,
    /// It was removed; `ended_reason` says why.
    Deleted,
}

impl MachineState {
    /// All states.
    pub const ALL: [Self; 10] = [
        Self::Creating,
        Self::Created,
        Self::Running,
        Self::Paused,
        Self::Stopping,
        Self::Restarting,
        Self::Exited,
        Self::Failed,
        Self::Deleting,
        Self::Deleted,
    ];

    /// Returns its name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
            Self::Failed => "failed",
            Self::Deleting => "deleting",
            Self::Deleted => "deleted",
        }
    }

    /// Returns whether a machine does not leave this state by itself, except for one that runs.
    #[must_use]
    pub fn is_settled(self) -> bool {
        !matches!(self, Self::Creating | Self::Stopping | Self::Restarting | Self::Deleting)
    }
}

impl std::str::FromStr for MachineState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = Self::ALL.into_iter();
        all.clone().find(|state| state.name() == text).ok_or_else(|| {
            let names: Vec<_> = all.map(Self::name).collect();
            format!("{text:?} is not one of {}", names.join(", "))
        })
    }
}

/// A machine's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MachineNetwork {
    /// `rootless` or `bridged`.
    pub mode: String,
    /// The guest's IPv4 address.
    pub ip: String,
    /// The guest's IPv6 address, if it has one.
    pub ip6: Option<String>,
    /// The MAC address of its NIC.
    pub mac: String,
    /// The published ports.
    pub ports: Vec<PublishedPort>,
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PublishedPort {
    /// The port in the container.
    pub container_port: u16,
    /// The port on the host, once it is known.
    pub host_port: Option<u16>,
    /// The host's address that the port is bound to; 0.0.0.0 is all of them.
    pub host_ip: String,
    /// `tcp` or `udp`.
    pub protocol: String,
}

/// The result of health checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `starting`, `healthy` or `unhealthy`.
    pub status: String,
    /// Consecutive failures.
    pub failing_streak: u32,
    /// The output of the last failed check.
    pub last_failure: Option<String>,
}

/// How a machine exited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Exit {
    /// The exit code: 128 plus the signal's number for a signal.
    pub code: i32,
    /// Whether the guest's kernel killed it because memory ran out.
    pub out_of_memory: bool,
    /// What failed, if the container did not exit by itself.
    pub error: Option<String>,
}

/// Why a machine could not be created or started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    /// The stage that failed.
    pub stage: Option<String>,
    /// The code of the problem.
    pub code: String,
    /// What failed, and why.
    pub message: String,
    /// The last lines of the guest's console, if the guest was started.
    pub console: Vec<String>,
}

/// A stage of an operation that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// How long it took, in milliseconds.
    pub ms: u64,
}

/// A change of a machine. Absent fields stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PatchMachine {
    /// A new name.
    pub name: Option<String>,
    /// Labels to set; null removes a label.
    pub labels: Option<BTreeMap<String, Option<String>>>,
    /// Seconds from now after which the machine is removed; 0 for never.
    pub ttl_seconds: Option<u64>,
}
