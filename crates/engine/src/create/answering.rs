//! Stage 5: waits for the guest's agent to answer.

use std::path::Path;
use std::time::Duration;

use mimeo_agent_protocol::link::{Link, LinkError};
use tokio::time::timeout;

use super::launched::Launched;
use crate::Engine;
use crate::cause::chain;
use crate::guest::{self, FIRST_SESSION};
use crate::hang::{HangDump, SilentGuest};
use crate::stage::{Stage, StageError, StartError};

/// How long the VMM may take to exit after its link has closed.
const EXIT_TIMEOUT: Duration = Duration::from_secs(1);
/// Lines at the console's end that an error shows.
const CONSOLE_LINES: usize = 20;

/// A machine whose agent has answered.
#[derive(Debug)]
pub(super) struct Answering {
    pub(super) launched: Launched,
    pub(super) link: Link,
}

impl Launched {
    /// Waits until the agent answers. This stage has nothing of its own to undo.
    pub(super) async fn answer(mut self, engine: &Engine) -> Result<Answering, StartError> {
        match self.connect().await {
            Ok(link) => {
                self.chosen.guest_answered(engine.home());
                self.imaged.planned.stopwatch.lap("boot");
                Ok(Answering { launched: self, link })
            }
            Err(error) if self.chosen.is_trial() => {
                let why = self.chosen.guest_failed(engine.home(), chain(&error));
                Err(self.fail(engine, Stage::Boot, StageError::Kvm { why }).await)
            }
            Err(error) => Err(self.fail(engine, Stage::Boot, error).await),
        }
    }

    async fn connect(&mut self) -> Result<Link, StageError> {
        if let Some(link) = self.link.take() {
            return Ok(link);
        }
        let start_timeout = Duration::from_secs(self.imaged.planned.claim.record.spec.start_timeout.into());
        let boot_timeout = self.chosen.boot_timeout(start_timeout);
        let hello = guest::connect(self.vm.instance.take_link()?, FIRST_SESSION);
        tokio::select! {
            answered = timeout(boot_timeout, hello) => match answered {
                Ok(Ok(link)) => Ok(link),
                Ok(Err(error)) => Err(self.link_lost(error).await),
                Err(_) => {
                    let seconds = boot_timeout.as_secs() as u32;
                    Err(StageError::Silent { seconds, dump: HangDump::default() })
                }
            },
            exit = self.vm.instance.wait() => Err(StageError::died(&exit)),
        }
    }

    /// The error for a link that closed: most often the VMM has exited, and its exit is the reason.
    async fn link_lost(&mut self, error: LinkError) -> StageError {
        match timeout(EXIT_TIMEOUT, self.vm.instance.wait()).await {
            Ok(exit) => StageError::died(&exit),
            Err(_) => error.into(),
        }
    }

    /// Kills the VMM and returns the error with its evidence and the console's last lines.
    pub(super) async fn fail(mut self, engine: &Engine, stage: Stage, source: StageError) -> StartError {
        let claim = &self.imaged.planned.claim;
        let (id, console) = (claim.record.id.short(), claim.dir.join("console.log"));
        let guest = SilentGuest { instance: self.vm.instance.as_mut(), id, console: &console };
        let source = source.with_evidence(engine.home(), guest).await;
        self.vm.instance.kill().await;
        StartError { stage, source, console: console_tail(&claim.dir) }
    }
}

/// The console's last lines, of the machine in `dir`.
pub(crate) fn console_tail(dir: &Path) -> Vec<String> {
    let text = std::fs::read(dir.join("console.log")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().map(|line| line.trim_end().to_owned()).collect();
    lines[lines.len().saturating_sub(CONSOLE_LINES)..].to_vec()
}
