//! Events of machines' lives: one JSON object per line, appended by the process that causes the event.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::machine::Record;

/// File size at which the file is renamed to `.1`, which replaces the previous `.1`.
const MAX_BYTES: u64 = 8 << 20;

/// An event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When it happened.
    pub time: Timestamp,
    /// What happened, as podman names it: `create`, `start`, `exec`, `died`, `remove`, …
    pub action: String,
    /// The machine's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: String,
    /// Further details, such as `exit_code`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

/// The events of a home directory.
#[derive(Debug, Clone)]
pub struct Events {
    path: PathBuf,
}

impl Events {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Returns the path of the event file.
    #[must_use]
    pub fn path(&self) -> &PathBuf {
        &self.path
    }

    /// Appends an event. An event that cannot be written is lost, which is logged: no machine fails
    /// because of it.
    pub(crate) fn record(&self, record: &Record, action: &str, attributes: &[(&str, String)]) {
        let event = Event {
            time: Timestamp::now(),
            action: action.to_owned(),
            id: record.id.to_string(),
            name: record.name.to_string(),
            image: record.image.as_ref().map_or(&record.spec.image, |image| &image.name).clone(),
            attributes: attributes.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
        };
        if let Err(error) = self.append(&event) {
            tracing::warn!(component = "events", machine = %record.name, %error, "cannot write an event");
        }
    }

    fn append(&self, event: &Event) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(&self.path)?;
        if ends_within_line(&file)? {
            line.insert(0, b'\n');
        }
        // A single write, so that lines of concurrent writers do not mix.
        file.write_all(&line)?;
        let metadata = file.metadata()?;
        let is_current = fs::metadata(&self.path).is_ok_and(|current| current.ino() == metadata.ino());
        if metadata.len() > MAX_BYTES && is_current {
            fs::rename(&self.path, self.path.with_extension("jsonl.1"))?;
        }
        Ok(())
    }

    /// Reads all stored events, the oldest first. Lines that cannot be parsed are skipped.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn read(&self) -> io::Result<Vec<Event>> {
        let mut events = Vec::new();
        for path in [self.path.with_extension("jsonl.1"), self.path.clone()] {
            let file = match File::open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file?,
            };
            for line in BufReader::new(file).lines() {
                events.extend(serde_json::from_str(&line?).ok());
            }
        }
        Ok(events)
    }

    /// Follows the events from now on.
    #[must_use]
    pub fn follow(&self) -> Follower {
        let file = File::open(&self.path).and_then(|mut file| {
            file.seek(io::SeekFrom::End(0))?;
            Ok(file)
        });
        Follower { path: self.path.clone(), file: file.ok(), partial: Vec::new() }
    }
}

/// Whether the last line has no end: a full disk took only a part of it.
fn ends_within_line(file: &File) -> io::Result<bool> {
    let Some(last) = file.metadata()?.len().checked_sub(1) else { return Ok(false) };
    let mut byte = [0];
    Ok(file.read_at(&mut byte, last)? == 1 && byte != *b"\n")
}

/// Reads new events as they are appended.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    file: Option<File>,
    /// The start of a line that was not complete at the last read.
    partial: Vec<u8>,
}

impl Follower {
    /// Returns the events since the last call. Continues in the new file when the file was rotated.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(&mut self) -> io::Result<Vec<Event>> {
        let mut events = self.drain()?;
        if self.is_rotated() {
            self.file = match File::open(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                file => Some(file?),
            };
            events.extend(self.drain()?);
        }
        Ok(events)
    }

    fn drain(&mut self) -> io::Result<Vec<Event>> {
        let Some(file) = &mut self.file else { return Ok(Vec::new()) };
        file.read_to_end(&mut self.partial)?;
        let complete = self.partial.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = self.partial.drain(..complete).collect();
        Ok(lines.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }

    /// Returns whether the file was rotated: the path names another file now.
    fn is_rotated(&self) -> bool {
        let current = fs::metadata(&self.path).map(|metadata| metadata.ino()).ok();
        let open = self.file.as_ref().and_then(|file| Some(file.metadata().ok()?.ino()));
        current.is_some() && current != open
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MachineSpec;
    use crate::id::MachineId;

    #[test]
    fn an_event_after_a_torn_line_is_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let events = Events::new(dir.path().join("events.jsonl"));
        let name = "web".parse().expect("a name");
        let record = Record::new(MachineId::random(), name, MachineSpec::new("busybox"));
        events.record(&record, "create", &[]);
        let mut file = OpenOptions::new().append(true).open(events.path()).expect("opened");
        file.write_all(b"{\"time\":").expect("written");
        events.record(&record, "start", &[]);
        let actions: Vec<_> = events.read().expect("read").into_iter().map(|event| event.action).collect();
        assert_eq!(actions, ["create", "start"]);
    }
}
