//! The agent's state of its machine.

use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, Once, OnceLock, PoisonError};

use mimeo_agent_protocol::Capabilities;
use mimeo_agent_protocol::message::{ExitStatus, Failure, Identity, Privileges, Process};
use tokio::sync::watch;

use crate::attachment::Attachment;
use crate::blocking::ContainerRoot;
use crate::console::log;
use crate::failure::{chain, wrong_state};
use crate::modules::Modules;
use crate::pid_one::PidOne;
use crate::reaper::Reaper;
use crate::{sysctl, virtio};

/// Virtio device id of a balloon, as sysfs writes it.
const BALLOON: &str = "0x0005";
/// The balloon's driver.
const BALLOON_MODULE: &str = "virtio_balloon";

/// The machine and its container.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) modules: Modules,
    pub(crate) reaper: Reaper,
    pub(crate) pid_one: PidOne,
    /// Serialises the requests that change the machine, in the order of their
    /// arrival: the host can send the next one before the previous is done.
    pub(crate) setup_lock: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    hostname: Mutex<String>,
    /// The VM generation of the clone whose SSH keys were generated last.
    ssh_keys_generation: Mutex<Option<String>>,
    /// The identity that was applied since the workload was frozen.
    applied_identity: Mutex<Option<AppliedIdentity>>,
    /// Whether the workload is frozen.
    frozen: Arc<watch::Sender<bool>>,
    /// `prepare` has done the slow part of a freeze.
    pub(crate) prepared: AtomicBool,
    modules_once: Once,
    modules_loaded: watch::Sender<Option<Result<(), Failure>>>,
}

/// An identity that was applied, and the hooks that the image provides.
#[derive(Debug, Clone)]
pub(crate) struct AppliedIdentity {
    pub(crate) identity: Identity,
    pub(crate) hooks: Vec<String>,
}

/// The machine's life cycle.
#[derive(Debug, Clone)]
pub(crate) enum State {
    /// The machine is not configured.
    Booted,
    /// The machine has its name and disks, and no container.
    Configured(Configured),
    /// The container runs.
    Running(Arc<Container>),
    /// The container has ended; its files are still accessible.
    Ended(Arc<Container>),
}

/// A configured machine.
#[derive(Debug, Clone)]
pub(crate) struct Configured {
    /// The machine runs a whole system instead of a container.
    pub(crate) is_system: bool,
    /// The container's root is read-only.
    pub(crate) read_only: bool,
    /// The kernel settings of the container's IPC namespace.
    pub(crate) sysctls: sysctl::Settings,
}

/// The container's own process, or a whole system's init.
#[derive(Debug)]
pub(crate) struct Container {
    /// Its PID in the agent's namespace.
    pub(crate) pid: i32,
    /// Its PID in its own namespace.
    pub(crate) inner_pid: u32,
    pub(crate) pidfd: Arc<OwnedFd>,
    /// Its mount namespace, which outlives it.
    pub(crate) mount_ns: Arc<OwnedFd>,
    /// Its UTS namespace, which outlives it.
    pub(crate) uts_ns: Arc<OwnedFd>,
    /// What its processes may do, and the user that it was started for.
    pub(crate) privileges: ContainerPrivileges,
    /// The host's stream that its output and input are attached to.
    pub(crate) attachment: Arc<Attachment>,
    /// Its exit status, set after all of its output was read.
    pub(crate) exit: OnceLock<ExitStatus>,
    /// The signal in whose place the agent sent SIGKILL.
    pub(crate) killed_for: Mutex<Option<i32>>,
}

impl Machine {
    pub(crate) fn new(modules: Modules, pid_one: PidOne) -> Arc<Self> {
        Arc::new(Self {
            modules,
            reaper: Reaper::default(),
            pid_one,
            setup_lock: tokio::sync::Mutex::default(),
            state: Mutex::new(State::Booted),
            hostname: Mutex::default(),
            ssh_keys_generation: Mutex::default(),
            applied_identity: Mutex::default(),
            frozen: Arc::default(),
            prepared: AtomicBool::default(),
            modules_once: Once::new(),
            modules_loaded: watch::Sender::new(None),
        })
    }

    pub(crate) fn state(&self) -> State {
        self.lock().clone()
    }

