//! Progress of a pull: bars on a terminal, nothing elsewhere.

use std::collections::HashMap;
use std::io::{IsTerminal, stderr};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use mimeo_image::{Digest, Event, Progress, Quiet, Stage};

/// Returns the progress reporter for standard error.
pub(crate) fn reporter(quiet: bool) -> Arc<dyn Progress> {
    if quiet || !stderr().is_terminal() { Arc::new(Quiet) } else { Arc::new(Bars::default()) }
}

#[derive(Debug, Default)]
struct Bars {
    all: MultiProgress,
    layers: Mutex<HashMap<Digest, ProgressBar>>,
    writing: Mutex<Option<ProgressBar>>,
}

impl Progress for Bars {
    fn event(&self, event: Event) {
        match event {
            Event::Layer { digest, stage, done, total } => self.layer(digest, stage, done, total),
            Event::Writing { done, total } => self.write(done, total),
            Event::Stored => self.finish(),
            _ => {}
        }
    }
}

impl Bars {
    fn layer(&self, digest: Digest, stage: Stage, done: u64, total: u64) {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let short = digest.hex()[..12].to_owned();
        let bar = layers.entry(digest).or_insert_with(|| self.bar(short, total));
        bar.set_length(total);
        bar.set_position(done);
        bar.set_message(match stage {
            Stage::Downloading => "downloading",
            Stage::Retrying => "retrying",
            Stage::Present => "done",
            Stage::Uploading => "uploading",
            Stage::Unpacking => "unpacking",
            _ => "",
        });
    }

    fn write(&self, done: u64, total: u64) {
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = writing.get_or_insert_with(|| self.bar("filesystem".to_owned(), total));
        bar.set_length(total);
        bar.set_position(done);
        bar.set_message("writing");
    }

    fn bar(&self, prefix: String, total: u64) -> ProgressBar {
        let style = ProgressStyle::with_template("{prefix:12} {bar:30} {bytes:>10}/{total_bytes:10} {msg}");
        let bar = self.all.add(ProgressBar::new(total).with_prefix(prefix));
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar
    }

    fn finish(&self) {
        // If the terminal cannot be cleared, the bars stay visible.
        self.all.clear().ok();
    }
}
