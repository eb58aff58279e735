//! What the agent knows of its machine.

use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, Once, OnceLock, PoisonError};

use mimeo_agent_protocol::message::{ExitStatus, Failure, Identity};
use tokio::sync::watch;

use crate::attachment::Attachment;
use crate::blocking::ContainerRoot;
use crate::console::log;
use crate::failure::{chain, wrong_state};
use crate::modules::Modules;
use crate::reaper::Reaper;
use crate::virtio;

/// Virtio device id of a balloon, in sysfs' notation.
const BALLOON: &str = "0x0005";
/// Its driver.
const BALLOON_MODULE: &str = "virtio_balloon";

/// The machine and its container.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) modules: Modules,
    pub(crate) reaper: Reaper,
    /// Held by the verbs that build the machine up, in the order of their
    /// arrival: a host need not wait for one before it sends the next.
    pub(crate) setup_lock: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    hostname: Mutex<String>,
    /// The copy that has made SSH keys of its own, by its generation.
    ssh_keys_generation: Mutex<Option<String>>,
    /// What it has become since its workload was stopped.
    applied_identity: Mutex<Option<AppliedIdentity>>,
    /// The workload is held still.
    frozen: Arc<watch::Sender<bool>>,
    /// What a freeze needs has been done.
    pub(crate) prepared: AtomicBool,
    modules_once: Once,
    modules_loaded: watch::Sender<Option<Result<(), Failure>>>,
}

/// An identity that was taken on, and the image's programs that are told of one.
#[derive(Debug, Clone)]
pub(crate) struct AppliedIdentity {
    pub(crate) identity: Identity,
    pub(crate) hooks: Vec<String>,
}

/// How far the machine has come.
#[derive(Debug, Clone)]
pub(crate) enum State {
    /// It has no name yet.
    Booted,
    /// It has its name and disks, and no container.
    Configured(Configured),
    /// Its container runs.
    Running(Arc<Container>),
    /// Its container has ended; the files are still there.
    Ended(Arc<Container>),
}

/// A configured machine.
#[derive(Debug, Clone)]
pub(crate) struct Configured {
    /// The container's root admits no writes.
    pub(crate) read_only: bool,
}

/// The container's own process.
#[derive(Debug)]
pub(crate) struct Container {
    /// Its id in the agent's namespace.
    pub(crate) pid: i32,
    /// Its id in its own.
    pub(crate) inner_pid: u32,
    pub(crate) pidfd: Arc<OwnedFd>,
    /// Its mount namespace, which outlives it.
    pub(crate) mount_ns: Arc<OwnedFd>,
    /// Its namespace of names, which outlives it too.
    pub(crate) uts_ns: Arc<OwnedFd>,
    /// To whom its streams go.
    pub(crate) attachment: Arc<Attachment>,
    /// How it ended, once all of its output has been taken.
    pub(crate) exit: OnceLock<ExitStatus>,
    /// A signal that it was killed in the name of.
    pub(crate) killed_for: Mutex<Option<i32>>,
}

impl Machine {
    pub(crate) fn new(modules: Modules) -> Arc<Self> {
        Arc::new(Self {
            modules,
            reaper: Reaper::default(),
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

    /// The machine's name, as new processes are told it.
    pub(crate) fn hostname(&self) -> String {
        self.hostname.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_hostname(&self, hostname: &str) {
        hostname.clone_into(&mut self.hostname.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Which copy has made SSH keys of its own.
    pub(crate) fn ssh_keys_generation(&self) -> MutexGuard<'_, Option<String>> {
        self.ssh_keys_generation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it has become since its workload was stopped.
    pub(crate) fn applied_identity(&self) -> MutexGuard<'_, Option<AppliedIdentity>> {
        self.applied_identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the workload is held still, for those who need to see it change.
    pub(crate) fn frozen_watch(&self) -> Arc<watch::Sender<bool>> {
        self.frozen.clone()
    }

    pub(crate) fn is_frozen(&self) -> bool {
        *self.frozen.borrow()
    }

    pub(crate) fn set_frozen(&self, frozen: bool) {
        // What runs may change what it is.
        self.applied_identity().take();
        self.frozen.send_replace(frozen);
    }

    /// Waits until the workload is not held still.
    pub(crate) async fn wait_until_thawed(&self) {
        // The machine outlives whoever waits.
        self.frozen.subscribe().wait_for(|frozen| !frozen).await.ok();
    }

    /// Whether the container has been started, and has perhaps ended since.
    pub(crate) fn has_started(&self) -> bool {
        matches!(self.state(), State::Running(_) | State::Ended(_))
    }

    /// A session is over, and with it the container's streams in it.
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

    /// Where the container's files are to be seen.
    pub(crate) fn container_root(&self) -> Result<ContainerRoot, Failure> {
        match self.state() {
            State::Running(container) | State::Ended(container) => {
                Ok(ContainerRoot::MountNamespace(container.mount_ns.clone()))
            }
            State::Configured(_) => Ok(ContainerRoot::Chroot),
            State::Booted => Err(wrong_state("the machine has not been configured")),
        }
    }

    /// Loads the rest of the eager modules, beside the first session.
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
                // No start waits for the balloon: the host may ask for memory at any later time.
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

    /// Waits until all eager modules are in.
    pub(crate) async fn modules_loaded(&self) -> Result<(), Failure> {
        let mut result = self.modules_loaded.subscribe();
        match result.wait_for(Option::is_some).await {
            Ok(result) => result.clone().unwrap_or(Ok(())),
            Err(_) => Err(crate::blocking::lost_request()),
        }
    }
}

impl Container {
    pub(crate) fn killed_for(&self) -> MutexGuard<'_, Option<i32>> {
        self.killed_for.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
