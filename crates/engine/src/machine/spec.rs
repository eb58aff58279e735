//! A machine as the user requests it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use mimeo_net::{MacAddress, PortMapping};
use mimeo_vmm::accel::Accel;
use mimeo_volume::VolumeSpec;
use serde::{Deserialize, Serialize};

use super::{ContainerOptions, ImageVolumes, MachineName, RestartPolicy, VolumeMount};
use crate::log::LogConfig;

/// The driver name that leaves the choice to mimeo.
pub const AUTO_DRIVER: &str = "auto";

/// A machine as the user requests it. Absent values default to the image's or mimeo's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineSpec {
    /// The image reference, as the user wrote it.
    pub image: String,
    /// The command, instead of the image's.
    pub command: Vec<String>,
    /// The entrypoint, instead of the image's; `[""]` or an empty list means none.
    pub entrypoint: Option<Vec<String>>,
    /// Environment variables in addition to the image's.
    pub env: BTreeMap<String, String>,
    /// Working directory, instead of the image's.
    pub workdir: Option<String>,
    /// `user[:group]`, instead of the image's.
    pub user: Option<String>,
    /// The host name. Default: the first 12 digits of the id.
    pub hostname: Option<String>,
    /// The machine's name. Default: a random name.
    pub name: Option<MachineName>,
    /// Labels to find the machine by.
    pub labels: BTreeMap<String, String>,
    /// The number of vCPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Size of the writable layer in bytes. The file is sparse: it uses only what is written.
    pub disk_bytes: u64,
    /// How the machine is connected.
    pub network: NetworkMode,
    /// Allow connections between this machine and others that have this option; only on the bridge.
    #[serde(default)]
    pub vm_to_vm: bool,
    /// Published ports.
    pub ports: Vec<PortMapping>,
    /// Name servers, instead of the host's.
    pub dns: Vec<String>,
    /// Entries for /etc/hosts, name to address or [`HOST_GATEWAY`].
    pub add_hosts: BTreeMap<String, String>,
    /// Shared directories of the host.
    pub volumes: Vec<VolumeSpec>,
    /// Named and anonymous volumes.
    #[serde(default)]
    pub volume_mounts: Vec<VolumeMount>,
    /// What becomes of the volumes that the image declares.
    #[serde(default)]
    pub image_volumes: ImageVolumes,
    /// Give the container a terminal.
    pub tty: bool,
    /// Keep the container's standard input open.
    pub interactive: bool,
    /// Run the command under a small init that reaps orphans.
    pub init: bool,
    /// Remove the machine when it has exited.
    pub remove: bool,
    /// When to start the machine again after its container has exited.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// When to pull the image.
    pub pull: PullPolicy,
    /// The health check, instead of the image's.
    pub health: Option<HealthSpec>,
    /// The driver's name.
    pub driver: String,
    /// What executes the guest's instructions.
    pub accelerator: Accel,
    /// The signal that stops the container, instead of the image's or SIGTERM.
    pub stop_signal: Option<i32>,
    /// Seconds between that signal and SIGKILL.
    pub stop_timeout: u32,
    /// Seconds that the guest may take to answer after its start.
    pub start_timeout: u32,
    /// Boot the guest instead of restoring a boot snapshot.
    #[serde(default)]
    pub cold: bool,
    /// What the container may do and use.
    #[serde(default)]
    pub container: ContainerOptions,
    /// The log of the container's output.
    #[serde(default)]
    pub log: LogConfig,
    /// Domains in which names without a dot are looked up.
    #[serde(default)]
    pub dns_search: Vec<String>,
    /// Options of the resolver, such as `ndots:2`.
    #[serde(default)]
    pub dns_options: Vec<String>,
    /// Ports that the machine exposes, besides the image's.
    #[serde(default)]
    pub expose: Vec<PortMapping>,
    /// Publish all exposed ports, each on a free port of the host.
    #[serde(default)]
    pub publish_exposed: bool,
    /// The NIC's MAC address. Default: derived from the machine's id.
    #[serde(default)]
    pub mac: Option<MacAddress>,
    /// The address on the bridge. Default: a free one.
    #[serde(default)]
    pub bridge_ip: Option<Ipv4Addr>,
    /// Variables whose values refer to the image's, as in `${PATH}:/opt/bin`.
    #[serde(default)]
    pub env_merge: BTreeMap<String, String>,
    /// Variables of the image and of mimeo that are not set.
    #[serde(default)]
    pub unset_env: BTreeSet<String>,
    /// Set only the variables of `env` and `env_merge`.
    #[serde(default)]
    pub unset_all_env: bool,
    /// Annotations: shown by `inspect`, without effect.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Remove the image too when the machine is removed, unless something else uses it.
    #[serde(default)]
    pub remove_image: bool,
    /// Leave /etc/hosts as it is in the image.
    #[serde(default)]
    pub no_hosts: bool,
    /// Seconds after each start at which the container is killed. 0: never.
    #[serde(default)]
    pub timeout: u32,
    /// What is done when the machine becomes unhealthy.
    #[serde(default)]
    pub health_on_failure: HealthAction,
    /// How the image's registry is accessed.
    #[serde(default)]
    pub registry: RegistryAccess,
    /// The whole system that the machine runs instead of an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<SystemSpec>,
}

