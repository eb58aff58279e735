//! Disk files.

use std::fs::File;

use super::{Answer, DONE, Machine};
use crate::schema::{Drive, DriveUpdate};

impl Machine {
    pub(super) fn replace_drive(&mut self, update: &DriveUpdate) -> Answer {
        let failed = |why: String| {
            format!(
                "Drive config error: Unable to patch the block device: {why} Please verify the request \
                 arguments."
            )
        };
        let drive = self.config.drives.iter_mut().find(|drive| drive.drive_id == update.drive_id);
        let drive =
            drive.ok_or_else(|| failed("Failed perform action on device: Device not found".to_owned()))?;
        if let Some(path) = &update.path_on_host {
            open_file(path, drive.is_read_only.unwrap_or_default())
                .map_err(|why| failed(format!("Block: {why}")))?;
            drive.path_on_host = Some(path.clone());
        }
        DONE
    }
}

pub(super) fn open_drive(drive: &Drive) -> Result<File, String> {
    let (Some(path), Some(read_only)) = (&drive.path_on_host, drive.is_read_only) else {
        return Err("Invalid block config.".to_owned());
    };
    open_file(path, read_only)
}

pub(super) fn open_file(path: &str, read_only: bool) -> Result<File, String> {
    File::options()
        .read(true)
        .write(!read_only)
        .open(path)
        .map_err(|error| format!("Virtio backend error: Error manipulating the backing file: {error} {path}"))
}
