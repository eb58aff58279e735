//! Firecracker's API: HTTP over a Unix socket in the directory where it runs.
//!
//! Each request is a method, named after what it does. A request that needs a later version is refused here
//! and never sent.

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
    Balloon, Bandwidth, BootSource, CacheType, CreateSnapshot, Drive, HugePages, InstanceInfo, LoadHugePages,
    LoadSnapshot, Logger, MachineConfig, MemoryBackend, Metrics, MmdsConfig, MmdsVersion, NetworkInterface,
    NetworkOverride, RateLimiter, RunState, TokenBucket, Vsock,
};

use super::version::{Feature, OLDEST, Version};
use crate::SaveKind;
use http::Request;

/// Timeout for a request that neither reads nor writes guest memory: Firecracker needs milliseconds, a very
/// busy host more.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// Timeout for a request that may read or write all of the guest's memory.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(600);

/// A connection to a Firecracker that answers.
#[derive(Debug, Clone)]
pub struct Api {
    directory: Arc<OwnedFd>,
    socket: &'static str,
    version: Version,
    full_version: String,
}

impl Api {
    /// Connects to the Firecracker that listens on `socket` in `directory`, and reads its version.
    ///
    /// # Errors
    /// [`ApiError::TooOld`] for a version before [`OLDEST`]; [`ApiError::Connect`] if nothing listens.
    pub async fn connect(directory: &Path, socket: &'static str) -> Result<Self, ApiError> {
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
        let version = full_version.parse().map_err(|error| ApiError::InvalidAnswer {
            step: VERSION_STEP.to_owned(),
            reason: format!("{error}"),
        })?;
        if version < OLDEST {
            return Err(ApiError::TooOld { found: full_version, operation: "be used", needed: OLDEST });
        }
        Ok(Self { directory, socket, version, full_version })
    }

    /// The version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The version as Firecracker reports it, including a suffix.
    #[must_use]
    pub fn full_version(&self) -> &str {
        &self.full_version
    }

    /// Fails if the version lacks `feature`.
    ///
    /// # Errors
    /// [`ApiError::TooOld`].
    pub fn require(&self, feature: Feature) -> Result<(), ApiError> {
        if self.version >= feature.since() {
            return Ok(());
        }
        Err(ApiError::TooOld {
            found: self.full_version.clone(),
            operation: feature.operation(),
            needed: feature.since(),
        })
    }

