//! A machine: its configuration, whether it runs, and which requests are allowed when.

mod act;
mod drive;
mod load;
mod set;

use std::fs::File;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::emulation::{Emulation, Hardware};
use crate::imitation::Imitation;
use crate::memory::GuestMemory;
use crate::request::MachineRequest;
use crate::schema::{
    Action, Balloon, BootSource, Drive, MachineConfig, NetworkInterface, VmState, VsockDevice,
};
use crate::settings::{Guest, Settings};
use crate::version;
use crate::vsock::Vsock;

const POST_BOOT: &str = "The requested operation is not supported after starting the microVM.";
const PRE_BOOT: &str = "The requested operation is not supported before starting the microVM.";

/// The configuration of a machine. A saved state holds all of it except the boot source.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Config {
    machine: MachineConfig,
    #[serde(skip)]
    boot: Option<BootSource>,
    drives: Vec<Drive>,
    /// The key in saved states keeps its first name.
    #[serde(rename = "cards")]
    interfaces: Vec<NetworkInterface>,
    vsock: Option<VsockDevice>,
    entropy: bool,
    balloon: Option<Balloon>,
}

/// The machine.
#[derive(Debug)]
pub(crate) struct Machine {
    id: String,
    settings: Settings,
    config: Config,
    /// Part of the configuration was set, so no snapshot can be loaded.
    is_configured: bool,
    metrics: bool,
    mmds: Option<Value>,
    vsock: Option<Vsock>,
    taps: Vec<File>,
    running: Option<Running>,
    /// The exit status of the process, which exits after the current response.
    exit_status: Option<u8>,
}

/// A started guest.
#[derive(Debug)]
enum Running {
    Imitated {
        memory: Arc<GuestMemory>,
        guest: Imitation,
    },
    Emulated {
        guest: Emulation,
        /// Keeps the memory of the page server's client alive, as a real VMM does.
        #[allow(dead_code, reason = "kept for its drop")]
        fetched: Option<GuestMemory>,
    },
}

impl Running {
    fn is_running(&self) -> bool {
        match self {
            Self::Imitated { guest, .. } => guest.is_running(),
            Self::Emulated { guest, .. } => guest.is_running(),
        }
    }

    fn set_running(&mut self, is_running: bool) -> Answer {
        match self {
            Self::Imitated { guest, .. } => guest.set_running(is_running),
            Self::Emulated { guest, .. } => {
                guest.set_running(is_running).map_err(|error| format!("the emulated guest: {error}"))?
            }
        }
        DONE
    }
}

/// The temporary file of an emulated guest's device state.
const DEVICES: &str = "fake.devices";
/// The file of an emulated guest's memory that was fetched from a page server.
const FETCHED: &str = "fake.given";

type Answer = Result<Option<Value>, String>;

const DONE: Answer = Ok(None);

