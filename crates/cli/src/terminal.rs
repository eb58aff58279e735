//! The terminal that mimeo runs in: raw mode and size.

use std::io::{IsTerminal, stdin, stdout};

use mimeo_agent_protocol::message::TerminalSize;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::error::CliError;

/// Assumed when the terminal reports no size.
const DEFAULT_SIZE: TerminalSize = TerminalSize { rows: 24, cols: 80 };

/// A terminal in raw mode. Dropping this restores its settings.
#[derive(Debug)]
pub(crate) struct RawTerminal {
    original: Termios,
}

impl RawTerminal {
    /// Puts standard input into raw mode; `None` if it is not a terminal.
    pub(crate) fn enter() -> Result<Option<Self>, CliError> {
        if !stdin().is_terminal() {
            return Ok(None);
        }
        let io = |errno: rustix::io::Errno| CliError::io("set up the terminal", errno.into());
        let original = tcgetattr(stdin()).map_err(io)?;
        let mut raw = original.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw).map_err(io)?;
        Ok(Some(Self { original }))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // This fails only if the terminal is gone; then there is nothing to restore.
        tcsetattr(stdin(), OptionalActions::Now, &self.original).ok();
    }
}

/// Standard input that does not show what is typed. Dropping this restores its settings.
#[derive(Debug)]
pub(crate) struct HiddenInput {
    original: Termios,
}

impl HiddenInput {
    /// Hides what is typed; `None` if standard input is not a terminal.
    pub(crate) fn enter() -> Result<Option<Self>, CliError> {
        if !stdin().is_terminal() {
            return Ok(None);
        }
        let io = |errno: rustix::io::Errno| CliError::io("set up the terminal", errno.into());
        let original = tcgetattr(stdin()).map_err(io)?;
        let mut hidden = original.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(stdin(), OptionalActions::Now, &hidden).map_err(io)?;
        Ok(Some(Self { original }))
    }
}

impl Drop for HiddenInput {
    fn drop(&mut self) {
        // This fails only if the terminal is gone; then there is nothing to restore.
        tcsetattr(stdin(), OptionalActions::Now, &self.original).ok();
    }
}

/// The terminal's current size.
pub(crate) fn size() -> TerminalSize {
    match tcgetwinsize(stdout()).or_else(|_| tcgetwinsize(stdin())) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => {
            TerminalSize { rows: size.ws_row, cols: size.ws_col }
        }
        _ => DEFAULT_SIZE,
    }
}

/// Watches the terminal's size.
pub(crate) fn watch_size() -> Result<watch::Receiver<TerminalSize>, CliError> {
    let mut changes = signal(SignalKind::window_change())
        .map_err(|source| CliError::io("listen for changes of the terminal's size", source))?;
    let (sender, receiver) = watch::channel(size());
    tokio::spawn(async move { while changes.recv().await.is_some() && sender.send(size()).is_ok() {} });
    Ok(receiver)
}
