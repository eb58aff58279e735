//! A named volume in JSON, with podman's fields and mimeo's own `Size` and `DiskUsage`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use mimeo_engine::Engine;
use mimeo_engine::volumes::Volume;
use serde::Serialize;
use serde_json::{Value, json};

use super::VolumeUsers;
use crate::commands::run::volumes::LOCAL_DRIVER;
use crate::error::CliError;
use crate::view;

/// One volume.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Row {
    name: String,
    driver: &'static str,
    /// The directory with the volume's disk: the host does not mount it.
    mountpoint: PathBuf,
    created_at: Timestamp,
    labels: BTreeMap<String, String>,
    scope: &'static str,
    options: BTreeMap<String, String>,
    /// The number of machines that have it mounted now.
    mount_count: usize,
    /// Whether its first user gives it the image's content, and that directory's owner.
    needs_copy_up: bool,
    needs_chown: bool,
    /// Bytes of its filesystem.
    size: u64,
    /// Bytes of the host's disk that it occupies.
    disk_usage: u64,
}

impl Row {
    pub(crate) fn new(engine: &Engine, volume: &Volume, users: &VolumeUsers) -> Self {
        let volumes = engine.volumes();
        let is_new = !volumes.has_disk(&volume.name);
        Self {
            name: volume.name.to_string(),
            driver: LOCAL_DRIVER,
            mountpoint: volumes.dir(&volume.name),
            created_at: volume.created,
            labels: volume.labels.clone(),
            scope: "local",
            options: volume.options.clone(),
            mount_count: users.count_live(&volume.name),
            needs_copy_up: is_new,
            needs_chown: is_new,
            size: volume.bytes,
            disk_usage: volumes.disk_usage(&volume.name),
        }
    }

    /// The fields for `--format`: those of the JSON, and podman's that are always the same.
    pub(crate) fn fields(&self) -> Result<Value, CliError> {
        let mut value = serde_json::to_value(self)?;
        value["CreatedAt"] = json!(view::go_time(self.created_at));
        value["Anonymous"] = json!(false);
        value["UID"] = json!(0);
        value["GID"] = json!(0);
        Ok(value)
    }
}
