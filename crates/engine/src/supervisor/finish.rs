//! The end of a machine: everything that it held goes, in order.

use std::time::Duration;

use mimeo_agent_protocol::message::{Reply, Request};
use tokio::time::timeout;

use super::clients::Clients;
use super::machine::Machine;
use crate::Engine;
use crate::machine::Exit;
use crate::snapshot::LastMemory;

/// How long a guest may take to flush and power off.
const POWER_OFF_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a snapshot may take to be on the disk.
const SAVE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a client may take to read its last answer.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(2);

/// Ends what is left of a machine whose container has ended.
pub(super) async fn finish(engine: &Engine, mut machine: Machine, exit: Exit, clients: Clients) -> Exit {
    // What nobody will read again need not be flushed.
    if !machine.record().spec.remove || !machine.guest.volumes.is_empty() {
        power_off(&mut machine).await;
    }
    machine.guest.instance.kill().await;
    drop(std::mem::take(&mut machine.guest.connection));
    machine.guest.volumes.clear();
    machine.mark_exited(&exit);
    // A snapshot that was taken in time is kept.
    let saving = async { while machine.saving.join_next().await.is_some() {} };
    if timeout(SAVE_TIMEOUT, saving).await.is_err() {
        tracing::warn!(component = "supervisor", machine = %machine.record().name, "a snapshot was not kept in time");
    }
    LastMemory::in_dir(&machine.guest.claim.dir).remove();
    // The socket goes before the state may: who finds the one finds the other.
    machine.guest.scratch.remove();
    timeout(CLIENT_TIMEOUT, clients.finish()).await.ok();
    if machine.record().spec.remove {
        remove(engine, &machine);
    }
    exit
}

async fn power_off(machine: &mut Machine) {
    let Ok(mut stream) = machine.guest.link.open(&Request::Shutdown) else { return };
    let shutdown = async {
        // The answer comes just before the end; a guest that is gone has ended too.
        if stream.receiver.message::<Reply>().await.is_ok() {
            machine.guest.instance.wait().await;
        }
    };
    if timeout(POWER_OFF_TIMEOUT, shutdown).await.is_err() {
        tracing::warn!(component = "supervisor", machine = %machine.record().name, "the guest did not power off");
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
