//! A group of clone processes, as seen by the benchmark.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::faults::PAGES;
use super::figures::{Round, median};

/// Clone processes that are ready; they are killed when this is dropped.
pub(super) struct CloneGroup(Vec<CloneProcess>);

struct CloneProcess {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl CloneGroup {
    /// Starts `count` clones with this option and waits until they are ready.
    pub(super) fn start(count: usize, option: &str, path: &Path) -> Result<Self> {
        let clones: Result<Vec<_>> =
            (0..count).map(|seed| CloneProcess::start(option, path, seed * 13)).collect();
        let mut group = Self(clones?);
        for clone in &mut group.0 {
            ensure!(clone.read_line()? == "ready", "unexpected line from a clone");
        }
        Ok(group)
    }

    /// Makes all clones touch all their memory at once.
    pub(super) fn touch(&mut self) -> Result<Round> {
        let begun = Instant::now();
        for clone in &mut self.0 {
            clone.process.stdin.as_mut().context("stdin is piped")?.write_all(b"go\n")?;
        }
        let lines: Result<Vec<_>> = self.0.iter_mut().map(CloneProcess::read_line).collect();
        let seconds = begun.elapsed().as_secs_f64();
        let figures: Vec<Vec<f64>> = lines?
            .iter()
            .map(|line| line.split(' ').map(str::parse).collect::<Result<_, _>>().context("not a figure"))
            .collect::<Result<_>>()?;
        ensure!(figures.iter().all(|clone| clone.len() == 3), "a clone did not print three figures");
        let [p50, p99, mean] =
            [0, 1, 2].map(|index| median(figures.iter().map(|clone| clone[index]).collect()));
        Ok(Round { p50, p99, mean, pages_per_second: (self.0.len() as u64 * PAGES) as f64 / seconds })
    }

    /// The sum of the clones' PSS in bytes.
    pub(super) fn pss(&self) -> Result<u64> {
        self.0.iter().map(|clone| pss(clone.process.id())).sum()
    }
}

impl CloneProcess {
    fn start(option: &str, path: &Path, seed: usize) -> Result<Self> {
        let seed = seed.to_string();
        let words = ["bench", "pager-clone", "--seed", &seed, option].map(OsStr::new);
        let mut process = Command::new(std::env::current_exe()?)
            .args(words)
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = BufReader::new(process.stdout.take().context("stdout is piped")?);
        Ok(Self { process, output })
    }

    fn read_line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.output.read_line(&mut line)? > 0, "a clone has ended");
        Ok(line.trim().to_owned())
    }
}

impl Drop for CloneProcess {
    fn drop(&mut self) {
        // Fails only if the process has ended already.
        self.process.kill().ok();
        // The process was killed: waiting only reaps it.
        self.process.wait().ok();
    }
}

/// The PSS of a process in bytes.
fn pss(pid: u32) -> Result<u64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line =
        rollup.lines().find_map(|line| line.strip_prefix("Pss:")).context("smaps_rollup has no Pss")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib << 10)
}
