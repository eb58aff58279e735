//! `reset`: returns the guest to its unconfigured state after its container has ended.
//!
//! This is for warm-up runs: a guest that has run a container once, to warm up, must
//! start the first real one, on other disks, as if it had not.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mimeo_agent_protocol::message::{Failure, Reply};

use crate::blocking::run_blocking;
use crate::console::log;
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
        if let Err(error) = overwrite_free_pages(Path::new(SCRATCH)) {
            log(&format!("cannot overwrite free memory: {error}"));
        }
        Ok(rustix::system::sethostname(b"").context("clear the host name")?)
    })
    .await?;
    machine.set_hostname("");
    Ok(Reply::Done)
}

/// Writes to the pages that the container's programs were in: QEMU discards its translation of a page's code at the
/// first write, which would be in each machine.
///
/// This only saves time, and a small guest may not have as much free memory.
fn overwrite_free_pages(scratch: &Path) -> io::Result<()> {
    let mut file = File::create(scratch)?;
    // The file exists until it is closed.
    std::fs::remove_file(scratch)?;
    let chunk = vec![0; 64 << 10];
    for _ in 0..OVERWRITTEN_BYTES / chunk.len() {
        file.write_all(&chunk)?;
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scratch_file_is_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let scratch = directory.path().join("scratch");
        overwrite_free_pages(&scratch).expect("written");
        assert!(!scratch.exists());
        assert!(overwrite_free_pages(directory.path()).is_err());
    }
}
