//! Takes a snapshot of a running machine.
//!
//! The slow steps are done while the machine runs: space for its memory is allocated before the pause;
//! digests are computed and files are synced after it. The workload is paused only while the pages that it
//! has changed are copied.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use mimeo_agent_protocol::CallError;
use mimeo_agent_protocol::message::{Reply, Request};
use mimeo_vmm::{MemorySave, OperationError, SaveKind};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::clock::ClockReading;
use super::disk_error::next_disk_error;
use super::machine::{LastSave, Machine};
use crate::Home;
use crate::cause::chain;
use crate::control::ControlReply;
use crate::disk_layers::{LayerError, MAX_LAYERS, add_durable_layer, add_layer_file};
use crate::hang::{self, HangDump, SilentGuest};
use crate::id::SnapshotId;
use crate::ignored::{LogFailure, LogIgnored};
use crate::machine::{
    Action, MachineDisk, MachineName, Record, Requirements, State, WRITABLE_SERIAL, boot_id, decide,
    machine_disks, volume_serial,
};
use crate::snapshot::{
    self, Draft, Kind, LastMemory, Manifest, SnapshotWriter, Snapshots, StoreError, VmmSave, WriteError,
    WrittenSnapshot,
};
use crate::volumes::VolumeError;

/// Time for a guest to freeze its workload.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a guest to thaw its workload.
const THAW_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a guest to flush its disk.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(60);
/// Attempts to thaw the workload.
const MAX_THAWS: u32 = 3;
const MICROS_PER_SECOND: u128 = 1_000_000;
/// What a freeze asks of the guest, as errors say it.
const FREEZE_STEP: &str = "freeze its workload";

