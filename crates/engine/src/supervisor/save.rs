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

use super::clock::ClockReading;
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
const FREEZE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a guest to thaw its workload.
const THAW_TIMEOUT: Duration = Duration::from_secs(10);
/// Layers that a disk may have: each is an open file, and a step on the way to
/// what was written long ago (docs/decisions/0006-disks-of-clones.md).
const MAX_LAYERS: u32 = 64;
/// How long a guest may take to write what its disk has not yet.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(60);
/// Times that a guest is told to go on.
const MAX_THAWS: u32 = 3;
const MICROS_PER_SECOND: u128 = 1_000_000;

/// Why there is no snapshot. The machine goes on as if nobody had asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum SaveError {
    #[error("it has volumes: what is served to a machine from the host cannot be captured with it")]
    Volumes,
    #[error(
        "its disk has {MAX_LAYERS} layers, one for each time that it or what it came of was captured: start anew from its image, or from an earlier snapshot"
    )]
    Layers,
    #[error(
        "its virtual machine monitor did not answer an earlier snapshot, so that nobody knows which file its disk is: stop it, and start it anew"
    )]
    UnknownDisk,
    #[error("it was started by a mimeo that saved no snapshots")]
    NoRequirements,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Operation(#[from] OperationError),
    #[error("cannot make sure of what it builds on")]
    VerifyParent(#[from] snapshot::LoadError),
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
    UnexpectedReply(String),
}

/// What was copied, and is not kept yet.
struct CapturedMachine {
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
        match self.capture(&store, tag.as_ref()).await {
            Ok(saved) => {
                self.events.record(&self.guest.claim.record, "snapshot", &[]);
                // The machine's one writer has other things to do. Its end waits for this.
                self.saving.spawn(async move {
                    // Who asked may have gone.
                    reply.send(saved_reply(commit_snapshot(&store, saved, tag, kind).await)).ok();
                });
            }
            Err(error) => {
                let error = self.with_hang_dump(store.home(), error).await;
                reply.send(ControlReply::Failed { message: chain(&error) }).ok();
            }
        }
    }

    /// A guest that was silent leaves a hang dump, which the error names.
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
    ) -> Result<CapturedMachine, SaveError> {
        let record = self.record();
        if !record.spec.volumes.is_empty() {
            return Err(SaveError::Volumes);
        }
        if record.requires.is_none() {
            return Err(SaveError::NoRequirements);
        }
        if record.disk_layers >= MAX_LAYERS {
            return Err(SaveError::Layers);
        }
        if self.saves.disk_unknown {
            return Err(SaveError::UnknownDisk);
        }
        if let Some(parent) = record.origin.as_ref().filter(|parent| store.read(parent).is_err()) {
            return Err(StoreError::MissingParent { parent: parent.short().to_owned() }.into());
        }
        if let Some(tag) = tag {
            store.check_tag(tag)?;
        }
        let layers = record.disk_layers;
        let version = self.guest.instance.version().await?;
        if let Some(last_memory_ready) = self.saves.last_memory_ready.take() {
            // It ends by its drop.
            last_memory_ready.await.ok();
        }
        self.prepare().await?;
        let mut writer = self.prepare_writer(store).await?;
        let layer = self.create_layer()?;
        self.paused_time.clock_before = ClockReading::read(&self.guest.link).await;
        let paused_at = Instant::now();
        let captured = self.freeze_and_capture(&mut writer, layer.as_deref()).await;
        let pause = paused_at.elapsed();
        // The workload goes on: nobody waits for the disk.
        self.store_state();
        captured?;
        if layer.is_some() {
            for name in (0..layers).map(snapshot::disk) {
                writer.draft.link(&self.guest.claim.dir.join(&name), &name)?;
            }
        }
        let record = Record { disk_layers: layers, ..self.record().clone() };
        Ok(CapturedMachine { writer, record, version, created: Timestamp::now(), pause })
    }

    /// Makes ready what the driver saves memory by.
    async fn prepare_writer(&mut self, store: &Snapshots) -> Result<SnapshotWriter, WriteError> {
        if self.guest.capabilities.memory == MemorySave::Reader {
            return SnapshotWriter::prepare(
                store,
                self.guest.instance.memory()?,
                self.guest.divergent_pages.clone(),
            )
            .await;
        }
        let save = self.plan_vmm_save(store);
        SnapshotWriter::by_vmm(store, save)
    }

    /// The VMM of a restored machine knows what was written since the last save: that is laid over the last save's memory
    /// once the machine goes on. Where that is gone, or the machine was booted, or files have no exact holes, all is saved.
    fn plan_vmm_save(&mut self, store: &Snapshots) -> VmmSave {
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

    /// An empty layer for what is written from now on, where the driver can have one.
    fn create_layer(&self) -> Result<Option<PathBuf>, SaveError> {
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
        match timeout(PREPARE_TIMEOUT, stream.receiver.message::<Reply>()).await {
            Ok(Ok(Reply::Done)) => Ok(()),
            Ok(Ok(Reply::Failed(failure))) => Err(SaveError::Freeze(failure)),
            Ok(Ok(reply)) => Err(SaveError::UnexpectedReply(format!("{reply:?}"))),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(silent_guest("write out what its disk has not", PREPARE_TIMEOUT)),
        }
    }

    /// Whatever happens in between, the workload goes on afterwards.
    async fn freeze_and_capture(
        &mut self,
        writer: &mut SnapshotWriter,
        layer: Option<&Path>,
    ) -> Result<(), SaveError> {
        let (mut stream, paused_writes) = self.guest.link.open_and_pause_writes(&Request::Freeze)?;
        let frozen = timeout(FREEZE_TIMEOUT, stream.receiver.message::<Reply>()).await;
        let captured = match frozen {
            Ok(Ok(Reply::Frozen { .. })) => self.capture_frozen(writer, layer).await,
            Ok(Ok(Reply::Failed(failure))) => Err(SaveError::Freeze(failure)),
            Ok(Ok(reply)) => Err(SaveError::UnexpectedReply(format!("{reply:?}"))),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(silent_guest("freeze its workload", FREEZE_TIMEOUT)),
        };
        paused_writes.resume();
        let thawed = self.thaw().await;
        captured.and(thawed)
    }

    async fn capture_frozen(
        &mut self,
        writer: &mut SnapshotWriter,
        layer: Option<&Path>,
    ) -> Result<(), SaveError> {
        let paused_at = Instant::now();
        let captured = match self.guest.instance.pause().await {
            Ok(()) => self.capture_paused(writer, layer).await,
            Err(error) => Err(error.into()),
        };
        // Even when nobody said that it stopped: commands are done in their order.
        let resumed = self.guest.instance.resume().await;
        self.paused_time.for_snapshot += paused_at.elapsed();
        if resumed.is_err() {
            // It stands still, and can be told to go on.
            self.enter(State::Paused);
        }
        captured.and(resumed.map_err(SaveError::from))
    }

    async fn capture_paused(
        &mut self,
        writer: &mut SnapshotWriter,
        layer: Option<&Path>,
    ) -> Result<(), SaveError> {
        if let Some(is_diff) = writer.planned_vmm_diff() {
            self.saves.last = Some(if is_diff { LastSave::Diff } else { LastSave::Full });
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
        let advance_nanos = self.paused_time.for_snapshot.as_nanos() as u64;
        self.paused_time.for_snapshot = Duration::ZERO;
        let mut thawed = self.thaw_once(advance_nanos).await;
        for _ in 1..MAX_THAWS {
            if matches!(thawed, Ok(()) | Err(SaveError::Link(_))) {
                break;
            }
            // By then the clock has been set on, or never will be.
            thawed = self.thaw_once(0).await;
        }
        thawed
    }

    async fn thaw_once(&mut self, advance_nanos: u64) -> Result<(), SaveError> {
        let since = self.paused_time.clock_before.map(ClockReading::mark);
        let mut stream = self.guest.link.open(&Request::Thaw { unix_nanos: None, advance_nanos, since })?;
        match timeout(THAW_TIMEOUT, stream.receiver.message::<Reply>()).await {
            Ok(Ok(Reply::Done)) => Ok(()),
            Ok(Ok(reply)) => Err(SaveError::UnexpectedReply(format!("{reply:?}"))),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(silent_guest("let its workload go on", THAW_TIMEOUT)),
        }
    }
}

fn silent_guest(step: &'static str, waited: Duration) -> SaveError {
    SaveError::Silent { step, waited, dump: HangDump::default() }
}

/// Completes the snapshot and makes it one of all.
async fn commit_snapshot(
    store: &Snapshots,
    saved: CapturedMachine,
    tag: Option<MachineName>,
    kind: Kind,
) -> Result<Manifest, SaveError> {
    let CapturedMachine { writer, record, version, created, pause } = saved;
    // Children of a fork start at once, and die with the host: nobody need
    // wait for the platter, nor for digests.
    let is_durable = kind != Kind::Fork;
    let WrittenSnapshot { draft, mut files, memory_bytes, is_diff } = writer.finish(is_durable).await?;
    for name in (0..record.disk_layers).map(snapshot::disk) {
        files.push(draft.file(&name, is_durable)?);
    }
    let requires = record.requires.clone().ok_or(SaveError::NoRequirements)?;
    let manifest = Manifest {
        format: Manifest::FORMAT,
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
    };
    if let Some(parent) = manifest.parent.clone().filter(|_| is_durable) {
        let snapshots = store.clone();
        let made_durable = spawn_blocking(move || snapshot::make_durable(&snapshots, &parent));
        made_durable.await.map_err(|_| WriteError::CutOff)??;
    }
    draft.commit(&manifest)?;
    if let Ok(snapshot) = store.read(&manifest.id) {
        snapshot::trust(store, &snapshot);
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
