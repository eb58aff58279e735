//! The types of Firecracker's API, by its own names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::SaveKind;
use crate::firecracker::version::{Feature, Version};

/// The instance.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct InstanceInfo {
    /// The id that it was given.
    pub id: String,
    /// The state of the machine.
    pub state: RunState,
    /// Firecracker's version.
    pub vmm_version: String,
    /// Always `Firecracker`.
    pub app_name: String,
}

/// The state of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum RunState {
    /// Neither started nor loaded.
    #[serde(rename = "Not started")]
    NotStarted,
    /// The vCPUs run.
    Running,
    /// The vCPUs are paused.
    Paused,
}

/// vCPUs and memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineConfig {
    /// Number of vCPUs: 1, or an even number up to 32.
    pub vcpu_count: u32,
    /// Memory in MiB.
    pub mem_size_mib: u32,
    /// Two vCPUs are threads of one core.
    #[serde(default)]
    pub smt: bool,
    /// Track written pages, for [`SaveKind::Diff`].
    #[serde(default)]
    pub track_dirty_pages: bool,
    /// The page size of the guest's memory on the host.
    #[serde(default, skip_serializing_if = "is_default")]
    pub huge_pages: HugePages,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The page size of guest memory on the host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HugePages {
    /// The host's small pages.
    #[default]
    None,
    /// Transparent huge pages.
    Transparent,
    /// Huge pages of 2 MiB, reserved on the host.
    #[serde(rename = "2M")]
    TwoMib,
}

/// What to boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BootSource {
    /// The kernel: an uncompressed ELF file.
    pub kernel_image_path: String,
    /// The initramfs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initrd_path: Option<String>,
    /// The kernel's command line. None is Firecracker's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_args: Option<String>,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drive {
    /// Its id: letters, digits and underscores. The guest does not see it.
    pub drive_id: String,
    /// The file.
    pub path_on_host: String,
    /// The guest's root device: it is first, and is put on the kernel's command line.
    pub is_root_device: bool,
    /// Read-only for the guest.
    pub is_read_only: bool,
    /// Whether the guest may flush the file. Firecracker's default is that it may not.
    pub cache_type: CacheType,
    /// Rate limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limiter: Option<RateLimiter>,
}

/// What becomes of a guest's flushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum CacheType {
    /// The device offers none.
    Unsafe,
    /// They are passed on to the file.
    Writeback,
}

/// Rate limits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RateLimiter {
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<TokenBucket>,
    /// Operations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ops: Option<TokenBucket>,
}

/// A token bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenBucket {
    /// Its capacity: bytes or operations.
    pub size: u64,
    /// Additional tokens that are not refilled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_time_burst: Option<u64>,
    /// Milliseconds for a complete refill.
    pub refill_time: u64,
}

/// A NIC's rate limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// For packets to the guest.
    pub receive: Option<RateLimiter>,
    /// For packets from the guest.
    pub send: Option<RateLimiter>,
}

/// A NIC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetworkInterface {
    /// Its id: letters, digits and underscores. The guest does not see it.
    pub iface_id: String,
    /// The TAP device's name.
    pub host_dev_name: String,
    /// The MAC address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest_mac: Option<String>,
    /// The MTU to announce to the guest. Since 1.16.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
}

/// The vsock device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Vsock {
    /// The guest's CID, from 3.
    pub guest_cid: u32,
    /// The Unix socket for connections from the host.
    pub uds_path: String,
}

/// A balloon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balloon {
    /// Its target size in MiB.
    pub amount_mib: u32,
    /// Deflate it when the guest is out of memory.
    pub deflate_on_oom: bool,
    /// Seconds between statistics; 0 disables them.
    #[serde(default)]
    pub stats_polling_interval_s: u16,
    /// The guest reports free pages on request. Since 1.14.0.
    #[serde(default, skip_serializing_if = "is_default")]
    pub free_page_hinting: bool,
    /// The guest reports free pages on its own. Since 1.14.0.
    #[serde(default, skip_serializing_if = "is_default")]
    pub free_page_reporting: bool,
}

/// Log settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Logger {
    /// A file or a named pipe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_path: Option<String>,
    /// `Error`, `Warning`, `Info`, `Debug`, `Trace` or `Off`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Log the level of each line.
    pub show_level: bool,
    /// Log the source location of each line.
    pub show_log_origin: bool,
}

/// Metrics settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Metrics {
    /// A file or a named pipe.
    pub metrics_path: String,
    /// Include the machine's id. Since 1.17.0.
    #[serde(skip_serializing_if = "is_default")]
    pub emit_id: bool,
    /// Additional properties to include. Since 1.17.0.
    #[serde(skip_serializing_if = "is_default")]
    pub properties: BTreeMap<String, String>,
}

