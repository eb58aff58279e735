//! The host on which the benchmarks run.

use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::narrate::program_output;

/// The facts about the host that are needed to interpret the figures.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Host {
    pub(super) taken: String,
    pub(super) processor: String,
    pub(super) cores: usize,
    pub(super) memory_mib: u64,
    pub(super) kernel: String,
    pub(super) qemu: String,
    pub(super) commit: String,
    pub(super) load_at_start: String,
    pub(super) load_at_end: String,
}

/// Describes this host.
pub(super) fn describe() -> Result<Host> {
    Ok(Host {
        taken: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
        processor: field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned()),
        cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        memory_mib: memory().context("/proc/meminfo")?,
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        qemu: first_line(&program_output("qemu-system-x86_64", &["--version"])?),
        commit: commit(),
        load_at_start: load(),
        load_at_end: String::new(),
    })
}

/// Load averages over 1, 5 and 15 minutes.
pub(super) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

fn memory() -> Option<u64> {
    let kib: u64 = field("/proc/meminfo", "MemTotal")?.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024)
}

/// The value of the first line that starts with `name`.
fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// This tree's commit, marked if the tree has uncommitted changes.
fn commit() -> String {
    let head = program_output("git", &["rev-parse", "--short=12", "HEAD"]);
    let Ok(head) = head else { return "unknown".to_owned() };
    let changed = program_output("git", &["status", "--porcelain", "--", "crates", "Cargo.lock"]);
    let changed = changed.is_ok_and(|list| !list.trim().is_empty());
    format!("{}{}", head.trim(), if changed { ", changed" } else { "" })
}

/// Whether this tree's last commit is newer than the program.
pub(super) fn is_newer_than(built: &Path) -> Result<bool> {
    let modified = fs::metadata(built)?.modified()?.duration_since(UNIX_EPOCH)?;
    let committed = program_output("git", &["log", "-1", "--format=%ct"]);
    Ok(committed.is_ok_and(|seconds| seconds.trim().parse().is_ok_and(|at: u64| at > modified.as_secs())))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
