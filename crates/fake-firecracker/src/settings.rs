//! Settings of a fake: a file in its working directory, since a driver passes on neither environment nor
//! arguments.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The name of the file.
pub const FILE: &str = "fake.json";

/// The behaviour of a fake. By default it is the newest version, and nothing fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The version that it imitates.
    pub version: String,
    /// How its guest handles connections.
    pub guest: Guest,
    /// When it exits by itself.
    pub exit_at: Option<ExitAt>,
}

/// How a guest handles connections over its vsock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guest {
    /// It accepts them, and echoes what it receives.
    #[default]
    Echo,
    /// It refuses them.
    Refuse,
    /// It has no vsock driver yet: they wait.
    Silent,
    /// It refuses this many, and is an echo from then on.
    Late(u32),
    /// It is a real guest, run by QEMU ([`crate::emulation`](crate)).
    Emulated,
}

/// When and how a fake exits by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExitAt {
    /// `start`, `listen`, or the request that it would have to answer: its method and path, such as `PUT
    /// /vsock`.
    pub when: String,
    /// What it prints before: the first line to its log, the rest to its standard error.
    pub message: String,
    /// Its exit status.
    pub code: u8,
}

impl Default for Settings {
    fn default() -> Self {
        Self { version: "1.17.0".to_owned(), guest: Guest::default(), exit_at: None }
    }
}

impl Settings {
    /// Reads the file in the working directory, or returns the defaults if there is none.
    ///
    /// # Errors
    /// The file cannot be read or parsed.
    pub fn read() -> io::Result<Self> {
        match fs::read(FILE) {
            Ok(text) => Ok(serde_json::from_slice(&text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Writes the settings for a machine in `directory`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        fs::write(directory.join(FILE), serde_json::to_vec(self)?)
    }
}