/// The metadata service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MmdsConfig {
    /// The version of its protocol.
    pub version: MmdsVersion,
    /// The NICs that answer for it.
    pub network_interfaces: Vec<String>,
    /// Its IPv4 address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4_address: Option<String>,
    /// Always serve plain text. Since 1.13.0.
    #[serde(skip_serializing_if = "is_default")]
    pub imds_compat: bool,
}

/// The version of the metadata service's protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub enum MmdsVersion {
    /// Without session tokens.
    V1,
    /// With session tokens.
    #[default]
    V2,
}

/// A request to save a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateSnapshot {
    /// How much of its memory to save.
    pub snapshot_type: SaveKind,
    /// The file for the state.
    pub snapshot_path: String,
    /// The file for the memory.
    pub mem_file_path: String,
}

/// A request to load a saved machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadSnapshot {
    /// The file with the state.
    pub snapshot_path: String,
    /// Where the memory is.
    pub memory: MemoryBackend,
    /// Track written pages from now on, for [`SaveKind::Diff`].
    pub track_dirty_pages: bool,
    /// Resume it after the load.
    pub resume_vm: bool,
    /// Other TAP devices for its NICs. Since 1.12.0.
    pub network_overrides: Vec<NetworkOverride>,
    /// Another Unix socket for its vsock device. Since 1.16.0.
    pub vsock_override: Option<String>,
    /// Advance its clock by the time since it was saved. Since 1.16.0.
    pub clock_realtime: bool,
    /// The page size of its memory on the host. Since 1.17.0.
    pub huge_pages: LoadHugePages,
}

/// Where the memory of a saved machine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemoryBackend {
    /// In a file, which is mapped and never written.
    File(String),
    /// Served by a page server that listens on this socket.
    Uffd(String),
}

/// Another TAP device for a NIC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetworkOverride {
    /// The NIC's id.
    pub iface_id: String,
    /// The TAP device's name.
    pub host_dev_name: String,
}

/// The page size of restored memory on the host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LoadHugePages {
    /// The page size of the saved machine.
    #[default]
    Snapshot,
    /// This page size.
    Override(HugePages),
}

pub(super) fn create(snapshot: &CreateSnapshot) -> Value {
    let kind = match snapshot.snapshot_type {
        SaveKind::Full => "Full",
        SaveKind::Diff => "Diff",
    };
    json!({
        "snapshot_type": kind,
        "snapshot_path": snapshot.snapshot_path,
        "mem_file_path": snapshot.mem_file_path,
    })
}

/// Contains only what was requested: versions refuse unknown fields.
pub(super) fn load(snapshot: &LoadSnapshot, version: Version) -> Value {
    let (backend, path) = match &snapshot.memory {
        MemoryBackend::File(path) => ("File", path),
        MemoryBackend::Uffd(path) => ("Uffd", path),
    };
    let mut body = json!({
        "snapshot_path": snapshot.snapshot_path,
        "mem_backend": { "backend_type": backend, "backend_path": path },
        "resume_vm": snapshot.resume_vm,
    });
    if snapshot.track_dirty_pages {
        let newer = version >= Feature::TrackOnLoad.since();
        body[if newer { "track_dirty_pages" } else { "enable_diff_snapshots" }] = true.into();
    }
    if !snapshot.network_overrides.is_empty() {
        body["network_overrides"] = json!(snapshot.network_overrides);
    }
    if let Some(socket) = &snapshot.vsock_override {
        body["vsock_override"] = json!({ "uds_path": socket });
    }
    if snapshot.clock_realtime {
        body["clock_realtime"] = true.into();
    }
    if let LoadHugePages::Override(pages) = snapshot.huge_pages {
        body["huge_pages"] = json!(pages);
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(track_dirty_pages: bool) -> LoadSnapshot {
        LoadSnapshot {
            snapshot_path: "s".into(),
            memory: MemoryBackend::File("m".into()),
            track_dirty_pages,
            resume_vm: false,
            network_overrides: Vec::new(),
            vsock_override: None,
            clock_realtime: false,
            huge_pages: LoadHugePages::Snapshot,
        }
    }

    #[test]
    fn a_load_has_no_field_that_an_old_version_refuses() {
        let plain = json!({ "snapshot_path": "s", "resume_vm": false,
                            "mem_backend": { "backend_type": "File", "backend_path": "m" } });
        assert_eq!(load(&snapshot(false), Version::new(1, 10, 0)), plain);
        assert_eq!(load(&snapshot(true), Version::new(1, 12, 9))["enable_diff_snapshots"], true);
        let newer = load(&snapshot(true), Version::new(1, 13, 0));
        assert_eq!(newer["track_dirty_pages"], true);
        assert!(newer.get("enable_diff_snapshots").is_none());
    }
}
