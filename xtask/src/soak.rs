//! `cargo xtask soak`: many starts under load, to find a guest that falls silent or a command that
//! never ends. Evidence of each is kept.

mod lane;
mod tally;
mod watchdog;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::Image;

use crate::narrate;
use lane::Lane;
use tally::Tally;
use watchdog::Watchdog;

const IMAGE: &str = "soak";
/// Between two prints of the table.
const REPORT: Duration = Duration::from_secs(60);

/// What runs, for how long, beside how much else.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Lanes, each with a MIMEO_HOME of its own, that start machines at the same time
    #[arg(long, default_value_t = 4)]
    lanes: u32,
    /// Busy loops beside them
    #[arg(long, default_value_t = 2)]
    loops: u32,
    /// How long new starts are made
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// The mimeo to run; otherwise the release build
    #[arg(long, value_name = "PROGRAM")]
    bin: Option<PathBuf>,
    /// The QEMU to run: a program named qemu-system-x86_64
    #[arg(long, value_name = "PROGRAM")]
    qemu: Option<PathBuf>,
    /// What machines are restored from
    #[arg(long, value_enum, default_value_t = Arm::Mixed)]
    arm: Arm,
    /// Seconds after which a command is looked at, and its QEMU dumped
    #[arg(long, default_value_t = 15)]
    limit: u64,
    /// Where evidence is kept
    #[arg(long, value_name = "DIR", default_value = "target/soak")]
    keep: PathBuf,
    /// Link the kernel from this home, instead of fetching it
    #[arg(long, value_name = "HOME")]
    kernel: Option<PathBuf>,
}

/// What machines are restored from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Arm {
    /// From stencils, of which many are made; some from the saved state
    Mixed,
    /// From stencils that are made once
    Stencils,
    /// From the saved state: no stencil is made
    SavedState,
}

/// Soaks, prints the table, and fails if anything was silent.
pub(crate) fn run(options: &Options) -> Result<()> {
    let program = options.bin.clone().unwrap_or_else(narrate::mimeo);
    ensure!(program.exists(), "{} is missing: `make build` makes it", program.display());
    std::fs::create_dir_all(&options.keep)?;
    // A short path: sockets live below it.
    let dir = tempfile::Builder::new().prefix("mmsoak").tempdir_in("/tmp")?;
    Image::busybox(IMAGE).write_layout(&dir.path().join(IMAGE));
    let kernels = match &options.kernel {
        Some(home) => home.join("kernels"),
        None => fetch_kernel(&program, &dir.path().join("base"))?,
    };
    let tally = Tally::default();
    let watchdog = Watchdog { limit: Duration::from_secs(options.limit), keep: &options.keep, tally: &tally };
    let end = Instant::now() + Duration::from_secs(options.minutes * 60);
    let lanes = (0..options.lanes).map(|number| {
        let image = format!("oci:{}:latest", dir.path().join(IMAGE).display());
        Lane::new(number, dir.path(), &program, options.qemu.as_deref(), &kernels, image, options.arm)
    });
    let lanes = lanes.collect::<Result<Vec<_>>>()?;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..options.loops {
            scope.spawn(|| spin(&over));
        }
        let lanes: Vec<_> =
            lanes.into_iter().map(|lane| scope.spawn(|| lane.run_until(end, &watchdog))).collect();
        while !lanes.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            wait(&lanes);
            println!("{}\n{}", tally.load(), tally.table());
        }
        over.store(true, Ordering::Relaxed);
    });
    let silent = tally.silent();
    ensure!(silent == 0, "{silent} silent: evidence in {}", options.keep.display());
    Ok(())
}

fn wait<T>(lanes: &[std::thread::ScopedJoinHandle<'_, T>]) {
    let next = Instant::now() + REPORT;
    while Instant::now() < next && !lanes.iter().all(std::thread::ScopedJoinHandle::is_finished) {
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn spin(over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        std::hint::spin_loop();
    }
}

fn fetch_kernel(program: &Path, base: &Path) -> Result<PathBuf> {
    let mut setup = std::process::Command::new(program);
    setup.arg("setup").env("MIMEO_HOME", base.join("home")).env("MIMEO_RUN", base.join("run"));
    let status = setup.status().context("mimeo does not start")?;
    ensure!(status.success(), "mimeo setup: {status}");
    Ok(base.join("home/kernels"))
}
