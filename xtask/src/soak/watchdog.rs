//! Runs commands and keeps evidence of those that take too long.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::tally::{Outcome, Tally};

/// A command is killed after this many times the limit.
const KILL_FACTOR: u32 = 8;
/// The maximum number of core dumps; each is as large as its machine's memory.
const MAX_CORES: u32 = 6;
/// The maximum size of a file that is copied if it cannot be linked.
const MAX_COPIED: u64 = 1 << 20;
/// mimeo's messages about a guest that did not respond.
const UNRESPONSIVE_MESSAGES: [&str; 3] = ["evidence in", "no answer from the guest", "did not answer"];

static CORES: AtomicU32 = AtomicU32::new(0);

/// The limit, the evidence directory and the tally that all lanes share.
#[derive(Debug)]
pub(super) struct Watchdog<'a> {
    pub(super) limit: Duration,
    pub(super) keep: &'a Path,
    pub(super) tally: &'a Tally,
}

impl Watchdog<'_> {
    /// Runs a command to its end, and `meanwhile` after its start.
    pub(super) fn run_with(
        &self,
        mut command: Command,
        kind: &'static str,
        home: &Path,
        meanwhile: impl FnOnce(),
    ) -> Outcome {
        let begun = Instant::now();
        let log = home.join("soak.log");
        let Ok(child) = File::create(&log).and_then(|file| {
            let stderr = file.try_clone()?;
            command.stdin(Stdio::null()).stdout(file).stderr(stderr).spawn()
        }) else {
            return Outcome::Failed;
        };
        meanwhile();
        let (is_slow, ended) = self.wait(child, kind, home, begun);
        let output = fs::read_to_string(&log).unwrap_or_default();
        let outcome = match ended {
            None => Outcome::Unresponsive,
            Some(_) if UNRESPONSIVE_MESSAGES.iter().any(|words| output.contains(words)) => {
                Outcome::Unresponsive
            }
            Some(true) => Outcome::Succeeded,
            Some(false) => Outcome::Failed,
        };
        if outcome == Outcome::Unresponsive {
            println!("unresponsive: {kind} after {:.1} s: {output}", begun.elapsed().as_secs_f64());
            self.link_evidence(home, kind, &["hangs"]);
        }
        self.tally.add(kind, begun.elapsed(), is_slow, outcome);
        outcome
    }

    /// Returns whether the command was slow and whether it succeeded; `None` if it had to be killed.
    fn wait(
        &self,
        mut child: std::process::Child,
        kind: &str,
        home: &Path,
        begun: Instant,
    ) -> (bool, Option<bool>) {
        let mut is_slow = false;
        loop {
            if let Ok(Some(status)) = child.try_wait() {
                return (is_slow, Some(status.success()));
            }
            if !is_slow && begun.elapsed() > self.limit {
                is_slow = true;
                self.dump_qemus(home, kind);
            }
            if begun.elapsed() > self.limit * KILL_FACTOR {
                processes(home, "mimeo").into_iter().for_each(|pid| self.kill(pid));
                if let Err(error) = child.kill().and_then(|()| child.wait()) {
                    eprintln!("cannot kill {kind}: {error}");
                }
                return (is_slow, None);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Dumps the QEMUs of a home and links the stencils that they were restored from.
    fn dump_qemus(&self, home: &Path, kind: &str) {
        println!("slow: {kind} in {}", home.display());
        let dir = self.link_evidence(home, kind, &["stencils"]);
        for pid in qemu_pids(home) {
            if CORES.fetch_add(1, Ordering::Relaxed) < MAX_CORES {
                let mut gcore = Command::new("gcore");
                gcore.arg("-o").arg(dir.join("core")).arg(pid.to_string());
                let status = gcore.stdout(Stdio::null()).stderr(Stdio::null()).status();
                // Fails if the process has ended meanwhile.
                let maps = fs::copy(format!("/proc/{pid}/maps"), dir.join(format!("maps.{pid}")));
                for error in [status.err(), maps.err()].into_iter().flatten() {
                    eprintln!("cannot dump QEMU (pid {pid}): {error}");
                }
            }
        }
    }

    /// Makes an evidence directory with links to the named directories of the home.
    fn link_evidence(&self, home: &Path, kind: &str, names: &[&str]) -> PathBuf {
        let time = jiff::Timestamp::now().strftime("%H%M%S.%f").to_string();
        let dir = self.keep.join(format!("{time}-{}", kind.replace([' ', ','], "-")));
        for name in names {
            if let Err(error) = link_tree(&home.join(name), &dir.join(name)) {
                println!("{}: {error:#}", dir.display());
            }
        }
        dir
    }

    /// Kills a process that a lane has started.
    pub(super) fn kill(&self, pid: i32) {
        if let Some(pid) = Pid::from_raw(pid) {
            // Fails only if the process has ended already.
            kill_process(pid, Signal::KILL).ok();
        }
    }
}

/// Hard-links the files of a directory tree. Across filesystems only small files are copied, because a stencil's
/// disks have the full size of the guest's disks.
fn link_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let is_small = entry.metadata().is_ok_and(|file| file.len() < MAX_COPIED);
        if source.is_dir() {
            link_tree(&source, &target)?;
        } else if fs::hard_link(&source, &target).is_err() && is_small {
            fs::copy(&source, &target)?;
        }
    }
    Ok(())
}

/// The process ids of a home's QEMUs.
pub(super) fn qemu_pids(home: &Path) -> Vec<i32> {
    processes(home, "qemu-system")
}

/// Processes whose program name contains `name` and whose arguments or environment contain the home's path.
fn processes(home: &Path, name: &str) -> Vec<i32> {
    let home = format!("{}/", home.display());
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let arguments = read("cmdline").split(|byte| *byte == 0).map(<[u8]>::to_vec).collect::<Vec<_>>();
        let program = arguments.first().map(|first| String::from_utf8_lossy(first).into_owned());
        let text = [read("cmdline"), read("environ")]
            .concat()
            .iter()
            .map(|b| if *b == 0 { b'/' } else { *b })
            .collect();
        program.is_some_and(|program| program.contains(name))
            && String::from_utf8(text).is_ok_and(|text| text.contains(&home))
    })
    .collect()
}
