//! Runs commands, and keeps what there is to see of one that takes too long.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::tally::{Outcome, Tally};

/// After so many times the limit a command is ended.
const STUCK: u32 = 8;
/// Dumps of QEMUs that are kept: each is as large as its machine.
const MAX_CORES: u32 = 6;
/// Bytes of a file that is copied where it cannot be linked.
const MAX_COPIED: u64 = 1 << 20;
/// What mimeo says of a guest that did not answer.
const SILENT: [&str; 3] = ["evidence in", "no answer from the guest", "did not answer"];

static CORES: AtomicU32 = AtomicU32::new(0);

/// What all lanes share.
#[derive(Debug)]
pub(super) struct Watchdog<'a> {
    pub(super) limit: Duration,
    pub(super) keep: &'a Path,
    pub(super) tally: &'a Tally,
}

impl Watchdog<'_> {
    /// Runs a command to its end, with `meanwhile` beside its beginning.
    pub(super) fn run_and(
        &self,
        mut command: Command,
        kind: &'static str,
        home: &Path,
        meanwhile: impl FnOnce(),
    ) -> Outcome {
        let begun = Instant::now();
        let log = home.join("soak.log");
        let Ok(child) = File::create(&log).and_then(|file| {
            let again = file.try_clone()?;
            command.stdin(Stdio::null()).stdout(file).stderr(again).spawn()
        }) else {
            return Outcome::Failed;
        };
        meanwhile();
        let (is_slow, ended) = self.wait(child, kind, home, begun);
        let said = fs::read_to_string(&log).unwrap_or_default();
        let outcome = match ended {
            None => Outcome::Silent,
            Some(_) if SILENT.iter().any(|words| said.contains(words)) => Outcome::Silent,
            Some(true) => Outcome::Well,
            Some(false) => Outcome::Failed,
        };
        if outcome == Outcome::Silent {
            println!("silent: {kind} after {:.1} s: {said}", begun.elapsed().as_secs_f64());
            self.link(home, kind, &["hangs"]);
        }
        self.tally.add(kind, begun.elapsed(), is_slow, outcome);
        outcome
    }

    /// Whether it was slow, and whether it succeeded; none if it had to be ended.
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
                self.dump(home, kind);
            }
            if begun.elapsed() > self.limit * STUCK {
                processes(home, "mimeo").into_iter().for_each(|pid| self.kill(pid));
                child.kill().and_then(|()| child.wait()).ok();
                return (is_slow, None);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Keeps the QEMUs of a home and the stencils that they came from.
    fn dump(&self, home: &Path, kind: &str) {
        println!("slow: {kind} in {}", home.display());
        let dir = self.link(home, kind, &["stencils"]);
        for pid in qemus(home) {
            if CORES.fetch_add(1, Ordering::Relaxed) < MAX_CORES {
                let mut gcore = Command::new("gcore");
                gcore.arg("-o").arg(dir.join("core")).arg(pid.to_string());
                gcore.stdout(Stdio::null()).stderr(Stdio::null()).status().ok();
                fs::copy(format!("/proc/{pid}/maps"), dir.join(format!("maps.{pid}"))).ok();
            }
        }
    }

    /// A directory of evidence with links to these of the home's files.
    fn link(&self, home: &Path, kind: &str, names: &[&str]) -> PathBuf {
        let time = jiff::Timestamp::now().strftime("%H%M%S.%f").to_string();
        let dir = self.keep.join(format!("{time}-{}", kind.replace([' ', ','], "-")));
        for name in names {
            if let Err(error) = keep_tree(&home.join(name), &dir.join(name)) {
                println!("{}: {error:#}", dir.display());
            }
        }
        dir
    }

    /// Ends a process that a lane has started.
    pub(super) fn kill(&self, pid: i32) {
        if let Some(pid) = Pid::from_raw(pid) {
            kill_process(pid, Signal::KILL).ok();
        }
    }
}

/// Links the files below `from` to the same places below `to`. On another filesystem only small ones are
/// copied: a stencil's disks are as large as a guest believes them to be.
fn keep_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let is_small = entry.metadata().is_ok_and(|file| file.len() < MAX_COPIED);
        if source.is_dir() {
            keep_tree(&source, &target)?;
        } else if fs::hard_link(&source, &target).is_err() && is_small {
            fs::copy(&source, &target)?;
        }
    }
    Ok(())
}

/// The QEMUs that belong to a home.
pub(super) fn qemus(home: &Path) -> Vec<i32> {
    processes(home, "qemu-system")
}

/// Processes of programs with `name` in theirs, that have the home's path in their arguments or environment.
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
