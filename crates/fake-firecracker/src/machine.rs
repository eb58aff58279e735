//! A machine: its configuration, whether it runs, and which requests are allowed when.

mod act;
mod drive;
mod load;
mod set;

use std::fs::File;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::emulation::{Emulation, Parts};
use crate::imitation::Imitation;
use crate::pages::Pages;
use crate::request::Asked;
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
    is_set: bool,
    metrics: bool,
    mmds: Option<Value>,
    vsock: Option<Vsock>,
    taps: Vec<File>,
    running: Option<Running>,
    /// The exit status of the process, which exits after the current response.
    ends: Option<u8>,
}

/// A started guest.
#[derive(Debug)]
enum Running {
    Imitated {
        pages: Arc<Pages>,
        guest: Imitation,
    },
    Emulated {
        guest: Emulation,
        /// Keeps the memory of the page server's client alive, as a real VMM does.
        #[allow(dead_code, reason = "kept for its drop")]
        given: Option<Pages>,
    },
}

impl Running {
    fn runs(&self) -> bool {
        match self {
            Self::Imitated { guest, .. } => guest.runs(),
            Self::Emulated { guest, .. } => guest.runs(),
        }
    }

    fn set(&mut self, runs: bool) -> Answer {
        match self {
            Self::Imitated { guest, .. } => guest.set(runs),
            Self::Emulated { guest, .. } => {
                guest.set(runs).map_err(|error| format!("the emulated guest: {error}"))?
            }
        }
        DONE
    }
}

/// The temporary file of an emulated guest's device state.
const DEVICES: &str = "fake.devices";
/// The file of an emulated guest's memory that was fetched from a page server.
const GIVEN: &str = "fake.given";

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
            is_set: false,
            metrics: false,
            mmds: None,
            vsock: None,
            taps: Vec::new(),
            running: None,
            ends: None,
        }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The exit status if the process must exit now.
    pub(crate) fn ends(&self) -> Option<u8> {
        self.ends
    }

    pub(crate) fn answer(&mut self, asked: Asked) -> Answer {
        match asked {
            Asked::Version => Ok(Some(json!({ "firecracker_version": self.settings.version }))),
            Asked::Instance => Ok(Some(self.describe())),
            Asked::Machine => Ok(Some(json!(self.config.machine))),
            Asked::Settings => Ok(Some(self.tell_settings())),
            Asked::Balloon => match &self.config.balloon {
                Some(balloon) => Ok(Some(json!(balloon))),
                None => Err("Balloon config error: No balloon device found.".to_owned()),
            },
            Asked::Mmds => Ok(Some(self.mmds.clone().unwrap_or_else(|| json!({})))),
            Asked::SetMmds(value) => self.set_mmds(value),
            Asked::MergeMmds(value) => self.merge_mmds(value),
            Asked::Act(act) => self.act(act.action_type),
            asked if self.running.is_some() => self.answer_running(asked),
            asked => self.answer_before(asked),
        }
    }

    fn answer_before(&mut self, asked: Asked) -> Answer {
        match asked {
            Asked::SetLogger(logger) => {
                let open = |path: &String| open_log(path, &self.settings.version);
                match logger.log_path.as_ref().map(open) {
                    Some(Err(error)) => Err(format!("Logger error: Failed to open target file: {error}")),
                    _ => DONE,
                }
            }
            Asked::SetMetrics(metrics) => self.set_metrics(&metrics.metrics_path),
            Asked::Load(load, backend) => self.load(&load, &backend).inspect_err(|_| {
                // A failed load leaves no usable machine.
                self.ends = (!self.is_set).then_some(1);
            }),
            Asked::ReplaceDrive(_)
            | Asked::LimitInterface(_)
            | Asked::ResizeBalloon
            | Asked::Run(_)
            | Asked::Create(_) => Err(PRE_BOOT.to_owned()),
            setting => {
                self.is_set = true;
                self.set(setting)
            }
        }
    }

    fn set(&mut self, setting: Asked) -> Answer {
        match setting {
            Asked::SetMachine(machine) => self.set_machine(machine),
            Asked::SetBootSource(source) => self.set_boot_source(source),
            Asked::SetDrive(drive) => self.set_drive(drive),
            Asked::SetInterface(interface) => self.set_interface(interface),
            Asked::SetVsock(device) => self.set_vsock(device),
            Asked::SetEntropy => {
                self.config.entropy = true;
                DONE
            }
            Asked::SetBalloon(balloon) => {
                self.config.balloon = Some(balloon);
                DONE
            }
            Asked::SetMmdsConfig(config) => self.set_mmds_config(&config.network_interfaces),
            other => Err(format!("the fake does not support this request here: {other:?}")),
        }
    }

    fn answer_running(&mut self, asked: Asked) -> Answer {
        let Some(running) = &mut self.running else { return Err(PRE_BOOT.to_owned()) };
        match asked {
            Asked::Run(vm) => {
                running.set(vm.state == VmState::Resumed)?;
                self.vsock.iter().for_each(|vsock| vsock.set_running(vm.state == VmState::Resumed));
                DONE
            }
            Asked::Create(create) => self.create(&create),
            Asked::ReplaceDrive(update) => self.replace_drive(&update),
            Asked::LimitInterface(update)
                if self.config.interfaces.iter().any(|interface| interface.iface_id == update.iface_id) =>
            {
                DONE
            }
            Asked::LimitInterface(_) => Err("Network config error: Unable to update the net device: Failed \
                                        perform action on device: Device not found"
                .to_owned()),
            Asked::ResizeBalloon if self.config.balloon.is_none() => {
                Err("Balloon update error: Failed perform action on device: Device not found".to_owned())
            }
            // The guest has no balloon driver.
            Asked::ResizeBalloon => {
                Err("Balloon update error: Balloon: Device not activated yet.".to_owned())
            }
            Asked::SetDrive(_) | Asked::SetInterface(_) => Err("PCI is not enabled".to_owned()),
            _ => Err(POST_BOOT.to_owned()),
        }
    }

    fn act(&mut self, action: Action) -> Answer {
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

    fn parts<'a>(config: &'a Config, taps: &'a [File]) -> Parts<'a> {
        let MachineConfig { vcpu_count, mem_size_mib, track_dirty_pages: tracked, .. } = config.machine;
        Parts {
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
            Some(running) if running.runs() => "Running",
            Some(_) => "Paused",
        };
        json!({ "id": self.id, "state": state, "vmm_version": self.settings.version,
                "app_name": "Firecracker" })
    }

    fn tell_settings(&self) -> Value {
        let Config { machine, boot, drives, interfaces, vsock, balloon, .. } = &self.config;
        json!({ "machine-config": machine, "boot-source": boot, "drives": drives, "balloon": balloon,
                "network-interfaces": interfaces, "vsock": vsock })
    }
}

/// Opens a log file for appending.
pub(crate) fn open_log(path: &str, told: &str) -> std::io::Result<File> {
    File::options().append(true).create(version::makes_files(told)).open(path)
}
