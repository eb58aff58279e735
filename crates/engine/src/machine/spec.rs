//! What a person wants of a machine.

use std::collections::BTreeMap;
use std::time::Duration;

use mimeo_net::PortMapping;
use mimeo_vmm::accel::Accel;
use mimeo_volume::VolumeSpec;
use serde::{Deserialize, Serialize};

use super::MachineName;

/// The driver's name that lets mimeo choose one.
pub const AUTO_DRIVER: &str = "auto";

/// A machine as it was asked for. What is absent is the image's or mimeo's default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineSpec {
    /// The image, as the person wrote it.
    pub image: String,
    /// The command, instead of the image's.
    pub command: Vec<String>,
    /// The entrypoint, instead of the image's; `[""]` or nothing in it is none at all.
    pub entrypoint: Option<Vec<String>>,
    /// Environment, over the image's.
    pub env: BTreeMap<String, String>,
    /// Working directory, instead of the image's.
    pub workdir: Option<String>,
    /// `user[:group]`, instead of the image's.
    pub user: Option<String>,
    /// Host name; otherwise the first 12 digits of the id.
    pub hostname: Option<String>,
    /// The machine's name; otherwise two words by chance.
    pub name: Option<MachineName>,
    /// Words that the person wants to find it by.
    pub labels: BTreeMap<String, String>,
    /// Processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Size of the writable layer in bytes; it takes what is written, not more.
    pub disk_bytes: u64,
    /// How it is connected.
    pub network: NetworkMode,
    /// It may be reached by other machines of which this is true, and reach them; on the bridge.
    #[serde(default)]
    pub vm_to_vm: bool,
    /// Published ports.
    pub ports: Vec<PortMapping>,
    /// Name servers, instead of the host's.
    pub dns: Vec<String>,
    /// Lines for /etc/hosts, name to address.
    pub add_hosts: BTreeMap<String, String>,
    /// Directories of the host.
    pub volumes: Vec<VolumeSpec>,
    /// Give the container a terminal.
    pub tty: bool,
    /// Keep the container's standard input open.
    pub interactive: bool,
    /// Run the command below a small init that reaps orphans.
    pub init: bool,
    /// Remove the machine when it has ended.
    pub remove: bool,
    /// When to pull the image.
    pub pull: PullPolicy,
    /// How to tell whether it is well, instead of the image's way.
    pub health: Option<HealthSpec>,
    /// The driver's name.
    pub driver: String,
    /// What runs its instructions.
    pub accelerator: Accel,
    /// The signal that asks it to end, instead of the image's or SIGTERM.
    pub stop_signal: Option<i32>,
    /// Seconds between that signal and SIGKILL.
    pub stop_timeout: u32,
    /// Seconds that the guest may take to answer.
    pub start_timeout: u32,
    /// Boot it, instead of copying a guest that has booted before.
    #[serde(default)]
    pub cold: bool,
}

impl MachineSpec {
    /// A machine of `image` with every default.
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
            tty: false,
            interactive: false,
            init: false,
            remove: false,
            pull: PullPolicy::Missing,
            health: None,
            driver: AUTO_DRIVER.to_owned(),
            accelerator: Accel::Auto,
            stop_signal: None,
            stop_timeout: 10,
            start_timeout: 120,
            cold: false,
        }
    }
}

/// How a machine is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// As the driver has it: by user-mode networking, or on the bridge.
    Auto,
    /// By user-mode networking: no privilege anywhere.
    Rootless,
    /// On a bridge of the host, from a network namespace of its own: for root.
    Bridged,
    /// Not at all.
    None,
}

/// When to pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PullPolicy {
    /// Each time.
    Always,
    /// When the image is not here.
    Missing,
    /// Never: it must be here.
    Never,
}

/// How to tell whether a machine is well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthSpec {
    /// What is tried.
    pub probe: HealthProbe,
    /// From one try to the next, once it is well.
    pub interval: Duration,
    /// How long one try may take.
    pub timeout: Duration,
    /// Failures in a row that make it unwell.
    pub retries: u32,
    /// Failures this long after the start do not count.
    pub start_period: Duration,
}

impl HealthSpec {
    /// A probe with podman's times, but that a start may take a minute:
    /// under emulation it does.
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

/// What is tried to tell whether a machine is well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthProbe {
    /// A command in the container: 0 is well.
    Command(Vec<String>),
    /// A URL, fetched in the guest: 2xx and 3xx are well.
    Url(String),
}
