//! Firecracker's API: HTTP over a socket in the directory where it runs.
//!
//! One call for each of its requests, by the name of what it does. A call that
//! needs what the version does not have is refused here and never sent.

mod error;
mod http;
mod types;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

pub use error::ApiError;
pub use types::{
    Balloon, Bandwidth, BootSource, CreateSnapshot, Drive, HugePages, InstanceInfo, LoadHugePages,
    LoadSnapshot, Logger, MachineConfig, MemoryBackend, Metrics, MmdsConfig, MmdsVersion, NetworkInterface,
    NetworkOverride, RateLimiter, RunState, TokenBucket, Vsock,
};

use super::version::{Feature, OLDEST, Version};
use crate::SaveKind;
use http::Request;

/// How long a call may take that neither reads nor writes memory: Firecracker
/// needs milliseconds, a host that is very busy more.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// The same for a call that may read or write all of a machine's memory.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(600);

/// A Firecracker that answers.
#[derive(Debug, Clone)]
pub struct Api {
    directory: Arc<OwnedFd>,
    socket: &'static str,
    version: Version,
    full_version: String,
}

impl Api {
    /// Greets the Firecracker that listens on `socket` in `directory`.
    ///
    /// # Errors
    /// [`ApiError::TooOld`] for a version before [`OLDEST`];
    /// [`ApiError::Connect`] if nobody listens.
    pub async fn greet(directory: &Path, socket: &'static str) -> Result<Self, ApiError> {
        let held = super::socket::open_directory(directory);
        let held = held.map_err(|source| ApiError::Connect { step: VERSION_STEP.to_owned(), source })?;
        Self::connect_in(Arc::new(held), socket).await
    }

    pub(super) async fn connect_in(directory: Arc<OwnedFd>, socket: &'static str) -> Result<Self, ApiError> {
        #[derive(serde::Deserialize)]
        struct Answer {
            firecracker_version: String,
        }
        let request = Request::get(VERSION_STEP, "/version");
        let answer: Answer = http::read(&directory, socket, request, CALL_TIMEOUT).await?;
        let full_version = answer.firecracker_version;
        let version = full_version
            .parse()
            .map_err(|error| ApiError::Foreign { step: VERSION_STEP.to_owned(), what: format!("{error}") })?;
        if version < OLDEST {
            return Err(ApiError::TooOld { found: full_version, what: "be driven", needed: OLDEST });
        }
        Ok(Self { directory, socket, version, full_version })
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The same, as it says it: with what stands after the number.
    #[must_use]
    pub fn full_version(&self) -> &str {
        &self.full_version
    }

    /// Says no if the version does not have `feature`.
    ///
    /// # Errors
    /// [`ApiError::TooOld`].
    pub fn needs(&self, feature: Feature) -> Result<(), ApiError> {
        if self.version >= feature.since() {
            return Ok(());
        }
        Err(ApiError::TooOld {
            found: self.full_version.clone(),
            what: feature.what(),
            needed: feature.since(),
        })
    }

    fn needs_if(&self, needed: bool, feature: Feature) -> Result<(), ApiError> {
        if needed { self.needs(feature) } else { Ok(()) }
    }

    async fn read<T: serde::de::DeserializeOwned>(&self, step: &str, path: &str) -> Result<T, ApiError> {
        http::read(&self.directory, self.socket, Request::get(step, path), CALL_TIMEOUT).await
    }

    async fn put(&self, step: &str, path: &str, body: &impl serde::Serialize) -> Result<(), ApiError> {
        let request = Request::with_body(step, Method::PUT, path, body)?;
        http::send(&self.directory, self.socket, request, CALL_TIMEOUT).await
    }

    async fn patch(&self, step: &str, path: &str, body: &impl serde::Serialize) -> Result<(), ApiError> {
        let request = Request::with_body(step, Method::PATCH, path, body)?;
        http::send(&self.directory, self.socket, request, CALL_TIMEOUT).await
    }
}

const VERSION_STEP: &str = "to tell its version";

/// Every one of these gives [`ApiError::Refused`] with Firecracker's own words
/// if it says no, and [`ApiError::Silent`] if it says nothing in time.
impl Api {
    /// What runs, and how far it is.
    ///
    /// # Errors
    /// As for all calls.
    pub async fn instance(&self) -> Result<InstanceInfo, ApiError> {
        self.read("to describe itself", "/").await
    }

    /// All of the machine's settings, in Firecracker's own words.
    ///
    /// # Errors
    /// As for all calls.
    pub async fn settings(&self) -> Result<Value, ApiError> {
        self.read("to tell its settings", "/vm/config").await
    }

    /// Processors and memory, as they are set.
    ///
    /// # Errors
    /// As for all calls.
    pub async fn machine(&self) -> Result<MachineConfig, ApiError> {
        self.read("to tell its processors and memory", "/machine-config").await
    }