/// A whole system, made from a base.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SystemSpec {
    /// The base's name.
    pub base: String,
    /// Public SSH keys for the system's default user, each a line as in `authorized_keys`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ssh_keys: Vec<String>,
    /// The user-data for cloud-init.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data: Option<String>,
}

/// The address in `add_hosts` that stands for the host, as the machine sees it.
pub const HOST_GATEWAY: &str = "host-gateway";

impl MachineSpec {
    /// Creates the spec of a machine of `image` with all defaults.
    #[must_use]
    pub fn new(image: impl Into<String>) -> Self {
        Self {
            image: image.into(),
            command: Vec::new(),
            entrypoint: None,
            env: BTreeMap::new(),
            workdir: None,
            user: None,
            hostname: None,
            name: None,
            labels: BTreeMap::new(),
            cpus: 1,
            memory_mib: 512,
            disk_bytes: 10 << 30,
            network: NetworkMode::Auto,
            vm_to_vm: false,
            ports: Vec::new(),
            dns: Vec::new(),
            add_hosts: BTreeMap::new(),
            volumes: Vec::new(),
            volume_mounts: Vec::new(),
            image_volumes: ImageVolumes::Anonymous,
            tty: false,
            interactive: false,
            init: false,
            remove: false,
            restart: RestartPolicy::No,
            pull: PullPolicy::Missing,
            health: None,
            driver: AUTO_DRIVER.to_owned(),
            accelerator: Accel::Auto,
            stop_signal: None,
            stop_timeout: 10,
            start_timeout: 120,
            cold: false,
            container: ContainerOptions::default(),
            log: LogConfig::default(),
            dns_search: Vec::new(),
            dns_options: Vec::new(),
            expose: Vec::new(),
            publish_exposed: false,
            mac: None,
            bridge_ip: None,
            env_merge: BTreeMap::new(),
            unset_env: BTreeSet::new(),
            unset_all_env: false,
            annotations: BTreeMap::new(),
            remove_image: false,
            no_hosts: false,
            timeout: 0,
            health_on_failure: HealthAction::None,
            registry: RegistryAccess::default(),
            system: None,
        }
    }
}

/// How a machine's image is pulled. Credentials are not part of it: they are in login files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RegistryAccess {
    /// Registries, as `host[:port]`, that are accessed over plain HTTP.
    pub insecure_registries: Vec<String>,
    /// Accept any certificate, and use plain HTTP where there is no TLS.
    pub skip_tls_verification: bool,
    /// A login file that replaces the usual ones.
    pub auth_file: Option<PathBuf>,
}

/// How a machine is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// The driver decides: user-mode networking, or the bridge.
    Auto,
    /// User-mode networking: needs no privileges.
    Rootless,
    /// A bridge of the host and a network namespace of its own: needs root.
    Bridged,
    /// No network.
    None,
}

/// When to pull the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PullPolicy {
    /// Always.
    Always,
    /// If the image is not in the local store.
    Missing,
    /// If the registry has another image by that name than the local store; an error of the registry does not matter
    /// where there is a local image.
    Newer,
    /// Never: the image must be in the local store.
    Never,
}

/// A health check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthSpec {
    /// What is checked.
    pub probe: HealthProbe,
    /// Time between checks, once the machine is healthy. Zero: no checks except those that a user requests.
    pub interval: Duration,
    /// Timeout of one check.
    pub timeout: Duration,
    /// Consecutive failures that make the machine unhealthy.
    pub retries: u32,
    /// Time after the start in which failures do not count.
    pub start_period: Duration,
}

/// What a supervisor does with a machine that becomes unhealthy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthAction {
    /// Nothing.
    #[default]
    None,
    /// Kills the container. As in podman, the restart policy does not apply.
    Kill,
    /// Stops the machine and starts it again.
    Restart,
    /// Stops the machine. The restart policy does not apply.
    Stop,
}

impl HealthAction {
    /// Returns podman's name of it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Kill => "kill",
            Self::Restart => "restart",
            Self::Stop => "stop",
        }
    }
}

impl HealthSpec {
    /// Creates a health check with podman's times, except for a start period of one minute: under
    /// emulation a start takes that long.
    #[must_use]
    pub fn new(probe: HealthProbe) -> Self {
        Self {
            probe,
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
            retries: 3,
            start_period: Duration::from_secs(60),
        }
    }
}

/// What a health check does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthProbe {
    /// Runs a command in the container: exit code 0 is healthy.
    Command(Vec<String>),
    /// Fetches a URL in the guest: statuses 2xx and 3xx are healthy.
    Url(String),
}
