//! A lane: one MIMEO_HOME in which machines are started one after the other.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use e2e::{RetryDelay, failure_record, stencil_failure_file};

use super::RestoreSource;
use super::tally::Outcome;
use super::watchdog::{Watchdog, qemu_pids};
use crate::bench::link_tree;

/// Number of clones of each snapshot.
const CLONES: u32 = 4;
const TAG: &str = "saved";
const SOURCE: &str = "web";

/// A home with its program and its choice of restore source.
#[derive(Debug)]
pub(super) struct Lane {
    number: u32,
    home: PathBuf,
    run: PathBuf,
    program: PathBuf,
    path: Option<std::ffi::OsString>,
    image: String,
    restore_from: RestoreSource,
    turn: u32,
}

impl Lane {
    pub(super) fn new(
        number: u32,
        dir: &Path,
        program: &Path,
        qemu: Option<&Path>,
        kernels: &Path,
        image: String,
        restore_from: RestoreSource,
    ) -> Result<Self> {
        let (home, run) = (dir.join(format!("{number}/home")), dir.join(format!("{number}/run")));
        link_tree(kernels, &home.join("kernels"))?;
        fs::create_dir_all(&run)?;
        let path = qemu.map(path_with).transpose()?;
        let program = program.canonicalize()?;
        Ok(Self { number, home, run, program, path, image, restore_from, turn: 0 })
    }

    /// Starts machines until `end`, then removes the remaining ones.
    pub(super) fn run_until(mut self, end: Instant, watchdog: &Watchdog<'_>) {
        self.run_machine(watchdog, "first run");
        while Instant::now() < end {
            self.turn += 1;
            match (self.turn + self.number) % 4 {
                0 => self.run_family(watchdog),
                1 => {
                    self.prepare_stencils();
                    self.run_machine(watchdog, self.kind());
                }
                _ => self.run_machine(watchdog, "run"),
            }
        }
        self.command(watchdog, "rm", &["rm", "-f", "--all"]);
    }

    /// The kind, for the tally, of a run after [`Lane::prepare_stencils`].
    fn kind(&self) -> &'static str {
        match self.restore_from {
            RestoreSource::Mixed if self.turn % 8 < 6 => "run, new stencil",
            RestoreSource::Mixed | RestoreSource::SavedState => "run, saved state",
            RestoreSource::Stencils => "run",
        }
    }

    /// Makes the next start create a stencil or restore from the saved state, as the restore source demands.
    fn prepare_stencils(&self) {
        match self.kind() {
            "run, new stencil" => self.remove_stencils(),
            "run, saved state" => self.refuse_stencils(),
            _ => {}
        }
    }

    fn remove_stencils(&self) {
        report_failure(fs::remove_dir_all(self.home.join("stencils")), "cannot remove the stencils");
    }

    /// Marks the stencils of all existing snapshots as failed.
    fn refuse_stencils(&self) {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        for snapshot in fs::read_dir(self.home.join("snapshots")).into_iter().flatten().flatten() {
            let dir = self.home.join("stencils").join(boot.trim()).join(snapshot.file_name());
            report_failure(fs::remove_dir_all(&dir), "cannot remove a stencil");
            let marked = fs::create_dir_all(&dir).and_then(|()| {
                fs::write(stencil_failure_file(&self.run, &dir), failure_record(RetryDelay::Pending))
            });
            report_failure(marked, "cannot mark a stencil as failed");
        }
    }

    /// Runs a machine that ends by itself.
    fn run_machine(&self, watchdog: &Watchdog<'_>, kind: &'static str) {
        self.command(watchdog, kind, &["run", "--rm", &self.image, "true"]);
        if self.restore_from == RestoreSource::Mixed {
            // The failure marks apply to one start only.
            self.remove_failure_marks();
        }
    }

    fn remove_failure_marks(&self) {
        let boots = fs::read_dir(self.home.join("stencils")).into_iter().flatten().flatten();
        for dir in boots.flat_map(|boot| fs::read_dir(boot.path()).into_iter().flatten().flatten()) {
            // Usually the file does not exist.
            let removed = fs::remove_file(stencil_failure_file(&self.run, &dir.path()));
            report_failure(removed, "cannot remove a failure mark");
        }
    }

    /// Runs a machine, clones of it, a clone that is killed during its restore, and a fork.
    fn run_family(&self, watchdog: &Watchdog<'_>) {
        let start = ["run", "-d", "--name", SOURCE, "-m", "128m", &self.image, "sleep", "1000"];
        if self.command(watchdog, "run -d", &start) == Outcome::Succeeded {
            self.command(watchdog, "snapshot", &["snapshot", "create", SOURCE, "--tag", TAG]);
            if self.restore_from == RestoreSource::SavedState {
                self.refuse_stencils();
            }
            for clone in 0..CLONES {
                self.command(watchdog, "clone", &["snapshot", "run", TAG, "--name", &format!("c{clone}")]);
            }
            self.command(watchdog, "exec", &["exec", "c1", "true"]);
            self.command(watchdog, "fork", &["fork", SOURCE, "-n", "2", "--name", "f"]);
            self.kill_clone(watchdog);
        }
        self.command(watchdog, "rm", &["rm", "-f", "--all"]);
        self.command(watchdog, "snapshot rm", &["snapshot", "rm", TAG]);
    }

    /// Starts a clone and kills every new QEMU after a delay that varies from call to call.
    fn kill_clone(&self, watchdog: &Watchdog<'_>) {
        let before = qemu_pids(&self.home);
        let delay = Duration::from_millis(u64::from(self.turn.wrapping_mul(37) % 300));
        let command = self.mimeo(&["snapshot", "run", TAG, "--name", "killed"]);
        watchdog.run_with(command, "clone, killed", &self.home, || {
            std::thread::sleep(delay);
            for pid in qemu_pids(&self.home).into_iter().filter(|pid| !before.contains(pid)) {
                watchdog.kill(pid);
            }
        });
    }

    fn command(&self, watchdog: &Watchdog<'_>, kind: &'static str, args: &[&str]) -> Outcome {
        watchdog.run_with(self.mimeo(args), kind, &self.home, || {})
    }

    fn mimeo(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).env("MIMEO_HOME", &self.home).env("MIMEO_RUN", &self.run);
        if let Some(path) = &self.path {
            command.env("PATH", path);
        }
        command
    }
}

/// Reports a failed operation on a file, unless the file does not exist.
fn report_failure(result: std::io::Result<()>, message: &str) {
    if let Err(error) = result
        && error.kind() != std::io::ErrorKind::NotFound
    {
        eprintln!("{message}: {error}");
    }
}

/// PATH with the directory of this QEMU in front.
fn path_with(qemu: &Path) -> Result<std::ffi::OsString> {
    let dir = qemu.canonicalize()?.parent().context("the QEMU program has no directory")?.to_owned();
    let rest = std::env::var_os("PATH").unwrap_or_default();
    Ok(std::env::join_paths(std::iter::once(dir).chain(std::env::split_paths(&rest)))?)
}
