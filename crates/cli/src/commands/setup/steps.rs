//! Shows the step in progress on standard error, and how long each step took.

use std::io::{IsTerminal, Write, stderr};
use std::time::Instant;

/// Prints each step with its duration when it ends.
#[derive(Debug)]
pub(super) struct Steps {
    step: Option<(String, Instant)>,
    /// Only a terminal also shows a step while it is in progress.
    is_terminal: bool,
}

impl Steps {
    pub(super) fn new() -> Self {
        Self { step: None, is_terminal: stderr().is_terminal() }
    }

    /// Ends the current step and begins another.
    pub(super) fn begin(&mut self, text: impl Into<String>) {
        self.end();
        let text = text.into();
        self.show(&text);
        self.step = Some((text, Instant::now()));
    }

    /// Changes the text of the current step.
    pub(super) fn update(&mut self, text: impl Into<String>) {
        let started = self.step.take().map_or_else(Instant::now, |(_, started)| started);
        let text = text.into();
        self.show(&text);
        self.step = Some((text, started));
    }

    /// Ends the current step.
    pub(super) fn end(&mut self) {
        let Some((text, started)) = self.step.take() else { return };
        let clear = if self.is_terminal { "\r\x1b[K" } else { "" };
        // If standard error is closed, nobody reads the progress.
        writeln!(stderr(), "{clear}{text} ({:.1} s)", started.elapsed().as_secs_f32()).ok();
    }

    fn show(&self, text: &str) {
        if self.is_terminal {
            let mut stderr = stderr();
            // As in `end`.
            write!(stderr, "\r\x1b[K{text} …").and_then(|()| stderr.flush()).ok();
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.end();
    }
}