    fn require_if(&self, needed: bool, feature: Feature) -> Result<(), ApiError> {
        if needed { self.require(feature) } else { Ok(()) }
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

const VERSION_STEP: &str = "to report its version";

/// All of these fail with [`ApiError::Refused`] and Firecracker's message if it refuses, and with
/// [`ApiError::Timeout`] if it does not answer in time.
impl Api {
    /// Describes the instance and its state.
    ///
    /// # Errors
    /// As for all requests.
    pub async fn instance(&self) -> Result<InstanceInfo, ApiError> {
        self.read("to describe itself", "/").await
    }

    /// All settings of the machine, in Firecracker's format.
    ///
    /// # Errors
    /// As for all requests.
    pub async fn settings(&self) -> Result<Value, ApiError> {
        self.read("to report its settings", "/vm/config").await
    }

    /// The current vCPU and memory settings.
    ///
    /// # Errors
    /// As for all requests.
    pub async fn machine(&self) -> Result<MachineConfig, ApiError> {
        self.read("to report vCPUs and memory", "/machine-config").await
    }

    /// Sets vCPUs and memory. Before the start.
    ///
    /// # Errors
    /// As for all requests; [`ApiError::TooOld`] for [`HugePages::Transparent`] before 1.17.0.
    pub async fn set_machine(&self, machine: &MachineConfig) -> Result<(), ApiError> {
        self.require_if(machine.huge_pages == HugePages::Transparent, Feature::TransparentPages)?;
        self.put("to set vCPUs and memory", "/machine-config", machine).await
    }

    /// Sets the kernel, initramfs and command line. Before the start.
    ///
    /// # Errors
    /// As for all requests.
    pub async fn set_boot_source(&self, source: &BootSource) -> Result<(), ApiError> {
        self.put("to set the kernel", "/boot-source", source).await
    }

    /// Adds a disk. Before the start. The guest sees disks in the order of these requests, except that a root
    /// device is always first.
    ///
    /// # Errors
    /// As for all requests.
    pub async fn set_drive(&self, drive: &Drive) -> Result<(), ApiError> {
        let path = format!("/drives/{}", drive.drive_id);
        self.put(&format!("to set {}", drive.drive_id), &path, drive).await
    }

    /// Replaces a disk's file, or reopens the same file after its size has changed; the guest is notified.
    /// After the start.
    ///
    /// # Errors
    /// As for all requests.
    pub async fn replace_drive(&self, id: &str, file: &str) -> Result<(), ApiError> {
        let body = json!({ "drive_id": id, "path_on_host": file });
        self.patch(&format!("to reopen {id}"), &format!("/drives/{id}"), &body).await
    }

    /// Changes a disk's rate limits. After the start.
    ///
    /// # Errors
    /// As for all requests.
    pub async fn limit_drive(&self, id: &str, limit: &RateLimiter) -> Result<(), ApiError> {
        let body = json!({ "drive_id": id, "rate_limiter": limit });
        self.patch(&format!("to limit {id}"), &format!("/drives/{id}"), &body).await
    }

    /// Adds a NIC. Before the start.
    ///
    /// # Errors
    /// As for all requests; [`ApiError::TooOld`] for an MTU before 1.16.0.
    pub async fn set_network(&self, nic: &NetworkInterface) -> Result<(), ApiError> {
        self.require_if(nic.mtu.is_some(), Feature::Mtu)?;
        let path = format!("/network-interfaces/{}", nic.iface_id);
        self.put(&format!("to set NIC {}", nic.iface_id), &path, nic).await
    }

    /// Changes a NIC's rate limits. After the start.
    ///
    /// # Errors
    /// As for all requests.
    pub async fn limit_network(&self, id: &str, limits: &Bandwidth) -> Result<(), ApiError> {
        let body =
            json!({ "iface_id": id, "rx_rate_limiter": limits.receive, "tx_rate_limiter": limits.send });
        self.patch(&format!("to limit NIC {id}"), &format!("/network-interfaces/{id}"), &body).await
    }

    /// Adds the vsock device. Before the start.
    ///
    /// # Errors
    /// As for all requests.
    pub async fn set_vsock(&self, vsock: &Vsock) -> Result<(), ApiError> {
        self.put("to set the vsock device", "/vsock", vsock).await
    }

    /// Adds a source of random numbers. Before the start.
    ///
    /// # Errors
    /// As for all requests.
    pub async fn set_entropy(&self, limit: Option<&RateLimiter>) -> Result<(), ApiError> {
        let body = limit.map_or_else(|| json!({}), |limit| json!({ "rate_limiter": limit }));
        self.put("to set the entropy device", "/entropy", &body).await
    }

    /// The current balloon settings.
    ///
    /// # Errors
    /// As for all requests.
    pub async fn balloon(&self) -> Result<Balloon, ApiError> {
        self.read("to report its balloon", "/balloon").await
    }

    /// Adds a balloon. Before the start.
    ///
    /// # Errors
    /// As for all requests; [`ApiError::TooOld`] for reports of free pages before 1.14.0.
    pub async fn set_balloon(&self, balloon: &Balloon) -> Result<(), ApiError> {
        let reports_free_pages = balloon.free_page_hinting || balloon.free_page_reporting;
        self.require_if(reports_free_pages, Feature::FreePages)?;
        self.put("to set the balloon", "/balloon", balloon).await
    }

    /// Resizes the balloon, in MiB. After the start.
    ///
    /// # Errors
    /// As for all requests.
    pub async fn resize_balloon(&self, amount_mib: u32) -> Result<(), ApiError> {
        self.patch("to resize the balloon", "/balloon", &json!({ "amount_mib": amount_mib })).await
    }

    /// Sets the log. Before 1.14.0, the file must exist. Before the start.
    ///
    /// # Errors
    /// As for all requests.
    pub async fn set_logger(&self, logger: &Logger) -> Result<(), ApiError> {
        self.put("to set its log", "/logger", logger).await
    }

    /// Sets the metrics file. Before 1.14.0, it must exist. Before the start, once.
    ///
    /// # Errors
    /// As for all requests; [`ApiError::TooOld`] for names in the metrics before 1.17.0.
    pub async fn set_metrics(&self, metrics: &Metrics) -> Result<(), ApiError> {
        self.require_if(metrics.emit_id || !metrics.properties.is_empty(), Feature::MetricsNames)?;
        self.put("to set its metrics", "/metrics", metrics).await
    }

    /// Sets which NICs answer for the metadata service. Before the start.
    ///
    /// # Errors
    /// As for all requests; [`ApiError::TooOld`] for `imds_compat` before 1.13.0.
    pub async fn set_mmds_config(&self, config: &MmdsConfig) -> Result<(), ApiError> {
        self.require_if(config.imds_compat, Feature::ImdsCompat)?;
        self.put("to set the metadata service", "/mmds/config", config).await
    }

    /// The metadata.
    ///
    /// # Errors
    /// As for all requests.
    pub async fn mmds(&self) -> Result<Value, ApiError> {
        self.read("to report its metadata", "/mmds").await
    }

    /// Replaces all of the metadata.
    ///
    /// # Errors
    /// As for all requests.
    pub async fn set_mmds(&self, contents: &Value) -> Result<(), ApiError> {
        self.put("to set metadata", "/mmds", contents).await
    }

    /// Merges changes into the metadata.
    ///
    /// # Errors
    /// As for all requests.
    pub async fn merge_mmds(&self, difference: &Value) -> Result<(), ApiError> {
        self.patch("to change metadata", "/mmds", difference).await
    }

    /// Starts the machine.
    ///
    /// # Errors
    /// As for all requests.
    pub async fn start(&self) -> Result<(), ApiError> {
        self.run_action("to start the machine", "InstanceStart").await
    }

    /// Presses Ctrl-Alt-Del on the guest's keyboard. After the start.
    ///
    /// # Errors
    /// As for all requests.
    pub async fn ctrl_alt_del(&self) -> Result<(), ApiError> {
        self.run_action("to press ctrl-alt-del", "SendCtrlAltDel").await
    }

    /// Writes the metrics now. After the start.
    ///
    /// # Errors
    /// As for all requests.
    pub async fn flush_metrics(&self) -> Result<(), ApiError> {
        self.run_action("to write its metrics", "FlushMetrics").await
    }

    async fn run_action(&self, step: &str, action: &str) -> Result<(), ApiError> {
        self.put(step, "/actions", &json!({ "action_type": action })).await
    }

    /// Pauses the vCPUs. After the start.
    ///
    /// # Errors
    /// As for all requests.
    pub async fn pause(&self) -> Result<(), ApiError> {
        self.patch("to pause", "/vm", &json!({ "state": "Paused" })).await
    }

    /// Resumes the vCPUs. After the start.
    ///
    /// # Errors
    /// As for all requests.
    pub async fn resume(&self) -> Result<(), ApiError> {
        self.patch("to resume", "/vm", &json!({ "state": "Resumed" })).await
    }

    /// Saves a paused machine. This closes the guest's vsock connections, also those of the running machine.
    ///
    /// # Errors
    /// As for all requests.
    pub async fn create_snapshot(&self, snapshot: &CreateSnapshot) -> Result<(), ApiError> {
        let step = match snapshot.snapshot_type {
            SaveKind::Full => "to save the machine",
            SaveKind::Diff => "to save a diff of the machine",
        };
        let request = Request::with_body(step, Method::PUT, "/snapshot/create", &types::create(snapshot))?;
        http::send(&self.directory, self.socket, request, SNAPSHOT_TIMEOUT).await
    }

    /// Loads a saved machine. This must be the first request: Firecracker refuses it after any setting, and
    /// exits if it fails.
    ///
    /// # Errors
    /// As for all requests; [`ApiError::TooOld`] for overrides, another page size or the clock in versions
    /// without them.
    pub async fn load_snapshot(&self, snapshot: &LoadSnapshot) -> Result<(), ApiError> {
        self.require_if(!snapshot.network_overrides.is_empty(), Feature::NetworkOverrides)?;
        self.require_if(snapshot.vsock_override.is_some(), Feature::VsockOverride)?;
        self.require_if(snapshot.clock_realtime, Feature::ClockRealtime)?;
        self.require_if(snapshot.huge_pages != LoadHugePages::Snapshot, Feature::PagesOnLoad)?;
        let body = types::load(snapshot, self.version);
        let request = Request::with_body("to load the saved state", Method::PUT, "/snapshot/load", &body)?;
        http::send(&self.directory, self.socket, request, SNAPSHOT_TIMEOUT).await
    }
}
