//! The end of a machine: releases all that it held, in order.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mimeo_agent_protocol::message::{Reply, Request};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::clients::Clients;
use super::disk_error::next_disk_error;
use super::machine::Machine;
use crate::Engine;
use crate::disk_layers::{existing_layers, layer_file_name};
use crate::ignored::LogFailure;
use crate::io_error::IoContext;
use crate::machine::{Claim, Exit};
use crate::snapshot::LastMemory;

/// Time for a guest to flush its disks and power off.
const POWER_OFF_TIMEOUT: Duration = Duration::from_secs(10);
/// The same for a guest that writes to named volumes: a flush of these reaches the host's stable storage, and what has not
/// reached it then is lost.
const VOLUME_POWER_OFF_TIMEOUT: Duration = Duration::from_secs(600);
/// Time for the disk of a machine that has ended to be written to stable storage.
const SYNC_TIMEOUT: Duration = Duration::from_secs(30);
/// Time between attempts of a guest that is powering off to flush its disk, when the host cannot write it.
const DISK_RETRY: Duration = Duration::from_secs(1);
/// Time for a snapshot in progress to be completed.
const SAVE_TIMEOUT: Duration = Duration::from_secs(60);
/// Time for a client to read its last reply.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(2);

/// Ends a machine whose container has ended. Returns its claim, and whether it is to be started again.
pub(super) async fn finish(
    engine: &Engine,
    mut machine: Machine,
    exit: &Exit,
    clients: Clients,
) -> (Claim, bool) {
    if !machine.is_temporary() || has_lasting_volumes(&machine) {
        power_off(&mut machine).await;
    }
    machine.guest.instance.kill().await;
    // Before the exit is known: another machine may wait for them.
    machine.guest.claim.volume_locks.clear();
    drop(std::mem::take(&mut machine.guest.connection));
    machine.guest.volumes.clear();
    if !machine.is_temporary() {
        sync_disk(&machine.guest.claim.dir).await;
    }
    let is_restart_due = machine.mark_exited(exit);
    // A snapshot that was captured before the end is completed.
    let saving = async { while machine.saving.join_next().await.is_some() {} };
    if timeout(SAVE_TIMEOUT, saving).await.is_err() {
        tracing::warn!(component = "supervisor", machine = %machine.record().name, "a snapshot was not completed in time");
    }
    LastMemory::in_dir(&machine.guest.claim.dir).remove();
    // The socket is removed before the state: a client that finds the socket finds the state, too.
    machine.guest.scratch.remove();
    if timeout(CLIENT_TIMEOUT, clients.finish()).await.is_err() {
        tracing::debug!(component = "supervisor", "a client did not read its last reply in time");
    }
    if machine.is_temporary() {
        remove(engine, &machine);
    }
    (machine.guest.claim, is_restart_due)
}

/// Whether the machine writes what outlives it: directories of the host, or named volumes. The disk of a machine that
/// is removed needs no flush.
fn has_lasting_volumes(machine: &Machine) -> bool {
    !machine.guest.volumes.is_empty() || writes_volumes(machine)
}

fn writes_volumes(machine: &Machine) -> bool {
    machine.record().volumes.iter().any(|disk| !disk.own && !disk.read_only)
}

async fn power_off(machine: &mut Machine) {
    let name = machine.guest.claim.record.name.clone();
    let limit = if writes_volumes(machine) { VOLUME_POWER_OFF_TIMEOUT } else { POWER_OFF_TIMEOUT };
    let Ok(mut stream) = machine.guest.link.open(&Request::Shutdown) else { return };
    let (instance, disk_errors) = (&mut machine.guest.instance, &mut machine.disk_errors);
    if machine.disk_wait.is_some() {
        instance.resume().await.log_failure("supervisor", "resume the VMM to flush the disk");
    }
    let shutdown = async {
        // The reply comes just before the guest powers off; a lost link means that it has.
        let mut replied = std::pin::pin!(stream.receiver.message::<Reply>());
        loop {
            tokio::select! {
                reply = &mut replied => break reply.is_ok(),
                error = next_disk_error(disk_errors) => {
                    tracing::warn!(component = "supervisor", %error, "the guest cannot flush its disk");
                    sleep(DISK_RETRY).await;
                    instance.resume().await.log_failure("supervisor", "resume the VMM to flush the disk");
                }
            }
        }
    };
    match timeout(limit, shutdown).await {
        Ok(true) if timeout(limit, machine.guest.instance.wait()).await.is_ok() => {}
        Ok(false) => {}
        _ => tracing::warn!(component = "supervisor", machine = %name, "the guest did not power off"),
    }
}

/// Writes the disk's files to stable storage: the VMM passes no flush on. The record says afterwards that the machine
/// has exited.
async fn sync_disk(dir: &Path) {
    let paths: Vec<_> = (0..existing_layers(dir)).map(|layer| dir.join(layer_file_name(layer))).collect();
    let sync = |path: &PathBuf| File::open(path).and_then(|file| file.sync_all()).at("sync", path);
    let syncing = spawn_blocking(move || paths.iter().try_for_each(sync));
    match timeout(SYNC_TIMEOUT, syncing).await {
        Ok(Ok(synced)) => synced.log_failure("supervisor", "write the disk to stable storage"),
        // A panic is reported by its thread.
        Ok(Err(_)) => {}
        Err(_) => {
            tracing::warn!(component = "supervisor", dir = %dir.display(), "the host is slow to write the machine's disk to stable storage")
        }
    }
}

fn remove(engine: &Engine, machine: &Machine) {
    let record = machine.record();
    match engine.registry().remove(&record.id) {
        Ok(()) => machine.events.record(record, "remove", &[]),
        Err(error) => {
            tracing::warn!(component = "supervisor", machine = %record.name, %error, "cannot remove the machine");
        }
    }
}
