//! `configure`: sets the machine's names and clock, and sets up its network and disks.

use std::sync::Arc;

use mimeo_agent_protocol::message::{Configure, Failure, FailureKind, Reply, System};
use rustix::time::{ClockId, Timespec, clock_settime};

use crate::blocking::run_blocking;
use crate::console::log;
use crate::failure::{Context, SystemError, failure, wrong_state};
use crate::machine::{Configured, Machine, State};
use crate::{cgroup, identify, metadata, network, rootfs, sysctl, system};

const SECOND: u64 = 1_000_000_000;

/// Configures the guest as this machine.
pub(crate) async fn handle(machine: &Arc<Machine>, configure: Configure) -> Result<Reply, Failure> {
    let _setup_guard = machine.setup_lock.lock().await;
    if !matches!(machine.state(), State::Booted) {
        return Err(wrong_state("the machine is already configured"));
    }
    if let Some(entropy) = &configure.entropy {
        identify::reseed(entropy)?;
    }
    set_clock(configure.unix_nanos)?;
    machine.modules_loaded().await?;
    machine.set_hostname(&configure.hostname);
    let is_system = configure.system.is_some();
    let read_only = configure.writable.is_none() || configure.setup.read_only;
    let sysctls = run_blocking(move || {
        if let Some(system) = &configure.system {
            set_up_system(&configure, system)?;
            return Ok(sysctl::Settings::default());
        }
        write_metadata(&configure)?;
        set_up_container(&configure)?;
        sysctl::apply(&configure.setup)
    })
    .await?;
    log(&format!("configured as {}", machine.hostname()));
    machine.set_state(State::Configured(Configured { is_system, read_only, sysctls }));
    Ok(Reply::Done)
}

/// Writes the metadata that the container finds in /run/mimeo.
fn write_metadata(configure: &Configure) -> Result<(), Failure> {
    metadata::prepare()?;
    match &configure.vm_generation {
        Some(uuid) => metadata::write_vm_generation(uuid)?,
        // A host that sends no VM generation starts no clones.
        None => metadata::write_vm_generation(rootfs::managed::random_uuid()?.trim())?,
    }
    metadata::write_environment(&configure.env)
}

/// Sets up what a whole system finds when it starts. It configures everything else itself.
fn set_up_system(configure: &Configure, system: &System) -> Result<(), Failure> {
    let disk = configure.writable.as_ref();
    let disk = disk.ok_or_else(|| failure(FailureKind::Invalid, "the system has no disk"))?;
    rustix::system::sethostname(configure.hostname.as_bytes()).context("set the host name")?;
    network::up(configure.interface.as_ref())?;
    cgroup::prepare()?;
    Ok(system::mount_root(disk, system)?)
}

fn set_up_container(configure: &Configure) -> Result<(), SystemError> {
    rustix::system::sethostname(configure.hostname.as_bytes()).context("set the host name")?;
    network::up(configure.interface.as_ref())?;
    cgroup::prepare()?;
    cgroup::limit(&configure.setup)?;
    rootfs::prepare(configure)
}

/// Sets the wall clock.
pub(crate) fn set_clock(unix_nanos: u64) -> Result<(), Failure> {
    let time = Timespec { tv_sec: (unix_nanos / SECOND) as i64, tv_nsec: (unix_nanos % SECOND) as _ };
    Ok(clock_settime(ClockId::Realtime, time).context("set the clock")?)
}
