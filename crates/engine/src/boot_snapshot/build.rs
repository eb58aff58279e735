//! Makes a boot snapshot: boots a guest of the shape, freezes it, and saves it.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use mimeo_agent_protocol::link::Link;
use mimeo_agent_protocol::message::{Reply, Request};
use mimeo_pager::Pages;
use mimeo_setup::Initramfs;
use mimeo_vmm::{Disk, DiskFormat, Instance, LaunchSpec, MemorySave};
use tokio::time::timeout;

use super::restore::{hello, silent};
use super::{GuestRequest, HELLO_TIMEOUT, PLACEHOLDER_BYTES};
use crate::cause::chain;
use crate::guest::FIRST_SESSION;
use crate::id::SnapshotId;
use crate::io_error::IoContext;
use crate::machine::{BootConfiguration, MachineName, Requirements};
use crate::network::Connection;
use crate::snapshot::{self, Draft, Kind, Manifest, Snapshot, SnapshotWriter, VmmSave};
use crate::stage::StageError;
use crate::{Engine, agent};

/// Boots a guest, freezes it and saves it.
pub(super) async fn build(
    engine: &Engine,
    request: GuestRequest<'_>,
    key: MachineName,
) -> Result<Snapshot, StageError> {
    let store = engine.snapshots();
    let (_scratch, spec) = placeholder_spec(engine, request)?;
    let initramfs = Initramfs::ensure(request.kernel, agent::BYTES)?;
    let spec = LaunchSpec { initramfs: initramfs.path.clone(), ..spec };
    let (mut instance, link) = boot(engine, request, &spec).await?;
    let draft = Draft::create(&store, SnapshotId::random())?;
    let mut writer = match request.driver.capabilities().memory {
        MemorySave::Reader => SnapshotWriter::prepare(draft, instance.memory()?, Pages::default()).await?,
        MemorySave::Vmm => SnapshotWriter::for_vmm(draft, VmmSave::full()),
    };
    let (mut stream, write_pause) = link.open_and_pause_writes(&Request::Freeze)?;
    let Ok(reply) = timeout(HELLO_TIMEOUT, stream.reply()).await else {
        return Err(silent(engine, instance.as_mut(), &spec, HELLO_TIMEOUT).await);
    };
    match reply? {
        Reply::Frozen { .. } => {}
        other => return Err(other.unexpected().into()),
    }
    instance.pause().await?;
    writer.write(instance.as_mut()).await?;
    let version = instance.version().await?;
    instance.kill().await;
    drop((write_pause, link));
    let written = writer.finish(true).await?;
    let manifest = Manifest {
        format: Manifest::format_of(None),
        id: written.draft.id.clone(),
        tag: Some(key),
        kind: Kind::Runtime,
        created: jiff::Timestamp::now(),
        parent: None,
        machine: None,
        requires: Requirements { version, ..request.requires.clone() },
        disk_layers: 0,
        memory_bytes: written.memory_bytes,
        boot_id: crate::machine::boot_id(),
        pause_micros: 0,
        files: written.files,
        boot: Some(BootConfiguration::from_spec(request.machine)),
    };
    written.draft.commit(&manifest)?;
    let snapshot = store.read(&manifest.id)?;
    snapshot::record_verified(&store, &snapshot);
    Ok(snapshot)
}

/// The launch spec of a guest with placeholder disks and network, and the guards that remove these.
pub(super) fn placeholder_spec(
    engine: &Engine,
    request: GuestRequest<'_>,
) -> Result<((Draft, Connection), LaunchSpec), StageError> {
    // A draft's directory, since it may hold a jail, which the run directory's filesystem (nodev, noexec) cannot.
    let scratch = Draft::create(&engine.snapshots(), SnapshotId::random())?;
    let connection = match request.spec.network {
        Some(_) => Connection::attach_placeholder(request.driver, &scratch.dir)?,
        None => Connection::default(),
    };
    let disks = request.spec.disks.iter().map(|disk| placeholder_disk(disk, &scratch.dir));
    let spec = LaunchSpec {
        name: request.key().to_string(),
        disks: disks.collect::<Result<_, _>>()?,
        console: scratch.dir.join("console.log"),
        network: request.spec.network.as_ref().map(|_| connection.placeholder_network()).transpose()?,
        ..request.spec.clone()
    };
    Ok(((scratch, connection), spec))
}

/// Boots a guest until its agent answers. The first guest on an untried KVM proves KVM thereby.
async fn boot(
    engine: &Engine,
    request: GuestRequest<'_>,
    spec: &LaunchSpec,
) -> Result<(Box<dyn Instance>, Link), StageError> {
    let GuestRequest { driver, chosen, machine, .. } = request;
    let booted = async {
        let mut instance = driver.launch(spec).await?;
        let boot_timeout = chosen.boot_timeout(Duration::from_secs(machine.start_timeout.into()));
        let link = hello(engine, instance.as_mut(), spec, FIRST_SESSION, boot_timeout).await?;
        Ok::<_, StageError>((instance, link))
    };
    match booted.await {
        Ok(booted) => {
            chosen.guest_answered(engine.home());
            Ok(booted)
        }
        Err(error) if chosen.is_trial() && error.is_guest_failure() => {
            Err(StageError::Kvm { why: chosen.guest_failed(engine.home(), chain(&error)) })
        }
        Err(error) => Err(error),
    }
}

fn placeholder_disk(disk: &Disk, scratch: &Path) -> Result<Disk, StageError> {
    let path = scratch.join(&disk.serial);
    let made = File::create(&path).and_then(|file| file.set_len(PLACEHOLDER_BYTES));
    made.at("create", &path)?;
    Ok(Disk { path, format: DiskFormat::Raw, ..disk.clone() })
}
