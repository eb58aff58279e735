//! A machine in the foreground: this process is its monitor.

use std::io::IsTerminal;

use mimeo_engine::{Engine, MachineSpec, monitor};

use crate::error::{CliError, from_supervisor};
use crate::progress;
use crate::stdio::attachment;
use crate::terminal::{RawTerminal, watch_size};

/// Runs the machine until its end; the container's exit code.
pub(super) async fn run(engine: &Engine, spec: MachineSpec, quiet: bool) -> Result<i32, CliError> {
    let (tty, interactive) = (spec.tty, spec.interactive);
    let size = if tty { Some(watch_size()?) } else { None };
    if tty && interactive && !std::io::stdin().is_terminal() {
        tracing::warn!(
            component = "terminal",
            "standard input is no terminal: leave --tty out to pass it on as it is"
        );
    }
    let mut raw = None;
    let attachment = attachment(interactive, size);
    let started = |_: &_| {
        // From the first stage on Ctrl-C must end mimeo; from here it is the container's.
        if tty && interactive {
            raw = RawTerminal::enter().unwrap_or_else(|error| {
                tracing::warn!(component = "terminal", %error, "keys are not passed on one by one");
                None
            });
        }
    };
    let exit =
        monitor(engine, spec, attachment, progress::reporter(quiet), std::future::pending(), started).await;
    drop(raw);
    let exit = exit.map_err(from_supervisor)?;
    if let Some(error) = exit.error {
        return Err(CliError::usage(error).with_code(exit.code));
    }
    Ok(exit.code)
}
