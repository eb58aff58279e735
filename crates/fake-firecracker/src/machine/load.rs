//! Loading a snapshot.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::drive::open_drive;
use super::{Answer, Config, DEVICES, DONE, FETCHED, Machine, Running};
use crate::emulation::{Emulation, Origin};
use crate::imitation::Imitation;
use crate::memory::GuestMemory;
use crate::schema::{Backend, BackendType, Load};
use crate::state::State;
use crate::tap;

const RESTORE: &str = "Load snapshot error: Failed to restore from snapshot:";

impl Machine {
    pub(super) fn load(&mut self, load: &Load, backend: &Backend) -> Answer {
        if self.is_configured {
            return Err("Load snapshot error: Loading a microVM snapshot not allowed after configuring \
                        boot-specific resources."
                .to_owned());
        }
        self.restore(load, backend).map_err(|why| format!("{RESTORE} {why}"))?;
        DONE
    }

    pub(super) fn restore(&mut self, load: &Load, backend: &Backend) -> Result<(), String> {
        let from_file = |why: String| format!("Failed to get snapshot state from file: {why}");
        let state = State::load(Path::new(&load.snapshot_path), &self.settings.version).map_err(from_file)?;
        let State { mut config, memory_digest: digest, devices, .. } = state;
        apply_overrides(&mut config, load).map_err(from_file)?;
        let imitated = match self.is_emulated() {
            true => None,
            false => Some(self.load_memory(backend, &config, digest)?),
        };
        let build = |why: String| format!("Failed to build microVM from snapshot: {why}");
        for drive in &config.drives {
            open_drive(drive).map_err(|why| build(format!("Failed to restore devices: Block: {why}")))?;
        }
        for interface in &config.interfaces {
            self.taps.push(tap::open(&interface.host_dev_name).map_err(build)?);
        }
        if let Some(device) = config.vsock.clone() {
            self.set_vsock(device).map_err(build)?;
        }
        config.machine.track_dirty_pages = load.track_dirty_pages || load.enable_diff_snapshots;
        let mut running = match imitated {
            Some(memory) => {
                let memory = Arc::new(memory);
                let guest = Imitation::paused(memory.clone());
                Running::Imitated { memory, guest }
            }
            None => self.emulate(&config, backend, &devices).map_err(build)?,
        };
        if load.resume_vm {
            running.set_running(true)?;
        }
        self.vsock.iter().for_each(|vsock| vsock.set_running(load.resume_vm));
        config.vsock = self.config.vsock.take();
        self.config = config;
        self.running = Some(running);
        Ok(())
    }

    fn load_memory(&self, backend: &Backend, config: &Config, digest: u64) -> Result<GuestMemory, String> {
        let memory = load_memory(backend, config.machine.mem_size_mib, &self.settings.version)
            .map_err(|why| format!("Failed to load guest memory: {why}"))?;
        // Firecracker itself would accept any bytes.
        if memory.digest() != digest {
            return Err("the fake detected that this is not the memory that was saved".to_owned());
        }
        Ok(memory)
    }

    fn emulate(&self, config: &Config, backend: &Backend, devices: &[u8]) -> Result<Running, String> {
        let fetched = match backend.backend_type {
            BackendType::File => None,
            BackendType::Uffd => Some(self.fetch(config, backend)?),
        };
        let memory = if fetched.is_some() { FETCHED } else { &backend.backend_path };
        let file = Path::new(DEVICES);
        let started = std::fs::write(file, devices).and_then(|()| {
            let origin = Origin::Saved { devices: file, memory: Path::new(memory) };
            Emulation::start(Self::hardware(config, &self.taps), origin)
        });
        std::fs::remove_file(file).map_err(|error| error.to_string())?;
        let guest = started.map_err(|error| error.to_string())?;
        Ok(Running::Emulated { guest, fetched })
    }

    /// Fetches every page from the page server, since QEMU cannot use one.
    fn fetch(&self, config: &Config, backend: &Backend) -> Result<GuestMemory, String> {
        let memory = load_memory(backend, config.machine.mem_size_mib, &self.settings.version)?;
        let file = File::options().write(true).create(true).truncate(true).open(FETCHED);
        let saved = file.and_then(|file| memory.save(&file, false));
        saved.map_err(|error| format!("{FETCHED}: {error}"))?;
        Ok(memory)
    }
}

fn apply_overrides(config: &mut Config, load: &Load) -> Result<(), String> {
    for replacement in &load.network_overrides {
        let interface =
            config.interfaces.iter_mut().find(|interface| interface.iface_id == replacement.iface_id);
        interface.ok_or("Unknown Network Device.")?.host_dev_name.clone_from(&replacement.host_dev_name);
    }
    if let Some(replacement) = &load.vsock_override {
        let device = config.vsock.as_mut().ok_or("Unknown Vsock Device.")?;
        device.uds_path.clone_from(&replacement.uds_path);
    }
    Ok(())
}

fn load_memory(backend: &Backend, mib: usize, version: &str) -> Result<GuestMemory, String> {
    let path = Path::new(&backend.backend_path);
    match backend.backend_type {
        BackendType::File => {
            let failed = |why: String| format!("Error creating guest memory from file: {why}");
            let file =
                File::open(path).map_err(|error| failed(format!("Failed to load guest memory: {error}")))?;
            let length = file.metadata().map_err(|error| failed(error.to_string()))?.len();
            if length < (mib as u64) << 20 {
                return Err(failed("Failed to restore guest memory: Offset too large".to_owned()));
            }
            GuestMemory::from_file(&file, mib).map_err(|error| failed(error.to_string()))
        }
        BackendType::Uffd => GuestMemory::from_server(path, mib, version).map_err(|error| {
            format!("Error creating guest memory from uffd: Failed to connect to UDS Unix stream: {error}")
        }),
    }
}
