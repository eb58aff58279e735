//! What happens to machines: one JSON object a line, appended by whoever does it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::machine::Record;

/// Bytes after which the file is set aside as `.1`, the older one forgotten.
const MAX_BYTES: u64 = 8 << 20;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub time: Timestamp,
    /// What, in podman's words: `create`, `start`, `exec`, `died`, `remove`, …
    pub action: String,
    /// The machine's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: String,
    /// What more there is to say, such as `exit_code`.
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

    /// Where they are.
    #[must_use]
    pub fn path(&self) -> &PathBuf {
        &self.path
    }

    /// Says that something happened. An event that cannot be written is lost,
    /// and the log says so: no machine fails for it.
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
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        // One write: lines of two writers do not mix.
        file.write_all(&line)?;
        if file.metadata()?.len() > MAX_BYTES {
            fs::rename(&self.path, self.path.with_extension("jsonl.1"))?;
        }
        Ok(())
    }

    /// All events that are kept, the oldest first. Lines that are none are left out.
    ///
    /// # Errors
    /// When they cannot be read.
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

    /// What is told from now on.
    #[must_use]
    pub fn follow(&self) -> Follower {
        let file = File::open(&self.path).and_then(|mut file| {
            file.seek(io::SeekFrom::End(0))?;
            Ok(file)
        });
        Follower { path: self.path.clone(), file: file.ok(), partial: Vec::new() }
    }
}

/// Reads events as they are told.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    file: Option<File>,
    /// The beginning of a line whose end was not there yet.
    partial: Vec<u8>,
}

impl Follower {
    /// What came since the last call; goes on in the next file when this one was set aside.
    ///
    /// # Errors
    /// When the file cannot be read.
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

    /// Whether another file stands at the path now.
    fn is_rotated(&self) -> bool {
        let current = fs::metadata(&self.path).map(|metadata| metadata.ino()).ok();
        let open = self.file.as_ref().and_then(|file| Some(file.metadata().ok()?.ino()));
        current.is_some() && current != open
    }
}