/// Why a snapshot failed. The machine continues to run unchanged.
#[derive(Debug, thiserror::Error)]
pub(super) enum SaveError {
    #[error(
        "it has directories of the host as volumes, which cannot be part of a snapshot: named volumes can"
    )]
    Volumes,
    #[error(
        "its disk has {MAX_LAYERS} layers, one for each snapshot of it or of its ancestors: start a new machine from its image or from an earlier snapshot"
    )]
    Layers,
    #[error(
        "a volume of it has {MAX_LAYERS} layers, one for each snapshot: copy its content to a new volume with `mimeo volume export` and `mimeo volume import`"
    )]
    VolumeLayers,
    #[error(
        "its VMM did not reply during an earlier snapshot, so the layer that it writes to is unknown: stop the machine, and start a new one from its image or from an earlier snapshot"
    )]
    UnknownDisk,
    #[error("it was started by a version of mimeo without snapshots")]
    NoRequirements,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Operation(#[from] OperationError),
    #[error("cannot verify the parent snapshot")]
    VerifyParent(#[from] snapshot::LoadError),
    #[error("cannot copy its disk")]
    Disk(#[from] mimeo_image::overlay::OverlayError),
    #[error("cannot create a new layer of a volume")]
    Layer(#[from] LayerError),
    #[error("cannot seal the layers of a volume that it reads")]
    Seal(#[from] VolumeError),
    #[error("the guest could not {step}")]
    Guest {
        step: &'static str,
        #[source]
        source: CallError,
    },
    #[error("its disk cannot be written: {reason}")]
    DiskError { reason: String },
    #[error("the guest did not {step} within {} s{dump}", .waited.as_secs())]
    Silent { step: &'static str, waited: Duration, dump: HangDump },
}

/// An empty layer over a disk of the machine, for the writes after the snapshot.
struct NewLayer {
    serial: String,
    file: PathBuf,
}

/// A machine's captured state, not yet committed as a snapshot.
struct CapturedMachine {
    writer: SnapshotWriter,
    record: Record,
    version: String,
    created: Timestamp,
    pause: Duration,
}

impl Machine {
    /// Takes a snapshot; replies when it is committed.
    pub(super) async fn save(
        &mut self,
        tag: Option<MachineName>,
        kind: Kind,
        id: Option<SnapshotId>,
        reply: oneshot::Sender<ControlReply>,
    ) {
        let id = match id {
            Some(id) => match self.saved_before(&id).await {
                Some(saved) => return drop(reply.send(saved_reply(Ok(saved)))),
                None => id,
            },
            None => SnapshotId::random(),
        };
        if let Err(refusal) = decide(self.record().phase(), Action::Snapshot) {
            reply.send(ControlReply::Refused { refusal }).ok();
            return;
        }
        let store = self.snapshots.clone();
        match self.capture(&store, tag.as_ref(), id).await {
            Ok(saved) => {
                self.events.record(&self.guest.claim.record, "snapshot", &[]);
                // The snapshot is completed in a task of its own, so that the machine stays responsive. The
                // machine's end waits for that task.
                self.saving.spawn(async move {
                    // The client may have disconnected.
                    reply.send(saved_reply(commit_snapshot(&store, saved, tag, kind).await)).ok();
                });
            }
            Err(error) => {
                let error = self.with_hang_dump(store.home(), error).await;
                reply.send(ControlReply::Failed { message: chain(&error) }).ok();
            }
        }
    }

    /// The snapshot with this id, if an earlier request has saved it. One that is being completed is waited for.
    async fn saved_before(&mut self, id: &SnapshotId) -> Option<Manifest> {
        while self.saving.join_next().await.is_some() {}
        self.snapshots.read(id).ok().map(|snapshot| snapshot.manifest)
    }

    /// Writes a hang dump if the guest did not answer; the error names it.
    async fn with_hang_dump(&mut self, home: &Home, mut error: SaveError) -> SaveError {
        let waited = error.to_string();
        if let SaveError::Silent { dump, .. } = &mut error {
            let (id, console) =
                (self.guest.claim.record.id.short(), self.guest.claim.dir.join("console.log"));
            let guest = SilentGuest { instance: self.guest.instance.as_mut(), id, console: &console };
            *dump = hang::dump(home, guest, &waited).await;
        }
        error
    }

    async fn capture(
        &mut self,
        store: &Snapshots,
        tag: Option<&MachineName>,
        id: SnapshotId,
    ) -> Result<CapturedMachine, SaveError> {
        let record = self.record();
        if !record.spec.volumes.is_empty() {
            return Err(SaveError::Volumes);
        }
        if record.requires.is_none() {
            return Err(SaveError::NoRequirements);
        }
        let disks = machine_disks(&self.guest.claim.dir, record);
        check_layers(&disks)?;
        if self.saves.disk_unknown {
            return Err(SaveError::UnknownDisk);
        }
        if let Some(parent) = record.origin.as_ref().filter(|parent| store.read(parent).is_err()) {
            return Err(StoreError::MissingParent { parent: parent.short().to_owned() }.into());
        }
        if let Some(tag) = tag {
            store.check_tag(tag)?;
        }
        let before = record.clone();
        let version = self.guest.instance.version().await?;
        if let Some(last_memory_ready) = self.saves.last_memory_ready.take() {
            // A dropped sender means that the last save failed: then its memory is missing, and all memory
            // is saved.
            last_memory_ready.await.ok();
        }
        self.prepare().await?;
        let mut writer = self.prepare_writer(Draft::create(store, id)?).await?;
        let layers = self.create_layers(&disks)?;
        self.paused_time.clock_before = ClockReading::read(&self.guest.link).await;
        let paused_at = Instant::now();
        let captured = self.freeze_and_capture(&mut writer, &disks, &layers).await;
        let pause = paused_at.elapsed();
        // The workload runs again: it need not wait for the disk.
        self.store_state();
        if captured.is_err() && !self.saves.disk_unknown {
            self.remove_unused(&layers);
        }
        captured?;
        if self.guest.capabilities.disk_layers {
            disks.iter().try_for_each(|disk| writer.draft.link_disk(disk))?;
        }
        let Record { disk_layers, volumes, .. } = before;
        let record = Record { disk_layers, volumes, ..self.record().clone() };
        Ok(CapturedMachine { writer, record, version, created: Timestamp::now(), pause })
    }

    /// Prepares the way in which the driver saves memory.
    async fn prepare_writer(&mut self, draft: Draft) -> Result<SnapshotWriter, WriteError> {
        if self.guest.capabilities.memory == MemorySave::Reader {
            return SnapshotWriter::prepare(
                draft,
                self.guest.instance.memory()?,
                self.guest.divergent_pages.clone(),
            )
            .await;
        }
        let save = self.plan_vmm_save(&self.snapshots.clone());
        Ok(SnapshotWriter::for_vmm(draft, save))
    }

    /// A VMM that restored its machine tracks the pages written since the last save: they are merged with
    /// the last save's memory after the machine has resumed. All memory is saved if that memory is gone,
    /// the machine was booted, or the filesystem does not report holes exactly.
    fn plan_vmm_save(&mut self, store: &Snapshots) -> VmmSave {
        if self.record().origin.is_none() || !self.guest.instance.has_exact_diffs() {
            return VmmSave::full();
        }
        let last = LastMemory::in_dir(&self.guest.claim.dir);
        let dirs = [self.guest.claim.dir.clone(), store.home().snapshots()];
        if !dirs.iter().all(|dir| matches!(mimeo_pager::has_exact_holes(dir), Ok(true))) {
            // A full save resets the VMM's record of written pages.
            last.remove();
            return VmmSave::full();
        }
        let has_base = self.saves.last.is_some() && last.exists();
        let (kind, contents) = match self.saves.last {
            Some(contents) if has_base => (SaveKind::Diff, contents),
            None => (SaveKind::Diff, LastSave::Diff),
            Some(_) => (SaveKind::Full, LastSave::Full),
        };
        let (done, last_memory_ready) = oneshot::channel();
        self.saves.last_memory_ready = Some(last_memory_ready);
        let is_diff = contents == LastSave::Diff;
        VmmSave { kind, is_diff, has_base, last: Some(last), done: Some(done) }
    }

    /// Creates an empty layer for later writes to each disk, where the driver supports layers. A disk that this machine
    /// only reads gets one for the next machine that writes to it.
    fn create_layers(&self, disks: &[MachineDisk]) -> Result<Vec<NewLayer>, SaveError> {
        if !self.guest.capabilities.disk_layers {
            return Ok(Vec::new());
        }
        let mut layers = Vec::new();
        for disk in disks {
            if disk.read_only {
                self.volumes.seal(&disk.dir, disk.layers, disk.bytes)?;
                continue;
            }
            let file = disk.layer(disk.layers);
            // A failed snapshot may have left one.
            std::fs::remove_file(&file).log_ignored("remove", &file);
            if disk.serial == WRITABLE_SERIAL {
                add_layer_file(&disk.dir, disk.layers, disk.bytes)?;
            } else {
                add_durable_layer(&disk.dir, disk.layers, disk.bytes)?;
            }
            layers.push(NewLayer { serial: disk.serial.clone(), file });
        }
        Ok(layers)
    }

    /// Has the guest flush its disk while its workload still runs.
    async fn prepare(&mut self) -> Result<(), SaveError> {
        let link = self.guest.link.clone();
        let prepared = async { link.call(&Request::Prepare).await?.done() };
        self.unless_disk_error(within(PREPARE_TIMEOUT, "flush its disk", prepared)).await
    }

    /// Waits for a step of the guest. The step fails if the VMM pauses the guest meanwhile.
    async fn unless_disk_error(
        &mut self,
        step: impl Future<Output = Result<(), SaveError>>,
    ) -> Result<(), SaveError> {
        let error = tokio::select! {
            done = step => return done,
            error = next_disk_error(&mut self.disk_errors) => error,
        };
        let reason = error.reason.clone();
        self.handle_disk_error(error);
        Err(SaveError::DiskError { reason })
    }

    /// Freezes the workload, captures the machine, and thaws the workload whatever happens in between.
    async fn freeze_and_capture(
        &mut self,
        writer: &mut SnapshotWriter,
        disks: &[MachineDisk],
        layers: &[NewLayer],
    ) -> Result<(), SaveError> {
        let opened = self.guest.link.open_and_pause_writes(&Request::Freeze);
        let (mut stream, paused_writes) =
            opened.map_err(|error| SaveError::Guest { step: FREEZE_STEP, source: error.into() })?;
        let frozen = async {
            match stream.reply().await? {
                Reply::Frozen { .. } => Ok(()),
                other => Err(other.unexpected()),
            }
        };
        let frozen = within(FREEZE_TIMEOUT, FREEZE_STEP, frozen);
        let captured = match self.unless_disk_error(frozen).await {
            Ok(()) => self.capture_frozen(writer, disks, layers).await,
            Err(error) => Err(error),
        };
        paused_writes.resume();
        let thawed = self.thaw().await;
        captured.and(thawed)
    }

    async fn capture_frozen(
        &mut self,
        writer: &mut SnapshotWriter,
        disks: &[MachineDisk],
        layers: &[NewLayer],
    ) -> Result<(), SaveError> {
        let paused_at = Instant::now();
        let captured = match self.guest.instance.pause().await {
            Ok(()) => self.capture_paused(writer, disks, layers).await,
            Err(error) => Err(error.into()),
        };
        // Resume even if the pause was not confirmed: the VMM executes commands in order.
        let resumed = self.guest.instance.resume().await;
        self.paused_time.for_snapshot += paused_at.elapsed();
        if resumed.is_err() {
            // The VMM is still paused; the user can unpause the machine.
            self.enter(State::Paused);
        }
        captured.and(resumed.map_err(SaveError::from))
    }

    async fn capture_paused(
        &mut self,
        writer: &mut SnapshotWriter,
        disks: &[MachineDisk],
        layers: &[NewLayer],
    ) -> Result<(), SaveError> {
        if let Some(is_diff) = writer.planned_vmm_diff() {
            self.saves.last = Some(if is_diff { LastSave::Diff } else { LastSave::Full });
        }
        writer.write(self.guest.instance.as_mut()).await?;
        if !self.guest.capabilities.disk_layers {
            return disks.iter().try_for_each(|disk| writer.draft.copy_disk(disk)).map_err(SaveError::from);
        }
        for layer in layers {
            self.write_to(layer).await?;
        }
        Ok(())
    }

    /// Has the VMM write to a new layer of a disk from now on.
    async fn write_to(&mut self, layer: &NewLayer) -> Result<(), SaveError> {
        let added = self.guest.instance.add_layer(&layer.serial, &layer.file).await;
        match &added {
            Ok(()) => self.count_layer(&layer.serial),
            // The VMM refused, and still writes to the previous layer.
            Err(OperationError::Refused { .. }) => {}
            Err(_) => self.saves.disk_unknown = true,
        }
        Ok(added?)
    }

    /// Removes layers that the VMM does not write to: they would count when the disk is used the next time.
    fn remove_unused(&self, layers: &[NewLayer]) {
        let disks = machine_disks(&self.guest.claim.dir, self.record());
        let is_used =
            |file: &PathBuf| disks.iter().any(|disk| disk.layer(disk.layers.saturating_sub(1)) == *file);
        for layer in layers.iter().filter(|layer| !is_used(&layer.file)) {
            std::fs::remove_file(&layer.file).log_ignored("remove", &layer.file);
        }
    }

    fn count_layer(&mut self, serial: &str) {
        let record = &mut self.guest.claim.record;
        if serial == WRITABLE_SERIAL {
            record.disk_layers += 1;
        }
        let volumes = record.volumes.iter_mut().enumerate();
        for (_, volume) in volumes.filter(|(index, _)| volume_serial(*index) == serial) {
            volume.layers += 1;
        }
    }

    /// Retries an unconfirmed thaw: a workload that stays frozen is the worst outcome of a snapshot.
    async fn thaw(&mut self) -> Result<(), SaveError> {
        let advance_nanos = self.paused_time.for_snapshot.as_nanos() as u64;
        self.paused_time.for_snapshot = Duration::ZERO;
        if self.disk_wait.is_some() {
            // The guest thaws its workload when it runs again.
            let request = Request::Thaw { unix_nanos: None, advance_nanos, since: None };
            self.guest.link.open(&request).log_failure("supervisor", "thaw the workload");
            return Ok(());
        }
        let mut thawed = self.thaw_once(advance_nanos).await;
        for _ in 1..MAX_THAWS {
            if matches!(thawed, Ok(()) | Err(SaveError::Guest { source: CallError::Link(_), .. })) {
                break;
            }
            // Later attempts do not advance the clock: the first one has, unless the guest never received it.
            thawed = self.thaw_once(0).await;
        }
        thawed
    }

    async fn thaw_once(&mut self, advance_nanos: u64) -> Result<(), SaveError> {
        let since = self.paused_time.clock_before.map(ClockReading::mark);
        let request = Request::Thaw { unix_nanos: None, advance_nanos, since };
        let thawed = async { self.guest.link.call(&request).await?.done() };
        within(THAW_TIMEOUT, "thaw its workload", thawed).await
    }
}

fn check_layers(disks: &[MachineDisk]) -> Result<(), SaveError> {
    match disks.iter().find(|disk| disk.layers >= MAX_LAYERS) {
        Some(disk) if disk.serial != WRITABLE_SERIAL => Err(SaveError::VolumeLayers),
        Some(_) => Err(SaveError::Layers),
        None => Ok(()),
    }
}

/// Waits for the guest to do `step`, for at most `limit`.
async fn within(
    limit: Duration,
    step: &'static str,
    done: impl Future<Output = Result<(), CallError>>,
) -> Result<(), SaveError> {
    match timeout(limit, done).await {
        Ok(done) => done.map_err(|source| SaveError::Guest { step, source }),
        Err(_) => Err(SaveError::Silent { step, waited: limit, dump: HangDump::default() }),
    }
}

/// Completes the snapshot and publishes it in the store.
async fn commit_snapshot(
    store: &Snapshots,
    saved: CapturedMachine,
    tag: Option<MachineName>,
    kind: Kind,
) -> Result<Manifest, SaveError> {
    let CapturedMachine { writer, record, version, created, pause } = saved;
    // The clones of a fork start at once and do not survive a reboot: their snapshot needs neither a sync
    // nor digests.
    let is_durable = kind != Kind::Fork;
    let WrittenSnapshot { draft, mut files, memory_bytes, is_diff } = writer.finish(is_durable).await?;
    for disk in machine_disks(&draft.dir, &record) {
        for name in disk.saved_names() {
            files.push(draft.file(&name, is_durable)?);
        }
    }
    let requires = record.requires.clone().ok_or(SaveError::NoRequirements)?;
    let manifest = Manifest {
        format: Manifest::format_of(Some(&record)),
        id: draft.id.clone(),
        tag,
        kind,
        created,
        parent: record.origin.clone().filter(|_| is_diff),
        requires: Requirements { version, ..requires },
        disk_layers: record.disk_layers,
        memory_bytes,
        boot_id: boot_id(),
        pause_micros: u64::try_from(pause.as_micros())
            .unwrap_or(u64::MAX)
            .min(MICROS_PER_SECOND as u64 * 3600),
        files,
        machine: Some(record),
        boot: None,
    };
    if let Some(parent) = manifest.parent.clone().filter(|_| is_durable) {
        let snapshots = store.clone();
        let made_durable = spawn_blocking(move || snapshot::make_durable(&snapshots, &parent));
        made_durable.await.map_err(|_| WriteError::Interrupted)??;
    }
    draft.commit(&manifest)?;
    if let Ok(snapshot) = store.read(&manifest.id) {
        snapshot::record_verified(store, &snapshot);
    }
    Ok(manifest)
}

fn saved_reply(saved: Result<Manifest, SaveError>) -> ControlReply {
    match saved {
        Ok(manifest) => ControlReply::Saved {
            snapshot: manifest.id,
            pause_micros: manifest.pause_micros,
            memory_bytes: manifest.memory_bytes,
        },
        Err(error) => ControlReply::Failed { message: chain(&error) },
    }
}
