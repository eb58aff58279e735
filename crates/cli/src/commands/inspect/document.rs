//! A machine as `mimeo inspect` shows it, with podman's field names where podman
//! has such a field. Scripts read this: add fields, do not rename or remove them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use mimeo_agent_protocol::message::{IdentityStep, Process, Step, StepOutcome};
use mimeo_engine::machine::{
    Found, Health, HealthProbe, HealthSpec, NetworkMode, NetworkRecord, Phase, Record,
};
use mimeo_engine::{log, machine, signal};
use serde::Serialize;
use serde_json::{Value, json};

use super::container::{ConfigFields, HostConfigFields, ProcessFields};
use crate::error::CliError;
use crate::mounts::{self, Mount};
use crate::view::{self, ImageNames};

/// A machine.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Document {
    id: String,
    name: String,
    created: Timestamp,
    /// The program that runs.
    path: String,
    /// Its arguments.
    args: Vec<String>,
    state: State,
    image: String,
    image_name: String,
    /// How often the restart policy has started it again.
    restart_count: u32,
    driver: String,
    boot_method: Option<String>,
    boot_reason: Option<String>,
    origin: Option<String>,
    /// The UUID that tells the clone from all others.
    vm_generation: Option<String>,
    identity: Vec<IdentityEntry>,
    serve: Option<Serve>,
    accelerator: Option<String>,
    stages: Vec<Stage>,
    #[serde(flatten)]
    process: ProcessFields,
    config: Config,
    host_config: HostConfig,
    network_settings: NetworkSettings,
    mounts: Vec<Mount>,
    directory: PathBuf,
    log_path: PathBuf,
    console_path: PathBuf,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    status: &'static str,
    running: bool,
    paused: bool,
    /// Why the VMM has paused the machine; empty if it has not.
    pause_reason: String,
    /// The supervisor's process; 0 once the machine has exited.
    pid: u32,
    /// The VMM's process; 0 once the machine has exited.
    vmm_pid: u32,
    exit_code: i32,
    error: String,
    #[serde(rename = "OOMKilled")]
    oom_killed: bool,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<HealthState>,
    dead: bool,
    restarting: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct HealthState {
    status: String,
    failing_streak: u32,
    last_failure: Option<String>,
}

/// The snapshot server that the clone belongs to, and ends with.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Serve {
    id: String,
    pid: u32,
}

/// A step of giving a clone its own identity.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct IdentityEntry {
    step: Step,
    outcome: StepOutcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl From<&IdentityStep> for IdentityEntry {
    fn from(step: &IdentityStep) -> Self {
        Self { step: step.step, outcome: step.outcome, detail: step.detail.clone() }
    }
}

/// A stage of the machine's start.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Stage {
    stage: String,
    milliseconds: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    hostname: String,
    user: String,
    tty: bool,
    open_stdin: bool,
    env: Vec<String>,
    cmd: Vec<String>,
    /// The image as the user named it.
    image: String,
    /// podman's form: the words, separated by blanks.
    entrypoint: String,
    working_dir: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    stop_signal: Option<String>,
    stop_timeout: u32,
    /// Seconds; 0: no limit.
    timeout: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthcheck: Option<Healthcheck>,
    healthcheck_on_failure_action: &'static str,
    #[serde(flatten)]
    container: ConfigFields,
}

/// Durations in nanoseconds, as podman's.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Healthcheck {
    test: Vec<String>,
    interval: u64,
    timeout: u64,
    start_period: u64,
    retries: u32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    auto_remove: bool,
    restart_policy: RestartPolicy,
    init: bool,
    cpus: u32,
    nano_cpus: u64,
    /// podman's form of the volumes: `HOST:GUEST:OPTIONS`.
    binds: Vec<String>,
    port_bindings: BTreeMap<String, Vec<Published>>,
    /// Bytes.
    memory: u64,
    /// Maximum size of the writable layer in bytes.
    disk: u64,
    network_mode: &'static str,
    dns: Vec<String>,
    dns_search: Vec<String>,
    dns_options: Vec<String>,
    publish_all_ports: bool,
    extra_hosts: Vec<String>,
    start_timeout: u32,
    #[serde(flatten)]
    container: HostConfigFields,
    log_config: LogConfig,
}

/// podman has Type, Config, Path, Tag and Size.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct LogConfig {
    #[serde(rename = "Type")]
    driver: String,
    /// The options, as `--log-opt` takes them.
    config: BTreeMap<&'static str, String>,
    path: PathBuf,
    /// Bytes of output that could not be written to the log.
    lost_bytes: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RestartPolicy {
    name: &'static str,
    /// 0 if it is unlimited.
    maximum_retry_count: u32,
}

