//! Separate homes for a benchmark, and the image that all of them run.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use e2e::Image;
use mimeo_engine::{Engine, Home};
use serde_json::Value;

use super::result::Subject;
use crate::narrate;

/// The image's directory, from which mimeo and podman derive its name.
pub(super) const LAYOUT: &str = "mimeo-bench";
/// The image's name in mimeo and podman.
pub(super) const IMAGE: &str = "localhost/mimeo-bench:latest";

/// A benchmark's directory, program and image.
#[derive(Debug)]
pub(super) struct Lab {
    dir: tempfile::TempDir,
    program: PathBuf,
}

impl Lab {
    pub(super) fn new() -> Result<Self> {
        let program = std::env::var_os("MIMEO_BIN").map_or_else(narrate::mimeo, PathBuf::from);
        ensure!(program.exists(), "{} is missing: run `make build`", program.display());
        // A short path, because paths of sockets are limited in length.
        let dir = tempfile::Builder::new().prefix("mmb").tempdir_in("/tmp")?;
        let lab = Self { dir, program };
        Image::busybox(LAYOUT).write_layout(&lab.dir().join(LAYOUT));
        Ok(lab)
    }

    /// The measured program.
    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The image source for `mimeo image pull`.
    fn source(&self) -> String {
        format!("oci:{}:latest", self.dir().join(LAYOUT).display())
    }

    /// A home without a kernel.
    pub(super) fn site(&self, subject: Subject) -> Site<'_> {
        let dir = self.dir().join(subject.slug());
        Site { subject, lab: self, dir, kernel: String::new() }
    }
}

/// A home with one kernel. Its machines are removed when it is dropped.
#[derive(Debug)]
pub(super) struct Site<'a> {
    pub(super) subject: Subject,
    lab: &'a Lab,
    dir: PathBuf,
    /// The kernel's name.
    pub(super) kernel: String,
}

impl Site<'_> {
    pub(super) fn home(&self) -> PathBuf {
        self.dir.join("home")
    }

    pub(super) fn run_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// Pulls the image beforehand, as for podman, so that no run includes a pull.
    pub(super) fn pull(&self) -> Result<()> {
        self.mimeo(&["image", "pull", &self.lab.source()]).map(drop)
    }

    /// A `mimeo` command in this home.
    pub(super) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.lab.program);
        command.args(args).env("MIMEO_HOME", self.home()).env("MIMEO_RUN", self.run_dir());
        command
    }

    /// Runs `mimeo`; returns its trimmed standard output.
    pub(super) fn mimeo(&self, args: &[&str]) -> Result<String> {
        let output = self.command(args).stdin(Stdio::null()).output()?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "mimeo {}: {}", args.join(" "), stderr.trim());
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Runs `mimeo`; returns its JSON output.
    pub(super) fn json(&self, args: &[&str]) -> Result<Value> {
        let output = self.mimeo(args)?;
        serde_json::from_str(&output).with_context(|| format!("mimeo {}: {output}", args.join(" ")))
    }

    /// The engine for this home.
    pub(super) fn engine(&self) -> Result<Engine> {
        Ok(Engine::new(Home::at(self.home(), self.run_dir())?))
    }

    /// Starts an idle machine.
    pub(super) fn start(&self, name: &str) -> Result<()> {
        self.start_with(name, &[], &["sleep", "86400"])
    }

    /// Starts a machine that runs `words`.
    pub(super) fn start_with(&self, name: &str, options: &[&str], words: &[&str]) -> Result<()> {
        let head = ["run", "-d", "--rm", "--name", name];
        self.mimeo(&[&head, options, &[IMAGE], words].concat()).map(drop)
    }

    /// Stops and removes a machine.
    pub(super) fn stop(&self, name: &str) -> Result<()> {
        self.mimeo(&["rm", "-f", name]).map(drop)
    }

    /// The accelerator and the reason for it, as `inspect` shows them.
    pub(super) fn accelerator(&self) -> Result<String> {
        self.start("verdict")?;
        let document = self.json(&["inspect", "verdict"]);
        self.stop("verdict")?;
        let document = document?;
        let accelerator = document.pointer("/0/Accelerator").and_then(Value::as_str);
        Ok(accelerator.context("inspect shows no accelerator")?.to_owned())
    }
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.mimeo(&["rm", "-f", "-a"]) {
            eprintln!("{}: {error:#}", self.dir.display());
        }
    }
}

/// Hard-links the files of a directory tree, or copies them across filesystems.
pub(crate) fn link_tree(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).with_context(|| from.display().to_string())? {
        let source = entry?.path();
        let target = to.join(source.file_name().unwrap_or_default());
        if source.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(&source)?, &target)?;
        } else if source.is_dir() {
            link_tree(&source, &target)?;
        } else if std::fs::hard_link(&source, &target).is_err() {
            std::fs::copy(&source, &target)?;
        }
    }
    Ok(())
}