    /// Processors and memory. Before the start.
    ///
    /// # Errors
    /// As for all calls; [`ApiError::TooOld`] for [`HugePages::Transparent`]
    /// before 1.17.0.
    pub async fn set_machine(&self, machine: &MachineConfig) -> Result<(), ApiError> {
        self.needs_if(machine.huge_pages == HugePages::Transparent, Feature::TransparentPages)?;
        self.put("to set processors and memory", "/machine-config", machine).await
    }

    /// What is booted. Before the start.
    ///
    /// # Errors
    /// As for all calls.
    pub async fn set_boot_source(&self, source: &BootSource) -> Result<(), ApiError> {
        self.put("to set the kernel", "/boot-source", source).await
    }

    /// A disk. Before the start; the guest sees disks in the order of their
    /// calls, but for one that is its root device: that is the first.
    ///
    /// # Errors
    /// As for all calls.
    pub async fn set_drive(&self, drive: &Drive) -> Result<(), ApiError> {
        let path = format!("/drives/{}", drive.drive_id);
        self.put(&format!("to set {}", drive.drive_id), &path, drive).await
    }

    /// Another file for a disk, or the same with another size: the guest is
    /// told. After the start.
    ///
    /// # Errors
    /// As for all calls.
    pub async fn replace_drive(&self, id: &str, file: &str) -> Result<(), ApiError> {
        let body = json!({ "drive_id": id, "path_on_host": file });
        self.patch(&format!("to open {id} anew"), &format!("/drives/{id}"), &body).await
    }

    /// Another limit for a disk. After the start.
    ///
    /// # Errors
    /// As for all calls.
    pub async fn limit_drive(&self, id: &str, limit: &RateLimiter) -> Result<(), ApiError> {
        let body = json!({ "drive_id": id, "rate_limiter": limit });
        self.patch(&format!("to limit {id}"), &format!("/drives/{id}"), &body).await
    }

    /// A network card. Before the start.
    ///
    /// # Errors
    /// As for all calls; [`ApiError::TooOld`] for an MTU before 1.16.0.
    pub async fn set_network(&self, nic: &NetworkInterface) -> Result<(), ApiError> {
        self.needs_if(nic.mtu.is_some(), Feature::Mtu)?;
        let path = format!("/network-interfaces/{}", nic.iface_id);
        self.put(&format!("to set network card {}", nic.iface_id), &path, nic).await
    }

    /// Other limits for a network card. After the start.
    ///
    /// # Errors
    /// As for all calls.
    pub async fn limit_network(&self, id: &str, limits: &Bandwidth) -> Result<(), ApiError> {
        let body =
            json!({ "iface_id": id, "rx_rate_limiter": limits.receive, "tx_rate_limiter": limits.send });
        self.patch(&format!("to limit network card {id}"), &format!("/network-interfaces/{id}"), &body).await
    }

    /// The vsock device. Before the start.
    ///
    /// # Errors
    /// As for all calls.
    pub async fn set_vsock(&self, vsock: &Vsock) -> Result<(), ApiError> {
        self.put("to set the vsock device", "/vsock", vsock).await
    }

    /// A source of random numbers. Before the start.
    ///
    /// # Errors
    /// As for all calls.
    pub async fn set_entropy(&self, limit: Option<&RateLimiter>) -> Result<(), ApiError> {
        let body = limit.map_or_else(|| json!({}), |limit| json!({ "rate_limiter": limit }));
        self.put("to set the entropy device", "/entropy", &body).await
    }

    /// The balloon, as it is set.
    ///
    /// # Errors
    /// As for all calls.
    pub async fn balloon(&self) -> Result<Balloon, ApiError> {
        self.read("to tell its balloon", "/balloon").await
    }

    /// A balloon. Before the start.
    ///
    /// # Errors
    /// As for all calls; [`ApiError::TooOld`] for what tells of free pages
    /// before 1.14.0.
    pub async fn set_balloon(&self, balloon: &Balloon) -> Result<(), ApiError> {
        let reports_free_pages = balloon.free_page_hinting || balloon.free_page_reporting;
        self.needs_if(reports_free_pages, Feature::FreePages)?;
        self.put("to set the balloon", "/balloon", balloon).await
    }

    /// Another size for the balloon, in MiB. After the start.
    ///
    /// # Errors
    /// As for all calls.
    pub async fn resize_balloon(&self, amount_mib: u32) -> Result<(), ApiError> {
        self.patch("to resize the balloon", "/balloon", &json!({ "amount_mib": amount_mib })).await
    }

    /// Where it logs: before 1.14.0, to what is there already. Before the start.
    ///
    /// # Errors
    /// As for all calls.
    pub async fn set_logger(&self, logger: &Logger) -> Result<(), ApiError> {
        self.put("to set its log", "/logger", logger).await
    }

