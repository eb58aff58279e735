//! `cargo xtask soak`: starts many machines under load, to find guests that stop responding and commands that
//! never end, and keeps evidence of each.

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
/// Interval between prints of the table.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// Options of `soak`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Lanes that start machines in parallel, each with a separate MIMEO_HOME
    #[arg(long, default_value_t = 4)]
    lanes: u32,
    /// Busy loops that run alongside
    #[arg(long, default_value_t = 2)]
    loops: u32,
    /// Minutes during which new machines are started
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// The mimeo to run [default: the release build]
    #[arg(long, value_name = "PROGRAM")]
    bin: Option<PathBuf>,
    /// The QEMU to run, a program named qemu-system-x86_64
    #[arg(long, value_name = "PROGRAM")]
    qemu: Option<PathBuf>,
    /// What machines are restored from
    #[arg(long = "arm", value_enum, default_value_t = RestoreSource::Mixed)]
    restore_from: RestoreSource,
    /// Seconds after which a command counts as slow and its QEMU is dumped
    #[arg(long, default_value_t = 15)]
    limit: u64,
    /// Keep evidence in this directory
    #[arg(long, value_name = "DIR", default_value = "target/soak")]
    keep: PathBuf,
    /// Link the kernel from this home, instead of fetching one
    #[arg(long, value_name = "HOME")]
    kernel: Option<PathBuf>,
}

/// What machines are restored from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum RestoreSource {
    /// Stencils, many of them new; sometimes the saved state
    Mixed,
    /// Stencils that are made once
    Stencils,
    /// The saved state; no stencil is made
    SavedState,
}

/// Runs the soak test, prints the table, and fails if a guest or command did not respond.
pub(crate) fn run(options: &Options) -> Result<()> {
    let program = options.bin.clone().unwrap_or_else(narrate::mimeo);
    ensure!(program.exists(), "{} is missing: run `make build`", program.display());
    std::fs::create_dir_all(&options.keep)?;
    // A short path, because paths of sockets are limited in length.
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
        Lane::new(
            number,
            dir.path(),
            &program,
            options.qemu.as_deref(),
            &kernels,
            image,
            options.restore_from,
        )
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
    let unresponsive = tally.unresponsive();
    ensure!(unresponsive == 0, "{unresponsive} unresponsive: evidence in {}", options.keep.display());
    Ok(())
}

fn wait<T>(lanes: &[std::thread::ScopedJoinHandle<'_, T>]) {
    let next = Instant::now() + REPORT_INTERVAL;
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
    let status = setup.status().context("cannot start mimeo")?;
    ensure!(status.success(), "mimeo setup: {status}");
    Ok(base.join("home/kernels"))
}
