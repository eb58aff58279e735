//! A machine in the foreground: this process is its supervisor.

use std::sync::PoisonError;

use mimeo_engine::create::{Start, StartOptions};
use mimeo_engine::{Engine, Record, supervise};

use super::{RunRequest, remove_image, warn_about_terminal};
use crate::error::{CliError, from_supervisor};
use crate::stdio::{attachment, exit_code_with_failed_output};
use crate::terminal::{RawTerminal, watch_size};
use crate::{output, progress};

/// Runs the machine until it exits; returns the container's exit code.
pub(super) async fn run(engine: &Engine, request: RunRequest) -> Result<i32, CliError> {
    let RunRequest { spec, files, quiet, options, .. } = request;
    let streams = options.output;
    let remove = spec.remove_image;
    let (tty, interactive) = (spec.tty, spec.interactive);
    let size = if tty { Some(watch_size()?) } else { None };
    warn_about_terminal(&spec);
    let (mut raw, mut image) = (None, None);
    let attachment = attachment(interactive, streams, size);
    let failure = attachment.failure.clone();
    let started = |record: &Record| {
        image = record.image.clone();
        // The machine runs: an error does not end it.
        let written = files.write(record.id.as_str(), Some(record.supervisor.pid));
        let printed = if streams.is_empty() { output::line(record.id.as_str()) } else { Ok(()) };
        if let Err(error) = written.and(printed) {
            tracing::error!(component = "run", "{error}");
        }
        // Until the container runs, Ctrl-C ends mimeo; from now on it goes to the container.
        if tty && interactive {
            raw = RawTerminal::enter().unwrap_or_else(|error| {
                tracing::warn!(component = "terminal", %error, "cannot enter raw mode: input is passed on line by line");
                None
            });
        }
    };
    let (start, options) = (Start::New(Box::new(spec)), StartOptions::new(progress::reporter(quiet)));
    let exit = supervise(engine, start, attachment, options, std::future::pending(), started).await;
    drop(raw);
    match image.filter(|_| remove) {
        Some(image) => remove_image(engine, &image),
        None if exit.is_err() => files.give_up(),
        None => {}
    }
    let exit = exit.map_err(from_supervisor)?;
    if let Some(error) = exit.error {
        return Err(CliError::usage(error).with_code(exit.code));
    }
    let failure = failure.lock().unwrap_or_else(PoisonError::into_inner).take();
    Ok(exit_code_with_failed_output(exit.code, failure))
}
