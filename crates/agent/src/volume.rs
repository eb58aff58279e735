//! `volume`: mounts a directory of the host, which the host serves over the link.
//!
//! The guest's kernel sends FUSE requests, which are forwarded to the host
//! unchanged, and the host's replies are forwarded to the kernel. Only the owners
//! of files are rewritten, when the host serves as a user who is not root (see
//! [`owners`]).

mod mount;
mod owners;
mod pump;

use std::sync::Arc;

use mimeo_agent_protocol::link::{Sender, Stream};
use mimeo_agent_protocol::message::{Failure, FailureKind, Reply, Volume};
use tokio::io::Interest;

use crate::blocking::run_blocking;
use crate::console::log;
use crate::failure::{Context, failure, wrong_state};
use crate::machine::{Machine, State};
use crate::watch::watch;
use owners::Owners;

/// Mounts a directory of the host, and forwards its messages for as long as the host serves it.
pub(crate) async fn handle_stream(machine: &Arc<Machine>, volume: Volume, stream: Stream) {
    let Stream { receiver, sender } = stream;
    let target = volume.target.clone();
    let (ready, end) = match mount_and_serve(machine, volume, sender, receiver).await {
        Ok(served) => served,
        Err((sender, failed)) => {
            log(&format!("cannot mount the volume {target}: {failed}"));
            return sender.message(&Reply::Failed(failed));
        }
    };
    ready.message(&Reply::Done);
    drop(ready);
    // Fails only if the task has panicked, which ends the volume too.
    end.await.ok();
    log(&format!("the volume {target} is no longer served"));
}

type Served = (Arc<Sender>, tokio::task::JoinHandle<()>);

async fn mount_and_serve(
    machine: &Arc<Machine>,
    volume: Volume,
    sender: Sender,
    receiver: mimeo_agent_protocol::link::Receiver,
) -> Result<Served, (Arc<Sender>, Failure)> {
    let sender = Arc::new(sender);
    let _setup_guard = machine.setup_lock.lock().await;
    let owners = Owners::new(volume.owner_uid, volume.owner_gid);
    let result = async {
        validate(machine, &volume)?;
        machine.modules_loaded().await?;
        let (modules, mounted) = (machine.modules.clone(), volume.clone());
        let device = run_blocking(move || {
            modules.load_on_demand("fuse")?;
            Ok(mount::mount(&mounted)?)
        });
        let device = watch(device.await?, Interest::READABLE).context("watch /dev/fuse")?;
        let pump = tokio::spawn(pump::run(device, sender.clone(), receiver, owners));
        // The pump must run already: this looks up the file in the volume.
        run_blocking(move || Ok(mount::bind_file(&volume)?)).await?;
        Ok(pump)
    };
    match result.await {
        Ok(pump) => Ok((sender, pump)),
        Err(failed) => Err((sender, failed)),
    }
}

fn validate(machine: &Machine, volume: &Volume) -> Result<(), Failure> {
    let one_name = |name: &String| !name.is_empty() && !name.contains('/') && name != "." && name != "..";
    if !volume.target.starts_with('/') || !volume.file.as_ref().is_none_or(one_name) {
        return Err(failure(FailureKind::Invalid, format!("invalid volume at {}", volume.target)));
    }
    match machine.state() {
        State::Configured(_) => Ok(()),
        State::Booted => Err(wrong_state("the machine has not been configured")),
        State::Running(_) | State::Ended(_) => Err(wrong_state("the container has been started already")),
    }
}
