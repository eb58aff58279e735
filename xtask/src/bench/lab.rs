//! Homes of its own for a measurement, and the image that all run.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use e2e::Image;
use mimeo_engine::{Engine, Home};
use serde_json::Value;

use super::result::Key;
use crate::narrate;

/// The image's directory, of which mimeo and podman make its name.
pub(super) const LAYOUT: &str = "mimeo-bench";
/// The image's name for both.
pub(super) const IMAGE: &str = "localhost/mimeo-bench:latest";

/// One measurement's directory, program and image.
#[derive(Debug)]
pub(super) struct Lab {
    dir: tempfile::TempDir,
    program: PathBuf,
}

impl Lab {
    pub(super) fn new() -> Result<Self> {
        let program = std::env::var_os("MIMEO_BIN").map_or_else(narrate::mimeo, PathBuf::from);
        ensure!(program.exists(), "{} is missing: `make build` makes it", program.display());
        // A short path: sockets live below it.
        let dir = tempfile::Builder::new().prefix("mmb").tempdir_in("/tmp")?;
        let lab = Self { dir, program };
        Image::busybox(LAYOUT).write_layout(&lab.dir().join(LAYOUT));
        Ok(lab)
    }

    /// The program that is measured.
    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where mimeo gets the image from.
    fn source(&self) -> String {
        format!("oci:{}:latest", self.dir().join(LAYOUT).display())
    }

    /// A home without a kernel.
    pub(super) fn site(&self, key: Key) -> Site<'_> {
        let dir = self.dir().join(key.word());
        Site { key, lab: self, dir, kernel: String::new() }
    }
}

/// A home with one kernel. What runs in it when it goes ends.
#[derive(Debug)]
pub(super) struct Site<'a> {
    pub(super) key: Key,
    lab: &'a Lab,
    dir: PathBuf,
    /// Its kernel's name.
    pub(super) kernel: String,
}

impl Site<'_> {
    pub(super) fn home(&self) -> PathBuf {
        self.dir.join("home")
    }

    pub(super) fn run_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// Brings the image, as podman's is brought: what runs has it already.
    pub(super) fn pull(&self) -> Result<()> {
        self.mimeo(&["image", "pull", &self.lab.source()]).map(drop)
    }

    /// A `mimeo` command in this home.
    pub(super) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.lab.program);
        command.args(args).env("MIMEO_HOME", self.home()).env("MIMEO_RUN", self.run_dir());
        command
    }

    /// Runs `mimeo`; what it printed.
    pub(super) fn mimeo(&self, args: &[&str]) -> Result<String> {
        let output = self.command(args).stdin(Stdio::null()).output()?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "mimeo {}: {}", args.join(" "), told.trim());
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Runs `mimeo`; the JSON that it printed.
    pub(super) fn json(&self, args: &[&str]) -> Result<Value> {
        let told = self.mimeo(args)?;
        serde_json::from_str(&told).with_context(|| format!("mimeo {}: {told}", args.join(" ")))
    }

    /// Its machines, for calls of the engine.
    pub(super) fn engine(&self) -> Result<Engine> {
        Ok(Engine::new(Home::at(self.home(), self.run_dir())?))
    }

    /// Starts a machine that waits.
    pub(super) fn start(&self, name: &str) -> Result<()> {
        self.start_with(name, &[], &["sleep", "86400"])
    }

    /// Starts a machine that does this.
    pub(super) fn start_with(&self, name: &str, options: &[&str], words: &[&str]) -> Result<()> {
        let head = ["run", "-d", "--rm", "--name", name];
        self.mimeo(&[&head, options, &[IMAGE], words].concat()).map(drop)
    }

    /// Ends it.
    pub(super) fn stop(&self, name: &str) -> Result<()> {
        self.mimeo(&["rm", "-f", name]).map(drop)
    }

    /// What runs instructions here, and why, as a machine tells it.
    pub(super) fn accelerator(&self) -> Result<String> {
        self.start("verdict")?;
        let told = self.json(&["inspect", "verdict"]);
        self.stop("verdict")?;
        let told = told?;
        let accelerator = told.pointer("/0/Accelerator").and_then(Value::as_str);
        Ok(accelerator.context("inspect tells no accelerator")?.to_owned())
    }
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.mimeo(&["rm", "-f", "-a"]) {
            eprintln!("{}: {error:#}", self.dir.display());
        }
    }
}

/// Links the files below `from` to the same places below `to`.
pub(crate) fn link_tree(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).with_context(|| from.display().to_string())? {
        let (source, target) = (entry?.path(), to);
        let target = target.join(source.file_name().unwrap_or_default());
        if source.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(&source)?, &target)?;
        } else if source.is_dir() {
            link_tree(&source, &target)?;
        } else if std::fs::hard_link(&source, &target).is_err() {
            // Another filesystem.
            std::fs::copy(&source, &target)?;
        }
    }
    Ok(())
}
