//! `reset`: returns the guest to its unconfigured state after its container has ended.
//!
//! This is for warm-up runs: a guest that has run a container once, to warm up, must
//! start the first real one, on other disks, as if it had not.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mimeo_agent_protocol::message::{Failure, Reply};

use crate::blocking::run_blocking;
use crate::disk_volume::DISKS;
use crate::failure::{Context, SystemError, wrong_state};
use crate::machine::{Machine, State};
use crate::rootfs::{IMAGE, ROOT, WRITABLE};
use crate::shutdown::unmount_below;
use crate::{metadata, network};

/// Timeout until the kernel has released the mounts of processes that have ended.
const UNMOUNT_TIMEOUT: Duration = Duration::from_secs(5);
/// More than the program of a warm-up run uses. A machine's snapshots contain these pages, since they differ from the
/// boot snapshot's.
const OVERWRITTEN_BYTES: usize = 4 << 20;
/// A file in memory.
const SCRATCH: &str = "/run/mimeo-reset";
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Releases the container and its disks, and removes all state of them.
pub(crate) async fn handle(machine: &Arc<Machine>) -> Result<Reply, Failure> {
    let _setup_guard = machine.setup_lock.lock().await;
    let State::Ended(container) = machine.state() else {
        return Err(wrong_state("the container has not ended"));
    };
    container.attachment.close();
    machine.set_state(State::Booted);
    // Its namespaces keep the disks mounted.
    drop(container);
    run_blocking(|| {
        [ROOT, WRITABLE, DISKS, IMAGE].into_iter().try_for_each(unmount)?;
        network::remove_addresses()?;
        metadata::clear();
        overwrite_free_pages()?;
        Ok(rustix::system::sethostname(b"").context("clear the host name")?)
    })
    .await?;
    machine.set_hostname("");
    Ok(Reply::Done)
}

/// Writes to the pages that the container's programs were in: QEMU discards its translation of a page's code at the
/// first write, which would be in each machine.
fn overwrite_free_pages() -> Result<(), SystemError> {
    let overwrite = || {
        let mut file = File::create(SCRATCH)?;
        let chunk = vec![0; 64 << 10];
        for _ in 0..OVERWRITTEN_BYTES / chunk.len() {
            file.write_all(&chunk)?;
        }
        std::fs::remove_file(SCRATCH)
    };
    overwrite().context("overwrite free memory")
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