    /// Where it writes its metrics: before 1.14.0, to what is there already.
    /// Before the start, once.
    ///
    /// # Errors
    /// As for all calls; [`ApiError::TooOld`] for names in them before 1.17.0.
    pub async fn set_metrics(&self, metrics: &Metrics) -> Result<(), ApiError> {
        self.needs_if(metrics.emit_id || !metrics.properties.is_empty(), Feature::MetricsNames)?;
        self.put("to set its metrics", "/metrics", metrics).await
    }

    /// Which cards answer for the metadata service. Before the start.
    ///
    /// # Errors
    /// As for all calls; [`ApiError::TooOld`] for `imds_compat` before 1.13.0.
    pub async fn set_mmds_config(&self, config: &MmdsConfig) -> Result<(), ApiError> {
        self.needs_if(config.imds_compat, Feature::ImdsCompat)?;
        self.put("to set the metadata service", "/mmds/config", config).await
    }

    /// The metadata.
    ///
    /// # Errors
    /// As for all calls.
    pub async fn mmds(&self) -> Result<Value, ApiError> {
        self.read("to tell its metadata", "/mmds").await
    }

    /// All of the metadata anew.
    ///
    /// # Errors
    /// As for all calls.
    pub async fn set_mmds(&self, contents: &Value) -> Result<(), ApiError> {
        self.put("to set metadata", "/mmds", contents).await
    }

    /// What differs in the metadata.
    ///
    /// # Errors
    /// As for all calls.
    pub async fn merge_mmds(&self, difference: &Value) -> Result<(), ApiError> {
        self.patch("to change metadata", "/mmds", difference).await
    }

    /// Starts the machine.
    ///
    /// # Errors
    /// As for all calls.
    pub async fn start(&self) -> Result<(), ApiError> {
        self.run_action("to start the machine", "InstanceStart").await
    }

    /// Presses Ctrl-Alt-Del on the guest's keyboard. After the start.
    ///
    /// # Errors
    /// As for all calls.
    pub async fn ctrl_alt_del(&self) -> Result<(), ApiError> {
        self.run_action("to press ctrl-alt-del", "SendCtrlAltDel").await
    }

    /// Writes the metrics at once. After the start.
    ///
    /// # Errors
    /// As for all calls.
    pub async fn flush_metrics(&self) -> Result<(), ApiError> {
        self.run_action("to write its metrics", "FlushMetrics").await
    }

    async fn run_action(&self, step: &str, action: &str) -> Result<(), ApiError> {
        self.put(step, "/actions", &json!({ "action_type": action })).await
    }

    /// Stops the processors. After the start.
    ///
    /// # Errors
    /// As for all calls.
    pub async fn pause(&self) -> Result<(), ApiError> {
        self.patch("to pause", "/vm", &json!({ "state": "Paused" })).await
    }

    /// Lets the processors go on. After the start.
    ///
    /// # Errors
    /// As for all calls.
    pub async fn resume(&self) -> Result<(), ApiError> {
        self.patch("to resume", "/vm", &json!({ "state": "Resumed" })).await
    }

    /// Saves a paused machine. After this the guest's connections over vsock
    /// are gone, also in the machine itself.
    ///
    /// # Errors
    /// As for all calls.
    pub async fn create_snapshot(&self, snapshot: &CreateSnapshot) -> Result<(), ApiError> {
        let step = match snapshot.snapshot_type {
            SaveKind::Full => "to save the machine",
            SaveKind::Diff => "to save what differs of the machine",
        };
        let request = Request::with_body(step, Method::PUT, "/snapshot/create", &types::create(snapshot))?;
        http::send(&self.directory, self.socket, request, SNAPSHOT_TIMEOUT).await
    }

    /// Becomes a machine that was saved. Before anything else: whatever was
    /// set before makes Firecracker refuse, and whatever fails ends it.
    ///
    /// # Errors
    /// As for all calls; [`ApiError::TooOld`] for overrides, another size of
    /// pages or the clock in versions without.
    pub async fn load_snapshot(&self, snapshot: &LoadSnapshot) -> Result<(), ApiError> {
        self.needs_if(!snapshot.network_overrides.is_empty(), Feature::NetworkOverrides)?;
        self.needs_if(snapshot.vsock_override.is_some(), Feature::VsockOverride)?;
        self.needs_if(snapshot.clock_realtime, Feature::ClockRealtime)?;
        self.needs_if(snapshot.huge_pages != LoadHugePages::Snapshot, Feature::PagesOnLoad)?;
        let body = types::load(snapshot, self.version);
        let request = Request::with_body("to load the saved state", Method::PUT, "/snapshot/load", &body)?;
        http::send(&self.directory, self.socket, request, SNAPSHOT_TIMEOUT).await
    }
}
