//! Starts a machine again, as its restart policy requests.

use std::time::Duration;

use mimeo_agent_protocol::message::TerminalSize;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::foreground::Sinks;
use super::run::{Ended, Endpoints};
use super::signals::Signals;
use super::{SupervisorError, after_vmm_exit, run};
use crate::Engine;
use crate::cause::chain;
use crate::create::{Running, start_again};
use crate::ignored::LogFailure;
use crate::machine::{Backoff, Exit, State, is_restart_due};

/// podman's exit code for a machine that could not be started.
const START_FAILED: i32 = 125;

/// Starts the machine again until its restart policy, or a signal to this process, ends it. Returns its last exit.
pub(super) async fn restart_while_due(engine: &Engine, mut ended: Ended, signals: &mut Signals) -> Exit {
    let mut backoff = Backoff::default();
    while ended.is_restart_due {
        let delay = backoff.next_delay(ended.uptime);
        tracing::debug!(component = "supervisor", machine = %ended.claim.record.name, ?delay, "restarting");
        let running = tokio::select! {
            biased;
            signal = signals.interruption() => Err(SupervisorError::Interrupted { signal }),
            running = restart_after(engine, &mut ended, delay) => running,
        };
        ended = match running {
            Ok(running) => {
                let (_, server_gone) = mpsc::channel(1);
                let attachment = std::mem::take(&mut ended.attachment);
                let endpoints = Endpoints { attachment, signals: &mut *signals, server_gone };
                engine.events().record(&running.guest.claim.record, "restart", &[]);
                match run::run(engine, running, endpoints, |_| {}).await {
                    Ok(next) => next,
                    Err(error) => mark_failed(ended, error).await,
                }
            }
            Err(error) => mark_failed(ended, error).await,
        };
    }
    let Ended { claim, exit, writer, .. } = ended;
    // The machine has ended, although its output may not be read yet.
    drop(claim);
    if let Some(writer) = writer {
        tokio::select! {
            _ = writer => {}
            _ = signals.interruption() => {}
        }
    }
    exit
}

async fn restart_after(
    engine: &Engine,
    ended: &mut Ended,
    delay: Duration,
) -> Result<Running, SupervisorError> {
    sleep(delay).await;
    if let Some(writer) = &mut ended.writer {
        // It fails only if the task panicked: then there is no foreground any more.
        let Sinks { stdout, stderr, .. } = writer.await.unwrap_or_default();
        ended.writer = None;
        (ended.attachment.stdout, ended.attachment.stderr) = (stdout, stderr);
    }
    let size: Option<TerminalSize> = ended.attachment.size.as_ref().map(|size| *size.borrow());
    Ok(start_again(engine, ended.claim.record.clone(), ended.claim.lock(), size).await?)
}

/// Records that the machine was not started again. A failure counts as a run; a signal is the end.
async fn mark_failed(mut ended: Ended, error: SupervisorError) -> Ended {
    let is_interrupted = matches!(error, SupervisorError::Interrupted { .. });
    let error = after_vmm_exit(error).await;
    let record = &mut ended.claim.record;
    if !is_interrupted {
        let error = chain(&error);
        tracing::warn!(component = "supervisor", machine = %record.name, error, "cannot start the machine again");
        record.restart_count += 1;
        ended.exit = Exit { code: START_FAILED, out_of_memory: false, error: Some(error) };
    }
    ended.uptime = Duration::ZERO;
    ended.is_restart_due = !is_interrupted && is_restart_due(record, ended.exit.code);
    let state = if ended.is_restart_due { State::Restarting } else { State::Exited };
    record.state = state(ended.exit.clone());
    ended.claim.store_or_spare().log_failure("supervisor", "write the machine's state");
    ended
}
