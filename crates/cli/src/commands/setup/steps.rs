//! Tells a person who waits what is being done, and how long it took.

use std::io::{IsTerminal, Write, stderr};
use std::time::Instant;

/// Steps on standard error, each with its time once it is over.
#[derive(Debug)]
pub(super) struct Steps {
    step: Option<(String, Instant)>,
    /// Words that change while they are shown, as on a terminal alone they can.
    live: bool,
}

impl Steps {
    pub(super) fn new() -> Self {
        Self { step: None, live: stderr().is_terminal() }
    }

    /// A step begins, and the one before is over.
    pub(super) fn begin(&mut self, words: impl Into<String>) {
        self.end();
        let words = words.into();
        self.show(&words);
        self.step = Some((words, Instant::now()));
    }

    /// The step goes on, in other words.
    pub(super) fn go_on(&mut self, words: impl Into<String>) {
        let begun = self.step.take().map_or_else(Instant::now, |(_, begun)| begun);
        let words = words.into();
        self.show(&words);
        self.step = Some((words, begun));
    }

    /// The last step is over.
    pub(super) fn end(&mut self) {
        let Some((words, begun)) = self.step.take() else { return };
        let clear = if self.live { "\r\x1b[K" } else { "" };
        // Nobody is there to read it: then nobody misses it.
        writeln!(stderr(), "{clear}{words} ({:.1} s)", begun.elapsed().as_secs_f32()).ok();
    }

    fn show(&self, words: &str) {
        if self.live {
            let mut stderr = stderr();
            write!(stderr, "\r\x1b[K{words} …").and_then(|()| stderr.flush()).ok();
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.end();
    }
}
