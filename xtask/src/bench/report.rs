//! Samples of one kind, and the page of the documentation that is made of them.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{read, write};

/// Where samples and their page are kept, and how the one is made of the other.
#[derive(Debug)]
pub(super) struct Sheet<T> {
    pub(super) samples: &'static str,
    pub(super) page: &'static str,
    pub(super) of: fn(&T) -> String,
}

/// Where the samples of a measurement go.
#[derive(Debug, clap::Args)]
pub(super) struct Keep {
    /// Keep the samples here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the page of the documentation and its samples
    #[arg(long)]
    publish: bool,
}

impl<T: Serialize + DeserializeOwned> Sheet<T> {
    /// Keeps the samples of a measurement where it was told to.
    pub(super) fn keep(&self, wish: &Keep, measured: &T) -> Result<()> {
        let samples = serde_json::to_string(measured)? + "\n";
        if let Some(path) = &wish.json {
            write(path, &samples)?;
        }
        if wish.publish {
            write(Path::new(self.samples), &samples)?;
            write(Path::new(self.page), &(self.of)(measured))?;
        }
        Ok(())
    }

    /// Writes the page anew from the samples that are kept, if there are any.
    pub(super) fn again(&self) -> Result<()> {
        match Path::new(self.samples).exists() {
            true => write(Path::new(self.page), &(self.of)(&read(Path::new(self.samples))?)),
            false => Ok(()),
        }
    }

    /// The page is that of the samples, or there is neither.
    #[cfg(test)]
    pub(super) fn assert_is_current(&self) {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let (samples, page) = (top.join(self.samples), top.join(self.page));
        if !samples.exists() {
            return assert!(!page.exists(), "{}: a page without samples", self.page);
        }
        let kept = std::fs::read_to_string(page).expect("a page");
        let made = (self.of)(&read::<T>(&samples).expect("samples of this format"));
        assert_eq!(made, kept, "{}: `cargo xtask bench page` makes it anew", self.page);
    }
}
