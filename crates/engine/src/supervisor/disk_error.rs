//! A machine whose disk the host cannot write: the VMM has paused it. It resumes when the host can write again,
//! so that its guest never sees the error, after which its filesystem would stay read-only.

use std::path::Path;
use std::time::Duration;

use mimeo_agent_protocol::message::Request;
use mimeo_vmm::DiskError;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::machine::Machine;
use crate::cause::chain;
use crate::control::ControlReply;
use crate::ignored::LogFailure;
use crate::machine::{Phase, Refusal, State};

/// Time between the first and the second attempt to resume; each further one waits twice as long as the one
/// before.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest time between two attempts.
const MAX_WAIT: Duration = Duration::from_secs(8);
/// Time for the VMM to repeat the refused writes. It does so at once when it resumes the machine.
const WRITE_TIMEOUT: Duration = Duration::from_millis(200);
/// Free space on the host's disk with which a machine resumes: with less it would be paused again at once.
const MIN_FREE_BYTES: u64 = 4 << 20;

/// The wait of a machine whose disk the host cannot write.
#[derive(Debug)]
pub(super) struct DiskWait {
    error: DiskError,
    since: Instant,
    /// When to try again.
    pub(super) at: Instant,
    wait: Duration,
}

impl Machine {
    /// Handles a disk error, for which the VMM has just paused the machine.
    pub(super) fn handle_disk_error(&mut self, error: DiskError) {
        let now = Instant::now();
        match self.record().phase() {
            // It stays paused until the user resumes it, which repeats the write.
            Phase::Paused => return,
            Phase::Running => self.report_disk_error(&error),
            // The guest may be able to end the container between two attempts to write.
            _ => {}
        }
        let wait = self.disk_wait.get_or_insert(DiskWait { error, since: now, at: now, wait: FIRST_WAIT });
        wait.at = now + wait.wait;
    }

    fn report_disk_error(&mut self, error: &DiskError) {
        let record = &mut self.guest.claim.record;
        record.disk_error = Some(error.to_string());
        tracing::warn!(component = "supervisor", machine = %record.name, %error, "paused");
        self.enter(State::Paused);
        self.events.record(self.record(), "pause", &[("reason", error.to_string())]);
    }

    /// Resumes the machine if the host can write its disk again; otherwise it is tried again later.
    pub(super) async fn retry_disk(&mut self) {
        if let Some(wait) = &mut self.disk_wait {
            wait.wait = (wait.wait * 2).min(MAX_WAIT);
            wait.at = Instant::now() + wait.wait;
        }
        self.try_disk().await;
    }

    /// Resumes the machine if the host can write its disk again.
    pub(super) async fn try_disk(&mut self) {
        let Some(wait) = &self.disk_wait else { return };
        if wait.error.no_space && !has_space(&self.guest.claim.dir) {
            return;
        }
        self.forget_disk_errors();
        if let Err(error) = self.guest.instance.resume().await {
            let error = chain(&error);
            return tracing::warn!(component = "supervisor", machine = %self.record().name, error, "cannot resume the VMM");
        }
        if !self.is_write_refused().await {
            self.end_disk_wait();
        }
    }

    /// Resumes the machine at a user's request, whatever the host's disk looks like.
    pub(super) async fn unpause_after_disk_error(&mut self) -> ControlReply {
        self.forget_disk_errors();
        if let Err(error) = self.guest.instance.resume().await {
            return ControlReply::Failed { message: chain(&error) };
        }
        if self.is_write_refused().await {
            return ControlReply::Refused { refusal: Refusal::DiskError };
        }
        self.end_disk_wait();
        ControlReply::Done
    }

    /// Whether the host refuses to write the disk of a machine that was just resumed.
    async fn is_write_refused(&mut self) -> bool {
        let Some(errors) = &mut self.disk_errors else { return false };
        matches!(timeout(WRITE_TIMEOUT, errors.recv()).await, Ok(Some(_)))
    }

    /// The disk was written. The guest's clock may have stopped meanwhile.
    fn end_disk_wait(&mut self) {
        let Some(wait) = self.disk_wait.take() else { return };
        let advance_nanos = u64::try_from(wait.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let thaw = Request::Thaw { unix_nanos: None, advance_nanos, since: None };
        self.guest.link.open(&thaw).log_failure("supervisor", "set the guest's clock after a disk error");
        self.guest.claim.record.disk_error = None;
        if self.record().phase() != Phase::Paused {
            return;
        }
        tracing::warn!(component = "supervisor", machine = %self.record().name, "resumed: its disk can be written again");
        self.enter(State::Running);
        self.events.record(self.record(), "unpause", &[]);
    }

    /// Forgets errors that the VMM reported before a resume.
    pub(super) fn forget_disk_errors(&mut self) {
        while self.disk_errors.as_mut().is_some_and(|errors| errors.try_recv().is_ok()) {}
    }
}

/// Waits for the next disk error; for ever if the VMM reports none. Cancel-safe.
pub(super) async fn next_disk_error(errors: &mut Option<mpsc::Receiver<DiskError>>) -> DiskError {
    if let Some(errors) = errors
        && let Some(error) = errors.recv().await
    {
        return error;
    }
    std::future::pending().await
}

/// Whether the disk of `dir` has space again. If that is unknown, a write will tell.
fn has_space(dir: &Path) -> bool {
    let Ok(disk) = rustix::fs::statvfs(dir) else { return true };
    // Only root may use the blocks that are reserved.
    let is_root = rustix::process::geteuid().is_root();
    let blocks = if is_root { disk.f_bfree } else { disk.f_bavail };
    blocks.saturating_mul(disk.f_frsize) >= MIN_FREE_BYTES
}
