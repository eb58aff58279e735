//! A snapshot of a machine that goes on.
//!
//! What takes time is done while the machine runs: room for its memory
//! before, digests and the disk's assurance after. In between its workload
//! stands still for as long as it takes to copy the pages that it has changed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use mimeo_agent_protocol::link::LinkError;
use mimeo_agent_protocol::message::{Failure, Reply, Request};
use mimeo_image::disk_copy;
use mimeo_vmm::{MemorySave, OperationError, SaveKind};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::clock::Reading;
use super::machine::{LastSave, Machine};
use crate::Home;
use crate::cause::chain;
use crate::clone::add_layer_file;
use crate::control::ControlReply;
use crate::hang::{self, HangDump, SilentGuest};
use crate::launch_spec::WRITABLE_SERIAL;
use crate::machine::{Action, MachineName, Record, Requirements, State, boot_id, decide};
use crate::snapshot::{
    self, Kind, LastMemory, Manifest, SnapshotWriter, Snapshots, StoreError, VmmSave, WriteError,
    WrittenSnapshot,
};
use crate::stage::StageError;

/// How long a guest may take to stand still.
const FREEZE: Duration = Duration::from_secs(10);
/// Layers that a disk may have: each is an open file, and a step on the way to
/// what was written long ago (docs/decisions/0006-disks-of-clones.md).
const MAX_LAYERS: u32 = 64;
/// How long a guest may take to write what its disk has not yet.
const PREPARE: Duration = Duration::from_secs(60);
/// Times that a guest is told to go on.
const THAWS: u32 = 3;
const MICROS: u128 = 1_000_000;

