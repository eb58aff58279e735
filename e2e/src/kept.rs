//! Snapshots, those who serve them, and copies.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::{World, signal};

/// A server of a snapshot.
#[derive(Debug)]
pub struct Served {
    /// Its process.
    pub child: Child,
    /// Its id.
    pub id: String,
    /// Its process id, as it says.
    pub pid: String,
    /// Its socket.
    pub socket: PathBuf,
}

impl Served {
    /// Sends it a signal and waits for its end.
    pub fn end(mut self, with: Signal) {
        signal(&self.child, with);
        self.child.wait().expect("it ends");
    }
}

/// The file that says that the stencil of this directory could not be made.
#[must_use]
pub fn failed_stencil(run_dir: &Path, stencil: &Path) -> PathBuf {
    let name = stencil.file_name().unwrap_or_default().display();
    run_dir.join(format!("failed-stencil-{name}.json"))
}

/// For how long something that failed is not tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// Some more minutes.
    Holds,
    /// No longer.
    IsOver,
}

/// What stands in the file of a failure.
#[must_use]
pub fn failure(pause: Pause) -> String {
    let minutes = if pause == Pause::Holds { 50 } else { -1 };
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(minutes);
    format!(r#"{{"reason":"a test","until":"{until}","count":2}}"#)
}

impl World {
    /// Runs a line of shell in a machine; what it printed, without blanks around it.
    #[track_caller]
    pub fn sh(&self, machine: &str, line: &str) -> String {
        self.mimeo(["exec", machine, "sh", "-c", line]).ok().text().to_owned()
    }

    /// What `inspect` says of a machine.
    #[track_caller]
    #[must_use]
    pub fn inspect(&self, machine: &str) -> Value {
        self.mimeo(["inspect", machine]).ok().json()[0].clone()
    }

    /// Where a machine's port is published: `127.0.0.1:PORT`.
    #[track_caller]
    #[must_use]
    pub fn published(&self, machine: &str, port: &str) -> String {
        self.mimeo(["port", machine, port]).ok().text().to_owned()
    }

    /// The page that is served at `address`, if one is.
    #[must_use]
    pub fn page(&self, address: &str) -> Option<String> {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer.split_once("\r\n\r\n")?.1.to_owned())
    }

    /// Keeps a machine under a tag; what was told of it.
    #[track_caller]
    pub fn keep(&self, machine: &str, tag: &str) -> Value {
        self.mimeo(["snapshot", "create", "--json", "--tag", tag, machine]).ok().json()
    }

    /// Starts copies; what was told of each.
    #[track_caller]
    pub fn copies(&self, args: &[&str]) -> Vec<Value> {
        let json = self.mimeo(["snapshot", "run", "--json"].iter().chain(args)).ok().json();
        json.as_array().expect("a list").clone()
    }

    /// Serves a snapshot.
    #[track_caller]
    #[must_use]
    pub fn serve(&self, args: &[&str]) -> Served {
        let mut child = self.spawn(["snapshot", "serve"].iter().chain(args));
        let mut lines = BufReader::new(child.stdout.as_mut().expect("piped")).lines();
        let mut word = |name: &str| {
            let line = lines.next().expect("a line").expect("text");
            line.strip_prefix(name).unwrap_or_else(|| panic!("{line:?} is not {name}")).trim().to_owned()
        };
        let (id, pid, socket) = (word("serve "), word("pid "), word("socket ").into());
        Served { child, id, pid, socket }
    }

    /// What `snapshot ls --json` says of a server, while it lives.
    #[must_use]
    pub fn served(&self, id: &str) -> Option<Value> {
        let all = self.mimeo(["snapshot", "ls", "--json"]).json();
        all["serves"].as_array()?.iter().find(|serve| serve["serve_id"] == id).cloned()
    }

    /// The directory of the snapshot with this tag or id.
    #[track_caller]
    #[must_use]
    pub fn snapshot_dir(&self, word: &str) -> PathBuf {
        let json = self.mimeo(["snapshot", "inspect", word]).ok().json();
        self.home().join("snapshots").join(&json[0]["id"].as_str().expect("an id")[..12])
    }

    /// The directories of the stencils.
    #[must_use]
    pub fn stencils(&self) -> Vec<PathBuf> {
        let boots = fs::read_dir(self.home().join("stencils")).into_iter().flatten().flatten();
        let all = boots.flat_map(|boot| fs::read_dir(boot.path()).expect("readable").flatten());
        let all = all.map(|entry| entry.path());
        all.filter(|dir| !dir.file_name().expect("a name").to_string_lossy().starts_with('.')).collect()
    }

    /// The ids of all snapshots that are no runtime snapshots.
    #[must_use]
    pub fn kept(&self) -> Vec<String> {
        let all = self.mimeo(["snapshot", "ls", "--all", "--json"]).json();
        let all = all["snapshots"].as_array().expect("a list").iter();
        all.filter(|one| one["kind"] != "runtime")
            .map(|one| one["id"].as_str().expect("an id").into())
            .collect()
    }

    /// The living processes of this world that own machines or make copies.
    #[must_use]
    pub fn monitors(&self) -> Vec<i32> {
        let all = self.processes().into_iter();
        all.filter(|(_, line)| line.trim_end().ends_with("/mimeo supervisor")).map(|(pid, _)| pid).collect()
    }

    /// Has all stencils count as ones that could not be made, and are tried again after this; each with its file.
    pub fn fail_stencils(&self, pause: Pause) -> Vec<PathBuf> {
        let failed = |dir: PathBuf| {
            let file = failed_stencil(&self.run_dir(), &dir);
            fs::write(&file, failure(pause)).expect("written");
            self.give(&file);
            file
        };
        self.stencils().into_iter().map(failed).collect()
    }

    /// Removes all machines, all snapshots but runtime ones, and asserts that nothing is left.
    #[track_caller]
    pub fn assert_removes_all(&self) {
        self.mimeo(["rm", "-f", "-a"]).ok();
        self.until_quiet();
        // What forks left goes first; parents go after their children.
        self.mimeo(["snapshot", "prune"]).ok();
        for id in self.kept().iter().rev() {
            self.mimeo(["snapshot", "rm", id]).ok();
        }
        // What was only kept for those.
        self.mimeo(["snapshot", "prune"]).ok();
        self.assert_empty();
    }
}

/// Changes one byte of a file in its middle, where there is data. The file is
/// a new one: other worlds may share what it was.
pub fn flip(path: &Path) {
    use std::os::unix::fs::FileExt;
    let copy = path.with_extension("flipped");
    let copied = Command::new("cp").args(["-p", "--sparse=always"]).arg(path).arg(&copy).status();
    assert!(copied.expect("cp runs").success());
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
