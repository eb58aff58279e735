//! `reset`: after a container has ended, the guest is nobody's again.
//!
//! For a rehearsal: a guest that has gone once through all that its first work will be
//! is to begin that work, on other disks, as if it never had.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mimeo_agent_protocol::message::{Failure, Reply};

use crate::blocking::run_blocking;
use crate::failure::{Context, SystemError, wrong_state};
use crate::machine::{Machine, State};
use crate::rootfs::{IMAGE, ROOT, WRITABLE};
use crate::shutdown::unmount_below;
use crate::{metadata, network};

/// How long the kernel may take to let go of what an ended process had mounted.
const UNMOUNT_TIMEOUT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Lets go of the container and of its disks, so that nothing of them is remembered.
pub(crate) async fn handle(machine: &Arc<Machine>) -> Result<Reply, Failure> {
    let _setup_guard = machine.setup_lock.lock().await;
    let State::Ended(container) = machine.state() else {
        return Err(wrong_state("the container has not ended"));
    };
    container.attachment.close();
    machine.set_state(State::Booted);
    // Its namespaces hold the disks.
    drop(container);
    run_blocking(|| {
        [ROOT, WRITABLE, IMAGE].into_iter().try_for_each(unmount)?;
        network::remove_addresses()?;
        metadata::clear();
        Ok(rustix::system::sethostname(b"").context("take the host name away")?)
    })
    .await?;
    machine.set_hostname("");
    Ok(Reply::Done)
}

fn unmount(target: &str) -> Result<(), SystemError> {
    let end = Instant::now() + UNMOUNT_TIMEOUT;
    loop {
        match unmount_below(target) {
            Err(rustix::io::Errno::BUSY) if Instant::now() < end => std::thread::sleep(POLL_INTERVAL),
            result => return result.context(format!("unmount {target}")),
        }
    }
}