/// Why there is no snapshot. The machine goes on as if nobody had asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum SaveError {
    #[error("it has volumes: what is served to a machine from the host cannot be copied with it")]
    Volumes,
    #[error(
        "its disk has {MAX_LAYERS} layers, one for each time that it or what it came of was copied: start anew from its image, or from an earlier snapshot"
    )]
    Layers,
    #[error(
        "its virtual machine monitor did not answer an earlier snapshot, so that nobody knows which file its disk is: stop it, and start it anew"
    )]
    WhichDisk,
    #[error("it was started by a mimeo that kept no snapshots")]
    Old,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Take(#[from] WriteError),
    #[error(transparent)]
    Operation(#[from] OperationError),
    #[error("cannot make sure of what it builds on")]
    Assure(#[from] snapshot::LoadError),
    #[error("cannot copy its disk")]
    Disk(#[from] mimeo_image::overlay::OverlayError),
    #[error("cannot give the machine a new layer of its disk")]
    Layer(#[source] StageError),
    #[error("the workload cannot be frozen: {0}")]
    Freeze(Failure),
    #[error("the guest did not {step} within {} s{dump}", .waited.as_secs())]
    Silent { step: &'static str, waited: Duration, dump: HangDump },
    #[error("the link to the guest failed")]
    Link(#[from] LinkError),
    #[error("the agent answered out of turn: {0}")]
    Answer(String),
}

/// What was copied, and is not kept yet.
struct Saved {
    writer: SnapshotWriter,
    record: Record,
    version: String,
    created: Timestamp,
    pause: Duration,
}

impl Machine {
    /// Takes a snapshot; the answer comes when it is kept.
    pub(super) async fn save(
        &mut self,
        tag: Option<MachineName>,
        kind: Kind,
        reply: oneshot::Sender<ControlReply>,
    ) {
        if let Err(refusal) = decide(self.record().phase(), Action::Snapshot) {
            reply.send(ControlReply::Refused { refusal }).ok();
            return;
        }
        let store = self.snapshots.clone();
        match self.copy(&store, tag.as_ref()).await {
            Ok(saved) => {
                self.events.record(&self.guest.claim.record, "snapshot", &[]);
                // The machine's one writer has other things to do. Its end waits for this.
                self.keeping.spawn(async move {
                    // Who asked may have gone.
                    reply.send(told(keep(&store, saved, tag, kind).await)).ok();
                });
            }
            Err(error) => {
                let error = self.with_evidence(store.home(), error).await;
                reply.send(ControlReply::Failed { message: chain(&error) }).ok();
            }
        }
    }

    /// A guest that was silent leaves a hang dump, which the error names.
    async fn with_evidence(&mut self, home: &Home, mut error: SaveError) -> SaveError {
        let waited = error.to_string();
        if let SaveError::Silent { dump, .. } = &mut error {
            let (id, console) =
                (self.guest.claim.record.id.short(), self.guest.claim.dir.join("console.log"));
            let guest = SilentGuest { instance: self.guest.instance.as_mut(), id, console: &console };
            *dump = hang::dump(home, guest, &waited).await;
        }
        error
    }

    async fn copy(&mut self, store: &Snapshots, tag: Option<&MachineName>) -> Result<Saved, SaveError> {
        let record = self.record();
        if !record.spec.volumes.is_empty() {
            return Err(SaveError::Volumes);
        }
        if record.requires.is_none() {
            return Err(SaveError::Old);
        }
        if record.disk_layers >= MAX_LAYERS {
            return Err(SaveError::Layers);
        }
        if self.saves.disk_unknown {
            return Err(SaveError::WhichDisk);
        }
        if let Some(parent) = record.origin.as_ref().filter(|parent| store.read(parent).is_err()) {
            return Err(StoreError::Orphan { parent: parent.short().to_owned() }.into());
        }
        if let Some(tag) = tag {
            store.check_tag(tag)?;
        }
        let layers = record.disk_layers;
        let version = self.guest.instance.version().await?;
        if let Some(leaving) = self.saves.leaving.take() {
            // It ends by its drop.
            leaving.await.ok();
        }
        self.prepare().await?;
        let mut writer = self.writer(store).await?;
        let layer = self.make_layer()?;
        self.standstill.clock = Reading::read(&self.guest.link).await;
        let stood_still = Instant::now();
        let copied = self.stand_still(&mut writer, layer.as_deref()).await;
        let pause = stood_still.elapsed();
        // The workload goes on: nobody waits for the disk.
        self.store();
        copied?;
        if layer.is_some() {
            for name in (0..layers).map(snapshot::disk) {
                writer.draft.link(&self.guest.claim.dir.join(&name), &name)?;
            }
        }
        let record = Record { disk_layers: layers, ..self.record().clone() };
        Ok(Saved { writer, record, version, created: Timestamp::now(), pause })
    }

    /// Makes ready what the driver saves memory by.
    async fn writer(&mut self, store: &Snapshots) -> Result<SnapshotWriter, WriteError> {
        if self.guest.capabilities.memory == MemorySave::Reader {
            return SnapshotWriter::prepare(
                store,
                self.guest.instance.memory()?,
                self.guest.divergent_pages.clone(),
            )
            .await;
        }
        let save = self.vmm_save(store);
        SnapshotWriter::by_vmm(store, save)
    }

    /// The VMM of a restored machine knows what was written since the last save: that is laid over the last save's memory
    /// once the machine goes on. Where that is gone, or the machine was booted, or files have no exact holes, all is saved.
    fn vmm_save(&mut self, store: &Snapshots) -> VmmSave {
        if self.record().origin.is_none() || !self.guest.instance.has_exact_diffs() {
            return VmmSave::whole();
        }
        let last = LastMemory::in_dir(&self.guest.claim.dir);
        let dirs = [self.guest.claim.dir.clone(), store.home().snapshots()];
        if !dirs.iter().all(|dir| matches!(mimeo_pager::has_exact_holes(dir), Ok(true))) {
            // The VMM forgets what was written since.
            last.remove();
            return VmmSave::whole();
        }
        let is_over_last = self.saves.last.is_some() && last.is_there();
        let (kind, is) = match self.saves.last {
            Some(is) if is_over_last => (SaveKind::Diff, is),
            None => (SaveKind::Diff, LastSave::Difference),
            Some(_) => (SaveKind::Full, LastSave::Whole),
        };
        let (done, leaving) = oneshot::channel();
        self.saves.leaving = Some(leaving);
        let differs = is == LastSave::Difference;
        VmmSave { kind, differs, is_over_last, last: Some(last), done: Some(done) }
    }

    /// An empty layer for what is written from now on, where the driver can have one.
    fn make_layer(&self) -> Result<Option<PathBuf>, SaveError> {
        if !self.guest.capabilities.disk_layers {
            return Ok(None);
        }
        let record = self.record();
        let layer = self.guest.claim.dir.join(snapshot::disk(record.disk_layers));
        // One that an earlier try left.
        std::fs::remove_file(&layer).ok();
        add_layer_file(&self.guest.claim.dir, record.disk_layers, record.spec.disk_bytes)
            .map_err(SaveError::Layer)?;
        Ok(Some(layer))
    }

    /// The guest does what takes it time while its workload still runs.
    async fn prepare(&self) -> Result<(), SaveError> {
        let mut stream = self.guest.link.open(&Request::Prepare)?;
        match timeout(PREPARE, stream.receiver.message::<Reply>()).await {
            Ok(Ok(Reply::Done)) => Ok(()),
            Ok(Ok(Reply::Failed(failure))) => Err(SaveError::Freeze(failure)),
            Ok(Ok(answer)) => Err(SaveError::Answer(format!("{answer:?}"))),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(silent("write out what its disk has not", PREPARE)),
        }
    }

    /// Whatever happens in between, the workload goes on afterwards.
    async fn stand_still(
        &mut self,
        writer: &mut SnapshotWriter,
        layer: Option<&Path>,
    ) -> Result<(), SaveError> {
        let (mut stream, hold) = self.guest.link.open_and_pause_writes(&Request::Freeze)?;
        let frozen = timeout(FREEZE, stream.receiver.message::<Reply>()).await;
        let copied = match frozen {
            Ok(Ok(Reply::Frozen { .. })) => self.copy_standing(writer, layer).await,
            Ok(Ok(Reply::Failed(failure))) => Err(SaveError::Freeze(failure)),
            Ok(Ok(answer)) => Err(SaveError::Answer(format!("{answer:?}"))),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(silent("freeze its workload", FREEZE)),
        };
        hold.resume();
        let thawed = self.thaw().await;
        copied.and(thawed)
    }

    async fn copy_standing(
        &mut self,
        writer: &mut SnapshotWriter,
        layer: Option<&Path>,
    ) -> Result<(), SaveError> {
        let stood_still = Instant::now();
        let copied = match self.guest.instance.pause().await {
            Ok(()) => self.copy_paused(writer, layer).await,
            Err(error) => Err(error.into()),
        };
        // Even when nobody said that it stopped: commands are done in their order.
        let resumed = self.guest.instance.resume().await;
        self.standstill.length += stood_still.elapsed();
        if resumed.is_err() {
            // It stands still, and can be told to go on.
            self.enter(State::Paused);
        }
        copied.and(resumed.map_err(SaveError::from))
    }

    async fn copy_paused(
        &mut self,
        writer: &mut SnapshotWriter,
        layer: Option<&Path>,
    ) -> Result<(), SaveError> {
        if let Some(differs) = writer.is_difference_by_vmm() {
            self.saves.last = Some(if differs { LastSave::Difference } else { LastSave::Whole });
        }
        writer.write(self.guest.instance.as_mut()).await?;
        let Some(layer) = layer else {
            let name = snapshot::disk(0);
            let (from, to) = (self.guest.claim.dir.join(&name), writer.draft.dir.join(&name));
            return Ok(disk_copy::copy(&from, &to)?);
        };
        let added = self.guest.instance.add_layer(WRITABLE_SERIAL, layer).await;
        match &added {
            Ok(()) => self.guest.claim.record.disk_layers += 1,
            // It said no, and writes where it wrote before.
            Err(OperationError::Refused { .. }) => {}
            Err(_) => self.saves.disk_unknown = true,
        }
        Ok(added?)
    }

    /// PendingRequest for again when nobody says that it was done: a workload that stays
    /// frozen is the worst that a snapshot can do.
    async fn thaw(&mut self) -> Result<(), SaveError> {
        let advance_nanos = self.standstill.length.as_nanos() as u64;
        self.standstill.length = Duration::ZERO;
        let mut thawed = self.thaw_once(advance_nanos).await;
        for _ in 1..THAWS {
            if matches!(thawed, Ok(()) | Err(SaveError::Link(_))) {
                break;
            }
            // By then the clock has been set on, or never will be.
            thawed = self.thaw_once(0).await;
        }
        thawed
    }

    async fn thaw_once(&mut self, advance_nanos: u64) -> Result<(), SaveError> {
        let since = self.standstill.clock.map(Reading::mark);
        let mut stream = self.guest.link.open(&Request::Thaw { unix_nanos: None, advance_nanos, since })?;
        match timeout(FREEZE, stream.receiver.message::<Reply>()).await {
            Ok(Ok(Reply::Done)) => Ok(()),
            Ok(Ok(answer)) => Err(SaveError::Answer(format!("{answer:?}"))),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(silent("let its workload go on", FREEZE)),
        }
    }
}

fn silent(step: &'static str, waited: Duration) -> SaveError {
    SaveError::Silent { step, waited, dump: HangDump::default() }
}

/// Completes the snapshot and makes it one of all.
async fn keep(
    store: &Snapshots,
    saved: Saved,
    tag: Option<MachineName>,
    kind: Kind,
) -> Result<Manifest, SaveError> {
    let Saved { writer, record, version, created, pause } = saved;
    // Children of a fork start at once, and die with the host: nobody need
    // wait for the platter, nor for digests.
    let keep = kind != Kind::Fork;
    let WrittenSnapshot { draft, mut files, memory_bytes, differs } = writer.finish(keep).await?;
    for name in (0..record.disk_layers).map(snapshot::disk) {
        files.push(draft.file(&name, keep)?);
    }
    let requires = record.requires.clone().ok_or(SaveError::Old)?;
    let manifest = Manifest {
        format: Manifest::FORMAT,
        id: draft.id.clone(),
        tag,
        kind,
        created,
        parent: record.origin.clone().filter(|_| differs),
        requires: Requirements { version, ..requires },
        disk_layers: record.disk_layers,
        memory_bytes,
        boot_id: boot_id(),
        pause_micros: u64::try_from(pause.as_micros()).unwrap_or(u64::MAX).min(MICROS as u64 * 3600),
        files,
        machine: Some(record),
    };
    if let Some(parent) = manifest.parent.clone().filter(|_| keep) {
        let assured = store.clone();
        let assuring = spawn_blocking(move || snapshot::assure(&assured, &parent));
        assuring.await.map_err(|_| WriteError::CutOff)??;
    }
    draft.commit(&manifest)?;
    if let Ok(snapshot) = store.read(&manifest.id) {
        snapshot::trust(store, &snapshot);
    }
    Ok(manifest)
}

fn told(kept: Result<Manifest, SaveError>) -> ControlReply {
    match kept {
        Ok(manifest) => ControlReply::Saved {
            snapshot: manifest.id,
            pause_micros: manifest.pause_micros,
            memory_bytes: manifest.memory_bytes,
        },
        Err(error) => ControlReply::Failed { message: chain(&error) },
    }
}
