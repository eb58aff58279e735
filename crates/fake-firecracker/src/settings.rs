//! What a fake is told to do: by a file in the directory where it runs, since a
//! driver hands on neither environment nor arguments.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The file.
pub const FILE: &str = "fake.json";

/// What a fake does. By default it is the newest version, and nothing fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The version that it is.
    pub version: String,
    /// How its guest takes connections.
    pub guest: Guest,
    /// When it ends by itself.
    pub exit_at: Option<ExitAt>,
}

/// How a guest takes connections over its vsock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guest {
    /// It takes them, and sends back what it gets.
    #[default]
    Echo,
    /// It listens to none.
    Refuse,
    /// It has no driver for its vsock yet: they wait.
    Silent,
    /// It listens after so many were refused, and is an echo then.
    Late(u32),
    /// It is a real one, which QEMU runs ([`crate::emulation`](crate)).
    Emulated,
}

/// When a fake ends by itself, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExitAt {
    /// `start`, `listen`, or the request that it would have to answer: its
    /// method and path, `PUT /vsock`.
    pub when: String,
    /// What it says before: the first line to its log, the rest to its
    /// standard error.
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
    /// What the file in the current directory says, or nothing if there is none.
    ///
    /// # Errors
    /// It cannot be read or understood.
    pub fn read() -> io::Result<Self> {
        match fs::read(FILE) {
            Ok(text) => Ok(serde_json::from_slice(&text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Writes them for a machine in `directory`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        fs::write(directory.join(FILE), serde_json::to_vec(self)?)
    }
}
