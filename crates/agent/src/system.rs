//! A whole system: its root is a filesystem of the machine's disk, and its init is PID 1. The agent goes on beside it, with
//! mounts of its own, and reaches the system as it reaches a container.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use mimeo_agent_protocol::link::Stream;
use mimeo_agent_protocol::message::{Disk, Failure, FailureKind, Process, Reply, System};
use rustix::io::Errno;
use rustix::mount::MountFlags;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::attachment::{Attachment, Inputs};
use crate::console::log;
use crate::failure::{Context, SystemError, failure};
use crate::launch::Namespaces;
use crate::machine::{Container, ContainerPrivileges, Machine, State};
use crate::rootfs::ROOT;
use crate::streams::{AgentEnds, Streams};
use crate::{boot, cgroup, disk, signal};

/// The filesystem of the disk from which cloud-init takes its seed. The system's own modules may be of another kernel.
const SEED_MODULE: &str = "vfat";
/// Timeout until the kernel has found a disk's partitions.
const PARTITION_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Mounts the system's root.
pub(crate) fn mount_root(disk: &Disk, system: &System) -> Result<(), SystemError> {
    for directory in ["/run/mimeo", ROOT] {
        boot::create_directory(directory)?;
    }
    let device = disk::wait_for_device(disk)?;
    let device = match system.partition {
        Some(number) => wait_for_partition(&device, number)?,
        None => device,
    };
    rustix::mount::mount(&device, ROOT, &*disk.filesystem, MountFlags::RELATIME, c"").context(format!(
        "mount the system's root ({}, {})",
        device.display(),
        disk.filesystem
    ))
}

/// Waits for a partition of a disk. The kernel has looked for them when it found the disk, and that may have been another disk,
/// if the guest was restored.
fn wait_for_partition(disk: &Path, number: u32) -> Result<PathBuf, SystemError> {
    let partition = PathBuf::from(format!("{}{number}", disk.display()));
    let end = Instant::now() + PARTITION_TIMEOUT;
    disk::read_partitions(disk)?;
    while !partition.exists() {
        if Instant::now() > end {
            return Err(SystemError::new(
                format!("find the partition {}", partition.display()),
                Errno::NODEV,
            ));
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    Ok(partition)
}

/// Starts the system's init as PID 1. The stream stays open as long as the machine runs.
pub(crate) async fn start(machine: &Arc<Machine>, process: &Process, stream: Stream) {
    match start_init(machine, process).await {
        Ok((system, inputs)) => {
            stream.sender.message(&Reply::Started { pid: system.inner_pid });
            system.attachment.attach(stream);
            let target = system.clone();
            let on_signal = move |number| {
                if let Err(failed) = signal::signal_container(&target, number) {
                    log(&format!("signal {number}: {failed}"));
                }
            };
            // Its output is on the console.
            drop(Streams::run(AgentEnds::none(), &system.attachment, inputs, on_signal, |_| {}));
        }
        Err(failed) => {
            log(&format!("cannot start the system: {failed}"));
            stream.sender.message(&Reply::Failed(failed));
        }
    }
}

async fn start_init(machine: &Arc<Machine>, process: &Process) -> Result<(Arc<Container>, Inputs), Failure> {
    let init = process.args.first().ok_or_else(|| failure(FailureKind::Invalid, "the system has no init"))?;
    machine.modules.load_on_demand(SEED_MODULE)?;
    // systemd takes all processes of the root group into a group of its own.
    cgroup::leave_root()?;
    machine.pid_one.become_init(init).await?;
    let pidfd = pidfd_open(Pid::INIT, PidfdFlags::empty()).context("open the system's init")?;
    let Namespaces { mount_ns, uts_ns } = Namespaces::open(Pid::INIT.as_raw_nonzero().get())?;
    let (attachment, inputs) = Attachment::new(machine.frozen_watch());
    let system = Arc::new(Container {
        pid: 1,
        inner_pid: 1,
        pidfd: Arc::new(pidfd),
        mount_ns,
        uts_ns,
        privileges: ContainerPrivileges { granted: None, user: String::new() },
        attachment,
        exit: OnceLock::new(),
        killed_for: Mutex::default(),
    });
    machine.set_state(State::Running(system.clone()));
    log("started the system");
    Ok((system, inputs))
}