impl From<machine::RestartPolicy> for RestartPolicy {
    fn from(policy: machine::RestartPolicy) -> Self {
        let maximum_retry_count = match policy {
            machine::RestartPolicy::OnFailure { max } => max.unwrap_or(0),
            _ => 0,
        };
        Self { name: policy.name(), maximum_retry_count }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    #[serde(rename = "IPAddress")]
    ip_address: String,
    #[serde(rename = "IPPrefixLen")]
    ip_prefix_len: u8,
    gateway: String,
    #[serde(rename = "GlobalIPv6Address")]
    global_ipv6_address: String,
    mac_address: String,
    /// From a port such as `80/tcp` to the host's addresses that it is published on.
    ports: BTreeMap<String, Vec<Published>>,
    /// The machine's only network, by its mode.
    networks: BTreeMap<&'static str, NetworkAddress>,
}

/// A machine's address in a network.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkAddress {
    #[serde(rename = "NetworkID")]
    network_id: &'static str,
    #[serde(rename = "IPAddress")]
    ip_address: String,
    #[serde(rename = "IPPrefixLen")]
    ip_prefix_len: u8,
    gateway: String,
    #[serde(rename = "GlobalIPv6Address")]
    global_ipv6_address: String,
    mac_address: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Published {
    host_ip: String,
    /// A string, as podman's.
    host_port: String,
}

impl Document {
    /// `process` is the container's main process: its environment, directory and user.
    pub(super) fn new(found: &Found, process: Process, names: &ImageNames, mounts: Vec<Mount>) -> Self {
        let record = &found.record;
        let mut args = record.process.args.clone();
        let path = if args.is_empty() { String::new() } else { args.remove(0) };
        Self {
            id: record.id.to_string(),
            name: record.name.to_string(),
            created: record.times.created,
            path,
            args,
            state: State::new(found),
            image: record.image.as_ref().map(|image| view::bare_id(&image.id).to_owned()).unwrap_or_default(),
            image_name: names.name_for(record),
            restart_count: record.restart_count,
            driver: record.spec.driver.clone(),
            boot_method: record.boot_method.clone(),
            boot_reason: record.boot_reason.clone(),
            origin: record.origin.as_ref().map(ToString::to_string),
            vm_generation: record.vm_generation.clone(),
            identity: record.identity.iter().map(IdentityEntry::from).collect(),
            serve: record.serve.as_ref().map(|serve| Serve { id: serve.id.clone(), pid: serve.process.pid }),
            accelerator: record.accelerator.clone(),
            stages: record.times.stages.iter().cloned().map(Stage::from).collect(),
            process: ProcessFields::new(record),
            config: Config::new(record, process),
            host_config: HostConfig::new(found),
            network_settings: NetworkSettings::new(record),
            mounts,
            directory: found.dir.clone(),
            log_path: found.dir.join(log::FILE),
            console_path: found.dir.join("console.log"),
        }
    }
}

impl Document {
    /// The fields for `--format`: those of the JSON, podman's other names for them, and empty ones where
    /// podman's are always present.
    pub(super) fn fields(&self) -> Result<Value, CliError> {
        let mut value = serde_json::to_value(self)?;
        value["ID"] = value["Id"].clone();
        value["ImageID"] = value["Image"].clone();
        if value["State"].get("Health").is_none() {
            value["State"]["Health"] = json!({"Status": "", "FailingStreak": 0, "LastFailure": null});
        }
        for mount in value["Mounts"].as_array_mut().into_iter().flatten() {
            // podman's fields of a mount without a name are empty.
            let Some(mount) = mount.as_object_mut() else { continue };
            mount.entry("Name").or_insert_with(|| json!(""));
        }
        if value["Config"].get("Healthcheck").is_none() {
            value["Config"]["Healthcheck"] = Value::Null;
        }
        Ok(value)
    }
}

impl State {
    fn new(found: &Found) -> Self {
        let record = &found.record;
        let (phase, exit) = (record.phase(), record.last_exit());
        let pid = if phase.is_live() { record.supervisor.pid } else { 0 };
        let vmm = record.vmm.as_ref().filter(|_| phase.is_live());
        Self {
            status: view::state(phase),
            running: matches!(phase, Phase::Running | Phase::Stopping),
            paused: matches!(phase, Phase::Paused | Phase::DiskError),
            pause_reason: record.disk_error.clone().filter(|_| phase == Phase::DiskError).unwrap_or_default(),
            pid,
            vmm_pid: vmm.map_or(0, |vmm| vmm.pid),
            exit_code: exit.map_or(0, |exit| exit.code),
            error: exit.and_then(|exit| exit.error.clone()).unwrap_or_default(),
            oom_killed: exit.is_some_and(|exit| exit.out_of_memory),
            started_at: record.times.started,
            finished_at: record.times.finished,
            health: record.health.clone().map(HealthState::from),
            dead: false,
            restarting: phase == Phase::Restarting,
        }
    }
}

impl From<Health> for HealthState {
    fn from(health: Health) -> Self {
        let Health { status, failing_streak, last_failure } = health;
        Self { status: status.to_string(), failing_streak, last_failure }
    }
}

impl From<(String, u64)> for Stage {
    fn from((stage, milliseconds): (String, u64)) -> Self {
        Self { stage, milliseconds }
    }
}

impl Config {
    fn new(record: &Record, process: Process) -> Self {
        let spec = &record.spec;
        Self {
            hostname: spec.hostname.clone().unwrap_or_else(|| record.id.short().to_owned()),
            user: process.user,
            tty: spec.tty,
            open_stdin: spec.interactive,
            env: process.env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
            cmd: record.process.args.clone(),
            image: spec.image.clone(),
            entrypoint: spec.entrypoint.clone().unwrap_or_default().join(" "),
            working_dir: process.cwd,
            labels: spec.labels.clone(),
            annotations: spec.annotations.clone(),
            stop_signal: spec.stop_signal.map(signal::name),
            stop_timeout: spec.stop_timeout,
            timeout: spec.timeout,
            healthcheck: spec.health.as_ref().map(Healthcheck::from),
            healthcheck_on_failure_action: spec.health_on_failure.name(),
            container: ConfigFields::from(&spec.container),
        }
    }
}

impl From<&HealthSpec> for Healthcheck {
    fn from(health: &HealthSpec) -> Self {
        let test = match &health.probe {
            HealthProbe::Command(args) if args.is_empty() => vec!["NONE".to_owned()],
            HealthProbe::Command(args) => std::iter::once("CMD".to_owned()).chain(args.clone()).collect(),
            HealthProbe::Url(url) => vec!["URL".to_owned(), url.clone()],
        };
        Self {
            test,
            interval: health.interval.as_nanos() as u64,
            timeout: health.timeout.as_nanos() as u64,
            start_period: health.start_period.as_nanos() as u64,
            retries: health.retries,
        }
    }
}

impl HostConfig {
    fn new(found: &Found) -> Self {
        let spec = &found.record.spec;
        Self {
            auto_remove: spec.remove,
            restart_policy: spec.restart.into(),
            init: spec.init,
            cpus: spec.cpus,
            nano_cpus: u64::from(spec.cpus) * 1_000_000_000,
            binds: mounts::binds(spec),
            port_bindings: published(&found.record),
            memory: u64::from(spec.memory_mib) << 20,
            disk: spec.disk_bytes,
            network_mode: match spec.network {
                NetworkMode::Auto => "auto",
                NetworkMode::Rootless => "rootless",
                NetworkMode::Bridged => "bridged",
                NetworkMode::None => "none",
            },
            dns: spec.dns.clone(),
            dns_search: spec.dns_search.clone(),
            dns_options: spec.dns_options.clone(),
            publish_all_ports: spec.publish_exposed,
            extra_hosts: spec.add_hosts.iter().map(|(name, ip)| format!("{name}:{ip}")).collect(),
            start_timeout: spec.start_timeout,
            container: HostConfigFields::from(&spec.container),
            log_config: LogConfig::new(found),
        }
    }
}

impl LogConfig {
    fn new(found: &Found) -> Self {
        let log::LogConfig { driver, max_bytes, max_files } = found.record.spec.log;
        let max_size = max_bytes.map_or("-1".to_owned(), |bytes| bytes.to_string());
        let is_file = driver == log::LogDriver::K8sFile;
        let config = [("max-size", max_size), ("max-file", max_files.to_string())];
        Self {
            driver: driver.to_string(),
            config: config.into_iter().filter(|_| is_file).collect(),
            path: if is_file { found.dir.join(log::FILE) } else { PathBuf::new() },
            lost_bytes: found.record.log_lost_bytes,
        }
    }
}

impl NetworkSettings {
    fn new(record: &Record) -> Self {
        let address = record.network.as_ref().map(NetworkAddress::new);
        let first = address.as_ref();
        Self {
            ip_address: first.map(|address| address.ip_address.clone()).unwrap_or_default(),
            ip_prefix_len: first.map_or(0, |address| address.ip_prefix_len),
            gateway: first.map(|address| address.gateway.clone()).unwrap_or_default(),
            global_ipv6_address: first.map(|address| address.global_ipv6_address.clone()).unwrap_or_default(),
            mac_address: first.map(|address| address.mac_address.clone()).unwrap_or_default(),
            ports: published(record),
            networks: address.into_iter().map(|address| (address.network_id, address)).collect(),
        }
    }
}

impl NetworkAddress {
    fn new(network: &NetworkRecord) -> Self {
        Self {
            network_id: view::network_mode(network),
            ip_address: network.address().to_string(),
            ip_prefix_len: network.prefix(),
            gateway: network.gateway().to_string(),
            global_ipv6_address: network
                .outer
                .and_then(|outer| outer.ip6)
                .map(|ip| ip.to_string())
                .unwrap_or_default(),
            mac_address: network.mac.to_string(),
        }
    }
}

/// The host's addresses of each published port.
fn published(record: &Record) -> BTreeMap<String, Vec<Published>> {
    let mut ports = BTreeMap::<_, Vec<_>>::new();
    for port in view::published(record) {
        let published = Published {
            host_ip: port.host_ip.to_string(),
            host_port: port.host_port.map(|port| port.to_string()).unwrap_or_default(),
        };
        ports.entry(format!("{}/{}", port.guest_port, port.protocol)).or_default().push(published);
    }
    ports
}
