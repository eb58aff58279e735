//! Helpers for snapshots, snapshot servers and clones.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::{World, signal};

/// A running `mimeo snapshot serve`.
#[derive(Debug)]
pub struct Server {
    /// The process.
    pub child: Child,
    /// The server's id.
    pub id: String,
    /// The process id that the server printed.
    pub pid: String,
    /// The server's socket.
    pub socket: PathBuf,
}

impl Server {
    /// Sends a signal and waits until the server has ended.
    pub fn end(mut self, with: Signal) {
        signal(&self.child, with);
        self.child.wait().expect("the server ends");
    }
}

/// The file that records that the stencil in the directory `stencil` could not be made.
#[must_use]
pub fn stencil_failure_file(run_dir: &Path, stencil: &Path) -> PathBuf {
    let name = stencil.file_name().unwrap_or_default().display();
    run_dir.join(format!("failed-stencil-{name}.json"))
}

/// The delay before something that failed is retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryDelay {
    /// The delay ends in some minutes.
    Pending,
    /// The delay has ended.
    Over,
}

/// The content of a failure file.
#[must_use]
pub fn failure_record(delay: RetryDelay) -> String {
    let minutes = if delay == RetryDelay::Pending { 50 } else { -1 };
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(minutes);
    format!(r#"{{"reason":"a test","until":"{until}","count":2}}"#)
}

impl World {
    /// Runs a shell command line in a machine; returns its trimmed output.
    #[track_caller]
    pub fn sh(&self, machine: &str, line: &str) -> String {
        self.mimeo(["exec", machine, "sh", "-c", line]).ok().text().to_owned()
    }

    /// A machine's `inspect` document.
    #[track_caller]
    #[must_use]
    pub fn inspect(&self, machine: &str) -> Value {
        self.mimeo(["inspect", machine]).ok().json()[0].clone()
    }

    /// The host address of a published port: `127.0.0.1:PORT`.
    #[track_caller]
    #[must_use]
    pub fn published(&self, machine: &str, port: &str) -> String {
        self.mimeo(["port", machine, port]).ok().text().to_owned()
    }

    /// Fetches the page at `address`; `None` if there is no response.
    #[must_use]
    pub fn fetch_page(&self, address: &str) -> Option<String> {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
        let mut response = String::new();
        stream.read_to_string(&mut response).ok()?;
        Some(response.split_once("\r\n\r\n")?.1.to_owned())
    }

    /// Takes a snapshot of a machine; returns the JSON output.
    #[track_caller]
    pub fn snapshot(&self, machine: &str, tag: &str) -> Value {
        self.mimeo(["snapshot", "create", "--json", "--tag", tag, machine]).ok().json()
    }

    /// Starts clones; returns the JSON object of each.
    #[track_caller]
    pub fn clones(&self, args: &[&str]) -> Vec<Value> {
        let json = self.mimeo(["snapshot", "run", "--json"].iter().chain(args)).ok().json();
        json.as_array().expect("a list").clone()
    }

    /// Starts a snapshot server.
    #[track_caller]
    #[must_use]
    pub fn serve(&self, args: &[&str]) -> Server {
        let mut child = self.spawn(["snapshot", "serve"].iter().chain(args));
        let mut lines = BufReader::new(child.stdout.as_mut().expect("piped")).lines();
        let mut field = |name: &str| {
            let line = lines.next().expect("a line").expect("text");
            line.strip_prefix(name).unwrap_or_else(|| panic!("{line:?} is not {name}")).trim().to_owned()
        };
        let (id, pid, socket) = (field("serve "), field("pid "), field("socket ").into());
        Server { child, id, pid, socket }
    }

    /// The entry of a running server in `snapshot ls --json`.
    #[must_use]
    pub fn server_status(&self, id: &str) -> Option<Value> {
        let all = self.mimeo(["snapshot", "ls", "--json"]).json();
        all["serves"].as_array()?.iter().find(|serve| serve["serve_id"] == id).cloned()
    }

    /// The directory of a snapshot, found by tag or id.
    #[track_caller]
    #[must_use]
    pub fn snapshot_dir(&self, tag_or_id: &str) -> PathBuf {
        let json = self.mimeo(["snapshot", "inspect", tag_or_id]).ok().json();
        self.home().join("snapshots").join(&json[0]["id"].as_str().expect("an id")[..12])
    }

    /// The directories of all stencils.
    #[must_use]
    pub fn stencils(&self) -> Vec<PathBuf> {
        let boots = fs::read_dir(self.home().join("stencils")).into_iter().flatten().flatten();
        let all = boots.flat_map(|boot| fs::read_dir(boot.path()).expect("readable").flatten());
        let all = all.map(|entry| entry.path());
        all.filter(|dir| !dir.file_name().expect("a name").to_string_lossy().starts_with('.')).collect()
    }

    /// The ids of all snapshots except boot snapshots.
    #[must_use]
    pub fn snapshot_ids(&self) -> Vec<String> {
        let all = self.mimeo(["snapshot", "ls", "--all", "--json"]).json();
        let all = all["snapshots"].as_array().expect("a list").iter();
        all.filter(|one| one["kind"] != "runtime")
            .map(|one| one["id"].as_str().expect("an id").into())
            .collect()
    }

    /// The process ids of this world's detached supervisors.
    #[must_use]
    pub fn supervisors(&self) -> Vec<i32> {
        let all = self.processes().into_iter();
        all.filter(|(_, line)| line.trim_end().ends_with("/mimeo supervisor")).map(|(pid, _)| pid).collect()
    }

    /// Marks all stencils as failed, to be retried after `delay`; returns the failure files.
    pub fn mark_stencils_failed(&self, delay: RetryDelay) -> Vec<PathBuf> {
        let mark = |dir: PathBuf| {
            let file = stencil_failure_file(&self.run_dir(), &dir);
            fs::write(&file, failure_record(delay)).expect("written");
            self.chown(&file);
            file
        };
        self.stencils().into_iter().map(mark).collect()
    }

    /// Removes all machines and all snapshots except boot snapshots, and asserts that nothing is left.
    #[track_caller]
    pub fn assert_removes_all(&self) {
        self.mimeo(["rm", "-f", "-a"]).ok();
        self.wait_until_no_process();
        // Snapshots of forks go first; parents go after the snapshots built on them.
        self.mimeo(["snapshot", "prune"]).ok();
        for id in self.snapshot_ids().iter().rev() {
            self.mimeo(["snapshot", "rm", id]).ok();
        }
        // Parents that only those snapshots needed.
        self.mimeo(["snapshot", "prune"]).ok();
        self.assert_empty();
    }
}

/// Flips a bit in the middle of a file's data. The file is replaced, because other
/// worlds may share the original.
pub fn flip_byte(path: &Path) {
    use std::os::unix::fs::FileExt;
    let copy = path.with_extension("flipped");
    let copied = Command::new("cp").args(["-p", "--sparse=always"]).arg(path).arg(&copy).status();
    assert!(copied.expect("cp starts").success());
    let file = fs::File::options().read(true).write(true).open(&copy).expect("open");
    let middle = file.metadata().expect("metadata").len() / 2;
    let at = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(middle))
        .or_else(|_| rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(0)))
        .expect("a file with data");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("read");
    file.write_all_at(&[byte[0] ^ 0x10], at).expect("written");
    fs::rename(copy, path).expect("renamed");
}
