//! The samples of one benchmark, and the documentation page that is generated from them.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{read, write};

/// The files of samples and page, and the function that renders the page.
#[derive(Debug)]
pub(super) struct Report<T> {
    pub(super) samples: &'static str,
    pub(super) page: &'static str,
    pub(super) render: fn(&T) -> String,
}

/// Where to save samples.
#[derive(Debug, clap::Args)]
pub(super) struct SaveOptions {
    /// Write the samples to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the documentation page and its samples
    #[arg(long)]
    publish: bool,
}

impl<T: Serialize + DeserializeOwned> Report<T> {
    /// Writes the samples where the options say.
    pub(super) fn save(&self, options: &SaveOptions, measured: &T) -> Result<()> {
        let samples = serde_json::to_string(measured)? + "\n";
        if let Some(path) = &options.json {
            write(path, &samples)?;
        }
        if options.publish {
            write(Path::new(self.samples), &samples)?;
            write(Path::new(self.page), &(self.render)(measured))?;
        }
        Ok(())
    }

    /// Regenerates the page from the committed samples, if there are any.
    pub(super) fn regenerate(&self) -> Result<()> {
        match Path::new(self.samples).exists() {
            true => write(Path::new(self.page), &(self.render)(&read(Path::new(self.samples))?)),
            false => Ok(()),
        }
    }

    /// Asserts that the committed page matches the committed samples, or that neither exists.
    #[cfg(test)]
    pub(super) fn assert_is_current(&self) {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let (samples, page) = (top.join(self.samples), top.join(self.page));
        if !samples.exists() {
            return assert!(!page.exists(), "{}: a page without samples", self.page);
        }
        let committed = std::fs::read_to_string(page).expect("a page");
        let rendered = (self.render)(&read::<T>(&samples).expect("samples of this format"));
        assert_eq!(rendered, committed, "{} is stale: run `cargo xtask bench page`", self.page);
    }
}
