//! Request bodies: required and optional fields; all others are refused.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MachineConfig {
    pub(crate) vcpu_count: u8,
    pub(crate) mem_size_mib: usize,
    #[serde(default)]
    pub(crate) smt: bool,
    #[serde(default, skip_serializing)]
    pub(crate) cpu_template: Option<String>,
    #[serde(default)]
    pub(crate) track_dirty_pages: bool,
    #[serde(default)]
    pub(crate) huge_pages: HugePages,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum HugePages {
    #[default]
    None,
    Transparent,
    #[serde(rename = "2M")]
    TwoMib,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BootSource {
    pub(crate) kernel_image_path: String,
    pub(crate) initrd_path: Option<String>,
    pub(crate) boot_args: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Drive {
    pub(crate) drive_id: String,
    pub(crate) partuuid: Option<String>,
    pub(crate) is_root_device: bool,
    #[serde(default)]
    pub(crate) cache_type: CacheType,
    pub(crate) is_read_only: Option<bool>,
    pub(crate) path_on_host: Option<String>,
    pub(crate) rate_limiter: Option<RateLimiter>,
    pub(crate) io_engine: Option<IoEngine>,
    pub(crate) socket: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum CacheType {
    #[default]
    Unsafe,
    Writeback,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum IoEngine {
    Sync,
    Async,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RateLimiter {
    bandwidth: Option<TokenBucket>,
    ops: Option<TokenBucket>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenBucket {
    size: u64,
    one_time_burst: Option<u64>,
    refill_time: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DriveUpdate {
    pub(crate) drive_id: String,
    pub(crate) path_on_host: Option<String>,
    #[serde(rename = "rate_limiter")]
    pub(crate) _rate_limiter: Option<RateLimiter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NetworkInterface {
    pub(crate) iface_id: String,
    pub(crate) host_dev_name: String,
    #[serde(default, deserialize_with = "mac")]
    pub(crate) guest_mac: Option<String>,
    pub(crate) mtu: Option<u16>,
    pub(crate) rx_rate_limiter: Option<RateLimiter>,
    pub(crate) tx_rate_limiter: Option<RateLimiter>,
}

fn mac<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bytes: Vec<&str> = text.split(':').collect();
    let valid = |byte: &&str| byte.len() == 2 && u8::from_str_radix(byte, 16).is_ok();
    if bytes.len() == 6 && bytes.iter().all(valid) {
        return Ok(Some(text));
    }
    Err(serde::de::Error::custom("The provided MAC address is invalid."))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NetworkInterfaceUpdate {
    pub(crate) iface_id: String,
    #[serde(rename = "rx_rate_limiter")]
    pub(crate) _rx: Option<RateLimiter>,
    #[serde(rename = "tx_rate_limiter")]
    pub(crate) _tx: Option<RateLimiter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VsockDevice {
    #[serde(default, skip_serializing)]
    pub(crate) vsock_id: Option<String>,
    pub(crate) guest_cid: u32,
    pub(crate) uds_path: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entropy {
    #[serde(rename = "rate_limiter")]
    pub(crate) _rate_limiter: Option<RateLimiter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Balloon {
    pub(crate) amount_mib: u32,
    pub(crate) deflate_on_oom: bool,
    #[serde(default)]
    pub(crate) stats_polling_interval_s: u16,
    #[serde(default)]
    pub(crate) free_page_hinting: bool,
    #[serde(default)]
    pub(crate) free_page_reporting: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BalloonUpdate {
    #[serde(rename = "amount_mib")]
    pub(crate) _amount_mib: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Logger {
    pub(crate) log_path: Option<String>,
    #[serde(default, deserialize_with = "level")]
    #[serde(rename = "level")]
    pub(crate) _level: Option<String>,
    #[serde(rename = "show_level")]
    pub(crate) _show_level: Option<bool>,
    #[serde(rename = "show_log_origin")]
    pub(crate) _show_log_origin: Option<bool>,
    #[serde(rename = "module")]
    pub(crate) _module: Option<String>,
}

fn level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    const LEVELS: [&str; 7] = ["off", "error", "warn", "warning", "info", "debug", "trace"];
    let text = String::deserialize(deserializer)?;
    if LEVELS.contains(&text.to_lowercase().as_str()) {
        return Ok(Some(text));
    }
    Err(serde::de::Error::custom("Invalid LevelFilter"))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Metrics {
    pub(crate) metrics_path: String,
    #[serde(default, rename = "emit_id")]
    pub(crate) _emit_id: bool,
    #[serde(rename = "properties")]
    pub(crate) _properties: Option<std::collections::BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MmdsConfig {
    #[serde(default, rename = "version")]
    pub(crate) _version: MmdsVersion,
    pub(crate) network_interfaces: Vec<String>,
    #[serde(rename = "ipv4_address")]
    pub(crate) _ipv4_address: Option<std::net::Ipv4Addr>,
    #[serde(default, rename = "imds_compat")]
    pub(crate) _imds_compat: bool,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) enum MmdsVersion {
    #[default]
    V1,
    V2,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Act {
    pub(crate) action_type: Action,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum Action {
    FlushMetrics,
    InstanceStart,
    SendCtrlAltDel,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Vm {
    pub(crate) state: VmState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum VmState {
    Paused,
    Resumed,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Create {
    #[serde(default)]
    pub(crate) snapshot_type: SnapshotType,
    pub(crate) snapshot_path: String,
    pub(crate) mem_file_path: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum SnapshotType {
    Diff,
    #[default]
    Full,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Load {
    pub(crate) snapshot_path: String,
    pub(crate) mem_file_path: Option<String>,
    pub(crate) mem_backend: Option<Backend>,
    #[serde(default)]
    pub(crate) enable_diff_snapshots: bool,
    #[serde(default)]
    pub(crate) track_dirty_pages: bool,
    #[serde(default)]
    pub(crate) resume_vm: bool,
    #[serde(default)]
    pub(crate) network_overrides: Vec<NetworkOverride>,
    pub(crate) vsock_override: Option<VsockOverride>,
    #[serde(default, rename = "clock_realtime")]
    pub(crate) _clock_realtime: bool,
    #[serde(rename = "huge_pages")]
    pub(crate) _huge_pages: Option<Value>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Backend {
    pub(crate) backend_path: String,
    pub(crate) backend_type: BackendType,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum BackendType {
    File,
    Uffd,
}

#[derive(Debug, Deserialize)]
pub(crate) struct NetworkOverride {
    pub(crate) iface_id: String,
    pub(crate) host_dev_name: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct VsockOverride {
    pub(crate) uds_path: String,
}
