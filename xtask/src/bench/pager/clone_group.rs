//! Clones at once, from the side of who measures.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::faults::PAGES;
use super::figures::{Round, median};

/// Clones that are ready, and are ended when this is dropped.
pub(super) struct Crowd(Vec<Clone>);

struct Clone {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Crowd {
    /// Starts so many, each with this argument, and waits until they are ready.
    pub(super) fn start(count: usize, option: &str, path: &Path) -> Result<Self> {
        let clones: Result<Vec<_>> = (0..count).map(|seed| Clone::start(option, path, seed * 13)).collect();
        let mut crowd = Self(clones?);
        for clone in &mut crowd.0 {
            ensure!(clone.line()? == "ready", "a clone is not ready");
        }
        Ok(crowd)
    }

    /// Has all of them touch all their memory at once.
    pub(super) fn touch(&mut self) -> Result<Round> {
        let begun = Instant::now();
        for clone in &mut self.0 {
            clone.process.stdin.as_mut().context("its input")?.write_all(b"go\n")?;
        }
        let lines: Result<Vec<_>> = self.0.iter_mut().map(Clone::line).collect();
        let seconds = begun.elapsed().as_secs_f64();
        let told: Vec<Vec<f64>> = lines?
            .iter()
            .map(|line| line.split(' ').map(str::parse).collect::<Result<_, _>>().context("figures"))
            .collect::<Result<_>>()?;
        ensure!(told.iter().all(|figures| figures.len() == 3), "three figures");
        let [p50, p99, mean] =
            [0, 1, 2].map(|which| median(told.iter().map(|figures| figures[which]).collect()));
        Ok(Round { p50, p99, mean, pages_per_second: (self.0.len() as u64 * PAGES) as f64 / seconds })
    }

    /// What they take of the host's memory, in bytes: what several processes have in common counts for each as its share.
    pub(super) fn share(&self) -> Result<u64> {
        self.0.iter().map(|clone| share(clone.process.id())).sum()
    }
}

impl Clone {
    fn start(option: &str, path: &Path, seed: usize) -> Result<Self> {
        let seed = seed.to_string();
        let words = ["bench", "pager-clone", "--seed", &seed, option].map(OsStr::new);
        let mut process = Command::new(std::env::current_exe()?)
            .args(words)
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = BufReader::new(process.stdout.take().context("its output")?);
        Ok(Self { process, output })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.output.read_line(&mut line)? > 0, "a clone has ended");
        Ok(line.trim().to_owned())
    }
}

impl Drop for Clone {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// The PSS of a process.
fn share(pid: u32) -> Result<u64> {
    let told = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = told.lines().find_map(|line| line.strip_prefix("Pss:")).context("no PSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib << 10)
}
