//! Starting and saving a machine.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::{Answer, DEVICES, DONE, Machine, PRE_BOOT, Running};
use crate::emulation::{Emulation, Origin};
use crate::guest::resetting_elf;
use crate::imitation::Imitation;
use crate::memory::GuestMemory;
use crate::schema::{Create, SnapshotType};
use crate::state::State;
use crate::version;
use crate::vsock::Vsock;

impl Machine {
    pub(super) fn start(&mut self) -> Answer {
        let failed = |why: String| format!("Start microvm error: {why}");
        let Some(boot) = &self.config.boot else {
            return Err(failed("Cannot start microvm without kernel configuration.".to_owned()));
        };
        check_kernel(&boot.kernel_image_path, &self.settings.version).map_err(failed)?;
        if self.is_emulated() {
            let hardware = Self::hardware(&self.config, &self.taps);
            let guest =
                Emulation::start(hardware, Origin::Boot(boot)).map_err(|error| failed(error.to_string()))?;
            self.vsock.iter().for_each(|vsock| vsock.set_running(true));
            self.running = Some(Running::Emulated { guest, fetched: None });
            return DONE;
        }
        let memory = GuestMemory::zeroed(self.config.machine.mem_size_mib)
            .map_err(|error| failed(format!("Cannot create guest memory: {error}")))?;
        let memory = Arc::new(memory);
        let guest = Imitation::booted(memory.clone());
        if std::fs::read(&boot.kernel_image_path).is_ok_and(|kernel| kernel == resetting_elf()) {
            guest.set_running(false);
            self.exit_status = Some(0);
        }
        self.vsock.iter().for_each(|vsock| vsock.set_running(true));
        self.running = Some(Running::Imitated { memory, guest });
        DONE
    }

    pub(super) fn create(&mut self, create: &Create) -> Answer {
        let failed = |why: String| format!("Create snapshot error: {why}");
        let Some(running) = &mut self.running else { return Err(PRE_BOOT.to_owned()) };
        if running.is_running() {
            return Err(failed(
                "Cannot save the microVM state: Operation not allowed: save/restore unavailable while running"
                    .to_owned(),
            ));
        }
        let diff = create.snapshot_type == SnapshotType::Diff;
        let tracked = self.config.machine.track_dirty_pages;
        if diff && !tracked && !version::diffs_untracked(&self.settings.version) {
            return Err(failed("Cannot get dirty bitmap: No such file or directory (os error 2)".to_owned()));
        }
        // Saving also resets the connections of the guest that is saved.
        self.vsock.iter().for_each(Vsock::reset);
        let digest = match running {
            Running::Imitated { memory, .. } => memory.digest(),
            Running::Emulated { .. } => 0,
        };
        let mut state = State::new(&self.settings.version, self.config.clone(), digest);
        let open_error =
            |kind: &str, error| failed(format!("Cannot perform open on the {kind} backing file: {error}"));
        let opened = File::options().write(true).create(true).truncate(!diff).open(&create.mem_file_path);
        let memory_file = opened.map_err(|error| open_error("memory", error))?;
        let write_error = |error: std::io::Error| failed(format!("Cannot write memory file: {error}"));
        match running {
            Running::Imitated { memory, .. } => {
                memory.save(&memory_file, diff && tracked).map_err(write_error)?
            }
            Running::Emulated { guest, .. } => {
                let devices = Path::new(DEVICES);
                let mib = self.config.machine.mem_size_mib;
                guest.save(devices, &memory_file, mib, diff).map_err(write_error)?;
                state.devices = std::fs::read(devices).map_err(write_error)?;
                std::fs::remove_file(devices).map_err(write_error)?;
            }
        }
        state.save(Path::new(&create.snapshot_path)).map_err(|error| open_error("snapshot", error))?;
        DONE
    }
}

fn check_kernel(path: &str, version: &str) -> Result<(), String> {
    let mut magic = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    let prefix = "System configuration error: Cannot load kernel due to invalid memory configuration or \
                  invalid kernel image: Kernel Loader:";
    match read {
        Ok(()) if magic == *b"\x7fELF" => Ok(()),
        _ if version::boots_compressed(version) => {
            Err(format!("{prefix} failed to load bzImage kernel image: Kernel Loader: Invalid bzImage"))
        }
        _ => {
            Err(format!("{prefix} failed to load ELF kernel image: Kernel Loader: Invalid Elf magic number"))
        }
    }
}
