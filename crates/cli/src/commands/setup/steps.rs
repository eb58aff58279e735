//! Tells a person who waits what is being done, and how long it took.

use std::io::{IsTerminal, Write, stderr};
use std::time::Instant;

/// Steps on standard error, each with its time once it is over.
#[derive(Debug)]
pub(super) struct Steps {
    step: Option<(String, Instant)>,
    /// Words that change while they are shown, as on a terminal alone they can.
    is_terminal: bool,
}

impl Steps {
    pub(super) fn new() -> Self {
        Self { step: None, is_terminal: stderr().is_terminal() }
    }

    /// A step begins, and the one before is over.
    pub(super) fn begin(&mut self, text: impl Into<String>) {
        self.end();
        let text = text.into();
        self.show(&text);
        self.step = Some((text, Instant::now()));
    }

    /// The step goes on, in other text.
    pub(super) fn update(&mut self, text: impl Into<String>) {
        let started = self.step.take().map_or_else(Instant::now, |(_, started)| started);
        let text = text.into();
        self.show(&text);
        self.step = Some((text, started));
    }

    /// The last step is over.
    pub(super) fn end(&mut self) {
        let Some((text, started)) = self.step.take() else { return };
        let clear = if self.is_terminal { "\r\x1b[K" } else { "" };
        // Nobody is there to read it: then nobody misses it.
        writeln!(stderr(), "{clear}{text} ({:.1} s)", started.elapsed().as_secs_f32()).ok();
    }

    fn show(&self, text: &str) {
        if self.is_terminal {
            let mut stderr = stderr();
            write!(stderr, "\r\x1b[K{text} …").and_then(|()| stderr.flush()).ok();
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.end();
    }
}
