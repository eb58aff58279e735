//! What Firecracker's API speaks of, by its own names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::SaveKind;
use crate::firecracker::version::{Feature, Version};

/// What runs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct InstanceInfo {
    /// The name that it was given.
    pub id: String,
    /// How far it is.
    pub state: RunState,
    /// Firecracker's version.
    pub vmm_version: String,
    /// Always `Firecracker`.
    pub app_name: String,
}

/// How far a machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum RunState {
    /// Neither started nor loaded.
    #[serde(rename = "Not started")]
    NotStarted,
    /// Its processors run.
    Running,
    /// Its processors stand still.
    Paused,
}

/// Processors and memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineConfig {
    /// Processors: 1, or an even number up to 32.
    pub vcpu_count: u32,
    /// Memory in MiB.
    pub mem_size_mib: u32,
    /// Two processors are one core's threads.
    #[serde(default)]
    pub smt: bool,
    /// What is written is noted, for [`SaveKind::Diff`].
    #[serde(default)]
    pub track_dirty_pages: bool,
    /// What pages the memory is in.
    #[serde(default, skip_serializing_if = "is_default")]
    pub huge_pages: HugePages,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What pages a memory is in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HugePages {
    /// The host's small ones.
    #[default]
    None,
    /// Large ones if the host has some.
    Transparent,
    /// Of 2 MiB, set aside on the host.
    #[serde(rename = "2M")]
    TwoMib,
}

/// What is booted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BootSource {
    /// The kernel: an ELF file that is not compressed.
    pub kernel_image_path: String,
    /// The first filesystem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initrd_path: Option<String>,
    /// The kernel's command line; none is Firecracker's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_args: Option<String>,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drive {
    /// Its name: letters, digits and underscores. The guest does not see it.
    pub drive_id: String,
    /// The file.
    pub path_on_host: String,
    /// The guest's root: comes first, and is told to the kernel.
    pub is_root_device: bool,
    /// The guest cannot write it.
    pub is_read_only: bool,
    /// How much of it may be used in which time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limiter: Option<RateLimiter>,
}

/// How much may be used in which time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RateLimiter {
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<TokenBucket>,
    /// Operations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ops: Option<TokenBucket>,
}

/// A bucket that is filled again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenBucket {
    /// What it holds: bytes or operations.
    pub size: u64,
    /// What there is once besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_time_burst: Option<u64>,
    /// Milliseconds in which it is filled.
    pub refill_time: u64,
}

/// A network card's limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// Of what the guest gets.
    pub receive: Option<RateLimiter>,
    /// Of what the guest sends.
    pub send: Option<RateLimiter>,
}

/// A network card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetworkInterface {
    /// Its name: letters, digits and underscores. The guest does not see it.
    pub iface_id: String,
    /// The TAP device's name.
    pub host_dev_name: String,
    /// Its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest_mac: Option<String>,
    /// The largest packet in bytes, told to the guest. Since 1.16.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
}

/// The vsock device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Vsock {
    /// The guest's number, from 3.
    pub guest_cid: u32,
    /// The socket on which the host's connections come.
    pub uds_path: String,
}

/// A balloon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balloon {
    /// How large it is to be, in MiB.
    pub amount_mib: u32,
    /// It gives memory back before the guest has none left.
    pub deflate_on_oom: bool,
    /// Seconds between two statistics; 0 is none.
    #[serde(default)]
    pub stats_polling_interval_s: u16,
    /// The guest tells of free pages when asked. Since 1.14.0.
    #[serde(default, skip_serializing_if = "is_default")]
    pub free_page_hinting: bool,
    /// The guest tells of free pages by itself. Since 1.14.0.
    #[serde(default, skip_serializing_if = "is_default")]
    pub free_page_reporting: bool,
}

/// Where Firecracker logs, and what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Logger {
    /// A file or a named pipe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_path: Option<String>,
    /// `Error`, `Warning`, `Info`, `Debug`, `Trace` or `Off`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Lines tell their level.
    pub show_level: bool,
    /// Lines tell where they come from.
    pub show_log_origin: bool,
}

/// Where Firecracker writes its metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Metrics {
    /// A file or a named pipe.
    pub metrics_path: String,
    /// Lines tell the machine's name. Since 1.17.0.
    #[serde(skip_serializing_if = "is_default")]
    pub emit_id: bool,
    /// What lines tell besides. Since 1.17.0.
    #[serde(skip_serializing_if = "is_default")]
    pub properties: BTreeMap<String, String>,
}

/// The metadata service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MmdsConfig {
    /// How it is asked.
    pub version: MmdsVersion,
    /// The cards that answer for it.
    pub network_interfaces: Vec<String>,
    /// Its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4_address: Option<String>,
    /// It answers as plain text always. Since 1.13.0.
    #[serde(skip_serializing_if = "is_default")]
    pub imds_compat: bool,
}

/// How the metadata service is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub enum MmdsVersion {
    /// Without a session.
    V1,
    /// With a session.
    #[default]
    V2,
}

/// A machine that is to be saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateSnapshot {
    /// How much of its memory.
    pub snapshot_type: SaveKind,
    /// The file for its state.
    pub snapshot_path: String,
    /// The file for its memory.
    pub mem_file_path: String,
}

/// A machine that was saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadSnapshot {
    /// The file with its state.
    pub snapshot_path: String,
    /// Where its memory is.
    pub memory: MemoryBackend,
    /// What is written from now on is noted, for [`SaveKind::Diff`].
    pub track_dirty_pages: bool,
    /// It runs at once.
    pub resume_vm: bool,
    /// Other TAP devices for its cards. Since 1.12.0.
    pub network_overrides: Vec<NetworkOverride>,
    /// Another socket for its vsock device. Since 1.16.0.
    pub vsock_override: Option<String>,
    /// Its clock goes on as if it had run meanwhile. Since 1.16.0.
    pub clock_realtime: bool,
    /// What pages its memory is in. Since 1.17.0.
    pub huge_pages: LoadHugePages,
}

/// Where a saved memory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemoryBackend {
    /// In a file that is mapped and never written.
    File(String),
    /// With a page server that listens on this socket.
    Uffd(String),
}

/// Another TAP device for a card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetworkOverride {
    /// The card.
    pub iface_id: String,
    /// The TAP device's name.
    pub host_dev_name: String,
}

/// What pages a restored memory is in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LoadHugePages {
    /// The same as before.
    #[default]
    Snapshot,
    /// These.
    Now(HugePages),
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

/// Only what was asked for: versions refuse words that they do not know.
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
    if let LoadHugePages::Now(pages) = snapshot.huge_pages {
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