    pub(crate) fn set_state(&self, state: State) {
        *self.lock() = state;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine's host name, which new processes get as HOSTNAME.
    pub(crate) fn hostname(&self) -> String {
        self.hostname.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_hostname(&self, hostname: &str) {
        hostname.clone_into(&mut self.hostname.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The VM generation of the clone whose SSH keys were generated last.
    pub(crate) fn ssh_keys_generation(&self) -> MutexGuard<'_, Option<String>> {
        self.ssh_keys_generation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The identity that was applied since the workload was frozen.
    pub(crate) fn applied_identity(&self) -> MutexGuard<'_, Option<AppliedIdentity>> {
        self.applied_identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches whether the workload is frozen.
    pub(crate) fn frozen_watch(&self) -> Arc<watch::Sender<bool>> {
        self.frozen.clone()
    }

    pub(crate) fn is_frozen(&self) -> bool {
        *self.frozen.borrow()
    }

    pub(crate) fn set_frozen(&self, frozen: bool) {
        // A running workload may change what the identity set.
        self.applied_identity().take();
        self.frozen.send_replace(frozen);
    }

    /// Waits until the workload is not frozen.
    pub(crate) async fn wait_until_thawed(&self) {
        // This fails only when the machine is dropped, and it outlives every request.
        self.frozen.subscribe().wait_for(|frozen| !frozen).await.ok();
    }

    /// Whether the container was started. It may have ended since.
    pub(crate) fn has_started(&self) -> bool {
        matches!(self.state(), State::Running(_) | State::Ended(_))
    }

    /// Whether the workload is a whole system.
    pub(crate) fn is_system(&self) -> bool {
        match self.state() {
            State::Configured(configured) => configured.is_system,
            State::Running(container) | State::Ended(container) => container.is_system(),
            State::Booted => false,
        }
    }

    /// Detaches the container from the streams of a session that is over.
    pub(crate) fn end_session(&self) {
        if let State::Running(container) | State::Ended(container) = self.state() {
            container.attachment.end_session();
        }
    }

    /// The container, if it runs.
    pub(crate) fn container(&self) -> Result<Arc<Container>, Failure> {
        match self.state() {
            State::Running(container) => Ok(container),
            State::Booted | State::Configured(_) => Err(wrong_state("the container has not been started")),
            State::Ended(_) => Err(wrong_state("the container has ended")),
        }
    }

    /// How a thread enters the container's root.
    pub(crate) fn container_root(&self) -> Result<ContainerRoot, Failure> {
        match self.state() {
            State::Running(container) | State::Ended(container) => {
                Ok(ContainerRoot::MountNamespace(container.mount_ns.clone()))
            }
            State::Configured(_) => Ok(ContainerRoot::Chroot),
            State::Booted => Err(wrong_state("the machine has not been configured")),
        }
    }

    /// Loads the remaining eager modules, in parallel to the first session.
    pub(crate) fn load_modules_once(self: &Arc<Self>) {
        self.modules_once.call_once(|| {
            let machine = self.clone();
            std::thread::spawn(move || {
                let eager = machine.modules.eager();
                let result = eager.and_then(|files| files.iter().try_for_each(|f| machine.modules.load(f)));
                if let Err(error) = &result {
                    log(&chain(error));
                }
                machine.modules_loaded.send_replace(Some(result.map_err(Failure::from)));
                // Loaded last, since no start needs the balloon: the host reclaims memory later.
                let result = if virtio::has_device(BALLOON) {
                    machine.modules.load_on_demand(BALLOON_MODULE)
                } else {
                    Ok(())
                };
                if let Err(error) = &result {
                    log(&chain(error));
                }
            });
        });
    }

    /// Waits until all eager modules are loaded.
    pub(crate) async fn modules_loaded(&self) -> Result<(), Failure> {
        let mut result = self.modules_loaded.subscribe();
        match result.wait_for(Option::is_some).await {
            Ok(result) => result.clone().unwrap_or(Ok(())),
            Err(_) => Err(crate::blocking::lost_request()),
        }
    }
}

/// What the processes of a container may do.
#[derive(Debug, Clone)]
pub(crate) struct ContainerPrivileges {
    /// As the host gave it at the start. `None`: everything.
    pub(crate) granted: Option<Privileges>,
    /// The user of the container's own process, as requested.
    pub(crate) user: String,
}

impl ContainerPrivileges {
    /// The privileges of a later process. Another user than the container's has neither its additional groups
    /// nor its ambient capabilities, as with podman.
    pub(crate) fn for_process(&self, process: &Process) -> Option<Privileges> {
        let mut privileges = self.granted.clone()?;
        if process.user != self.user {
            privileges.groups.clear();
            privileges.ambient = Capabilities::NONE;
        }
        if process.privileged {
            privileges.bounding = Capabilities::ALL;
        }
        Some(privileges)
    }
}

impl Container {
    /// Whether it is a whole system, whose init is PID 1.
    pub(crate) fn is_system(&self) -> bool {
        self.pid == 1
    }

    pub(crate) fn killed_for(&self) -> MutexGuard<'_, Option<i32>> {
        self.killed_for.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