impl Machine {
    pub(crate) fn new(id: String, settings: Settings) -> Self {
        let machine = MachineConfig {
            vcpu_count: 1,
            mem_size_mib: 128,
            smt: false,
            cpu_template: None,
            track_dirty_pages: false,
            huge_pages: Default::default(),
        };
        let config = Config {
            machine,
            boot: None,
            drives: Vec::new(),
            interfaces: Vec::new(),
            vsock: None,
            entropy: false,
            balloon: None,
        };
        Self {
            id,
            settings,
            config,
            is_configured: false,
            metrics: false,
            mmds: None,
            vsock: None,
            taps: Vec::new(),
            running: None,
            exit_status: None,
        }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The exit status if the process must exit now.
    pub(crate) fn exit_status(&self) -> Option<u8> {
        self.exit_status
    }

    pub(crate) fn handle(&mut self, request: MachineRequest) -> Answer {
        match request {
            MachineRequest::Version => Ok(Some(json!({ "firecracker_version": self.settings.version }))),
            MachineRequest::Instance => Ok(Some(self.describe())),
            MachineRequest::Machine => Ok(Some(json!(self.config.machine))),
            MachineRequest::Settings => Ok(Some(self.describe_settings())),
            MachineRequest::Balloon => match &self.config.balloon {
                Some(balloon) => Ok(Some(json!(balloon))),
                None => Err("Balloon config error: No balloon device found.".to_owned()),
            },
            MachineRequest::Mmds => Ok(Some(self.mmds.clone().unwrap_or_else(|| json!({})))),
            MachineRequest::SetMmds(value) => self.set_mmds(value),
            MachineRequest::MergeMmds(value) => self.merge_mmds(value),
            MachineRequest::Act(action) => self.perform(action.action_type),
            request if self.running.is_some() => self.handle_after_start(request),
            request => self.handle_before_start(request),
        }
    }

    fn handle_before_start(&mut self, request: MachineRequest) -> Answer {
        match request {
            MachineRequest::SetLogger(logger) => {
                let open = |path: &String| open_log(path, &self.settings.version);
                match logger.log_path.as_ref().map(open) {
                    Some(Err(error)) => Err(format!("Logger error: Failed to open target file: {error}")),
                    _ => DONE,
                }
            }
            MachineRequest::SetMetrics(metrics) => self.set_metrics(&metrics.metrics_path),
            MachineRequest::Load(load, backend) => self.load(&load, &backend).inspect_err(|_| {
                // A failed load leaves no usable machine.
                self.exit_status = (!self.is_configured).then_some(1);
            }),
            MachineRequest::ReplaceDrive(_)
            | MachineRequest::LimitInterface(_)
            | MachineRequest::ResizeBalloon
            | MachineRequest::Run(_)
            | MachineRequest::Create(_) => Err(PRE_BOOT.to_owned()),
            setting => {
                self.is_configured = true;
                self.configure(setting)
            }
        }
    }

    fn configure(&mut self, setting: MachineRequest) -> Answer {
        match setting {
            MachineRequest::SetMachine(machine) => self.set_machine(machine),
            MachineRequest::SetBootSource(source) => self.set_boot_source(source),
            MachineRequest::SetDrive(drive) => self.set_drive(drive),
            MachineRequest::SetInterface(interface) => self.set_interface(interface),
            MachineRequest::SetVsock(device) => self.set_vsock(device),
            MachineRequest::SetEntropy => {
                self.config.entropy = true;
                DONE
            }
            MachineRequest::SetBalloon(balloon) => {
                self.config.balloon = Some(balloon);
                DONE
            }
            MachineRequest::SetMmdsConfig(config) => self.set_mmds_config(&config.network_interfaces),
            other => Err(format!("the fake does not support this request here: {other:?}")),
        }
    }

    fn handle_after_start(&mut self, request: MachineRequest) -> Answer {
        let Some(running) = &mut self.running else { return Err(PRE_BOOT.to_owned()) };
        match request {
            MachineRequest::Run(vm) => {
                running.set_running(vm.state == VmState::Resumed)?;
                self.vsock.iter().for_each(|vsock| vsock.set_running(vm.state == VmState::Resumed));
                DONE
            }
            MachineRequest::Create(create) => self.create(&create),
            MachineRequest::ReplaceDrive(update) => self.replace_drive(&update),
            MachineRequest::LimitInterface(update)
                if self.config.interfaces.iter().any(|interface| interface.iface_id == update.iface_id) =>
            {
                DONE
            }
            MachineRequest::LimitInterface(_) => {
                Err("Network config error: Unable to update the net device: Failed \
                                        perform action on device: Device not found"
                    .to_owned())
            }
            MachineRequest::ResizeBalloon if self.config.balloon.is_none() => {
                Err("Balloon update error: Failed perform action on device: Device not found".to_owned())
            }
            // The guest has no balloon driver.
            MachineRequest::ResizeBalloon => {
                Err("Balloon update error: Balloon: Device not activated yet.".to_owned())
            }
            MachineRequest::SetDrive(_) | MachineRequest::SetInterface(_) => {
                Err("PCI is not enabled".to_owned())
            }
            _ => Err(POST_BOOT.to_owned()),
        }
    }

    fn perform(&mut self, action: Action) -> Answer {
        match (action, self.running.is_some()) {
            (Action::InstanceStart, false) => self.start(),
            (Action::InstanceStart, true) => Err(POST_BOOT.to_owned()),
            (_, false) => Err(PRE_BOOT.to_owned()),
            // The guest has no keyboard driver.
            (Action::FlushMetrics | Action::SendCtrlAltDel, true) => DONE,
        }
    }
}

/// The virtual hardware.
impl Machine {
    fn is_emulated(&self) -> bool {
        self.settings.guest == Guest::Emulated
    }

    fn hardware<'a>(config: &'a Config, taps: &'a [File]) -> Hardware<'a> {
        let MachineConfig { vcpu_count, mem_size_mib, track_dirty_pages: tracked, .. } = config.machine;
        Hardware {
            cpus: vcpu_count.into(),
            mib: mem_size_mib,
            drives: &config.drives,
            interfaces: &config.interfaces,
            taps,
            tracked,
        }
    }
}

/// Descriptions.
impl Machine {
    fn describe(&self) -> Value {
        let state = match &self.running {
            None => "Not started",
            Some(running) if running.is_running() => "Running",
            Some(_) => "Paused",
        };
        json!({ "id": self.id, "state": state, "vmm_version": self.settings.version,
                "app_name": "Firecracker" })
    }

    fn describe_settings(&self) -> Value {
        let Config { machine, boot, drives, interfaces, vsock, balloon, .. } = &self.config;
        json!({ "machine-config": machine, "boot-source": boot, "drives": drives, "balloon": balloon,
                "network-interfaces": interfaces, "vsock": vsock })
    }
}

/// Opens a log file for appending.
pub(crate) fn open_log(path: &str, version: &str) -> std::io::Result<File> {
    File::options().append(true).create(version::creates_files(version)).open(path)
}
