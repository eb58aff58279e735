//! One home, and the starts that are made in it one after the other.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use e2e::{RetryDelay, stencil_failure_file, failure_record};

use super::Arm;
use super::tally::Outcome;
use super::watchdog::{Watchdog, qemus};
use crate::bench::link_tree;

/// Clones of each snapshot.
const CLONES: u32 = 4;
const TAG: &str = "kept";
const SOURCE: &str = "web";

/// A lane.
#[derive(Debug)]
pub(super) struct Lane {
    number: u32,
    home: PathBuf,
    run: PathBuf,
    program: PathBuf,
    path: Option<std::ffi::OsString>,
    image: String,
    arm: Arm,
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
        arm: Arm,
    ) -> Result<Self> {
        let (home, run) = (dir.join(format!("{number}/home")), dir.join(format!("{number}/run")));
        link_tree(kernels, &home.join("kernels"))?;
        fs::create_dir_all(&run)?;
        let path = qemu.map(path_with).transpose()?;
        let program = program.canonicalize()?;
        Ok(Self { number, home, run, program, path, image, arm, turn: 0 })
    }

    /// Starts until the time is over, and ends what is left.
    pub(super) fn run_until(mut self, end: Instant, watchdog: &Watchdog<'_>) {
        self.machine(watchdog, "first run");
        while Instant::now() < end {
            self.turn += 1;
            match (self.turn + self.number) % 4 {
                0 => self.family(watchdog),
                1 => {
                    self.prepare_stencils();
                    self.machine(watchdog, self.kind());
                }
                _ => self.machine(watchdog, "run"),
            }
        }
        self.command(watchdog, "rm", &["rm", "-f", "--all"]);
    }

    /// What a run after [`Lane::prepare_stencils`] is called.
    fn kind(&self) -> &'static str {
        match self.arm {
            Arm::Mixed if self.turn % 8 < 6 => "run, new stencil",
            Arm::Mixed | Arm::SavedState => "run, saved state",
            Arm::Stencils => "run",
        }
    }

    /// Has the next start make a stencil, or restore from the saved state, as the arm wants it.
    fn prepare_stencils(&self) {
        match self.kind() {
            "run, new stencil" => self.remove_stencils(),
            "run, saved state" => self.refuse_stencils(),
            _ => {}
        }
    }

    fn remove_stencils(&self) {
        fs::remove_dir_all(self.home.join("stencils")).ok();
    }

    /// Marks that no stencil can be made of any snapshot that there is.
    fn refuse_stencils(&self) {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        for snapshot in fs::read_dir(self.home.join("snapshots")).into_iter().flatten().flatten() {
            let dir = self.home.join("stencils").join(boot.trim()).join(snapshot.file_name());
            fs::remove_dir_all(&dir).ok();
            let marked = fs::create_dir_all(&dir)
                .and_then(|()| fs::write(stencil_failure_file(&self.run, &dir), failure_record(RetryDelay::Pending)));
            if let Err(error) = marked {
                eprintln!("{}: {error}", dir.display());
            }
        }
    }

    /// A machine that ends by itself.
    fn machine(&self, watchdog: &Watchdog<'_>, kind: &'static str) {
        self.command(watchdog, kind, &["run", "--rm", &self.image, "true"]);
        if self.arm == Arm::Mixed {
            // A mark that there is no stencil is for one start.
            self.remove_marked();
        }
    }

    fn remove_marked(&self) {
        let boots = fs::read_dir(self.home.join("stencils")).into_iter().flatten().flatten();
        for dir in boots.flat_map(|boot| fs::read_dir(boot.path()).into_iter().flatten().flatten()) {
            // As a rule there is none.
            fs::remove_file(stencil_failure_file(&self.run, &dir.path())).ok();
        }
    }

    /// A machine, clones of it, one that is killed while it is restored, and a fork.
    fn family(&self, watchdog: &Watchdog<'_>) {
        let start = ["run", "-d", "--name", SOURCE, "-m", "128m", &self.image, "sleep", "1000"];
        if self.command(watchdog, "run -d", &start) == Outcome::Well {
            self.command(watchdog, "snapshot", &["snapshot", "create", SOURCE, "--tag", TAG]);
            if self.arm == Arm::SavedState {
                self.refuse_stencils();
            }
            for clone in 0..CLONES {
                self.command(watchdog, "clone", &["snapshot", "run", TAG, "--name", &format!("c{clone}")]);
            }
            self.command(watchdog, "exec", &["exec", "c1", "true"]);
            self.command(watchdog, "fork", &["fork", SOURCE, "-n", "2", "--name", "f"]);
            self.killed_clone(watchdog);
        }
        self.command(watchdog, "rm", &["rm", "-f", "--all"]);
        self.command(watchdog, "snapshot rm", &["snapshot", "rm", TAG]);
    }

    /// Kills all QEMUs that were started since the clone's command was, at another moment each time.
    fn killed_clone(&self, watchdog: &Watchdog<'_>) {
        let before = qemus(&self.home);
        let moment = Duration::from_millis(u64::from(self.turn.wrapping_mul(37) % 300));
        let command = self.mimeo(&["snapshot", "run", TAG, "--name", "killed"]);
        watchdog.run_and(command, "clone, killed", &self.home, || {
            std::thread::sleep(moment);
            for pid in qemus(&self.home).into_iter().filter(|pid| !before.contains(pid)) {
                watchdog.kill(pid);
            }
        });
    }

    fn command(&self, watchdog: &Watchdog<'_>, kind: &'static str, args: &[&str]) -> Outcome {
        watchdog.run_and(self.mimeo(args), kind, &self.home, || {})
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

/// A PATH in which this QEMU is the first.
fn path_with(qemu: &Path) -> Result<std::ffi::OsString> {
    let dir = qemu.canonicalize()?.parent().context("it is in no directory")?.to_owned();
    let rest = std::env::var_os("PATH").unwrap_or_default();
    Ok(std::env::join_paths(std::iter::once(dir).chain(std::env::split_paths(&rest)))?)
}
